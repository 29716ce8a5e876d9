//! Values by their column's type: whether it can hold one, how upstream will
//! print it, and whether two are the same.
//!
//! PostgREST gives a body's JSON to PostgreSQL's input functions and prints
//! rows by its `row_to_json`. What is said here of either was compared with
//! PostgreSQL 15 and PostgREST 12.

mod float;
mod json;
mod number;

use serde_json::value::RawValue;

use self::json::Json;
use super::object::text_value;
use super::row::KeyType;
use super::timestamp::{Micros, TimestampKind, is_date};

/// A column's type, as far as values of it can be checked here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `uuid`.
    Uuid,
    /// `smallint`, `integer` or `bigint`, by its least and greatest value.
    Integer {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// `numeric`. The description tells neither its precision nor its scale, to
    /// which PostgreSQL rounds.
    Numeric,
    /// `real`.
    Real,
    /// `double precision`.
    Double,
    /// `boolean`.
    Bool,
    /// `text` or `character varying`, up to so many characters.
    Text {
        /// The declared limit. PostgreSQL cuts blanks beyond it off silently.
        max_chars: Option<usize>,
    },
    /// `timestamp` with or without time zone. The description doesn't tell a
    /// declared precision; the default, microseconds, is taken for granted.
    Timestamp(TimestampKind),
    /// `date`.
    Date,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// An enumeration, by its labels.
    Enum(Vec<String>),
    /// A one-dimensional array of `uuid`, integers, floats, booleans, `text`,
    /// timestamps or dates.
    Array(Box<Self>),
    /// Any other type.
    Unknown,
}

impl ColumnType {
    /// The type of a column by what an OpenAPI description says of it: its
    /// `format` (an SQL type's name), its `maxLength` and its `enum`.
    pub fn declared(format: &str, max_chars: Option<usize>, variants: Option<&[String]>) -> Self {
        if let Some(variants) = variants {
            return Self::Enum(variants.to_vec());
        }
        match format {
            "numeric" => Self::Numeric,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "character varying" => Self::Text { max_chars },
            _ => match format.strip_suffix("[]") {
                Some(element) => {
                    Self::scalar(element).map_or(Self::Unknown, |element| Self::Array(Box::new(element)))
                }
                None => Self::scalar(format).unwrap_or(Self::Unknown),
            },
        }
    }

    /// A type whose name tells everything.
    fn scalar(format: &str) -> Option<Self> {
        match format {
            "uuid" => Some(Self::Uuid),
            "smallint" => Some(Self::Integer { min: i16::MIN.into(), max: i16::MAX.into() }),
            "integer" => Some(Self::Integer { min: i32::MIN.into(), max: i32::MAX.into() }),
            "bigint" => Some(Self::Integer { min: i64::MIN, max: i64::MAX }),
            "real" => Some(Self::Real),
            "double precision" => Some(Self::Double),
            "boolean" => Some(Self::Bool),
            "text" => Some(Self::Text { max_chars: None }),
            "date" => Some(Self::Date),
            _ => TimestampKind::declared(format).map(Self::Timestamp),
        }
    }

    /// The value as upstream will print it. `None`: the type can't hold it, or
    /// it isn't certain that it can, or how it will be printed. Every type
    /// holds `null`; constraints of the table or of a domain aren't known.
    pub fn canonical(&self, value: &RawValue) -> Option<Box<RawValue>> {
        let json = value.get();
        if is_null(value) {
            return Some(value.to_owned());
        }
        match self {
            Self::Uuid => Some(text_value(&KeyType::Uuid.canonical(&text(json)?)?)),
            &Self::Integer { min, max } => raw(canonical_integer(json, min, max)?),
            Self::Real => raw(float::real(json)?),
            Self::Double => raw(float::double(json)?),
            Self::Bool => matches!(json, "true" | "false").then(|| value.to_owned()),
            &Self::Text { max_chars } => {
                Some(text_value(&KeyType::Text { max_chars }.canonical(&text(json)?)?))
            }
            &Self::Timestamp(kind) => Some(text_value(&Micros::parse(&text(json)?, kind)?.text(kind))),
            Self::Date => text(json).filter(|text| is_date(text)).map(|text| text_value(&text)),
            Self::Json => canonical_json(value),
            Self::Jsonb => raw(Json::parse(json)?.jsonb()?),
            Self::Enum(labels) => {
                text(json).filter(|text| labels.contains(text)).map(|text| text_value(&text))
            }
            Self::Array(element) => canonical_array(json, element),
            Self::Numeric | Self::Unknown => None,
        }
    }

    /// Whether two values of this type are the same: moments whatever their
    /// zone, numbers and `jsonb` by value. Values that the type can't hold are
    /// compared as JSON.
    pub fn equal(&self, one: &RawValue, other: &RawValue) -> bool {
        match self {
            &Self::Timestamp(kind) => compared(one, other, |value| Micros::parse(&text(value.get())?, kind)),
            Self::Real => compared(one, other, |value| float::parsed::<f32>(value.get())),
            Self::Double => compared(one, other, |value| float::parsed::<f64>(value.get())),
            Self::Array(element) => match (elements(one.get()), elements(other.get())) {
                (Some(one), Some(other)) => {
                    one.len() == other.len()
                        && one.iter().zip(&other).all(|(one, other)| element.equal(one, other))
                }
                _ => same_json(one, other),
            },
            Self::Uuid | Self::Integer { .. } => {
                compared(one, other, |value| self.canonical(value).map(Box::<str>::from))
            }
            _ => same_json(one, other),
        }
    }

    /// The text of a key's value, canonical as [`KeyType::canonical`] gives it.
    /// `None`: `null`, not such a value, or this is no key type.
    pub fn key_text(&self, value: &RawValue) -> Option<String> {
        if is_null(value) {
            return None;
        }
        match self {
            Self::Uuid | Self::Text { .. } => text(self.canonical(value)?.get()),
            Self::Integer { .. } => Some(self.canonical(value)?.get().to_owned()),
            _ => None,
        }
    }
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// What was made here from values that were JSON.
fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}

/// A JSON string's text. `None`: another value, or a text that no PostgreSQL
/// holds, for it has a NUL or half a surrogate pair.
fn text(json: &str) -> Option<String> {
    serde_json::from_str(json).ok().filter(|text: &String| !text.contains('\0'))
}

/// Digits, in a JSON string too.
fn canonical_integer(json: &str, min: i64, max: i64) -> Option<String> {
    let key = KeyType::Integer { min, max };
    if json.starts_with('"') { key.canonical(&text(json)?) } else { key.canonical(json) }
}

/// A string's escapes are undone before it is stored, other values are kept as
/// they are written; but all that is in them has to be text.
fn canonical_json(value: &RawValue) -> Option<Box<RawValue>> {
    match Json::parse(value.get())? {
        Json::Text(text) => Some(text_value(&text)),
        _ => Some(value.to_owned()),
    }
}

fn canonical_array(json: &str, element: &ColumnType) -> Option<Box<RawValue>> {
    let mut array = String::with_capacity(json.len());
    for value in elements(json)? {
        array.push(if array.is_empty() { '[' } else { ',' });
        array.push_str(element.canonical(&value)?.get());
    }
    array.push_str(if array.is_empty() { "[]" } else { "]" });
    raw(array)
}

fn elements(json: &str) -> Option<Vec<Box<RawValue>>> {
    serde_json::from_str(json).ok()
}

/// Compares two values by what `read` makes of them, as JSON where it makes
/// nothing of one of them.
fn compared<T: PartialEq>(one: &RawValue, other: &RawValue, read: impl Fn(&RawValue) -> Option<T>) -> bool {
    match (read(one), read(other)) {
        (Some(one), Some(other)) => one == other,
        _ => same_json(one, other),
    }
}

/// Whether two values are equal as JSON: objects whatever the order of their
/// names, numbers by value.
fn same_json(one: &RawValue, other: &RawValue) -> bool {
    match (Json::parse(one.get()), Json::parse(other.get())) {
        (Some(one), Some(other)) => one == other,
        _ => one.get() == other.get(),
    }
}

#[cfg(test)]
mod tests;
