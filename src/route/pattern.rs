//! Patterns for names of tables, functions and headers: `*` stands for any
//! characters, `?` for exactly one.

use std::fmt;

use http::HeaderName;

use crate::tag::Relation;

/// Which tables or functions a route means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationPattern {
    schema: Glob,
    name: Glob,
}

/// Which request headers are meant, whatever their case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderGlob(Glob);

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text, or a part of it, is empty.
    #[error("is empty or has an empty part")]
    Empty,
    /// There is more than one dot.
    #[error("has more than one dot")]
    Dots,
    /// A character can't be part of such a name.
    #[error("has a character that no such name has")]
    Character,
    /// The text is longer than any name.
    #[error("is longer than any such name")]
    TooLong,
}

/// Names are at most 63 bytes in Postgres; patterns get some slack.
const MAX_NAME: usize = 128;

impl RelationPattern {
    /// Reads `name` (in `default_schema`) or `schema.name`; both parts may
    /// have wildcards.
    ///
    /// # Errors
    ///
    /// [`PatternError`] where the text is neither.
    pub fn parse(text: &str, default_schema: &str) -> Result<Self, PatternError> {
        let (schema, name) = split_relation(text, default_schema)?;
        Ok(Self { schema: Glob::new(schema), name: Glob::new(name) })
    }

    /// The schema, if it is a single one.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_literal()
    }

    /// Whether `relation` is meant.
    pub fn matches(&self, relation: &Relation) -> bool {
        self.schema.matches(&relation.schema) && self.name.matches(&relation.name)
    }

    /// Whether it means all that `narrow` means, as far as that is plain.
    pub(super) fn covers(&self, narrow: &Self) -> bool {
        self.schema.covers(&narrow.schema) && self.name.covers(&narrow.name)
    }

    /// Whether some table or function is meant by both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.schema.overlaps(&other.schema) && self.name.overlaps(&other.name)
    }
}

impl fmt::Display for RelationPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema.0, self.name.0)
    }
}

/// Reads `name` (in `default_schema`) or `schema.name`, without wildcards.
///
/// # Errors
///
/// [`PatternError`] where the text is neither.
pub fn parse_relation(text: &str, default_schema: &str) -> Result<Relation, PatternError> {
    let (schema, name) = split_relation(text, default_schema)?;
    if has_wildcard(text) {
        return Err(PatternError::Character);
    }
    Ok(Relation::new(schema, name))
}

fn split_relation<'a>(text: &'a str, default_schema: &'a str) -> Result<(&'a str, &'a str), PatternError> {
    let (schema, name) = text.split_once('.').unwrap_or((default_schema, text));
    for part in [schema, name] {
        if part.is_empty() {
            return Err(PatternError::Empty);
        } else if part.len() > MAX_NAME {
            return Err(PatternError::TooLong);
        } else if part.contains('.') {
            return Err(PatternError::Dots);
        } else if part.contains(|c: char| c.is_control() || c == '/') {
            return Err(PatternError::Character);
        }
    }
    Ok((schema, name))
}

impl HeaderGlob {
    /// Reads a header's name, which may have wildcards.
    ///
    /// # Errors
    ///
    /// [`PatternError`] where no header can have such a name.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        } else if text.len() > MAX_NAME {
            return Err(PatternError::TooLong);
        }
        // `*` may be part of a header's name; `?` may not.
        HeaderName::from_bytes(text.replace('?', "x").as_bytes()).map_err(|_| PatternError::Character)?;
        Ok(Self(Glob::new(&text.to_ascii_lowercase())))
    }

    /// Whether the header is meant.
    pub fn matches(&self, name: &HeaderName) -> bool {
        self.0.matches(name.as_str())
    }

    /// The name, where the pattern means exactly one.
    pub fn as_name(&self) -> Option<HeaderName> {
        if has_wildcard(&self.0.0) { None } else { HeaderName::from_bytes(self.0.0.as_bytes()).ok() }
    }
}

impl fmt::Display for HeaderGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.0)
    }
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(String);

impl Glob {
    fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    fn as_literal(&self) -> Option<&str> {
        (!has_wildcard(&self.0)).then_some(&self.0)
    }

    fn matches(&self, text: &str) -> bool {
        wildcard_match(&self.0, text, |_| true)
    }

    /// Whether every text that `narrow` matches is matched here too. A `?`
    /// doesn't take in the other's `*`, which may stand for several characters.
    fn covers(&self, narrow: &Self) -> bool {
        wildcard_match(&self.0, &narrow.0, |c| c != '*')
    }

    /// Whether some text is matched by both. Takes `O(pattern × pattern)`: each
    /// row says from which places in `other` the rest of both can still meet.
    fn overlaps(&self, other: &Self) -> bool {
        let (ours, theirs): (Vec<char>, Vec<char>) = (self.0.chars().collect(), other.0.chars().collect());
        let mut below = vec![false; theirs.len() + 1];
        for at in (0..=ours.len()).rev() {
            let mut row = vec![false; theirs.len() + 1];
            for to in (0..=theirs.len()).rev() {
                row[to] = match (ours.get(at), theirs.get(to)) {
                    (None, None) => true,
                    // A star stands for nothing, or for one character more of the other.
                    (Some('*'), next) => below[to] || (next.is_some() && row[to + 1]),
                    (next, Some('*')) => row[to + 1] || (next.is_some() && below[to]),
                    (Some(one), Some(two)) => (one == two || *one == '?' || *two == '?') && below[to + 1],
                    _ => false,
                };
            }
            below = row;
        }
        below[0]
    }
}

/// Matches in `O(pattern × text)` and without recursion: on a mismatch the
/// latest `*` takes in one character more.
fn wildcard_match(pattern: &str, text: &str, question_mark_takes: impl Fn(char) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut latest_star = None;
    loop {
        let before = text.clone();
        let matched = match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = before;
                latest_star = Some((pattern.clone(), text.clone()));
                continue;
            }
            (Some('?'), Some(c)) => question_mark_takes(c),
            (Some(wanted), Some(c)) => wanted == c,
            _ => false,
        };
        if !matched {
            let Some((after_star, mut taken)) = latest_star else { return false };
            if taken.next().is_none() {
                return false;
            }
            (pattern, text) = (after_star.clone(), taken.clone());
            latest_star = Some((after_star, taken));
        }
    }
}
