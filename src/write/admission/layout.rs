//! A table's columns, as far as they are known.

use serde_json::value::RawValue;

use super::Reason;
use crate::postgrest::object::text_value;
use crate::postgrest::row::KeyType;
use crate::postgrest::schema::{Column, Table};
use crate::postgrest::timestamp::{Micros, TimestampKind};
use crate::postgrest::value::ColumnType;
use crate::route::WritePolicy;

/// Parameters that are no filters, whatever column has that name.
const RESERVED: [&str; 10] =
    ["select", "columns", "on_conflict", "order", "limit", "offset", "and", "or", "not.and", "not.or"];

/// The type of columns that nothing is declared of.
static UNDECLARED: ColumnType = ColumnType::Unknown;

/// A table's columns, as far as they are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout<'a> {
    /// Upstream's description. `None`: the file states the key and the columns, and nothing tells their types.
    table: Option<&'a Table>,
    /// Whether the description may be a view's, which doesn't say what may be null.
    may_be_view: bool,
}

impl<'a> Layout<'a> {
    pub(super) fn of(table: Option<&'a Table>, policy: &WritePolicy) -> Result<Self, Reason> {
        let is_stated = policy.key.is_some() && policy.columns.is_some();
        let may_be_view = table.is_some_and(Table::may_be_view);
        match table {
            None if !is_stated => Err(Reason::Schema),
            Some(_) if may_be_view && !is_stated => Err(Reason::View),
            _ => Ok(Self { table, may_be_view }),
        }
    }

    /// The description, if there is one.
    pub(super) fn table(&self) -> Option<&'a Table> {
        self.table
    }

    /// The key's columns, sorted by name, as tags and lanes have them.
    pub(super) fn key(&self, policy: &WritePolicy) -> Result<Vec<String>, Reason> {
        let mut described = self.table.map(|table| table.key().to_vec()).unwrap_or_default();
        described.sort_unstable();
        let key = match &policy.key {
            Some(stated) => {
                let mut stated = stated.clone();
                stated.sort_unstable();
                if self.table.is_some() && !self.may_be_view && stated != described {
                    return Err(Reason::Key);
                }
                stated
            }
            None => described,
        };
        let fits = |name: &String| is_plain(name) && self.can_be_a_key(name) && *name != policy.updated_at;
        if !key.is_empty() && key.iter().all(fits) { Ok(key) } else { Err(Reason::KeyType) }
    }

    /// Whether `columns`, sorted by name, are those that PostgREST itself takes for the key.
    pub(super) fn is_described_key(&self, columns: &[String]) -> bool {
        let Some(table) = self.table else { return false };
        let mut key = table.key().to_vec();
        key.sort_unstable();
        key == columns
    }

    fn can_be_a_key(&self, name: &str) -> bool {
        self.table.is_none_or(|table| table.column(name).is_some_and(|column| column.key_type.is_some()))
    }

    /// The type of the `updated_at` column; `None` where only a row can tell.
    pub(super) fn timestamp(&self, name: &str) -> Result<Option<TimestampKind>, Reason> {
        let Some(table) = self.table else { return Ok(None) };
        match table.column(name).map(|column| &column.column_type) {
            Some(ColumnType::Timestamp(kind)) if is_plain(name) => Ok(Some(*kind)),
            _ => Err(Reason::UpdatedAtColumn),
        }
    }

    /// Whether the table may have this column.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.is_none_or(|table| table.column(name).is_some())
    }

    /// The value as upstream will print it. What nothing is declared of is
    /// upstream's to judge, and goes there as it is.
    pub(super) fn canonical(&self, name: &str, value: &RawValue) -> Result<Box<RawValue>, Reason> {
        if value.get() == "null" {
            return if self.may_be_null(name) { Ok(value.to_owned()) } else { Err(Reason::Null) };
        }
        let canonical = match self.table {
            Some(_) => self.column_type(name).canonical(value),
            // No type of PostgreSQL holds the character NUL.
            None => (!value.get().contains("\\u0000")).then(|| value.to_owned()),
        };
        canonical.ok_or(Reason::Value)
    }

    /// Whether two values of the column are the same.
    pub(super) fn same(&self, name: &str, one: &RawValue, other: &RawValue) -> bool {
        self.column_type(name).equal(one, other)
    }

    /// Whether what goes upstream as it is will also be printed so.
    pub(super) fn prints_as_sent(&self) -> bool {
        self.table.is_some()
    }

    /// A key value's text. `None`: it is none.
    pub(super) fn key_text(&self, name: &str, value: &RawValue) -> Option<String> {
        match self.table {
            Some(_) => self.column_type(name).key_text(value),
            None => {
                let text = plain_text(value)?;
                is_canonical_by_any_type(&text).then_some(text)
            }
        }
    }

    /// Whether a key value is spelt in the one way in which upstream prints it.
    pub(super) fn is_canonical_key(&self, name: &str, text: &str) -> bool {
        match self.table {
            Some(table) => table
                .column(name)
                .and_then(|column| column.key_type)
                .and_then(|key| key.canonical(text))
                .is_some_and(|canonical| canonical == text),
            None => is_canonical_by_any_type(text),
        }
    }

    /// A key value as upstream prints it.
    pub(super) fn key_value(&self, name: &str, text: &str) -> Box<RawValue> {
        let number = matches!(self.column_type(name), ColumnType::Integer { .. })
            .then(|| RawValue::from_string(text.to_owned()).ok())
            .flatten();
        number.unwrap_or_else(|| text_value(text))
    }

    /// The columns that an insert has to name: not null, and without a default.
    pub(super) fn demanded(&self) -> impl Iterator<Item = &'a str> {
        let columns = self.table.into_iter().flat_map(Table::columns);
        columns.filter(|(_, column)| column.required && !column.has_default).map(|(name, _)| name)
    }

    fn may_be_null(&self, name: &str) -> bool {
        let column = self.table.and_then(|table| table.column(name));
        !self.may_be_view && column.is_some_and(|column| !column.required)
    }

    fn column_type(&self, name: &str) -> &'a ColumnType {
        let column: Option<&'a Column> = self.table.and_then(|table| table.column(name));
        column.map_or(&UNDECLARED, |column| &column.column_type)
    }
}

/// Which of the two timestamp types prints this value; `None`: neither.
pub(super) fn timestamp_kind(value: &RawValue) -> Option<TimestampKind> {
    let text: String = serde_json::from_str(value.get()).ok()?;
    [TimestampKind::WithZone, TimestampKind::WithoutZone]
        .into_iter()
        .find(|kind| Micros::parse(&text, *kind).is_some())
}

/// Whether PostgREST reads the name as a column's wherever it stands: no quotes,
/// dots, arrows or colons, and no parameter of its own.
fn is_plain(name: &str) -> bool {
    let is_word = |text: &str| text.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    !name.is_empty() && is_word(name) && !RESERVED.contains(&name)
}

/// A string's text, or an integer's digits.
fn plain_text(value: &RawValue) -> Option<String> {
    let json = value.get();
    if json.starts_with('"') {
        return serde_json::from_str(json).ok();
    }
    let is_integer = json.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_integer.then(|| json.to_owned())
}

/// Whether the text is canonical as a value of each type that it is a value of.
fn is_canonical_by_any_type(text: &str) -> bool {
    let types = [KeyType::Uuid, KeyType::Integer { min: i64::MIN, max: i64::MAX }];
    types.into_iter().all(|key| key.canonical(text).is_none_or(|canonical| canonical == text))
}
