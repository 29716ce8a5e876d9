//! How a route's writes are deferred: `[route.write]`.

use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};

/// The largest body of a write that may be deferred, in bytes.
pub const MAX_WRITE_BODY: usize = 64 * 1024;

/// How a route's writes are deferred.
///
/// `key`, `updated_at`, `owner` and `guard` are facts about a table: routes
/// that may defer writes to the same table have the same ones.
#[derive(Debug, Clone, PartialEq)]
pub struct WritePolicy {
    /// The methods that may be deferred.
    pub methods: DeferMethods,
    /// Only writes that change nothing but these are deferred; the key, `updated_at` and
    /// the owner's column aside. `None`: any column. Sorted.
    pub columns: Option<Vec<String>>,
    /// Columns that upstream derives from others, so that their values aren't
    /// known before it has answered. Sorted.
    pub computed: Vec<String>,
    /// The columns of the primary key, sorted. `None`: those of the OpenAPI description.
    pub key: Option<Vec<String>>,
    /// The column that says when a row was last changed; its value is Sluice's.
    pub updated_at: String,
    /// Only the caller's own rows are written to deferred. `None`: any row.
    pub owner: Option<Owner>,
    /// What has to hold upstream for a deferred write to be applied.
    pub guard: Guard,
    /// With which token a write is replayed.
    pub credentials: CredentialMode,
    /// What becomes of later writes to a row, once one was rejected.
    pub on_reject: OnReject,
    /// What becomes of a request that can't wait any longer for queued writes.
    pub on_wait: OnWait,
    /// The largest body that is deferred, in bytes; at most [`MAX_WRITE_BODY`].
    pub max_body: usize,
}

/// The methods that may be deferred. A `DELETE` never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeferMethods {
    /// `PATCH`.
    pub patch: bool,
    /// `POST`: inserts and upserts.
    pub post: bool,
    /// `PUT`.
    pub put: bool,
}

/// Whose a row is: the caller's whose claim has the value of the column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The column.
    pub column: String,
    /// The claim's dotted path, such as `sub` or `app_metadata.tenant_id`.
    pub claim: String,
}

/// What has to hold upstream for a deferred write to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Upstream's `updated_at` isn't later than that of the write.
    NotNewer,
    /// Upstream's `updated_at` is that of the row that the write was based on.
    Unchanged,
}

/// With which token a deferred write is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialMode {
    /// The newest one seen whose holder has the same rights.
    Token,
    /// One with the same claims, made here with `auth.jwt_secret`.
    Remint {
        /// How long after the `exp` of the token that the write came with.
        max: Duration,
    },
}

/// What becomes of the same caller's later writes to a row, once one was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReject {
    /// They are replayed.
    Skip,
    /// They wait for an operator.
    Park,
}

/// What becomes of a request that can't wait any longer for queued writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWait {
    /// It is answered `503` with `Retry-After`; nothing is forwarded.
    Reject,
    /// It is forwarded all the same, and may overtake them.
    Forward,
}

impl DeferMethods {
    /// Whether writes with `method` may be deferred.
    pub fn contain(&self, method: &Method) -> bool {
        match *method {
            Method::PATCH => self.patch,
            Method::POST => self.post,
            Method::PUT => self.put,
            _ => false,
        }
    }
}

impl Default for DeferMethods {
    /// All three.
    fn default() -> Self {
        Self { patch: true, post: true, put: true }
    }
}

impl CredentialMode {
    /// How long after a token's `exp` others are made with its claims, where nothing is said.
    pub const DEFAULT_REMINT_MAX: Duration = Duration::from_secs(60 * 60);
}

impl Default for WritePolicy {
    /// What `[route.write]` means where it says nothing.
    fn default() -> Self {
        Self {
            methods: DeferMethods::default(),
            columns: None,
            computed: Vec::new(),
            key: None,
            updated_at: "updated_at".to_owned(),
            owner: None,
            guard: Guard::NotNewer,
            credentials: CredentialMode::Token,
            on_reject: OnReject::Skip,
            on_wait: OnWait::Reject,
            max_body: MAX_WRITE_BODY,
        }
    }
}

impl WritePolicy {
    /// The settings in which the two say different things of a table that both are about.
    pub fn disagreements(&self, other: &Self) -> impl Iterator<Item = &'static str> + use<> {
        [
            ("key", self.key != other.key),
            ("updated_at", self.updated_at != other.updated_at),
            ("owner", self.owner != other.owner),
            ("guard", self.guard != other.guard),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
    }
}
