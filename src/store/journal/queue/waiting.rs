//! What lanes wait for: a moment, an older write, a token, an operator.

use std::time::Instant;

use super::super::Wait;
use super::super::id::{CallerId, LaneId, Seq};
use super::lanes::{LaneState, Mark};
use super::{Entry, Queue};

impl Queue {
    pub(super) fn wait(&mut self, id: LaneId, head: Seq, wait: Wait, lingers_until: Option<Instant>) -> Mark {
        match wait {
            Wait::Now | Wait::Parked => match lingers_until {
                Some(until) => self.linger(id, head, until),
                None => self.make_ready(id, head),
            },
            Wait::Until(until) => self.back_off(id, head, until),
            Wait::Counted(until) => {
                self.back_off(id, head, until);
                if let Some(entry) = self.entries.get_mut(&head) {
                    entry.attempts = entry.attempts.saturating_add(1);
                    return Mark::Attempts(head, entry.attempts);
                }
            }
            Wait::Older => {
                self.set_state(id, LaneState::WaitingForOlder);
                self.wake_oldest(id.caller);
            }
            Wait::Token { rights, until } => {
                self.set_state(id, LaneState::WaitingForToken(rights, until));
                self.tokens.entry(rights).or_default().insert(head);
                self.due.insert((until, head));
            }
        }
        Mark::None
    }

    pub(super) fn linger(&mut self, id: LaneId, head: Seq, until: Instant) {
        self.set_state(id, LaneState::Lingering(until));
        self.due.insert((until, head));
    }

    fn back_off(&mut self, id: LaneId, head: Seq, until: Instant) {
        self.set_state(id, LaneState::BackingOff(until));
        self.due.insert((until, head));
    }

    /// Lets a parked lane go on. Whether it was parked.
    pub fn unpark(&mut self, id: LaneId) -> bool {
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.state == LaneState::Parked) else {
            return false;
        };
        self.parked -= 1;
        lane.state = LaneState::Ready;
        match lane.head {
            Some(head) => self.make_ready(id, head),
            None if lane.is_empty() => {
                self.lanes.remove(&id);
                self.drop_idle_caller(id.caller);
            }
            None => {}
        }
        true
    }

    /// These writes' lanes wait no longer for more to merge with.
    pub fn end_linger(&mut self, seqs: &[Seq]) {
        for seq in seqs {
            let Some(id) = self.entries.get(seq).map(Entry::lane) else { continue };
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.lingers_until = None;
            if let (LaneState::Lingering(until), Some(head)) = (lane.state, lane.head) {
                self.due.remove(&(until, head));
                self.make_ready(id, head);
            }
        }
    }

    /// There is a token with these rights.
    pub fn wake_token(&mut self, rights: [u8; 16]) {
        for head in self.tokens.remove(&rights).unwrap_or_default() {
            let Some(id) = self.entries.get(&head).map(Entry::lane) else { continue };
            if let Some(LaneState::WaitingForToken(_, until)) = self.lanes.get(&id).map(|lane| lane.state) {
                self.due.remove(&(until, head));
                self.make_ready(id, head);
            }
        }
    }

    /// When the next waiting lane becomes ready by time alone.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(until, _)| *until)
    }

    pub(super) fn wake_due(&mut self, now: Instant) {
        while let Some((until, head)) = self.due.first().copied()
            && until <= now
        {
            self.due.remove(&(until, head));
            let Some(id) = self.entries.get(&head).map(Entry::lane) else { continue };
            if let Some(LaneState::WaitingForToken(rights, _)) = self.lanes.get(&id).map(|lane| lane.state)
                && let Some(waiting) = self.tokens.get_mut(&rights)
            {
                waiting.remove(&head);
                if waiting.is_empty() {
                    self.tokens.remove(&rights);
                }
            }
            self.make_ready(id, head);
        }
    }

    pub(super) fn make_ready(&mut self, id: LaneId, head: Seq) {
        self.set_state(id, LaneState::Ready);
        let Some(caller) = self.callers.get_mut(&id.caller) else { return };
        if let Err(at) = caller.ready.binary_search(&head) {
            caller.ready.insert(at, head);
        }
        if !caller.in_turn {
            caller.in_turn = true;
            self.turns.push_back(id.caller);
        }
    }

    pub(super) fn unready(&mut self, caller: CallerId, head: Seq) {
        if let Some(caller) = self.callers.get_mut(&caller)
            && let Ok(at) = caller.ready.binary_search(&head)
        {
            caller.ready.remove(at);
        }
    }

    /// Lets the caller's oldest write go on, if its lane waits to be that.
    pub(super) fn wake_oldest(&mut self, caller: CallerId) {
        let oldest = self.callers.get(&caller).and_then(|caller| caller.writes.front()).copied();
        let entry = oldest.and_then(|seq| self.entries.get(&seq));
        if let (Some(seq), Some(id)) = (oldest, entry.map(Entry::lane))
            && self.lanes.get(&id).is_some_and(|lane| lane.state == LaneState::WaitingForOlder)
        {
            self.make_ready(id, seq);
        }
    }
}
