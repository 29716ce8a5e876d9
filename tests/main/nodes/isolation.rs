//! Nodes share answers; nobody shares what is his, on any of them.

use super::{real, shared};
use crate::support::faulty::{Answer, Faulty};
use crate::support::http::Request;
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{PUBLISHABLE_KEY, SECRET_KEY, alice, bob, service_key};
use crate::support::{backend, eventually};

const TARGET: &str = "/rest/v1/profiles?order=id";

/// Two nodes, the second without memory where `bare` says so.
fn pair(setup: &Setup, bare: bool) -> [Sluice; 2] {
    let [one] = setup.nodes();
    let other = if bare { setup.clone().without_memory() } else { setup.clone() };
    let [other] = other.nodes();
    [one, other]
}

#[test]
fn everybody_sees_his_own_on_every_node() {
    type Dress = fn(Request) -> Request;
    let callers: [(&str, Dress); 3] = [
        ("alice", |request| request.signed_in(alice().sign())),
        ("bob", |request| request.signed_in(bob().sign())),
        ("anon", Request::anonymous),
    ];
    let upstream = backend::shared().address();
    for (scope, bare) in [("session", false), ("user", false), ("session", true), ("user", true)] {
        let read = format!("ttl = \"1h\"\nempty_ttl = \"1h\"\nscope = \"{scope}\"");
        let nodes = pair(&real().read(&read), bare);
        let is_a_hit_and_his = |node: &Sluice, name: &str, dress: Dress| {
            let expected = dress(Request::new(&upstream, "GET", TARGET)).send().expect(200);
            let answer = dress(node.get(TARGET)).send().expect(200);
            assert_eq!(answer.text(), expected.text(), "{name}, scope {scope}, bare: {bare}");
            answer.is_hit()
        };
        for round in 0..3 {
            for (turn, (name, dress)) in callers.iter().enumerate() {
                // The node that fills is another one for each caller.
                for node in [&nodes[(turn + round) % 2], &nodes[(turn + round + 1) % 2]] {
                    is_a_hit_and_his(node, name, *dress);
                }
            }
        }
        for (name, dress) in callers {
            for node in &nodes {
                eventually("what is his is cached", || is_a_hit_and_his(node, name, dress));
            }
        }
    }
}

#[test]
fn what_one_node_fetched_for_a_user_the_other_serves_to_him_alone() {
    for scope in ["session", "user"] {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let [one, other] =
            shared(&upstream.url()).read(&format!("ttl = \"1h\"\nscope = \"{scope}\"")).nodes();
        let hers = |node: &Sluice| {
            let answer = node.get(TARGET).signed_in(alice().refreshed().sign()).send().expect(200);
            assert!(answer.text().contains("Alice") && !answer.text().contains("Bob"), "{}", answer.text());
            answer.is_hit()
        };
        eventually("it is cached", || hers(&one));
        let his = other.get(TARGET).signed_in(bob().sign()).send().expect(200).expect_no_hit();
        assert!(his.text().contains("Bob") && !his.text().contains("Alice"), "{}", his.text());
        other.get(TARGET).signed_in(alice().claim("role", "anon").sign()).send().expect_no_hit();
        eventually("it is shared", || hers(&other));
    }
}

#[test]
fn the_service_role_neither_reads_nor_fills_on_any_node() {
    for scope in ["session", "user", "role", "public"] {
        let read = format!("ttl = \"1h\"\nempty_ttl = \"1h\"\nscope = \"{scope}\"");
        let [one, other] = pair(&real().read(&read), true);
        let all = |node: &Sluice| {
            for request in [
                node.get(TARGET).apikey(service_key()),
                node.get(TARGET).signed_in(service_key()),
                node.get(TARGET).apikey(SECRET_KEY).bearer(SECRET_KEY),
            ] {
                let answer = request.send().expect(200).expect_bypass("");
                assert_eq!(answer.json().as_array().unwrap().len(), 2, "scope {scope}");
            }
        };
        all(&one);
        for node in [&other, &one] {
            eventually("what anon sees is kept", || {
                let answer = node.get(TARGET).anonymous().send().expect(200);
                assert_eq!(answer.text(), "[]", "the service role has filled, scope {scope}");
                answer.is_hit()
            });
            all(node);
        }
        all(&other);
    }
}

#[test]
fn a_key_that_one_node_has_seen_accepted_is_nothing_to_the_other() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let [one, other] = shared(&upstream.url()).nodes();
    let target = "/rest/v1/users?id=eq.2";
    for alone in [true, false] {
        let key = format!("{PUBLISHABLE_KEY}_{alone}");
        let ask = |node: &Sluice| {
            let request = node.get(target).apikey(&key);
            if alone { request.send() } else { request.bearer(&key).send() }
        };
        eventually("it is good on one node", || ask(&one).expect(200).is_hit());
        // It may have been revoked: upstream says, not the other node's cache.
        upstream.once("GET /rest/v1/users", Answer::new(401, r#"{"message":"Invalid API key"}"#).act());
        ask(&other).expect(401).expect_no_hit();
        ask(&other).expect(200).expect_no_hit();
        eventually("it is good there too", || ask(&other).expect(200).is_hit());
    }
}

#[test]
fn a_token_that_nobody_can_verify_is_taken_only_where_upstream_took_it() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    upstream.always("/auth/v1/.well-known/jwks.json", Answer::new(404, "{}").act());
    let [one, other] = shared(&upstream.url()).without("auth").read("ttl = \"1h\"\nscope = \"role\"").nodes();
    let token = alice().sign();
    let ask = |node: &Sluice| node.get(TARGET).signed_in(&token).send();
    eventually("it is taken on one node", || ask(&one).expect(200).is_hit());
    upstream.once("GET /rest/v1/profiles", Answer::new(401, "{}").act());
    ask(&other).expect(401).expect_no_hit();
    ask(&other).expect(200).expect_no_hit();
    eventually("it is taken on the other", || ask(&other).expect(200).is_hit());
}

#[test]
fn a_token_that_does_not_hold_gets_nothing_from_the_other_node() {
    let [one, other] = real().nodes();
    let good = |node: &Sluice| node.get(TARGET).signed_in(alice().sign()).send().expect(200).is_hit();
    eventually("it is cached", || good(&one));
    for token in [
        alice().secret("another-secret-that-is-long-enough-for-hs256").sign(),
        alice().expires_in(-120).sign(),
        alice().unsigned(),
    ] {
        other.get(TARGET).signed_in(token).send().expect(401).expect_no_hit();
    }
    eventually("it is shared", || good(&other));
}
