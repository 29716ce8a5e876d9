//! Conditional and range requests (RFC 9110, sections 13 and 14), answered from an entry.

use http::HeaderMap;

use super::Timestamp;

/// Entity tags compared at most, so that a long list costs little.
const MAX_TAGS: usize = 256;

/// A header that must not be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Single<'a> {
    #[default]
    Absent,
    One(&'a [u8]),
    Several,
}

impl<'a> Single<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = if *self == Single::Absent { Single::One(value) } else { Single::Several };
    }

    fn date(self) -> Option<Timestamp> {
        if let Single::One(value) = self { Timestamp::from_http_date(value) } else { None }
    }
}

/// The conditions that a request makes.
#[derive(Debug, Clone, Default)]
pub struct Conditions<'a> {
    if_none_match: Option<&'a [u8]>,
    /// Further lines of it, which hardly any client sends.
    more_tags: Vec<&'a [u8]>,
    if_modified_since: Single<'a>,
    range: Single<'a>,
    if_range: Single<'a>,
}

/// What a representation is recognised by, as its headers say it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Validators<'a> {
    /// `ETag`.
    pub etag: Option<&'a [u8]>,
    /// `Last-Modified`, if there is exactly one.
    pub modified: Option<&'a [u8]>,
    /// `Date`, if there is exactly one.
    pub date: Option<&'a [u8]>,
}

impl<'a> Conditions<'a> {
    /// The conditions among `headers`.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut conditions = Self::default();
        for (name, value) in headers {
            conditions.add(name.as_str(), value.as_bytes());
        }
        conditions
    }

    /// Notes a header, its name in lower case, if it is a condition.
    pub fn add(&mut self, name: &str, value: &'a [u8]) {
        match name {
            "if-none-match" if self.if_none_match.is_none() => self.if_none_match = Some(value),
            "if-none-match" => self.more_tags.push(value),
            "if-modified-since" => self.if_modified_since.add(value),
            "range" => self.range.add(value),
            "if-range" => self.if_range.add(value),
            _ => {}
        }
    }

    /// Whether the client already has the representation, and gets 304. A tag
    /// decides alone where one is sent (section 13.2.2).
    pub fn is_not_modified(&self, own: &Validators<'_>) -> bool {
        if self.if_none_match.is_some() {
            let lists = self.if_none_match.iter().chain(&self.more_tags);
            return lists.take(MAX_TAGS).any(|list| list_matches(list, own.etag));
        }
        match (self.if_modified_since.date(), own.modified.and_then(Timestamp::from_http_date)) {
            (Some(since), Some(modified)) => modified <= since,
            _ => false,
        }
    }

    /// Which bytes of a body of `len` bytes are asked for. `If-Range` holds by
    /// a strong tag that is the same, or by the exact date of the last
    /// modification where that is strong (section 13.1.5); else the whole body it is.
    pub fn span(&self, len: usize, own: &Validators<'_>) -> Span {
        let Single::One(range) = self.range else { return Span::Whole };
        if len == 0 || !self.if_range_holds(own) {
            return Span::Whole;
        }
        std::str::from_utf8(range).ok().and_then(|text| parse_range(text, len)).unwrap_or(Span::Whole)
    }

    fn if_range_holds(&self, own: &Validators<'_>) -> bool {
        let condition = match self.if_range {
            Single::Absent => return true,
            Single::Several => return false,
            Single::One(condition) => condition,
        };
        if condition.starts_with(b"\"") {
            return own.etag == Some(condition);
        }
        // A date is strong if the answer was made at least a second after it.
        match (
            Timestamp::from_http_date(condition),
            own.modified.and_then(Timestamp::from_http_date),
            own.date.and_then(Timestamp::from_http_date),
        ) {
            (Some(condition), Some(modified), Some(date)) => {
                condition == modified && date.since(modified) >= 1000
            }
            _ => false,
        }
    }
}

fn list_matches(list: &[u8], etag: Option<&[u8]>) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let Some(own) = etag.and_then(opaque) else { return false };
    EntityTags(list).take(MAX_TAGS).any(|tag| tag == own)
}

/// A tag without its weakness, quotes included. `None` if it isn't one.
fn opaque(tag: &[u8]) -> Option<&[u8]> {
    EntityTags(tag).next()
}

/// The opaque parts of a list of entity tags; ends at what is none. Commas may
/// stand inside the quotes.
struct EntityTags<'a>(&'a [u8]);

impl<'a> Iterator for EntityTags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.0.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        let tag = &self.0[start..];
        let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
        let inside = tag.strip_prefix(b"\"")?;
        let end = inside.iter().position(|byte| *byte == b'"')? + 2;
        self.0 = &tag[end..];
        Some(&tag[..end])
    }
}

/// What a request's `Range` means for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The whole body: no range, one that isn't understood, or several.
    Whole,
    /// These bytes, both ends included.
    Part {
        /// The first byte's position.
        first: usize,
        /// The last byte's position.
        last: usize,
    },
    /// The range begins past the end: 416.
    Unsatisfiable,
}

/// `None` for what the grammar doesn't allow and for several ranges.
fn parse_range(text: &str, len: usize) -> Option<Span> {
    let (unit, spec) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    if first.is_empty() {
        let suffix = position(last)?;
        return Some(match suffix {
            0 => Span::Unsatisfiable,
            _ => Span::Part { first: len.saturating_sub(suffix), last: len - 1 },
        });
    }
    let first = position(first)?;
    let last = if last.is_empty() { usize::MAX } else { position(last)? };
    if last < first {
        return None;
    }
    Some(if first >= len { Span::Unsatisfiable } else { Span::Part { first, last: last.min(len - 1) } })
}

/// A position in digits; one that doesn't fit is past every end.
fn position(digits: &str) -> Option<usize> {
    let well_formed = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    well_formed.then(|| digits.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
