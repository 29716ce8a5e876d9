//! A query string, decoded once and in canonical order.

use percent_encoding::percent_decode_str;

use crate::request::percent_encoding_is_well_formed;

/// The most parameters that a query may have.
pub const MAX_PARAMETERS: usize = 1000;

/// The decoded parameters of a query, stably sorted by name: two spellings of
/// the same parameters are equal. A name without `=` has an empty value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// Why a query has no canonical form. Such requests are forwarded unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A `%` is not followed by two hexadecimal digits.
    #[error("the query has a malformed percent-encoding")]
    PercentEncoding,
    /// A name or a value decodes to bytes that are not UTF-8, or to a NUL.
    #[error("the query is not text in UTF-8")]
    NotText,
    /// It begins with `?` or holds a bare `;`: PostgREST takes `;` for a
    /// separator, as it does `&`, and others do not.
    #[error("the query holds a character that servers read differently")]
    Ambiguous,
    /// It has more than [`MAX_PARAMETERS`] parameters.
    #[error("the query has more than {MAX_PARAMETERS} parameters")]
    TooManyParameters,
}

impl Query {
    /// Decodes `raw` (without the `?` before it) as a form: `+` is a space,
    /// then `%XX` is a byte. Empty pairs, as in `a=1&&b=2`, are dropped.
    ///
    /// # Errors
    ///
    /// [`QueryError`] where the query has no reading or several.
    pub fn parse(raw: &str) -> Result<Self, QueryError> {
        if raw.starts_with('?') || raw.contains(';') {
            return Err(QueryError::Ambiguous);
        }
        let mut pairs = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_PARAMETERS {
                return Err(QueryError::TooManyParameters);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Self { pairs })
    }

    /// All parameters, sorted by name; equal names in the order sent.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.named(name).first().map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter, in the order sent.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.named(name).iter().map(|(_, value)| value.as_str())
    }

    fn named(&self, name: &str) -> &[(String, String)] {
        let start = self.pairs.partition_point(|(other, _)| other.as_str() < name);
        let end = self.pairs.partition_point(|(other, _)| other.as_str() <= name);
        &self.pairs[start..end]
    }
}

fn decode(text: &str) -> Result<String, QueryError> {
    if !percent_encoding_is_well_formed(text) {
        return Err(QueryError::PercentEncoding);
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| QueryError::NotText)?;
    if decoded.contains('\0') {
        return Err(QueryError::NotText);
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(raw: &str) -> Vec<(String, String)> {
        Query::parse(raw).unwrap().pairs
    }

    #[test]
    fn decoded_once_and_sorted_by_name() {
        let cases: [(&str, &[(&str, &str)]); 9] = [
            ("", &[]),
            ("&&", &[]),
            ("b=2&a=1", &[("a", "1"), ("b", "2")]),
            ("a=2&b=x&a=1", &[("a", "2"), ("a", "1"), ("b", "x")]),
            ("a&b=", &[("a", ""), ("b", "")]),
            ("id=eq.a+b", &[("id", "eq.a b")]),
            ("id=eq.a%2Bb", &[("id", "eq.a+b")]),
            ("id=eq.%2541", &[("id", "eq.%41")]),
            ("a=b=c&=x", &[("", "x"), ("a", "b=c")]),
        ];
        for (raw, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            assert_eq!(pairs(raw), expected, "{raw}");
        }
    }

    #[test]
    fn what_has_no_single_reading_is_an_error() {
        for (raw, error) in [
            ("a=%", QueryError::PercentEncoding),
            ("a=%2", QueryError::PercentEncoding),
            ("%zz=1", QueryError::PercentEncoding),
            ("a=%ff", QueryError::NotText),
            ("a=%00", QueryError::NotText),
            ("id=eq.1;select=*,users(*)", QueryError::Ambiguous),
            ("?id=eq.1", QueryError::Ambiguous),
        ] {
            assert_eq!(Query::parse(raw), Err(error), "{raw}");
        }
        assert!(Query::parse("a=%3B%3F").is_ok());
    }

    #[test]
    fn parameters_are_bounded() {
        assert_eq!(pairs(&"a&".repeat(MAX_PARAMETERS)).len(), MAX_PARAMETERS);
        assert_eq!(Query::parse(&"a&".repeat(MAX_PARAMETERS + 1)), Err(QueryError::TooManyParameters));
    }

    #[test]
    fn values_by_name() {
        let query = Query::parse("b=1&ab=2&b=3&c=4").unwrap();
        assert_eq!(query.get("b"), Some("1"));
        assert_eq!(query.all("b").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!((query.get("a"), query.get("d")), (None, None));
    }

    proptest! {
        #[test]
        fn the_order_of_differently_named_parameters_is_no_difference(
            (sent, shuffled) in prop::collection::btree_map("[a-z.]{1,4}", "[a-z0-9%]{0,3}", 0..12)
                .prop_map(|named| named.into_iter().map(|(n, v)| format!("{n}={}", v.replace('%', "%25"))).collect::<Vec<_>>())
                .prop_flat_map(|pairs| (Just(pairs.clone()), Just(pairs).prop_shuffle()))
        ) {
            prop_assert_eq!(Query::parse(&sent.join("&")), Query::parse(&shuffled.join("&")));
        }

        #[test]
        fn spelling_out_a_byte_is_no_difference(name in "[a-z]{1,4}", value in "\\PC{0,8}") {
            let spelt: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let query = Query::parse(&format!("{name}={spelt}")).unwrap();
            prop_assert_eq!(query.get(&name), Some(value.as_str()));
        }

        #[test]
        fn no_query_panics(raw in any::<String>()) {
            let _ = Query::parse(&raw);
        }
    }
}
