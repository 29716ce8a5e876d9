//! Sluice's own endpoints for clients: what they answer, and to whom.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::eventually;
use crate::support::faulty::{Act, Answer, Faulty};
use crate::support::http::{Connection, Request, Response};
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{Token, alice, anon_key, bob, service_key};

const EVENTS: &str = "/sluice/v1/events";
const NO_WRITE: &str = "/sluice/v1/writes/01890000-0000-7000-8000-000000000000";

/// An open stream of events.
struct Events {
    connection: Connection,
    head: Response,
    seen: String,
}

impl Events {
    fn open(request: &Request) -> Self {
        let mut connection = Connection::open(request.address()).unwrap();
        connection.write(&request.encode()).unwrap();
        let head = connection.read_head().unwrap();
        assert_eq!(head.status, 200, "{head:?}");
        Self { connection, head, seen: String::new() }
    }

    /// Reads until this has come; what came with and before it.
    #[track_caller]
    fn until(&mut self, needle: &str) -> String {
        while !self.seen.contains(needle) {
            let byte = self.connection.read_exact(1).unwrap_or_else(|error| panic!("{error}: {}", self.seen));
            self.seen.push(char::from(byte[0]));
        }
        std::mem::take(&mut self.seen)
    }

    /// What comes until the stream ends by itself.
    fn rest(&mut self) -> String {
        self.until("0\r\n\r\n")
    }
}

/// An upstream where everybody may read `users` and nobody `secrets`.
fn upstream() -> Faulty {
    let upstream = Faulty::start();
    upstream.always("GET /rest/v1/users", Answer::json("[]").act());
    upstream.always("GET /rest/v1/secrets", Answer::new(403, "{}").act());
    upstream.always("PATCH /rest/v1/users", Answer::new(204, "").act());
    upstream
}

fn change(sluice: &Sluice) {
    let request = sluice.request("PATCH", "/rest/v1/users?id=eq.1").signed_in(bob().sign());
    request.json(&json!({"name": "x"})).send().expect(204);
}

#[test]
fn a_change_is_told_to_those_who_may_read_the_table_and_asked() {
    let upstream = upstream();
    let sluice = Setup::new(&upstream.url()).start();
    let target = format!("{EVENTS}?tables=users&apikey={}", anon_key());
    let mut events = Events::open(&sluice.get(&target).bearer(alice().sign()));
    assert_eq!(events.head.header("content-type"), Some("text/event-stream"));
    assert_eq!(events.head.header("cache-control"), Some("no-store"));
    assert_eq!(events.head.header("x-accel-buffering"), Some("no"));
    assert_eq!(events.head.header("access-control-allow-origin"), Some("*"));
    assert!(events.until("\n\n").contains("retry: "));
    let [probe] = &upstream.requests("GET /rest/v1/users")[..] else { panic!("one question") };
    assert_eq!(probe.target, "/rest/v1/users?limit=0");
    assert_eq!(probe.header("apikey"), Some(anon_key().as_str()));
    assert_eq!(probe.header("accept-profile"), Some("public"));
    assert!(probe.header("authorization").is_some_and(|bearer| bearer.starts_with("Bearer ey")));
    let begun = Instant::now();
    change(&sluice);
    let text = events.until("\n\n");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(text.contains("event: change\ndata: {\"table\":\"users\",\"at\":\"20"), "{text}");
    assert!(!text.contains("id"), "neither the key nor an id: {text}");
}

#[test]
fn an_event_source_sends_its_token_in_the_query() {
    let upstream = upstream();
    let sluice = Setup::new(&upstream.url()).section("log", "access = true\nformat = \"json\"").start();
    let token = alice().sign();
    let mut events = Events::open(&sluice.get(&format!("{EVENTS}?access_token={token}&tables=public.users")));
    events.until("\n\n");
    change(&sluice);
    assert!(events.until("\n\n").contains("\"table\":\"users\""));
    drop(events);
    eventually("the stream is logged", || sluice.log().contains(EVENTS));
    assert!(!sluice.log().contains(&token) && sluice.log().contains("access_token=[masked]"));
}

#[test]
fn who_comes_back_is_told_that_tables_may_have_changed() {
    let upstream = upstream();
    let sluice = Setup::new(&upstream.url()).start();
    let request = sluice.get(&format!("{EVENTS}?tables=users&last_event_id=1-1")).bearer(alice().sign());
    let mut events = Events::open(&request);
    let text = events.until("event: change");
    assert!(text.contains("event: resync\ndata: {}\n\n"), "{text}");
}

#[test]
fn a_table_that_may_not_be_read_is_named() {
    let upstream = upstream();
    let sluice = Setup::new(&upstream.url()).start();
    let ask = |tables: &str| sluice.get(&format!("{EVENTS}?tables={tables}")).bearer(alice().sign()).send();
    let refused = ask("users,secrets").expect(403);
    assert_eq!(refused.json()["code"], "SLUICE403");
    assert!(refused.text().contains("public.secrets"), "{}", refused.text());
    assert!(ask("missing").expect(403).text().contains("public.missing"));
    ask("a.b.c").expect(400);
    upstream.always("GET /rest/v1/users", Answer::new(500, "").act());
    ask("users").expect(503);
    upstream.always("GET /rest/v1/users", Act::Drop);
    ask("users").expect(502);
}

#[test]
fn who_is_not_known_is_told_so() {
    let sluice = Setup::new(&upstream().url()).start();
    for target in [EVENTS, NO_WRITE] {
        let tokens = [
            None,
            Some(anon_key()),
            Some(service_key()),
            Some(alice().expires_in(-60).sign()),
            Some(alice().claim("sub", serde_json::Value::Null).sign()),
        ];
        for token in tokens {
            let request = sluice.get(target).apikey(anon_key());
            let request = token.iter().fold(request, |request, token| request.bearer(token));
            let answer = request.send().expect(401);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{target} {token:?}");
            assert_eq!(answer.json()["code"], "SLUICE401");
        }
    }
}

#[test]
fn a_write_that_is_not_ones_own_is_not_there() {
    let sluice = Setup::new(&upstream().url()).start();
    for target in [NO_WRITE, "/sluice/v1/writes/x", "/sluice/v1/nothing", "/sluice/v1/writes"] {
        let answer = sluice.get(target).signed_in(alice().sign()).send().expect(404);
        assert_eq!(answer.json()["code"], "SLUICE404");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
    let head = sluice.request("HEAD", NO_WRITE).signed_in(alice().sign()).send().expect(404);
    assert!(head.body.is_empty());
}

#[test]
fn other_methods_and_preflights_are_answered_here() {
    let upstream = upstream();
    let sluice = Setup::new(&upstream.url()).start();
    for target in [EVENTS, NO_WRITE] {
        let refused = sluice.request("DELETE", target).signed_in(alice().sign()).send().expect(405);
        assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
        let preflight = sluice.request("OPTIONS", target).header("Origin", "https://app.example");
        let preflight = preflight
            .header("Access-Control-Request-Method", "GET")
            .header("Access-Control-Request-Headers", "authorization, last-event-id")
            .send()
            .expect(204);
        assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
        assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization, last-event-id"));
        assert!(
            preflight.header("access-control-allow-methods").is_some_and(|methods| methods.contains("GET"))
        );
        assert!(preflight.header("access-control-max-age").is_some());
    }
    let head = sluice.request("HEAD", EVENTS).bearer(alice().sign()).send().expect(200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(upstream.requests("OPTIONS /sluice/v1/events").len(), 0);
}

#[test]
fn a_stream_ends_with_its_token_and_with_the_process() {
    let sluice = Setup::new(&upstream().url()).start();
    let stream = |token: Token| Events::open(&sluice.get(EVENTS).bearer(token.sign()));
    let begun = Instant::now();
    stream(alice().expires_in(3)).rest();
    assert!((1..8).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let mut open = stream(alice());
    open.until("\n\n");
    let begun = Instant::now();
    sluice.process().signal("TERM");
    open.rest();
    assert_eq!(sluice.process().wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn one_user_has_sixteen_streams() {
    let sluice = Setup::new(&upstream().url()).start();
    let ask = |token: Token| sluice.get(EVENTS).bearer(token.sign());
    let mut held: Vec<Events> = (0..16).map(|_| Events::open(&ask(alice()))).collect();
    let refused = ask(alice()).send().expect(429);
    assert!(refused.header("retry-after").is_some());
    let _bobs = Events::open(&ask(bob()));
    held.pop();
    eventually("the place of a client who left is free", || {
        let mut connection = Connection::open(sluice.address()).unwrap();
        connection.write(&ask(alice()).encode()).unwrap();
        connection.read_head().unwrap().status == 200
    });
}

#[test]
fn a_silent_stream_is_kept_alive() {
    let sluice = Setup::new(&upstream().url()).start();
    let mut events = Events::open(&sluice.get(EVENTS).bearer(alice().sign()));
    events.until("\n\n");
    let begun = Instant::now();
    events.until(":\n\n");
    assert!((10..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
