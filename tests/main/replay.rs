//! Replays against PostgREST: each does what the caller's own request would
//! have done, once, and nobody's newer row is overwritten.

use std::sync::OnceLock;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};
use sluice::postgrest::object::Object;
use sluice::postgrest::timestamp::{Micros, TimestampKind};
use sluice::route::{CredentialMode, Guard, OnReject};
use sluice::store::journal::WriteId;
use sluice::tag::Relation;
use sluice::write::record::{Action, Base, CallerName, KeyPart, Record, UpdatedAt};
use sluice::write::replay::{
    Answer, Ask, End, Failure, Job, JobMember, MemberEnd, Outcome, Reason, Replay, Retry, Step,
};
use sluice::write::seal::{Credential, Sealer};

use crate::support::backend::{self, Stack};
use crate::support::http::{Request, Response};
use crate::support::token;

/// Long before any test.
const EARLY: &str = "2026-01-01T00:00:00+00:00";

fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| backend::shared().stack_of("replay", "replay.sql", "public,other"))
}

fn request(method: &str, target: &str) -> Request {
    Request::new(&stack().address(), method, target)
}

/// Somebody who may do anything writes past Sluice.
#[track_caller]
fn direct(method: &str, target: &str, body: Value) {
    let answer = request(method, target)
        .signed_in(token::service_key())
        .header("Content-Profile", if target.contains("things") { "other" } else { "public" })
        .json(&body)
        .send();
    assert!(answer.status < 300, "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
}

/// The row as it is, without its time unless that is asked for.
#[track_caller]
fn row(target: &str) -> Value {
    let profile = if target.contains("things") { "other" } else { "public" };
    let answer =
        request("GET", target).signed_in(token::service_key()).header("Accept-Profile", profile).send();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let mut rows: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
    assert!(rows.len() < 2);
    rows.pop().unwrap_or(Value::Null)
}

fn now() -> Micros {
    Micros::of(SystemTime::now())
}

fn text(time: Micros) -> String {
    time.text(TimestampKind::WithZone)
}

fn object(value: &Value) -> Object {
    Object::parse(value.to_string().as_bytes()).unwrap()
}

/// A queued write of Alice's to a table of `public` whose time is `updated_at`.
fn record(action: Action, table: &str, key: &[(&str, &str)], changes: Value, base: Value) -> Record {
    let sealer = Sealer::from_secret(&[7; 32]).unwrap();
    let caller =
        CallerName { fingerprint: [1; 16], role: "authenticated".into(), sub: token::alice().sub().into() };
    let credential = Credential { token: String::new(), api_key: None, expires: None };
    let formats = [
        ("name", "text"),
        ("n", "integer"),
        ("price", "numeric"),
        ("doc", "jsonb"),
        ("seen_at", "timestamp with time zone"),
        ("parent_id", "bigint"),
        ("owner", "uuid"),
        ("email", "text"),
        ("a.b", "text"),
        ("order", "text"),
        ("select", "integer"),
        ("and", "text"),
        ("secret", "text"),
    ];
    Record {
        route: table.into(),
        relation: Relation::new("public", table),
        profile: Some("public".into()),
        headers: Vec::new(),
        key: key
            .iter()
            .map(|(column, value)| KeyPart { column: column.to_string(), value: value.to_string() })
            .collect(),
        action,
        changes: object(&changes),
        base: if base.is_null() { Base::Absent } else { Base::Row(object(&base)) },
        updated_at: UpdatedAt { column: "updated_at".into(), kind: TimestampKind::WithZone },
        types: formats.map(|(column, format)| (column.to_owned(), format.to_owned())).into(),
        guard: Guard::NotNewer,
        on_reject: OnReject::Skip,
        credentials: CredentialMode::Token,
        sealed: sealer.seal(&credential, WriteId(1), caller.id()).unwrap(),
        session: [3; 16],
        rights: [2; 16],
        caller,
    }
}

fn patch(table: &str, id: &str, changes: Value) -> Record {
    record(Action::Patch, table, &[("id", id)], changes, json!({ "id": id, "updated_at": EARLY }))
}

fn insert(table: &str, id: &str, changes: Value) -> Record {
    record(Action::Insert, table, &[("id", id)], changes, Value::Null)
}

/// Members that were accepted one microsecond after the other.
fn job(first: Micros, records: Vec<Record>) -> Job {
    let member = |(place, record)| JobMember { record, updated_at: Micros(first.0 + place) };
    Job {
        members: (0..).zip(records).map(member).collect(),
        echo: None,
        has_later: false,
        retried_dead_letter: false,
    }
}

fn send(ask: &Ask, token: &str) -> Answer {
    let mut request = request(ask.method.as_str(), &ask.target).signed_in(token);
    for (name, value) in &ask.headers {
        request = request.header(name.as_str(), value.to_str().unwrap());
    }
    if !ask.body.is_empty() {
        request = request.body(ask.body.to_vec());
    }
    let Response { status, headers, body } = request.send();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    Answer { status: StatusCode::from_u16(status).unwrap(), headers: map, body: Bytes::from(body) }
}

/// What came of a job, and how many requests that took.
struct Run {
    ended: Vec<MemberEnd>,
    asked: usize,
    stopped: Option<Step>,
}

/// Runs a job to its end as Alice. The answer to request `lost` gets lost.
fn run_until(job: Job, lost: Option<usize>) -> Run {
    let token = token::alice().sign();
    let (mut replay, mut ask) = Replay::new(job).unwrap();
    let mut run = Run { ended: Vec::new(), asked: 0, stopped: None };
    loop {
        let answer = send(&ask, &token);
        run.asked += 1;
        let step =
            if lost == Some(run.asked) { replay.failed(Failure::Broken) } else { replay.answered(&answer) };
        ask = match step {
            Step::Ask(ask) => ask,
            Step::End(End { ended, .. }) => {
                run.ended.extend(ended);
                match replay.proceed() {
                    Some(ask) => ask,
                    None => return run,
                }
            }
            stopped => {
                run.stopped = Some(stopped);
                return run;
            }
        };
    }
}

fn run(job: Job) -> Run {
    run_until(job, None)
}

impl Run {
    /// The ends, in short.
    fn ends(&self) -> Vec<String> {
        let told = |end: &MemberEnd| match &end.outcome {
            Outcome::Applied => "applied".to_owned(),
            Outcome::Superseded { theirs: None } => "gone".to_owned(),
            Outcome::Superseded { theirs: Some(_) } => "superseded".to_owned(),
            Outcome::Rejected { reason: Reason::Refused, status, body } => {
                let body: Value = serde_json::from_str(body).unwrap_or_default();
                format!("{} {}", status.unwrap(), body["code"].as_str().unwrap_or("-"))
            }
            Outcome::Rejected { reason, .. } => reason.as_str().to_owned(),
        };
        self.ended.iter().map(told).collect()
    }

    #[track_caller]
    fn ends_as(self, expected: &[&str], asked: usize) -> Self {
        assert_eq!(self.ends(), expected);
        assert_eq!(self.asked, asked, "requests");
        self
    }
}

#[test]
fn a_patch_is_applied_with_our_time_and_a_newer_row_is_not_overwritten() {
    direct("POST", "/rest/v1/plain", json!({ "id": 1, "name": "a", "n": 1, "updated_at": EARLY }));
    let time = now();
    let run_one = || run(job(time, vec![patch("plain", "1", json!({ "name": "b" }))]));
    let ended = run_one().ends_as(&["applied"], 1).ended;
    assert_eq!(ended[0].echo.as_deref(), Some(text(time).as_str()));
    let changed = row("/rest/v1/plain?id=eq.1&select=name,n,updated_at");
    assert_eq!(changed, json!({ "name": "b", "n": 1, "updated_at": text(time) }));

    let later = Micros(time.0 + 1_000_000);
    direct("PATCH", "/rest/v1/plain?id=eq.1", json!({ "name": "direct", "updated_at": text(later) }));
    let ended = run_one().ends_as(&["superseded"], 2).ended;
    let Outcome::Superseded { theirs: Some(theirs) } = &ended[0].outcome else { unreachable!() };
    assert_eq!(theirs.get("name").map(|name| name.get()), Some("\"direct\""));
    assert_eq!(theirs.len(), 8, "the whole row");

    direct("DELETE", "/rest/v1/plain?id=eq.1", Value::Null);
    run_one().ends_as(&["gone"], 2);
}

#[test]
fn an_unchanged_guard_compares_the_exact_time() {
    direct(
        "POST",
        "/rest/v1/plain",
        json!({ "id": 2, "name": "a", "updated_at": "2026-01-01T00:00:00.1234567Z" }),
    );
    let known = row("/rest/v1/plain?id=eq.2");
    let unchanged = |base: &Value, changes: Value| {
        let mut record = record(Action::Patch, "plain", &[("id", "2")], changes, base.clone());
        record.guard = Guard::Unchanged;
        run(job(now(), vec![record]))
    };
    unchanged(&known, json!({ "name": "b" })).ends_as(&["applied"], 1);
    unchanged(&known, json!({ "name": "c" })).ends_as(&["superseded"], 2);
    unchanged(&known, json!({ "name": "b" })).ends_as(&["applied"], 2);
    assert_eq!(row("/rest/v1/plain?id=eq.2&select=name"), json!({ "name": "b" }));
}

#[test]
fn a_trigger_that_sets_the_time_is_no_conflict() {
    let write = |name: &str| vec![patch("stamped", "1", json!({ "name": name }))];
    direct("POST", "/rest/v1/stamped", json!({ "id": 1, "name": "a" }));
    let (first, second) = (now(), Micros(now().0 + 1));
    let ended = run(job(first, write("b"))).ends_as(&["applied"], 1).ended;
    let echo = ended[0].echo.clone().unwrap();
    assert_ne!(echo, text(first), "the trigger's");
    // The second was accepted before the first was replayed.
    let next = || Job { echo: Some(echo.clone()), ..job(second, write("c")) };
    run(next()).ends_as(&["applied"], 3);
    assert_eq!(row("/rest/v1/stamped?id=eq.1&select=name"), json!({ "name": "c" }));
    // Its answer was lost.
    run(next()).ends_as(&["applied"], 2);
    // Somebody else's write is one all the same.
    direct("PATCH", "/rest/v1/stamped?id=eq.1", json!({ "name": "direct" }));
    run(next()).ends_as(&["superseded"], 2);
}

#[test]
fn an_insert_that_a_trigger_stamps_is_followed_by_its_changes() {
    let members = vec![
        insert("stamped", "2", json!({ "name": "a" })),
        patch("stamped", "2", json!({ "name": "b" })),
        patch("stamped", "2", json!({ "n": 2 })),
    ];
    run(job(now(), members)).ends_as(&["applied", "applied", "applied"], 5);
    assert_eq!(row("/rest/v1/stamped?id=eq.2&select=name,n"), json!({ "name": "b", "n": 2 }));
}

#[test]
fn a_lost_response_is_recognised() {
    direct("POST", "/rest/v1/plain", json!({ "id": 3, "updated_at": EARLY }));
    direct("POST", "/rest/v1/stamped", json!({ "id": 3 }));
    let values = json!({ "name": "b", "price": 1.50, "doc": { "b": 1, "a": [1, 2.0] }, "seen_at": "2026-02-01T01:00:00.100+01:00" });
    let cases: [(&str, Record, usize); 4] = [
        ("a PATCH", patch("plain", "3", values.clone()), 1),
        ("a PATCH, a trigger's time", patch("stamped", "3", json!({ "name": "b" })), 2),
        ("an insert", insert("plain", "4", values), 2),
        ("an insert, a trigger's time", insert("stamped", "4", json!({ "name": "b" })), 2),
    ];
    for (name, record, asked) in cases {
        let time = now();
        let lost = run_until(job(time, vec![record.clone()]), Some(1));
        assert!(
            matches!(lost.stopped, Some(Step::Retry(Retry::Uncounted))) && lost.ended.is_empty(),
            "{name}"
        );
        let again = run(job(time, vec![record]));
        assert_eq!(again.ends(), ["applied"], "{name}");
        assert_eq!(again.asked, asked, "{name}");
    }
    // Members that went as one, once two of three were there, then all.
    let changes =
        [json!({ "name": "x", "n": 1 }), json!({ "name": "y" }), json!({ "email": "3@example.com" })];
    let members =
        |count: usize| changes[..count].iter().map(|changes| patch("plain", "3", changes.clone())).collect();
    let time = now();
    run_until(job(time, members(2)), Some(1));
    run(job(time, members(3))).ends_as(&["applied", "applied", "applied"], 3);
    assert_eq!(
        row("/rest/v1/plain?id=eq.3&select=name,n,email"),
        json!({ "name": "y", "n": 1, "email": "3@example.com" })
    );
}

#[test]
fn a_key_that_somebody_else_took_is_a_rejection() {
    direct(
        "POST",
        "/rest/v1/plain",
        json!([{ "id": 5, "name": "theirs", "email": null }, { "id": 6, "name": "", "email": "6@example.com" }]),
    );
    let before = row("/rest/v1/plain?id=eq.5");
    run(job(now(), vec![insert("plain", "5", json!({ "name": "ours" }))])).ends_as(&["409 23505"], 2);
    assert_eq!(row("/rest/v1/plain?id=eq.5"), before);
    // Another unique column's value.
    let taken = insert("plain", "7", json!({ "email": "6@example.com" }));
    run(job(now(), vec![taken])).ends_as(&["409 23505"], 2);
}

#[test]
fn a_time_that_is_null_is_no_conflict() {
    direct("POST", "/rest/v1/unstamped", json!({ "id": 1, "name": "a" }));
    let time = now();
    run(job(time, vec![patch("unstamped", "1", json!({ "name": "b" }))])).ends_as(&["applied"], 3);
    assert_eq!(row("/rest/v1/unstamped?id=eq.1"), json!({ "id": 1, "name": "b", "updated_at": text(time) }));
    // A retried dead letter has only the first arm.
    direct("POST", "/rest/v1/unstamped", json!({ "id": 2, "name": "a" }));
    let letter =
        Job { retried_dead_letter: true, ..job(time, vec![patch("unstamped", "2", json!({ "name": "b" }))]) };
    run(letter).ends_as(&["superseded"], 2);
}

#[test]
fn keys_and_names_are_read_as_they_are() {
    let keys = [
        "",
        " ",
        "a b",
        "a+b",
        "a,b",
        "a.b",
        "(x)",
        "\"q\"",
        "\\",
        "\\\"",
        "a&b=c",
        "100%",
        "%41",
        "null",
        "eq.x",
        "*",
        "#;?/",
        "é日本🦀",
        "'; --",
        "{a}",
        "[0]",
        "in.(1,2)",
        "\t\n",
        "a:b::c",
        "not.eq.1",
    ];
    for key in keys {
        let part = [("the \"id\\", key)];
        let odd = |action, changes, base| Record {
            updated_at: UpdatedAt { column: "changed at".into(), kind: TimestampKind::WithoutZone },
            ..record(action, "odd table, (really)", &part, changes, base)
        };
        let made = json!({ "a.b": key, "order": key, "select": 1 });
        let base = json!({ "the \"id\\": key, "changed at": "2026-01-01T00:00:00" });
        let time = now();
        let members = vec![
            odd(Action::Insert, made, Value::Null),
            odd(Action::Patch, json!({ "select": 2 }), base.clone()),
            odd(Action::Upsert, json!({ "a.b": "x" }), base),
        ];
        let ended = run(job(time, members));
        assert_eq!(ended.ends(), ["applied", "applied", "applied"], "{key:?}");
        assert_eq!(ended.ended[2].echo, Some(Micros(time.0 + 2).text(TimestampKind::WithoutZone)), "{key:?}");
        let reserved = record(Action::Upsert, "order", &[("id", key)], json!({ "and": key }), Value::Null);
        run(job(now(), vec![reserved])).ends_as(&["applied"], 3);
    }
    let rows =
        request("GET", "/rest/v1/odd%20table,%20(really)?select=*").signed_in(token::service_key()).send();
    let mut rows: Vec<Value> = serde_json::from_slice(&rows.body).unwrap();
    let found: std::collections::BTreeSet<_> =
        rows.iter().map(|row| row["the \"id\\"].as_str().unwrap()).collect();
    assert_eq!(found, keys.into());
    for row in rows.iter_mut() {
        assert_eq!(
            (&row["a.b"], &row["order"], &row["select"]),
            (&json!("x"), &row["the \"id\\"], &json!(2))
        );
    }
}

#[test]
fn keys_of_several_columns_name_one_row() {
    direct(
        "POST",
        "/rest/v1/pairs",
        json!([
            { "a": "x,y", "b": 1, "updated_at": EARLY },
            { "a": "x,y", "b": 2, "updated_at": EARLY },
            { "a": "x", "b": 1, "updated_at": EARLY },
        ]),
    );
    let key = [("a", "x,y"), ("b", "1")];
    let base = json!({ "a": "x,y", "b": 1, "updated_at": EARLY });
    run(job(now(), vec![record(Action::Patch, "pairs", &key, json!({ "name": "b" }), base)]))
        .ends_as(&["applied"], 1);
    let key = [("a", "x,y"), ("b", "3")];
    let made = record(Action::Upsert, "pairs", &key, json!({ "name": "c" }), Value::Null);
    run(job(now(), vec![made])).ends_as(&["applied"], 3);
    let rows =
        request("GET", "/rest/v1/pairs?select=a,b,name&order=a,b").signed_in(token::service_key()).send();
    let rows: Value = serde_json::from_slice(&rows.body).unwrap();
    assert_eq!(
        rows,
        json!([
            { "a": "x", "b": 1, "name": "" },
            { "a": "x,y", "b": 1, "name": "b" },
            { "a": "x,y", "b": 2, "name": "" },
            { "a": "x,y", "b": 3, "name": "c" },
        ])
    );
}

#[test]
fn a_profile_names_the_schema() {
    let id = "abcdefab-0000-1111-2222-333344445555";
    let things = |action, changes, base| Record {
        profile: Some("other".into()),
        relation: Relation::new("other", "things"),
        ..record(action, "things", &[("id", id)], changes, base)
    };
    let base = json!({ "id": id, "updated_at": EARLY });
    let members = vec![
        things(Action::Insert, json!({ "name": "a" }), Value::Null),
        things(Action::Patch, json!({ "name": "b" }), base.clone()),
    ];
    run(job(now(), members)).ends_as(&["applied", "applied"], 3);
    assert_eq!(row(&format!("/rest/v1/things?id=eq.{id}&select=name")), json!({ "name": "b" }));
    let old = Job {
        members: vec![JobMember {
            record: things(Action::Patch, json!({ "name": "c" }), base),
            updated_at: Micros(0),
        }],
        ..job(now(), vec![])
    };
    run(old).ends_as(&["superseded"], 2);
}

#[test]
fn policies_decide_as_they_would_for_the_caller() {
    let (alice, bob) = (token::alice(), token::bob());
    direct(
        "POST",
        "/rest/v1/own",
        json!([
            { "id": 1, "owner": alice.sub(), "updated_at": EARLY },
            { "id": 2, "owner": bob.sub(), "updated_at": EARLY },
        ]),
    );
    direct("POST", "/rest/v1/shown", json!({ "id": 1, "name": "a", "updated_at": EARLY }));
    run(job(now(), vec![patch("own", "1", json!({ "name": "b" }))])).ends_as(&["applied"], 1);
    run(job(now(), vec![patch("own", "2", json!({ "name": "b" }))])).ends_as(&["gone"], 2);
    run(job(now(), vec![patch("own", "1", json!({ "owner": bob.sub() }))])).ends_as(&["403 42501"], 2);
    run(job(now(), vec![patch("shown", "1", json!({ "name": "b" }))])).ends_as(&["denied"], 4);
    let upsert = |id: &str, owner: &str| {
        record(Action::Upsert, "own", &[("id", id)], json!({ "owner": owner }), Value::Null)
    };
    run(job(now(), vec![upsert("2", alice.sub())])).ends_as(&["not_visible"], 5);
    run(job(now(), vec![upsert("3", bob.sub())])).ends_as(&["403 42501"], 4);
    run(job(now(), vec![upsert("3", alice.sub())])).ends_as(&["applied"], 3);
    run(job(now(), vec![insert("own", "2", json!({ "owner": alice.sub() }))])).ends_as(&["409 23505"], 2);
    run(job(now(), vec![insert("own", "4", json!({ "owner": bob.sub() }))])).ends_as(&["403 42501"], 2);
    assert_eq!(row("/rest/v1/own?id=eq.2&select=owner,name"), json!({ "owner": bob.sub(), "name": "" }));
}

#[test]
fn rights_that_a_direct_request_needs_are_enough() {
    // Nothing may be read.
    let first = insert("inbox", "1", json!({ "name": "a" }));
    run(job(now(), vec![first.clone()])).ends_as(&["applied"], 1);
    run(Job { has_later: true, ..job(now(), vec![insert("inbox", "2", json!({ "name": "a" }))]) })
        .ends_as(&["applied"], 2);
    run(job(now(), vec![first])).ends_as(&["409 23505"], 2);

    // The time may be read, and not be set.
    let time = now();
    run(job(time, vec![insert("named", "1", json!({ "name": "a" }))])).ends_as(&["applied"], 2);
    direct("POST", "/rest/v1/named", json!({ "id": 2, "name": "a", "updated_at": EARLY }));
    let ended =
        run(job(time, vec![patch("named", "2", json!({ "name": "b" }))])).ends_as(&["applied"], 2).ended;
    assert_eq!(ended[0].echo.as_deref(), Some(EARLY));
    run(job(time, vec![patch("named", "2", json!({ "n": 1 }))])).ends_as(&["403 42501"], 2);
    let both = vec![patch("named", "2", json!({ "name": "c" })), patch("named", "2", json!({ "n": 1 }))];
    run(job(time, both)).ends_as(&["applied", "403 42501"], 6);
    assert_eq!(row("/rest/v1/named?id=eq.2&select=name,n"), json!({ "name": "c", "n": null }));

    // The time may not even be read: an insert goes, a guard doesn't.
    run(job(time, vec![insert("columns", "1", json!({ "name": "a" }))])).ends_as(&["applied"], 2);
    run(Job { has_later: true, ..job(time, vec![insert("columns", "2", json!({ "name": "a" }))]) })
        .ends_as(&["applied"], 3);
    run(job(time, vec![patch("columns", "1", json!({ "name": "b" }))])).ends_as(&["403 42501"], 2);
}

#[test]
fn merged_writes_that_are_refused_go_one_by_one() {
    direct("POST", "/rest/v1/plain", json!({ "id": 10, "updated_at": EARLY }));
    let write = |changes: Value| patch("plain", "10", changes);
    let one = vec![write(json!({ "name": "a" })), write(json!({ "n": 1 })), write(json!({ "name": "b" }))];
    run(job(now(), one)).ends_as(&["applied", "applied", "applied"], 1);
    let bad = vec![
        write(json!({ "name": "c" })),
        write(json!({ "n": 100 })),
        write(json!({ "email": "10@example.com" })),
    ];
    run(job(now(), bad)).ends_as(&["applied", "400 23514", "applied"], 4);
    let row_10 = || row("/rest/v1/plain?id=eq.10&select=name,n,email");
    assert_eq!(row_10(), json!({ "name": "c", "n": 1, "email": "10@example.com" }));
    // The forbidden name is overwritten by the third, the second stands in the way.
    let bad = vec![
        write(json!({ "name": "forbidden" })),
        write(json!({ "n": 100 })),
        write(json!({ "name": "d" })),
    ];
    run(job(now(), bad)).ends_as(&["400 23514", "400 23514", "applied"], 5);
    assert_eq!(row_10()["name"], "d");
    // A direct write between two that went as one stays.
    let (first, between, last) = (now(), Micros(now().0 + 1_000_000), Micros(now().0 + 2_000_000));
    direct("PATCH", "/rest/v1/plain?id=eq.10", json!({ "name": "direct", "updated_at": text(between) }));
    let members = vec![write(json!({ "name": "e" })), write(json!({ "n": 5 }))];
    let mut split = job(first, members);
    split.members[1].updated_at = last;
    run(split).ends_as(&["superseded", "applied"], 5);
    assert_eq!(row_10(), json!({ "name": "direct", "n": 5, "email": "10@example.com" }));
}

#[test]
fn a_child_before_its_parent_is_refused_and_may_be_tried_again() {
    let child = insert("children", "1", json!({ "parent_id": 1 }));
    let (mut replay, ask) = Replay::new(job(now(), vec![child.clone()])).unwrap();
    let Step::End(end) = replay.answered(&send(&ask, &token::alice().sign())) else {
        panic!("it is refused")
    };
    assert!(end.needs_oldest);
    run(job(now(), vec![insert("parents", "1", json!({}))])).ends_as(&["applied"], 1);
    run(job(now(), vec![child])).ends_as(&["applied"], 1);
}

#[test]
fn put_changes_the_row_and_never_makes_it() {
    direct("POST", "/rest/v1/unstamped", json!({ "id": 10, "name": "a", "updated_at": EARLY }));
    let put = |id: &str| {
        record(
            Action::Put,
            "unstamped",
            &[("id", id)],
            json!({ "name": "b" }),
            json!({ "updated_at": EARLY }),
        )
    };
    run(job(now(), vec![put("10")])).ends_as(&["applied"], 1);
    assert_eq!(row("/rest/v1/unstamped?id=eq.10&select=name"), json!({ "name": "b" }));
    run(job(now(), vec![put("11")])).ends_as(&["gone"], 2);
}

#[test]
fn an_upsert_makes_changes_or_leaves_the_row() {
    let upsert = |base: Value| record(Action::Upsert, "plain", &[("id", "20")], json!({ "name": "b" }), base);
    let name = || row("/rest/v1/plain?id=eq.20&select=name");
    // There was none, there is none.
    let time = now();
    run(job(time, vec![upsert(Value::Null)])).ends_as(&["applied"], 3);
    assert_eq!(name(), json!({ "name": "b" }));
    // The answer to that was lost.
    run(job(time, vec![upsert(Value::Null)])).ends_as(&["applied"], 1);
    // There was one, and is.
    direct("PATCH", "/rest/v1/plain?id=eq.20", json!({ "name": "c", "updated_at": EARLY }));
    run(job(now(), vec![upsert(json!({ "updated_at": EARLY }))])).ends_as(&["applied"], 1);
    assert_eq!(name(), json!({ "name": "b" }));
    // Somebody's is newer.
    run(job(Micros(time.0 - 1), vec![upsert(Value::Null)])).ends_as(&["applied"], 2);
    direct("PATCH", "/rest/v1/plain?id=eq.20", json!({ "name": "c" }));
    run(job(Micros(time.0 - 1), vec![upsert(Value::Null)])).ends_as(&["superseded"], 2);
    // There was one, and somebody deleted it: it stays deleted.
    direct("DELETE", "/rest/v1/plain?id=eq.20", Value::Null);
    run(job(now(), vec![upsert(json!({ "updated_at": EARLY }))])).ends_as(&["gone"], 2);
    assert_eq!(name(), Value::Null);
    // Another unique value is in the way.
    direct("POST", "/rest/v1/plain", json!({ "id": 21, "email": "21@example.com" }));
    let taken =
        record(Action::Upsert, "plain", &[("id", "22")], json!({ "email": "21@example.com" }), Value::Null);
    run(job(now(), vec![taken])).ends_as(&["409 23505"], 3);
}

#[test]
fn what_upstream_does_not_know_is_refused() {
    direct("POST", "/rest/v1/plain", json!({ "id": 30, "updated_at": EARLY }));
    run(job(now(), vec![patch("plain", "30", json!({ "gone": 1 }))])).ends_as(&["400 PGRST204"], 1);
    run(job(now(), vec![patch("no_table", "30", json!({ "name": "a" }))])).ends_as(&["404 -"], 1);
    let (mut replay, ask) =
        Replay::new(job(now(), vec![patch("plain", "30", json!({ "name": "a" }))])).unwrap();
    assert!(matches!(replay.answered(&send(&ask, "no.jwt.atall")), Step::NewToken));
}

#[test]
fn what_the_database_says_decides_what_becomes_of_a_write() {
    direct("POST", "/rest/v1/failing", json!({ "id": 1, "updated_at": EARLY }));
    for (code, expected) in [
        ("P0001", "400 P0001"),
        ("23514", "400 23514"),
        ("23503", "409 23503"),
        ("PT409", "409 PT409"),
        // The database is read-only: it is full, or a standby.
        ("25006", "uncounted"),
        ("40P01", "counted"),
        ("55P03", "counted"),
        ("57014", "counted"),
        ("XX000", "counted"),
        ("PT429", "counted"),
        ("53300", "uncounted"),
        ("PT502", "uncounted"),
        ("nothing", "denied"),
    ] {
        let run = run(job(now(), vec![patch("failing", "1", json!({ "name": code }))]));
        let found = match run.stopped {
            Some(Step::Retry(Retry::Counted { .. })) => "counted".to_owned(),
            Some(Step::Retry(Retry::Uncounted)) => "uncounted".to_owned(),
            _ => run.ends().concat(),
        };
        assert_eq!(found, expected, "{code}");
    }
}

#[test]
fn a_change_that_hides_the_row_is_refused_as_it_is_to_the_caller() {
    direct("POST", "/rest/v1/softly", json!({ "id": 1, "updated_at": EARLY }));
    let own = request("PATCH", "/rest/v1/softly?id=eq.1").signed_in(token::alice().sign());
    let own = own.header("Prefer", "return=minimal").json(&json!({ "deleted": true })).send();
    assert_eq!(own.status, 403);
    run(job(now(), vec![patch("softly", "1", json!({ "deleted": true }))])).ends_as(&["403 42501"], 2);
}
