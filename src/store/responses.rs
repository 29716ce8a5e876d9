//! Entries and generations in Redis.
//!
//! In a Cluster an entry with its leases is on one master and each group of
//! tags on one: what is asked of several is asked at the same time.

mod join;
mod lease;
mod lookups;
mod parts;
mod reply;
mod wrapping;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

pub use self::lease::{Lease, LeaseState, node_id};
use self::lookups::{Lookups, Seen};
use self::parts::{MAX_TAGS, on_one_master, parts};
pub use self::reply::Replications;
use self::reply::{Reading, Reply, malformed};
use self::wrapping::{sealed, usable};
use super::bus::Message;
use super::commands::Commands;
use super::envelope::SealError;
use super::error::StoreError;
use super::names::Names;
use super::script::Script;
use super::stamp::Stamps;
use crate::cache::generation::{EntryTags, TagSet};
use crate::cache::key::Key;
use crate::tag::TagId;

/// How long a lease lasts unless it is renewed: a node that dies with it
/// delays the others for no longer.
pub const LEASE: Duration = Duration::from_secs(1);

/// How long nobody waits for an answer that could not be stored.
pub const UNSTORABLE: Duration = Duration::from_secs(10);

/// The most scripts that one call has under way.
const MAX_CONCURRENT: usize = 64;

/// Nothing lasts longer in Redis, in milliseconds: a thousand days.
const MAX_MILLIS: u128 = 1000 * 24 * 60 * 60 * 1000;

static LOOK: LazyLock<Script> = LazyLock::new(|| Script::new("look", include_str!("redis/look.lua")));
static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new("claim", include_str!("redis/claim.lua")));
static KEEP: LazyLock<Script> = LazyLock::new(|| Script::new("keep", include_str!("redis/keep.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new("renew", include_str!("redis/renew.lua")));
static REMOVE: LazyLock<Script> = LazyLock::new(|| Script::new("remove", include_str!("redis/remove.lua")));
static INVALIDATE: LazyLock<Script> =
    LazyLock::new(|| Script::new("invalidate", include_str!("redis/invalidate.lua")));

/// Entries and generations in Redis.
pub struct Responses {
    commands: Arc<Commands>,
    names: Names,
    lookups: Arc<Lookups>,
    /// This node's id, which its messages bear.
    origin: u64,
}

/// An entry from Redis that may answer: its tags are those that the request
/// has now, and none has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The entry's bytes.
    pub entry: Bytes,
    /// The answer has no rows: its tags are [`EntryTags::of`] an empty one.
    pub empty: bool,
}

/// What a lookup found.
#[derive(Debug)]
pub struct Looked {
    /// The entry, if there is one that may answer.
    pub found: Option<Found>,
    /// The masters that were asked.
    pub replications: Replications,
}

/// What the beginning of a fill found.
#[derive(Debug)]
pub struct Claimed {
    /// The entry, if there is one that may answer by now. A lease that was
    /// granted all the same is to be [released](Responses::release).
    pub found: Option<Found>,
    /// The stamps of all tags that the answer may come to carry.
    pub stamps: Stamps,
    /// Whether a tag is held: upstream's word on it can't be trusted yet.
    pub held: bool,
    /// What came of asking for the lease.
    pub lease: LeaseState,
    /// The masters that were asked.
    pub replications: Replications,
}

/// What a fill brought.
#[derive(Debug, Clone, Copy)]
pub struct Filled<'a> {
    /// The entry's key.
    pub key: &'a Key,
    /// The entry's bytes.
    pub entry: &'a [u8],
    /// The answer has no rows.
    pub empty: bool,
    /// The tags of the request.
    pub tags: &'a EntryTags,
    /// Their stamps from before the fetch.
    pub stamps: &'a Stamps,
    /// How long the entry may be of use, stale windows included.
    pub ttl: Duration,
}

/// Whether an entry went to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It did.
    Stored,
    /// It must not, or is too large. The lease was given back.
    Not(SealError),
}

/// One call of a script, whose keys are all on one master.
struct Call {
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl Responses {
    /// Entries and generations as `names` says; `origin` is this node's id.
    pub fn new(commands: Arc<Commands>, names: Names, origin: u64) -> Self {
        let lookups = Lookups::new(names.clone());
        Self { commands, names, lookups, origin }
    }

    /// Looks an entry up, in one round trip.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if one of the masters doesn't answer within `deadline`.
    pub async fn look(&self, key: &Key, tags: &EntryTags, deadline: Duration) -> Result<Looked, StoreError> {
        if self.commands.is_cluster() || tags.all().as_slice().len() > MAX_TAGS {
            return self.look_apart(key, tags, deadline).await;
        }
        let admission = self.commands.admit(deadline)?;
        let seen = self.lookups.look(&admission.connection, key, tags.all(), deadline);
        let Seen { frame, moment } = self.commands.within(&admission, "look", seen).await?;
        let found = usable(key, tags, &moment.stamps, frame).await;
        Ok(Looked { found, replications: Replications::from_slice(&[moment.replication]) })
    }

    /// The same where one command can't tell all.
    async fn look_apart(
        &self,
        key: &Key,
        tags: &EntryTags,
        deadline: Duration,
    ) -> Result<Looked, StoreError> {
        let parts = parts(tags.all(), self.commands.is_cluster());
        let calls = parts.iter().map(|part| {
            let entry = part.with_entry.then(|| self.names.entry(key));
            Call { keys: entry.into_iter().chain(self.generations(part.tags)).collect(), arguments: vec![] }
        });
        let calls = calls.collect();
        let mut reading = Reading::new();
        for (part, values) in parts.iter().zip(self.run(&LOOK, calls, deadline).await) {
            reading.add(values?, false, part.with_entry, part.tags)?;
        }
        let stamps = reading.stamps();
        let found = usable(key, tags, &stamps, reading.frame).await;
        Ok(Looked { found, replications: reading.replications })
    }

    /// Begins a fill, in one round trip: makes the generations that its tags
    /// lack, so that they last for `keep_for` at least, asks for `lease`, and
    /// looks the entry up once more.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if one of the masters doesn't answer within `deadline`.
    /// A lease may have been granted then: it ends by itself.
    pub async fn claim(
        &self,
        key: &Key,
        tags: &EntryTags,
        lease: Option<&Lease>,
        keep_for: Duration,
        deadline: Duration,
    ) -> Result<Claimed, StoreError> {
        let fresh = lease::random()?;
        let parts = parts(tags.all(), self.commands.is_cluster());
        let calls = parts.iter().map(|part| {
            let head = lease.is_some_and(|lease| lease.head);
            let entry = part.with_entry.then(|| [self.names.entry(key), self.names.lease(key, head)]);
            Call {
                keys: entry.into_iter().flatten().chain(self.generations(part.tags)).collect(),
                arguments: vec![
                    if part.with_entry { b"1".to_vec() } else { b"0".to_vec() },
                    lease.map_or_else(Vec::new, |lease| lease.token.to_vec()),
                    millis(LEASE),
                    millis(keep_for),
                    fresh[..8].to_vec(),
                ],
            }
        });
        let calls = calls.collect();
        let mut reading = Reading::new();
        for (part, values) in parts.iter().zip(self.run(&CLAIM, calls, deadline).await) {
            reading.add(values?, true, part.with_entry, part.tags)?;
        }
        let stamps = reading.stamps();
        let found = usable(key, tags, &stamps, reading.frame).await;
        let Reading { held, lease, replications, .. } = reading;
        Ok(Claimed { found, stamps, held, lease, replications })
    }

    /// Stores what a fill brought and gives its lease back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] if Redis has no memory for it (the lease is given
    /// back), or what else keeps Redis from answering within `deadline`.
    pub async fn keep(
        &self,
        filled: &Filled<'_>,
        lease: Option<&Lease>,
        deadline: Duration,
    ) -> Result<Kept, StoreError> {
        let frame = match sealed(filled).await {
            Ok(frame) => frame,
            Err(why) => {
                if let Some(lease) = lease {
                    self.release(lease, UNSTORABLE, deadline).await?;
                }
                return Ok(Kept::Not(why));
            }
        };
        match &self.put(filled.key, lease, (frame, filled.ttl), Duration::ZERO, deadline).await?[..] {
            b"kept" => Ok(Kept::Stored),
            b"full" => Err(StoreError::Full),
            _ => Err(malformed()),
        }
    }

    /// Gives a lease back, so that the others needn't wait for its end. For
    /// the time `open` it is [nobody's](LeaseState::Open).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if Redis doesn't answer within `deadline`.
    pub async fn release(&self, lease: &Lease, open: Duration, deadline: Duration) -> Result<(), StoreError> {
        self.put(&lease.key, Some(lease), (Vec::new(), Duration::ZERO), open, deadline).await.map(drop)
    }

    /// Lets a lease last [`LEASE`] from now, unless it is another's by now.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if Redis doesn't answer within `deadline`.
    pub async fn renew(&self, lease: &Lease, deadline: Duration) -> Result<(), StoreError> {
        let keys = vec![self.names.lease(&lease.key, lease.head)];
        let arguments = vec![lease.token.to_vec(), millis(LEASE)];
        self.run_one(&RENEW, Call { keys, arguments }, deadline).await.map(drop)
    }

    /// Removes an entry, here and on all nodes.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if Redis doesn't do so within `deadline`.
    pub async fn remove(&self, key: &Key, deadline: Duration) -> Result<(), StoreError> {
        let message = Message::removed(key);
        let call = Call {
            keys: vec![self.names.entry(key)],
            arguments: vec![self.names.channel().as_bytes().to_vec(), message],
        };
        self.run_one(&REMOVE, call, deadline).await.map(drop)
    }

    /// Makes every entry that carries one of `tags` unusable, here and on all
    /// nodes. With a `hold` nothing that is read meanwhile is kept either; it
    /// doesn't shorten another's. Gives the masters that were asked.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if one of the masters doesn't do so within `deadline`.
    /// The others may have: to be repeated with all tags.
    pub async fn invalidate(
        &self,
        tags: &[TagId],
        hold: Duration,
        deadline: Duration,
    ) -> Result<Replications, StoreError> {
        let tags: TagSet = tags.iter().copied().collect();
        let held = millis_or_none(hold);
        let channel = self.names.channel().as_bytes();
        let calls = on_one_master(&tags, self.commands.is_cluster()).map(|tags| Call {
            keys: self.generations(tags).collect(),
            arguments: vec![held.clone(), channel.to_vec(), Message::tags(self.origin, hold, tags)],
        });
        let calls = calls.collect();
        let mut seen = Replications::new();
        for values in self.run(&INVALIDATE, calls, deadline).await {
            Reply::of(values?)?.end(&mut seen)?;
        }
        Ok(seen)
    }

    /// Stores a frame for its time unless it is empty, gives `lease` back, to
    /// be nobody's for the time `open`, and says what came of it.
    async fn put(
        &self,
        key: &Key,
        lease: Option<&Lease>,
        (frame, ttl): (Vec<u8>, Duration),
        open: Duration,
        deadline: Duration,
    ) -> Result<Bytes, StoreError> {
        let head = lease.is_some_and(|lease| lease.head);
        let token = lease.map_or_else(Vec::new, |lease| lease.token.to_vec());
        let keys = vec![self.names.entry(key), self.names.lease(key, head)];
        let arguments = vec![frame, millis(ttl), token, millis_or_none(open)];
        let mut reply = self.run_one(&KEEP, Call { keys, arguments }, deadline).await?;
        reply.bytes()?.ok_or_else(malformed)
    }

    fn generations<'a>(&'a self, tags: &'a [TagId]) -> impl Iterator<Item = Vec<u8>> + 'a {
        tags.iter().map(|tag| self.names.generation(*tag))
    }

    async fn run_one(&self, script: &Script, call: Call, deadline: Duration) -> Result<Reply, StoreError> {
        Reply::of(self.run_call(script, call, deadline).await?)
    }

    /// Makes all calls, a limited number at a time. Their answers in order.
    async fn run(
        &self,
        script: &Script,
        calls: Vec<Call>,
        deadline: Duration,
    ) -> Vec<Result<Vec<Value>, StoreError>> {
        let end = Instant::now() + deadline;
        let mut answers = Vec::with_capacity(calls.len());
        let mut calls = calls.into_iter().peekable();
        while calls.peek().is_some() {
            let left = end.saturating_duration_since(Instant::now());
            let some = calls.by_ref().take(MAX_CONCURRENT);
            answers.extend(join::all(some.map(|call| self.run_call(script, call, left))).await);
        }
        answers
    }

    async fn run_call(
        &self,
        script: &Script,
        call: Call,
        deadline: Duration,
    ) -> Result<Vec<Value>, StoreError> {
        let arguments: Vec<&[u8]> = call.arguments.iter().map(Vec::as_slice).collect();
        self.commands.run(script, &call.keys, &arguments, deadline).await
    }
}

/// Zero where there is no time.
fn millis_or_none(time: Duration) -> Vec<u8> {
    if time.is_zero() { b"0".to_vec() } else { millis(time) }
}

/// At least one: zero means "for ever" or is refused.
fn millis(time: Duration) -> Vec<u8> {
    time.as_millis().clamp(1, MAX_MILLIS).to_string().into_bytes()
}

#[cfg(test)]
mod tests;
