//! What a node knows of the queue, without records: who has which writes, which lanes
//! are ready, when others are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::super::id::{CallerId, LaneId, RowId, Seq, TableId};
use super::super::{Depth, Pending, Wanted};
use super::wire::LaneState;

#[derive(Default)]
struct Caller {
    writes: BTreeSet<Seq>,
    /// What [`View::snapshot`] last made of it.
    view: Option<Arc<[Pending]>>,
}

#[derive(Default)]
struct Lane {
    writes: usize,
    state: Option<LaneState>,
}

/// The queue at one time. What is told twice changes nothing.
#[derive(Default)]
pub struct View {
    entries: BTreeMap<Seq, Pending>,
    callers: HashMap<CallerId, Caller>,
    rows: HashMap<RowId, BTreeSet<Seq>>,
    tables: HashMap<TableId, BTreeSet<Seq>>,
    lanes: HashMap<LaneId, Lane>,
    ready: HashSet<LaneId>,
    /// Lanes that wait for a moment, in the server's ms.
    due: BTreeSet<(u64, LaneId)>,
    /// Whether this node replays nothing for now.
    paused: bool,
}

fn lane_of(write: &Pending) -> LaneId {
    LaneId { row: write.row, caller: write.caller }
}

fn leave<K: Eq + Hash>(writes: &mut HashMap<K, BTreeSet<Seq>>, of: K, seq: Seq) {
    if let Some(left) = writes.get_mut(&of) {
        left.remove(&seq);
        if left.is_empty() {
            writes.remove(&of);
        }
    }
}

impl View {
    /// A write is queued. Whether that is news.
    pub fn insert(&mut self, write: Pending) -> bool {
        let (seq, lane) = (write.seq, lane_of(&write));
        if self.entries.contains_key(&seq) {
            return false;
        }
        self.rows.entry(write.row).or_default().insert(seq);
        self.tables.entry(write.table).or_default().insert(seq);
        self.entries.insert(seq, write);
        let caller = self.callers.entry(lane.caller).or_default();
        caller.writes.insert(seq);
        caller.view = None;
        self.lanes.entry(lane).or_default().writes += 1;
        self.settle_lane(lane);
        true
    }

    /// A write has left the queue. Whose it was, if that is news.
    pub fn remove(&mut self, seq: Seq) -> Option<CallerId> {
        let write = self.entries.remove(&seq)?;
        let lane = lane_of(&write);
        if let Some(caller) = self.callers.get_mut(&lane.caller) {
            caller.writes.remove(&seq);
            caller.view = None;
            if caller.writes.is_empty() {
                self.callers.remove(&lane.caller);
            }
        }
        leave(&mut self.rows, write.row, seq);
        leave(&mut self.tables, write.table, seq);
        if let Some(known) = self.lanes.get_mut(&lane) {
            known.writes -= 1;
        }
        self.settle_lane(lane);
        Some(lane.caller)
    }

    /// A lane has this state.
    pub fn set_lane(&mut self, lane: LaneId, state: Option<LaneState>) {
        let known = self.lanes.entry(lane).or_default();
        if let Some(due) = known.state.and_then(LaneState::due) {
            self.due.remove(&(due, lane));
        }
        known.state = state;
        if let Some(due) = state.and_then(LaneState::due) {
            self.due.insert((due, lane));
        }
        if let Some(caller) = self.callers.get_mut(&lane.caller) {
            caller.view = None;
        }
        self.settle_lane(lane);
    }

    /// Whether a lane is ready, and whether it is known at all, follows from the rest.
    fn settle_lane(&mut self, lane: LaneId) {
        let Some(known) = self.lanes.get(&lane) else { return };
        let (has_writes, has_state) = (known.writes > 0, known.state.is_some());
        if has_writes && !has_state {
            self.ready.insert(lane);
        } else {
            self.ready.remove(&lane);
        }
        if !has_writes && !has_state {
            self.lanes.remove(&lane);
        }
    }

    /// Whose writes there are, once for each.
    pub fn callers(&self) -> impl Iterator<Item = CallerId> + '_ {
        self.entries.values().map(|write| write.caller)
    }

    /// The caller's queued writes, in order.
    pub fn snapshot(&mut self, id: CallerId) -> Arc<[Pending]> {
        let Some(caller) = self.callers.get(&id) else { return Arc::default() };
        if let Some(view) = &caller.view {
            return view.clone();
        }
        let writes = caller.writes.iter().filter_map(|seq| self.entries.get(seq));
        let view: Arc<[Pending]> = writes.map(|write| self.shown(write)).collect();
        if let Some(caller) = self.callers.get_mut(&id) {
            caller.view = Some(view.clone());
        }
        view
    }

    /// Whether a write of the row is queued.
    pub fn row_is_pending(&self, row: RowId) -> bool {
        self.rows.contains_key(&row)
    }

    /// Queued writes after `after`, in order.
    pub fn after(&self, after: Seq, most: usize) -> Vec<Pending> {
        let from = Seq(after.0.saturating_add(1));
        self.entries.range(from..).take(most).map(|(_, write)| self.shown(write)).collect()
    }

    /// The queued writes that are wanted, in order.
    pub fn wanted(&self, wanted: &Wanted<'_>) -> Vec<Pending> {
        let mut seqs = BTreeSet::new();
        for writes in wanted.rows.iter().filter_map(|row| self.rows.get(row)) {
            seqs.extend(writes);
        }
        for writes in wanted.tables.iter().filter_map(|table| self.tables.get(table)) {
            seqs.extend(writes);
        }
        let of = |caller: Option<CallerId>| {
            let caller = caller.and_then(|caller| self.callers.get(&caller));
            caller.into_iter().flat_map(|caller| &caller.writes).copied()
        };
        seqs.extend(of(wanted.caller));
        let is_insert = |seq: &Seq| self.entries.get(seq).is_some_and(|write| write.is_insert);
        seqs.extend(of(wanted.inserts_of).filter(is_insert));
        self.among(&seqs)
    }

    /// Those of `seqs` that are queued, in order.
    pub fn among(&self, seqs: &BTreeSet<Seq>) -> Vec<Pending> {
        seqs.iter().filter_map(|seq| self.entries.get(seq)).map(|write| self.shown(write)).collect()
    }

    fn shown(&self, write: &Pending) -> Pending {
        let state = self.lanes.get(&lane_of(write)).and_then(|lane| lane.state);
        let waits = state.is_none_or(|state| matches!(state, LaneState::Lingering(_)));
        let is_stuck = state.is_some_and(LaneState::is_stuck) || self.paused && waits;
        Pending { lane_is_stuck: is_stuck, ..write.clone() }
    }

    /// This node replays nothing for now, or it does again.
    pub fn set_paused(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.callers.values_mut().for_each(|caller| caller.view = None);
        }
    }

    /// Whether this node replays nothing for now.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// How much is queued.
    pub fn depth(&self) -> Depth {
        let oldest = self.entries.values().next().map(|write| write.accepted_at);
        Depth { writes: self.entries.len() as u64, oldest }
    }

    /// Whether a lane is ready now, in the server's ms.
    pub fn has_ready(&self, now: u64) -> bool {
        !self.ready.is_empty() || self.next_due().is_some_and(|due| due <= now)
    }

    /// When the next waiting lane becomes ready by time alone, in the server's ms.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Those of `seqs` whose lanes linger, or will.
    pub fn lingering(&self, seqs: &[Seq]) -> Vec<Seq> {
        let lingers = |seq: &&Seq| {
            let lane = self.entries.get(seq).and_then(|write| self.lanes.get(&lane_of(write)));
            let state = lane.and_then(|lane| lane.state);
            matches!(state, Some(LaneState::Lingering(_) | LaneState::Claimed { lingers: true }))
        };
        seqs.iter().filter(lingers).copied().collect()
    }

    /// Whether a lane waits for a token with these rights.
    pub fn waits_for(&self, rights: [u8; 16]) -> bool {
        let waits =
            |lane: &Lane| matches!(lane.state, Some(LaneState::WaitingForToken(_, of)) if of == rights);
        self.due.iter().filter_map(|(_, lane)| self.lanes.get(lane)).any(waits)
    }
}
