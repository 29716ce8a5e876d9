//! What was answered 202 outlives stops and crashes of Sluice.

use std::process::Command;
use std::sync::Mutex;
use std::thread;

use serde_json::{Value, json};

use super::{BY_USER, IMPATIENT, Queued, Scene, TABLES, card, held, new_id, point, row};
use crate::support::eventually;
use crate::support::faulty::Faulty;
use crate::support::process::Process;
use crate::support::sluice::{Setup, write_file};
use crate::support::token::{Token, alice, bob};

/// Writes of two users to several tables, all queued.
struct Left {
    writes: Vec<(Token, Queued)>,
    card: u64,
    author: u64,
    book: u64,
}

/// Upstream refuses to take anything, so all stays queued.
fn left_behind(scene: &Scene) -> Left {
    let card = card("before");
    let (author, book) = (new_id(), new_id());
    for kind in ["PATCH cards", "POST authors", "POST books"] {
        scene.fail(kind, 503);
    }
    let mut writes = Vec::new();
    for n in 0..10 {
        writes
            .push((alice(), scene.patch(&alice(), "cards", card, &json!({ "title": format!("title {n}") }))));
    }
    writes.push((bob(), scene.insert(&bob(), "authors", &json!({ "id": author, "name": "parent" }))));
    let child = json!({ "id": book, "author_id": author, "title": "child" });
    writes.push((bob(), scene.insert(&bob(), "books", &child)));
    Left { writes, card, author, book }
}

#[track_caller]
fn all_arrives(scene: &Scene, left: &Left) {
    for kind in ["PATCH cards", "POST authors", "POST books"] {
        scene.pass(kind);
    }
    for (who, write) in &left.writes {
        scene.applied(who, write);
    }
    assert_eq!(held("cards", left.card)["title"], "title 9");
    assert_eq!(held("cards", left.card)["updated_at"], left.writes[9].1.updated_at);
    assert_eq!(held("authors", left.author)["name"], "parent");
    assert_eq!(held("books", left.book)["title"], "child");
}

#[test]
fn what_was_queued_outlives_a_crash() {
    let scene = Scene::new();
    let left = left_behind(&scene);
    let scene = scene.killed_and_started_again();
    all_arrives(&scene, &left);
}

#[test]
fn what_is_left_at_a_stop_is_resumed() {
    let scene = Scene::with(|setup| setup.top("stop_timeout = \"1s\"").write(TABLES, BY_USER, ""));
    let left = left_behind(&scene);
    let scene = scene.stopped_and_started_again();
    all_arrives(&scene, &left);
}

#[test]
fn a_write_whose_replay_was_under_way_is_applied_once() {
    let scene = Scene::new();
    let id = new_id();
    let gate = scene.hold("POST cards");
    let queued = scene.insert(&alice(), "cards", &json!({ "id": id, "title": "new" }));
    scene.wait_for("POST cards", 1);
    let scene = scene.killed_and_started_again();
    // The first request goes through only now, the second may come at any time.
    gate.open();
    scene.applied(&alice(), &queued);
    assert_eq!(held("cards", id)["title"], "new");
}

#[test]
fn the_writer_goes_on_seeing_it() {
    let scene = Scene::new();
    let id = card("before");
    scene.fail("PATCH cards", 503);
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    let scene = scene.killed_and_started_again();
    eventually("the schema is known again", || scene.sees(&alice(), "cards", id, "title") == "after");
    assert_eq!(scene.sees(&bob(), "cards", id, "title"), "before");
    let status = scene.status(&alice(), &queued.id).expect(200).json();
    assert_eq!((&status["state"], &status["table"]), (&json!("queued"), &json!("cards")), "{status}");
    scene.status(&bob(), &queued.id).expect(404);
    scene.pass("PATCH cards");
    scene.applied(&alice(), &queued);
}

#[test]
fn outcomes_are_remembered_and_times_go_on_growing() {
    let scene = Scene::new();
    let id = card("before");
    let applied = scene.patch(&alice(), "cards", id, &json!({ "title": "one" }));
    let refused = scene.patch(&alice(), "cards", card("before"), &json!({ "rank": -1 }));
    scene.applied(&alice(), &applied);
    let before = scene.rejected(&alice(), &refused);
    let scene = scene.killed_and_started_again();
    scene.applied(&alice(), &applied);
    assert_eq!(scene.rejected(&alice(), &refused), before);
    scene.wait_until_ready();
    let next = scene.patch(&alice(), "cards", id, &json!({ "title": "two" }));
    scene.applied(&alice(), &next);
    let row = held("cards", id);
    assert_eq!((&row["title"], &row["updated_at"]), (&json!("two"), &json!(next.updated_at)));
}

#[test]
fn a_crash_in_the_midst_of_many_writes_loses_none_that_was_answered() {
    let mut scene = Scene::new();
    for round in 0..3 {
        let rows: Vec<u64> = (0..4).map(|_| row("cards", "title", "'before'")).collect();
        scene.wait_until_ready();
        let answered = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for id in &rows {
                let (scene, answered) = (&scene, &answered);
                scope.spawn(move || {
                    for n in 0.. {
                        let body = json!({ "title": format!("{round}/{n}") });
                        let sent = scene.write(&alice(), "PATCH", &point("cards", *id), &body).try_send();
                        let Some(answer) = sent.ok().filter(|answer| answer.status == 202) else { return };
                        answered.lock().unwrap().push((*id, n, Queued::of(answer)));
                    }
                });
            }
            eventually("some are answered", || answered.lock().unwrap().len() >= 60);
            scene.sluice.process().signal("KILL");
        });
        scene = scene.killed_and_started_again();
        for (id, n, write) in answered.into_inner().unwrap() {
            scene.applied(&alice(), &write);
            let title = held("cards", id)["title"].clone();
            let last: u64 = title.as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap();
            assert!(last >= n, "{title} where {n} was answered");
        }
    }
}

#[test]
fn a_stop_lets_what_is_under_way_end() {
    let scene = Scene::new();
    let id = card("before");
    let gate = scene.hold("PATCH cards");
    scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    scene.wait_for("PATCH cards", 1);
    scene.sluice.process().signal("TERM");
    eventually("new connections are refused", || scene.sluice.get("/rest/v1/cards").try_send().is_err());
    gate.open();
    assert_eq!(scene.sluice.process().wait().code(), Some(0));
    eventually("upstream has it", || held("cards", id)["title"] == "after");
}

#[test]
fn a_journal_that_is_in_use_is_not_opened_twice() {
    let scene = Scene::new();
    let file = write_file(&scene.setup.toml());
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["serve", "-c"]).arg(file);
    let second = Process::start("a second sluice", "KILL", None, &command);
    assert_ne!(second.wait().code(), Some(0));
    let said = second.lines().join("\n");
    assert!(said.contains("journals/"), "it names the folder: {said}");
    assert_eq!(scene.sees(&alice(), "cards", card("before"), "title"), Value::from("before"));
}

/// A scene, and its configuration without the route that defers.
fn with_a_route_to_lose() -> (Scene, Setup) {
    let mut without = None;
    let scene = Scene::with(|setup| {
        without = Some(setup.clone().queue(IMPATIENT));
        setup.write(TABLES, BY_USER, "")
    });
    (scene, without.expect("it was set"))
}

#[test]
fn what_is_queued_goes_on_when_nothing_more_is_deferred() {
    let (scene, without) = with_a_route_to_lose();
    let (id, author) = (card("before"), row("authors", "name", "'before'"));
    scene.fail("PATCH cards", 503);
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    scene.sluice.rewrite(&without.toml());
    scene.sluice.process().signal("HUP");
    eventually("nothing is deferred any more", || {
        let body = json!({ "name": "changed" });
        scene.write(&alice(), "PATCH", &point("authors", author), &body).send().status == 204
    });
    scene.pass("PATCH cards");
    scene.applied(&alice(), &queued);
    assert_eq!(held("cards", id)["title"], "after");
}

#[test]
fn what_is_queued_is_never_sent_to_another_upstream() {
    let scene = Scene::new();
    let elsewhere = Faulty::start();
    let id = card("before");
    scene.fail("PATCH cards", 503);
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    let toml = scene.setup.toml().replace(&scene.upstream.url(), &elsewhere.url());
    scene.sluice.rewrite(&toml);
    scene.sluice.process().signal("HUP");
    eventually("the reload is refused", || scene.sluice.log().contains("configuration not reloaded"));
    scene.pass("PATCH cards");
    scene.applied(&alice(), &queued);
    assert!(elsewhere.requests("PATCH ").is_empty());
}

#[test]
fn a_write_whose_route_has_gone_is_applied_all_the_same() {
    let (mut scene, without) = with_a_route_to_lose();
    let id = card("before");
    scene.fail("PATCH cards", 503);
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    scene.setup = without;
    let scene = scene.stopped_and_started_again();
    scene.pass("PATCH cards");
    scene.applied(&alice(), &queued);
    assert_eq!(held("cards", id)["title"], "after");
}
