//! A queued write is seen by its writer in all his reads, and by nobody else.

use serde_json::{Value, json};

use super::{Queued, Scene, TABLES, card, held, new_id, point, row, sql};
use crate::support::http::Response;
use crate::support::token::{Token, alice, anon_key, bob};

/// A drain that ends soon where the test waits for its end, and late where it waits for the queue.
const SHORT: &str = "drain_wait = \"200ms\"";
const LONG: &str = "drain_wait = \"25s\"";

/// Two cards of a deck of their own, by key.
fn deck() -> (u64, [u64; 2]) {
    let deck = new_id();
    let cards =
        ["one", "two"].map(|title| row("cards", "deck, title, rank", &format!("{deck}, '{title}', 1")));
    (deck, cards)
}

/// Each row's value of a column.
fn values(answer: &Response, column: &str) -> Vec<Value> {
    answer.json().as_array().unwrap().iter().map(|row| row[column].clone()).collect()
}

#[test]
fn under_no_scope_does_anybody_else_see_it() {
    for scope in ["session", "user", "role", "public"] {
        let scene =
            Scene::with(|setup| setup.write(TABLES, &format!("ttl = \"1h\"\nscope = \"{scope}\""), ""));
        let (deck, [id, _]) = deck();
        let list = format!("/rest/v1/cards?deck=eq.{deck}&order=id");
        let (early, late) = (bob(), bob().claim("sub", "1a7e0000-0000-4000-8000-000000000003"));
        for who in [&alice(), &early] {
            scene.read(who, &list);
            assert_eq!(scene.sees(who, "cards", id, "title"), "one");
        }
        let gate = scene.hold("PATCH cards");
        let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "changed" }));
        let anonymous = scene.sluice.get(&list).signed_in(anon_key()).send().expect(200);
        assert_eq!(values(&anonymous, "title"), ["one", "two"], "{scope}");
        for round in 0..2 {
            assert_eq!(scene.sees(&alice(), "cards", id, "title"), "changed", "{scope}, round {round}");
            assert_eq!(
                values(&scene.read(&alice(), &list), "title"),
                ["changed", "two"],
                "{scope}, round {round}"
            );
            for other in [&early, &late] {
                assert_eq!(scene.sees(other, "cards", id, "title"), "one", "{scope}, round {round}");
                assert_eq!(
                    values(&scene.read(other, &list), "title"),
                    ["one", "two"],
                    "{scope}, round {round}"
                );
            }
        }
        gate.open();
        scene.applied(&alice(), &queued);
        for who in [&alice(), &early, &late] {
            assert_eq!(
                scene.sees(who, "cards", id, "title"),
                "changed",
                "{scope}: applied, then seen by all"
            );
            assert_eq!(values(&scene.read(who, &list), "title"), ["changed", "two"], "{scope}");
        }
    }
}

#[test]
fn what_others_have_cached_outlives_a_write_that_is_only_queued() {
    let scene = Scene::new();
    let id = card("before");
    scene.sees(&bob(), "cards", id, "title");
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    scene.read(&bob(), &point("cards", id)).expect_hit();
    gate.open();
    scene.applied(&alice(), &queued);
    assert_eq!(scene.sees(&bob(), "cards", id, "title"), "after");
}

#[test]
fn the_writers_point_reads_come_in_every_shape() {
    let scene = Scene::new();
    let id = card("before");
    let _gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    let all = scene.read(&alice(), &point("cards", id));
    assert_eq!(all.json()[0]["updated_at"], queued.updated_at);
    assert_eq!(all.header("content-range"), Some("0-0/*"));
    assert_eq!(all.header("sluice-pending"), Some("1"), "{:?}", all.headers);
    let some = scene.read(&alice(), &format!("{}&select=title,id", point("cards", id)));
    assert_eq!(some.text(), format!("[{{\"title\":\"after\",\"id\":{id}}}]"));
    let single = scene.sluice.get(&format!("{}&select=title", point("cards", id))).signed_in(alice().sign());
    let single = single.header("Accept", "application/vnd.pgrst.object+json").send().expect(200);
    assert_eq!(single.text(), r#"{"title":"after"}"#);
    assert!(single.header("content-type").unwrap().starts_with("application/vnd.pgrst.object+json"));
    let head = scene.sluice.request("HEAD", &point("cards", id)).signed_in(alice().sign()).send().expect(200);
    assert!(head.body.is_empty());
    let counted =
        scene.sluice.get(&point("cards", id)).signed_in(alice().sign()).header("Prefer", "count=exact");
    let counted = counted.send().expect(200);
    assert_eq!(
        (counted.header("content-range"), &counted.json()[0]["title"]),
        (Some("0-0/1"), &json!("after"))
    );
}

#[test]
fn lists_are_corrected_where_the_change_cannot_move_a_row() {
    let scene = Scene::queueing(SHORT);
    let (deck, [first, second]) = deck();
    let _gate = scene.hold("PATCH cards");
    scene.patch(&alice(), "cards", first, &json!({ "title": "changed" }));
    scene.patch(&alice(), "cards", first, &json!({ "body": "too" }));
    for target in [
        format!("/rest/v1/cards?deck=eq.{deck}&order=id"),
        format!("/rest/v1/cards?select=id,title,body&deck=eq.{deck}&order=rank.desc,id"),
        format!("/rest/v1/cards?id=in.({first},{second})&order=id"),
    ] {
        for _ in 0..2 {
            let list = scene.read(&alice(), &target);
            assert_eq!(values(&list, "title"), ["changed", "two"], "{target}");
            assert_eq!(values(&list, "body"), [json!("too"), json!(null)], "{target}");
        }
    }
    let counted =
        scene.sluice.get(&format!("/rest/v1/cards?deck=eq.{deck}&order=id")).signed_in(alice().sign());
    let counted = counted.header("Prefer", "count=exact").header("Range", "0-0").send().expect(206);
    assert_eq!(counted.header("content-range"), Some("0-0/2"));
    assert_eq!(values(&counted, "title"), ["changed"]);
}

/// Reads whose answer may depend on a pending rank or title in ways that can't be corrected here.
fn entangled(deck: u64, id: u64) -> Vec<String> {
    vec![
        format!("/rest/v1/cards?deck=eq.{deck}&rank=gte.5"),
        format!("/rest/v1/cards?deck=eq.{deck}&order=rank"),
        format!("/rest/v1/cards?deck=eq.{deck}&or=(rank.gte.5,rank.lt.0)"),
        format!("/rest/v1/cards?select=rank.max()&deck=eq.{deck}"),
        format!("/rest/v1/rpc/title_of_card?wanted={id}"),
    ]
}

#[test]
fn reads_that_cannot_be_corrected_wait_for_the_queue() {
    let scene = Scene::queueing(LONG);
    for index in 0..entangled(0, 0).len() {
        let (deck, [first, _]) = deck();
        let target = entangled(deck, first).remove(index);
        let gate = scene.hold("PATCH cards");
        let before = scene.count("PATCH cards");
        scene.patch(&alice(), "cards", first, &json!({ "rank": 9, "title": "changed" }));
        scene.wait_for("PATCH cards", before + 1);
        let reading = scene.sluice.get(&target).signed_in(alice().sign()).begin();
        gate.open();
        let answer = reading.finish().expect(200);
        assert!(
            answer.text().contains('9') || answer.text().contains("changed"),
            "{target}: {}",
            answer.text()
        );
        assert!(!answer.text().contains("\"one\""), "{target}: {}", answer.text());
    }
}

#[test]
fn what_cannot_wait_longer_is_upstreams_answer_and_says_so() {
    let scene = Scene::queueing(SHORT);
    let (deck, [first, _]) = deck();
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", first, &json!({ "rank": 9, "title": "changed" }));
    for target in entangled(deck, first) {
        for _ in 0..2 {
            let answer = scene.read(&alice(), &target);
            assert!(
                answer.cache_status().contains("detail=pending-writes"),
                "{target}: {}",
                answer.cache_status()
            );
            assert_eq!(answer.header("sluice-pending"), Some("1"), "{target}");
            assert!(!answer.text().contains("changed"), "{target}: {}", answer.text());
        }
    }
    gate.open();
    scene.applied(&alice(), &queued);
    let found = scene.read(&alice(), &entangled(deck, first)[0]);
    assert_eq!(values(&found, "title"), ["changed"], "it was not stored");
    assert_eq!(found.header("sluice-pending"), None);
}

#[test]
fn embedding_reads_count_too() {
    let scene = Scene::queueing(LONG);
    let author = row("authors", "name", "'before'");
    let book = row("books", "author_id, title", &format!("{author}, 'before'"));
    let targets = [
        format!("/rest/v1/books?select=title,authors(name)&id=eq.{book}"),
        format!("/rest/v1/authors?select=name,books(title)&id=eq.{author}"),
        format!("/rest/v1/authors?select=name,books(title)&books.id=eq.{book}&id=in.({author})"),
    ];
    for (round, target) in targets.iter().enumerate() {
        let name = format!("round {round}");
        scene.read(&alice(), target);
        let gate = scene.hold("PATCH authors");
        let before = scene.count("PATCH authors");
        let queued = scene.patch(&alice(), "authors", author, &json!({ "name": name }));
        scene.wait_for("PATCH authors", before + 1);
        let reading = scene.sluice.get(target).signed_in(alice().sign()).begin();
        gate.open();
        let answer = reading.finish().expect(200);
        assert!(answer.text().contains(&name), "{target}: {}", answer.text());
        scene.applied(&alice(), &queued);
    }
}

#[test]
fn a_pending_insert_shows_in_point_reads_of_its_own_session() {
    let routes = "ttl = \"1h\"\nempty_ttl = \"1h\"\nscope = \"session\"";
    let scene = Scene::with(|setup| setup.write(TABLES, routes, "").queue(SHORT));
    let (id, deck) = (new_id(), new_id());
    let others = alice().claim("session_id", "another");
    let list = format!("/rest/v1/cards?deck=eq.{deck}");
    for who in [&alice(), &others, &bob()] {
        assert_eq!(scene.sees(who, "cards", id, "title"), Value::Null);
    }
    let gate = scene.hold("POST cards");
    let queued = scene.insert(&alice(), "cards", &json!({ "id": id, "deck": deck, "title": "new" }));
    let shown = scene.read(&alice(), &format!("{}&select=title,deck", point("cards", id)));
    assert_eq!(shown.text(), format!("[{{\"title\":\"new\",\"deck\":{deck}}}]"));
    for (who, target) in [
        (&alice(), &list),
        (&alice(), &format!("{}&select=title,rank", point("cards", id))),
        (&others, &point("cards", id)),
    ] {
        let answer = scene.read(who, target);
        assert!(
            answer.cache_status().contains("detail=pending-writes"),
            "{target}: {}",
            answer.cache_status()
        );
        assert_eq!(answer.text(), "[]", "{target}");
    }
    assert_eq!(scene.read(&bob(), &point("cards", id)).text(), "[]");
    gate.open();
    scene.applied(&alice(), &queued);
    for who in [&alice(), &others, &bob()] {
        assert_eq!(scene.sees(who, "cards", id, "title"), "new");
        assert_eq!(values(&scene.read(who, &list), "rank"), [0]);
    }
}

#[test]
fn a_rejected_write_disappears_from_the_writers_view() {
    let scene = Scene::new();
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let refused = scene.patch(&alice(), "cards", id, &json!({ "rank": -1, "title": "refused" }));
    assert_eq!(scene.sees(&alice(), "cards", id, "rank"), -1);
    gate.open();
    let status = scene.rejected(&alice(), &refused);
    assert!(status["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{status}");
    assert_eq!(scene.sees(&alice(), "cards", id, "title"), "before");
    assert_eq!(scene.sees(&alice(), "cards", id, "rank"), 0);
    assert_eq!(held("cards", id)["title"], "before");
}

#[test]
fn a_read_with_a_header_that_a_policy_may_read_is_upstreams_own() {
    let scene = Scene::queueing("drain_wait = \"100ms\"");
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    let read = scene.sluice.get(&point("cards", id)).signed_in(alice().sign()).header("X-Tenant", "b");
    let answer = read.send().expect(200);
    assert!(answer.cache_status().contains("fwd=bypass; detail=pending-writes"), "{}", answer.cache_status());
    assert_eq!(answer.json()[0]["title"], "before");
    gate.open();
    scene.applied(&alice(), &queued);
}

#[test]
fn while_upstream_is_down_the_writer_goes_on_and_sees_his_work() {
    let scene = Scene::new();
    let id = card("before");
    for who in [alice(), bob()] {
        assert_eq!(scene.sees(&who, "cards", id, "title"), "before");
    }
    scene.upstream.go_down();
    let titles = (0..10).map(|n| format!("title {n}"));
    let writes: Vec<Queued> = titles
        .map(|title| {
            let queued = scene.patch(&alice(), "cards", id, &json!({ "title": title }));
            assert_eq!(scene.sees(&alice(), "cards", id, "title"), title);
            queued
        })
        .collect();
    let select = scene.read(&alice(), &format!("{}&select=title", point("cards", id)));
    assert_eq!(select.text(), r#"[{"title":"title 9"}]"#);
    assert_eq!(scene.sees(&bob(), "cards", id, "title"), "before");
    let unseen: Token = bob().claim("sub", "1a7e0000-0000-4000-8000-000000000004");
    let refused = scene.sluice.get(&point("cards", id)).signed_in(unseen.sign()).send().expect(502);
    assert!(!refused.text().contains("title 9"));
    scene.upstream.come_back();
    writes.iter().for_each(|write| scene.applied(&alice(), write));
    assert_eq!(held("cards", id)["title"], "title 9");
    assert_eq!(scene.sees(&bob(), "cards", id, "title"), "title 9");
}

#[test]
fn a_row_that_was_changed_past_sluice_is_read_with_the_pending_columns_over_it() {
    let read = "ttl = \"1s\"\nscope = \"user\"";
    let scene = Scene::with(|setup| setup.write(TABLES, read, ""));
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "mine" }));
    sql(&format!("update cards set body = 'theirs' where id = {id}"));
    crate::support::eventually("the row is read anew", || {
        scene.sees(&alice(), "cards", id, "body") == "theirs"
    });
    assert_eq!(scene.sees(&alice(), "cards", id, "title"), "mine");
    gate.open();
    scene.applied(&alice(), &queued);
    let row = held("cards", id);
    assert_eq!((&row["title"], &row["body"]), (&json!("mine"), &json!("theirs")));
}

#[test]
fn a_table_without_a_read_route_is_seen_by_its_writer_alike() {
    let scene = Scene::with(|setup| setup.write("table = \"cards\"", "", ""));
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    assert_eq!(scene.sees(&alice(), "cards", id, "title"), "after");
    assert_eq!(scene.sees(&bob(), "cards", id, "title"), "before");
    gate.open();
    scene.applied(&alice(), &queued);
    assert_eq!(scene.sees(&bob(), "cards", id, "title"), "after");
}
