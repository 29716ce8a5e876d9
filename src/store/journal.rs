//! The journal: deferred writes, durable and in order, until upstream has them.
//!
//! It knows nothing of PostgREST: a write is an opaque record with the names
//! of its caller, table and row. [`Journal`] is what the rest of Sluice sees;
//! [`Embedded`] keeps it in one file on this machine's disk.
//!
//! # How the embedded journal works
//!
//! ```text
//! append, settle, release ──→ channel ──→ writer thread
//!                                          1  judge and stamp, all that has come in    queue
//!                                          2  one transaction, one fdatasync           -
//!                                          3  make what was appended visible           queue
//!                                          4  tell subscribers, answer                 -
//! snapshot, claim, depth …  ──→ queue            record, find, claim, pages ──→ read transactions
//! ```
//!
//! The writer takes what there is, commits, and takes again: alone, an append
//! costs one fdatasync; of many, one pays for all that came in meanwhile.
//! What is appended is visible only once it is durable. What is settled has
//! left the queue as soon as it was judged, and is answered once it is durable.
//!
//! # Who locks what
//!
//! | lock | guards | held by |
//! |---|---|---|
//! | `queue` | the index of queued writes: lanes, turns, limits, timestamps | the writer in steps 1 and 3; `claim`, `release`, `snapshot` of a caller who has writes, `row_is_pending`, `depth` for a look-up; never across I/O or an await |
//! | `database` | the handle of the open file | readers to clone it, the writer to drop it on close |
//!
//! No two are ever held at once. `snapshot` of a caller who has no writes takes none: it
//! reads one counter of a fixed table.
//!
//! # On disk
//!
//! `queued` has the records by [`Seq`], which ascends, so that appends touch the last page
//! alone; `applied`, `superseded`, `rejected` have what ended by [`EventId`], and `ended` leads
//! there by id. `meta` has the format's version, the upstream's identity, and the next
//! numbers and the clock's high-water mark, written with each commit. All else is
//! rare: `attempts`, `parked`, `echoes`, `ahead`.

mod disk;
mod embedded;
mod error;
mod id;
#[cfg(test)]
mod model;
mod presence;
mod queue;
mod redis;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{broadcast, watch};

pub use self::embedded::{Embedded, Options};
pub use self::error::{AppendError, JournalError, OpenError};
pub use self::id::{CallerId, EventId, LaneId, NotAWriteId, RowId, Seq, TableId, WriteId};
pub use self::queue::Limits;
pub use self::redis::InRedis;
pub use self::status::{Depth, EndState, Ended, Event, EventPage, State, Status};

use crate::postgrest::timestamp::Micros;

/// The longest record, and the longest label, detail and reason together, in bytes.
pub const MAX_RECORD: usize = 256 * 1024;

/// Members of one claim at most.
pub const MAX_MEMBERS: usize = 100;

/// A write that is to be appended.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its name. One that is queued already is not appended again, but answered as it was.
    pub id: WriteId,
    /// Who writes.
    pub caller: CallerId,
    /// To which table.
    pub table: TableId,
    /// To which row.
    pub row: RowId,
    /// Whether the row is to be made by it.
    pub is_insert: bool,
    /// The earliest timestamp that it may get: that of the row that was known, plus 1 µs.
    pub floor: Option<Micros>,
    /// The last queued write of this lane that its author knew of. Another one by now: [`AppendError::Moved`].
    pub after: Option<Seq>,
    /// Append only if no write of this row is queued, whoever's: else [`AppendError::RowBusy`].
    pub alone: bool,
    /// How long it waits for later ones of its lane, to be replayed with them.
    pub linger: Duration,
    /// What the status of the write says of it. Kept with it, opaque, small.
    pub label: Bytes,
    /// What its replay needs. Opaque, at most [`MAX_RECORD`].
    pub record: Bytes,
}

/// A write that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its place in the order.
    pub seq: Seq,
    /// The timestamp that it sets.
    pub updated_at: Micros,
    /// When it was accepted. Grows with `seq`.
    pub accepted_at: Micros,
}

/// A queued write, without its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its place in the order.
    pub seq: Seq,
    /// Its name.
    pub id: WriteId,
    /// Who writes.
    pub caller: CallerId,
    /// To which table.
    pub table: TableId,
    /// To which row.
    pub row: RowId,
    /// Whether the row is made by it.
    pub is_insert: bool,
    /// The timestamp that it sets.
    pub updated_at: Micros,
    /// When it was accepted.
    pub accepted_at: Micros,
    /// Whether its lane is in backoff, waits for a token or an older write, or is parked:
    /// it will not be replayed soon.
    pub lane_is_stuck: bool,
}

/// A lane that its holder alone may replay, until it is released.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which lane.
    pub lane: LaneId,
    /// Tells this claim from any other of the lane.
    pub number: u64,
    /// Counted attempts of the head.
    pub attempts: u32,
    /// The lane's oldest writes, in order; not empty.
    pub members: Vec<Member>,
    /// The `updated_at` that upstream answered when it took another write of the row, if that
    /// one was accepted before the head.
    pub echo: Option<String>,
}

/// One write of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its place in the order.
    pub seq: Seq,
    /// Its name.
    pub id: WriteId,
    /// The timestamp that it sets.
    pub updated_at: Micros,
    /// When it was accepted.
    pub accepted_at: Micros,
    /// What its replay needs.
    pub record: Bytes,
}

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// All of it is durable.
    Done,
    /// Nothing changed: an older write of the caller is queued in another lane.
    NotOldest,
    /// Nothing changed: the claim is not the lane's, or these are not its oldest writes.
    Lost,
}

/// What a released lane waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    Now,
    /// This moment: backoff.
    Until(Instant),
    /// This moment, with the attempt counted.
    Counted(Instant),
    /// That its head is the oldest queued write of its caller.
    Older,
    /// A token with these rights, or this moment.
    Token {
        /// The fingerprint of the rights.
        rights: [u8; 16],
        /// When to go on without one.
        until: Instant,
    },
    /// An operator. The lane stays even if it is empty: later writes to it wait too.
    Parked,
}

/// Queued writes that are asked for: any of these.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Writes to these rows, whoever's.
    pub rows: &'a [RowId],
    /// Writes to these tables, whoever's.
    pub tables: &'a [TableId],
    /// All writes of this caller.
    pub caller: Option<CallerId>,
    /// The inserts of this caller.
    pub inserts_of: Option<CallerId>,
}

/// Deferred writes, durable and in order.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends a write. Durable when it returns `Ok`.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; all but `Unknown` mean that it was certainly not appended.
    async fn append(&self, draft: Draft) -> Result<Appended, AppendError>;

    /// How a write is, queued or ended within the last 24 h. An append that was sent before
    /// and is still under way is waited for, so this also settles one whose answer was lost.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if the journal can't tell.
    async fn find(&self, id: WriteId) -> Result<Option<Status>, JournalError>;

    /// The caller's queued writes, in order.
    fn snapshot(&self, caller: CallerId) -> Arc<[Pending]>;

    /// The caller's queued writes, in order, those that other nodes appended before this among
    /// them: where [`snapshot`](Self::snapshot) can't promise that, the store is asked.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if nobody can tell.
    async fn snapshot_now(&self, caller: CallerId) -> Result<Arc<[Pending]>, JournalError> {
        Ok(self.snapshot(caller))
    }

    /// Whether what is answered without waiting is what is queued. If not, other nodes' writes of
    /// the last moments may be missing, and some that have ended may be there.
    fn is_current(&self) -> bool {
        true
    }

    /// Whether a write of this row is queued, whoever's.
    fn row_is_pending(&self, row: RowId) -> bool;

    /// The records of queued writes; `None` for one that isn't queued any longer.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if they can't be read.
    async fn records(&self, seqs: &[Seq]) -> Result<Vec<Option<Bytes>>, JournalError>;

    /// The record of a queued write.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if it can't be read.
    async fn record(&self, seq: Seq) -> Result<Option<Bytes>, JournalError> {
        Ok(self.records(&[seq]).await?.into_iter().next().flatten())
    }

    /// Claims up to `most` lanes that are ready, in turn by caller. One caller gets at most 3/4
    /// of what may be in flight while others have something ready.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if the records can't be read. Nothing is claimed then.
    async fn claim(&self, most: usize, now: Instant) -> Result<Vec<Claim>, JournalError>;

    /// A write of a claim is about to be sent that must not be sent twice: an insert. If this
    /// node dies, whoever takes the claim over leaves the lane alone for `hold` from now on. Whether the
    /// claim is still the lane's; if not, nothing may be sent.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if that can't be noted.
    async fn note_sent(&self, claim: &Claim, hold: Duration) -> Result<bool, JournalError> {
        let _ = (claim, hold);
        Ok(true)
    }

    /// Ends members of a claim from the head on, all or none. Durable when it returns `Done`. The
    /// lane stays claimed. With `final_only` it is refused while an older write of the caller is
    /// queued in another lane.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if it may not be durable.
    async fn settle(
        &self,
        claim: &Claim,
        ended: Vec<Ended>,
        final_only: bool,
    ) -> Result<Settled, JournalError>;

    /// Gives a lane back.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if a counted attempt or a parked lane may not be durable. The lane is released.
    async fn release(&self, claim: Claim, wait: Wait) -> Result<(), JournalError>;

    /// Lets a parked lane go on. Whether it was parked.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if it may not be durable.
    async fn unpark(&self, lane: LaneId) -> Result<bool, JournalError>;

    /// A number that moves with each append, settlement and release.
    fn changed(&self) -> watch::Receiver<u64>;

    /// When the next waiting lane becomes ready by time alone.
    fn next_due(&self) -> Option<Instant>;

    /// These writes wait no longer for later ones of their lanes.
    fn end_linger(&self, seqs: &[Seq]);

    /// There is a token with these rights.
    fn wake_token(&self, rights: [u8; 16]);

    /// Why nothing can be appended or settled any more, if that is so.
    fn failure(&self) -> Option<JournalError>;

    /// Nothing is replayed for now, or it is again: lanes that are ready are stuck meanwhile.
    fn set_paused(&self, paused: bool);

    /// How much is queued.
    fn depth(&self) -> Depth;

    /// Queued writes after `after`, in order, whoever's: for operators.
    fn queued(&self, after: Seq, most: usize) -> Vec<Pending>;

    /// The queued writes that are wanted, in order.
    fn wanted(&self, wanted: &Wanted<'_>) -> Vec<Pending>;

    /// Those of these writes that are queued, in order.
    fn queued_among(&self, seqs: &BTreeSet<Seq>) -> Vec<Pending>;

    /// What ended so, in the order of the events, after `after`: dead letters, conflicts.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if it can't be read.
    async fn ended(&self, state: EndState, after: EventId, most: usize) -> Result<Vec<Status>, JournalError>;

    /// The record of a dead letter.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if it can't be read.
    async fn rejected_record(&self, id: WriteId) -> Result<Option<Bytes>, JournalError>;

    /// Ends of the caller's writes after `after`: what a client missed. Looks at a bounded
    /// number of events, so a page may be empty and yet not the last.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if they can't be read.
    async fn ended_since(
        &self,
        caller: CallerId,
        after: EventId,
        most: usize,
    ) -> Result<EventPage, JournalError>;

    /// Whatever happens from now on. Who falls too far behind misses some.
    fn subscribe(&self) -> broadcast::Receiver<Event>;

    /// Takes over other limits.
    fn set_limits(&self, limits: Limits);

    /// Refuses whatever comes from now on. What was acknowledged is durable.
    async fn close(&self);
}
