//! The `Prefer` header, as PostgREST reads it.

use http::HeaderMap;

/// What a request's `Prefer` headers ask for, in the order sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    tokens: Vec<(String, String)>,
    unreadable: bool,
}

impl Preferences {
    /// Reads every `Prefer` header; several are one list. A preference without
    /// `=` has an empty value.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut preferences = Self::default();
        for value in headers.get_all("prefer") {
            let Ok(text) = value.to_str() else {
                preferences.unreadable = true;
                continue;
            };
            preferences.tokens.extend(text.split(',').map(str::trim).filter(|token| !token.is_empty()).map(
                |token| {
                    let (name, value) = token.split_once('=').unwrap_or((token, ""));
                    (name.trim().to_ascii_lowercase(), value.trim().to_owned())
                },
            ));
        }
        preferences
    }

    /// Whether an insert may update rows that are already there. Anything that
    /// could be read as `resolution=merge-duplicates` counts.
    pub fn may_merge_duplicates(&self) -> bool {
        self.unreadable
            || self
                .tokens
                .iter()
                .any(|(name, value)| name == "resolution" && !value.eq_ignore_ascii_case("ignore-duplicates"))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&[u8]]) -> Preferences {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_bytes(value).unwrap());
        }
        Preferences::of(&headers)
    }

    #[test]
    fn several_headers_are_one_list() {
        let preferences = of(&[b"return=representation, Count = exact", b"tx=rollback,, missing=default"]);
        let expected =
            [("return", "representation"), ("count", "exact"), ("tx", "rollback"), ("missing", "default")];
        assert_eq!(preferences.tokens, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn merging_is_assumed_in_doubt() {
        let cases: [(&[&[u8]], bool); 7] = [
            (&[], false),
            (&[b"return=minimal"], false),
            (&[b"resolution=ignore-duplicates"], false),
            (&[b"resolution=merge-duplicates"], true),
            (&[b"return=minimal,resolution=merge-duplicates"], true),
            (&[b"resolution=ignore-duplicates", b"resolution=merge-duplicates"], true),
            (&[b"return=\xff"], true),
        ];
        for (values, merges) in cases {
            assert_eq!(of(values).may_merge_duplicates(), merges, "{values:?}");
        }
    }
}
