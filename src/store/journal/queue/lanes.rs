//! Lanes: who has which, and whose turn it is.
//!
//! A lane with writes is in exactly one place: in its caller's `ready`, with its
//! holder, in `due` (some of these in `tokens`, too), or in none, if it waits
//! for an older write or an operator. `due`, `tokens` and `ready` name a lane by
//! its head, which changes only while the lane is claimed.

use std::time::Instant;

use super::super::id::{CallerId, LaneId, Seq};
use super::super::{Ended, MAX_MEMBERS, Settled, Wait};
use super::{Entry, Gone, Queue};

/// Parked lanes that are kept although they are empty.
const MAX_PARKED: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LaneState {
    #[default]
    Ready,
    Claimed(u64),
    /// Waits for later writes to merge with.
    Lingering(Instant),
    BackingOff(Instant),
    WaitingForOlder,
    WaitingForToken([u8; 16], Instant),
    Parked,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) state: LaneState,
    /// The oldest queued write.
    pub(super) head: Option<Seq>,
    /// The youngest queued write, if there is a head.
    tail: Option<Seq>,
    /// The youngest staged or queued write, if there is any.
    last: Option<Seq>,
    /// Staged writes that are not yet queued.
    staged: u32,
    /// Until when what was appended during a claim may wait for more.
    pub(super) lingers_until: Option<Instant>,
}

impl Lane {
    pub(super) fn stage(&mut self, seq: Seq) {
        self.staged += 1;
        self.last = Some(seq);
    }

    /// The youngest write, staged or queued.
    pub(super) fn last(&self) -> Option<Seq> {
        if self.is_empty() { None } else { self.last }
    }

    /// `paused`: no lane is claimed for now.
    pub(super) fn is_stuck(&self, paused: bool) -> bool {
        match self.state {
            LaneState::Claimed(_) => false,
            LaneState::Ready | LaneState::Lingering(_) => paused,
            LaneState::BackingOff(_)
            | LaneState::WaitingForOlder
            | LaneState::WaitingForToken(..)
            | LaneState::Parked => true,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none() && self.staged == 0
    }
}

/// A lane that was claimed, and its oldest writes.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Which lane.
    pub lane: LaneId,
    /// Tells this claim from any other.
    pub number: u64,
    /// Its oldest writes, in order.
    pub members: Vec<(Seq, Entry)>,
    /// Upstream's answer about another write of the row that was accepted before the head.
    pub echo: Option<String>,
}

/// What a release leaves to be made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    None,
    /// A write's counted attempts.
    Attempts(Seq, u32),
    /// A lane that is parked.
    Parked(LaneId),
}

impl Queue {
    /// Puts a write that has become visible at the end of its lane.
    pub(super) fn join_lane(&mut self, id: LaneId, seq: Seq, lingers_until: Option<Instant>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.staged = lane.staged.saturating_sub(1);
        if let (Some(_), Some(tail)) = (lane.head, lane.tail)
            && let Some(entry) = self.entries.get_mut(&tail)
        {
            entry.next = Some(seq);
        }
        lane.tail = Some(seq);
        if lane.head.is_some() {
            if matches!(lane.state, LaneState::Claimed(_)) && lane.lingers_until.is_none() {
                lane.lingers_until = lingers_until;
            }
            return;
        }
        lane.head = Some(seq);
        match (lane.state, lingers_until) {
            (LaneState::Ready, Some(until)) => self.linger(id, seq, until),
            (LaneState::Ready, None) => self.make_ready(id, seq),
            (LaneState::Claimed(_), until) => lane.lingers_until = until,
            _ => {}
        }
    }

    /// A lane that was parked before a restart.
    pub fn restore_parked(&mut self, id: LaneId) {
        let lane = self.lanes.entry(id).or_default();
        lane.state = LaneState::Parked;
        self.parked += 1;
        if let Some(head) = lane.head {
            self.unready(id.caller, head);
        }
    }

    /// Claims ready lanes, in turn by caller, each caller's oldest heads first.
    pub fn claim(&mut self, most: usize, now: Instant) -> Vec<Taken> {
        self.wake_due(now);
        let share = (self.limits.concurrency * 3 / 4).max(1);
        let mut taken = Vec::new();
        let mut passed_over = 0;
        while taken.len() < most
            && let Some(id) = self.turns.pop_front()
        {
            let Some(caller) = self.callers.get_mut(&id) else { continue };
            if caller.ready.is_empty() {
                caller.in_turn = false;
                self.drop_idle_caller(id);
                continue;
            }
            if caller.in_flight >= share && !self.turns.is_empty() {
                self.turns.push_back(id);
                passed_over += 1;
                if passed_over >= self.turns.len() {
                    break;
                }
                continue;
            }
            passed_over = 0;
            let head = caller.ready.pop_front();
            caller.in_flight += 1;
            caller.in_turn = !caller.ready.is_empty();
            if caller.in_turn {
                self.turns.push_back(id);
            }
            taken.extend(head.and_then(|head| self.take(head)));
        }
        taken
    }

    fn take(&mut self, head: Seq) -> Option<Taken> {
        let first = self.entries.get(&head)?;
        let id = first.lane();
        let number = self.next_claim;
        self.next_claim += 1;
        self.set_state(id, LaneState::Claimed(number));
        let lane = self.lanes.get_mut(&id)?;
        lane.lingers_until = None;
        let members = self.members(head);
        let echo = self.rows.get(&id.row).and_then(|row| row.echo.as_ref());
        let echo = echo.filter(|echo| echo.seq < head).map(|echo| echo.text.clone());
        Some(Taken { lane: id, number, members, echo })
    }

    fn members(&self, head: Seq) -> Vec<(Seq, Entry)> {
        let mut members = Vec::new();
        let mut next = Some(head);
        while members.len() < MAX_MEMBERS
            && let Some(seq) = next
            && let Some(entry) = self.entries.get(&seq)
        {
            members.push((seq, *entry));
            next = entry.next;
        }
        members
    }

    /// Takes the oldest writes off a claimed lane. They are seen as queued until they are
    /// [forgotten](Queue::forget), which is once their ends are durable.
    ///
    /// # Errors
    ///
    /// [`Settled::Lost`] or [`Settled::NotOldest`]; nothing has changed then.
    pub fn end(
        &mut self,
        id: LaneId,
        number: u64,
        ended: &[Ended],
        final_only: bool,
    ) -> Result<Vec<Gone>, Settled> {
        let lane = self.lanes.get(&id).filter(|lane| lane.state == LaneState::Claimed(number));
        let head = lane.and_then(|lane| lane.head).ok_or(Settled::Lost)?;
        let members = self.members(head);
        let are_oldest = ended.len() <= members.len()
            && members.iter().zip(ended).all(|((seq, _), ended)| *seq == ended.seq);
        if !are_oldest {
            return Err(Settled::Lost);
        }
        if final_only && !self.are_oldest_of(id.caller, ended) {
            return Err(Settled::NotOldest);
        }
        Ok(ended.iter().filter_map(|ended| self.end_one(id, ended)).collect())
    }

    fn end_one(&mut self, id: LaneId, ended: &Ended) -> Option<Gone> {
        let gone = self.leave(ended.seq, ended.echo.as_deref())?;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.head = gone.entry.next;
        }
        Some(gone)
    }

    /// Whether nothing of the caller is queued that is older than the last of these, themselves aside.
    fn are_oldest_of(&self, caller: CallerId, ended: &[Ended]) -> bool {
        let writes = self.callers.get(&caller).map(|caller| &caller.writes);
        writes.is_some_and(|writes| {
            writes.len() >= ended.len() && writes.iter().zip(ended).all(|(seq, ended)| *seq == ended.seq)
        })
    }

    /// Gives a claimed lane back. A claim that isn't the lane's changes nothing.
    pub fn release(&mut self, id: LaneId, number: u64, wait: Wait, now: Instant) -> Mark {
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.state == LaneState::Claimed(number))
        else {
            return Mark::None;
        };
        lane.state = LaneState::Ready;
        let (head, is_empty, lingers_until) = (lane.head, lane.is_empty(), lane.lingers_until.take());
        if let Some(caller) = self.callers.get_mut(&id.caller) {
            caller.in_flight -= 1;
        }
        if wait == Wait::Parked && (!is_empty || self.parked < MAX_PARKED) {
            self.parked += 1;
            self.set_state(id, LaneState::Parked);
            self.drop_idle_caller(id.caller);
            return Mark::Parked(id);
        }
        if is_empty {
            self.lanes.remove(&id);
            self.drop_idle_caller(id.caller);
        }
        match head {
            Some(head) => self.wait(id, head, wait, lingers_until.filter(|until| *until > now)),
            None => Mark::None,
        }
    }

    pub(super) fn set_state(&mut self, id: LaneId, state: LaneState) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.state = state;
        }
        if let Some(caller) = self.callers.get_mut(&id.caller) {
            caller.view = None;
        }
    }

    pub(super) fn drop_idle_caller(&mut self, id: CallerId) {
        let idle = |caller: &super::Caller| {
            caller.admitted == 0 && caller.writes.is_empty() && caller.in_flight == 0 && !caller.in_turn
        };
        if self.callers.get(&id).is_some_and(idle) {
            self.callers.remove(&id);
        }
    }
}
