//! What the clients, the status endpoint and the database's log of versions say of one run.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sluice::postgrest::timestamp::{Micros, TimestampKind};

/// How many users there are.
pub const USERS: usize = 50;
/// How many rows each of the two tables has at first.
pub const ROWS: u64 = 250;

/// The tables of `tests/sql/crash.sql`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Each row is one user's, who alone sees and writes it.
    Own,
    /// All rows are everybody's, and written past Sluice as well.
    Shared,
}

impl Table {
    /// As the database calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
        }
    }
}

/// One row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    pub table: Table,
    pub id: u64,
}

/// The two columns that say which write they come from, by its number; 0 from none.
pub type Columns = [u64; 2];
/// Their names.
pub const COLUMNS: [&str; 2] = ["a", "b"];

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Patch,
    Insert,
    Upsert,
    Put,
    Delete,
}

/// What a client was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 202: the name of the write, and the time that it was given.
    Queued { id: String, time: i64 },
    /// Upstream did it.
    Done,
    /// Upstream or Sluice said no.
    Refused,
    /// Sluice said that it forwarded nothing.
    Held,
    /// None, or one that says nothing about the write.
    Unknown,
}

/// One write, as its client knows it. Times are microseconds since 1970.
#[derive(Clone, Debug)]
pub struct Write {
    pub number: u64,
    /// `None`: past Sluice.
    pub user: Option<usize>,
    pub row: Row,
    pub method: Method,
    /// Which of the two columns it sets.
    pub sets: [bool; 2],
    /// Whether the database can't take it.
    pub is_bad: bool,
    pub sent: i64,
    pub answered: i64,
    pub answer: Answer,
}

impl Write {
    /// The time that a 202 said; `None`: it was no 202.
    pub fn time(&self) -> Option<i64> {
        match self.answer {
            Answer::Queued { time, .. } => Some(time),
            _ => None,
        }
    }
}

/// One read through Sluice.
#[derive(Debug)]
pub struct Read {
    pub user: usize,
    pub is_list: bool,
    /// Whether Sluice said that it could not put the reader's queued writes in.
    pub is_uncorrected: bool,
    pub sent: i64,
    pub answered: i64,
    /// The rows that were asked for. `None`: there is none of this key.
    pub shown: Vec<(Row, Option<Columns>)>,
}

/// How a queued write ended, by the status endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub state: String,
    pub reason: String,
    pub at: i64,
}

impl End {
    /// From the status; `None`: it has not ended.
    pub fn of(status: &Value) -> Option<Self> {
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        let at = status["ended_at"].as_str()?;
        Some(Self { state: text("state"), reason: text("reason"), at: micros(at) })
    }
}

/// Who made a version of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Replay,
    Forwarded,
    Direct,
}

/// One version of a row, as the database logged it.
#[derive(Clone, Debug)]
pub struct Version {
    pub via: Via,
    pub user: Option<usize>,
    /// `None`: the row was deleted.
    pub columns: Option<Columns>,
    pub is_insert: bool,
    /// Its `updated_at`; of a deletion, the time it was made.
    pub time: i64,
    /// When it was made; it was committed later.
    pub at: i64,
}

/// Where in a row's history a value stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub time: i64,
    /// Its place in the row's log. `None`: it isn't there.
    pub logged: Option<usize>,
}

impl Place {
    /// Whether this was replaced by the other, rather than the other way round.
    pub fn is_before(self, other: Self) -> bool {
        match (self.logged, other.logged) {
            (Some(own), Some(others)) => own < others,
            _ => self.time < other.time,
        }
    }
}

/// Everything that is known of a run.
#[derive(Default)]
pub struct History {
    pub writes: BTreeMap<u64, Write>,
    pub reads: Vec<Read>,
    /// How the 202s ended, by number.
    pub ends: BTreeMap<u64, End>,
    /// Ends that were seen meanwhile.
    pub seen_ends: Vec<(u64, End)>,
    /// The rows' versions, in the order of the commits.
    pub log: BTreeMap<Row, Vec<Version>>,
    /// The rows that there are in the end.
    pub held: BTreeMap<Row, Columns>,
    first: HashMap<(Row, usize, u64), usize>,
}

impl History {
    /// Takes over the table of versions, as PostgREST prints it.
    pub fn read_log(&mut self, rows: &[Value]) {
        for printed in rows {
            let row = Row { table: table(&printed["tab"]), id: number(&printed["row_id"]) };
            let versions = self.log.entry(row).or_default();
            let is_insert = printed["op"] == "INSERT";
            let columns = (printed["op"] != "DELETE").then(|| columns(printed));
            for (column, name) in columns.iter().flatten().enumerate() {
                self.first.entry((row, column, *name)).or_insert(versions.len());
            }
            let via = match printed["via"].as_str() {
                Some("replay") => Via::Replay,
                Some("forwarded") => Via::Forwarded,
                _ => Via::Direct,
            };
            let user = printed["sub"].as_str().and_then(user_of);
            let (time, at) = (signed(&printed["updated_at"]), signed(&printed["at"]));
            versions.push(Version { via, user, columns, is_insert, time, at });
        }
    }

    /// Takes over a table as it is in the end.
    pub fn read_table(&mut self, table: Table, rows: &[Value]) {
        let row = |printed: &Value| (Row { table, id: number(&printed["id"]) }, columns(printed));
        self.held.extend(rows.iter().map(row));
    }

    /// The first version of the row with this write's value in the column.
    pub fn logged(&self, row: Row, column: usize, number: u64) -> Option<(usize, &Version)> {
        let place = *self.first.get(&(row, column, number))?;
        Some((place, &self.log[&row][place]))
    }

    /// The first version of its row that has anything of the write.
    pub fn first_of(&self, write: &Write) -> Option<(usize, &Version)> {
        let found = (0..2).filter_map(|column| self.logged(write.row, column, write.number));
        found.min_by_key(|(place, _)| *place)
    }

    /// Where a value stands. One that is neither timed nor logged is the latest.
    pub fn place(&self, row: Row, column: usize, number: u64) -> Place {
        let logged = self.logged(row, column, number);
        let said = self.writes.get(&number).and_then(Write::time);
        let time = said.or(logged.map(|(_, version)| version.time)).unwrap_or(i64::MAX);
        Place { time, logged: logged.map(|(place, _)| place) }
    }

    /// The state in which a write ended; empty if it wasn't queued.
    pub fn state(&self, number: u64) -> &str {
        self.ends.get(&number).map_or("", |end| &end.state)
    }

    /// The versions of a row.
    pub fn versions(&self, row: Row) -> &[Version] {
        self.log.get(&row).map_or(&[], Vec::as_slice)
    }

    /// The writes that were answered 202.
    pub fn queued(&self) -> impl Iterator<Item = (&Write, i64)> {
        self.writes.values().filter_map(|write| Some((write, write.time()?)))
    }
}

/// The id in a user's tokens.
pub fn sub_of(user: usize) -> String {
    format!("c4a54000-0000-4000-8000-{user:012}")
}

fn user_of(sub: &str) -> Option<usize> {
    sub.strip_prefix("c4a54000-0000-4000-8000-")?.parse().ok()
}

/// A time as PostgREST and Sluice print it, in microseconds since 1970.
pub fn micros(text: &str) -> i64 {
    Micros::parse(text, TimestampKind::WithZone).unwrap_or_else(|| panic!("no time: {text}")).0
}

/// Now, in microseconds since 1970.
pub fn now() -> i64 {
    Micros::of(std::time::SystemTime::now()).0
}

/// The two columns of a printed row.
pub fn columns(printed: &Value) -> Columns {
    COLUMNS.map(|name| {
        let text = printed[name].as_str().and_then(|text| text.parse().ok());
        text.unwrap_or_else(|| panic!("{name} is no write's number: {printed}"))
    })
}

fn table(name: &Value) -> Table {
    if name == "own" { Table::Own } else { Table::Shared }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn signed(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("no number: {value}"))
}
