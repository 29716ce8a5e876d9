//! Concurrent misses of one key make one upstream request, whatever node they come to.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::nodes::shared;
use crate::support::faulty::{Act, Answer, Faulty, Gate};
use crate::support::http::Pending;
use crate::support::sluice::{Setup, Sluice, undisturbed};
use crate::support::{backend, eventually, redis};

const ROUTE: &str = "GET /rest/v1/users";
const TARGET: &str = "/rest/v1/users?order=id&id=lte.50";
/// How long a lease lasts that nobody renews.
const LEASE: Duration = Duration::from_secs(1);

/// So many clients ask each node; returns when all are connected.
fn ask(nodes: &[Sluice], clients: usize) -> Vec<Pending> {
    let pending: Vec<_> =
        nodes.iter().flat_map(|node| (0..clients).map(|_| node.get(TARGET).anonymous().begin())).collect();
    for node in nodes {
        eventually("all are connected", || node.metric("sluice_connections") >= clients as f64);
    }
    pending
}

/// Waits until the fleet's lease has been renewed so often.
fn wait_for_renewals(setup: &Setup, renewals: usize) {
    let mut redis = redis::shared().client();
    let pattern = format!("{}:l:*", setup.namespace());
    let (mut seen, mut last) = (0, i64::MAX);
    eventually("the lease is renewed", || {
        let leases = redis.keys(&pattern);
        assert!(leases.len() <= 1, "one key has one lease: {leases:?}");
        let left = leases.first().map_or(-2, |lease| redis.command(&["PTTL", lease]).number());
        seen += usize::from(left > last);
        last = left.max(0);
        seen >= renewals
    });
}

#[test]
fn misses_on_three_nodes_make_one_request() {
    undisturbed(|| {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let gate = Gate::new();
        upstream.always(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Pass)));
        let setup = shared(&upstream.url());
        let nodes = setup.nodes::<3>();
        let pending = ask(&nodes, 10);
        upstream.wait_for(ROUTE, 1);
        // Longer than a lease lasts by itself: its holder lives.
        wait_for_renewals(&setup, 3);
        gate.open();
        let answers: Vec<_> = pending.into_iter().map(|pending| pending.finish().expect(200)).collect();
        assert_eq!(upstream.count(ROUTE), 1);
        assert!(answers.iter().all(|answer| answer.body == answers[0].body));
        let stored = answers.iter().filter(|answer| answer.cache_status().ends_with("stored")).count();
        let collapsed = answers.iter().filter(|answer| answer.cache_status().contains("collapsed")).count();
        let hits = answers.iter().filter(|answer| answer.is_hit()).count();
        assert_eq!((stored, collapsed + hits), (1, 29), "one led, the others waited or came late");
        for node in &nodes {
            node.get(TARGET).anonymous().send().expect(200).expect_hit();
        }
        assert_eq!(upstream.count(ROUTE), 1);
    });
}

#[test]
fn nodes_without_memory_make_one_request_too() {
    undisturbed(|| {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let gate = Gate::new();
        upstream.always(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Pass)));
        let nodes = shared(&upstream.url()).without_memory().nodes::<2>();
        let pending = ask(&nodes, 5);
        upstream.wait_for(ROUTE, 1);
        gate.open();
        pending.into_iter().for_each(|pending| drop(pending.finish().expect(200)));
        assert_eq!(upstream.count(ROUTE), 1);
    });
}

#[test]
fn a_node_that_dies_while_it_asks_delays_the_others_by_a_lease_at_most() {
    undisturbed(|| {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let gate = Gate::new();
        upstream.once(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Drop)));
        let setup = shared(&upstream.url());
        let [first, others @ ..] = setup.nodes::<3>();
        let lost = first.get(TARGET).anonymous().begin();
        upstream.wait_for(ROUTE, 1);
        let pending = ask(&others, 5);
        wait_for_renewals(&setup, 1);
        assert_eq!(upstream.count(ROUTE), 1, "they wait for it");
        first.process().signal("KILL");
        first.process().wait();
        let died = Instant::now();
        pending.into_iter().for_each(|pending| drop(pending.finish().expect(200)));
        let delay = died.elapsed();
        eprintln!("the others were answered {delay:.1?} after the node that asked had died");
        assert!(delay < 2 * LEASE, "{delay:?}");
        assert_eq!(upstream.count(ROUTE), 2, "one of them took over");
        gate.open();
        drop(lost);
    });
}

#[test]
fn nobody_is_given_another_nodes_answer_that_can_not_be_stored() {
    let upstream = Faulty::start();
    let gate = Gate::new();
    let (nodes, clients) = (shared(&upstream.url()).nodes::<3>(), 4);
    for number in 0..nodes.len() * clients {
        let own = Answer::json(&format!("[{number}]")).header("Cache-Control", "no-store");
        let own = own.header("Content-Range", "0-0/*").act();
        upstream.once(ROUTE, if number == 0 { Act::Hold(gate.clone(), Box::new(own)) } else { own });
    }
    let leader = nodes[0].get(TARGET).anonymous().begin();
    upstream.wait_for(ROUTE, 1);
    let mut pending = ask(&nodes[1..], clients);
    pending.extend((1..clients).map(|_| nodes[0].get(TARGET).anonymous().begin()));
    gate.open();
    pending.push(leader);
    let bodies: BTreeSet<_> =
        pending.into_iter().map(|pending| pending.finish().expect(200).text()).collect();
    assert_eq!(bodies.len(), nodes.len() * clients, "an answer was given twice: {bodies:?}");
}

#[test]
fn a_request_that_fails_for_one_node_does_not_fail_the_others() {
    undisturbed(|| {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let gate = Gate::new();
        upstream.once(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Drop)));
        let [first, others @ ..] = shared(&upstream.url()).nodes::<3>();
        let leader = first.get(TARGET).anonymous().begin();
        upstream.wait_for(ROUTE, 1);
        let pending = ask(&others, 3);
        let begun = Instant::now();
        gate.open();
        leader.finish();
        pending.into_iter().for_each(|pending| drop(pending.finish().expect(200)));
        assert!(begun.elapsed() < LEASE, "the lease was not given back: {:?}", begun.elapsed());
    });
}

#[test]
fn stale_hits_on_three_nodes_make_one_refresh() {
    undisturbed(|| {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let setup = shared(&upstream.url()).read("ttl = \"3s\"\nstale_while_revalidate = \"1h\"");
        let nodes = setup.nodes::<3>();
        let read = |node: &Sluice| node.get(TARGET).anonymous().send().expect(200);
        for node in &nodes {
            eventually("it is cached", || read(node).is_hit());
        }
        let filled = upstream.count(ROUTE);
        let gate = Gate::new();
        upstream.always(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Pass)));
        for node in &nodes {
            eventually("the entry expires", || read(node).cache_status().contains("detail=revalidating"));
        }
        upstream.wait_for(ROUTE, filled + 1);
        wait_for_renewals(&setup, 2);
        for node in &nodes {
            read(node).expect_hit();
        }
        assert_eq!(upstream.count(ROUTE), filled + 1, "each node refreshes for itself");
        gate.open();
        for node in &nodes {
            eventually("the refresh lands", || !read(node).expect_hit().cache_status().contains("ttl=-"));
        }
        assert_eq!(upstream.count(ROUTE), filled + 1);
    });
}
