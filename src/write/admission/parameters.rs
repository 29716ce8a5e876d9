//! What a write's query names: the row, and the columns of the answer.

use std::collections::BTreeSet;

use super::layout::Layout;
use super::{Key, Reason};
use crate::postgrest::query::Query;
use crate::postgrest::select::{Item, Select, parse_names};
use crate::write::record::KeyPart;

/// The columns of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// All, in the table's order.
    All,
    /// These, in this order.
    These(Vec<String>),
}

/// The row that the filters name: each column of the key is compared with `eq`
/// and a value in its canonical spelling, and nothing else is in the query but
/// `select` and `columns`.
pub(super) fn filtered_key(key: &[String], query: &Query, layout: &Layout<'_>) -> Result<Key, Reason> {
    check_names(query, |name| {
        matches!(name, "select" | "columns") || key.iter().any(|column| column == name)
    })?;
    let parts = key.iter().map(|column| {
        let value = query.get(column).and_then(|filter| filter.strip_prefix("eq.")).ok_or(Reason::Filter)?;
        if !layout.is_canonical_key(column, value) {
            return Err(Reason::KeySpelling);
        }
        Ok(KeyPart { column: column.clone(), value: value.to_owned() })
    });
    parts.collect()
}

/// Makes sure that an insert's conflict target is the key, and that nothing
/// else is in the query but `select` and `columns`.
pub(super) fn check_insert(
    key: &[String],
    query: &Query,
    layout: &Layout<'_>,
    merges: bool,
) -> Result<(), Reason> {
    check_names(query, |name| matches!(name, "select" | "columns" | "on_conflict"))?;
    let is_key = match query.get("on_conflict") {
        Some(target) => is_exactly(target, key.iter().map(String::as_str)),
        // PostgREST takes the key then, as it knows it.
        None => !merges || layout.is_described_key(key),
    };
    if is_key { Ok(()) } else { Err(Reason::OnConflict) }
}

/// `columns`, where it is sent, has to name the body's columns: others would be
/// set to null, and those that it leaves out be ignored.
pub(super) fn check_columns<'a>(query: &Query, body: impl Iterator<Item = &'a str>) -> Result<(), Reason> {
    match query.get("columns") {
        Some(columns) if !is_exactly(columns, body) => Err(Reason::ColumnsParameter),
        _ => Ok(()),
    }
}

/// The columns that `select` names: `*`, or a list of plain ones.
pub(super) fn selection(query: &Query, layout: &Layout<'_>) -> Result<Selection, Reason> {
    let Some(text) = query.get("select") else { return Ok(Selection::All) };
    let items = Select::parse(text).map_err(|_| Reason::Select)?.items;
    if items == [Item::Star] {
        return Ok(Selection::All);
    }
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let Item::Column(column) = item else { return Err(Reason::Select) };
        let is_plain = column.alias.is_none() && column.path.is_empty() && column.cast.is_none();
        if !is_plain || !layout.has(&column.name) || names.contains(&column.name) {
            return Err(Reason::Select);
        }
        names.push(column.name);
    }
    if names.is_empty() { Err(Reason::Select) } else { Ok(Selection::These(names)) }
}

/// The query is sorted by name, which brings repeated ones together.
fn check_names(query: &Query, is_known: impl Fn(&str) -> bool) -> Result<(), Reason> {
    let pairs = query.pairs();
    if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Reason::RepeatedParameter);
    }
    if pairs.iter().all(|(name, _)| is_known(name)) { Ok(()) } else { Err(Reason::Parameter) }
}

/// Whether a list of names has each of these once, and no other.
fn is_exactly<'a>(list: &str, names: impl Iterator<Item = &'a str>) -> bool {
    let Ok(listed) = parse_names(list) else { return false };
    let set: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
    set.len() == listed.len() && set == names.collect()
}
