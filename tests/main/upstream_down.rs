//! Upstream down, slow or failing: what is fresh is served, what is stale only where allowed.

use crate::support::backend;
use crate::support::eventually;
use crate::support::faulty::{Act, Answer, Faulty, Gate};
use crate::support::sluice::{Setup, Sluice};

const TARGET: &str = "/rest/v1/users?id=eq.7";
const ROUTE: &str = "GET /rest/v1/users";

fn in_front(read: &str) -> (Faulty, Sluice) {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice =
        Setup::new(&upstream.url()).read(read).section("upstream", "response_timeout = \"1s\"").start();
    (upstream, sluice)
}

#[test]
fn fresh_entries_outlive_upstream_and_misses_say_why_not() {
    let (upstream, sluice) = in_front("ttl = \"1h\"");
    sluice.get(TARGET).anonymous().send().expect_stored();
    upstream.go_down();
    sluice.get(TARGET).anonymous().send().expect(200).expect_hit();
    let error = sluice.get("/rest/v1/teams").anonymous().send().expect(502);
    assert!(error.json()["code"].as_str().unwrap().starts_with("SLUICE"), "{}", error.text());
    let write = sluice.request("PATCH", TARGET).anonymous().json(&serde_json::json!({ "name": "x" })).send();
    write.expect(502);
    upstream.come_back();
    eventually("it recovers", || sluice.get("/rest/v1/teams").anonymous().send().status == 200);
}

#[test]
fn without_stale_if_error_an_expired_entry_is_an_error() {
    let (upstream, sluice) = in_front("ttl = \"1s\"");
    sluice.get(TARGET).anonymous().send().expect_stored();
    upstream.go_down();
    eventually("the entry expires", || sluice.get(TARGET).anonymous().send().status == 502);
    upstream.come_back();
    upstream.always(ROUTE, Answer::new(503, "{}").act());
    sluice.get(TARGET).anonymous().send().expect(503).expect_no_hit();
}

#[test]
fn with_stale_if_error_the_old_answer_is_served() {
    let (upstream, sluice) = in_front("ttl = \"1s\"\nstale_if_error = \"1h\"");
    let old = sluice.get(TARGET).anonymous().send().expect_stored();
    upstream.go_down();
    let stale = || sluice.get(TARGET).anonymous().send().expect(200);
    eventually("the entry expires", || stale().cache_status().contains("detail=stale-if-error"));
    assert_eq!(stale().body, old.body);
    let status = stale().cache_status();
    assert!(status.starts_with("sluice; fwd=stale") && status.contains("ttl=-"), "{status}");
    upstream.always(ROUTE, Answer::new(500, "{}").act()).come_back();
    for failing in [500, 503, 504, 429] {
        upstream.always(ROUTE, Answer::new(failing, "{}").act());
        eventually(&format!("{failing} is covered"), || {
            stale().cache_status().contains(&format!("fwd-status={failing}"))
        });
        assert_eq!(stale().body, old.body);
    }
    // What is no failure is the truth.
    upstream.always(ROUTE, Answer::new(401, "{}").act());
    eventually("the client learns of it", || sluice.get(TARGET).anonymous().send().status == 401);
}

#[test]
fn a_slow_upstream_is_a_timeout_or_a_stale_answer() {
    let (upstream, sluice) = in_front("ttl = \"1s\"\nstale_if_error = \"1h\"");
    sluice.get(TARGET).anonymous().send().expect_stored();
    let gate = Gate::new();
    upstream.always(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Pass)));
    sluice.get("/rest/v1/users?id=eq.8").anonymous().send().expect(504);
    eventually("the entry expires", || {
        let answer = sluice.get(TARGET).anonymous().send().expect(200);
        answer.cache_status().contains("detail=stale-if-error")
    });
    gate.open();
}

#[test]
fn stale_while_revalidate_answers_at_once_and_refreshes_behind() {
    let (upstream, sluice) = in_front("ttl = \"1s\"\nstale_while_revalidate = \"1h\"");
    let user = crate::support::unique();
    let sql = |text: String| backend::shared().sql(&text);
    sql(format!("insert into users (id, name) values ({user}, 'old')"));
    let target = format!("/rest/v1/users?id=eq.{user}");
    let ask = || sluice.get(&target).anonymous().send().expect(200);
    ask().expect_stored();
    sql(format!("update users set name = 'new' where id = {user}"));
    let gate = Gate::new();
    upstream.once(ROUTE, Act::Hold(gate.clone(), Box::new(Act::Pass)));
    eventually("the entry expires", || ask().cache_status().contains("detail=revalidating"));
    let stale = ask().expect_hit();
    assert!(stale.cache_status().contains("ttl=-"), "{}", stale.cache_status());
    assert!(stale.text().contains("old"));
    upstream.wait_for(ROUTE, 2);
    assert_eq!(upstream.count(ROUTE), 2, "one refresh at a time");
    gate.open();
    eventually("the refresh lands", || ask().text().contains("new"));
}

#[test]
fn an_answer_that_breaks_off_is_not_stored() {
    let (upstream, sluice) = in_front("ttl = \"1h\"");
    upstream
        .once(ROUTE, Act::Truncate(Answer::json(&"x".repeat(5000)).header("Content-Range", "0-0/*"), 100));
    let broken = sluice.get(TARGET).anonymous().try_send();
    if let Ok(answer) = &broken {
        assert!(answer.status >= 500, "half an answer looks whole: {answer:?}");
    }
    sluice.get(TARGET).anonymous().send().expect(200).expect_no_hit();
    sluice.get(TARGET).anonymous().send().expect(200).expect_hit();
}

#[test]
fn an_unresolvable_upstream_is_an_error_and_no_hang() {
    let sluice = Setup::new("http://no-such-host.invalid:1").start();
    sluice.get(TARGET).anonymous().send().expect(502);
    sluice.get("/functions/v1/x").anonymous().send().expect(502);
    sluice.admin("GET", "/readyz").send().expect(200);
}

#[test]
fn what_a_write_touched_is_not_served_in_place_of_an_error() {
    let (upstream, sluice) = in_front("ttl = \"1s\"\nstale_if_error = \"1h\"");
    sluice.get(TARGET).anonymous().send().expect_stored();
    upstream.always(ROUTE, Answer::new(503, "{}").act());
    eventually("the entry expires", || {
        sluice.get(TARGET).anonymous().send().cache_status().contains("stale-if-error")
    });
    let gate = Gate::new();
    let before = upstream.count(ROUTE);
    upstream.once(ROUTE, Act::Hold(gate.clone(), Box::new(Answer::new(503, "{}").act())));
    let read = sluice.get(TARGET).anonymous().begin();
    upstream.wait_for(ROUTE, before + 1);
    sluice.request("PATCH", TARGET).anonymous().json(&serde_json::json!({ "name": "x" })).send();
    gate.open();
    let answer = read.finish();
    assert!(answer.status >= 500, "{}: {}", answer.status, answer.text());
}
