//! Reads of one row by its whole key.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, RANGE};

use super::names;
use super::row::{laid_over, made_by};
use super::shape::Shown;
use super::{PendingWrite, Reading, seqs};
use crate::postgrest::object::Object;
use crate::postgrest::query::Query;
use crate::postgrest::schema::Table;
use crate::postgrest::select::{Item, Select};
use crate::store::journal::Seq;
use crate::tag::Relation;
use crate::write::record::{Base, KeyPart};

/// A read that is answered from one row.
///
/// It asks for plain columns, under other names perhaps, or for all of them.
/// Its parameters are one `eq` per key column and, each at most once,
/// `select`, an `order` by known columns, a `limit` above zero and an `offset`
/// of zero. It has no `Prefer` and no `Range`, and its `Accept` asks for an
/// array or for one object.
#[derive(Debug)]
pub struct Point {
    relation: Relation,
    key: Vec<KeyPart>,
    writes: Vec<PendingWrite>,
    columns: Columns,
    format: Format,
    /// The row that the writes make where upstream has none.
    made: Option<Object>,
    /// Whether the oldest write was made with a token of the reader's session.
    has_own_base: bool,
}

/// What a [`Point`] is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointAnswer {
    /// Status 200 and this.
    Row(RowAnswer),
    /// There is no such row: upstream's own answer to the read stands.
    Absent,
    /// What is known of the row does not suffice: wait for the writes.
    Incomplete,
}

/// PostgREST's answer with one row; a `HEAD` is answered without the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowAnswer {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Content-Range`.
    pub content_range: &'static str,
    /// The row, or an array of it.
    pub body: Bytes,
}

/// What is asked for of the row.
#[derive(Debug)]
enum Columns {
    /// All stored columns, in the table's order.
    All {
        /// What the table is known to have.
        known: Vec<String>,
    },
    /// These.
    Named(Vec<Shown>),
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// An array of objects.
    Array,
    /// One object.
    Object,
}

impl Point {
    /// The read of the row that `named` is the key of. `None` where it isn't
    /// such a read, or no queued write is that row's.
    pub(super) fn of(reading: &Reading<'_>, named: &[(String, String)]) -> Option<Self> {
        let (table, headers) = (reading.table, reading.read.headers);
        let writes = reading.writes_to(reading.relation, table, Some(named))?;
        let oldest = writes.first()?;
        let format = Format::asked_for(headers)?;
        let is_modified = headers.contains_key("prefer") || headers.contains_key(RANGE);
        if is_modified || !writes.iter().all(|write| write.is_canonical()) {
            return None;
        }
        check_parameters(reading.read.query, table)?;
        let columns = Columns::of(reading.read.query, table)?;
        let computed = reading.computed(reading.relation)?;
        if columns.include_any(&computed) {
            return None;
        }
        let same_session = |write: &PendingWrite| (reading.read.same_session)(&write.record);
        let writes: Vec<PendingWrite> = writes.iter().map(|write| (*write).clone()).collect();
        let made = made_by(table, &writes);
        // Whether others may see a row that is yet to come, nobody knows.
        if let Some(made) = &made
            && !(writes.iter().all(|write| !write.is_insert() || same_session(write))
                && columns.of_row(made).is_some())
        {
            return None;
        }
        Some(Self {
            relation: reading.relation.clone(),
            key: oldest.record.key.clone(),
            has_own_base: same_session(oldest),
            writes,
            columns,
            format,
            made,
        })
    }

    /// The row's table.
    pub fn relation(&self) -> &Relation {
        &self.relation
    }

    /// The row's whole key, canonical.
    pub fn key(&self) -> &[KeyPart] {
        &self.key
    }

    /// The writes that are laid over the row, in the order of acceptance.
    pub fn seqs(&self) -> Vec<Seq> {
        seqs(self.writes.iter())
    }

    /// The answer over `base`, the whole row as the reader sees it upstream;
    /// `None` where he sees no such row.
    pub fn answer(&self, base: Option<&Object>) -> PointAnswer {
        let row = match (base, &self.made) {
            (Some(base), _) => &laid_over(base, &self.writes),
            (None, Some(made)) => made,
            (None, None) => return PointAnswer::Absent,
        };
        match self.columns.of_row(row) {
            Some(row) => PointAnswer::Row(self.format.answer(&row)),
            None => PointAnswer::Incomplete,
        }
    }

    /// The answer over the row that the oldest write was based on, for where
    /// upstream can't be asked. It is [`PointAnswer::Incomplete`] to a reader
    /// whose session is another, since he may see another row.
    pub fn answer_from_record(&self) -> PointAnswer {
        match self.writes.first().map(|write| &write.record.base) {
            Some(Base::Row(base)) if self.has_own_base => self.answer(Some(base)),
            Some(Base::Absent) if self.has_own_base => self.answer(None),
            _ => PointAnswer::Incomplete,
        }
    }
}

/// Whether nothing but the key decides whether the row is answered.
fn check_parameters(query: &Query, table: &Table) -> Option<()> {
    for (name, value) in query.pairs() {
        let is_harmless = match name.as_str() {
            "select" | "apikey" => true,
            "order" => names::order(value)?
                .iter()
                .all(|term| term.embedded.is_none() && table.column(term.column).is_some()),
            "limit" => is_number(value) && value.bytes().any(|digit| digit != b'0'),
            "offset" => value == "0",
            name => table.key().iter().any(|column| column == name),
        };
        let is_single = name == "apikey" || query.all(name).count() == 1;
        if !is_harmless || !is_single {
            return None;
        }
    }
    Some(())
}

/// A number that upstream reads as well.
fn is_number(text: &str) -> bool {
    (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Columns {
    fn of(query: &Query, table: &Table) -> Option<Self> {
        let items = match query.get("select") {
            None => Vec::new(),
            // Versions differ in what it asks for.
            Some("") => return None,
            Some(select) => Select::parse(select).ok()?.items,
        };
        if let [] | [Item::Star] = items.as_slice() {
            return Some(Self::All { known: table.order().to_vec() });
        }
        let mut names = BTreeSet::new();
        let shown = items.iter().map(|item| match item {
            Item::Column(column) => Shown::of(column).filter(|shown| table.column(&shown.column).is_some()),
            _ => None,
        });
        let shown: Vec<Shown> = shown.collect::<Option<_>>()?;
        shown.iter().all(|shown| names.insert(&shown.name)).then_some(())?;
        Some(Self::Named(shown))
    }

    fn include_any(&self, columns: &[String]) -> bool {
        match self {
            Columns::All { .. } => !columns.is_empty(),
            Columns::Named(shown) => shown.iter().any(|shown| columns.contains(&shown.column)),
        }
    }

    /// What is asked for of `row`; `None` where it lacks some of it.
    fn of_row(&self, row: &Object) -> Option<Object> {
        match self {
            Columns::All { known } => {
                known.iter().all(|column| row.get(column).is_some()).then(|| row.clone())
            }
            Columns::Named(shown) => {
                let mut answer = Object::new();
                for Shown { name, column } in shown {
                    answer.set(name, row.get(column)?.to_owned());
                }
                Some(answer)
            }
        }
    }
}

impl Format {
    /// What `Accept` asks for, `None` where it isn't one of the usual.
    pub(super) fn asked_for(headers: &HeaderMap) -> Option<Self> {
        let mut accepted = headers.get_all(ACCEPT).iter();
        let accept = match (accepted.next(), accepted.next()) {
            (None, _) => return Some(Self::Array),
            (Some(value), None) => value.to_str().ok()?,
            (Some(_), Some(_)) => return None,
        };
        match accept {
            "*/*" | "application/json" => Some(Self::Array),
            "application/vnd.pgrst.object+json" => Some(Self::Object),
            _ => None,
        }
    }

    fn answer(self, row: &Object) -> RowAnswer {
        let (content_type, body) = match self {
            Self::Array => ("application/json; charset=utf-8", format!("[{}]", row.to_json())),
            Self::Object => ("application/vnd.pgrst.object+json; charset=utf-8", row.to_json()),
        };
        RowAnswer { content_type, content_range: "0-0/*", body: Bytes::from(body) }
    }
}
