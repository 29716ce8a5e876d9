//! Which writes are deferred: those that are provably safe, and no others.
//!
//! It is decided in two steps, both pure. [`examine`] looks at the request, the
//! caller and the table, [`Candidate::admit`] at the row. A [`Reason`] is no
//! error for the client: his write is forwarded and awaited, and upstream
//! decides about it.

mod body;
mod candidate;
mod head;
mod layout;
mod parameters;
mod reason;
mod writer;

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, Method};

use self::body::Fields;
pub use self::candidate::{Admitted, Candidate, Known, QueuedWrite, Returns, Standing};
use self::head::Wishes;
use self::layout::Layout;
pub use self::reason::Reason;
use self::writer::Owned;
pub use self::writer::Writer;
use super::record::{Action, KeyPart};
use crate::postgrest::query::Query;
use crate::postgrest::schema::Table;
use crate::route::{HeaderGlob, WritePolicy};
use crate::tag::Relation;

/// A row's whole primary key, canonical, sorted by column.
type Key = Vec<KeyPart>;

/// A write to a table, and what is to be known to judge it without its row.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The method.
    pub method: &'a Method,
    /// The table that the path names, in the schema that the request names.
    pub relation: &'a Relation,
    /// Whether upstream's answers have not contradicted the configured default schema.
    pub default_schema_holds: bool,
    /// The query.
    pub query: &'a Query,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
    /// The route's policy.
    pub policy: &'a WritePolicy,
    /// The route's additional keyed headers.
    pub vary: &'a [HeaderName],
    /// Which more headers the route ignores.
    pub ignored: &'a [HeaderGlob],
    /// What upstream says of the table. `None`: nothing that is known.
    pub table: Option<&'a Table>,
    /// Who writes. `None`: nobody whose token was verified here.
    pub writer: Option<Writer<'a>>,
    /// The wall clock.
    pub now: SystemTime,
    /// How long a token has to live that a write is replayed with.
    pub min_token_life: Duration,
}

impl fmt::Debug for Case<'_> {
    /// Without anything of the caller and the row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("method", self.method)
            .field("relation", self.relation)
            .finish_non_exhaustive()
    }
}

/// Whether a write can be deferred as far as that can be told without its row.
///
/// # Errors
///
/// The first [`Reason`] why not.
pub fn examine<'a>(case: &Case<'a>) -> Result<Candidate<'a>, Reason> {
    let policy = case.policy;
    if !policy.methods.contain(case.method) {
        return Err(Reason::Method);
    }
    let writer = case.writer.ok_or(Reason::Token)?;
    writer.check(policy, case.now, case.min_token_life)?;
    let wishes = head::wishes(case)?;
    let action = action(case.method, &wishes)?;
    let layout = Layout::of(case.table, policy)?;
    let key_columns = layout.key(policy)?;
    let timestamp = layout.timestamp(&policy.updated_at)?;
    let owned = Owned::of(policy, writer.claims)?;

    let filtered = match action {
        Action::Patch | Action::Put => Some(parameters::filtered_key(&key_columns, case.query, &layout)?),
        // Nothing would tell whether a row is as the description has it.
        Action::Insert if case.table.is_none() => return Err(Reason::Schema),
        Action::Insert | Action::Upsert => {
            parameters::check_insert(&key_columns, case.query, &layout, wishes.merges)?;
            None
        }
    };
    let selection = parameters::selection(case.query, &layout)?;
    let body = body::parse(case.body, policy.max_body)?;
    parameters::check_columns(case.query, body.iter().map(|(name, _)| name))?;
    let fields = Fields::of(&body, &key_columns, policy, &layout)?;
    let key = key(filtered, &fields, action, &key_columns)?;
    let candidate = Candidate { policy, layout, action, key, fields, timestamp, owned, wishes, selection };
    candidate.check_body()?;
    Ok(candidate)
}

fn action(method: &Method, wishes: &Wishes) -> Result<Action, Reason> {
    match *method {
        Method::PATCH => Ok(Action::Patch),
        Method::PUT => Ok(Action::Put),
        Method::POST if wishes.merges => Ok(Action::Upsert),
        Method::POST => Ok(Action::Insert),
        _ => Err(Reason::Method),
    }
}

/// The row's key: that of the filters, which the body may only repeat, else the body's.
fn key(filtered: Option<Key>, fields: &Fields, action: Action, columns: &[String]) -> Result<Key, Reason> {
    let is_whole = fields.key.len() == columns.len();
    if !is_whole && action != Action::Patch {
        return Err(Reason::KeyMissing);
    }
    match filtered {
        Some(key) if fields.key.iter().any(|part| !key.contains(part)) => Err(Reason::KeyChange),
        Some(key) => Ok(key),
        None => Ok(fields.key.clone()),
    }
}

#[cfg(test)]
mod tests;
