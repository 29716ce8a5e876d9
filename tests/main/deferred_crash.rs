//! Deferred writes under crashes drawn at random: fifty users write and read
//! five hundred rows through Sluice, others write half of the rows past it, and
//! meanwhile Sluice, PostgREST and PostgreSQL are killed, frozen and cut off.
//!
//! Each write has a number of its own, and the database notes every version of
//! every row, so it can be told afterwards what became of each.
//!
//! `KILLS` is how often something happens, `SEED` brings a sequence back as far
//! as threads allow.

mod checks;
mod faults;
mod generator;
mod model;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::faults::Counts;
use self::generator::{Client, Load};
use self::model::{Answer, End, History, Table};
use crate::support::backend::mortal::Mortal;
use crate::support::faulty::Faulty;
use crate::support::http::Request;
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::service_key;
use crate::support::{Random, story};

const DEFAULT_KILLS: u64 = 10;
const CLIENTS: usize = 20;

/// What a run may take, and each thing that happens in it.
const LIMIT: Duration = Duration::from_secs(120);
const LIMIT_EACH: Duration = Duration::from_secs(20);
/// How long the queue may take to run empty when all is well again.
const DRAINED: Duration = Duration::from_secs(60);

#[test]
fn crashes_lose_double_reorder_and_show_nothing() {
    let seed = story::seed();
    let kills = story::number("KILLS").unwrap_or(DEFAULT_KILLS);
    eprintln!("deferred writes, crashes: SEED={seed} KILLS={kills}");
    let deadline = Instant::now() + LIMIT + LIMIT_EACH * u32::try_from(kills).unwrap();
    let mut random = Random::new(seed);
    let world = World::start();
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&world.load.stop);
        for _ in 0..CLIENTS {
            let client = Client::new(&world.load, Random::new(random.next()));
            scope.spawn(|| client.use_sluice());
        }
        let other = Client::new(&world.load, Random::new(random.next()));
        scope.spawn(|| other.write_past_sluice());
        for kind in faults::drawn(kills, &mut random) {
            world.suffer(kind, &mut counts, &mut random);
            assert!(Instant::now() < deadline, "SEED={seed}: the run takes too long");
        }
        world.work();
        drop(stop);
    });
    let history = world.end(seed);
    let mut wrong = std::mem::take(&mut *world.load.wrong.lock().unwrap());
    wrong.extend(checks::of_writes(&history));
    wrong.extend(checks::of_reads(&history));
    report(&history, &counts);
    if !wrong.is_empty() {
        let file = std::env::temp_dir().join(format!("sluice-crashes-{seed}.log"));
        std::fs::write(&file, &*world.logs.lock().unwrap()).unwrap();
        eprintln!("what Sluice logged is in {}", file.display());
    }
    let first = wrong.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "SEED={seed}: {} times, first:\n{first}", wrong.len());
    enough(&history);
}

/// Says what has happened.
fn report(history: &History, counts: &Counts) {
    let answered = |wanted: fn(&Answer) -> bool| {
        history.writes.values().filter(|write| write.user.is_some() && wanted(&write.answer)).count()
    };
    let ended = |state: &str| history.ends.values().filter(|end| end.state == state).count();
    let queued = answered(|answer| matches!(answer, Answer::Queued { .. }));
    let (applied, superseded, rejected) = (ended("applied"), ended("superseded"), ended("rejected"));
    eprintln!(
        "deferred writes, crashes: {} writes, {queued} of them 202 ({applied} applied, {superseded} superseded, \
         {rejected} rejected), {} forwarded, {} refused, {} held back, {} unknown; {} past Sluice; {} versions",
        answered(|_| true),
        answered(|answer| *answer == Answer::Done),
        answered(|answer| *answer == Answer::Refused),
        answered(|answer| *answer == Answer::Held),
        answered(|answer| *answer == Answer::Unknown),
        history.writes.values().filter(|write| write.user.is_none()).count(),
        history.log.values().map(Vec::len).sum::<usize>(),
    );
    let lists = history.reads.iter().filter(|read| read.is_list).count();
    let uncorrected = history.reads.iter().filter(|read| read.is_uncorrected).count();
    eprintln!(
        "deferred writes, crashes: {} reads, {lists} of them lists, {uncorrected} of one row without what was queued; \
         {counts}{} ends seen meanwhile",
        history.reads.len(),
        history.seen_ends.len(),
    );
}

/// Panics if the run proves little.
fn enough(history: &History) {
    let ended = |state: &str| history.ends.values().filter(|end| end.state == state).count();
    assert!(
        ended("applied") > 100 && ended("superseded") > 0 && ended("rejected") > 0,
        "the load proves little"
    );
    let uncorrected = history.reads.iter().filter(|read| read.is_uncorrected).count();
    assert!(uncorrected * 20 < history.reads.len(), "{uncorrected} reads lack what was queued");
}

/// Ends the load, a panic's way out included.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All servers, and the load on them.
struct World {
    load: Load,
    sluice: Mutex<Option<Sluice>>,
    setup: Setup,
    /// What each Sluice that was killed had logged.
    logs: Mutex<String>,
    upstream: Faulty,
    servers: Mortal,
}

impl World {
    fn start() -> Self {
        let servers = Mortal::start("crash", "crash.sql");
        let upstream = Faulty::in_front_of(&servers.url());
        let timeouts = "connect_timeout = \"1s\"\nresponse_timeout = \"2s\"\nforward_timeout = \"3s\"";
        let queue = "backoff = { first = \"20ms\", max = \"300ms\" }\nmax_attempts = 1000\nlinger = \"10ms\"";
        let owner = "owner = { column = \"owner\", claim = \"sub\" }";
        let setup = Setup::new(&upstream.url())
            .with_schema()
            .section("upstream", timeouts)
            .queue(queue)
            .write("table = \"own\"", "ttl = \"1h\"\nscope = \"user\"", owner)
            .write("table = \"shared\"", "ttl = \"5s\"\nscope = \"role\"", "");
        let sluice = setup.start();
        let load = Load::new(sluice.address(), &servers.address());
        let (sluice, logs) = (Mutex::new(Some(sluice)), Mutex::default());
        Self { load, sluice, setup, logs, upstream, servers }
    }

    fn kill_sluice(&self) {
        if let Some(sluice) = self.sluice.lock().unwrap().take() {
            *self.logs.lock().unwrap() += &format!("{}\n--- killed\n", sluice.log());
            sluice.kill();
        }
    }

    fn start_sluice(&self) {
        let sluice = self.setup.start();
        *self.load.sluice.write().unwrap() = sluice.address().to_owned();
        *self.sluice.lock().unwrap() = Some(sluice);
    }

    fn signal_sluice(&self, signal: &str) {
        if let Some(sluice) = self.sluice.lock().unwrap().as_ref() {
            sluice.process().signal(signal);
        }
    }

    /// Waits until all has ended, has Sluice crash once more, and gathers what there is to know.
    fn end(&self, seed: u64) -> History {
        let begun = Instant::now();
        while self.depth() != Some(0.0) {
            assert!(
                begun.elapsed() < DRAINED,
                "SEED={seed}: {:?} writes are left in the queue",
                self.depth()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut history = std::mem::take(&mut *self.load.history.lock().unwrap());
        let before = self.ends(&history);
        self.kill_sluice();
        self.start_sluice();
        history.ends = self.ends(&history);
        history.seen_ends.extend(before);
        let all = |target: &str| -> Vec<Value> {
            let request = Request::new(&self.servers.address(), "GET", &format!("/rest/v1/{target}"));
            let answer = request.signed_in(service_key()).send().expect(200);
            serde_json::from_slice(&answer.body).unwrap()
        };
        history.read_log(&all("versions_log?order=number"));
        for table in [Table::Own, Table::Shared] {
            history.read_table(table, &all(table.name()));
        }
        history
    }

    fn depth(&self) -> Option<f64> {
        Some(self.sluice.lock().unwrap().as_ref()?.metric("sluice_queue_depth"))
    }

    /// What the status endpoint says of each 202.
    fn ends(&self, history: &History) -> BTreeMap<u64, End> {
        let queued = history.writes.values().filter_map(|write| match (&write.answer, write.user) {
            (Answer::Queued { id, .. }, Some(user)) => Some((write.number, user, id)),
            _ => None,
        });
        queued
            .filter_map(|(number, user, id)| Some((number, End::of(&self.load.status(user, id)?)?)))
            .collect()
    }
}
