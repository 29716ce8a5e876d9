//! What others see of the queue.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{CallerId, Depth, Entry, Pending, Queue, RowId, Seq, Wanted, WriteId};

impl Queue {
    /// A queued write by its name.
    pub fn by_id(&self, id: WriteId) -> Option<(Seq, &Entry)> {
        let seq = *self.ids.get(&id)?;
        self.entries.get(&seq).map(|entry| (seq, entry))
    }

    /// The caller's queued writes, in order.
    pub fn snapshot(&mut self, id: CallerId) -> Arc<[Pending]> {
        let Some(caller) = self.callers.get_mut(&id) else { return Arc::default() };
        if let Some(view) = &caller.view {
            return view.clone();
        }
        let (entries, lanes, paused) = (&self.entries, &self.lanes, self.paused);
        let pending = caller.writes.iter().filter_map(|seq| {
            let entry = entries.get(seq)?;
            Some(entry.pending(*seq, lanes.get(&entry.lane()).is_some_and(|lane| lane.is_stuck(paused))))
        });
        let view: Arc<[Pending]> = pending.collect();
        caller.view = Some(view.clone());
        view
    }

    /// Queued writes after `after`, in order.
    pub fn after(&self, after: Seq, most: usize) -> Vec<Pending> {
        let from = Seq(after.0.saturating_add(1));
        let queued = self.entries.range(from..).take(most);
        queued.map(|(seq, entry)| entry.pending(*seq, self.is_stuck(entry))).collect()
    }

    /// The queued writes that are wanted, in order.
    pub fn wanted(&self, wanted: &Wanted<'_>) -> Vec<Pending> {
        let mut seqs = BTreeSet::new();
        for row in wanted.rows.iter().filter_map(|row| self.rows.get(row)) {
            seqs.extend(&row.writes);
        }
        for table in wanted.tables.iter().filter_map(|table| self.tables.get(table)) {
            seqs.extend(table);
        }
        let of = |caller: Option<CallerId>| {
            let caller = caller.and_then(|caller| self.callers.get(&caller));
            caller.into_iter().flat_map(|caller| &caller.writes).copied()
        };
        seqs.extend(of(wanted.caller));
        let is_insert = |seq: &Seq| self.entries.get(seq).is_some_and(|entry| entry.is_insert);
        seqs.extend(of(wanted.inserts_of).filter(is_insert));
        self.among(&seqs)
    }

    /// Those of `seqs` that are queued, in order.
    pub fn among(&self, seqs: &BTreeSet<Seq>) -> Vec<Pending> {
        let queued = seqs.iter().filter_map(|seq| Some((*seq, self.entries.get(seq)?)));
        queued.map(|(seq, entry)| entry.pending(seq, self.is_stuck(entry))).collect()
    }

    fn is_stuck(&self, entry: &Entry) -> bool {
        self.lanes.get(&entry.lane()).is_some_and(|lane| lane.is_stuck(self.paused))
    }

    /// Whether a write of the row is staged or queued.
    pub fn row_is_pending(&self, row: RowId) -> bool {
        self.rows.contains_key(&row)
    }

    /// How much is queued.
    pub fn depth(&self) -> Depth {
        let oldest = self.entries.values().next().map(|entry| entry.accepted_at);
        Depth { writes: self.entries.len() as u64, oldest }
    }
}
