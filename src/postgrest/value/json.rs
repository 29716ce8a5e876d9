//! JSON values as `jsonb` has them.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::number::Number;
use crate::postgrest::object::{MAX_DEPTH, Members, text_value};

/// A JSON value without blanks, order and duplicate names: of equal names the
/// last one counts. Its texts have no NUL.
#[derive(Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Self>),
    /// By the names' lengths in bytes, then by their bytes: `jsonb`'s order.
    Object(BTreeMap<(usize, String), Self>),
}

impl Json {
    /// `None`: not JSON, nested deeper than [`MAX_DEPTH`], or with a text that
    /// no PostgreSQL holds.
    pub(super) fn parse(json: &str) -> Option<Self> {
        Self::parse_nested(json, MAX_DEPTH)
    }

    /// Reads a value that has at most `depth` arrays and objects in each other.
    fn parse_nested(json: &str, depth: usize) -> Option<Self> {
        match json.as_bytes().first()? {
            b'n' => (json == "null").then_some(Self::Null),
            b't' | b'f' => json.parse().ok().map(Self::Bool),
            b'"' => super::text(json).map(Self::Text),
            b'[' => {
                let depth = depth.checked_sub(1)?;
                let elements: Vec<&RawValue> = serde_json::from_str(json).ok()?;
                let elements = elements.into_iter().map(|element| Self::parse_nested(element.get(), depth));
                elements.collect::<Option<_>>().map(Self::Array)
            }
            b'{' => {
                let depth = depth.checked_sub(1)?;
                let Members(members): Members<&RawValue> = serde_json::from_str(json).ok()?;
                let members = members.into_iter().map(|(name, value)| {
                    let value = Self::parse_nested(value.get(), depth)?;
                    (!name.contains('\0')).then_some(((name.len(), name), value))
                });
                members.collect::<Option<_>>().map(Self::Object)
            }
            _ => Some(Self::Number(Number::new(json))),
        }
    }

    /// The text that PostgreSQL prints for it as a `jsonb`. `None`: a number in
    /// it has an exponent, or more digits than are vouched for.
    pub(super) fn jsonb(&self) -> Option<String> {
        let mut text = String::new();
        self.print(&mut text)?;
        Some(text)
    }

    fn print(&self, text: &mut String) -> Option<()> {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(number.numeric()?),
            Self::Text(value) => text.push_str(text_value(value).get()),
            Self::Array(elements) => {
                text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    element.print(text)?;
                }
                text.push(']');
            }
            Self::Object(members) => {
                text.push('{');
                for (index, ((_, name), value)) in members.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    text.push_str(text_value(name).get());
                    text.push_str(": ");
                    value.print(text)?;
                }
                text.push('}');
            }
        }
        Some(())
    }
}
