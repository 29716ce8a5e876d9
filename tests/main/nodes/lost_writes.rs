//! Writes of which a node never hears the end, and nodes that don't live to hear it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{AT_WORST, WRITE, name, new_row, read, rename, shared, within};
use crate::support::faulty::{Act, Faulty, Gate};
use crate::support::http::Request;
use crate::support::sluice::undisturbed;
use crate::support::{backend, eventually};

/// For so long after a write was given up it may still commit.
const HOLD: Duration = Duration::from_secs(3);
const NARROW: &str = r#"
    [[route]]
    name = "narrow"
    table = "*"
    writes = []
    [route.read]
    ttl = "1h"
    depends_on = ["words"]
"#;
/// In this time a dead node's unfinished writes are taken care of.
const STAND_IN: Duration = Duration::from_secs(5);

fn upstreams_name(target: &str) -> String {
    let answer = Request::new(&backend::shared().address(), "GET", target).anonymous().send().expect(200);
    answer.json()[0]["name"].as_str().expect("the row has a name").to_owned()
}

#[test]
fn nothing_is_kept_while_a_write_that_was_given_up_may_still_commit() {
    for gives_up in ["sluice", "the client"] {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let mut keys = format!("response_timeout = \"{}s\"", HOLD.as_secs());
        if gives_up == "sluice" {
            keys += "\nforward_timeout = \"300ms\"";
        }
        let [one, other] = shared(&upstream.url()).section("upstream", &keys).nodes();
        let target = new_row();
        for node in [&one, &other] {
            eventually("it is cached", || read(node, &target).is_hit());
        }
        let gate = Gate::new();
        upstream.once(WRITE, Act::Hold(gate.clone(), Box::new(Act::Pass)));
        let write = one.request("PATCH", &target).anonymous().json(&json!({ "name": "after" }));
        let pending = write.begin();
        upstream.wait_for(WRITE, 1);
        let given_up = Instant::now();
        match gives_up {
            "sluice" => drop(pending.finish().expect(504)),
            _ => drop(pending),
        }
        for node in [&one, &other] {
            within(AT_WORST, "what was cached is out of use", || !read(node, &target).is_hit());
        }
        // What is read now may be from before the commit.
        for _ in 0..10 {
            for node in [&one, &other] {
                let hit = read(node, &target).is_hit();
                let held = given_up.elapsed() < HOLD - Duration::from_millis(500);
                assert!(!(hit && held), "{gives_up}: it was kept");
            }
        }
        assert_eq!(name(&other, &target), "before");
        gate.open();
        eventually("the write commits", || upstreams_name(&target) == "after");
        assert!(given_up.elapsed() < HOLD, "this machine is too slow for this test");
        for node in [&other, &one] {
            assert_eq!(name(node, &target), "after", "{gives_up}");
            eventually("it is cached again", || read(node, &target).is_hit());
            assert_eq!(name(node, &target), "after", "{gives_up}");
        }
    }
}

#[test]
fn another_node_stands_in_for_one_that_died_during_a_write() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let setup = shared(&upstream.url()).section("upstream", "response_timeout = \"2s\"");
    let [one, other] = setup.nodes();
    let [bare] = setup.clone().without_memory().nodes();
    let target = new_row();
    for node in [&one, &other, &bare] {
        eventually("it is cached", || read(node, &target).is_hit());
    }
    let gate = Gate::new();
    upstream.once(WRITE, Act::PassThenHold(gate.clone()));
    let pending = one.request("PATCH", &target).anonymous().json(&json!({ "name": "after" })).begin();
    eventually("the write commits", || upstreams_name(&target) == "after");
    // Its answer isn't there yet, nothing is invalidated so far.
    assert_eq!(name(&other, &target), "before");
    one.process().signal("KILL");
    one.process().wait();
    drop(pending);
    let died = Instant::now();
    for node in [&other, &bare] {
        within(STAND_IN.saturating_sub(died.elapsed()), "the write shows", || name(node, &target) == "after");
    }
    eprintln!("a write of a node that died showed {:.1?} later", died.elapsed());
    for node in [&other, &bare] {
        eventually("it is cached again", || {
            assert_eq!(name(node, &target), "after", "it has been seen before");
            read(node, &target).is_hit()
        });
    }
    gate.open();
}

#[test]
fn a_node_that_comes_back_finds_what_is_stored_and_nothing_that_has_changed() {
    undisturbed(|| {
        for killed in [true, false] {
            let upstream = Faulty::in_front_of(&backend::shared().url());
            // A write touches its table and nothing else.
            let setup = shared(&upstream.url()).routes(NARROW);
            let [one, other] = setup.nodes();
            let (changed, kept) = (new_row(), "/rest/v1/teams?order=id");
            for target in [changed.as_str(), kept] {
                eventually("it is cached", || read(&one, target).is_hit());
                read(&other, target).expect_hit();
            }
            if killed {
                one.process().signal("KILL");
                one.process().wait();
            } else {
                assert_eq!(one.stop(), Some(0));
            }
            rename(&other, &changed, "after");
            let asked = upstream.count("GET /rest/v1/teams");
            let [back] = setup.nodes();
            read(&back, kept).expect_hit();
            assert_eq!(upstream.count("GET /rest/v1/teams"), asked);
            let answer = read(&back, &changed).expect_no_hit();
            assert!(answer.text().contains("after"), "killed: {killed}: {}", answer.text());
            assert_eq!(name(&other, &changed), "after");
        }
    });
}

#[test]
fn a_write_whose_answer_is_lost_shows_on_the_other_node() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let [one, other] = shared(&upstream.url()).nodes();
    let target = new_row();
    for node in [&one, &other] {
        eventually("it is cached", || read(node, &target).is_hit());
    }
    upstream.once(WRITE, Act::PassThenDrop);
    one.request("PATCH", &target).anonymous().json(&json!({ "name": "after" })).send().expect(502);
    assert_eq!(name(&one, &target), "after");
    within(AT_WORST, "the write shows", || name(&other, &target) == "after");
}

#[test]
fn a_fill_of_before_a_write_through_another_node_is_not_kept() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let [one, other] = shared(&upstream.url()).nodes();
    let target = new_row();
    let gate = Gate::new();
    upstream.once("GET /rest/v1/users", Act::PassThenHold(gate.clone()));
    let slow = other.get(&target).anonymous().begin();
    upstream.wait_for("GET /rest/v1/users", 1);
    rename(&one, &target, "after");
    gate.open();
    slow.finish().expect(200);
    within(AT_WORST, "the write shows", || name(&other, &target) == "after");
    for node in [&one, &other] {
        for _ in 0..3 {
            assert_eq!(name(node, &target), "after", "the late fill was stored");
        }
    }
}
