//! The whole journal against a plain model, by random interleavings, over crashes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;

use super::{
    AppendError, Appended, CallerId, Claim, Draft, EndState, Ended, Journal, LaneId, Limits, RowId, Seq,
    Settled, State, TableId, Wait, WriteId,
};
use crate::postgrest::timestamp::Micros;

/// What the journals under test have to be opened with.
pub(super) const LIMITS: Limits = Limits { max_writes: 12, max_writes_per_caller: 6, concurrency: 4 };
const STATES: [EndState; 3] = [EndState::Applied, EndState::Superseded, EndState::Rejected];

/// One step. Numbers choose among what is there.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Append {
        caller: u8,
        row: u8,
        knows: bool,
        alone: bool,
        lingers: bool,
        floor: Option<i64>,
    },
    Claim {
        most: usize,
        later: bool,
    },
    Settle {
        which: usize,
        members: usize,
        state: usize,
        final_only: bool,
    },
    Release {
        which: usize,
        wait: usize,
    },
    Unpark {
        caller: u8,
        row: u8,
    },
    /// All waits are over for one lane.
    Wake,
    /// Moves the system's clock, also back.
    Clock(i64),
    Restart(usize),
    /// As if the machine had lost its power.
    Crash(usize),
}

/// A journal as one or more nodes see it, which can be ended and begun anew.
#[async_trait]
pub(super) trait Bench {
    /// The nodes; none but one of a journal that has no others.
    fn nodes(&self) -> Vec<&dyn Journal>;

    /// Returns when what one node has done is known to all.
    async fn agree(&self);

    /// Closes a node and opens it again.
    async fn restart(&mut self, node: usize);

    /// Lets a node die and opens it again; its claims are nobody's then.
    async fn crash(&mut self, node: usize);

    /// What the clock says, in µs.
    fn now(&self) -> i64;

    /// Moves the clock, or what is remembered of it, if that can be done.
    fn turn_clock(&mut self, by: i64);
}

pub(super) fn draft(id: u128, caller: u8, row: u8) -> Draft {
    Draft {
        id: WriteId(id),
        caller: CallerId([caller; 16]),
        table: TableId([7; 16]),
        row: RowId([row; 16]),
        is_insert: false,
        floor: None,
        after: None,
        alone: false,
        linger: Duration::ZERO,
        label: Bytes::from(format!("label {id}")),
        record: Bytes::from(format!("record {id}")),
    }
}

pub(super) fn end(seq: Seq, state: EndState) -> Ended {
    let reason = (state == EndState::Rejected).then(|| "too_old".to_owned());
    let detail = if state == EndState::Applied { Bytes::new() } else { Bytes::from_static(b"{}") };
    Ended { seq, state, reason, detail, echo: None, attempts: 2 }
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..3u8, 0..3u8, prop::bool::weighted(0.9), prop::bool::weighted(0.2), any::<bool>())
        .prop_flat_map(|(caller, row, knows, alone, lingers)| {
            prop::option::weighted(0.3, -5_000..5_000i64).prop_map(move |floor| Step::Append {
                caller,
                row,
                knows,
                alone,
                lingers,
                floor,
            })
        });
    let settle = (any::<usize>(), 1..3usize, 0..3usize, any::<bool>())
        .prop_map(|(which, members, state, final_only)| Step::Settle { which, members, state, final_only });
    let step = prop_oneof![
        8 => append,
        4 => (1..4usize, any::<bool>()).prop_map(|(most, later)| Step::Claim { most, later }),
        4 => settle,
        4 => (any::<usize>(), 0..6usize).prop_map(|(which, wait)| Step::Release { which, wait }),
        1 => (0..3u8, 0..3u8).prop_map(|(caller, row)| Step::Unpark { caller, row }),
        1 => Just(Step::Wake),
        2 => (-2_000..2_000i64).prop_map(Step::Clock),
        1 => any::<usize>().prop_map(Step::Restart),
        1 => any::<usize>().prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Debug, Clone, PartialEq)]
struct Write {
    seq: Seq,
    id: WriteId,
    lane: LaneId,
    updated_at: Micros,
}

struct Held {
    claim: Claim,
    /// The node that has it.
    by: usize,
    /// How many of its members have ended.
    ended: usize,
    /// Whether it is from before its node's restart.
    stale: bool,
}

/// The journal and what it should be like.
struct World<B> {
    bench: B,
    /// Which node's turn it is.
    turn: usize,
    queued: Vec<Write>,
    ended: HashMap<WriteId, EndState>,
    held: Vec<Held>,
    parked: HashSet<LaneId>,
    last_seq: Seq,
    last_accepted: Micros,
    last_given: HashMap<RowId, Micros>,
    next_id: u128,
}

impl<B: Bench> World<B> {
    fn new(bench: B) -> Self {
        Self {
            bench,
            turn: 0,
            queued: Vec::new(),
            ended: HashMap::new(),
            held: Vec::new(),
            parked: HashSet::new(),
            last_seq: Seq(0),
            last_accepted: Micros(0),
            last_given: HashMap::new(),
            next_id: 0,
        }
    }

    /// The nodes take turns.
    fn journal(&self) -> &dyn Journal {
        let nodes = self.bench.nodes();
        nodes[self.turn % nodes.len()]
    }

    fn node(&self, which: usize) -> usize {
        which % self.bench.nodes().len()
    }

    fn of_lane(&self, lane: LaneId) -> Vec<Write> {
        self.queued.iter().filter(|write| write.lane == lane).cloned().collect()
    }

    async fn step(&mut self, step: Step) {
        self.turn = self.node(self.turn + 1);
        match step {
            Step::Append { caller, row, knows, alone, lingers, floor } => {
                self.append(caller, row, knows, alone, lingers, floor).await;
            }
            Step::Claim { most, later } => {
                let wait = if later { Duration::from_secs(7200) } else { Duration::ZERO };
                self.claim(most, wait).await;
            }
            Step::Settle { which, members, state, final_only } => {
                if let Some(which) = which.checked_rem(self.held.len()) {
                    self.settle(which, members, STATES[state], final_only).await;
                }
            }
            Step::Release { which, wait } => {
                if let Some(which) = which.checked_rem(self.held.len()) {
                    self.release(which, wait).await;
                }
            }
            Step::Unpark { caller, row } => {
                let lane = LaneId { row: RowId([row; 16]), caller: CallerId([caller; 16]) };
                let was_parked = self.parked.remove(&lane);
                assert_eq!(self.journal().unpark(lane).await, Ok(was_parked));
            }
            Step::Wake => {
                self.journal().wake_token([7; 16]);
                self.journal().end_linger(&self.queued.iter().map(|write| write.seq).collect::<Vec<_>>());
            }
            Step::Clock(by) => self.bench.turn_clock(by),
            Step::Restart(which) => {
                let node = self.node(which);
                self.bench.restart(node).await;
                self.reopened(node);
            }
            Step::Crash(which) => {
                let node = self.node(which);
                self.bench.crash(node).await;
                self.reopened(node);
            }
        }
        self.bench.agree().await;
        self.compare();
    }

    fn reopened(&mut self, node: usize) {
        for held in self.held.iter_mut().filter(|held| held.by == node) {
            held.stale = true;
        }
    }

    async fn append(
        &mut self,
        caller: u8,
        row: u8,
        knows: bool,
        alone: bool,
        lingers: bool,
        floor: Option<i64>,
    ) {
        self.next_id += 1;
        let drafted = draft(self.next_id, caller, row);
        let lane = LaneId { row: drafted.row, caller: drafted.caller };
        let last = self.of_lane(lane).last().map(|write| write.seq);
        let floor = floor.map(|by| Micros(self.bench.now() + by));
        let linger = Duration::from_secs(if lingers { 3600 } else { 0 });
        let after = if knows { last } else { None };
        let appended = self.journal().append(Draft { after, alone, linger, floor, ..drafted }).await;

        let refusal = if last != after {
            Some(AppendError::Moved)
        } else if alone && self.queued.iter().any(|write| write.lane.row == lane.row) {
            Some(AppendError::RowBusy)
        } else if self.queued.len() == LIMITS.max_writes {
            Some(AppendError::Full)
        } else {
            let of_caller = self.queued.iter().filter(|write| write.lane.caller == lane.caller).count();
            (of_caller == LIMITS.max_writes_per_caller).then_some(AppendError::CallerFull)
        };
        assert_eq!(appended.as_ref().err(), refusal.as_ref());
        let Ok(Appended { seq, updated_at, accepted_at }) = appended else { return };
        assert!(seq > self.last_seq && accepted_at > self.last_accepted);
        assert!(updated_at >= floor.unwrap_or(accepted_at) && updated_at >= accepted_at);
        let last_given = self.last_given.insert(lane.row, updated_at);
        assert!(last_given.is_none_or(|last| last < updated_at), "{last_given:?}, then {updated_at:?}");
        (self.last_seq, self.last_accepted) = (seq, accepted_at);
        self.queued.push(Write { seq, id: WriteId(self.next_id), lane, updated_at });
    }

    async fn claim(&mut self, most: usize, wait: Duration) {
        let claims = self.journal().claim(most, Instant::now() + wait).await.unwrap();
        assert!(claims.len() <= most);
        for claim in claims {
            let taken = |held: &Held| !held.stale && held.claim.lane == claim.lane;
            assert!(!self.held.iter().any(taken), "claimed twice");
            assert!(!self.parked.contains(&claim.lane));
            let members: Vec<_> =
                claim.members.iter().map(|member| (member.seq, member.updated_at)).collect();
            let expected: Vec<_> =
                self.of_lane(claim.lane).iter().map(|write| (write.seq, write.updated_at)).collect();
            assert_eq!(members, expected);
            for member in &claim.members {
                assert_eq!(member.record, format!("record {}", member.id.0));
            }
            self.held.push(Held { claim, by: self.turn, ended: 0, stale: false });
        }
    }

    async fn settle(&mut self, which: usize, members: usize, state: EndState, final_only: bool) {
        let held = &self.held[which];
        let ending: Vec<_> = held.claim.members.iter().skip(held.ended).take(members).collect();
        let Some(last) = ending.last().map(|member| member.seq) else { return };
        let ends = ending.iter().map(|member| end(member.seq, state)).collect();
        let ids: Vec<_> = ending.iter().map(|member| member.id).collect();
        let settled = self.journal().settle(&held.claim, ends, final_only).await.unwrap();

        let lane = held.claim.lane;
        let older =
            |write: &Write| write.lane.caller == lane.caller && write.lane != lane && write.seq < last;
        let expected = if held.stale {
            Settled::Lost
        } else if final_only && self.queued.iter().any(older) {
            Settled::NotOldest
        } else {
            Settled::Done
        };
        assert_eq!(settled, expected);
        if settled == Settled::Done {
            self.held[which].ended += ids.len();
            self.queued.retain(|write| !ids.contains(&write.id));
            for id in ids {
                assert_eq!(self.ended.insert(id, state), None, "ended twice");
            }
        }
    }

    async fn release(&mut self, which: usize, wait: usize) {
        let held = self.held.swap_remove(which);
        let later = Instant::now() + Duration::from_secs(3600);
        let wait = match wait {
            0 => Wait::Now,
            1 => Wait::Until(later),
            2 => Wait::Counted(later),
            3 => Wait::Older,
            4 => Wait::Token { rights: [7; 16], until: later },
            _ => Wait::Parked,
        };
        if wait == Wait::Parked && !held.stale {
            self.parked.insert(held.claim.lane);
        }
        // Its holder alone knows that it has it.
        self.bench.nodes()[held.by].release(held.claim, wait).await.unwrap();
        self.bench.agree().await;
    }

    fn compare(&self) {
        for journal in self.bench.nodes() {
            self.compare_with(journal);
        }
    }

    fn compare_with(&self, journal: &dyn Journal) {
        assert_eq!(journal.depth().writes, self.queued.len() as u64);
        for caller in (0..3).map(|caller| CallerId([caller; 16])) {
            let snapshot = journal.snapshot(caller);
            let seen: Vec<_> = snapshot.iter().map(|write| (write.seq, write.id, write.updated_at)).collect();
            let of_caller = self.queued.iter().filter(|write| write.lane.caller == caller);
            assert_eq!(
                seen,
                of_caller.map(|write| (write.seq, write.id, write.updated_at)).collect::<Vec<_>>()
            );
        }
        for row in (0..3).map(|row| RowId([row; 16])) {
            let pending = self.queued.iter().any(|write| write.lane.row == row);
            assert_eq!(journal.row_is_pending(row), pending);
        }
    }

    /// Nothing is stuck for good and nothing was lost: all of it can be brought to its end.
    async fn finish(mut self) {
        while !self.held.is_empty() {
            self.release(0, 0).await;
        }
        for lane in self.parked.drain() {
            assert_eq!(self.bench.nodes()[0].unpark(lane).await, Ok(true));
        }
        while !self.queued.is_empty() {
            self.bench.agree().await;
            self.claim(100, Duration::from_secs(7200)).await;
            assert!(!self.held.is_empty(), "nothing is ready, and {} are queued", self.queued.len());
            while !self.held.is_empty() {
                self.settle(0, 100, EndState::Applied, false).await;
                self.release(0, 0).await;
            }
        }
        self.bench.agree().await;
        self.compare();
        for (id, state) in &self.ended {
            let status = self.journal().find(*id).await.unwrap().expect("kept for a day");
            assert_eq!(status.state, State::Ended(*state));
        }
    }
}

/// How many random interleavings are tried.
pub(super) fn cases() -> ProptestConfig {
    let cases = std::env::var("SLUICE_MODEL_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(64), failure_persistence: None, ..ProptestConfig::default() }
}

/// Takes the steps, compares after each, and brings all to its end.
pub(super) async fn run(bench: impl Bench, steps: Vec<Step>) {
    let mut world = World::new(bench);
    for step in steps {
        world.step(step).await;
    }
    world.finish().await;
}
