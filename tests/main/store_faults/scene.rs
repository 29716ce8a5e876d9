//! Two nodes over a Redis to which something happens, and what is expected of them.

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
pub(super) const ROWS: usize = 12;

/// What a request may take longer than upstream alone needs.
pub(super) const EXTRA: Duration = Duration::from_millis(100);

/// And what it may take longer because other tests have the processors.
pub(super) const SLACK: Duration = Duration::from_millis(60);

/// How long after a write was answered a node that is not the writer's may show
/// what was before: 1 s is promised, the rest is for a busy machine.
pub(super) const LAG: Duration = Duration::from_secs(2);

/// How long the news of a change may be on its way between nodes that are well.
pub(super) const SPREAD: Duration = Duration::from_millis(100);

/// Most lines that a node may log about one fault, its end included.
pub(super) const MOST_LINES: usize = 12;

/// The metric that counts operations by what came of them.
pub(super) const OPERATIONS: &str = "sluice_store_operations_total{";

/// What a fault means for a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It says that it has no store while the fault lasts.
    Lost,
    /// It doesn't say so, or hardly ever: a busy machine may be too slow for once.
    Kept,
    /// It may.
    Either,
}

/// Something that goes wrong, and what is expected then.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// More arguments of the server.
    pub(super) server: &'static [&'static str],
    pub(super) strike: fn(&Scene),
    /// How long it is watched. Where it ends by itself that is later: a node that
    /// is back may not know yet what one that isn't has written.
    pub(super) lasts: Duration,
    pub(super) heal: fn(&Scene),
    /// For the node that writes, and for the other one.
    pub(super) store: [Use; 2],
    /// Whether a write through the first node may stay unknown to the other one until the end.
    pub(super) silent: bool,
    /// Whether operations fail, and are counted.
    pub(super) fails: bool,
    /// What the log says of a lost store.
    pub(super) says: &'static str,
}

impl Fault {
    /// One that makes the store useless for both nodes.
    pub(super) fn of(name: &'static str, strike: fn(&Scene), heal: fn(&Scene)) -> Self {
        let lasts = Duration::from_secs(3);
        let store = [Use::Lost; 2];
        Self { name, server: &[], strike, lasts, heal, store, silent: false, fails: true, says: "" }
    }

    /// One that is over at once and leaves the store in use.
    pub(super) fn passing(name: &'static str, strike: fn(&Scene)) -> Self {
        let lasts = Duration::from_millis(1500);
        Self { lasts, store: [Use::Kept; 2], fails: false, ..Self::of(name, strike, |_| {}) }
    }
}

/// Two nodes over one Redis, each behind a network of its own.
pub(super) struct Scene {
    pub(super) redis: RedisServer,
    pub(super) relays: [Relay; 2],
    pub(super) nodes: [Sluice; 2],
    pub(super) rows: Vec<u64>,
}

impl Scene {
    pub(super) fn start(server: &[&str]) -> Self {
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
    pub(super) fn hit_everywhere(&self) {
        for node in &self.nodes {
            for row in &self.rows {
                eventually("the entry is used", || ask(node, &warm(*row)).expect(200).is_hit());
            }
        }
    }

    /// Waits until both nodes have the store again and have told each other what they had to.
    #[track_caller]
    pub(super) fn recover(&self) {
        self.nodes.iter().for_each(Sluice::wait_for_store);
        std::thread::sleep(SPREAD);
    }

    pub(super) fn command(&self, words: &[&str]) {
        self.redis.client().command(words);
    }

    pub(super) fn write(&self, node: usize, row: u64, name: &str) -> Response {
        let request = self.nodes[node].request("PATCH", &format!("/rest/v1/users?id=eq.{row}"));
        request.anonymous().json(&json!({ "name": name })).send()
    }

    /// Every row is what upstream says, through both nodes.
    #[track_caller]
    pub(super) fn all_is_true(&self, when: &str) {
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

pub(super) fn start_node(redis: &str) -> Sluice {
    let store = format!("kind = \"redis\"\nurl = \"redis://{redis}/0\"\nnamespace = \"faults\"");
    Setup::new(&backend::shared().url()).section("store", &store).start()
}

pub(super) fn warm(row: u64) -> String {
    format!("/rest/v1/users?id=eq.{row}&select=id,name")
}

/// The same in words that nobody has used before: a miss.
pub(super) fn cold(row: u64) -> String {
    format!("{}&limit={}", warm(row), unique())
}

pub(super) fn ask(node: &Sluice, target: &str) -> Response {
    node.get(target).anonymous().send()
}

pub(super) fn direct(target: &str) -> Response {
    Request::new(&backend::shared().address(), "GET", target).anonymous().send().expect(200)
}

/// Failed operations of all kinds, as the metrics have them.
pub(super) fn failures(node: &Sluice) -> f64 {
    let text = node.admin("GET", "/metrics").send().expect(200).text();
    let lines = text.lines().filter(|line| line.starts_with(OPERATIONS) && !line.contains("result=\"ok\""));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Lines of the log that are about the store.
pub(super) fn lines_about_the_store(node: &Sluice) -> Vec<String> {
    let about = |line: &String| {
        let line = line.to_ascii_lowercase();
        ["store", "redis"].iter().any(|word| line.contains(word))
    };
    node.process().lines().into_iter().filter(about).collect()
}

/// What was seen while the fault lasted.
#[derive(Default)]
pub(super) struct Watch {
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
    pub(super) fn run(&mut self, fault: &Fault, scene: &Scene) {
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
    pub(super) fn compare(&mut self, fault: &Fault, scene: &Scene, node: usize, at: usize, target: &str) {
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
    pub(super) fn write(&mut self, fault: &Fault, scene: &Scene) {
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
    pub(super) fn took_no_longer(&mut self, fault: &Fault) {
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
pub(super) fn endure(fault: &Fault) {
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
pub(super) fn as_if_nothing_had_been(fault: &Fault, scene: &Scene) {
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
