//! What the scripts answer.

use std::vec;

use bytes::Bytes;
use redis::Value;
use smallvec::SmallVec;

use super::lease::LeaseState;
use crate::store::error::StoreError;
use crate::store::stamp::{ReplicationId, Stamp, Stamps};
use crate::tag::TagId;

/// The replication ids of the masters that took part, each once.
pub type Replications = SmallVec<[ReplicationId; 4]>;

/// A script's answer, element by element. The first one is the server's
/// replication id, always.
pub(super) struct Reply {
    replication: ReplicationId,
    rest: vec::IntoIter<Value>,
}

impl Reply {
    pub(super) fn of(values: Vec<Value>) -> Result<Self, StoreError> {
        let mut rest = values.into_iter();
        let stated = bytes(rest.next())?;
        let replication = stated.and_then(|text| ReplicationId::parse(&text)).ok_or_else(malformed)?;
        Ok(Self { replication, rest })
    }

    /// The next element: a string, or nil.
    pub(super) fn bytes(&mut self) -> Result<Option<Bytes>, StoreError> {
        bytes(self.rest.next())
    }

    /// The next element: a number.
    pub(super) fn number(&mut self) -> Result<i64, StoreError> {
        match self.rest.next() {
            Some(Value::Int(number)) => Ok(number),
            _ => Err(malformed()),
        }
    }

    /// Ends the answer, which has no more elements, and adds the server to `seen`.
    pub(super) fn end(mut self, seen: &mut Replications) -> Result<(), StoreError> {
        if self.rest.next().is_some() {
            return Err(malformed());
        }
        if !seen.contains(&self.replication) {
            seen.push(self.replication);
        }
        Ok(())
    }
}

/// What `look` and `claim` read, put together from several answers.
pub(super) struct Reading {
    pub(super) frame: Option<Bytes>,
    pub(super) lease: LeaseState,
    /// A generation is there but empty.
    pub(super) held: bool,
    pub(super) replications: Replications,
    stamps: Vec<(TagId, Option<Stamp>)>,
}

impl Reading {
    pub(super) fn new() -> Self {
        Self {
            frame: None,
            lease: LeaseState::NotAsked,
            held: false,
            replications: Replications::new(),
            stamps: Vec::new(),
        }
    }

    /// Adds an answer that has the lease's state if a claim, the entry if it
    /// was asked for, and the generations of `tags`.
    pub(super) fn add(
        &mut self,
        values: Vec<Value>,
        claim: bool,
        with_entry: bool,
        tags: &[TagId],
    ) -> Result<(), StoreError> {
        let mut reply = Reply::of(values)?;
        if claim {
            let lease = lease_state(reply.number()?)?;
            if with_entry {
                self.lease = lease;
            }
        }
        if with_entry {
            self.frame = reply.bytes()?;
        }
        for tag in tags {
            let generation = reply.bytes()?;
            self.held |= generation.as_ref().is_some_and(Bytes::is_empty);
            self.stamps.push((*tag, Stamp::of(generation.as_deref(), reply.replication)));
        }
        reply.end(&mut self.replications)
    }

    pub(super) fn stamps(&self) -> Stamps {
        self.stamps.iter().copied().collect()
    }
}

pub(super) fn malformed() -> StoreError {
    StoreError::Broken("A script's answer has not the expected form".into())
}

fn bytes(value: Option<Value>) -> Result<Option<Bytes>, StoreError> {
    match value {
        Some(Value::BulkString(bytes)) => Ok(Some(bytes.into())),
        Some(Value::Nil) => Ok(None),
        _ => Err(malformed()),
    }
}

fn lease_state(number: i64) -> Result<LeaseState, StoreError> {
    match number {
        0 => Ok(LeaseState::NotAsked),
        1 => Ok(LeaseState::Granted),
        2 => Ok(LeaseState::Taken),
        3 => Ok(LeaseState::Open),
        _ => Err(malformed()),
    }
}
