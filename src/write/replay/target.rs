//! The targets of a replay's requests, spelt so that PostgREST reads exactly
//! the names and values that are meant.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::write::record::KeyPart;

/// What stands for itself in a URL (RFC 3986, section 2.3); the rest is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Parameters that filter no column of that name unless it is quoted.
const RESERVED: [&str; 9] =
    ["select", "columns", "on_conflict", "order", "limit", "offset", "and", "or", "not"];

/// What a row's `updated_at` has to be for the row to be changed: one plain
/// filter, since PostgREST before 14.4 applies `or=` and `and=` to the changed
/// row as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    /// Not later than this.
    AtMost(String),
    /// Exactly this.
    Equal(String),
    /// Not there.
    Null,
}

/// A path and query in the making.
#[derive(Debug)]
pub(super) struct Target {
    text: String,
    separator: char,
}

impl Target {
    /// A table or a view, of the schema that the profile header names.
    pub(super) fn table(name: &str) -> Self {
        Self { text: format!("/rest/v1/{}", encoded(name)), separator: '?' }
    }

    /// Only the row of this key.
    pub(super) fn key(self, key: &[KeyPart]) -> Self {
        // What follows `eq.` is taken as it is, up to the end: it needs no quotes.
        key.iter().fold(self, |target, part| target.compared(&part.column, &format!("eq.{}", part.value)))
    }

    /// Only if `column` is as the filter says.
    pub(super) fn filter(self, column: &str, filter: &Filter) -> Self {
        match filter {
            Filter::AtMost(time) => self.compared(column, &format!("lte.{time}")),
            Filter::Equal(time) => self.compared(column, &format!("eq.{time}")),
            Filter::Null => self.compared(column, "is.null"),
        }
    }

    /// Only these columns in the answer.
    pub(super) fn select<'a>(self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.parameter("select", &names(columns))
    }

    /// Every column in the answer.
    pub(super) fn select_all(self) -> Self {
        self.parameter("select", "*")
    }

    /// What two rows must share for the second to be a duplicate.
    pub(super) fn on_conflict<'a>(self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.parameter("on_conflict", &names(columns))
    }

    /// The path and query.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn compared(self, column: &str, condition: &str) -> Self {
        let name = if RESERVED.contains(&column) { Cow::Owned(quoted(column)) } else { name(column) };
        self.parameter(&name, condition)
    }

    fn parameter(mut self, name: &str, value: &str) -> Self {
        self.text.push(self.separator);
        self.text.extend(encoded(name));
        self.text.push('=');
        // `*` and `,` mean the same as they are and encoded; PostgREST decodes first.
        self.text.extend(encoded(value));
        self.separator = '&';
        self
    }
}

fn names<'a>(columns: impl IntoIterator<Item = &'a str>) -> String {
    columns.into_iter().map(name).collect::<Vec<_>>().join(",")
}

/// A column's name where PostgREST parses one: quoted unless it is a plain word.
fn name(column: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !column.is_empty() && column.bytes().all(is_plain) {
        Cow::Borrowed(column)
    } else {
        Cow::Owned(quoted(column))
    }
}

fn quoted(column: &str) -> String {
    format!("\"{}\"", column.replace('\\', "\\\\").replace('"', "\\\""))
}

fn encoded(text: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(text, ENCODED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::postgrest::query::Query;

    fn part(column: &str, value: &str) -> KeyPart {
        KeyPart { column: column.into(), value: value.into() }
    }

    #[test]
    fn names_and_values_are_spelt_out() {
        let cases: [(Target, &str); 8] = [
            (Target::table("users"), "/rest/v1/users"),
            (Target::table("my table/ü"), "/rest/v1/my%20table%2F%C3%BC"),
            (Target::table("t").key(&[part("id", "5"), part("kind", "")]), "/rest/v1/t?id=eq.5&kind=eq."),
            (
                Target::table("t").key(&[part("a b", "x,y.(z):\"q\" + %&\\")]),
                "/rest/v1/t?%22a%20b%22=eq.x%2Cy.%28z%29%3A%22q%22%20%2B%20%25%26%5C",
            ),
            (Target::table("t").key(&[part("order", "1")]), "/rest/v1/t?%22order%22=eq.1"),
            (
                Target::table("t").filter("at", &Filter::AtMost("2026-02-01T00:00:00+00:00".into())),
                "/rest/v1/t?at=lte.2026-02-01T00%3A00%3A00%2B00%3A00",
            ),
            (
                Target::table("t").filter("at", &Filter::Null).select(["id", "a\"\\"]),
                "/rest/v1/t?at=is.null&select=id%2C%22a%5C%22%5C%5C%22",
            ),
            (
                Target::table("t").on_conflict(["a", "b"]).select_all(),
                "/rest/v1/t?on_conflict=a%2Cb&select=%2A",
            ),
        ];
        for (target, expected) in cases {
            assert_eq!(target.finish(), expected);
        }
    }

    proptest! {
        #[test]
        fn a_value_is_read_as_it_was(value in "\\PC{0,16}", time in "\\PC{0,8}") {
            let target = Target::table("t").key(&[part("id", &value)]).filter("at", &Filter::Equal(time.clone())).finish();
            let query = Query::parse(target.split_once('?').map_or("", |(_, query)| query)).unwrap();
            let (id, at) = (format!("eq.{value}"), format!("eq.{time}"));
            prop_assert_eq!(query.get("id"), Some(id.as_str()));
            prop_assert_eq!(query.get("at"), Some(at.as_str()));
            prop_assert_eq!(query.pairs().len(), 2);
            prop_assert!(target.is_ascii() && target.parse::<http::Uri>().is_ok());
        }
    }
}
