//! Full queues, large bodies and many writers: what doesn't fit is forwarded and awaited.

use std::thread;

use serde_json::{Value, json};

use super::{BY_USER, Queued, STUCK, Scene, TABLES, card, forwarded, held, new_id, point, row, somebody};
use crate::support::eventually;
use crate::support::token::{Token, alice, bob};

/// Cards whose replays fail, and stay queued until upstream takes them.
fn stuck(queue: &str) -> Scene {
    let scene = Scene::queueing(&format!("{STUCK}\n{queue}"));
    scene.fail("PATCH cards", 500);
    scene
}

/// A write to another table, which nothing holds up.
#[track_caller]
fn passes(scene: &Scene, who: &Token, title: &str) -> String {
    let id = row("authors", "name", "'before'");
    let answer =
        scene.write(who, "PATCH", &point("authors", id), &json!({ "name": title })).send().expect(204);
    assert_eq!(held("authors", id)["name"], title, "awaited");
    forwarded(&answer)
}

#[test]
fn above_max_writes_everybody_is_forwarded() {
    let scene = stuck("max_writes = 3");
    for who in [alice(), alice(), bob()] {
        scene.patch(&who, "cards", card("before"), &json!({ "title": "after" }));
    }
    let reasons = [passes(&scene, &alice(), "alice's"), passes(&scene, &bob(), "bob's")];
    assert_eq!(reasons, ["queue-full", "queue-full"]);
    scene.pass("PATCH cards");
}

#[test]
fn above_his_own_limit_a_caller_is_forwarded_and_others_are_not() {
    let scene = stuck("max_writes_per_caller = 2");
    for _ in 0..2 {
        scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    }
    assert_eq!(passes(&scene, &alice(), "forwarded"), "caller-queue-full");
    let id = row("authors", "name", "'before'");
    let bobs = scene.patch(&bob(), "authors", id, &json!({ "name": "deferred" }));
    scene.applied(&bob(), &bobs);
}

#[test]
fn room_that_comes_back_is_used() {
    let scene = Scene::queueing("max_writes_per_caller = 2");
    let gate = scene.hold("PATCH cards");
    let writes =
        [(); 2].map(|()| scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" })));
    passes(&scene, &alice(), "forwarded");
    gate.open();
    writes.iter().for_each(|write| scene.applied(&alice(), write));
    let again = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    scene.applied(&alice(), &again);
}

#[test]
fn a_body_above_the_routes_limit_is_forwarded() {
    let scene = Scene::with(|setup| setup.write(TABLES, BY_USER, "max_body = \"1KiB\""));
    for (length, deferred) in [(900, true), (1100, false), (200_000, false)] {
        let id = card("before");
        let body = json!({ "title": "x".repeat(length) });
        let answer = scene.write(&alice(), "PATCH", &point("cards", id), &body).send();
        if deferred {
            scene.applied(&alice(), &Queued::of(answer));
        } else {
            assert_eq!(forwarded(&answer.expect(204)), "body-too-large");
        }
        assert_eq!(held("cards", id)["title"].as_str().unwrap().len(), length);
    }
}

#[test]
fn a_body_of_unknown_length_arrives_whole() {
    let scene = Scene::new();
    for length in [1000, 70_000] {
        let id = card("before");
        let body = json!({ "title": "x".repeat(length) }).to_string();
        let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let request = scene.sluice.request("PATCH", &point("cards", id)).signed_in(alice().sign());
        let request =
            request.header("Content-Type", "application/json").header("Transfer-Encoding", "chunked");
        let mut connection = crate::support::http::Connection::open(scene.sluice.address()).unwrap();
        connection.write(&[request.encode(), chunked.into_bytes()].concat()).unwrap();
        let answer = connection.read("PATCH").unwrap();
        if answer.status == 202 {
            scene.applied(&alice(), &Queued::of(answer));
        } else {
            forwarded(&answer.expect(204));
        }
        assert_eq!(held("cards", id)["title"].as_str().unwrap().len(), length);
    }
}

#[test]
fn many_writers_at_once_lose_and_mix_nothing() {
    let scene = Scene::new();
    let shared = card("before");
    let work = |writer: usize| {
        let me = somebody();
        let own = card("before");
        let mut writes = Vec::new();
        for n in 0..20 {
            let title = format!("{writer}/{n}");
            writes.push(scene.patch(&me, "cards", own, &json!({ "title": title })));
            assert_eq!(scene.sees(&me, "cards", own, "title"), title);
            if n % 5 == 0 {
                writes.push(scene.patch(&me, "cards", shared, &json!({ "body": title })));
                let id = new_id();
                writes.push(scene.insert(&me, "cards", &json!({ "id": id, "title": title })));
            }
        }
        let states: Vec<Value> =
            writes.iter().map(|write| scene.ended(&me, write)["state"].clone()).collect();
        assert!(states.iter().all(|state| state == "applied" || state == "superseded"), "{states:?}");
        assert_eq!(held("cards", own)["title"], format!("{writer}/19"));
        let ids: Vec<_> = writes.into_iter().map(|write| write.id).collect();
        (ids, states.iter().filter(|state| *state == "superseded").count())
    };
    let (mut ids, mut superseded) = (Vec::new(), 0);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..8).map(|writer| scope.spawn(move || work(writer))).collect();
        for writer in writers {
            let (own, lost) = writer.join().unwrap();
            ids.extend(own);
            superseded += lost;
        }
    });
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "each write has an id of its own");
    assert!(superseded <= 32, "only writes to the shared row can be");
    eventually("the queue is empty", || scene.sluice.metric("sluice_queue_depth") == 0.0);
}

#[test]
fn a_writer_with_much_to_say_does_not_keep_others_waiting() {
    let scene = Scene::queueing("concurrency = 4");
    let gate = scene.hold("PATCH cards");
    let many: Vec<_> = (0..40)
        .map(|_| scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" })))
        .collect();
    let id = row("authors", "name", "'before'");
    let bobs = scene.patch(&bob(), "authors", id, &json!({ "name": "after" }));
    scene.applied(&bob(), &bobs);
    gate.open();
    many.iter().for_each(|write| scene.applied(&alice(), write));
}
