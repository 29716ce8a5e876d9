//! Reads and writes made up from a seed, and what must be equal in their answers.
//!
//! They fit the tables of `tests/sql/oracle.sql`.

use std::collections::BTreeMap;

use serde_json::json;

use super::Random;
use super::backend::{self, Stack};
use super::http::{Connection, Request, Response};
use super::sluice::Setup;
use super::token::{alice, anon_key, bob};

/// A database with the story's tables, a PostgREST and a gateway of its own.
pub fn stack(database: &str) -> Stack {
    backend::shared().stack(database, "oracle.sql")
}

/// With all of it cached for an hour, `policy` being more keys of each `[route.read]`.
pub fn cached(setup: &Setup, policy: &str) -> Setup {
    let route = |name: &str, resource: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\n{resource}\n[route.read]\nttl = \"1h\"\nempty_ttl = \"1h\"\n{policy}\n"
        )
    };
    let functions = route("functions", "function = [\"users_above\", \"count_posts\"]");
    setup.clone().routes(&(functions + &route("tables", "table = \"*\"")))
}

/// A number that the environment gives.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// `SEED`, else a new one.
pub fn seed() -> u64 {
    number("SEED").unwrap_or_else(|| super::token::now() ^ u64::from(std::process::id()) << 20)
}

/// Sends it over a connection that stays, unless the other side has said that it closes.
#[track_caller]
pub fn ask(request: &Request, connection: &mut Connection, history: &[String]) -> Response {
    let answer = request.try_send_over(connection).unwrap_or_else(|error| {
        panic!("{error}; the last calls:\n  {}", history[history.len().saturating_sub(3)..].join("\n  "))
    });
    if answer.closes() {
        *connection = Connection::open(request.address()).unwrap();
    }
    answer
}

/// What must be equal.
pub fn seen(answer: &Response) -> (u16, Option<&str>, Option<&str>, String) {
    (answer.status, answer.header("content-range"), answer.header("content-type"), answer.text())
}

/// One request, not yet addressed.
#[derive(Clone)]
pub struct Call {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Option<serde_json::Value>,
    who: usize,
    token: String,
}

impl Call {
    /// Whether it may change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.method, "GET" | "HEAD")
    }

    /// The request, to `address`.
    pub fn request(&self, address: &str) -> Request {
        let request = Request::new(address, self.method, &self.target).signed_in(&self.token);
        let request =
            self.headers.iter().fold(request, |request, (name, value)| request.header(name, value.as_str()));
        match &self.body {
            Some(body) => request.json(body),
            None => request,
        }
    }

    /// As a line of a failure's history.
    pub fn describe(&self) -> String {
        let who = ["anon", "alice", "bob"][self.who];
        let body = self.body.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{who}: {} {} {:?} {body}", self.method, self.target, self.headers)
    }
}

/// How many of the latest reads may be asked again.
const REPEATED: usize = 40;

/// Makes calls up. Most reads repeat one that may be cached by now.
pub struct Story {
    random: Random,
    tokens: [String; 3],
    asked: Vec<Call>,
}

impl Story {
    /// The calls that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let tokens = [anon_key(), alice().sign(), bob().sign()];
        Self { random: Random::new(seed), tokens, asked: Vec::new() }
    }

    /// The next one.
    pub fn next_call(&mut self) -> Call {
        let write = self.random.chance(10);
        if !write && self.asked.len() == REPEATED && self.random.chance(75) {
            let again = self.random.below(REPEATED as u64) as usize;
            return self.asked[again].clone();
        }
        let who = self.random.below(3) as usize;
        let (method, target, body) =
            if write { self.write() } else { (self.read_method(), self.read(), None) };
        let headers = if write { self.write_headers() } else { self.read_headers() };
        let call = Call { method, target, headers, body, who, token: self.tokens[who].clone() };
        if !write {
            self.remember(call.clone());
        }
        call
    }

    fn remember(&mut self, read: Call) {
        if self.asked.len() == REPEATED {
            let forgotten = self.random.below(REPEATED as u64) as usize;
            self.asked.swap_remove(forgotten);
        }
        self.asked.push(read);
    }

    fn read_method(&mut self) -> &'static str {
        if self.random.chance(8) { "HEAD" } else { "GET" }
    }

    fn read_headers(&mut self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if self.random.chance(15) {
            headers.push((
                "Prefer",
                self.random
                    .pick(&["count=exact", "count=exact", "count=planned", "count=estimated"])
                    .to_owned(),
            ));
        }
        if self.random.chance(10) {
            headers.push(("Range", self.random.pick(&["0-4", "2-3", "0-0", "5-", "100-110"]).to_owned()));
            headers.push(("Range-Unit", "items".to_owned()));
        }
        if self.random.chance(15) {
            let accepts = [
                "application/vnd.pgrst.object+json",
                "text/csv",
                "application/json",
                "application/vnd.pgrst.array+json;nulls=stripped",
            ];
            headers.push(("Accept", self.random.pick(&accepts).to_owned()));
        }
        headers
    }

    fn write_headers(&mut self) -> Vec<(&'static str, String)> {
        let preferences = [
            "return=minimal",
            "return=representation",
            "resolution=merge-duplicates",
            "resolution=merge-duplicates, return=representation",
            "resolution=ignore-duplicates",
            "tx=rollback",
            "missing=default",
        ];
        if self.random.chance(60) {
            vec![("Prefer", self.random.pick(&preferences).to_owned())]
        } else {
            Vec::new()
        }
    }

    /// A filter value that names row `n` of a numeric key, in one of many spellings.
    fn spelled(&mut self, n: u64) -> String {
        match self.random.below(12) {
            0 => format!("eq.0{n}"),
            1 => format!("eq.%20{n}"),
            2 => format!("eq.+{n}"),
            3 => format!("eq.{n}%20"),
            4 => format!("in.({n})"),
            5 => format!("in.({n},{})", n + 1),
            6 => format!("eq.%3{n}", n = n % 10),
            _ => format!("eq.{n}"),
        }
    }

    fn id(&mut self) -> u64 {
        1 + self.random.below(14)
    }

    fn uuid(&mut self) -> String {
        let n = self.random.below(10);
        let plain = format!("abcdefab-0000-4000-8000-00000000000{n}");
        match self.random.below(5) {
            0 => plain.to_uppercase(),
            1 => plain.replace('-', ""),
            2 => format!("%7B{plain}%7D"),
            _ => plain,
        }
    }

    fn word(&mut self) -> String {
        self.random
            .pick(&[
                "a",
                "b",
                "a%20b",
                "a+b",
                "a%2Bb",
                "A",
                "05",
                "5",
                "%C3%A4%2F%C3%B6",
                "x%2Cy",
                "%2541",
                "new",
            ])
            .to_owned()
    }

    fn key_filter(&mut self) -> String {
        let id = self.id();
        match self.random.below(8) {
            0 => {
                let id = self.spelled(id);
                format!("posts?id={id}")
            }
            1 => {
                let id = self.spelled(id);
                format!("comments?id={id}")
            }
            2 => format!("things?id=eq.{}", self.uuid()),
            3 => format!("words?key=eq.{}", self.word()),
            4 => {
                let (team, user) = (self.spelled(1 + id % 4), self.spelled(id));
                format!("members?team_id={team}&user_id={user}")
            }
            5 => {
                let team = self.spelled(1 + id % 4);
                format!("members?team_id={team}")
            }
            6 => format!("notes?id=eq.{id}"),
            _ => {
                let id = self.spelled(id);
                format!("users?id={id}")
            }
        }
    }

    fn read(&mut self) -> String {
        let resource = match self.random.below(10) {
            0..=4 => self.key_filter(),
            5..=7 => self.embedding(),
            _ => self.list(),
        };
        format!("/rest/v1/{resource}")
    }

    fn list(&mut self) -> String {
        let id = self.id();
        match self.random.below(16) {
            0 => "users?order=id".to_owned(),
            1 => format!("users?score=gt.{id}&order=score.desc.nullslast,id"),
            2 => format!("users?or=(id.eq.{id},name.like.*{}*)&order=id", id % 3),
            3 => format!("users?email=eq.u{id}@x.org&select=id,name,email"),
            4 => format!("posts?author_id=eq.{id}&order=id.desc&limit=3"),
            5 => "posts?select=author_id,stars.sum(),count()&order=author_id".to_owned(),
            6 => "posts?select=id,title&order=id&offset=5&limit=5".to_owned(),
            7 => "words?order=key&select=key,value".to_owned(),
            8 => format!("user_names?id=eq.{id}"),
            9 => "post_authors?order=id&limit=10".to_owned(),
            10 => format!("rpc/users_above?bottom={id}&order=id"),
            11 => "rpc/count_posts".to_owned(),
            12 => format!("users?select=id,shout&id=eq.{id}"),
            13 => "notes?order=id&select=id,body".to_owned(),
            14 => format!("users?id=not.eq.{id}&order=id&limit=4"),
            _ => format!("users?id=eq.{id}&name=like.user*"),
        }
    }

    fn embedding(&mut self) -> String {
        let id = self.id();
        let embeddings = [
            format!("posts?id=eq.{id}&select=title,users!posts_author_id_fkey(name)"),
            format!("posts?id=eq.{id}&select=title,author:author_id(name),reviewer:reviewer_id(name)"),
            format!("posts?id=eq.{id}&select=title,posts_author_id_fkey(name)"),
            format!("posts?id=eq.{id}&select=title,...users!author_id(author:name)"),
            "posts?select=id,users!author_id!inner(name)&users.score=gt.5&order=id".to_owned(),
            format!("comments?id=eq.{id}&select=body,posts(title,author:users!author_id(name))"),
            format!("comments?id=eq.{id}&select=body,parent:parent_id(body)"),
            format!("comments?id=eq.{id}&select=body,comments(body)&comments.order=id"),
            format!("users?id=eq.{id}&select=name,teams(name)&teams.order=id"),
            format!("users?id=eq.{id}&select=name,members(role,teams(name))"),
            format!("users?id=eq.{id}&select=name,latest_post(title)"),
            format!("users?id=eq.{id}&select=name,posts!author_id(count)"),
            format!("users?id=eq.{id}&select=name,posts!reviewer_id(title)&posts.order=id&posts.limit=2"),
            format!("users?id=eq.{id}&select=name,manager:manager_id(name)"),
            format!("users?id=eq.{id}&select=name,shout,posts!author_id(title,comments(body))"),
            format!("teams?id=eq.{}&select=name,users(name)&users.order=id", 1 + id % 4),
            format!("user_names?id=eq.{id}&select=name,posts!author_id(title)"),
            "posts?select=id,reviewer:reviewer_id(name)&reviewer_id=not.is.null&order=id".to_owned(),
        ];
        let choices: Vec<&str> = embeddings.iter().map(String::as_str).collect();
        self.random.pick(&choices).to_owned()
    }

    fn write(&mut self) -> (&'static str, String, Option<serde_json::Value>) {
        let (id, n) = (self.id(), self.random.below(1000));
        let (method, resource, body) = match self.random.below(22) {
            0..=4 => ("PATCH", self.key_filter(), None),
            5 => ("PATCH", format!("users?email=eq.u{id}@x.org"), Some(json!({ "name": format!("n{n}") }))),
            6 => (
                "PATCH",
                format!("users?id=eq.{id}"),
                Some(json!({ "name": format!("n{n}"), "score": n % 20, "manager_id": 1 + n % 3 })),
            ),
            7 => ("PATCH", format!("posts?author_id=eq.{id}"), Some(json!({ "stars": n % 6 }))),
            8 => (
                "POST",
                "users".to_owned(),
                Some(json!({ "id": id, "email": format!("u{}@x.org", 1 + n % 14), "name": format!("n{n}") })),
            ),
            9 => (
                "POST",
                "users?on_conflict=email".to_owned(),
                Some(json!({ "id": 1 + n % 20, "email": format!("u{id}@x.org"), "name": format!("n{n}") })),
            ),
            10 => (
                "POST",
                "users?on_conflict=id".to_owned(),
                Some(
                    json!([{ "id": id, "name": format!("n{n}") }, { "id": id + 1, "name": format!("m{n}") }]),
                ),
            ),
            11 => (
                "POST",
                "posts".to_owned(),
                Some(json!({ "id": 1 + n % 30, "author_id": id, "title": format!("n{n}"), "stars": 1 })),
            ),
            12 => ("POST", "members".to_owned(), Some(json!({ "team_id": 1 + n % 4, "user_id": id }))),
            13 => (
                "POST",
                "comments".to_owned(),
                Some(
                    json!({ "id": 1 + n % 35, "post_id": 1 + n % 24, "parent_id": 1 + n % 6, "body": format!("n{n}") }),
                ),
            ),
            14 => ("POST", "rpc/add_score".to_owned(), Some(json!({ "wanted": id, "points": 1 }))),
            15 => (
                "PUT",
                format!("users?id=eq.{id}"),
                Some(
                    json!({ "id": id, "email": format!("u{id}@x.org"), "name": format!("p{n}"), "score": 3 }),
                ),
            ),
            16 => ("DELETE", format!("posts?id=eq.{}", 1 + n % 30), None),
            17 => ("DELETE", self.key_filter(), None),
            18 => (
                "PATCH",
                format!("teams?id=eq.{}", 1 + id % 4),
                Some(json!({ "id": 1 + n % 5, "name": format!("t{n}") })),
            ),
            19 => (
                "PATCH",
                format!("words?key=eq.{}", self.word()),
                Some(json!({ "value": n, "key": self.random.pick(&["a", "b", "5", "moved"]) })),
            ),
            20 => (
                "POST",
                "words?columns=key,value".to_owned(),
                Some(json!([{ "key": self.random.pick(&["a", "new", "a b"]), "value": n, "ignored": 1 }])),
            ),
            _ => (
                "POST",
                "notes".to_owned(),
                Some(json!({ "id": 1 + n % 12, "owner": alice().sub(), "body": format!("n{n}") })),
            ),
        };
        let body = body.or_else(|| (method == "PATCH").then(|| change_of(&resource, n)));
        (method, format!("/rest/v1/{resource}"), body)
    }
}

/// A change that fits the table.
fn change_of(resource: &str, n: u64) -> serde_json::Value {
    match resource.split('?').next().unwrap_or_default() {
        "posts" => json!({ "title": format!("n{n}"), "author_id": 1 + n % 12 }),
        "comments" | "notes" => json!({ "body": format!("n{n}") }),
        "words" => json!({ "value": n }),
        "members" => json!({ "role": format!("r{n}") }),
        _ => json!({ "name": format!("n{n}") }),
    }
}

/// Panics unless the sequence had enough of each kind to prove anything.
pub fn enough(outcomes: &BTreeMap<&str, u64>, steps: u64) {
    for kind in ["hits", "misses", "writes"] {
        let share = outcomes.get(kind).copied().unwrap_or_default() * 100 / steps.max(1);
        assert!(
            share >= 5 || steps < 1000,
            "only {share} % {kind}: the sequence proves little; {outcomes:?}"
        );
    }
}
