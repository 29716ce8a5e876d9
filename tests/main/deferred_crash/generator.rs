//! The load: users who write and read through Sluice, and others who write past it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::model::{
    Answer, COLUMNS, End, History, Method, ROWS, Read, Row, Table, USERS, Write, columns, micros, now, sub_of,
};
use crate::support::Random;
use crate::support::http::{Connection, Request, Response};
use crate::support::token::{Token, service_key};

/// So many rows of everybody's are written more often than the others.
const BUSY: u64 = 12;
/// Rows of everybody's in one list.
const LIST: u64 = 6;

/// What all threads of load share.
pub struct Load {
    tokens: Vec<String>,
    /// Where Sluice listens now.
    pub sluice: RwLock<String>,
    /// Where the gateway does.
    upstream: String,
    next: AtomicU64,
    /// How many 202s there have been.
    pub queued: AtomicU64,
    pub stop: AtomicBool,
    pub history: Mutex<History>,
    pub wrong: Mutex<Vec<String>>,
}

impl Load {
    pub fn new(sluice: &str, upstream: &str) -> Self {
        Self {
            tokens: (0..USERS).map(|user| Token::of(&sub_of(user)).sign()).collect(),
            sluice: RwLock::new(sluice.to_owned()),
            upstream: upstream.to_owned(),
            next: AtomicU64::new(1),
            queued: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            history: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// A request to Sluice by a user.
    pub fn request(&self, user: usize, method: &str, target: &str) -> Request {
        Request::new(&self.sluice.read().unwrap(), method, target).signed_in(&self.tokens[user])
    }

    /// How a queued write is. `None`: Sluice can't be asked.
    pub fn status(&self, user: usize, id: &str) -> Option<Value> {
        let answer = self.request(user, "GET", &format!("/sluice/v1/writes/{id}")).try_send().ok()?;
        match answer.status {
            200 => Some(answer.json()),
            404 => {
                self.complain(format!("the write {id} of user {user} is not known: {}", answer.text()));
                None
            }
            _ => None,
        }
    }

    fn complain(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

/// One thread of load.
pub struct Client<'a> {
    load: &'a Load,
    random: Random,
    connection: Option<Connection>,
    history: History,
    /// The latest that were queued: whose, the number, the name.
    queued: Vec<(usize, u64, String)>,
}

impl<'a> Client<'a> {
    pub fn new(load: &'a Load, random: Random) -> Self {
        Self { load, random, connection: None, history: History::default(), queued: Vec::new() }
    }

    /// Users, until the load ends.
    pub fn use_sluice(mut self) {
        while !self.load.stop.load(Ordering::Relaxed) {
            let user = self.random.below(USERS as u64) as usize;
            let row = self.row(user);
            match self.random.below(100) {
                0..30 => self.read(user, row),
                30..40 => self.list(user, row),
                40..52 => self.poll(),
                _ => {
                    // Several at once lie in the queue together.
                    let times = if self.random.chance(30) { 1 + self.random.below(4) } else { 1 };
                    for _ in 0..times {
                        let method = self.method();
                        self.write(user, row, method);
                    }
                    self.read(user, row);
                    if self.random.chance(30) {
                        self.list(user, row);
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(self.random.below(40)));
        }
        self.finish();
    }

    /// Somebody past Sluice, until the load ends.
    pub fn write_past_sluice(mut self) {
        while !self.load.stop.load(Ordering::Relaxed) {
            let row = Row { table: Table::Shared, id: self.shared() };
            let method = match self.random.below(100) {
                0..8 => Method::Delete,
                8..30 => Method::Upsert,
                _ => Method::Patch,
            };
            let (number, sets) = self.drawn(method);
            let (target, body) = asked(row, None, method, sets, number, false);
            let mut request =
                Request::new(&self.load.upstream, name(method), &target).signed_in(service_key());
            if method == Method::Upsert {
                request = request.header("Prefer", "resolution=merge-duplicates");
            }
            let sent = now();
            let answer = request.json(&body).try_send();
            let (answered, is_bad) = (now(), false);
            let answer = answer.map_or(Answer::Unknown, |answer| judged(&answer));
            let write = Write { number, user: None, row, method, sets, is_bad, sent, answered, answer };
            self.history.writes.insert(number, write);
            std::thread::sleep(Duration::from_millis(10 + self.random.below(60)));
        }
        self.finish();
    }

    fn finish(self) {
        let mut history = self.load.history.lock().unwrap();
        history.writes.extend(self.history.writes);
        history.reads.extend(self.history.reads);
        history.seen_ends.extend(self.history.seen_ends);
    }

    fn row(&mut self, user: usize) -> Row {
        if self.random.chance(50) {
            let id = user as u64 + USERS as u64 * self.random.below(ROWS / USERS as u64);
            Row { table: Table::Own, id }
        } else {
            Row { table: Table::Shared, id: self.shared() }
        }
    }

    fn shared(&mut self) -> u64 {
        let among = if self.random.chance(50) { BUSY } else { ROWS };
        self.random.below(among)
    }

    fn method(&mut self) -> Method {
        match self.random.below(100) {
            0..65 => Method::Patch,
            65..74 => Method::Insert,
            74..83 => Method::Upsert,
            83..93 => Method::Put,
            _ => Method::Delete,
        }
    }

    /// A number for the next write, and which columns it sets.
    fn drawn(&mut self, method: Method) -> (u64, [bool; 2]) {
        let number = self.load.next.fetch_add(1, Ordering::Relaxed);
        let sets = match (method, self.random.below(4)) {
            (Method::Delete, _) => [false; 2],
            (Method::Patch, 0) => [true, false],
            (Method::Patch, 1) => [false, true],
            _ => [true; 2],
        };
        (number, sets)
    }

    fn write(&mut self, user: usize, row: Row, method: Method) {
        if !self.connect() {
            return;
        }
        let (number, sets) = self.drawn(method);
        let is_bad = method == Method::Patch && self.random.chance(5);
        let (target, body) = asked(row, Some(user), method, sets, number, is_bad);
        let mut request = self.load.request(user, name(method), &target);
        if method == Method::Upsert {
            request = request.header("Prefer", "resolution=merge-duplicates");
        }
        if method != Method::Delete {
            request = request.json(&body);
        }
        let sent = now();
        let answer = self.send(&request);
        let answered = now();
        let answer = answer.as_ref().map_or(Answer::Unknown, judged);
        if let Answer::Queued { id, .. } = &answer {
            self.queued.push((user, number, id.clone()));
            self.load.queued.fetch_add(1, Ordering::Relaxed);
        }
        let write = Write { number, user: Some(user), row, method, sets, is_bad, sent, answered, answer };
        self.history.writes.insert(number, write);
    }

    fn read(&mut self, user: usize, row: Row) {
        let select = if self.random.chance(50) { "&select=*" } else { "" };
        let target = format!("/rest/v1/{}?id=eq.{}{select}", row.table.name(), row.id);
        self.observe(user, &target, &[row], false);
    }

    /// A list that the row is in.
    fn list(&mut self, user: usize, row: Row) {
        let first = row.id - row.id % LIST;
        let (target, rows): (_, Vec<u64>) = match row.table {
            Table::Own => ("/rest/v1/own?order=id".into(), (user as u64..ROWS).step_by(USERS).collect()),
            Table::Shared => {
                let last = (first + LIST).min(ROWS);
                let target = format!("/rest/v1/shared?id=gte.{first}&id=lt.{last}&order=id");
                (target, (first..last).collect())
            }
        };
        let rows: Vec<Row> = rows.into_iter().map(|id| Row { table: row.table, id }).collect();
        self.observe(user, &target, &rows, true);
    }

    fn observe(&mut self, user: usize, target: &str, rows: &[Row], is_list: bool) {
        if !self.connect() {
            return;
        }
        let sent = now();
        let request = self.load.request(user, "GET", target).header("Accept", "application/json");
        let Some(answer) = self.send(&request).filter(|answer| answer.status == 200) else { return };
        let answered = now();
        let Ok(printed) = serde_json::from_slice::<Vec<Value>>(&answer.body) else {
            return self.load.complain(format!("{target} is no list: {}", answer.text()));
        };
        if printed.iter().any(|printed| !rows.iter().any(|row| printed["id"] == row.id)) {
            return self.load.complain(format!("{target} has other rows: {}", answer.text()));
        }
        let of = |row: &Row| printed.iter().find(|printed| printed["id"] == row.id).map(columns);
        let shown = rows.iter().map(|row| (*row, of(row))).collect();
        let status = answer.cache_status();
        let is_uncorrected = !is_list && status.contains("fwd=bypass") && status.contains("pending-writes");
        self.history.reads.push(Read { user, is_list, is_uncorrected, sent, answered, shown });
    }

    /// Asks how one of the latest queued writes is, now and then as somebody else.
    fn poll(&mut self) {
        let Some(last) = self.queued.len().checked_sub(1) else { return };
        let (user, number, id) =
            self.queued[last - self.random.below(30.min(last as u64 + 1)) as usize].clone();
        if self.random.chance(10) {
            let other = (user + 1) % USERS;
            let answer = self.load.request(other, "GET", &format!("/sluice/v1/writes/{id}")).try_send();
            if let Ok(answer) = answer.as_ref()
                && answer.status == 200
            {
                self.load.complain(format!("user {other} was told of a write of user {user}"));
            }
        } else if let Some(end) = self.load.status(user, &id).as_ref().and_then(End::of) {
            self.history.seen_ends.push((number, end));
        }
    }

    /// Over the connection that there is.
    fn send(&mut self, request: &Request) -> Option<Response> {
        let mut connection = self.connection.take()?;
        let answer = request.try_send_over(&mut connection).ok()?;
        self.connection = (!answer.closes()).then_some(connection);
        Some(answer)
    }

    /// Whether there is a connection to Sluice, which stays as long as Sluice does.
    fn connect(&mut self) -> bool {
        let address = self.load.sluice.read().unwrap().clone();
        self.connection = self.connection.take().or_else(|| Connection::open(&address).ok());
        self.connection.is_some()
    }
}

fn name(method: Method) -> &'static str {
    match method {
        Method::Patch => "PATCH",
        Method::Insert | Method::Upsert => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
    }
}

/// The target and the body of a write.
fn asked(
    row: Row,
    owner: Option<usize>,
    method: Method,
    sets: [bool; 2],
    number: u64,
    is_bad: bool,
) -> (String, Value) {
    let mut body = Map::new();
    for (column, _) in COLUMNS.iter().zip(sets).filter(|(_, sets)| *sets) {
        body.insert((*column).to_owned(), number.to_string().into());
    }
    if is_bad {
        body.insert("rank".to_owned(), (-1).into());
    }
    let table = row.table.name();
    let is_whole = matches!(method, Method::Insert | Method::Upsert | Method::Put);
    if is_whole {
        body.insert("id".to_owned(), row.id.into());
        body.insert("rank".to_owned(), 0.into());
        if let (Table::Own, Some(owner)) = (row.table, owner) {
            body.insert("owner".to_owned(), sub_of(owner).into());
        }
    }
    if method == Method::Put {
        // Sluice doesn't go by it; who isn't deferred has to send all columns.
        body.insert("updated_at".to_owned(), json!("2026-01-01T00:00:00Z"));
    }
    let target = match method {
        Method::Insert | Method::Upsert => format!("/rest/v1/{table}"),
        Method::Patch | Method::Put | Method::Delete => format!("/rest/v1/{table}?id=eq.{}", row.id),
    };
    (target, body.into())
}

/// What an answer says about the write.
fn judged(answer: &Response) -> Answer {
    match answer.status {
        202 => {
            let said = answer.header("sluice-write").unwrap_or_default();
            let parameter = |name: &str| {
                let mut parameters = said.split("; ").filter_map(|text| text.split_once('='));
                let value = parameters.find(|(known, _)| *known == name).map(|(_, value)| value);
                value.unwrap_or_else(|| panic!("{name} is missing: {said}")).trim_matches('"').to_owned()
            };
            Answer::Queued { id: parameter("id"), time: micros(&parameter("updated_at")) }
        }
        200..=299 => Answer::Done,
        // So says PostgREST where PostgreSQL has crashed under the statement.
        400 if answer.json()["code"] == "" => Answer::Unknown,
        400..=499 => Answer::Refused,
        503 if answer.text().contains("Nothing was forwarded") => Answer::Held,
        _ => Answer::Unknown,
    }
}
