//! Concurrent misses of one key make one upstream request.

use crate::support::backend;
use crate::support::eventually;
use crate::support::faulty::{Act, Answer, Faulty, Gate};
use crate::support::sluice::Setup;
use crate::support::token::{alice, bob};

const ROUTE: &str = "GET /rest/v1/users";
const TARGET: &str = "/rest/v1/users?order=id";

#[test]
fn five_hundred_misses_make_one_request() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let gate = Gate::new();
    upstream.always(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Pass)));
    let sluice = Setup::new(&upstream.url()).start();
    let request = sluice.get(TARGET).anonymous();
    let waiting: Vec<_> = (0..500).map(|_| request.begin()).collect();
    upstream.wait_for(ROUTE, 1);
    eventually("all are connected", || sluice.metric("sluice_connections") >= 500.0);
    gate.open();
    let answers: Vec<_> = waiting.into_iter().map(|pending| pending.finish().expect(200)).collect();
    assert_eq!(upstream.count(ROUTE), 1);
    let body = &answers[0].body;
    assert!(answers.iter().all(|answer| answer.body == *body));
    let collapsed = answers.iter().filter(|answer| answer.cache_status().contains("collapsed")).count();
    let hits = answers.iter().filter(|answer| answer.is_hit()).count();
    let stored = answers.iter().filter(|answer| answer.cache_status().ends_with("stored")).count();
    assert_eq!((stored, collapsed + hits), (1, 499), "one led, the others waited or came late");
    assert!(collapsed > 0);
}

#[test]
fn different_users_do_not_wait_for_each_other() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let gate = Gate::new();
    upstream.once("GET /rest/v1/profiles", Act::Hold(gate.clone(), Box::new(Act::Pass)));
    let sluice = Setup::new(&upstream.url()).start();
    let held = sluice.get("/rest/v1/profiles").signed_in(alice().sign()).begin();
    upstream.wait_for("GET /rest/v1/profiles", 1);
    let bobs = sluice.get("/rest/v1/profiles").signed_in(bob().sign()).send().expect(200);
    assert!(bobs.text().contains("Bob") && !bobs.text().contains("Alice"));
    gate.open();
    assert!(held.finish().expect(200).text().contains("Alice"));
}

#[test]
fn waiters_do_not_share_what_can_not_be_stored() {
    let upstream = Faulty::start();
    let gate = Gate::new();
    let private = |body: &str| Answer::json(body).header("Cache-Control", "no-store").act();
    upstream.once(ROUTE, Act::Hold(gate.clone(), Box::new(private("[1]"))));
    upstream.always(ROUTE, private("[2]"));
    let sluice = Setup::new(&upstream.url()).start();
    let request = sluice.get(TARGET).anonymous();
    let leader = request.begin();
    upstream.wait_for(ROUTE, 1);
    let waiting: Vec<_> = (0..10).map(|_| request.begin()).collect();
    eventually("all are connected", || sluice.metric("sluice_connections") >= 11.0);
    gate.open();
    assert_eq!(leader.finish().expect(200).text(), "[1]");
    for pending in waiting {
        assert_eq!(pending.finish().expect(200).text(), "[2]", "it was somebody else's answer");
    }
    assert_eq!(upstream.count(ROUTE), 11);
}

#[test]
fn a_leader_that_hangs_up_leaves_nobody_waiting() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let gate = Gate::new();
    upstream.once(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Pass)));
    let sluice = Setup::new(&upstream.url()).start();
    let request = sluice.get(TARGET).anonymous();
    let leader = request.begin();
    upstream.wait_for(ROUTE, 1);
    let waiter = request.begin();
    drop(leader);
    gate.open();
    waiter.finish().expect(200);
}

#[test]
fn a_failing_leader_does_not_fail_the_waiters() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let gate = Gate::new();
    upstream.once(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Drop)));
    let sluice = Setup::new(&upstream.url()).start();
    let request = sluice.get(TARGET).anonymous();
    let leader = request.begin();
    upstream.wait_for(ROUTE, 1);
    let waiter = request.begin();
    eventually("both are connected", || sluice.metric("sluice_connections") >= 2.0);
    gate.open();
    leader.finish();
    waiter.finish().expect(200);
}
