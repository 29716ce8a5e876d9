//! What is queued goes upstream, behind requests, for as long as the process lives.
//!
//! One task claims lanes, as many as may be in flight, and gives each to a task of its own
//! ([`lane`]). While upstream is away it sends probes alone.

mod credential;
mod end;
mod lane;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::postgrest::timestamp::Micros;
use crate::proxy::gateway::{Gateway, Settings};
use crate::store::journal::{Claim, LaneId, Seq, Wait};
use crate::write::pause::{Backoff, Pause};
use crate::write::queue::Queue;

/// How often it is looked for writes that wait for an operator and are too old.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How many of the oldest writes are looked at, and how many lanes let go at once.
const SWEPT: usize = 1000;
const LET_GO: usize = 50;
/// How long nothing is claimed after the journal could not be read.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);
/// How long a lane waits whose replay failed where it never should.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// Lanes whose failures in a row are remembered at most.
const MAX_FAILING: usize = 65_536;

/// Replays what is queued.
pub(super) struct Replayer {
    gateway: Arc<Gateway>,
    queue: Arc<Queue>,
    pause: Mutex<Pause<LaneId>>,
    /// How often in a row upstream could not be asked for a lane.
    failing: Mutex<HashMap<LaneId, u32>>,
}

impl Replayer {
    pub(super) fn new(gateway: Arc<Gateway>, queue: Arc<Queue>) -> Arc<Self> {
        let pause = Mutex::new(Pause::new(backoff(&gateway.settings())));
        Arc::new(Self { gateway, queue, pause, failing: Mutex::default() })
    }

    /// Replays until told to stop, then finishes what is in flight.
    pub(super) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut lanes = JoinSet::new();
        // What a task holds, should it end without giving it back.
        let mut held = HashMap::new();
        let mut changed = self.queue.journal.changed();
        let mut swept = Instant::now();
        while !*stop.borrow_and_update() {
            changed.mark_unchanged();
            if swept.elapsed() >= SWEEP_EVERY {
                self.let_old_ones_end().await;
                swept = Instant::now();
            }
            let claimed = self.claim(lanes.len()).await;
            let is_full = lanes.len() + claimed.len() >= self.concurrency();
            for claim in claimed {
                let lane = Claim { members: Vec::new(), echo: None, ..claim };
                let task = lanes.spawn(self.clone().replay(claim));
                held.insert(task.id(), lane);
            }
            let due = self.next_due();
            tokio::select! {
                _ = stop.changed() => {}
                Some(ended) = lanes.join_next_with_id() => self.ended(ended, &mut held).await,
                Ok(()) = changed.changed(), if !is_full => {}
                () = tokio::time::sleep_until(due.into()), if !is_full => {}
            }
        }
        while lanes.join_next().await.is_some() {}
    }

    /// Lanes that wait for an operator are let go once their writes are too old: these end then.
    async fn let_old_ones_end(&self) {
        let max_wait = self.gateway.settings().config.queue.max_wait;
        let Some(horizon) = SystemTime::now().checked_sub(max_wait).map(Micros::of) else { return };
        let oldest = self.queue.journal.queued(Seq(0), SWEPT);
        let too_old = oldest.iter().filter(|write| write.lane_is_stuck && write.accepted_at < horizon);
        let lanes: BTreeSet<_> =
            too_old.map(|write| LaneId { row: write.row, caller: write.caller }).take(LET_GO).collect();
        for lane in lanes {
            if let Err(error) = self.queue.journal.unpark(lane).await {
                tracing::error!(%error, "a parked lane can't be let go");
                return;
            }
        }
    }

    /// A task has ended. One that failed has not given its lane back.
    async fn ended(&self, ended: Result<(Id, ()), JoinError>, held: &mut HashMap<Id, Claim>) {
        match ended {
            Ok((task, ())) => drop(held.remove(&task)),
            Err(error) => {
                tracing::error!(%error, "a replay failed, it is tried again");
                if let Some(claim) = held.remove(&error.id()) {
                    self.pause.lock().withdrawn(claim.lane);
                    self.release(claim, Wait::Until(Instant::now() + AFTER_FAILURE)).await;
                }
            }
        }
    }

    fn concurrency(&self) -> usize {
        self.gateway.peek().config.queue.concurrency
    }

    /// The lanes whose turn it is, `busy` others being in flight.
    async fn claim(&self, busy: usize) -> Vec<Claim> {
        let now = Instant::now();
        let is_paused = self.pause.lock().is_paused();
        if is_paused && self.pause.lock().next_probe().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let most = self.concurrency().saturating_sub(busy);
        if most == 0 {
            return Vec::new();
        }
        match self.queue.journal.claim(most, now).await {
            Ok(claims) if is_paused => self.probe(claims).await,
            Ok(claims) => claims,
            Err(error) => {
                tracing::error!(%error, "queued writes can't be read");
                tokio::time::sleep(JOURNAL_PAUSE).await;
                Vec::new()
            }
        }
    }

    /// The one that probes; the others are given back.
    async fn probe(&self, claims: Vec<Claim>) -> Vec<Claim> {
        let ready: Vec<LaneId> = claims.iter().map(|claim| claim.lane).collect();
        let chosen = self.pause.lock().probe(&ready, Instant::now());
        let mut probing = Vec::new();
        for claim in claims {
            if chosen == Some(claim.lane) {
                probing.push(claim);
            } else {
                self.release(claim, Wait::Now).await;
            }
        }
        probing
    }

    /// When there may be something to do that nobody tells of.
    fn next_due(&self) -> Instant {
        let now = Instant::now();
        let pause = self.pause.lock();
        let due = match pause.next_probe().filter(|at| *at > now) {
            Some(next_probe) => Some(next_probe),
            None if pause.is_paused() && pause.next_probe().is_none() => None,
            // What could probe is not ready yet.
            None => self.queue.journal.next_due(),
        };
        due.unwrap_or(now + SWEEP_EVERY).min(now + SWEEP_EVERY)
    }

    async fn release(&self, claim: Claim, wait: Wait) {
        if let Err(error) = self.queue.journal.release(claim, wait).await {
            tracing::error!(%error, "what a queued write waits for is not durable");
        }
    }

    /// Upstream answered a lane's request, whatever it said.
    fn upstream_answered(&self, lane: LaneId) {
        self.failing.lock().remove(&lane);
        if self.pause.lock().answered() {
            tracing::info!("upstream answers again, replays go on");
            self.queue.journal.set_paused(false);
        }
    }

    /// Upstream could not be asked. When to try again.
    fn upstream_failed(&self, lane: LaneId) -> Instant {
        let now = Instant::now();
        if self.pause.lock().failed(lane, now, chance()) {
            tracing::warn!("upstream can't be reached, replays pause");
            self.queue.journal.set_paused(true);
        }
        let mut failing = self.failing.lock();
        if failing.len() >= MAX_FAILING {
            failing.clear();
        }
        let failures = failing.entry(lane).or_default();
        *failures = failures.saturating_add(1);
        now + backoff(&self.gateway.settings()).wait(*failures, chance())
    }
}

fn backoff(settings: &Settings) -> Backoff {
    let queue = &settings.config.queue;
    Backoff { first: queue.backoff_first, max: queue.backoff_max }
}

/// Any number, each as likely as another.
fn chance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
