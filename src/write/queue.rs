//! The queue as requests and replays use it: the journal, and what opens its records.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::rand::{SecureRandom, SystemRandom};

use super::overlay::PendingWrite;
use super::record::{KeyPart, Record};
use super::seal::Sealer;
use super::wallet::{SeenToken, Wallet};
use crate::identity::{Authenticator, Caller, Identity, WriterId, rights};
use crate::postgrest::query::Query;
use crate::postgrest::timestamp::Micros;
use crate::route::RouteTable;
use crate::store::journal::{CallerId, Journal, JournalError, Pending, RowId, TableId, WriteId};
use crate::tag::Relation;

/// Deferred writes and what belongs to them.
pub struct Queue {
    /// Where they are durable.
    pub journal: Arc<dyn Journal>,
    /// Seals the tokens in their records, and opens them.
    pub sealer: Sealer,
    /// Newer tokens of their callers.
    pub wallet: Wallet,
}

impl Queue {
    /// The queued writes of `caller` that `only` picks, in the order of their acceptance.
    pub fn writes_of(&self, caller: CallerId, only: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        self.journal.snapshot(caller).iter().filter(|pending| only(pending)).cloned().collect()
    }

    /// Queued writes with their records. One that has ended meanwhile is left out.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if the records can't be read, or are of another version.
    pub async fn decoded(&self, picked: Vec<Pending>) -> Result<Vec<PendingWrite>, JournalError> {
        if picked.is_empty() {
            return Ok(Vec::new());
        }
        let seqs: Vec<_> = picked.iter().map(|pending| pending.seq).collect();
        let records = self.journal.records(&seqs).await?;
        let there = picked.into_iter().zip(records).filter_map(|(pending, record)| Some((pending, record?)));
        there
            .map(|(pending, record)| {
                let record =
                    Record::decode(&record).map_err(|error| JournalError::Unavailable(error.to_string()))?;
                let (seq, updated_at) = (pending.seq, pending.updated_at);
                Ok(PendingWrite { seq, record: Arc::new(record), updated_at })
            })
            .collect()
    }

    /// Looks at the token of a request, if it has one: a queued write may wait for it.
    pub fn see_token(
        &self,
        authenticator: &Authenticator,
        routes: &RouteTable,
        headers: &HeaderMap,
        now: SystemTime,
    ) {
        if self.wallet.is_empty() {
            return;
        }
        let Ok(caller) = authenticator.identify(headers, &Query::default(), now) else { return };
        let Identity::Token(token) = caller.identity() else { return };
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((_, text)) = bearer.and_then(|bearer| bearer.split_once(' ')) else { return };
        if authenticator.admit(&caller.grounds(), now).is_err() {
            return;
        }
        let api_key = headers.get("apikey").and_then(|value| value.to_str().ok());
        let seen = SeenToken::new(text.trim(), api_key, token.expires());
        for route in routes.iter().filter(|route| route.write.is_some()) {
            let rights = rights(route.scope(), token);
            if self.wallet.offer(&rights, seen.clone(), now) {
                self.journal.wake_token(rights);
            }
        }
    }

    /// Whether nobody's queued write is the caller's. Asked on every read.
    pub fn is_idle(&self, writer: WriterId) -> bool {
        self.journal.snapshot(caller_id(writer)).is_empty()
    }
}

/// A name for a write that comes in at `now`. `None`: the machine gives no random numbers.
pub fn new_id(now: SystemTime) -> Option<WriteId> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(WriteId::new(Micros::of(now), u128::from_ne_bytes(random)))
}

/// What the journal calls a person who writes.
pub fn caller_id(writer: WriterId) -> CallerId {
    CallerId(writer.0)
}

/// What the journal calls the sender of a request. `None`: his writes are never deferred.
pub fn caller_of(caller: &Caller) -> Option<CallerId> {
    caller.writer().map(caller_id)
}

/// What the journal calls a table.
pub fn table_id(relation: &Relation) -> TableId {
    TableId(fingerprint(relation, &[]))
}

/// What the journal calls a row. `key` is whole and canonical, in any order.
pub fn row_id(relation: &Relation, key: &[KeyPart]) -> RowId {
    let mut parts: Vec<(&str, &str)> =
        key.iter().map(|part| (part.column.as_str(), part.value.as_str())).collect();
    parts.sort_unstable();
    RowId(fingerprint(relation, &parts))
}

fn fingerprint(relation: &Relation, key: &[(&str, &str)]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    let texts = [relation.schema.as_str(), relation.name.as_str()];
    for text in texts.into_iter().chain(key.iter().flat_map(|(column, value)| [*column, *value])) {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(column: &str, value: &str) -> KeyPart {
        KeyPart { column: column.into(), value: value.into() }
    }

    #[test]
    fn rows_are_told_apart_whatever_the_order_of_their_key() {
        let users = Relation::new("public", "users");
        let row = |parts: &[KeyPart]| row_id(&users, parts);
        let key = row(&[part("a", "1"), part("b", "2")]);
        assert_eq!(key, row(&[part("b", "2"), part("a", "1")]));
        for other in [vec![part("a", "1")], vec![part("a", "2"), part("b", "1")], vec![part("a", "1b2")]] {
            assert_ne!(key, row(&other), "{other:?}");
        }
        assert_ne!(key, row_id(&Relation::new("private", "users"), &[part("a", "1"), part("b", "2")]));
        assert_ne!(row(&[]).0, table_id(&Relation::new("publicu", "sers")).0);
    }
}
