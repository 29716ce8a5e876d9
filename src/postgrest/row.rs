//! Canonical text of key values. PostgreSQL takes several spellings of the same
//! `uuid` or integer; a row's tag must not depend on which one a client chose.

/// The types whose values have a canonical text here. Values of any other type
/// name an unknown row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// `uuid`.
    Uuid,
    /// `smallint`, `integer` or `bigint`, by its least and greatest value.
    Integer {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// `text` or `character varying`, up to so many characters.
    Text {
        /// The declared limit. PostgreSQL cuts blanks beyond it off silently.
        max_chars: Option<usize>,
    },
}

impl KeyType {
    /// The type that an OpenAPI `format` (an SQL type's name) declares.
    /// `None`: values of this type have no canonical text here.
    pub fn declared(format: &str, max_chars: Option<usize>) -> Option<Self> {
        match format {
            "uuid" => Some(Self::Uuid),
            "smallint" => Some(Self::Integer { min: i16::MIN.into(), max: i16::MAX.into() }),
            "integer" => Some(Self::Integer { min: i32::MIN.into(), max: i32::MAX.into() }),
            "bigint" => Some(Self::Integer { min: i64::MIN, max: i64::MAX }),
            "text" | "character varying" => Some(Self::Text { max_chars }),
            _ => None,
        }
    }

    /// The canonical text of `text`, read as PostgreSQL's input function of
    /// this type reads it. `None`: not such a value, or a spelling that only
    /// some versions of PostgreSQL accept.
    pub fn canonical(self, text: &str) -> Option<String> {
        match self {
            Self::Uuid => canonical_uuid(text),
            Self::Integer { min, max } => canonical_integer(text, min, max),
            Self::Text { max_chars } => {
                max_chars.is_none_or(|max| text.chars().count() <= max).then(|| text.to_owned())
            }
        }
    }
}

/// Blanks around it, a sign and leading zeros are accepted. PostgreSQL 16's
/// hexadecimal, octal and binary spellings and underscores are not.
fn canonical_integer(text: &str, min: i64, max: i64) -> Option<String> {
    const SPACE: [char; 6] = [' ', '\t', '\n', '\x0b', '\x0c', '\r'];
    let text = text.trim_matches(SPACE);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i64 = text.parse().ok()?;
    (min..=max).contains(&value).then(|| value.to_string())
}

/// 32 hexadecimal digits of either case, a hyphen allowed after every fourth,
/// braces allowed around all.
fn canonical_uuid(text: &str) -> Option<String> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut digits = String::with_capacity(36);
    let mut count = 0;
    let mut hyphen_allowed = false;
    for character in inner.chars() {
        if character == '-' && hyphen_allowed {
            hyphen_allowed = false;
            continue;
        }
        if !character.is_ascii_hexdigit() || count == 32 {
            return None;
        }
        if matches!(count, 8 | 12 | 16 | 20) {
            digits.push('-');
        }
        digits.push(character.to_ascii_lowercase());
        count += 1;
        hyphen_allowed = count % 4 == 0 && count < 32;
    }
    (count == 32 && !inner.ends_with('-')).then_some(digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(format: &str, text: &str) -> Option<String> {
        KeyType::declared(format, None).and_then(|key| key.canonical(text))
    }

    #[test]
    fn spellings_of_one_value_share_its_text() {
        let uuid = "abcdefab-0000-1111-2222-333344445555";
        for (format, text, expected) in [
            ("integer", "5", "5"),
            ("integer", "05", "5"),
            ("integer", " +5\t", "5"),
            ("integer", "-0", "0"),
            ("bigint", "-9223372036854775808", "-9223372036854775808"),
            ("smallint", "32767", "32767"),
            ("uuid", "ABCDEFAB-0000-1111-2222-333344445555", uuid),
            ("uuid", "{abcdefab000011112222333344445555}", uuid),
            ("uuid", "abcd-efab-0000-1111-2222-3333-4444-5555", uuid),
            ("text", " A ", " A "),
            ("text", "", ""),
            ("character varying", "é", "é"),
        ] {
            assert_eq!(canonical(format, text).as_deref(), Some(expected), "{format} {text:?}");
        }
    }

    #[test]
    fn anything_else_is_an_unknown_row() {
        for (format, text) in [
            ("integer", ""),
            ("integer", "+"),
            ("integer", "+ 5"),
            ("integer", "5.0"),
            ("integer", "1e3"),
            ("integer", "0x5"),
            ("integer", "1_000"),
            ("integer", "\u{a0}5"),
            ("integer", "٥"),
            ("integer", "2147483648"),
            ("smallint", "32768"),
            ("bigint", "9223372036854775808"),
            ("uuid", " abcdefab-0000-1111-2222-333344445555"),
            ("uuid", "{abcdefab-0000-1111-2222-333344445555"),
            ("uuid", "abcdefab-0000-1111-2222-33334444555"),
            ("uuid", "abcdefab-0000-1111-2222-3333444455556"),
            ("uuid", "abcdefab-0000-1111-2222-333344445555-"),
            ("uuid", "abcdefab--0000-1111-2222-333344445555"),
            ("uuid", "abc-defab-0000-1111-2222-333344445555"),
            ("uuid", "-abcdefab000011112222333344445555"),
            ("citext", "a"),
            ("character", "a"),
            ("numeric", "1"),
            ("timestamp with time zone", "2026-01-01"),
            ("", "x"),
        ] {
            assert_eq!(canonical(format, text), None, "{format} {text:?}");
        }
    }

    #[test]
    fn text_beyond_its_declared_length_is_unknown() {
        let key = KeyType::declared("character varying", Some(2)).unwrap();
        assert_eq!(key.canonical("éa").as_deref(), Some("éa"));
        assert_eq!(key.canonical("a  "), None);
    }

    proptest! {
        #[test]
        fn integers_are_canonical_whatever_their_spelling(
            value in any::<i32>(), zeros in 0_usize..6, left in " {0,2}", right in "[ \t]{0,2}"
        ) {
            let sign = if value < 0 { "-" } else { "" };
            let spelt = format!("{left}{sign}{}{}{right}", "0".repeat(zeros), value.unsigned_abs());
            prop_assert_eq!(canonical("integer", &spelt), Some(value.to_string()));
        }

        #[test]
        fn uuids_are_canonical_whatever_their_spelling(
            value in any::<u128>(), hyphens in any::<u8>(), upper in any::<bool>(), braces in any::<bool>()
        ) {
            let plain = format!("{value:032x}");
            let mut spelt = String::new();
            for (index, digit) in plain.chars().enumerate() {
                if index % 4 == 0 && index > 0 && hyphens & (1 << (index / 4)) != 0 {
                    spelt.push('-');
                }
                spelt.push(if upper { digit.to_ascii_uppercase() } else { digit });
            }
            let spelt = if braces { format!("{{{spelt}}}") } else { spelt };
            let text = canonical("uuid", &spelt).unwrap();
            prop_assert_eq!(text.replace('-', ""), plain);
            prop_assert_eq!(canonical("uuid", &text), Some(text));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            for format in ["uuid", "bigint", "text"] {
                let _ = canonical(format, &text);
            }
        }
    }
}
