//! A Redis that hangs, is gone, slow, full, read-only or forgetful: it costs
//! some milliseconds, and no answer is wrong, then or afterwards.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend;
use crate::support::eventually;
use crate::support::http::{Request, Response};
use crate::support::redis::RedisServer;
use crate::support::relay::Relay;
use crate::support::sluice::{Setup, Sluice};
use crate::support::unique;

/// Rows that both nodes have in their caches when the fault strikes.
const ROWS: usize = 12;

/// What a request may take longer than upstream alone needs.
const EXTRA: Duration = Duration::from_millis(100);

/// And what it may take longer because other tests have the processors.
const SLACK: Duration = Duration::from_millis(60);

/// How long after a write was answered a node that is not the writer's may show
/// what was before: 1 s is promised, the rest is for a busy machine.
const LAG: Duration = Duration::from_secs(2);

/// How long the news of a change may be on its way between nodes that are well.
const SPREAD: Duration = Duration::from_millis(100);

/// Most lines that a node may log about one fault, its end included.
const MOST_LINES: usize = 12;

/// The metric that counts operations by what came of them.
const OPERATIONS: &str = "sluice_store_operations_total{";

/// What a fault means for a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It says that it has no store while the fault lasts.
    Lost,
    /// It doesn't say so, or hardly ever: a busy machine may be too slow for once.
    Kept,
    /// It may.
    Either,
}

/// Something that goes wrong, and what is expected then.
struct Fault {
    name: &'static str,
    /// More arguments of the server.
    server: &'static [&'static str],
    strike: fn(&Scene),
    /// How long it is watched. Where it ends by itself that is later: a node that
    /// is back may not know yet what one that isn't has written.
    lasts: Duration,
    heal: fn(&Scene),
    /// For the node that writes, and for the other one.
    store: [Use; 2],
    /// Whether a write through the first node may stay unknown to the other one until the end.
    silent: bool,
    /// Whether operations fail, and are counted.
    fails: bool,
    /// What the log says of a lost store.
    says: &'static str,
}

impl Fault {
    /// One that makes the store useless for both nodes.
    fn of(name: &'static str, strike: fn(&Scene), heal: fn(&Scene)) -> Self {
        let lasts = Duration::from_secs(3);
        let store = [Use::Lost; 2];
        Self { name, server: &[], strike, lasts, heal, store, silent: false, fails: true, says: "" }
    }

    /// One that is over at once and leaves the store in use.
    fn passing(name: &'static str, strike: fn(&Scene)) -> Self {
        let lasts = Duration::from_millis(1500);
        Self { lasts, store: [Use::Kept; 2], fails: false, ..Self::of(name, strike, |_| {}) }
    }
}

/// Two nodes over one Redis, each behind a network of its own.
struct Scene {
    redis: RedisServer,
    relays: [Relay; 2],
    nodes: [Sluice; 2],
    rows: Vec<u64>,
}

impl Scene {
    fn start(server: &[&str]) -> Self {
        let redis = RedisServer::start(server);
        let relays = [(); 2].map(|()| Relay::start(&redis.address()));
        let nodes = relays.each_ref().map(|relay| start_node(&relay.address()));
        nodes.iter().for_each(Sluice::wait_for_store);
        let rows: Vec<u64> = (0..ROWS).map(|_| unique()).collect();
        let values: Vec<String> = rows.iter().map(|row| format!("({row}, 'before')")).collect();
        backend::shared().sql(&format!("insert into users (id, name) values {}", values.join(", ")));
        let scene = Self { redis, relays, nodes, rows };
        scene.hit_everywhere();
        scene
    }

    /// Reads every row through every node until it comes from the cache.
    #[track_caller]
    fn hit_everywhere(&self) {
        for node in &self.nodes {
            for row in &self.rows {
                eventually("the entry is used", || ask(node, &warm(*row)).expect(200).is_hit());
            }
        }
    }

    /// Waits until both nodes have the store again and have told each other what they had to.
    #[track_caller]
    fn recover(&self) {
        self.nodes.iter().for_each(Sluice::wait_for_store);
        std::thread::sleep(SPREAD);
    }

    fn command(&self, words: &[&str]) {
        self.redis.client().command(words);
    }

    fn write(&self, node: usize, row: u64, name: &str) -> Response {
        let request = self.nodes[node].request("PATCH", &format!("/rest/v1/users?id=eq.{row}"));
        request.anonymous().json(&json!({ "name": name })).send()
    }

    /// Every row is what upstream says, through both nodes.
    #[track_caller]
    fn all_is_true(&self, when: &str) {
        for row in &self.rows {
            let truth = direct(&warm(*row));
            for (number, node) in self.nodes.iter().enumerate() {
                let answer = ask(node, &warm(*row));
                let how = answer.cache_status();
                assert_eq!(
                    (answer.status, answer.text()),
                    (200, truth.text()),
                    "{when}, node {number}: {how}"
                );
            }
        }
    }
}

fn start_node(redis: &str) -> Sluice {
    let store = format!("kind = \"redis\"\nurl = \"redis://{redis}/0\"\nnamespace = \"faults\"");
    Setup::new(&backend::shared().url()).section("store", &store).start()
}

fn warm(row: u64) -> String {
    format!("/rest/v1/users?id=eq.{row}&select=id,name")
}

/// The same in words that nobody has used before: a miss.
fn cold(row: u64) -> String {
    format!("{}&limit={}", warm(row), unique())
}

fn ask(node: &Sluice, target: &str) -> Response {
    node.get(target).anonymous().send()
}

fn direct(target: &str) -> Response {
    Request::new(&backend::shared().address(), "GET", target).anonymous().send().expect(200)
}

/// Failed operations of all kinds, as the metrics have them.
fn failures(node: &Sluice) -> f64 {
    let text = node.admin("GET", "/metrics").send().expect(200).text();
    let lines = text.lines().filter(|line| line.starts_with(OPERATIONS) && !line.contains("result=\"ok\""));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Lines of the log that are about the store.
fn lines_about_the_store(node: &Sluice) -> Vec<String> {
    let about = |line: &String| {
        let line = line.to_ascii_lowercase();
        ["store", "redis"].iter().any(|word| line.contains(word))
    };
    node.process().lines().into_iter().filter(about).collect()
}

/// What was seen while the fault lasted.
#[derive(Default)]
struct Watch {
    direct: Vec<Duration>,
    /// Through the nodes.
    through: Vec<Duration>,
    writes: Vec<Duration>,
    /// When the rows were written, in their order.
    written: Vec<Instant>,
    turns: usize,
    /// How often a node has said that it has no store.
    lost: [usize; 2],
}

impl Watch {
    /// Reads and writes until the fault has lasted long enough.
    #[track_caller]
    fn run(&mut self, fault: &Fault, scene: &Scene) {
        let begun = Instant::now();
        for turn in 0.. {
            if begun.elapsed() >= fault.lasts && self.through.len() >= 100 {
                break;
            }
            let at = turn % ROWS;
            for node in 0..2 {
                self.compare(fault, scene, node, at, &warm(scene.rows[at]));
                self.compare(fault, scene, node, at, &cold(scene.rows[at]));
            }
            // At first many, so that nobody is excused any more in the end; later some.
            let (interval, most) =
                if self.written.len() < ROWS / 3 { (2, ROWS / 3) } else { (8, ROWS * 2 / 3) };
            if turn % interval == 1 && self.written.len() < most {
                self.write(fault, scene);
            }
            for (lost, node) in self.lost.iter_mut().zip(&scene.nodes) {
                *lost += usize::from(node.metric("sluice_store_up") == 0.0);
                node.admin("GET", "/readyz").send().expect(200);
            }
            self.turns = turn + 1;
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn compare(&mut self, fault: &Fault, scene: &Scene, node: usize, at: usize, target: &str) {
        let asked = Instant::now();
        let answer = ask(&scene.nodes[node], target);
        self.through.push(asked.elapsed());
        let again = Instant::now();
        let truth = direct(target);
        self.direct.push(again.elapsed());
        let (name, how) = (fault.name, answer.cache_status());
        assert_eq!(answer.status, 200, "{name}, node {node}, {target}: {how} {}", answer.text());
        let excused = node == 1
            && self.written.get(at).is_some_and(|written| fault.silent || *written + LAG > asked)
            && answer.text() == truth.text().replace("during", "before");
        let same = answer.text() == truth.text();
        assert!(
            same || excused,
            "{name}, node {node}, {target}: {how} {}, not {}",
            answer.text(),
            truth.text()
        );
    }

    #[track_caller]
    fn write(&mut self, fault: &Fault, scene: &Scene) {
        let row = scene.rows[self.written.len()];
        let asked = Instant::now();
        scene.write(0, row, "during").expect(204);
        self.writes.push(asked.elapsed());
        self.written.push(Instant::now());
        let answer = ask(&scene.nodes[0], &warm(row)).expect(200);
        assert!(
            answer.text().contains("during"),
            "{}: the writer's node shows {}",
            fault.name,
            answer.text()
        );
    }

    /// Nobody waits much longer than for upstream alone.
    #[track_caller]
    fn took_no_longer(&mut self, fault: &Fault) {
        for times in [&mut self.direct, &mut self.through, &mut self.writes] {
            times.sort_unstable();
        }
        let at = |times: &[Duration], percent: usize| times[(times.len() - 1) * percent / 100];
        let said = |times: &[Duration]| {
            let [half, most, worst] = [50, 90, 100].map(|percent| at(times, percent));
            format!("p50 {half:.1?}, p90 {most:.1?}, worst {worst:.1?}")
        };
        let (count, reads, alone) = (self.through.len(), said(&self.through), said(&self.direct));
        eprintln!(
            "{}: {count} reads: {reads}; upstream alone: {alone}; writes: {}",
            fault.name,
            said(&self.writes)
        );
        for percent in [50, 90] {
            let (through, direct) = (at(&self.through, percent), at(&self.direct, percent));
            assert!(
                through <= direct + EXTRA + SLACK,
                "{}: p{percent} is {through:?}, not {direct:?}",
                fault.name
            );
        }
        let (half, direct) = (at(&self.writes, 50), at(&self.direct, 90));
        assert!(half <= direct + 2 * EXTRA + SLACK, "{}: a write takes {half:?}", fault.name);
    }
}

#[track_caller]
fn endure(fault: &Fault) {
    let name = fault.name;
    let scene = Scene::start(fault.server);
    let lines = scene.nodes.each_ref().map(|node| lines_about_the_store(node).len());
    let failed = || scene.nodes.iter().map(failures).sum::<f64>();
    let failed_before = failed();
    let mut watch = Watch::default();
    (fault.strike)(&scene);
    watch.run(fault, &scene);
    let failed_meanwhile = failed() - failed_before;
    (fault.heal)(&scene);
    let healed = Instant::now();
    scene.recover();
    eprintln!("{name}: in use again after {:.1?}", healed.elapsed());
    scene.all_is_true(&format!("{name}, after recovery"));
    watch.took_no_longer(fault);
    as_if_nothing_had_been(fault, &scene);
    assert!(failed_meanwhile > 0.0 || !fault.fails, "{name}: no failed operation was counted");
    for (number, node) in scene.nodes.iter().enumerate() {
        let (expected, lost) = (fault.store[number], watch.lost[number]);
        assert!(expected != Use::Lost || lost > 0, "{name}: node {number} never said so");
        assert!(expected != Use::Kept || lost * 4 < watch.turns, "{name}: node {number} gave the store up");
        let said = lines_about_the_store(node).split_off(lines[number]);
        let mentioned = said.iter().any(|line| line.contains(fault.says));
        let said = said.join("\n");
        assert!(mentioned || expected != Use::Lost, "{name}: {:?} isn't said: {said}", fault.says);
        assert!(said.lines().count() <= MOST_LINES, "{name}: the log is full of it: {said}");
    }
}

/// Everything is in the cache again, and what is written through one node is seen through the other.
#[track_caller]
fn as_if_nothing_had_been(fault: &Fault, scene: &Scene) {
    scene.hit_everywhere();
    let changed = scene.rows[ROWS - 1];
    scene.write(1, changed, "after").expect(204);
    let written = Instant::now();
    eventually("the other node learns of it", || {
        ask(&scene.nodes[0], &warm(changed)).text().contains("after")
    });
    assert!(written.elapsed() < LAG, "{}: the news took {:?}", fault.name, written.elapsed());
    scene.all_is_true(&format!("{}, in the end", fault.name));
}

#[test]
fn hung() {
    endure(&Fault::of("hung", |scene| scene.redis.freeze(), |scene| scene.redis.thaw()));
}

#[test]
fn gone() {
    endure(&Fault::of("gone", |scene| scene.redis.kill(), |scene| scene.redis.restart()));
}

#[test]
fn the_network_swallows_everything() {
    let strike = |scene: &Scene| scene.relays.iter().for_each(Relay::hang);
    let heal = |scene: &Scene| scene.relays.iter().for_each(Relay::resume);
    endure(&Fault::of("a hung network", strike, heal));
}

#[test]
fn the_writers_node_is_cut_off() {
    let fault =
        Fault::of("the writer cut off", |scene| scene.relays[0].cut(), |scene| scene.relays[0].resume());
    endure(&Fault { store: [Use::Lost, Use::Kept], silent: true, ..fault });
}

#[test]
fn the_other_node_is_cut_off() {
    let fault =
        Fault::of("the reader cut off", |scene| scene.relays[1].cut(), |scene| scene.relays[1].resume());
    // The node that is cut off doesn't write, and asks for nothing where nobody is.
    endure(&Fault { store: [Use::Kept, Use::Lost], fails: false, ..fault });
}

#[test]
fn the_other_node_hears_nothing() {
    let fault =
        Fault::of("the reader hung", |scene| scene.relays[1].hang(), |scene| scene.relays[1].resume());
    endure(&Fault { store: [Use::Kept, Use::Lost], ..fault });
}

#[test]
fn far_away() {
    let strike =
        |scene: &Scene| scene.relays.iter().for_each(|relay| relay.delay(Duration::from_millis(200)));
    let heal = |scene: &Scene| scene.relays.iter().for_each(Relay::resume);
    endure(&Fault { store: [Use::Either; 2], ..Fault::of("200 ms away", strike, heal) });
}

#[test]
fn paused() {
    endure(&Fault::of("paused", |scene| scene.command(&["CLIENT", "PAUSE", "4000", "ALL"]), |_| {}));
}

#[test]
fn asleep() {
    let strike = |scene: &Scene| {
        let mut redis = scene.redis.client();
        std::thread::spawn(move || redis.command(&["DEBUG", "SLEEP", "4"]));
    };
    let server = &["--enable-debug-command", "yes"];
    endure(&Fault { server, ..Fault::of("asleep", strike, |_| {}) });
}

#[test]
fn full() {
    let strike = |scene: &Scene| {
        scene.command(&["SET", "filling", &"x".repeat(4 << 20)]);
        scene.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    };
    let heal = |scene: &Scene| {
        scene.command(&["DEL", "filling"]);
        scene.command(&["CONFIG", "SET", "maxmemory", "0"]);
    };
    let fault = Fault::of("full", strike, heal);
    endure(&Fault { server: &["--maxmemory-policy", "noeviction"], store: [Use::Either; 2], ..fault });
}

#[test]
fn evicting_what_is_needed() {
    let strike = |scene: &Scene| scene.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let heal = |scene: &Scene| scene.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let fault = Fault::of("evicting", strike, heal);
    let server = &["--maxmemory-policy", "allkeys-random"];
    endure(&Fault { server, store: [Use::Either; 2], fails: false, ..fault });
}

#[test]
fn a_replica_of_nobody() {
    let strike = |scene: &Scene| scene.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let fault = Fault::of("a replica", strike, |scene| scene.command(&["REPLICAOF", "NO", "ONE"]));
    endure(&Fault { says: "takes no writes", ..fault });
}

#[test]
fn lacking_replicas() {
    let strike = |scene: &Scene| scene.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let heal = |scene: &Scene| scene.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    endure(&Fault { says: "takes no writes", ..Fault::of("lacking replicas", strike, heal) });
}

#[test]
fn another_password() {
    let strike = |scene: &Scene| {
        let mut redis = scene.redis.client();
        redis.command(&["CONFIG", "SET", "requirepass", "another"]);
        for kind in ["normal", "pubsub"] {
            redis.command(&["CLIENT", "KILL", "TYPE", kind]);
        }
    };
    let heal = |scene: &Scene| {
        let mut redis = scene.redis.client();
        redis.command(&["AUTH", "another"]);
        redis.command(&["CONFIG", "SET", "requirepass", ""]);
    };
    endure(&Fault { says: "refused", ..Fault::of("another password", strike, heal) });
}

#[test]
fn forgetting_everything() {
    endure(&Fault::passing("flushed", |scene| scene.command(&["FLUSHALL"])));
}

#[test]
fn forgetting_the_scripts() {
    endure(&Fault::passing("scripts flushed", |scene| scene.command(&["SCRIPT", "FLUSH"])));
}

#[test]
fn restarted_without_a_memory() {
    endure(&Fault {
        lasts: Duration::from_millis(1500),
        store: [Use::Either; 2],
        ..restarting("restarted empty")
    });
}

/// What it remembers is from before the writes, generations and all.
#[test]
fn restarted_with_an_old_memory() {
    let scene = Scene::start(&[]);
    scene.command(&["SAVE"]);
    for row in &scene.rows {
        scene.write(0, *row, "during").expect(204);
    }
    scene.redis.kill();
    scene.redis.restart();
    let remembered = scene.redis.client().keys("faults:e:*");
    assert!(!remembered.is_empty(), "it has forgotten everything");
    scene.recover();
    scene.all_is_true("restarted with what was before the writes");
    let fresh = start_node(&scene.redis.address());
    fresh.wait_for_store();
    for row in &scene.rows {
        assert!(ask(&fresh, &warm(*row)).expect(200).text().contains("during"), "a node that never knew");
    }
}

#[test]
fn restarted_with_its_whole_memory() {
    let server = &["--appendonly", "yes", "--appendfsync", "always"];
    let fault = restarting("restarted with all it had");
    endure(&Fault { server, lasts: Duration::from_millis(1500), store: [Use::Either; 2], ..fault });
}

fn restarting(name: &'static str) -> Fault {
    let strike = |scene: &Scene| {
        scene.redis.kill();
        scene.redis.restart();
    };
    Fault { fails: false, ..Fault::of(name, strike, |_| {}) }
}

#[test]
fn not_there_yet() {
    let redis = RedisServer::start(&[]);
    redis.kill();
    let node = start_node(&redis.address());
    let row = unique();
    backend::shared().sql(&format!("insert into users (id, name) values ({row}, 'before')"));
    for _ in 0..10 {
        ask(&node, &warm(row)).expect(200).expect_bypass("detail=store");
        node.admin("GET", "/readyz").send().expect(200);
    }
    assert_eq!(node.metric("sluice_store_up"), 0.0);
    redis.restart();
    node.wait_for_store();
    eventually("it is used", || ask(&node, &warm(row)).expect(200).is_hit());
    assert!(lines_about_the_store(&node).len() <= MOST_LINES, "{}", node.log());
}
