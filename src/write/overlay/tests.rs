use std::collections::BTreeMap;

use bytes::Bytes;
use http::HeaderValue;

use super::*;
use crate::postgrest::object::Object;
use crate::postgrest::timestamp::TimestampKind;
use crate::request::{DecodedPath, RequestView};
use crate::route::{CredentialMode, Guard, OnReject};
use crate::write::record::{CallerName, KeyPart, UpdatedAt};

mod corrections;
mod decisions;
mod model;

const DESCRIPTION: &str = r#"{"swagger":"2.0","paths":{"/rpc/f":{}},"definitions":{
"users":{"required":["id"],"properties":{
  "id":{"format":"integer","description":"Note:\nThis is a Primary Key.<pk/>"},
  "name":{"format":"text"},
  "score":{"format":"integer"},
  "team":{"format":"integer","description":"Note:\nThis is a Foreign Key to `teams.id`.<fk table='teams' column='id'/>"},
  "boss":{"format":"integer","description":"Note:\nThis is a Foreign Key to `users.id`.<fk table='users' column='id'/>"},
  "email":{"format":"text"},
  "updated_at":{"format":"timestamp with time zone"}}},
"teams":{"required":["id"],"properties":{
  "id":{"format":"integer","description":"Note:\nThis is a Primary Key.<pk/>"},
  "title":{"format":"text"},
  "slug":{"format":"text"},
  "updated_at":{"format":"timestamp with time zone"}}},
"posts":{"required":["id"],"properties":{
  "id":{"format":"uuid","description":"Note:\nThis is a Primary Key.<pk/>"},
  "mail":{"format":"text","description":"Note:\nThis is a Foreign Key to `users.email`.<fk table='users' column='email'/>"},
  "body":{"format":"text"},
  "updated_at":{"format":"timestamp with time zone"}}},
"likes":{"required":["a","b"],"properties":{
  "b":{"format":"text","description":"Note:\nThis is a Primary Key.<pk/>"},
  "note":{"format":"text"},
  "a":{"format":"integer","description":"Note:\nThis is a Primary Key.<pk/>"},
  "updated_at":{"format":"timestamp with time zone"}}},
"shown":{"properties":{"id":{"format":"integer","description":"Note:\nThis is a Primary Key.<pk/>"},"name":{"format":"text"}}}
}}"#;

fn schemas() -> Schemas {
    [("public".to_owned(), Schema::from_openapi(DESCRIPTION.as_bytes()).unwrap())].into_iter().collect()
}

fn object(json: &str) -> Object {
    Object::parse(json.as_bytes()).unwrap()
}

/// A queued write of `table?key`, `a=1&b=x` say.
fn write(seq: u64, action: Action, table: &str, key: &str, changes: &str, base: Base) -> PendingWrite {
    let part = |pair: &str| {
        let (column, value) = pair.split_once('=').unwrap();
        KeyPart { column: column.to_owned(), value: value.to_owned() }
    };
    let changes = object(changes);
    let record = Record {
        route: "table".to_owned(),
        relation: Relation::new("public", table),
        profile: None,
        headers: Vec::new(),
        key: key.split('&').map(part).collect(),
        action,
        types: changes
            .iter()
            .map(|(column, _)| (column.to_owned(), "text".to_owned()))
            .collect::<BTreeMap<_, _>>(),
        changes,
        base,
        updated_at: UpdatedAt { column: "updated_at".to_owned(), kind: TimestampKind::WithZone },
        guard: Guard::NotNewer,
        on_reject: OnReject::Skip,
        credentials: CredentialMode::Token,
        caller: CallerName { fingerprint: [1; 16], role: "authenticated".to_owned(), sub: "me".to_owned() },
        session: [2; 16],
        rights: [3; 16],
        sealed: serde_json::from_str("\"\"").unwrap(),
    };
    PendingWrite { seq: Seq(seq), record: Arc::new(record), updated_at: stamp(seq) }
}

/// The time of the write `seq`: so many seconds after the start of 1970.
fn stamp(seq: u64) -> Micros {
    Micros(i64::try_from(seq).unwrap() * 1_000_000)
}

fn patch(seq: u64, table: &str, key: &str, changes: &str) -> PendingWrite {
    write(seq, Action::Patch, table, key, changes, Base::Row(Object::new()))
}

fn insert(seq: u64, table: &str, key: &str, changes: &str) -> PendingWrite {
    write(seq, Action::Insert, table, key, changes, Base::Absent)
}

/// A read, `GET` with no headers unless said otherwise.
#[derive(Clone)]
struct Read {
    method: Method,
    headers: HeaderMap,
    path: String,
    query: String,
    depends_on: Option<Vec<Relation>>,
    computed: Vec<String>,
    same_session: bool,
}

impl Read {
    /// `users?select=id`, below `/rest/v1/`.
    fn of(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: Method::GET,
            headers: HeaderMap::new(),
            path: format!("/rest/v1/{path}"),
            query: query.to_owned(),
            depends_on: None,
            computed: Vec::new(),
            same_session: true,
        }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    fn head(self) -> Self {
        Self { method: Method::HEAD, ..self }
    }

    fn correction(&self, pending: &[PendingWrite]) -> Correction {
        let (method, headers) = (&self.method, &self.headers);
        let request = RequestView { method, path: &self.path, query: &self.query, headers };
        let target = Target::of(&request, &DecodedPath::parse(&self.path).unwrap(), "public");
        let policy = Arc::new(WritePolicy { computed: self.computed.clone(), ..WritePolicy::default() });
        let read = ReadShape {
            method,
            target: &target,
            query: &Query::parse(&self.query).unwrap(),
            headers,
            schemas: &schemas(),
            depends_on: self.depends_on.as_deref(),
            policy_of: &|_| Some(policy.clone()),
            same_session: &|_| self.same_session,
        };
        correction(&read, pending)
    }

    /// The correction in a word.
    fn decided(&self, pending: &[PendingWrite]) -> &'static str {
        match self.correction(pending) {
            Correction::Nothing => "nothing",
            Correction::Point(_) => "point",
            Correction::List(_) => "list",
            Correction::Wait(_) => "wait",
        }
    }

    fn point(&self, pending: &[PendingWrite]) -> Point {
        match self.correction(pending) {
            Correction::Point(point) => *point,
            other => panic!("{}: {other:?}", self.query),
        }
    }

    fn list(&self, pending: &[PendingWrite]) -> List {
        match self.correction(pending) {
            Correction::List(list) => *list,
            other => panic!("{}: {other:?}", self.query),
        }
    }
}

fn body(answer: PointAnswer) -> Option<String> {
    match answer {
        PointAnswer::Row(answer) => Some(String::from_utf8(answer.body.to_vec()).unwrap()),
        PointAnswer::Absent | PointAnswer::Incomplete => None,
    }
}

fn corrected(list: &List, body: &str) -> Option<String> {
    let corrected = list.correct(&Bytes::copy_from_slice(body.as_bytes()))?;
    Some(String::from_utf8(corrected.to_vec()).unwrap())
}
