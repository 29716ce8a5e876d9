//! Records: what the replay of a queued write needs, and nothing that needs the
//! configuration of that day.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::seal::{Credential, SealError, Sealed, Sealer};
use crate::identity::VerifiedToken;
use crate::postgrest::object::Object;
use crate::postgrest::timestamp::TimestampKind;
use crate::postgrest::value::ColumnType;
use crate::route::{CredentialMode, Guard, OnReject};
use crate::store::journal::{CallerId, WriteId};
use crate::tag::Relation;

/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;

/// One accepted write, as it lies in the journal.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The name of the route that deferred it: the label on metrics.
    pub route: String,
    /// The table.
    #[serde(with = "RelationFields")]
    pub relation: Relation,
    /// `Content-Profile` as it was sent. `None`: it wasn't.
    pub profile: Option<String>,
    /// The headers of the route's `vary` as they were sent, in their order.
    pub headers: Vec<(String, String)>,
    /// The whole primary key, sorted by column.
    pub key: Vec<KeyPart>,
    /// What is to be done to the row.
    pub action: Action,
    /// The columns that the body sets, canonical; without the key's and `updated_at`.
    pub changes: Object,
    /// What the write was based on.
    pub base: Base,
    /// The column of the time, and its type.
    pub updated_at: UpdatedAt,
    /// The SQL types of the columns in `key` and `changes`, as the schema's
    /// description named them.
    pub types: BTreeMap<String, String>,
    /// What has to hold upstream.
    pub guard: Guard,
    /// What becomes of later writes to the row, once this one is rejected.
    pub on_reject: OnReject,
    /// With which token it is replayed.
    pub credentials: CredentialMode,
    /// Who wrote it.
    pub caller: CallerName,
    /// The partition of the session that wrote it, in which alone an insert shows.
    #[serde(with = "hexadecimal")]
    pub session: [u8; 16],
    /// What a token has to be equal in to be used for it.
    #[serde(with = "hexadecimal")]
    pub rights: [u8; 16],
    /// The token that it came with, and the API key.
    pub sealed: Sealed,
}

/// A column of the primary key and its value, canonical.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPart {
    /// The column.
    pub column: String,
    /// The value's text, as a filter has it before quoting.
    pub value: String,
}

/// What a write does to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `PATCH`: changes some columns.
    Patch,
    /// `PUT`: gives all columns.
    Put,
    /// A plain `POST`: the row must not exist.
    Insert,
    /// A `POST` with `resolution=merge-duplicates`: changes the row or makes it.
    Upsert,
}

/// What a write was based on.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The row that was known, the caller's other queued writes laid over it.
    Row(Object),
    /// There was none.
    Absent,
}

/// The column that says when a row was last changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdatedAt {
    /// The column.
    pub column: String,
    /// Its type.
    pub kind: TimestampKind,
}

/// Who writes. The scope of the route doesn't matter for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerName {
    /// What the journal calls him: a fingerprint of `iss`, `role` and `sub`.
    #[serde(with = "hexadecimal")]
    pub fingerprint: [u8; 16],
    /// The claim `role`.
    pub role: String,
    /// The claim `sub`.
    pub sub: String,
}

/// Why bytes are no record that can be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another version of Sluice wrote it.
    #[error(
        "The queued write is of version {found}, this Sluice reads version {VERSION}; run the version of Sluice \
         that accepted it until the queue is empty"
    )]
    Version {
        /// The version that it has.
        found: u64,
    },
    /// It is not what any version wrote.
    #[error("The queued write can't be read: it is damaged")]
    Damaged,
}

/// A record with what tells how to read it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<R> {
    version: u64,
    record: R,
}

impl Record {
    /// The bytes for the journal.
    ///
    /// # Errors
    ///
    /// None that can be brought about: the record is made of text alone.
    pub fn encode(&self) -> Result<Bytes, RecordError> {
        let envelope = Envelope { version: VERSION, record: self };
        serde_json::to_vec(&envelope).map(Bytes::from).map_err(|_| RecordError::Damaged)
    }

    /// The record that [`Self::encode`] made `bytes` of.
    ///
    /// # Errors
    ///
    /// [`RecordError`] where it didn't.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        /// Read first: the rest may have another form.
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let Version { version } = serde_json::from_slice(bytes).map_err(|_| RecordError::Damaged)?;
        if version != VERSION {
            return Err(RecordError::Version { found: version });
        }
        let envelope: Envelope<Self> = serde_json::from_slice(bytes).map_err(|_| RecordError::Damaged)?;
        Ok(envelope.record)
    }

    /// The token and the API key that the write `id` came with.
    ///
    /// # Errors
    ///
    /// [`SealError`] where `sealer` didn't seal them, or for another write.
    pub fn credential(&self, sealer: &Sealer, id: WriteId) -> Result<Credential, SealError> {
        sealer.open(&self.sealed, id, self.caller.id())
    }

    /// The type of a column, as far as it was noted.
    pub fn column_type(&self, column: &str) -> ColumnType {
        self.types.get(column).map_or(ColumnType::Unknown, |format| ColumnType::declared(format, None, None))
    }
}

impl fmt::Debug for Record {
    /// Without anything of the row, the headers and the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("route", &self.route)
            .field("relation", &self.relation)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Base {
    /// Without the row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Row(_) => "Row(..)",
            Self::Absent => "Absent",
        })
    }
}

impl CallerName {
    /// The holder of a token. `None` where it names nobody.
    pub fn of(token: &VerifiedToken) -> Option<Self> {
        let (role, sub) = (token.role()?.to_owned(), token.subject()?.to_owned());
        Some(Self { fingerprint: token.writer()?.0, role, sub })
    }

    /// What the journal calls him.
    pub fn id(&self) -> CallerId {
        CallerId(self.fingerprint)
    }
}

impl fmt::Debug for CallerName {
    /// The role alone: the rest is about a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerName").field("role", &self.role).finish_non_exhaustive()
    }
}

/// How a [`Relation`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Relation", deny_unknown_fields)]
struct RelationFields {
    schema: String,
    name: String,
}

/// Sixteen bytes as text.
mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(*bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(&text, 16).ok().filter(|_| is_plain);
        number.map(u128::to_be_bytes).ok_or_else(|| D::Error::custom("not sixteen bytes"))
    }
}

#[cfg(test)]
mod tests;
