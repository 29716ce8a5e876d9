//! What happens meanwhile: every server of the test is killed, frozen or cut off.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::World;
use crate::support::Random;
use crate::support::faulty::{Act, Gate};

/// So many writes are queued before the next fault, unless that takes too long.
const WORK: u64 = 40;
const WORK_AT_MOST: Duration = Duration::from_secs(8);

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    SluiceKilled,
    SluiceFrozen,
    PostgrestKilled,
    PostgrestFrozen,
    PostgresKilled,
    PostgresFrozen,
    /// No connection to upstream, the open ones closed.
    Cut,
    /// Requests to upstream wait, and arrive late.
    Hung,
    /// Upstream takes writes and their answers are lost, or they are lost before.
    Lost,
}

/// In each ten of them.
const KINDS: [Kind; 10] = [
    Kind::SluiceKilled,
    Kind::SluiceKilled,
    Kind::SluiceFrozen,
    Kind::PostgrestKilled,
    Kind::PostgrestFrozen,
    Kind::PostgresKilled,
    Kind::PostgresFrozen,
    Kind::Cut,
    Kind::Hung,
    Kind::Lost,
];

/// So many of them, in any order.
pub fn drawn(count: u64, random: &mut Random) -> Vec<Kind> {
    let mut left = Vec::new();
    let mut drawn = Vec::new();
    for _ in 0..count {
        if left.is_empty() {
            left = KINDS.to_vec();
        }
        drawn.push(left.swap_remove(random.below(left.len() as u64) as usize));
    }
    drawn
}

/// How often what happened.
#[derive(Default)]
pub struct Counts(BTreeMap<Kind, u64>);

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(kind, count)| write!(f, "{count} × {kind:?}, "))
    }
}

impl World {
    /// One fault, from its beginning until everything runs again.
    pub fn suffer(&self, kind: Kind, counts: &mut Counts, random: &mut Random) {
        let some = |random: &mut Random, most: u64| Duration::from_millis(random.below(most));
        self.work();
        std::thread::sleep(some(random, 600));
        let lasting = Duration::from_millis(100) + some(random, 1_500);
        // While something else is amiss, Sluice dies as well.
        let twice = kind != Kind::SluiceKilled && random.chance(25);
        eprintln!(
            "deferred writes, crashes: {kind:?} for {lasting:?}{}",
            if twice { ", SluiceKilled" } else { "" }
        );
        *counts.0.entry(kind).or_default() += 1;
        let gate = Gate::new();
        if random.chance(30) {
            self.lose(random);
        }
        self.strike(kind, &gate, random);
        if twice {
            *counts.0.entry(Kind::SluiceKilled).or_default() += 1;
            std::thread::sleep(lasting / 2);
            self.kill_sluice();
        }
        std::thread::sleep(lasting);
        self.heal(kind, &gate);
        if twice || kind == Kind::SluiceKilled {
            self.start_sluice();
        }
    }

    /// Lets some writes be queued, however slow the machine is.
    pub fn work(&self) {
        let before = self.load.queued.load(Ordering::Relaxed);
        let until = Instant::now() + WORK_AT_MOST;
        while self.load.queued.load(Ordering::Relaxed) < before + WORK && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn strike(&self, kind: Kind, gate: &Gate, random: &mut Random) {
        match kind {
            Kind::SluiceKilled => self.kill_sluice(),
            Kind::SluiceFrozen => self.signal_sluice("STOP"),
            Kind::PostgrestKilled => self.servers.kill_postgrest(),
            Kind::PostgrestFrozen => self.servers.freeze_postgrest(),
            Kind::PostgresKilled => self.servers.kill_postgres(),
            Kind::PostgresFrozen => self.servers.freeze_postgres(),
            Kind::Cut => self.upstream.go_down(),
            Kind::Hung => {
                self.upstream.always("*", Act::Hold(gate.clone(), Box::new(Act::Pass)));
            }
            Kind::Lost => self.lose(random),
        }
    }

    fn heal(&self, kind: Kind, gate: &Gate) {
        match kind {
            Kind::SluiceKilled | Kind::Lost => {}
            Kind::SluiceFrozen => self.signal_sluice("CONT"),
            Kind::PostgrestKilled => self.servers.restart_postgrest(),
            Kind::PostgrestFrozen => self.servers.thaw_postgrest(),
            Kind::PostgresKilled => {
                self.servers.restart_postgres();
                // It would wait for longer and longer before it connects again.
                self.servers.restart_postgrest();
            }
            Kind::PostgresFrozen => self.servers.thaw_postgres(),
            Kind::Cut => self.upstream.come_back(),
            Kind::Hung => {
                self.upstream.always("*", Act::Pass);
                gate.open();
            }
        }
    }

    /// The next few writes are lost, or done and not answered.
    fn lose(&self, random: &mut Random) {
        for pattern in ["PATCH", "POST", "PUT", "DELETE"] {
            for table in ["own", "shared"] {
                for _ in 0..2 + random.below(8) {
                    let act = if random.chance(80) { Act::PassThenDrop } else { Act::Drop };
                    self.upstream.once(&format!("{pattern} /rest/v1/{table}"), act);
                }
            }
        }
    }
}
