//! Applied, superseded, rejected: how writes end.

use serde_json::{Value, json};

use super::{BY_USER, Queued, Scene, TABLES, card, held, new_id, point, row, sql, whole_card};
use crate::support::eventually;
use crate::support::faulty::Act;
use crate::support::token::{Token, alice, bob};

#[test]
fn a_newer_direct_write_supersedes_and_is_what_everybody_reads() {
    let scene = Scene::new();
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "mine" }));
    sql(&format!(
        "update cards set title = 'theirs', updated_at = now() + interval '1 hour' where id = {id}"
    ));
    gate.open();
    let status = scene.ended(&alice(), &queued);
    assert_eq!(status["state"], "superseded", "{status}");
    assert_eq!(held("cards", id)["title"], "theirs");
    for who in [alice(), bob()] {
        assert_eq!(scene.sees(&who, "cards", id, "title"), "theirs");
    }
}

#[test]
fn an_older_direct_write_is_written_over() {
    let scene = Scene::new();
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "mine" }));
    sql(&format!(
        "update cards set title = 'theirs', body = 'theirs', updated_at = '2026-01-01' where id = {id}"
    ));
    gate.open();
    scene.applied(&alice(), &queued);
    let row = held("cards", id);
    assert_eq!((&row["title"], &row["body"]), (&json!("mine"), &json!("theirs")), "only what was sent");
}

#[test]
fn unchanged_lets_no_other_write_be_overwritten() {
    let scene = Scene::with(|setup| setup.write(TABLES, BY_USER, "guard = \"unchanged\""));
    let (id, quiet) = (card("before"), card("before"));
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "mine" }));
    let later = scene.patch(&alice(), "cards", id, &json!({ "body": "mine" }));
    let undisturbed = scene.patch(&alice(), "cards", quiet, &json!({ "title": "mine" }));
    sql(&format!("update cards set title = 'theirs', updated_at = '2026-01-01' where id = {id}"));
    gate.open();
    for write in [&queued, &later] {
        let status = scene.ended(&alice(), write);
        assert_eq!(status["state"], "superseded", "{status}");
    }
    scene.applied(&alice(), &undisturbed);
    assert_eq!((&held("cards", id)["title"], &held("cards", id)["body"]), (&json!("theirs"), &Value::Null));
}

#[test]
fn a_row_that_is_gone_supersedes_and_is_never_revived() {
    let scene = Scene::new();
    for (method, prefer) in [("PATCH", ""), ("POST", "resolution=merge-duplicates"), ("PUT", "")] {
        let id = card("before");
        let gate = scene.hold("PATCH cards");
        let body = whole_card(id, "mine");
        let target = if method == "POST" { "/rest/v1/cards".to_owned() } else { point("cards", id) };
        let request = scene.write(&alice(), method, &target, &body);
        let request = if prefer.is_empty() { request } else { request.header("Prefer", prefer) };
        let queued = Queued::of(request.send());
        sql(&format!("delete from cards where id = {id}"));
        gate.open();
        let status = scene.ended(&alice(), &queued);
        assert_eq!(status["state"], "superseded", "{method}: {status}");
        assert_eq!(held("cards", id), Value::Null, "{method}");
        assert_eq!(scene.sees(&alice(), "cards", id, "title"), Value::Null, "{method}");
    }
}

#[test]
fn a_trigger_that_sets_its_own_time_is_no_conflict() {
    let scene = Scene::new();
    let id = row("stamped", "name", "'before'");
    let gate = scene.hold("PATCH stamped");
    let first = scene.patch(&alice(), "stamped", id, &json!({ "name": "one" }));
    scene.wait_for("PATCH stamped", 1);
    let second = scene.patch(&alice(), "stamped", id, &json!({ "name": "two" }));
    gate.open();
    scene.applied(&alice(), &first);
    scene.applied(&alice(), &second);
    assert_eq!(held("stamped", id)["name"], "two");
    // One after the other too, the time of upstream's row being ahead of ours.
    for name in ["three", "four", "five"] {
        let queued = scene.patch(&alice(), "stamped", id, &json!({ "name": name }));
        scene.applied(&alice(), &queued);
        assert_eq!(held("stamped", id)["name"], name);
        assert_eq!(scene.sees(&alice(), "stamped", id, "name"), name);
    }
}

#[test]
fn two_writers_of_a_row_with_a_trigger_both_succeed() {
    let scene = Scene::new();
    let id = row("stamped", "name", "'before'");
    let gate = scene.hold("PATCH stamped");
    let first = scene.patch(&alice(), "stamped", id, &json!({ "name": "alice's" }));
    let second = scene.patch(&bob(), "stamped", id, &json!({ "name": "bob's" }));
    gate.open();
    for (who, write) in [(alice(), &first), (bob(), &second)] {
        let status = scene.ended(&who, write);
        assert!(matches!(status["state"].as_str(), Some("applied" | "superseded")), "{status}");
    }
    let name = held("stamped", id)["name"].clone();
    assert!(name == "alice's" || name == "bob's", "{name}");
    let state = scene.ended(
        &if name == "bob's" { bob() } else { alice() },
        if name == "bob's" { &second } else { &first },
    );
    assert_eq!(state["state"], "applied", "the one whose value is there");
}

#[test]
fn a_missing_time_is_older_than_any() {
    let scene = Scene::new();
    let id = new_id();
    sql(&format!("insert into drafts (id, name, updated_at) values ({id}, 'before', null)"));
    let gate = scene.hold("PATCH drafts");
    let first = scene.patch(&alice(), "drafts", id, &json!({ "name": "one" }));
    scene.wait_for("PATCH drafts", 1);
    let second = scene.patch(&alice(), "drafts", id, &json!({ "name": "two" }));
    gate.open();
    scene.applied(&alice(), &first);
    scene.applied(&alice(), &second);
    let row = held("drafts", id);
    assert_eq!((&row["name"], &row["updated_at"]), (&json!("two"), &json!(second.updated_at)));
}

#[test]
fn a_lost_answer_is_no_second_write() {
    let scene = Scene::new();
    let (id, fresh) = (card("before"), new_id());
    scene
        .upstream
        .once("PATCH /rest/v1/cards", Act::PassThenDrop)
        .once("POST /rest/v1/cards", Act::PassThenDrop);
    let patched = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    let inserted = scene.insert(&alice(), "cards", &json!({ "id": fresh, "title": "new" }));
    scene.applied(&alice(), &patched);
    scene.applied(&alice(), &inserted);
    assert_eq!(
        (&held("cards", id)["title"], &held("cards", fresh)["title"]),
        (&json!("after"), &json!("new"))
    );
}

#[test]
fn an_insert_that_finds_another_row_is_rejected_and_overwrites_nothing() {
    let scene = Scene::new();
    let id = new_id();
    let gate = scene.hold("POST cards");
    let queued = scene.insert(&alice(), "cards", &whole_card(id, "mine"));
    let after = scene.patch(&alice(), "cards", id, &json!({ "title": "mine too" }));
    sql(&format!(
        "insert into cards (id, title, updated_at) values ({id}, 'theirs', now() + interval '1 hour')"
    ));
    gate.open();
    scene.rejected(&alice(), &queued);
    let status = scene.ended(&alice(), &after);
    assert_ne!(status["state"], "applied", "{status}");
    assert_eq!(held("cards", id)["title"], "theirs");
    assert_eq!(scene.sees(&alice(), "cards", id, "title"), "theirs");
}

#[test]
fn a_policy_that_denies_the_row_rejects() {
    let scene = Scene::new();
    let id = row("diaries", "owner, entry", &format!("'{}', 'before'", alice().sub()));
    let given_away = scene.patch(&alice(), "diaries", id, &json!({ "owner": bob().sub() }));
    scene.rejected(&alice(), &given_away);
    let foreign =
        scene.insert(&alice(), "diaries", &json!({ "id": new_id(), "owner": bob().sub(), "entry": "x" }));
    scene.rejected(&alice(), &foreign);
    assert_eq!(held("diaries", id)["owner"], alice().sub());
    assert_eq!(scene.sees(&alice(), "diaries", id, "entry"), "before");
}

#[test]
fn a_row_that_the_writer_lost_sight_of_is_never_written() {
    let scene = Scene::new();
    let id = row("diaries", "owner, entry", &format!("'{}', 'before'", alice().sub()));
    let gate = scene.hold("PATCH diaries");
    let queued = scene.patch(&alice(), "diaries", id, &json!({ "entry": "mine" }));
    sql(&format!("update diaries set owner = '{}' where id = {id}", bob().sub()));
    gate.open();
    let status = scene.ended(&alice(), &queued);
    assert!(matches!(status["state"].as_str(), Some("superseded" | "rejected")), "{status}");
    assert_eq!(held("diaries", id)["entry"], "before");
    assert_eq!(scene.sees(&alice(), "diaries", id, "entry"), Value::Null);
}

#[test]
fn an_error_that_may_pass_is_tried_again_and_then_rejected() {
    let scene = Scene::queueing("max_attempts = 3");
    let (id, lasting) = (card("before"), card("before"));
    let failure = crate::support::faulty::Answer::new(500, r#"{"message":"now and then"}"#);
    scene
        .upstream
        .once("PATCH /rest/v1/cards", failure.clone().act())
        .once("PATCH /rest/v1/cards", failure.act());
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    scene.applied(&alice(), &queued);
    assert!(scene.count("PATCH cards") >= 3);

    scene.fail("PATCH cards", 500);
    let queued = scene.patch(&alice(), "cards", lasting, &json!({ "title": "after" }));
    let status = scene.rejected(&alice(), &queued);
    assert_eq!((&status["reason"], &status["attempts"]), (&json!("attempts"), &json!(3)), "{status}");
}

#[test]
fn an_upstream_that_is_away_is_not_counted() {
    let scene = Scene::queueing("max_attempts = 2");
    let id = card("before");
    for status in [502, 503, 504, 520] {
        scene.fail("PATCH cards", status);
        let sent = scene.count("PATCH cards");
        let queued = scene.patch(&alice(), "cards", id, &json!({ "title": status.to_string() }));
        scene.wait_for("PATCH cards", sent + 5);
        scene.pass("PATCH cards");
        scene.applied(&alice(), &queued);
        assert_eq!(held("cards", id)["title"], status.to_string());
    }
}

#[test]
fn retry_after_is_obeyed() {
    let scene = Scene::new();
    let busy = crate::support::faulty::Answer::new(429, "{}").header("Retry-After", "2");
    scene.upstream.once("PATCH /rest/v1/cards", busy.act());
    let queued = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    scene.wait_for("PATCH cards", 1);
    let told = std::time::Instant::now();
    scene.applied(&alice(), &queued);
    assert!(told.elapsed() >= std::time::Duration::from_millis(1800), "{:?}", told.elapsed());
}

#[test]
fn what_waits_for_too_long_is_rejected() {
    let scene = Scene::queueing("max_wait = \"2s\"");
    let id = card("before");
    assert_eq!(scene.sees(&alice(), "cards", id, "title"), "before");
    scene.upstream.go_down();
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    let status = scene.rejected(&alice(), &queued);
    assert_eq!(status["reason"], "too_old", "{status}");
    scene.upstream.come_back();
    eventually("upstream's row is what the writer reads", || {
        scene.sluice.get(&point("cards", id)).signed_in(alice().sign()).send().text().contains("before")
    });
}

#[test]
fn what_waits_for_an_operator_ends_too() {
    let scene =
        Scene::with(|setup| setup.write(TABLES, BY_USER, "on_reject = \"park\"").queue("max_wait = \"4s\""));
    let id = card("before");
    let refused = scene.patch(&alice(), "cards", id, &json!({ "rank": -1 }));
    scene.rejected(&alice(), &refused);
    let later = scene.patch(&alice(), "cards", id, &json!({ "title": "later" }));
    let status = scene.rejected(&alice(), &later);
    assert_eq!(status["reason"], "too_old", "{status}");
    assert_eq!(held("cards", id)["title"], "before");
}

#[test]
fn a_parked_row_waits_for_an_operator_and_others_go_on() {
    let scene = Scene::with(|setup| setup.write(TABLES, BY_USER, "on_reject = \"park\""));
    let (id, other) = (card("before"), card("before"));
    let refused = scene.patch(&alice(), "cards", id, &json!({ "rank": -1 }));
    scene.rejected(&alice(), &refused);
    let later = scene.patch(&alice(), "cards", id, &json!({ "title": "later" }));
    let elsewhere = scene.patch(&alice(), "cards", other, &json!({ "title": "elsewhere" }));
    let bobs: Token = bob();
    let others = scene.patch(&bobs, "cards", id, &json!({ "body": "bob's" }));
    scene.applied(&alice(), &elsewhere);
    scene.applied(&bobs, &others);
    assert_eq!(scene.status(&alice(), &later.id).expect(200).json()["state"], "queued");
    assert_eq!(held("cards", id)["title"], "before");
}
