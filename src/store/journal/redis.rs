//! The journal in Redis, for any number of nodes.
//!
//! All of it lies on one slot of a Cluster, and each change is one script (`redis/journal_*.lua`),
//! which knows the rules of the queue. Nothing of it has a TTL.
//!
//! # Keys
//!
//! | key (`<namespace>:j:{journal}:…`) | what |
//! |---|---|
//! | `marks` | next numbers of writes, events, claims; the clock's high-water mark; how often the journal changed |
//! | `entries`, `records` | hashes: a queued write's entry, its label and record, by its number |
//! | `ids` | hash: where a write is, by its id: `Q` and its number, or how it ended and the event's; empty: cancelled |
//! | `order`, `callers` | sorted by name: row, caller, write; caller, write |
//! | `lanes` | hash: what lanes do that are not ready |
//! | `ready`, `turns` | caller and head of ready lanes; callers by their turn |
//! | `due`, `tokens` | lanes by the moment, or by the rights, that they wait for |
//! | `claims`, `nodes` | node and lane that it has claimed; nodes by their last beat |
//! | `attempts`, `echoes`, `ahead` | as in the embedded journal |
//! | `applied`, `superseded`, `rejected` | streams of what ended, by the event's number |
//! | `doubt` | ids that were cancelled, by the time |
//! | `meta` | whose the journal is, and its format |
//!
//! # Nodes
//!
//! What is asked without waiting is answered from a [`mirror`], which follows the changes on a channel. What
//! a node changes itself is in it before the node is told that it is done. A claim is the node's
//! until it has not beaten for 3.5 s; then others take it, and a settlement under it changes nothing.

mod calls;
mod holding;
mod link;
mod mirror;
mod promise;
mod reply;
mod scripts;
mod server;
#[cfg(test)]
mod tests;
mod view;
mod wire;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::holding::Holding;
use self::link::{Joined, Link};
use self::mirror::Mirror;
use self::reply::Reply;
use self::server::{Failure, Server};
use self::wire::{Malformed, lane_bytes};
use super::id::{CallerId, EventId, LaneId, RowId, Seq, WriteId};
use super::queue::Limits;
use super::{
    AppendError, Appended, Claim, Depth, Draft, EndState, Ended, Event, EventPage, Journal, JournalError,
    MAX_MEMBERS, MAX_RECORD, Pending, Settled, Status, Wait, Wanted,
};
use crate::config::RedisStore;
use crate::store::OpenError;
use crate::store::commands::Commands;
use crate::store::connect::Connector;
use crate::store::responses::node_id;
use crate::store::script::Script;

/// How long the start waits for the journal. Without it Sluice starts as well.
const FIRST: Duration = Duration::from_secs(1);

/// How long the node waits until it hears itself what it changed.
const ECHO: Duration = Duration::from_millis(250);

/// Records that are asked for at once.
const RECORDS: usize = 64;

/// Ended writes of each kind that one page looks at.
const PAGE: usize = 2_000;

/// Appends in doubt that are remembered.
const MAX_DOUBTS: usize = 10_000;

/// A journal in Redis, as one node uses it. Dropped, the node is gone, as if it had died.
pub struct InRedis {
    server: Arc<Server>,
    mirror: Arc<Mirror>,
    holding: Arc<Holding>,
    node: [u8; 8],
    limits: Mutex<Limits>,
    /// Appends of which nobody knows whether they happened.
    doubts: Mutex<VecDeque<WriteId>>,
    closed: AtomicBool,
    runtime: Handle,
    follower: AbortHandle,
}

impl Drop for InRedis {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl InRedis {
    /// Joins the journal of this upstream in a store, and makes it if there is none. If the
    /// store can't be reached that goes on behind, and until then nothing can be appended.
    /// Must be called on a runtime.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the journal belongs to another upstream.
    pub async fn open(store: &RedisStore, upstream: &str, limits: Limits) -> Result<Self, OpenError> {
        let connector = Arc::new(Connector::new(store));
        let commands = Commands::start(connector.clone(), Arc::new(|_| {}));
        let server = Arc::new(Server::new(commands, &store.namespace));
        let (mirror, holding) = (Arc::new(Mirror::new()), Arc::new(Holding::default()));
        let node = node_id().map_err(OpenError::Settings)?.to_be_bytes();
        let (joined, mut joining) = watch::channel(Joined::NotYet);
        let link = Link {
            connector,
            server: server.clone(),
            mirror: mirror.clone(),
            holding: holding.clone(),
            node,
            upstream: upstream.to_owned(),
            ack: store.ack,
            topology: store.url.topology.clone(),
            joined,
        };
        let journal = Self {
            server,
            mirror,
            holding,
            node,
            limits: Mutex::new(limits),
            doubts: Mutex::default(),
            closed: AtomicBool::new(false),
            runtime: Handle::current(),
            follower: tokio::spawn(link.run()).abort_handle(),
        };
        let first = joining.wait_for(|joined| *joined != Joined::NotYet);
        let joined = timeout(FIRST, first).await.map(|joined| joined.map(|joined| joined.clone()));
        match joined {
            Ok(Ok(Joined::Foreign(owner))) => Err(OpenError::Foreign {
                namespace: store.namespace.clone(),
                owner,
                upstream: upstream.to_owned(),
            }),
            _ => Ok(journal),
        }
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.closed.load(Ordering::Acquire) { Err(JournalError::Closed) } else { Ok(()) }
    }

    /// Runs a script that only reads.
    async fn read(&self, script: &Script, arguments: &[&[u8]]) -> Result<Reply, JournalError> {
        self.check()?;
        self.server.run(script, arguments).await.map_err(|failure| unavailable(&failure))
    }

    /// Runs a script that changes a lane: its second answer says how it went, its third is the change.
    async fn change(&self, script: &Script, arguments: &[&[u8]], confirm: bool) -> Result<Reply, Failure> {
        let mut reply = self.server.run(script, arguments).await?;
        let (outcome, change) = (reply.bytes()?, reply.number()?);
        if confirm {
            self.server.confirm(reply.replication).await?;
        }
        self.mirror.reached(change, ECHO).await;
        reply.outcome = outcome;
        Ok(reply)
    }

    fn doubt(&self, id: WriteId) {
        let mut doubts = self.doubts.lock();
        if doubts.len() == MAX_DOUBTS {
            doubts.pop_front();
        }
        doubts.push_back(id);
    }

    /// Runs a script behind the caller's back that lets lanes go on.
    fn wake(&self, kind: &'static [u8], what: Vec<Vec<u8>>) {
        let server = self.server.clone();
        self.runtime.spawn(async move {
            let arguments: Vec<&[u8]> = [kind].into_iter().chain(what.iter().map(Vec::as_slice)).collect();
            if let Err(failure) = server.run(&scripts::WAKE, &arguments).await {
                tracing::warn!(reason = %failure.reason(), "queued writes wait longer than they have to");
            }
        });
    }
}

fn unavailable(failure: &Failure) -> JournalError {
    JournalError::Unavailable(failure.reason().to_string())
}

fn malformed(error: Malformed) -> JournalError {
    JournalError::Unavailable(error.to_string())
}

fn flag(on: bool) -> &'static [u8] {
    if on { b"1" } else { b"0" }
}

/// Rounded up, so that nothing is early.
fn millis(time: Duration) -> u64 {
    // Years are long enough for anything that waits, and short enough for a script to count with.
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).min(1 << 40)
}

#[async_trait]
impl Journal for InRedis {
    async fn append(&self, draft: Draft) -> Result<Appended, AppendError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(AppendError::Closed);
        }
        if draft.record.len() + draft.label.len() > MAX_RECORD {
            return Err(AppendError::TooLarge);
        }
        self.server.standing().map_err(AppendError::Unavailable)?;
        match self.try_append(&draft).await {
            Ok(decided) => decided,
            Err(Failure::Refused(reason)) => Err(AppendError::Unavailable(reason.to_string())),
            Err(Failure::InDoubt(reason)) => {
                tracing::warn!(%reason, "it is not known whether a write was queued");
                self.doubt(draft.id);
                Err(AppendError::Unknown)
            }
        }
    }

    async fn find(&self, id: WriteId) -> Result<Option<Status>, JournalError> {
        let in_doubt = self.doubts.lock().contains(&id);
        let mut reply = self.read(&scripts::FIND, &[&id.0.to_be_bytes(), flag(in_doubt)]).await?;
        let state = reply.bytes().map_err(malformed)?;
        let found = if state.is_empty() {
            None
        } else {
            Some(calls::found(&state, &mut reply).map_err(malformed)?.0)
        };
        if in_doubt {
            let confirmed = self.server.confirm(reply.replication).await;
            confirmed.map_err(|failure| unavailable(&failure))?;
            self.doubts.lock().retain(|other| *other != id);
        }
        Ok(found)
    }

    fn snapshot(&self, caller: CallerId) -> Arc<[Pending]> {
        self.mirror.snapshot(caller)
    }

    async fn snapshot_now(&self, caller: CallerId) -> Result<Arc<[Pending]>, JournalError> {
        if self.is_current() {
            return Ok(self.snapshot(caller));
        }
        let most = u32::MAX.to_string();
        let mut reply = self.read(&scripts::SNAPSHOT, &[&caller.0, most.as_bytes()]).await?;
        calls::snapshot(&mut reply).map_err(malformed)
    }

    fn is_current(&self) -> bool {
        self.mirror.is_trusted(Instant::now())
    }

    fn row_is_pending(&self, row: RowId) -> bool {
        self.mirror.row_is_pending(row)
    }

    async fn records(&self, seqs: &[Seq]) -> Result<Vec<Option<Bytes>>, JournalError> {
        let mut records = Vec::with_capacity(seqs.len());
        for some in seqs.chunks(RECORDS) {
            let names: Vec<_> = some.iter().map(|seq| seq.0.to_be_bytes()).collect();
            let names: Vec<&[u8]> = names.iter().map(<[u8; 8]>::as_slice).collect();
            let mut reply = self.read(&scripts::RECORDS, &names).await?;
            for _ in some {
                let body = reply.optional().map_err(malformed)?;
                records.push(body.map(wire::record).transpose().map_err(malformed)?);
            }
        }
        Ok(records)
    }

    async fn claim(&self, most: usize, now: Instant) -> Result<Vec<Claim>, JournalError> {
        self.check()?;
        if most == 0 || self.mirror.has_nothing_ready(now) {
            return Ok(Vec::new());
        }
        self.take(most, now).await.map_err(|failure| unavailable(&failure))
    }

    async fn note_sent(&self, claim: &Claim, hold: Duration) -> Result<bool, JournalError> {
        self.check()?;
        let (lane, number, hold) =
            (lane_bytes(claim.lane), claim.number.to_be_bytes(), millis(hold).to_string());
        let noted = self.change(&scripts::NOTE, &[&lane, &number, hold.as_bytes()], false).await;
        Ok(noted.map_err(|failure| unavailable(&failure))?.outcome == b"done")
    }

    async fn settle(
        &self,
        claim: &Claim,
        ended: Vec<Ended>,
        final_only: bool,
    ) -> Result<Settled, JournalError> {
        self.check()?;
        if ended.len() > MAX_MEMBERS {
            return Ok(Settled::Lost);
        }
        let mut reply = self.end(claim, &ended, final_only).await.map_err(|failure| unavailable(&failure))?;
        match reply.outcome.as_slice() {
            b"done" => {}
            b"not_oldest" => return Ok(Settled::NotOldest),
            _ => return Ok(Settled::Lost),
        }
        if let Ok(mut dropped) = reply.list() {
            while let Ok(id) = dropped.bytes() {
                let id = <[u8; 16]>::try_from(id).map_or(WriteId(0), |id| WriteId(u128::from_be_bytes(id)));
                tracing::warn!(write = %id, "the oldest dead letter was dropped: there are too many");
            }
        }
        Ok(Settled::Done)
    }

    async fn release(&self, claim: Claim, wait: Wait) -> Result<(), JournalError> {
        self.check()?;
        let _leaving = self.holding.leave(claim.lane, claim.number);
        self.give_back(&claim, wait).await.map_err(|failure| unavailable(&failure))
    }

    async fn unpark(&self, lane: LaneId) -> Result<bool, JournalError> {
        self.check()?;
        let unparked = self.change(&scripts::WAKE, &[b"parked", &lane_bytes(lane)], true).await;
        Ok(unparked.map_err(|failure| unavailable(&failure))?.outcome == b"1")
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.mirror.changed()
    }

    fn next_due(&self) -> Option<Instant> {
        self.mirror.next_due()
    }

    fn end_linger(&self, seqs: &[Seq]) {
        let lingering = if self.is_current() { self.mirror.lingering(seqs) } else { seqs.to_vec() };
        for some in lingering.chunks(RECORDS) {
            self.wake(b"linger", some.iter().map(|seq| seq.0.to_be_bytes().to_vec()).collect());
        }
    }

    fn wake_token(&self, rights: [u8; 16]) {
        if !self.is_current() || self.mirror.waits_for(rights) {
            self.wake(b"token", vec![rights.to_vec()]);
        }
    }

    fn failure(&self) -> Option<JournalError> {
        if let Err(closed) = self.check() {
            return Some(closed);
        }
        self.server.failure().map(JournalError::Unavailable)
    }

    fn set_paused(&self, paused: bool) {
        self.mirror.set_paused(paused);
    }

    fn depth(&self) -> Depth {
        self.mirror.depth()
    }

    fn queued(&self, after: Seq, most: usize) -> Vec<Pending> {
        self.mirror.after(after, most)
    }

    fn wanted(&self, wanted: &Wanted<'_>) -> Vec<Pending> {
        self.mirror.wanted(wanted)
    }

    fn queued_among(&self, seqs: &BTreeSet<Seq>) -> Vec<Pending> {
        self.mirror.among(seqs)
    }

    async fn ended(&self, state: EndState, after: EventId, most: usize) -> Result<Vec<Status>, JournalError> {
        let (first, most) = (after.0.saturating_add(1).to_string(), most.min(PAGE).to_string());
        let letter = [wire::letter(state)];
        let mut reply = self.read(&scripts::ENDED, &[&letter, first.as_bytes(), most.as_bytes()]).await?;
        let mut found = Vec::new();
        while !reply.is_empty() {
            let number = EventId(reply.number().map_err(malformed)?);
            let row = reply.bytes().map_err(malformed)?;
            found.push(wire::ended_status(state, number, &row).map_err(malformed)?.0);
        }
        Ok(found)
    }

    async fn rejected_record(&self, id: WriteId) -> Result<Option<Bytes>, JournalError> {
        let mut reply = self.read(&scripts::FIND, &[&id.0.to_be_bytes(), flag(false)]).await?;
        let state = reply.bytes().map_err(malformed)?;
        if state.is_empty() {
            return Ok(None);
        }
        let (_, record) = calls::found(&state, &mut reply).map_err(malformed)?;
        Ok(Some(record).filter(|record| !record.is_empty()))
    }

    async fn ended_since(
        &self,
        caller: CallerId,
        after: EventId,
        most: usize,
    ) -> Result<EventPage, JournalError> {
        let (upto, mut events) = self.missed(caller, after).await?;
        // Beyond it some of another kind may be missing.
        events.retain(|event| upto.is_none_or(|upto| event.number <= upto));
        events.sort_unstable_by_key(|event| event.number);
        let more = upto.is_some() || events.len() > most;
        events.truncate(most);
        let last = events.last().map_or(after, |event| event.number);
        let is_cut = !events.is_empty() && events.len() == most;
        Ok(EventPage { next: if is_cut { last } else { upto.unwrap_or(last) }, events, more })
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.mirror.subscribe()
    }

    fn set_limits(&self, limits: Limits) {
        *self.limits.lock() = limits;
    }

    async fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.follower.abort();
        let _turn = self.holding.turn().await;
        // Who can't say goodbye is missed soon.
        if let Err(failure) = self.server.run(&scripts::DISOWN, &[&self.node, flag(true)]).await {
            tracing::info!(reason = %failure.reason(), "the journal was left without a word");
        }
        self.mirror.unlink();
    }
}
