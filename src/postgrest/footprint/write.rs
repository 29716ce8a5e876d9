//! The tags that a write moves.

use std::collections::BTreeSet;

use http::Method;

use super::body::{self, Cell, Row};
use super::{Tags, WriteShape};
use crate::postgrest::filter::named_row;
use crate::postgrest::prefer::Preferences;
use crate::postgrest::query::Query;
use crate::postgrest::schema::{Schema, Schemas, Table};
use crate::postgrest::select::parse_names;
use crate::request::Target;
use crate::tag::{Relation, Tag};

/// Above so many rows a write counts as one to the whole table.
const MAX_NAMED_ROWS: usize = 256;

/// A row's whole primary key, canonical.
type Key = Vec<(String, String)>;

/// The tags that a write moves, sorted, each once; none for a method that only
/// reads. `writes` and `depends_on` are the route's, if it states any.
pub fn write_tags(
    write: &WriteShape<'_>,
    schemas: &Schemas,
    writes: Option<&[Relation]>,
    depends_on: Option<&[Relation]>,
) -> Vec<Tag> {
    if matches!(*write.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Vec::new();
    }
    let mut tags = Tags::default();
    match write.target {
        Target::Table(relation) => {
            let schema = schemas.get(&relation.schema);
            let table = schema.and_then(|schema| Some((schema, schema.table(&relation.name)?)));
            match table.filter(|(_, table)| !table.may_be_view()) {
                Some((schema, table)) => {
                    table_write(write, relation, schema, table, &mut tags);
                    // The tables that triggers write, say.
                    let others = writes.unwrap_or_default().iter().filter(|other| *other != relation);
                    others.for_each(|other| tags.add_table(other.clone()));
                }
                None => view_write(write, relation, schemas, writes.or(depends_on), &mut tags),
            }
        }
        Target::Function(function) => stated_writes(writes, Some(&function.schema), schemas, &mut tags),
        Target::Rest | Target::GraphQl => stated_writes(writes, None, schemas, &mut tags),
        Target::Storage | Target::Other => {
            stated_writes(Some(writes.unwrap_or_default()), None, schemas, &mut tags)
        }
    }
    tags.into_sorted()
}

/// A function, GraphQL or another path writes what its route says, and what
/// known foreign keys reach from there: every table, where it says nothing.
fn stated_writes(writes: Option<&[Relation]>, schema: Option<&str>, schemas: &Schemas, tags: &mut Tags) {
    let Some(writes) = writes else {
        tags.add(Tag::Every);
        tags.0.extend(schema.map(|schema| Tag::Schema(schema.to_owned())));
        return;
    };
    for relation in writes {
        tags.add_table(relation.clone());
        tags.0.extend(schema.map(|schema| Tag::Schema(schema.to_owned())));
        if let Some(schema) = schemas.get(&relation.schema) {
            for table in schema.dependents(&relation.name).tables {
                tags.add(Tag::Table(Relation::new(&relation.schema, table)));
            }
        }
    }
}

/// A write to what may be a view counts as one to the tables that its route
/// states; without any, as one to every table. A view's column may be a key
/// of a table behind it, so anything but a plain insert may change a key.
fn view_write(
    write: &WriteShape<'_>,
    view: &Relation,
    schemas: &Schemas,
    stated: Option<&[Relation]>,
    tags: &mut Tags,
) {
    tags.add_table(view.clone());
    let Some(stated) = stated else {
        tags.add(Tag::Every);
        return;
    };
    let plain_insert =
        *write.method == Method::POST && !Preferences::of(write.headers).may_merge_duplicates();
    for relation in stated {
        tags.add_table(relation.clone());
        if !plain_insert {
            add_dependents(relation, schemas.get(&relation.schema), tags);
        }
    }
}

/// What `on delete` and `on update` may change: every table that refers to this
/// one, transitively; every table there is where those are not all known.
fn add_dependents(relation: &Relation, schema: Option<&Schema>, tags: &mut Tags) {
    match schema.map(|schema| schema.dependents(&relation.name)) {
        Some(dependents) if dependents.complete => {
            let relations = dependents.tables.into_iter().map(|table| Relation::new(&relation.schema, table));
            relations.for_each(|dependent| tags.add(Tag::Table(dependent)));
        }
        _ => tags.add(Tag::Every),
    }
}

/// What a write does to its own table.
struct Change {
    /// The keys of its rows; `None` where they are not all known.
    rows: Option<BTreeSet<Key>>,
    /// Whether it deletes rows or may change a column that others refer to.
    cascades: bool,
}

fn table_write(write: &WriteShape<'_>, relation: &Relation, schema: &Schema, table: &Table, tags: &mut Tags) {
    let table = WrittenTable { name: &relation.name, table, schema, query: write.query };
    let rows = body::rows(write.body, write.headers);
    let change = match *write.method {
        Method::DELETE => Change { rows: table.filtered_row(), cascades: true },
        Method::PATCH => table.patch(rows.as_deref()),
        Method::PUT => table.put(rows.as_deref()),
        Method::POST if Preferences::of(write.headers).may_merge_duplicates() => {
            table.upsert(rows.as_deref())
        }
        Method::POST => Change { rows: table.inserted_rows(rows.as_deref()), cascades: false },
        _ => {
            tags.add(Tag::Every);
            Change { rows: None, cascades: true }
        }
    };
    tags.add(Tag::Schema(relation.schema.clone()));
    match change.rows.filter(|rows| rows.len() <= MAX_NAMED_ROWS) {
        Some(rows) => {
            tags.add(Tag::List(relation.clone()));
            tags.0.extend(rows.into_iter().map(|row| Tag::Row(relation.clone(), row)));
        }
        None => tags.add(Tag::Table(relation.clone())),
    }
    if change.cascades {
        add_dependents(relation, Some(schema), tags);
    }
}

/// A table that is certainly none of a view, and the query of a write to it.
#[derive(Clone, Copy)]
struct WrittenTable<'a> {
    name: &'a str,
    table: &'a Table,
    schema: &'a Schema,
    query: &'a Query,
}

impl WrittenTable<'_> {
    fn filtered_row(self) -> Option<BTreeSet<Key>> {
        named_row(self.table, self.query).map(|row| BTreeSet::from([row]))
    }

    /// Changes the columns in its body (those in `columns`, where that is
    /// given). It keeps the key if the body's is the one that the filters name.
    fn patch(self, rows: Option<&[Row]>) -> Change {
        let filtered = named_row(self.table, self.query);
        let (one, columns) = match rows {
            Some([]) => (None, Some(BTreeSet::new())),
            Some([row]) => (Some(row), self.written_columns(rows)),
            _ => (None, None),
        };
        let keeps = |column: &String| {
            let written = one.and_then(|row| self.canonical_cell(row, column));
            let named = filtered.iter().flatten().find(|(name, _)| name == column).map(|(_, value)| value);
            written.is_some() && written.as_ref() == named
        };
        let changes_key = columns.as_ref().is_none_or(|columns| {
            columns.iter().any(|column| self.table.key().contains(column) && !keeps(column))
        });
        Change {
            rows: filtered.filter(|_| !changes_key).map(|row| BTreeSet::from([row])),
            cascades: changes_key || self.reaches_others(columns.as_ref()),
        }
    }

    /// Its filters name the key and its body has the same: PostgREST insists.
    fn put(self, rows: Option<&[Row]>) -> Change {
        let columns = self.written_columns(rows);
        Change { rows: self.filtered_row(), cascades: self.reaches_others(columns.as_ref()) }
    }

    /// An insert that updates the rows which are there: those with the body's
    /// keys, if the conflict target is the primary key; else rows that only
    /// PostgreSQL knows, and they get the body's keys.
    fn upsert(self, rows: Option<&[Row]>) -> Change {
        let columns = self.written_columns(rows);
        let names_key = columns
            .as_ref()
            .is_some_and(|columns| self.table.key().iter().all(|column| columns.contains(column)));
        let by_key = self.conflicts_on_key();
        let changes_key = !by_key
            && columns
                .as_ref()
                .is_none_or(|columns| columns.iter().any(|column| self.table.key().contains(column)));
        let named = if by_key && names_key { rows } else { None };
        Change {
            rows: named.and_then(|rows| rows.iter().map(|row| self.key_in(row)).collect()),
            cascades: changes_key || self.reaches_others(columns.as_ref()),
        }
    }

    /// The rows that a plain insert names. One without a key, or part of it,
    /// gets a new key, so that only lists and empty answers can show it.
    fn inserted_rows(self, rows: Option<&[Row]>) -> Option<BTreeSet<Key>> {
        let is_named = |row: &&Row| self.table.key().iter().all(|column| row.contains_key(column));
        rows?.iter().filter(is_named).map(|row| self.key_in(row)).collect()
    }

    fn conflicts_on_key(self) -> bool {
        let mut targets = self.query.all("on_conflict");
        match (targets.next(), targets.next()) {
            (None, _) => true,
            (Some(target), None) => parse_names(target).is_ok_and(|columns| {
                let columns: BTreeSet<_> = columns.into_iter().collect();
                columns.iter().eq(self.table.key())
            }),
            (Some(_), Some(_)) => false,
        }
    }

    /// The columns that get a value: those in `columns`, else the body's.
    /// `None` where they are not known.
    fn written_columns(self, rows: Option<&[Row]>) -> Option<BTreeSet<String>> {
        let mut stated = self.query.all("columns");
        match (stated.next(), stated.next()) {
            (None, _) => Some(rows?.iter().flat_map(Row::keys).cloned().collect()),
            (Some(columns), None) => Some(parse_names(columns).ok()?.into_iter().collect()),
            (Some(_), Some(_)) => None,
        }
    }

    /// Whether other tables may refer to one of these columns, the key aside.
    fn reaches_others(self, columns: Option<&BTreeSet<String>>) -> bool {
        let is_referenced =
            |column: &str| !self.is_key(column) && self.schema.is_referenced(self.name, column);
        match columns {
            Some(columns) => columns.iter().any(|column| is_referenced(column)),
            None => self.table.columns().any(|(column, _)| is_referenced(column)),
        }
    }

    fn is_key(self, column: &str) -> bool {
        self.table.key().iter().any(|key| key == column)
    }

    fn key_in(self, row: &Row) -> Option<Key> {
        let columns = self.table.key().iter();
        columns.map(|column| Some((column.clone(), self.canonical_cell(row, column)?))).collect()
    }

    fn canonical_cell(self, row: &Row, column: &str) -> Option<String> {
        match row.get(column)? {
            Cell::Text(text) => self.table.column(column)?.key_type?.canonical(text),
            Cell::Other => None,
        }
    }
}
