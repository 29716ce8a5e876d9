//! Sluice's own endpoints for clients: one's writes, and what happens to them.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{Queued, Scene, card, held, point};
use crate::support::eventually;
use crate::support::http::{Connection, Request};
use crate::support::token::{Token, alice, anon_key, bob};

/// A server-sent event.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    /// Where to resume after it.
    id: String,
    text: String,
}

impl Event {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

/// An open stream of events, read as a browser reads it (HTML, section 9.2).
struct Events {
    connection: Connection,
    is_chunked: bool,
    chunk: VecDeque<u8>,
    last_id: String,
}

impl Events {
    /// Opens it; the answer's head must say that it is one.
    #[track_caller]
    fn open(request: &Request) -> Self {
        let mut connection = Connection::open(request.address()).unwrap();
        connection.write(&request.encode()).unwrap();
        let head = connection.read_head().unwrap().expect(200);
        assert!(
            head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")),
            "{head:?}"
        );
        assert!(head.header("access-control-allow-origin").is_some(), "{head:?}");
        assert!(head.header("cache-control").is_some_and(|value| value.contains("no-")), "{head:?}");
        let is_chunked = head.header("transfer-encoding").is_some();
        Self { connection, is_chunked, chunk: VecDeque::new(), last_id: String::new() }
    }

    /// A caller's own; what happens from now on is told.
    #[track_caller]
    fn of(scene: &Scene, who: &Token, query: &str) -> Self {
        let request = scene.sluice.get(&format!("/sluice/v1/events{query}")).signed_in(who.sign());
        Self::open(&request.header("Accept", "text/event-stream"))
    }

    fn byte(&mut self) -> Option<u8> {
        if !self.is_chunked {
            return self.connection.read_exact(1).ok().map(|bytes| bytes[0]);
        }
        if self.chunk.is_empty() {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.connection.read_exact(1).ok()?);
            }
            let line = String::from_utf8(line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok().filter(|size| *size > 0)?;
            self.chunk.extend(self.connection.read_exact(size).ok()?);
            self.connection.read_exact(2).ok()?;
        }
        self.chunk.pop_front()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Some(String::from_utf8(line).expect("it is UTF-8")),
                byte => line.push(byte),
            }
        }
    }

    /// The next event; `None` at the stream's end.
    fn next(&mut self) -> Option<Event> {
        let mut text = String::new();
        loop {
            let line = self.line()?;
            if line.is_empty() && !text.is_empty() {
                return Some(Event { id: self.last_id.clone(), text });
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => value.clone_into(&mut self.last_id),
                "data" => text += value,
                _ => {}
            }
        }
    }

    /// Waits for a comment, nothing else being told before.
    #[track_caller]
    fn comment(&mut self) {
        loop {
            let line = self.line().expect("the stream stays");
            if line.starts_with(':') {
                return;
            }
            assert!(!line.starts_with("data"), "a comment was expected: {line}");
        }
    }

    /// The next event about a write.
    #[track_caller]
    fn about(&mut self, id: &str) -> Event {
        loop {
            let event = self.next().expect("the stream stays");
            if event.json()["id"] == id {
                return event;
            }
        }
    }
}

#[test]
fn a_writes_status_is_its_writers_alone() {
    let scene = Scene::new();
    let gate = scene.hold("PATCH cards");
    let id = card("before");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    let status = scene.status(&alice(), &queued.id).expect(200);
    assert!(status.header("content-type").unwrap().starts_with("application/json"));
    assert!(
        status.header("cache-control").is_some_and(|value| value.contains("no-")),
        "{:?}",
        status.headers
    );
    let status = status.json();
    assert_eq!(
        (&status["id"], &status["table"], &status["state"]),
        (&json!(queued.id), &json!("cards"), &json!("queued"))
    );
    // As filters have it.
    assert_eq!(
        (&status["key"], &status["updated_at"]),
        (&json!({ "id": id.to_string() }), &json!(queued.updated_at)),
        "{status}"
    );
    assert!(status["reason"].is_null() && status["attempts"].is_u64(), "{status}");
    let ask = || scene.sluice.get(&format!("/sluice/v1/writes/{}", queued.id));
    let forger = alice().secret("another-secret-that-is-long-enough-for-hs256");
    let others: [(&str, Request); 6] = [
        ("another user", ask().signed_in(bob().sign())),
        ("his sub elsewhere", ask().signed_in(alice().claim("iss", "http://elsewhere/auth/v1").sign())),
        ("another role of his", ask().signed_in(alice().claim("role", "editor").sign())),
        ("anon", ask().anonymous()),
        ("nobody", ask()),
        ("a forger", ask().signed_in(forger.sign())),
    ];
    for (name, request) in others {
        let answer = request.send();
        assert!(matches!(answer.status, 401 | 404), "{name}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("cards"), "{name}: {}", answer.text());
    }
    scene.status(&bob(), &queued.id).expect(404);
    gate.open();
    scene.applied(&alice(), &queued);
}

#[test]
fn nothing_below_sluice_v1_reaches_upstream() {
    let scene = Scene::new();
    for (method, target) in [
        ("GET", "/sluice/v1/writes/x"),
        ("DELETE", "/sluice/v1/writes/x"),
        ("POST", "/sluice/v1/events"),
        ("GET", "/sluice/v1/nothing"),
        ("GET", "/sluice/v1/"),
    ] {
        let answer = scene.sluice.request(method, target).signed_in(alice().sign()).send();
        assert!(matches!(answer.status, 404 | 405), "{method} {target}: {}", answer.status);
        assert!(answer.json()["code"].as_str().unwrap().starts_with("SLUICE"), "{}", answer.text());
        assert_eq!(scene.upstream.count(target), 0, "{method} {target}");
    }
    let preflight =
        scene.sluice.request("OPTIONS", "/sluice/v1/writes/x").header("Origin", "https://app.example.com");
    let preflight = preflight.header("Access-Control-Request-Method", "GET");
    let preflight = preflight.header("Access-Control-Request-Headers", "apikey,authorization").send();
    assert!(matches!(preflight.status, 200 | 204), "{}", preflight.status);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    let allowed = preflight.joined("access-control-allow-headers").to_ascii_lowercase();
    assert!(allowed.contains("authorization") && allowed.contains("apikey"), "{allowed}");
    assert_eq!(scene.upstream.count("/sluice/v1/writes/x"), 0);
}

#[test]
fn events_tell_the_writer_how_each_write_fares() {
    let scene = Scene::new();
    let mut events = Events::of(&scene, &alice(), "");
    let applied = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    let first = events.about(&applied.id);
    let second = events.about(&applied.id);
    let shown = |event: &Event| (event.json()["state"].clone(), event.json()["table"].clone());
    assert_eq!(shown(&first), (json!("queued"), json!("cards")), "{first:?}");
    assert_eq!(shown(&second), (json!("applied"), json!("cards")), "{second:?}");
    assert!(!first.id.is_empty() && first.id != second.id, "each has an id to resume from");

    let refused = scene.patch(&alice(), "cards", card("before"), &json!({ "rank": -1 }));
    assert_eq!(events.about(&refused.id).json()["state"], "queued");
    let rejected = events.about(&refused.id).json();
    assert_eq!(rejected["state"], "rejected");
    assert!(rejected["reason"].is_string(), "{rejected}");
    scene.rejected(&alice(), &refused);
}

#[test]
fn events_are_the_callers_own() {
    let scene = Scene::new();
    let mut bobs = Events::of(&scene, &bob(), "");
    let alices = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    scene.applied(&alice(), &alices);
    let own = scene.patch(&bob(), "cards", card("before"), &json!({ "title": "after" }));
    let first = bobs.next().unwrap();
    assert_eq!(first.json()["id"], own.id, "{first:?}");
}

#[test]
fn a_stream_is_kept_alive_by_comments() {
    let scene = Scene::new();
    let mut events = Events::of(&scene, &alice(), "");
    events.comment();
    let queued = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    assert_eq!(events.about(&queued.id).json()["state"], "queued");
}

#[test]
fn events_are_resumed_where_they_were_left() {
    let scene = Scene::new();
    let mut events = Events::of(&scene, &alice(), "");
    let first = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "one" }));
    events.about(&first.id);
    let seen = events.about(&first.id);
    drop(events);
    let missed = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "two" }));
    scene.applied(&alice(), &missed);
    let bobs = scene.patch(&bob(), "cards", card("before"), &json!({ "title": "bob's" }));
    scene.applied(&bob(), &bobs);
    let request =
        scene.sluice.get("/sluice/v1/events").signed_in(alice().sign()).header("Last-Event-ID", seen.id);
    let mut resumed = Events::open(&request);
    let mut event = resumed.next().unwrap();
    assert_eq!(event.json()["id"], missed.id, "nothing is told twice, nobody else's at all: {event:?}");
    while event.json()["state"] != "applied" {
        event = resumed.about(&missed.id);
    }
    let next = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "three" }));
    assert_eq!(resumed.about(&next.id).json()["id"], next.id);
}

#[test]
fn a_position_that_makes_no_sense_is_no_error() {
    let scene = Scene::new();
    for position in ["", "x", "-1", "99999999999999999999", "18446744073709551615", "1,2"] {
        let request =
            scene.sluice.get("/sluice/v1/events").signed_in(alice().sign()).header("Last-Event-ID", position);
        let mut events = Events::open(&request);
        let queued = scene.patch(&alice(), "cards", card("before"), &json!({ "title": position }));
        assert_eq!(events.about(&queued.id).json()["table"], "cards");
        scene.applied(&alice(), &queued);
    }
}

#[test]
fn tables_tell_of_changes_without_saying_of_what() {
    let scene = Scene::new();
    let mut events = Events::of(&scene, &alice(), "?tables=cards,labels");
    let id = card("before");
    let changed = scene.patch(&bob(), "cards", id, &json!({ "title": "confidential" }));
    scene.applied(&bob(), &changed);
    let event = events.next().unwrap();
    assert_eq!(event.json()["table"], "cards", "{event:?}");
    for hidden in [id.to_string(), changed.id, "confidential".into(), bob().sub().to_owned()] {
        assert!(!event.text.contains(&hidden), "{event:?}");
    }
    // A forwarded write is a change too.
    let label = json!({ "name": format!("l{id}"), "colour": "red" });
    scene.write(&bob(), "POST", "/rest/v1/labels?columns=name,colour", &json!([label])).send().expect(201);
    loop {
        let event = events.next().expect("the stream stays");
        if event.json()["table"] == "labels" {
            break;
        }
    }
}

#[test]
fn tables_that_may_not_be_read_are_not_told_of() {
    let scene = Scene::new();
    for tables in ["letters", "nothing", "cards,letters"] {
        let request =
            scene.sluice.get(&format!("/sluice/v1/events?tables={tables}")).signed_in(alice().sign());
        let mut connection = Connection::open(scene.sluice.address()).unwrap();
        connection.write(&request.encode()).unwrap();
        let head = connection.read_head().unwrap();
        assert!(matches!(head.status, 401 | 403 | 404), "{tables}: {}", head.status);
    }
}

#[test]
fn events_want_a_token_that_holds_and_end_with_it() {
    let scene = Scene::new();
    let events = || scene.sluice.get("/sluice/v1/events");
    for (name, request) in [
        ("nobody", events()),
        ("anon", events().anonymous()),
        ("expired", events().signed_in(alice().expires_in(-300).sign())),
        ("forged", events().signed_in(alice().secret("another-secret-that-is-long-enough-for-hs256").sign())),
    ] {
        let answer = request.send();
        assert!(matches!(answer.status, 401 | 403), "{name}: {}", answer.status);
    }
    let brief = Scene::with(|setup| {
        setup.section("auth", "leeway = \"0s\"").write(super::TABLES, super::BY_USER, "")
    });
    let mut ending = Events::of(&brief, &alice().expires_in(2), "");
    assert_eq!(ending.next(), None, "it ends at the token's exp");

    // EventSource can't send headers.
    let target = format!("/sluice/v1/events?apikey={}&access_token={}", anon_key(), alice().sign());
    let mut events = Events::open(&scene.sluice.get(&target));
    let queued = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    assert_eq!(events.about(&queued.id).json()["state"], "queued");
}

#[test]
fn a_reader_that_has_gone_costs_nothing() {
    let scene = Scene::new();
    for _ in 0..20 {
        drop(Events::of(&scene, &alice(), ""));
    }
    let id = card("before");
    let queued =
        Queued::of(scene.write(&alice(), "PATCH", &point("cards", id), &json!({ "title": "after" })).send());
    scene.applied(&alice(), &queued);
    assert_eq!(held("cards", id)["title"], "after");
    eventually("the connections are gone", || scene.sluice.metric("sluice_connections") <= 1.0);
}
