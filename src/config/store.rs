//! `[store]`: where answers are kept.

use std::fmt;
use std::path::{Path, PathBuf};

use super::section::{Section, Zero};
use super::store_url::StoreUrl;
use super::value::Secret;

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The size of the in-process cache in bytes; 0 keeps nothing in process.
    pub memory: u64,
    /// The folder of the journal of [`StoreKind::Embedded`], which is made if some route defers.
    pub path: PathBuf,
    /// What stands behind the in-process cache.
    pub kind: StoreKind,
}

/// What stands behind the in-process cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// Nothing: this process is alone.
    Embedded,
    /// Redis, shared with other processes.
    Redis(Box<RedisStore>),
}

/// A store in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisStore {
    /// Where it is.
    pub url: StoreUrl,
    /// The password that is given beside the URL; then the URL has none.
    pub password: Option<Secret>,
    /// What each key in it begins with, up to a colon.
    pub namespace: String,
    /// When a deferred write counts as kept.
    pub ack: Ack,
}

/// When a deferred write counts as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// It is on the server's disk.
    Fsync,
    /// A replica has it.
    Replicated,
    /// The server has it.
    Memory,
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fsync => "fsync",
            Self::Replicated => "replicated",
            Self::Memory => "memory",
        })
    }
}

const MAX_NAMESPACE: usize = 128;
const DEFAULT_PATH: &str = "sluice-data";

/// Reads the section. All keys are read whatever the kind, so that all errors
/// are said at once.
pub(super) fn read(section: &mut Section<'_>, upstream_host: &str) -> Store {
    let otherwise = if section.place_of("kind").is_some() { Kind::Misspelt } else { Kind::Embedded };
    let kind = section.choice("kind", &[("embedded", Kind::Embedded), ("redis", Kind::Redis)], otherwise);
    let redis = redis(section, upstream_host);
    let path = section.path("path").unwrap_or_else(|| DEFAULT_PATH.into());
    for key in ["journal_url", "objects"] {
        section.unavailable(key, "");
    }
    let memory = section.size("memory", 256 << 20, Zero::Allowed);
    let kind = match kind {
        Kind::Redis => {
            refuse_what_is_embedded(section, &path);
            StoreKind::Redis(Box::new(redis))
        }
        Kind::Embedded => {
            refuse_what_needs_redis(section, &redis, upstream_host);
            StoreKind::Embedded
        }
        Kind::Misspelt => StoreKind::Embedded,
    };
    Store { memory, path, kind }
}

#[derive(Clone, Copy)]
enum Kind {
    Embedded,
    Redis,
    /// Which has been noted; what else there is can't be judged.
    Misspelt,
}

fn redis(section: &mut Section<'_>, upstream_host: &str) -> RedisStore {
    let acks = [("fsync", Ack::Fsync), ("replicated", Ack::Replicated), ("memory", Ack::Memory)];
    let url = url(section);
    let password = section.secret("password");
    if let Some(url) = &url {
        check_credentials(section, url);
    }
    RedisStore {
        url: url.unwrap_or_else(StoreUrl::local),
        password,
        namespace: namespace(section).unwrap_or_else(|| default_namespace(upstream_host)),
        ack: section.choice("ack", &acks, Ack::Fsync),
    }
}

fn url(section: &mut Section<'_>) -> Option<StoreUrl> {
    section.item("url")?;
    let Some(text) = section.text("url") else {
        section.mask("url");
        return None;
    };
    if text.value.contains('@') {
        section.mask("url");
    }
    match StoreUrl::parse(&text.value) {
        Ok(url) => Some(url),
        Err(error) => {
            section.mask("url");
            section.problem("url", &text.place, &error.to_string(), Some(error.remedy().into()));
            None
        }
    }
}

fn check_credentials(section: &Section<'_>, url: &StoreUrl) {
    let is_given_apart = section.place_of("password").is_some();
    if is_given_apart && url.password.is_some() {
        let remedy = "keep one of the two";
        section.problem_with("password", "is given beside a password in `store.url`", remedy);
    }
    if !is_given_apart && url.password.is_none() && url.username.is_some() {
        let remedy =
            "give `store.password`, or write `:` before what is a password: \"redis://:password@host\"";
        section.problem_with("url", "has a user name, and there is no password", remedy);
    }
}

fn default_namespace(upstream_host: &str) -> String {
    format!("sluice:{upstream_host}")
}

/// Braces would decide which slot of a Cluster a key lies on.
fn namespace(section: &mut Section<'_>) -> Option<String> {
    let text = section.text("namespace")?;
    let is_refused = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '{' | '}');
    if text.value.is_empty() || text.value.len() > MAX_NAMESPACE || text.value.contains(is_refused) {
        let remedy = format!("write up to {MAX_NAMESPACE} bytes without spaces, `{{` and `}}`");
        section.problem("namespace", &text.place, "is not a namespace", Some(remedy));
        return None;
    }
    Some(text.value)
}

/// What is in force by default may be said.
fn refuse_what_needs_redis(section: &Section<'_>, redis: &RedisStore, upstream_host: &str) {
    let is_said = [
        ("url", redis.url != StoreUrl::local()),
        ("password", redis.password.is_some()),
        ("namespace", redis.namespace != default_namespace(upstream_host)),
        ("ack", redis.ack == Ack::Replicated),
    ];
    for (key, _) in is_said.into_iter().filter(|(_, is_said)| *is_said) {
        section.problem_with(key, "needs the Redis store", "set `kind = \"redis\"` beside it, or remove it");
    }
    if redis.ack == Ack::Memory {
        // Redis outlives Sluice; the memory of Sluice doesn't.
        let problem = "promises nothing where the store is embedded";
        let remedy = "remove it: `fsync` is what is in force; or set `kind = \"redis\"` beside it";
        section.problem_with("ack", problem, remedy);
    }
}

/// What is in force by default may be said.
fn refuse_what_is_embedded(section: &Section<'_>, path: &Path) {
    if path != Path::new(DEFAULT_PATH) {
        let remedy = "set `kind = \"embedded\"` beside it, or remove it";
        section.problem_with("path", "needs the embedded store", remedy);
    }
}
