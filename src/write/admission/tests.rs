use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use http::HeaderValue;
use serde_json::{Value, json};

use super::*;
use crate::identity::Claims;
use crate::postgrest::object::Object;
use crate::postgrest::schema::Schema;
use crate::postgrest::timestamp::Micros;
use crate::write::record::Base;

mod admitted;
mod examined;
mod properties;
mod stated;

const ID: &str = "abcdefab-0000-1111-2222-333344445555";
const OTHER_ID: &str = "abcdefab-0000-1111-2222-333344446666";
const NOW: Duration = Duration::from_secs(1_700_000_000);

/// A row of `profiles`, as PostgREST prints it.
const ROW: &str = concat!(
    r#"{"id":"abcdefab-0000-1111-2222-333344445555","name":"Ann","bio":null,"age":30,"#,
    r#""owner":"00000000-0000-0000-0000-00000000000a","meta":{"a": 1},"price":1.50,"#,
    r#""updated_at":"2026-02-01T00:00:00.5+00:00","total":7}"#
);
const SUBJECT: &str = "00000000-0000-0000-0000-00000000000a";

static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::from_openapi(include_bytes!("tests/description.json")).unwrap());

/// A request that is changed, then judged.
#[derive(Clone)]
struct Request {
    method: Method,
    table: &'static str,
    is_described: bool,
    query: String,
    headers: HeaderMap,
    body: String,
    policy: WritePolicy,
    vary: Vec<HeaderName>,
    claims: Claims,
    token_life: Option<u64>,
    is_verified: bool,
    is_admitted: bool,
    default_schema_holds: bool,
}

/// How things stand with the row.
#[derive(Clone, Copy)]
enum Row {
    Known(&'static str),
    Absent,
    Unknown,
}

impl Request {
    fn new(method: Method, query: &str, body: &str) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "project.example"),
            ("authorization", "Bearer x.y.z"),
            ("apikey", "key"),
            ("content-type", "application/json"),
            ("content-length", "10"),
            ("content-profile", "public"),
            ("x-client-info", "supabase-js-web/2.109"),
            ("user-agent", "Mozilla"),
            ("origin", "https://app.example"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let Value::Object(claims) = json!({"sub": SUBJECT, "role": "authenticated", "iss": "i"}) else {
            unreachable!("it is an object");
        };
        Self {
            method,
            table: "profiles",
            is_described: true,
            query: query.to_owned(),
            headers,
            body: body.to_owned(),
            policy: WritePolicy::default(),
            vary: Vec::new(),
            claims,
            token_life: Some(3600),
            is_verified: true,
            is_admitted: true,
            default_schema_holds: true,
        }
    }

    fn patch(body: &str) -> Self {
        Self::new(Method::PATCH, &format!("id=eq.{ID}"), body)
    }

    fn put(body: &str) -> Self {
        Self::new(Method::PUT, &format!("id=eq.{ID}"), body)
    }

    fn insert(body: &str) -> Self {
        Self::new(Method::POST, "", body)
    }

    fn upsert(body: &str) -> Self {
        Self::new(Method::POST, "", body).preferring("resolution=merge-duplicates")
    }

    fn on(mut self, table: &'static str, query: &str) -> Self {
        self.table = table;
        self.query = query.to_owned();
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn having(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    fn preferring(self, preference: &str) -> Self {
        self.having("prefer", preference)
    }

    fn asking(mut self, parameter: &str) -> Self {
        self.query =
            if self.query.is_empty() { parameter.into() } else { format!("{}&{parameter}", self.query) };
        self
    }

    fn only(mut self, columns: &[&str]) -> Self {
        self.policy.columns = Some(columns.iter().map(|&column| column.to_owned()).collect());
        self
    }

    /// Examines the request and gives what comes of it to `then`.
    fn judged<T>(&self, then: impl FnOnce(Candidate<'_>) -> Result<T, Reason>) -> Result<T, Reason> {
        let query = Query::parse(&self.query).unwrap();
        let now = UNIX_EPOCH + NOW;
        let writer = Writer {
            claims: &self.claims,
            expires: self.token_life.map(|life| now + Duration::from_secs(life)),
            is_admitted: self.is_admitted,
        };
        let case = Case {
            method: &self.method,
            relation: &Relation::new("public", self.table),
            default_schema_holds: self.default_schema_holds,
            query: &query,
            headers: &self.headers,
            body: self.body.as_bytes(),
            policy: &self.policy,
            vary: &self.vary,
            ignored: &[HeaderGlob::parse("x-ignored").unwrap()],
            table: SCHEMA.table(self.table).filter(|_| self.is_described),
            writer: self.is_verified.then_some(writer),
            now,
            min_token_life: Duration::from_secs(60),
        };
        then(examine(&case)?)
    }

    fn examined(&self) -> Result<(), Reason> {
        self.judged(|_| Ok(()))
    }

    fn admitted(&self, row: Row) -> Result<Admitted, Reason> {
        self.admitted_after(row, &[], false)
    }

    fn admitted_after(
        &self,
        row: Row,
        queued: &[QueuedWrite<'_>],
        is_pending: bool,
    ) -> Result<Admitted, Reason> {
        let parsed = match row {
            Row::Known(json) => Some(object(json)),
            Row::Absent | Row::Unknown => None,
        };
        let known = match (&parsed, row) {
            (Some(row), _) => Known::Row(row),
            (None, Row::Absent) => Known::Absent,
            (None, _) => Known::Unknown,
        };
        self.judged(|candidate| candidate.admit(&Standing { known, queued, is_pending }))
    }
}

fn object(json: &str) -> Object {
    Object::parse(json.as_bytes()).unwrap()
}

/// Makes sure that each request is refused for its reason.
fn refused(cases: Vec<(Request, Reason)>, row: Row) {
    for (index, (request, reason)) in cases.into_iter().enumerate() {
        let told = request.admitted(row).map(|_| ()).unwrap_err();
        assert_eq!(told, reason, "{index}: {} {} {}", request.method, request.query, request.body);
    }
}
