//! Content codings: which one a client gets (RFC 9110, section 12.5.3), and
//! compressing a stored body into it.

use std::io::{self, Read, Write};

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::directives::ResponseDirectives;

/// Smaller bodies gain nothing; larger ones would keep a core busy for too long.
const MIN_BODY: usize = 1024;
const MAX_BODY: usize = 8 << 20;

/// Digests of a body's bytes, which compressing would make wrong.
static BODY_DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// A content coding that stored bodies are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
    /// `gzip`
    Gzip,
}

impl Coding {
    /// All of them, the one that is preferred among equals first.
    pub const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// Its name in `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// Compresses `body`. Takes time in proportion to it: a hundred
    /// milliseconds for the largest, so large ones don't belong on an I/O thread.
    ///
    /// # Errors
    ///
    /// What the compressor says; the body is sent as it is then.
    pub fn compress(self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Coding::Gzip => {
                let out = Vec::with_capacity(body.len() / 3);
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(6));
                encoder.write_all(body)?;
                encoder.finish()
            }
            Coding::Brotli => {
                let params = brotli::enc::BrotliEncoderParams {
                    quality: 5,
                    size_hint: body.len(),
                    ..Default::default()
                };
                let mut out = Vec::with_capacity(body.len() / 3);
                brotli::BrotliCompress(&mut io::Cursor::new(body), &mut out, &params)?;
                Ok(out)
            }
            Coding::Zstd => zstd::bulk::compress(body, 3),
        }
    }
}

/// Whether an answer is given compressed to those who accept it: text of a
/// fair size that isn't compressed yet and that upstream lets be transformed.
pub fn is_compressible(status: StatusCode, headers: &HeaderMap, body_len: usize) -> bool {
    if !(MIN_BODY..=MAX_BODY).contains(&body_len) {
        return false;
    }
    // A part of a representation in bytes; PostgREST's ranges count rows and are whole bodies.
    let bytes_range = |range: &HeaderValue| range.as_bytes().starts_with(b"bytes");
    if status == StatusCode::PARTIAL_CONTENT && headers.get(CONTENT_RANGE).is_some_and(bytes_range) {
        return false;
    }
    headers.get(CONTENT_TYPE).is_some_and(is_text)
        && !headers.contains_key(CONTENT_ENCODING)
        && !BODY_DIGESTS.iter().any(|name| headers.contains_key(name))
        && !ResponseDirectives::of(headers).no_transform
}

/// The coding that a client which sent `request` is given what is
/// compressible in. `None`: as it is. A request with `Range` is answered from
/// the plain bytes.
pub fn negotiate(request: &HeaderMap) -> Option<Coding> {
    if !request.contains_key(ACCEPT_ENCODING) || request.contains_key(RANGE) {
        return None;
    }
    preferred(request)
}

/// Whether a client that sent `request` names gzip among what it takes.
pub fn takes_gzip(request: &HeaderMap) -> bool {
    weights(request).any(|(name, weight)| is_gzip(name) && weight > 0)
}

/// How the body of an answer is coded, as far as it matters to storing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coded {
    /// Not at all: it can be stored as it is.
    Plain,
    /// With gzip: it can be stored once that is undone.
    Gzip,
    /// In some other way, which not every client may take.
    Otherwise,
}

impl Coded {
    /// What an answer's `Content-Encoding` says.
    pub fn of(answer: &HeaderMap) -> Self {
        let mut codings = answer.get_all(CONTENT_ENCODING).iter();
        match (codings.next().map(HeaderValue::to_str), codings.next()) {
            (None, _) => Coded::Plain,
            (Some(Ok(coding)), None) if coding.eq_ignore_ascii_case("identity") => Coded::Plain,
            (Some(Ok(coding)), None) if is_gzip(coding) => Coded::Gzip,
            _ => Coded::Otherwise,
        }
    }
}

/// Undoes gzip. `None` if more than `max` bytes come of it.
///
/// # Errors
///
/// Where `body` is not gzip, or not all of it.
pub fn gunzip(body: &[u8], max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::new();
    // One byte more than is allowed tells whether there is more.
    flate2::read::MultiGzDecoder::new(body).take(max.saturating_add(1)).read_to_end(&mut plain)?;
    Ok((plain.len() as u64 <= max).then_some(plain))
}

/// The headers of an answer whose coding was undone: the bytes are others now,
/// so a strong tag holds weakly.
pub fn describe_plain(headers: &mut HeaderMap) {
    headers.remove(CONTENT_ENCODING);
    let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    if let Some(weak) = strong.and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok())
    {
        headers.insert(ETAG, weak);
    }
}

fn is_gzip(coding: &str) -> bool {
    coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip")
}

fn is_text(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence.as_str(),
            "application/json"
                | "application/xml"
                | "application/javascript"
                | "application/x-javascript"
                | "application/x-ndjson"
        )
}

/// The coding with the highest weight; plain if that weighs more.
fn preferred(request: &HeaderMap) -> Option<Coding> {
    let mut stated: [Option<u16>; 3] = [None; 3];
    let (mut identity, mut any) = (None, None);
    for (name, weight) in weights(request) {
        match name.to_ascii_lowercase().as_str() {
            "br" => stated[0] = Some(weight),
            "zstd" => stated[1] = Some(weight),
            name if is_gzip(name) => stated[2] = Some(weight),
            "identity" => identity = Some(weight),
            "*" => any = Some(weight),
            _ => {}
        }
    }
    let mut best: Option<(Coding, u16)> = None;
    for (coding, weight) in Coding::ALL.into_iter().zip(stated) {
        let weight = weight.or(any).unwrap_or(0);
        if weight > best.map_or(0, |(_, most)| most) {
            best = Some((coding, weight));
        }
    }
    best.filter(|(_, weight)| *weight >= identity.unwrap_or(0)).map(|(coding, _)| coding)
}

/// The codings that a request names, each with its weight in thousandths.
fn weights(request: &HeaderMap) -> impl Iterator<Item = (&str, u16)> {
    let lines = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(weighted)
}

/// A list element's name and its weight in thousandths. `None` for a malformed weight.
fn weighted(element: &str) -> Option<(&str, u16)> {
    let (name, parameters) = element.split_once(';').unwrap_or((element, ""));
    let parameters = parameters.trim();
    if parameters.is_empty() {
        return Some((name.trim(), 1000));
    }
    let (key, value) = parameters.split_once('=')?;
    if !key.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let weight: f32 = value.trim().parse().ok()?;
    (0.0..=1.0).contains(&weight).then(|| (name.trim(), (weight * 1000.0).round() as u16))
}

#[cfg(test)]
mod tests;
