//! A row as JSON, its values kept as they were written: a number that no float
//! holds, `1.50` or a `json` column's blanks pass through unchanged.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// How deep the arrays and objects of a row may be nested, the row included.
pub const MAX_DEPTH: usize = 64;

/// A JSON object, its values kept digit by digit as they were written, its
/// fields in their order. No name occurs twice.
///
/// It can be deserialised from `serde_json` alone, and not inside a flattened,
/// internally tagged or untagged type: those buffer values in another form.
#[derive(Clone, Debug, Default)]
pub struct Object {
    fields: Vec<(String, Box<RawValue>)>,
}

/// Why a text is not an [`Object`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// It is not one JSON value in UTF-8, or nested deeper than [`MAX_DEPTH`].
    #[error("The text is not JSON, or nested deeper than {MAX_DEPTH}")]
    NotJson,
    /// It is another kind of JSON value.
    #[error("The JSON value is not an object")]
    NotAnObject,
    /// A name occurs twice; servers differ in which value counts.
    #[error("The JSON object has two fields {0:?}")]
    DuplicateKey(String),
}

impl Object {
    /// An object without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a text that is one object, blanks around it allowed. Two spellings
    /// of a name, as `"a"` and `"\u0061"`, are the same name.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] where it is anything else.
    pub fn parse(json: &[u8]) -> Result<Self, ObjectError> {
        let json = std::str::from_utf8(json).map_err(|_| ObjectError::NotJson)?;
        if !is_nested_at_most(json, MAX_DEPTH) {
            return Err(ObjectError::NotJson);
        }
        let value: &RawValue = serde_json::from_str(json).map_err(|_| ObjectError::NotJson)?;
        if !value.get().starts_with('{') {
            return Err(ObjectError::NotAnObject);
        }
        let members = serde_json::from_str(value.get()).map_err(|_| ObjectError::NotJson)?;
        Self::unique(members)
    }

    fn unique(Members(fields): Members<Box<RawValue>>) -> Result<Self, ObjectError> {
        let mut names = BTreeSet::new();
        match fields.iter().find(|(name, _)| !names.insert(name.as_str())) {
            Some((name, _)) => Err(ObjectError::DuplicateKey(name.clone())),
            None => Ok(Self { fields }),
        }
    }

    /// Reads a text that is an array of objects, as PostgREST answers. `None`:
    /// it is anything else, or one of them has a name twice.
    pub fn parse_rows(json: &[u8]) -> Option<Vec<Self>> {
        let json = std::str::from_utf8(json).ok()?;
        if !is_nested_at_most(json, MAX_DEPTH + 1) {
            return None;
        }
        serde_json::from_str(json).ok()
    }

    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// All fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    /// Replaces a field's value in place, or appends the field.
    pub fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.fields.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// Removes a field, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|(other, _)| other != name);
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The object as JSON, without blanks other than those inside its values.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names are text and values are JSON")
    }
}

/// Field by field and digit by digit: `1.0` is not `1.00`, another order is
/// another object.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.fields.len() == other.fields.len()
            && self
                .iter()
                .zip(other.iter())
                .all(|(one, other)| one.0 == other.0 && one.1.get() == other.1.get())
    }
}

impl Eq for Object {}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::unique(Members::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The members of any JSON object, in their order; a name may occur twice.
pub(super) struct Members<V>(pub Vec<(String, V)>);

impl<V> Default for Members<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Members<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<V>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

/// A JSON string.
pub fn text_value(text: &str) -> Box<RawValue> {
    to_raw_value(text).expect("a text is a JSON string")
}

/// Whether no more than `max` arrays and objects enclose any part of a JSON
/// text. Of other texts it tells nothing.
fn is_nested_at_most(json: &str, max: usize) -> bool {
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            _ if is_string => {}
            b'{' | b'[' if depth == max => return false,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(json: &str) -> Result<Object, ObjectError> {
        Object::parse(json.as_bytes())
    }

    #[test]
    fn values_are_kept_as_they_are_written() {
        let json =
            r#" {"b": 1.50 ,"a":{"x": [1e400 ,  -0]},"ü":"\u00fc","n":12345678901234567890.10, "":null} "#;
        let object = parse(json).unwrap();
        assert_eq!(
            object.to_json(),
            r#"{"b":1.50,"a":{"x": [1e400 ,  -0]},"ü":"\u00fc","n":12345678901234567890.10,"":null}"#
        );
        assert_eq!(object.get("ü").unwrap().get(), r#""\u00fc""#);
        assert_eq!(object.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "a", "ü", "n", ""]);
        assert!(object.get("x").is_none());
    }

    #[test]
    fn anything_else_is_told_apart() {
        let duplicate = |name: &str| ObjectError::DuplicateKey(name.to_owned());
        for (json, error) in [
            ("", ObjectError::NotJson),
            ("{", ObjectError::NotJson),
            ("{} {}", ObjectError::NotJson),
            ("{a:1}", ObjectError::NotJson),
            (r#"{"a":01}"#, ObjectError::NotJson),
            (r#"{"a":NaN}"#, ObjectError::NotJson),
            (r#"{"a":1,}"#, ObjectError::NotJson),
            ("{\"a\":\"\n\"}", ObjectError::NotJson),
            (r#"{"\ud800":1}"#, ObjectError::NotJson),
            ("\u{feff}{}", ObjectError::NotJson),
            ("[]", ObjectError::NotAnObject),
            (r#"[{"a":1}]"#, ObjectError::NotAnObject),
            ("null", ObjectError::NotAnObject),
            (r#""{}""#, ObjectError::NotAnObject),
            (r#"{"a":1,"b":2,"a":1}"#, duplicate("a")),
            (r#"{"a":1,"\u0061":2}"#, duplicate("a")),
        ] {
            assert_eq!(parse(json), Err(error), "{json}");
        }
        assert_eq!(Object::parse(b"{\"a\":\"\xff\"}"), Err(ObjectError::NotJson));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(parse(&nested(MAX_DEPTH)), Err(ObjectError::NotJson));
        assert_eq!(parse(&nested(1_000_000)), Err(ObjectError::NotJson));
        assert!(parse(&format!(r#"{{"a":"\"{}"}}"#, "[".repeat(MAX_DEPTH))).is_ok(), "brackets in a string");
        let rows = |depth| Object::parse_rows(format!("[{}]", nested(depth)).as_bytes());
        assert!(rows(MAX_DEPTH - 1).is_some() && rows(MAX_DEPTH).is_none());
    }

    #[test]
    fn rows_are_an_array_of_objects() {
        let rows = Object::parse_rows(b"[{\"a\":1}, \n {\"a\":2.0}]").unwrap();
        let texts: Vec<_> = rows.iter().map(Object::to_json).collect();
        assert_eq!(texts, [r#"{"a":1}"#, r#"{"a":2.0}"#]);
        assert_eq!(Object::parse_rows(b" [] "), Some(vec![]));
        for other in ["", "{}", "[1]", "[[]]", "[{}", "[{}],", r#"[{"a":1,"a":1}]"#, "null"] {
            assert_eq!(Object::parse_rows(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn fields_are_replaced_in_place_or_appended() {
        let mut object = parse(r#"{"a":1,"b":2}"#).unwrap();
        object.set("a", text_value("x"));
        object.set("c", RawValue::NULL.to_owned());
        assert_eq!((object.to_json().as_str(), object.len()), (r#"{"a":"x","b":2,"c":null}"#, 3));
        object.remove("b");
        object.remove("nobody");
        assert_eq!(object.to_json(), r#"{"a":"x","c":null}"#);
        assert!(!object.is_empty() && Object::new().is_empty());
    }

    #[test]
    fn equal_means_the_same_text_in_the_same_order() {
        let one = parse(r#"{"a": 1.0, "b":2}"#).unwrap();
        assert_eq!(one, parse(r#"{"a":1.0,"b": 2}"#).unwrap());
        for other in [r#"{"a":1.00,"b":2}"#, r#"{"b":2,"a":1.0}"#, r#"{"a":1.0}"#, r#"{"a":1.0,"c":2}"#] {
            assert_ne!(one, parse(other).unwrap(), "{other}");
        }
    }

    #[test]
    fn part_of_a_larger_document() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Document {
            row: Option<Object>,
            rows: Vec<Object>,
        }
        let json = r#"{"row":{"a":1.50},"rows":[{},{"b":[1, 2]}]}"#;
        let document: Document = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&document).unwrap(), json);
        let duplicate = serde_json::from_str::<Document>(r#"{"row":{"a":1,"a":2},"rows":[]}"#);
        assert!(duplicate.is_err_and(|error| error.to_string().contains("two fields \"a\"")));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(
            fields in prop::collection::btree_map(any::<String>(), any::<String>(), 0..6)
        ) {
            let mut object = Object::new();
            for (name, text) in &fields {
                object.set(name, text_value(text));
            }
            prop_assert_eq!(parse(&object.to_json()), Ok(object.clone()));
            let values: std::collections::BTreeMap<String, String> =
                serde_json::from_str(&object.to_json()).unwrap();
            prop_assert_eq!(values, fields);
        }

        #[test]
        fn no_text_panics(json in any::<Vec<u8>>(), like in "[\\[\\]{}\",:\\\\a1]{0,12}") {
            let _ = Object::parse(&json);
            let _ = Object::parse(like.as_bytes());
            let _ = Object::parse_rows(like.as_bytes());
        }
    }
}
