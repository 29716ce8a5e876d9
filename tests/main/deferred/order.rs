//! Writes reach upstream in the order in which they were accepted, and nothing overtakes what it could touch.

use serde_json::{Value, json};

use super::{BY_USER, Queued, STUCK, Scene, TABLES, card, held, new_id, point, row, told_to_wait, upstream};
use crate::support::eventually;
use crate::support::faulty::{Act, Answer, Gate, Recorded};
use crate::support::http::Request;
use crate::support::token::{Token, alice, bob};

/// Upstream has answered 500 to the writer's replay, which won't be tried again soon.
fn stuck(write_keys: &str) -> (Scene, u64, Queued) {
    let scene = Scene::with(|setup| setup.write(TABLES, BY_USER, write_keys).queue(STUCK));
    let id = card("before");
    scene.fail("PATCH cards", 500);
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "stuck" }));
    scene.wait_for("PATCH cards", 1);
    (scene, id, queued)
}

fn delete(scene: &Scene, who: &Token, target: &str) -> Request {
    scene.sluice.request("DELETE", target).signed_in(who.sign())
}

fn titles(requests: &[Recorded]) -> Vec<u64> {
    let title = |request: &Recorded| {
        serde_json::from_slice::<Value>(&request.body).ok()?["title"].as_str()?.parse().ok()
    };
    requests.iter().filter_map(title).collect()
}

#[test]
fn writes_to_a_row_are_replayed_one_at_a_time_in_order() {
    let scene = Scene::new();
    let id = card("0");
    let writes: Vec<_> =
        (1..=30).map(|n| scene.patch(&alice(), "cards", id, &json!({ "title": n.to_string() }))).collect();
    writes.iter().for_each(|write| scene.applied(&alice(), write));
    let sent = titles(&scene.upstream.requests("PATCH /rest/v1/cards"));
    assert!(sent.is_sorted() && sent.last() == Some(&30), "{sent:?}");
    let row = held("cards", id);
    assert_eq!((&row["title"], &row["updated_at"]), (&json!("30"), &json!(writes[29].updated_at)));
}

#[test]
fn patches_that_wait_together_are_sent_as_one() {
    let scene = Scene::new();
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let mut writes = vec![scene.patch(&alice(), "cards", id, &json!({ "title": "first" }))];
    scene.wait_for("PATCH cards", 1);
    for n in 0..5 {
        writes.push(scene.patch(&alice(), "cards", id, &json!({ "rank": n, "title": n.to_string() })));
    }
    writes.push(scene.patch(&alice(), "cards", id, &json!({ "body": "last" })));
    gate.open();
    writes.iter().for_each(|write| scene.applied(&alice(), write));
    assert_eq!(scene.count("PATCH cards"), 2, "the first, and the others together");
    let row = held("cards", id);
    assert_eq!((&row["title"], &row["rank"], &row["body"]), (&json!("4"), &json!(4), &json!("last")));
    assert_eq!(row["updated_at"], writes[6].updated_at);
}

#[test]
fn one_bad_member_does_not_take_the_others_with_it() {
    let scene = Scene::new();
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let first = scene.patch(&alice(), "cards", id, &json!({ "title": "first" }));
    scene.wait_for("PATCH cards", 1);
    let good = scene.patch(&alice(), "cards", id, &json!({ "title": "good" }));
    let bad = scene.patch(&alice(), "cards", id, &json!({ "rank": -5 }));
    let last = scene.patch(&alice(), "cards", id, &json!({ "body": "last" }));
    gate.open();
    for write in [&first, &good, &last] {
        scene.applied(&alice(), write);
    }
    scene.rejected(&alice(), &bad);
    let row = held("cards", id);
    assert_eq!((&row["title"], &row["rank"], &row["body"]), (&json!("good"), &json!(0), &json!("last")));
}

#[test]
fn a_child_waits_for_its_parent() {
    let scene = Scene::new();
    let (author, book) = (new_id(), new_id());
    scene.upstream.go_down();
    let parent = scene.insert(&alice(), "authors", &json!({ "id": author, "name": "parent" }));
    let child =
        scene.insert(&alice(), "books", &json!({ "id": book, "author_id": author, "title": "child" }));
    scene.upstream.come_back();
    scene.applied(&alice(), &parent);
    scene.applied(&alice(), &child);
    assert_eq!(held("books", book)["author_id"], author);
}

#[test]
fn a_refusal_is_final_only_when_nothing_older_is_left() {
    let scene = Scene::new();
    let (author, book) = (new_id(), new_id());
    let gate = scene.hold("POST authors");
    let parent = scene.insert(&alice(), "authors", &json!({ "id": author, "name": "parent" }));
    let child =
        scene.insert(&alice(), "books", &json!({ "id": book, "author_id": author, "title": "child" }));
    // Sent before its parent it is refused; that isn't the end of it.
    scene.wait_for("POST books", 1);
    assert_eq!(scene.status(&alice(), &child.id).expect(200).json()["state"], "queued");
    gate.open();
    scene.applied(&alice(), &parent);
    scene.applied(&alice(), &child);

    let orphan = json!({ "id": new_id(), "author_id": new_id(), "title": "orphan" });
    let orphan = scene.insert(&alice(), "books", &orphan);
    let status = scene.rejected(&alice(), &orphan);
    assert!(status.to_string().contains("23503") || status["reason"].is_string(), "{status}");
}

#[test]
fn a_refusal_of_what_was_sent_before_an_older_write_ended_is_not_final() {
    let scene = Scene::new();
    let (author, book) = (new_id(), new_id());
    let parents = scene.hold("POST authors");
    let refusal = Answer::new(409, r#"{"code":"23503","message":"violates foreign key constraint"}"#);
    let refusing = Gate::new();
    scene.upstream.once("POST /rest/v1/books", Act::Hold(refusing.clone(), Box::new(refusal.act())));
    let parent = scene.insert(&alice(), "authors", &json!({ "id": author, "name": "parent" }));
    let child = json!({ "id": book, "author_id": author, "title": "child" });
    let child = scene.insert(&alice(), "books", &child);
    scene.wait_for("POST books", 1);
    parents.open();
    scene.applied(&alice(), &parent);
    // Only now does upstream's refusal arrive, and nothing older is queued.
    refusing.open();
    scene.applied(&alice(), &child);
    assert_eq!(held("books", book)["author_id"], author);
}

#[test]
fn a_delete_waits_for_the_rows_writes() {
    let scene = Scene::queueing("drain_wait = \"25s\"");
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    scene.wait_for("PATCH cards", 1);
    let deleting =
        delete(&scene, &alice(), &point("cards", id)).header("Prefer", "return=representation").begin();
    gate.open();
    assert_eq!(deleting.finish().expect(200).json()[0]["title"], "after");
    scene.applied(&alice(), &queued);
    assert_eq!(held("cards", id), Value::Null);
}

#[test]
fn writes_that_name_no_row_wait_for_the_whole_table() {
    let scene = Scene::queueing("drain_wait = \"25s\"");
    let deck = new_id();
    for method in ["PATCH", "DELETE"] {
        let id = row("cards", "deck, title", &format!("{deck}, 'before'"));
        let gate = scene.hold("PATCH cards");
        let sent = scene.count("PATCH cards");
        let queued = scene.patch(&alice(), "cards", id, &json!({ "rank": 1 }));
        scene.wait_for("PATCH cards", sent + 1);
        let request =
            scene.write(&alice(), method, &format!("/rest/v1/cards?deck=eq.{deck}"), &json!({ "rank": 2 }));
        let waiting = request.header("Prefer", "return=representation").begin();
        gate.open();
        let answer = waiting.finish().expect(200);
        assert_eq!(answer.json().as_array().unwrap().len(), 1, "{method}");
        scene.applied(&alice(), &queued);
        let rank = held("cards", id)["rank"].clone();
        assert_eq!(rank, if method == "PATCH" { json!(2) } else { Value::Null });
        scene.sluice.request("DELETE", &point("cards", id)).signed_in(alice().sign()).send().expect(204);
    }
}

#[test]
fn a_function_waits_for_the_callers_writes() {
    let scene = Scene::queueing("drain_wait = \"25s\"");
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "deferred" }));
    scene.wait_for("PATCH cards", 1);
    let renamed = json!({ "wanted": id, "new_title": "by function" });
    let calling = scene.write(&alice(), "POST", "/rest/v1/rpc/rename_card", &renamed).begin();
    gate.open();
    calling.finish().expect(204);
    scene.applied(&alice(), &queued);
    assert_eq!(held("cards", id)["title"], "by function");
    assert_eq!(scene.sees(&alice(), "cards", id, "title"), "by function");
}

#[test]
fn what_would_overtake_a_stuck_write_is_told_to_come_again() {
    let (scene, id, queued) = stuck("");
    let rename = json!({ "wanted": id, "new_title": "by function" });
    for (method, target, body) in [
        ("DELETE", point("cards", id), json!({})),
        ("PATCH", "/rest/v1/cards?rank=eq.-1".to_owned(), json!({ "rank": 3 })),
        ("POST", "/rest/v1/rpc/rename_card".to_owned(), rename),
    ] {
        let sent = |kind: &str| scene.upstream.count(&format!("{kind} /rest/v1/cards"));
        let before = (sent("DELETE"), scene.count("POST rpc/rename_card"));
        told_to_wait(scene.write(&alice(), method, &target, &body).send());
        assert_eq!(
            (sent("DELETE"), scene.count("POST rpc/rename_card")),
            before,
            "{method}: nothing is forwarded"
        );
    }
    assert_eq!(held("cards", id)["title"], "before");
    assert_eq!(scene.status(&alice(), &queued.id).expect(200).json()["state"], "queued");
    // Another row is another matter.
    delete(&scene, &alice(), &point("cards", card("another"))).send().expect(204);
}

#[test]
fn on_wait_forward_lets_it_through() {
    let (scene, id, queued) = stuck("on_wait = \"forward\"");
    delete(&scene, &alice(), &point("cards", id)).send().expect(204);
    assert_eq!(held("cards", id), Value::Null);
    assert_eq!(scene.status(&alice(), &queued.id).expect(200).json()["state"], "queued");
}

#[test]
fn a_write_still_on_its_way_after_drain_wait_is_not_overtaken() {
    let scene = Scene::queueing("drain_wait = \"100ms\"");
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    scene.wait_for("PATCH cards", 1);
    told_to_wait(delete(&scene, &alice(), &point("cards", id)).send());
    assert_eq!(scene.count("DELETE cards"), 0);
    gate.open();
    scene.applied(&alice(), &queued);
    delete(&scene, &alice(), &point("cards", id)).send().expect(204);
}

#[test]
fn one_users_stuck_write_blocks_nobody_else() {
    let (scene, id, _) = stuck("");
    // What is in backoff is passed over at once once it has got there.
    let rename = json!({ "wanted": id, "new_title": "bob's" });
    scene.write(&bob(), "POST", "/rest/v1/rpc/rename_card", &rename).send().expect(204);
    assert_eq!(scene.sees(&bob(), "cards", id, "title"), "bob's");
    delete(&scene, &bob(), &point("cards", id)).send().expect(204);
    assert_eq!(held("cards", id), Value::Null);
    let own = scene.insert(&bob(), "cards", &json!({ "id": new_id(), "title": "bob's" }));
    scene.applied(&bob(), &own);
}

#[test]
fn a_delete_waits_for_the_callers_inserts_anywhere() {
    let scene = Scene::queueing(STUCK);
    scene.fail("POST books", 500);
    let author = row("authors", "name", "'parent'");
    scene.insert(&alice(), "books", &json!({ "id": new_id(), "author_id": author, "title": "child" }));
    scene.wait_for("POST books", 1);
    told_to_wait(delete(&scene, &alice(), &point("authors", author)).send());
    assert_eq!(upstream(&point("authors", author)).json().as_array().unwrap().len(), 1);
    delete(&scene, &bob(), &point("authors", author)).send().expect(204);
}

#[test]
fn what_waits_ends_the_linger() {
    let scene = Scene::queueing("linger = \"1h\"\ndrain_wait = \"25s\"");
    let id = card("before");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    assert_eq!(scene.status(&alice(), &queued.id).expect(200).json()["state"], "queued");
    assert_eq!(scene.count("PATCH cards"), 0, "it lingers");
    let request = delete(&scene, &alice(), &point("cards", id)).header("Prefer", "return=representation");
    assert_eq!(request.send().expect(200).json()[0]["title"], "after");
    scene.applied(&alice(), &queued);
}

#[test]
fn lingering_writes_leave_together() {
    let scene = Scene::queueing("linger = \"500ms\"");
    let id = card("before");
    let mut writes = Vec::new();
    for n in 0..4 {
        writes.push(scene.patch(&alice(), "cards", id, &json!({ "title": n.to_string() })));
    }
    eventually("it is sent", || scene.count("PATCH cards") > 0);
    writes.iter().for_each(|write| scene.applied(&alice(), write));
    assert!(scene.count("PATCH cards") < 4, "{} requests for 4 writes", scene.count("PATCH cards"));
    assert_eq!(held("cards", id)["title"], "3");
}
