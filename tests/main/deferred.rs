//! Deferred writes: answered before upstream has them, then never lost, doubled,
//! reordered or shown to anybody but their writer.

mod admission;
mod answer;
mod clients;
mod credentials;
mod durability;
mod endpoints;
mod input;
mod limits;
mod order;
mod outcomes;
mod replay;
mod visibility;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::faulty::{Act, Answer, Faulty, Gate};
use crate::support::http::{Request, Response};
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{Token, service_key};
use crate::support::{backend, eventually, unique};

/// The tables of `tests/sql/deferred.sql`, as a route names them.
const TABLES: &str = r#"table = ["cards", "stamped", "drafts", "local_times", "seats", "labels", "authors", "books",
    "diaries", "badges", "letters", "gadgets", "other.cards"]"#;
/// What most scenes say in `[route.read]`.
const BY_USER: &str = "ttl = \"1h\"\nscope = \"user\"";
/// Replays that fail are tried again soon.
const IMPATIENT: &str = "backoff = { first = \"10ms\", max = \"100ms\" }";
/// A lane whose replay has failed stays in backoff for longer than any test takes.
const STUCK: &str = "backoff = { first = \"60s\", max = \"60s\" }";

/// Real servers, a faulty upstream that stands before them, and Sluice in front of it.
struct Scene {
    upstream: Faulty,
    setup: Setup,
    sluice: Sluice,
}

impl Scene {
    /// Every table of its own deferred, entries by user.
    #[track_caller]
    fn new() -> Self {
        Self::with(|setup| setup.write(TABLES, BY_USER, ""))
    }

    /// As [`Scene::new`], with more keys of `[queue]`.
    #[track_caller]
    fn queueing(keys: &str) -> Self {
        Self::with(|setup| setup.write(TABLES, BY_USER, "").queue(keys))
    }

    /// With these routes, from the moment on when writes are deferred.
    #[track_caller]
    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let scene = Self::unready(|setup| change(setup.with_schema()));
        scene.wait_until_ready();
        scene
    }

    /// With these routes, the schema maybe unknown.
    #[track_caller]
    fn unready(change: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let setup = change(Setup::new(&upstream.url()).write("table = \"probes\"", BY_USER, ""));
        let setup = if setup.toml().contains("backoff =") { setup } else { setup.queue(IMPATIENT) };
        let sluice = setup.start();
        Self { upstream, setup, sluice }
    }

    /// Waits until a write is deferred, and until upstream has it.
    #[track_caller]
    fn wait_until_ready(&self) {
        let prober = Token::of("9c0be000-0000-4000-8000-000000000009");
        let target = point("probes", row("probes", "name", "'before'"));
        let mut last = None;
        eventually("writes are deferred", || {
            let answer = self.write(&prober, "PATCH", &target, &json!({ "name": "after" })).send();
            let deferred = answer.status == 202;
            last = Some(answer);
            deferred
        });
        let probe = Queued::of(last.expect("it was answered"));
        // What waits for a write ends its lingering.
        eventually("the probe is gone", || {
            self.sluice.request("DELETE", &target).signed_in(prober.sign()).send().status == 204
        });
        self.applied(&prober, &probe);
    }

    /// The same, from the journal's folder that is there, after Sluice was killed.
    #[track_caller]
    fn killed_and_started_again(self) -> Self {
        let Self { upstream, setup, sluice } = self;
        sluice.kill();
        let sluice = setup.start();
        Self { upstream, setup, sluice }
    }

    /// The same, after Sluice was asked to stop.
    #[track_caller]
    fn stopped_and_started_again(self) -> Self {
        let Self { upstream, setup, sluice } = self;
        assert_eq!(sluice.stop(), Some(0));
        let sluice = setup.start();
        Self { upstream, setup, sluice }
    }

    /// A write through Sluice, as supabase-js sends it.
    fn write(&self, who: &Token, method: &str, target: &str, body: &Value) -> Request {
        self.sluice.request(method, target).signed_in(who.sign()).json(body)
    }

    /// A deferred PATCH of one row of a table whose key is `id`.
    #[track_caller]
    fn patch(&self, who: &Token, table: &str, id: u64, body: &Value) -> Queued {
        Queued::of(self.write(who, "PATCH", &point(table, id), body).send())
    }

    /// A deferred plain insert.
    #[track_caller]
    fn insert(&self, who: &Token, table: &str, body: &Value) -> Queued {
        Queued::of(self.write(who, "POST", &format!("/rest/v1/{table}"), body).send())
    }

    /// A read through Sluice.
    #[track_caller]
    fn read(&self, who: &Token, target: &str) -> Response {
        self.sluice.get(target).signed_in(who.sign()).send().expect(200)
    }

    /// One column of one row, as `who` sees it through Sluice. Null: no such row.
    #[track_caller]
    fn sees(&self, who: &Token, table: &str, id: u64, column: &str) -> Value {
        self.read(who, &point(table, id)).json()[0][column].clone()
    }

    /// What the status endpoint says to a caller about a write.
    #[track_caller]
    fn status(&self, who: &Token, id: &str) -> Response {
        self.sluice.get(&format!("/sluice/v1/writes/{id}")).signed_in(who.sign()).send()
    }

    /// Waits until a write has ended, and gives back what its status says then.
    #[track_caller]
    fn ended(&self, who: &Token, write: &Queued) -> Value {
        let mut status = Value::Null;
        eventually(&format!("the write {} ends", write.id), || {
            status = self.status(who, &write.id).expect(200).json();
            status["state"] != "queued"
        });
        status
    }

    /// Waits until a write has ended and panics unless upstream took it.
    #[track_caller]
    fn applied(&self, who: &Token, write: &Queued) {
        let status = self.ended(who, write);
        assert_eq!(status["state"], "applied", "{status}");
    }

    /// Waits until a write has ended and panics unless it was rejected.
    #[track_caller]
    fn rejected(&self, who: &Token, write: &Queued) -> Value {
        let status = self.ended(who, write);
        assert_eq!(status["state"], "rejected", "{status}");
        status
    }

    /// Upstream keeps requests of this kind (`PATCH cards`) waiting until the gate opens.
    fn hold(&self, kind: &str) -> Gate {
        let gate = Gate::new();
        self.upstream.always(&pattern(kind), Act::Hold(gate.clone(), Box::new(Act::Pass)));
        gate
    }

    /// Upstream answers requests of this kind with this status.
    fn fail(&self, kind: &str, status: u16) {
        let body = json!({ "code": "X", "message": "scripted", "details": null, "hint": null });
        self.upstream.always(&pattern(kind), Answer::new(status, body.to_string()).act());
    }

    /// Upstream passes requests of this kind on again.
    fn pass(&self, kind: &str) {
        self.upstream.always(&pattern(kind), Act::Pass);
    }

    /// How many requests of this kind have reached upstream.
    fn count(&self, kind: &str) -> usize {
        self.upstream.count(&pattern(kind))
    }

    /// Waits until so many requests of this kind have reached upstream.
    #[track_caller]
    fn wait_for(&self, kind: &str, count: usize) {
        self.upstream.wait_for(&pattern(kind), count);
    }
}

/// `PATCH cards` as the faulty upstream writes it.
fn pattern(kind: &str) -> String {
    let (method, table) = kind.split_once(' ').expect("a method and a table");
    format!("{method} /rest/v1/{table}")
}

/// An answer 202 and what it says.
struct Queued {
    id: String,
    updated_at: String,
    answer: Response,
}

impl Queued {
    /// Reads it; panics where the write wasn't deferred.
    #[track_caller]
    fn of(answer: Response) -> Self {
        let answer = answer.expect(202);
        let said = answer.header("sluice-write").expect("a 202 has a Sluice-Write").to_owned();
        let parameter = |name: &str| {
            let mut parameters = said.split("; ").skip(1).filter_map(|text| text.split_once('='));
            let value = parameters.find(|(known, _)| *known == name).map(|(_, value)| value);
            value.unwrap_or_else(|| panic!("{name} is missing: {said}")).trim_matches('"').to_owned()
        };
        assert!(said.starts_with("queued; "), "{said}");
        Self { id: parameter("id"), updated_at: parameter("updated_at"), answer }
    }
}

/// Why a write was forwarded; panics where Sluice doesn't say that it was.
#[track_caller]
fn forwarded(answer: &Response) -> String {
    let said = answer.header("sluice-write").unwrap_or_default().to_owned();
    let reason = said.strip_prefix("forwarded; reason=").unwrap_or_default().trim_matches('"').to_owned();
    assert!(
        !reason.is_empty(),
        "forwarded, and why, was expected: {said:?}, {} {}",
        answer.status,
        answer.text()
    );
    reason
}

/// The path of one row of a table whose key is `id`.
fn point(table: &str, id: u64) -> String {
    format!("/rest/v1/{table}?id=eq.{id}")
}

/// A key that no row has yet and that is in no other number.
fn new_id() -> u64 {
    7_000_000_000 + unique()
}

/// A new row of a table whose key is `id`, an hour old. Columns and values are SQL.
fn row(table: &str, columns: &str, values: &str) -> u64 {
    let id = new_id();
    sql(&format!(
        "insert into {table} (id, {columns}, updated_at) values ({id}, {values}, now() - interval '1 hour')"
    ));
    id
}

/// A new card with this title.
fn card(title: &str) -> u64 {
    row("cards", "title", &format!("'{title}'"))
}

/// All columns of a card, for writes that need them all.
fn whole_card(id: u64, title: &str) -> Value {
    json!({
        "id": id, "deck": 3, "owner": null, "title": title, "body": "b", "rank": 2, "slug": format!("s{id}"),
        "updated_at": "2026-01-01T00:00:00Z",
    })
}

/// Runs SQL past everything.
#[track_caller]
fn sql(text: &str) {
    backend::shared().sql(text);
}

/// What upstream itself answers to the service role.
#[track_caller]
fn upstream(target: &str) -> Response {
    Request::new(&backend::shared().address(), "GET", target).signed_in(service_key()).send().expect(200)
}

/// One row as upstream holds it. Null: no such row.
#[track_caller]
fn held(table: &str, id: u64) -> Value {
    upstream(&point(table, id)).json()[0].clone()
}

/// A user of the test's own.
fn somebody() -> Token {
    Token::of(&format!("50bed0d0-0000-4000-8000-{:012}", unique()))
}

/// The header's value in seconds.
#[track_caller]
fn retry_after(answer: &Response) -> Duration {
    let seconds = answer.header("retry-after").and_then(|value| value.parse().ok());
    Duration::from_secs(seconds.unwrap_or_else(|| panic!("no Retry-After in seconds: {answer:?}")))
}

/// Panics unless Sluice itself said that the request has to wait.
#[track_caller]
fn told_to_wait(answer: Response) {
    let answer = answer.expect(503);
    assert!(retry_after(&answer) >= Duration::from_secs(1), "{answer:?}");
    assert!(
        answer.json()["code"].as_str().is_some_and(|code| code.starts_with("SLUICE")),
        "{}",
        answer.text()
    );
    assert!(answer.header("access-control-allow-origin").is_some(), "{answer:?}");
}
