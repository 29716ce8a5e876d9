//! Conditional and range requests (RFC 9110, sections 13 and 14), answered from an entry.

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};

use super::Timestamp;
use super::freshness::http_date;

/// Entity tags compared at most, so that a long list costs little.
const MAX_TAGS: usize = 256;

/// Whether the client already has the representation, and gets 304. A tag
/// decides alone where one is sent (section 13.2.2).
pub fn is_not_modified(request: &HeaderMap, etag: Option<&HeaderValue>, modified: Option<Timestamp>) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let lists = request.get_all(IF_NONE_MATCH).iter();
        return lists.take(MAX_TAGS).any(|list| list_matches(list.as_bytes(), etag));
    }
    match (http_date(request, &IF_MODIFIED_SINCE), modified) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

fn list_matches(list: &[u8], etag: Option<&HeaderValue>) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let Some(own) = etag.and_then(|tag| opaque(tag.as_bytes())) else { return false };
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

/// Which bytes of a body of `len` bytes the request asks for. `If-Range` holds
/// by a strong tag that is the same, or by the exact date of the last
/// modification where that is strong (section 13.1.5); else the whole body it is.
pub fn span(
    request: &HeaderMap,
    len: usize,
    etag: Option<&HeaderValue>,
    modified: Option<Timestamp>,
    date: Option<Timestamp>,
) -> Span {
    let mut ranges = request.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Span::Whole };
    if len == 0 || !if_range_holds(request, etag, modified, date) {
        return Span::Whole;
    }
    range.to_str().ok().and_then(|text| parse_range(text, len)).unwrap_or(Span::Whole)
}

fn if_range_holds(
    request: &HeaderMap,
    etag: Option<&HeaderValue>,
    modified: Option<Timestamp>,
    date: Option<Timestamp>,
) -> bool {
    let Some(condition) = request.get(IF_RANGE) else { return true };
    if request.get_all(IF_RANGE).iter().count() > 1 {
        return false;
    }
    if condition.as_bytes().starts_with(b"\"") {
        return etag == Some(condition);
    }
    // A date is strong if the answer was made at least a second after it.
    match (http_date(request, &IF_RANGE), modified, date) {
        (Some(condition), Some(modified), Some(date)) => {
            condition == modified && date.since(modified) >= 1000
        }
        _ => false,
    }
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
