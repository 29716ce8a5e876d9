//! What was written through one node is seen through every other.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{AT_WORST, ROUTE, new_row, read, real, rename, shared, within};
use crate::support::faulty::{Act, Answer, Faulty};
use crate::support::http::{Connection, Request, Response};
use crate::support::redis;
use crate::support::sluice::{Setup, Sluice};
use crate::support::story::number;
use crate::support::{backend, eventually, p99, unique};

const DEFAULT_WRITES: u64 = 300;
const MOSTLY: Duration = Duration::from_millis(20);

/// One client of one node, reading one row whose name counts up.
struct Watcher {
    read: Request,
    write: Request,
    connection: Connection,
    newest: u64,
}

impl Watcher {
    fn of(node: &Sluice, target: &str) -> Self {
        let connection = Connection::open(node.address()).unwrap();
        let read = node.get(target).anonymous();
        Self { read, write: node.request("PATCH", target).anonymous(), connection, newest: 0 }
    }

    fn write(&mut self, number: u64) {
        let request = self.write.clone().json(&json!({ "name": number.to_string() }));
        let answer = request.send_over(&mut self.connection).expect(204);
        self.reopen_after(&answer);
    }

    fn reopen_after(&mut self, answer: &Response) {
        if answer.closes() {
            self.connection = Connection::open(self.read.address()).unwrap();
        }
    }

    /// The number that this node shows: never an older one than it has shown before.
    #[track_caller]
    fn read(&mut self) -> u64 {
        let answer = self.read.send_over(&mut self.connection).expect(200);
        self.reopen_after(&answer);
        let shown = answer.json()[0]["name"].as_str().unwrap().parse().unwrap();
        let status = answer.cache_status();
        assert!(shown >= self.newest, "{shown} was shown after {}: {status}", self.newest);
        self.newest = shown;
        shown
    }

    /// Asks until `number` is shown: from when it was `written` until that was asked for. With
    /// `patience` zero, the first answer must show it.
    #[track_caller]
    fn shows(&mut self, number: u64, written: Instant, patience: Duration) -> Duration {
        loop {
            let asked = written.elapsed();
            let shown = self.read();
            if shown == number {
                return asked;
            }
            assert!(asked < patience, "{shown} is still shown {asked:?} after {number} was written");
        }
    }
}

/// How long it took until a write was seen.
#[derive(Default)]
struct Lags {
    /// From its answer until the last node was asked that then showed it.
    asked: Vec<Duration>,
    /// From its answer until the last node had answered so.
    answered: Vec<Duration>,
    /// How long anything took meanwhile, without any cache in it.
    noise: Vec<Duration>,
}

/// Writes through each of four nodes in turn and reads through the others.
fn lags(setup: &Setup, writes: u64, patience: Duration) -> Lags {
    let nodes = setup.nodes::<4>();
    let target = new_row();
    let mut watchers = nodes.each_ref().map(|node| Watcher::of(node, &target));
    watchers[0].write(0);
    let mut lags = Lags::default();
    for number in 1..=writes {
        watchers.rotate_left(1);
        let [writer, others @ ..] = &mut watchers;
        writer.write(number);
        let written = Instant::now();
        let (asked, noise) = std::thread::scope(|scope| {
            let shows = |other| scope.spawn(move || Watcher::shows(other, number, written, patience));
            let asking = others.each_mut().map(shows);
            nodes[0].admin("GET", "/livez").send().expect(200);
            let noise = written.elapsed();
            (asking.map(|asking| asking.join().unwrap()), noise)
        });
        lags.noise.push(noise);
        lags.answered.push(written.elapsed());
        lags.asked.extend(asked.iter().max());
        for watcher in &mut watchers {
            assert_eq!(watcher.read(), number, "it was shown, or written here, before");
        }
    }
    lags
}

#[test]
fn a_write_shows_on_every_other_node_within_20_ms() {
    let writes = number("LAG_WRITES").unwrap_or(DEFAULT_WRITES);
    // What is never allowed is looked at each time. How fast it is, a machine can
    // only tell that has time for anything; it has three tries.
    let fast = (0..3).any(|_| {
        let lags = lags(&real().with_schema(), writes, AT_WORST);
        p99("from a write's answer until three other nodes have shown it", &lags.answered);
        let noise = p99("from a write's answer until /livez has answered", &lags.noise);
        let lag = p99("from a write's answer until whoever asks three other nodes is shown it", &lags.asked);
        lag < MOSTLY.max(2 * noise)
    });
    assert!(fast, "p99 is over {MOSTLY:?}");
}

#[test]
fn without_memory_nothing_old_is_shown_at_all() {
    let writes = number("LAG_WRITES").unwrap_or(DEFAULT_WRITES);
    let lags = lags(&real().with_schema().without_memory(), writes, Duration::ZERO);
    p99("from a write's answer until three other nodes without memory have shown it", &lags.answered);
}

#[test]
fn inserts_changes_and_deletes_reach_the_other_nodes_lists() {
    let setup = real().read("ttl = \"1h\"\nempty_ttl = \"1h\"").with_schema();
    let nodes = setup.nodes::<2>();
    let [bare] = setup.clone().without_memory().nodes();
    let id = unique();
    let point = format!("/rest/v1/users?id=eq.{id}");
    let list = format!("/rest/v1/users?email=eq.own{id}@x.org&select=id,name");
    let row = json!({ "id": id, "email": format!("own{id}@x.org"), "name": "inserted" });
    let steps = [
        ("POST", "/rest/v1/users", Some(row), "inserted"),
        ("PATCH", point.as_str(), Some(json!({ "name": "changed" })), "changed"),
        ("PATCH", list.split('&').next().unwrap(), Some(json!({ "name": "again" })), "again"),
        ("DELETE", point.as_str(), None, "[]"),
    ];
    for (step, (method, target, body, expected)) in steps.into_iter().enumerate() {
        let [writer, reader] = if step % 2 == 0 { [&nodes[0], &nodes[1]] } else { [&nodes[1], &nodes[0]] };
        for target in [&point, &list] {
            for node in [writer, reader, &bare] {
                eventually("it is cached", || read(node, target).is_hit());
            }
        }
        let request = writer.request(method, target).anonymous();
        let request = body.iter().fold(request, Request::json);
        let answer = request.send();
        assert!(answer.status < 300, "{method} {target}: {}", answer.text());
        for target in [&point, &list] {
            for node in [writer, &bare] {
                assert!(read(node, target).text().contains(expected), "{method}: {target}");
            }
            within(AT_WORST, &format!("{method}: {target}"), || {
                read(reader, target).text().contains(expected)
            });
        }
    }
}

#[test]
fn a_function_called_through_one_node_reaches_the_others() {
    let [one, other] = real().nodes();
    let target = new_row();
    for node in [&one, &other] {
        eventually("it is cached", || read(node, &target).is_hit());
    }
    // It may have changed anything.
    let id = target.rsplit('.').next().unwrap();
    let body = json!({ "wanted": id, "new_name": "after" });
    let called = one.request("POST", "/rest/v1/rpc/rename").anonymous().json(&body).send();
    assert!(called.status < 300, "{}", called.text());
    assert!(read(&one, &target).text().contains("after"));
    within(AT_WORST, "what the function changed shows", || read(&other, &target).text().contains("after"));
}

#[test]
fn no_stale_window_brings_back_what_another_node_invalidated() {
    for window in ["stale_while_revalidate", "stale_if_error"] {
        for expired in [false, true] {
            stays_away(window, expired);
        }
    }
}

fn stays_away(window: &str, expired: bool) {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let setup = shared(&upstream.url()).read(&format!("ttl = \"1s\"\n{window} = \"1h\""));
    let nodes = setup.nodes::<2>();
    let target = new_row();
    let ask = |node: &Sluice| node.get(&target).anonymous().send();
    nodes.iter().for_each(|node| assert!(ask(node).expect(200).text().contains("before")));
    upstream.always(ROUTE, Answer::new(503, "{}").act());
    if expired {
        for node in &nodes {
            eventually("the entry expires", || ask(node).cache_status().contains("ttl=-"));
        }
    }
    rename(&nodes[0], &target, "after");
    let what = format!("{window}, expired: {expired}");
    ask(&nodes[0]).expect(503);
    within(AT_WORST, &what, || ask(&nodes[1]).status == 503);
    // Until its lifetime would have been over, and some more.
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        for node in &nodes {
            let answer = ask(node);
            assert_eq!(answer.status, 503, "{what}: {} {}", answer.cache_status(), answer.text());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    upstream.always(ROUTE, Act::Pass);
    for node in &nodes {
        assert!(ask(node).expect(200).text().contains("after"), "{what}");
    }
}

#[test]
fn a_refresh_that_is_refused_removes_the_entry_everywhere() {
    for (refusal, evicted) in [(404, false), (401, false), (404, true)] {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let windows = "ttl = \"1s\"\nstale_while_revalidate = \"1h\"\nstale_if_error = \"1h\"";
        let setup = shared(&upstream.url()).read(windows);
        let [one, other] = setup.nodes();
        let target = new_row();
        let ask = |node: &Sluice| node.get(&target).anonymous().send();
        for node in [&one, &other] {
            eventually("it is cached", || ask(node).expect(200).is_hit());
        }
        if evicted {
            // Redis may forget what the nodes remember.
            let mut redis = redis::shared().client();
            let entries = redis.keys(&format!("{}:e:*", setup.namespace()));
            entries.iter().for_each(|key| drop(redis.command(&["DEL", key])));
        }
        upstream.always(ROUTE, Answer::new(refusal, "{}").act());
        let what = format!("the refresh is refused with {refusal}, evicted: {evicted}");
        eventually(&what, || ask(&one).status == refusal);
        // From now on an old answer would be allowed, if one were left.
        upstream.always(ROUTE, Answer::new(503, "{}").act());
        ask(&one).expect(503);
        within(AT_WORST, "the other node forgets it", || ask(&other).status == 503);
        ask(&other).expect(503);
    }
}
