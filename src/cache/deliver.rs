//! From an entry to the answer that a client gets.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, DATE, ETAG, EXPIRES, LAST_MODIFIED, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Timestamp;
use super::encoding::{Coding, is_compressible};
use super::entry::Entry;
use super::freshness::http_date;
use super::precondition::{Span, is_not_modified, span};
use crate::request::Dialect;

/// What a client is told to do with an answer about which upstream says
/// nothing: keep it for itself and ask each time, which a 304 answers.
static ASK_EACH_TIME: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The headers of a 304 (RFC 9110, section 15.4.5), and those that each hop adds.
static NOT_MODIFIED_KEEPS: [HeaderName; 10] = [
    CACHE_CONTROL,
    CONTENT_LOCATION,
    // PostgREST's counts: scripts that revalidate by themselves read them from the 304.
    CONTENT_RANGE,
    DATE,
    ETAG,
    EXPIRES,
    VARY,
    AGE,
    HeaderName::from_static("cache-status"),
    HeaderName::from_static("access-control-expose-headers"),
];

/// The request headers that answers on a route depend on, ready to be sent as `Vary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaryNames {
    names: Vec<HeaderName>,
    line: Option<HeaderValue>,
    line_if_compressible: Option<HeaderValue>,
}

impl VaryNames {
    /// Names what the key holds for `dialect` with the route's own `vary`
    /// headers; the credentials too where answers are `partitioned` by them,
    /// and `Origin` where the answer's CORS headers repeat it.
    pub fn new(dialect: Dialect, partitioned: bool, route: &[HeaderName], origin: bool) -> Self {
        let mut names = dialect.keyed_headers().to_vec();
        if dialect == Dialect::Rest {
            names.push(HeaderName::from_static("accept-profile"));
        }
        if partitioned {
            names.extend([AUTHORIZATION, HeaderName::from_static("apikey")]);
        }
        for name in route.iter().chain(origin.then_some(&ORIGIN)) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let line = join(&names);
        let line_if_compressible = join(&[&names[..], &[ACCEPT_ENCODING]].concat());
        Self { names, line, line_if_compressible }
    }

    /// The line for an answer whose own names are in `upstream`.
    fn line_for(&self, upstream: &HeaderMap, compressible: bool) -> Option<HeaderValue> {
        let own = if compressible { &self.line_if_compressible } else { &self.line };
        if !upstream.contains_key(VARY) {
            return own.clone();
        }
        let mut names = self.names.clone();
        let lines = upstream.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
        let stated = lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse().ok());
        for name in stated.chain(compressible.then_some(ACCEPT_ENCODING)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        join(&names)
    }
}

fn join(names: &[HeaderName]) -> Option<HeaderValue> {
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// How an entry is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The method is HEAD.
    pub head: bool,
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// Byte ranges are cut for Storage alone; PostgREST's count rows and are in the key.
    pub dialect: Dialect,
    /// The route's `Vary`.
    pub vary: &'a VaryNames,
}

/// An answer ready to be sent, but for CORS, `Cache-Status` and what the hop adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// 200, PostgREST's or a byte range's 206, 304 or 416.
    pub status: StatusCode,
    /// All headers, `Content-Length` included where the status has one.
    pub headers: HeaderMap,
    /// The body; empty for HEAD.
    pub body: Bytes,
}

/// Makes the answer. `encoded` is the body in the coding that
/// [`super::encoding::negotiate`] chose, if any.
pub fn deliver(
    entry: &Entry,
    encoded: Option<(Coding, Bytes)>,
    reading: &Reading<'_>,
    now: Timestamp,
) -> Delivery {
    let mut headers = described(entry, encoded.is_some(), reading, now);
    let etag = headers.get(ETAG);
    let modified = http_date(&headers, &LAST_MODIFIED);
    if is_not_modified(reading.headers, etag, modified) {
        return not_modified(headers);
    }
    if entry.is_head_only() {
        return Delivery { status: entry.status(), headers, body: Bytes::new() };
    }
    let mut status = entry.status();
    let mut body = match encoded {
        Some((coding, body)) => {
            headers.insert(CONTENT_ENCODING, coding.header_value());
            body
        }
        None => {
            let plain = entry.body();
            let ranged = reading.dialect != Dialect::Rest && !reading.head && status == StatusCode::OK;
            let date = http_date(&headers, &DATE);
            let span =
                if ranged { span(reading.headers, plain.len(), etag, modified, date) } else { Span::Whole };
            cut(span, plain, &mut status, &mut headers)
        }
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if reading.head {
        body = Bytes::new();
    }
    Delivery { status, headers, body }
}

/// The stored headers and those that every answer from the cache has.
fn described(entry: &Entry, encoded: bool, reading: &Reading<'_>, now: Timestamp) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in entry.headers() {
        headers.append(name, value);
    }
    match headers.get(ETAG) {
        None if !entry.is_head_only() => {
            headers.insert(ETAG, made_etag(entry.digest()));
        }
        // Another coding is another sequence of bytes: the tag holds weakly.
        Some(tag) if encoded && tag.as_bytes().starts_with(b"\"") => {
            if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
                headers.insert(ETAG, weak);
            }
        }
        _ => {}
    }
    if encoded {
        headers.remove(ACCEPT_RANGES);
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, ASK_EACH_TIME.clone());
    }
    if let Some(line) = reading.vary.line_for(&headers, is_compressible(entry)) {
        headers.insert(VARY, line);
    }
    headers.insert(AGE, HeaderValue::from(entry.lifetimes().age(now) / 1000));
    headers
}

fn not_modified(mut headers: HeaderMap) -> Delivery {
    let mut kept = HeaderMap::with_capacity(NOT_MODIFIED_KEEPS.len());
    let by_date = (!headers.contains_key(ETAG)).then_some(&LAST_MODIFIED);
    for name in NOT_MODIFIED_KEEPS.iter().chain(by_date) {
        if let http::header::Entry::Occupied(values) = headers.entry(name) {
            let (_, values) = values.remove_entry_mult();
            values.for_each(|value| {
                kept.append(name, value);
            });
        }
    }
    Delivery { status: StatusCode::NOT_MODIFIED, headers: kept, body: Bytes::new() }
}

/// Cuts the body to the span and says so in status and headers.
fn cut(span: Span, body: Bytes, status: &mut StatusCode, headers: &mut HeaderMap) -> Bytes {
    let len = body.len();
    let (answered, range, part) = match span {
        Span::Whole => return body,
        Span::Part { first, last } => {
            (StatusCode::PARTIAL_CONTENT, format!("bytes {first}-{last}/{len}"), body.slice(first..=last))
        }
        Span::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, format!("bytes */{len}"), Bytes::new()),
    };
    if let Ok(range) = HeaderValue::try_from(range) {
        headers.insert(CONTENT_RANGE, range);
    }
    *status = answered;
    part
}

fn made_etag(digest: &[u8; 16]) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut tag = *b"W/\"................................\"";
    for (byte, digits) in digest.iter().zip(tag[3..35].chunks_exact_mut(2)) {
        digits.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    HeaderValue::from_bytes(&tag).unwrap_or(HeaderValue::from_static("W/\"\""))
}

#[cfg(test)]
mod tests;
