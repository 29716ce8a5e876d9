//! The rows in a write's body.

use std::collections::BTreeMap;
use std::fmt;

use http::HeaderMap;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::WriteBody;

/// A row of the body, by column.
pub(super) type Row = BTreeMap<String, Cell>;

/// A value in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    /// A string, or an integer's digits: both are text to PostgreSQL.
    Text(String),
    /// Anything else.
    Other,
}

/// The rows of a JSON body: an object, or an array of objects. `None` where
/// the body wasn't seen, is of another type, or names a column twice.
pub(super) fn rows(body: WriteBody<'_>, headers: &HeaderMap) -> Option<Vec<Row>> {
    let WriteBody::Whole(bytes) = body else { return None };
    if !is_json(headers) {
        return None;
    }
    let rows: Rows = serde_json::from_slice(bytes).ok()?;
    Some(rows.0)
}

/// PostgREST takes a body without `Content-Type` for JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all("content-type").iter();
    match (types.next(), types.next()) {
        (None, _) => true,
        (Some(value), None) => value.to_str().is_ok_and(|text| {
            let essence = text.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json")
        }),
        (Some(_), Some(_)) => false,
    }
}

struct Rows(Vec<Row>);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowsVisitor;
        impl<'de> Visitor<'de> for RowsVisitor {
            type Value = Rows;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row or an array of rows")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rows, A::Error> {
                Ok(Rows(vec![read_row(map)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Rows, A::Error> {
                let mut rows = Vec::new();
                while let Some(OneRow(row)) = sequence.next_element()? {
                    rows.push(row);
                }
                Ok(Rows(rows))
            }
        }
        deserializer.deserialize_any(RowsVisitor)
    }
}

struct OneRow(Row);

impl<'de> Deserialize<'de> for OneRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowVisitor;
        impl<'de> Visitor<'de> for RowVisitor {
            type Value = OneRow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneRow, A::Error> {
                read_row(map).map(OneRow)
            }
        }
        deserializer.deserialize_map(RowVisitor)
    }
}

fn read_row<'de, A: MapAccess<'de>>(mut map: A) -> Result<Row, A::Error> {
    let mut row = Row::new();
    while let Some((column, cell)) = map.next_entry::<String, Cell>()? {
        if row.insert(column, cell).is_some() {
            return Err(A::Error::custom("a column is named twice"));
        }
    }
    Ok(row)
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CellVisitor;
        impl<'de> Visitor<'de> for CellVisitor {
            type Value = Cell;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Cell, E> {
                Ok(Cell::Text(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Cell, E> {
                Ok(Cell::Text(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Cell, E> {
                Ok(Cell::Text(number.to_string()))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Cell, E> {
                Ok(Cell::Other)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Cell, E> {
                Ok(Cell::Other)
            }

            fn visit_unit<E: Error>(self) -> Result<Cell, E> {
                Ok(Cell::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Cell::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Cell, A::Error> {
                while sequence.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Cell::Other)
            }
        }
        deserializer.deserialize_any(CellVisitor)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parsed(content_type: &[&'static str], body: &str) -> Option<Vec<Row>> {
        let mut headers = HeaderMap::new();
        for value in content_type {
            headers.append("content-type", HeaderValue::from_static(value));
        }
        rows(WriteBody::Whole(body.as_bytes()), &headers)
    }

    #[test]
    fn values_that_can_name_a_row_are_kept() {
        let rows = parsed(&[], r#"{"a":"x\u00e9","b":-5,"c":5.0,"d":null,"e":{"f":[1]},"g":[{}],"h":true}"#)
            .unwrap();
        let text = |text: &str| Cell::Text(text.into());
        let expected = [
            ("a", text("xé")),
            ("b", text("-5")),
            ("c", Cell::Other),
            ("d", Cell::Other),
            ("e", Cell::Other),
        ];
        for (column, cell) in expected {
            assert_eq!(rows[0][column], cell, "{column}");
        }
        assert_eq!((rows.len(), rows[0].len()), (1, 7));
        assert_eq!(parsed(&[], "[]").unwrap().len(), 0);
        assert_eq!(parsed(&[], r#"[{"a":1},{"b":2}]"#).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_array_of_rows_is_unknown() {
        for body in ["", "5", "null", r#""a""#, "[1]", "[[]]", r#"{"a":1,"a":2}"#, r#"{"a":1}{"#, "a,b\n1,2"]
        {
            assert_eq!(parsed(&[], body), None, "{body}");
        }
        assert_eq!(parsed(&[], &"[".repeat(1_000_000)), None);
        assert_eq!(parsed(&[], &format!("{{\"a\":{}", "[".repeat(1_000_000))), None);
        assert_eq!(rows(WriteBody::Unknown, &HeaderMap::new()), None);
    }

    #[test]
    fn only_json_is_read() {
        for (types, readable) in [
            (&["application/json"][..], true),
            (&["Application/JSON; charset=utf-8"], true),
            (&["text/csv"], false),
            (&["application/x-www-form-urlencoded"], false),
            (&["application/json", "application/json"], false),
        ] {
            assert_eq!(parsed(types, "{}").is_some(), readable, "{types:?}");
        }
    }
}
