//! Upstream's answers with the caller's queued changes put in their places.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::HeaderMap;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::point::Format;
use super::shape::Node;
use super::{PendingWrite, Reading, seqs};
use crate::postgrest::schema::Table;
use crate::postgrest::value::ColumnType;
use crate::store::journal::Seq;

/// A read whose rows, and their order, are the same with the caller's queued
/// writes and without; some of the values in them are not.
#[derive(Debug)]
pub struct List {
    format: Format,
    rows: Rows,
    seqs: Vec<Seq>,
}

/// New values, each under the name that the answer has for it.
type Values = Vec<(String, Box<RawValue>)>;

/// Which rows of the answer get which values.
#[derive(Debug)]
enum Rows {
    /// The only one that there can be.
    Named(Values),
    /// Those with these keys, in the order of the table's key columns.
    ByKey { key: Vec<(String, ColumnType)>, values: HashMap<Vec<String>, Values> },
}

impl List {
    /// The correction by `writes`, all to the read's own table, none of which
    /// makes a row. `None` where the answer's rows can't be told apart, or its
    /// values are not written in the usual way.
    pub(super) fn of(reading: &Reading<'_>, root: &Node<'_>, writes: &[&PendingWrite]) -> Option<Self> {
        let headers = reading.read.headers;
        if !counts_at_most(headers) || !writes.iter().all(|write| write.is_canonical()) {
            return None;
        }
        let mut values: HashMap<Vec<String>, Values> = HashMap::new();
        for write in writes {
            let key = write.key_in(root.table)?.into_iter().map(str::to_owned).collect();
            add(values.entry(key).or_default(), root, write);
        }
        let rows = match reading.named {
            Some(_) => Rows::Named(values.into_values().next()?),
            None => Rows::ByKey { key: key_columns(root)?, values },
        };
        Some(Self { format: Format::asked_for(headers)?, rows, seqs: seqs(writes.iter().copied()) })
    }

    /// The writes whose values are put in, in the order of acceptance.
    pub fn seqs(&self) -> &[Seq] {
        &self.seqs
    }

    /// The body of upstream's answer (200 or 206, not compressed) with the
    /// values put in, all else as upstream wrote it. `None` where it doesn't
    /// look as expected: nothing exact can be said then.
    pub fn correct(&self, body: &Bytes) -> Option<Bytes> {
        let text = std::str::from_utf8(body).ok()?;
        let rows: Vec<&RawValue> = match self.format {
            Format::Array => serde_json::from_str(text).ok()?,
            Format::Object => vec![serde_json::from_str(text).ok()?],
        };
        let mut corrected = String::with_capacity(text.len());
        let mut copied = 0;
        for row in rows {
            let fields: Fields<'_> = serde_json::from_str(row.get()).ok()?;
            let Some(values) = self.rows.values(&fields)? else { continue };
            let mut missing = values.len();
            for (name, old) in &fields.0 {
                let Some((_, new)) = values.iter().find(|(other, _)| other == name) else { continue };
                let place = place(text, old.get())?;
                corrected.push_str(text.get(copied..place.start)?);
                corrected.push_str(new.get());
                copied = place.end;
                missing -= 1;
            }
            if missing > 0 {
                return None;
            }
        }
        if copied == 0 {
            return Some(body.clone());
        }
        corrected.push_str(text.get(copied..)?);
        Some(Bytes::from(corrected))
    }
}

impl Rows {
    /// The values that a row gets, `Some(None)` where it keeps its own; `None`
    /// where it can't be told which row it is.
    fn values(&self, row: &Fields<'_>) -> Option<Option<&Values>> {
        match self {
            Rows::Named(values) => Some(Some(values)),
            Rows::ByKey { key, values } => {
                let text = |(column, kind): &(String, ColumnType)| kind.key_text(row.get(column)?);
                let key: Vec<String> = key.iter().map(text).collect::<Option<_>>()?;
                Some(values.get(&key))
            }
        }
    }
}

/// Puts what a write sets into the values, under the names that the answer has.
fn add(values: &mut Values, root: &Node<'_>, write: &PendingWrite) {
    for (column, value) in write.values() {
        for name in root.shown_as(column) {
            match values.iter_mut().find(|(other, _)| *other == name) {
                Some((_, old)) => value.clone_into(old),
                None => values.push((name, value.clone())),
            }
        }
    }
}

/// The table's key columns, if the answer shows them all under their own names.
fn key_columns(root: &Node<'_>) -> Option<Vec<(String, ColumnType)>> {
    let table: &Table = root.table;
    let column = |name: &String| {
        let is_shown = root.shown_as(name).any(|shown| shown == *name);
        Some((name.clone(), table.column(name).filter(|_| is_shown)?.column_type.clone()))
    };
    table.key().iter().map(column).collect()
}

/// Whether `Prefer` asks for nothing but a count. A time zone, say, would have
/// upstream write timestamps in another way.
fn counts_at_most(headers: &HeaderMap) -> bool {
    headers.get_all("prefer").iter().all(|value| {
        value.to_str().is_ok_and(|text| text.split(',').all(|token| token.trim().starts_with("count=")))
    })
}

/// Where `part` lies, which was parsed out of `text`.
fn place(text: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let place = start..start.checked_add(part.len())?;
    text.get(place.clone()).map(|_| place)
}

/// A row's fields, in their order; no name occurs twice.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                let mut names = BTreeSet::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom("a name occurs twice"));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A field's name, borrowed where it holds no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
