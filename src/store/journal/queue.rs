//! The rules of the queue, without a disk and without a clock: who may append,
//! which timestamp a write gets, which lane is whose turn, what waits for what.
//!
//! An append has two halves: [`Queue::stage`] judges it and takes its place,
//! [`Queue::accept`] makes it visible once it is durable. Between the two only
//! limits and the lane's order know of it.

mod lanes;
mod stamps;
#[cfg(test)]
mod tests;
mod views;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

pub use self::lanes::{Mark, Taken};
pub use self::stamps::Ahead;

use self::lanes::Lane;
use self::stamps::Stamps;
use super::id::{CallerId, LaneId, RowId, Seq, TableId, WriteId};
use super::{AppendError, Appended, Depth, Draft, MAX_RECORD, Pending, Wanted};
use crate::postgrest::timestamp::Micros;

/// How much may be queued and in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queued writes.
    pub max_writes: usize,
    /// Queued writes of one caller.
    pub max_writes_per_caller: usize,
    /// Lanes that are replayed side by side.
    pub concurrency: usize,
}

/// A queued write, without its record.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
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
    /// Counted attempts.
    pub attempts: u32,
    /// The next one of its lane.
    pub(super) next: Option<Seq>,
}

impl Entry {
    /// What is known of a draft that was stamped.
    pub fn new(draft: &Draft, appended: &Appended) -> Self {
        Self {
            id: draft.id,
            caller: draft.caller,
            table: draft.table,
            row: draft.row,
            is_insert: draft.is_insert,
            updated_at: appended.updated_at,
            accepted_at: appended.accepted_at,
            attempts: 0,
            next: None,
        }
    }

    /// Its lane.
    pub fn lane(&self) -> LaneId {
        LaneId { row: self.row, caller: self.caller }
    }

    fn pending(&self, seq: Seq, lane_is_stuck: bool) -> Pending {
        Pending {
            seq,
            id: self.id,
            caller: self.caller,
            table: self.table,
            row: self.row,
            is_insert: self.is_insert,
            updated_at: self.updated_at,
            accepted_at: self.accepted_at,
            lane_is_stuck,
        }
    }
}

#[derive(Default)]
struct Caller {
    /// Staged and queued writes.
    admitted: usize,
    /// Queued writes, in order.
    writes: VecDeque<Seq>,
    /// Heads of lanes that are ready, in order.
    ready: VecDeque<Seq>,
    /// Whether the caller is in `turns`.
    in_turn: bool,
    /// Claimed lanes.
    in_flight: usize,
    /// What [`Queue::snapshot`] last made of it.
    view: Option<Arc<[Pending]>>,
}

#[derive(Default)]
struct Row {
    /// Staged and queued writes.
    admitted: usize,
    /// Queued writes, in order.
    writes: SmallVec<[Seq; 2]>,
    echo: Option<Box<Echo>>,
}

/// What upstream answered as a row's `updated_at` when it took a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    /// Which write.
    pub seq: Seq,
    /// Upstream's answer.
    pub text: String,
}

/// What was decided of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// It has its place. To be remembered of its row, if anything: how far it is ahead of the clock.
    New(Appended, Option<Ahead>),
    /// It is queued already.
    Known(Appended),
}

/// The queued writes of one journal.
pub struct Queue {
    limits: Limits,
    stamps: Stamps,
    next_seq: Seq,
    next_claim: u64,
    /// Staged and queued writes.
    admitted: usize,
    entries: BTreeMap<Seq, Entry>,
    ids: HashMap<WriteId, Seq>,
    lanes: HashMap<LaneId, Lane>,
    callers: HashMap<CallerId, Caller>,
    rows: HashMap<RowId, Row>,
    /// Queued writes by table.
    tables: HashMap<TableId, BTreeSet<Seq>>,
    /// Callers with something ready, whose turn it is first.
    turns: VecDeque<CallerId>,
    /// Heads of lanes that wait for a moment.
    due: BTreeSet<(Instant, Seq)>,
    /// Heads of lanes that wait for a token, by its rights.
    tokens: HashMap<[u8; 16], BTreeSet<Seq>>,
    parked: usize,
    /// Whether nothing is claimed for now.
    paused: bool,
}

impl Queue {
    /// An empty queue that goes on after what was given before.
    pub fn new(limits: Limits, clock: Micros, next_seq: Seq, next_claim: u64) -> Self {
        Self {
            limits,
            stamps: Stamps::new(clock),
            next_seq,
            next_claim,
            admitted: 0,
            entries: BTreeMap::new(),
            ids: HashMap::new(),
            lanes: HashMap::new(),
            callers: HashMap::new(),
            rows: HashMap::new(),
            tables: HashMap::new(),
            turns: VecDeque::new(),
            due: BTreeSet::new(),
            tokens: HashMap::new(),
            parked: 0,
            paused: false,
        }
    }

    /// Takes over other limits. What is queued stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Moves the clock to `now`, unless it is past it, and reads it.
    pub fn time(&mut self, now: Micros) -> Micros {
        self.stamps.advance(now);
        self.stamps.clock()
    }

    /// The clock's high-water mark and the next number: what has to be durable with the next commit.
    pub fn marks(&self) -> (Micros, Seq) {
        (self.stamps.clock(), self.next_seq)
    }

    /// Judges a draft and, if it may be appended, keeps its place and stamps it.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; nothing has changed then.
    pub fn stage(&mut self, draft: &Draft, now: Micros) -> Result<Staged, AppendError> {
        if draft.record.len() + draft.label.len() > MAX_RECORD {
            return Err(AppendError::TooLarge);
        }
        if let Some((seq, entry)) = self.by_id(draft.id) {
            let (updated_at, accepted_at) = (entry.updated_at, entry.accepted_at);
            return Ok(Staged::Known(Appended { seq, updated_at, accepted_at }));
        }
        self.judge(draft)?;

        let (stamp, ahead) = self.stamps.stamp(draft.row, draft.floor, now);
        let seq = self.next_seq;
        self.next_seq = Seq(seq.0 + 1);
        self.admit(seq, LaneId { row: draft.row, caller: draft.caller });
        let appended = Appended { seq, updated_at: stamp.updated_at, accepted_at: stamp.accepted_at };
        Ok(Staged::New(appended, ahead))
    }

    fn judge(&self, draft: &Draft) -> Result<(), AppendError> {
        let lane = self.lanes.get(&LaneId { row: draft.row, caller: draft.caller });
        let last = lane.and_then(Lane::last);
        // One that has ended since may have been refused: then nothing may build on it.
        if last != draft.after {
            return Err(AppendError::Moved);
        }
        if draft.alone && self.row_is_pending(draft.row) {
            return Err(AppendError::RowBusy);
        }
        if self.admitted >= self.limits.max_writes {
            return Err(AppendError::Full);
        }
        let of_caller = self.callers.get(&draft.caller).map_or(0, |caller| caller.admitted);
        if of_caller >= self.limits.max_writes_per_caller {
            return Err(AppendError::CallerFull);
        }
        Ok(())
    }

    fn admit(&mut self, seq: Seq, lane: LaneId) {
        self.admitted += 1;
        self.callers.entry(lane.caller).or_default().admitted += 1;
        self.rows.entry(lane.row).or_default().admitted += 1;
        self.lanes.entry(lane).or_default().stage(seq);
    }

    /// Makes a staged write visible: it is durable. In the order of staging.
    pub fn accept(&mut self, seq: Seq, entry: Entry, lingers_until: Option<Instant>) {
        let lane_id = entry.lane();
        self.ids.insert(entry.id, seq);
        self.entries.insert(seq, entry);
        self.tables.entry(entry.table).or_default().insert(seq);
        if let Some(row) = self.rows.get_mut(&entry.row) {
            row.writes.push(seq);
        }
        if let Some(caller) = self.callers.get_mut(&lane_id.caller) {
            caller.writes.push_back(seq);
            caller.view = None;
        }
        self.join_lane(lane_id, seq, lingers_until);
    }

    /// A write that was queued before a restart. In their order.
    pub fn restore(&mut self, seq: Seq, entry: Entry) {
        self.admit(seq, entry.lane());
        self.accept(seq, entry, None);
    }

    /// The counted attempts of a write before a restart.
    pub fn restore_attempts(&mut self, seq: Seq, attempts: u32) {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.attempts = attempts;
        }
    }

    /// What was answered about a row before a restart. Whether that is still of use.
    pub fn restore_echo(&mut self, row: RowId, echo: Echo) -> bool {
        let row = self.rows.get_mut(&row);
        row.map(|row| row.echo = Some(Box::new(echo))).is_some()
    }

    /// A row that was ahead of the clock before a restart.
    pub fn restore_ahead(&mut self, row: RowId, last: Micros) {
        self.stamps.restore(row, last);
    }

    /// Forgets rows that are ahead of the clock no longer, now and then. Returns them.
    pub fn sweep(&mut self) -> Vec<RowId> {
        let rows = &self.rows;
        self.stamps.sweep(|row| rows.contains_key(row))
    }

    /// Counts a write no longer whose lane has been taken care of.
    fn leave(&mut self, seq: Seq, echo: Option<&str>) -> Option<Gone> {
        let entry = *self.entries.get(&seq)?;
        self.admitted -= 1;
        if let Some(caller) = self.callers.get_mut(&entry.caller) {
            caller.admitted -= 1;
        }
        let echo = self.leave_row(entry.row, seq, echo);
        Some(Gone { seq, entry, echo })
    }

    /// Removes writes whose ends are durable: nobody sees them as queued any longer.
    pub fn forget(&mut self, gone: &[Gone]) {
        for Gone { seq, entry, .. } in gone {
            self.entries.remove(seq);
            self.ids.remove(&entry.id);
            if let Some(caller) = self.callers.get_mut(&entry.caller) {
                if let Ok(at) = caller.writes.binary_search(seq) {
                    caller.writes.remove(at);
                }
                caller.view = None;
            }
            if let Some(table) = self.tables.get_mut(&entry.table) {
                table.remove(seq);
                if table.is_empty() {
                    self.tables.remove(&entry.table);
                }
            }
            if let Some(row) = self.rows.get_mut(&entry.row) {
                row.writes.retain(|queued| queued != seq);
                if row.admitted == 0 && row.writes.is_empty() {
                    self.rows.remove(&entry.row);
                }
            }
            self.wake_oldest(entry.caller);
            self.drop_idle_caller(entry.caller);
        }
    }

    /// Nothing is claimed for now, or it is again.
    pub fn set_paused(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.callers.values_mut().for_each(|caller| caller.view = None);
        }
    }

    fn leave_row(&mut self, id: RowId, seq: Seq, echo: Option<&str>) -> EchoChange {
        let Some(row) = self.rows.get_mut(&id) else { return EchoChange::None };
        row.admitted -= 1;
        if row.admitted == 0 {
            return if row.echo.take().is_some() { EchoChange::Drop } else { EchoChange::None };
        }
        let Some(text) = echo else { return EchoChange::None };
        let echo = Echo { seq, text: text.to_owned() };
        row.echo = Some(Box::new(echo.clone()));
        EchoChange::Keep(echo)
    }
}

/// A write that has left the queue.
#[derive(Debug, Clone)]
pub struct Gone {
    /// Its place in the order.
    pub seq: Seq,
    /// What was known of it.
    pub entry: Entry,
    /// What that means for its row.
    pub echo: EchoChange,
}

/// What has to be remembered of a row's echo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EchoChange {
    /// What was.
    None,
    /// This.
    Keep(Echo),
    /// Nothing any longer.
    Drop,
}
