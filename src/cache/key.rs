//! The key: what two requests must have in common to share an entry.

use std::fmt;

use http::header::{CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::request::{DecodedPath, Dialect, profile_header};

/// Begins every key's input, so that keys of another layout never meet these.
const LAYOUT: &[u8] = b"sluice key 2";

/// The query parameter that carries a credential. Who asks is the partition's
/// part of the key, however the credential came.
const CREDENTIAL_PARAMETER: &str = "apikey";

/// Everything that takes part in a key.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'a> {
    /// GET, HEAD, or POST to a function that only reads.
    pub method: &'a Method,
    /// The path, decoded once.
    pub path: &'a DecodedPath,
    /// The query's decoded pairs, sorted by name, the order among equal names kept.
    pub query: &'a [(String, String)],
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// What upstream reads at this path.
    pub dialect: Dialect,
    /// More headers that the route says matter.
    pub vary: &'a [HeaderName],
    /// The body of a POST; `None` for GET and HEAD.
    pub post_body: Option<&'a [u8]>,
    /// The identity partition; empty for everybody's.
    pub partition: &'a [u8],
}

/// The fingerprint of a [`KeyParts`], 128 bits. Different parts have different
/// keys: nobody finds parts of his own with the key of another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 16]);

impl Key {
    /// Fingerprints `parts`. GET and HEAD share a key unless a `Range` that
    /// takes part in it is sent: PostgREST ignores `Range` on HEAD.
    pub fn of(parts: &KeyParts<'_>) -> Self {
        let mut encoder = Encoder::new(LAYOUT);
        encoder.part(method_class(parts).as_bytes());
        encoder.part(&[parts.dialect as u8]);
        encoder.list(parts.path.segments().map(str::as_bytes));
        let query = parts.query.iter().filter(|(name, _)| name != CREDENTIAL_PARAMETER);
        encoder.list(query.flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        for name in parts.dialect.keyed_headers() {
            encoder.header(parts.headers, name);
        }
        let profile = HeaderName::from_static(profile_header(parts.method));
        encoder.header(parts.headers, &profile);
        encoder.list(parts.vary.iter().map(|name| name.as_str().as_bytes()));
        for name in parts.vary {
            encoder.header(parts.headers, name);
        }
        if let Some(body) = parts.post_body {
            encoder.header(parts.headers, &CONTENT_TYPE);
            encoder.part(body);
        }
        encoder.part(parts.partition);
        encoder.finish()
    }

    /// The key under which a compressed form of the body with this digest is kept.
    pub(crate) fn variant(&self, digest: &[u8; 16], coding: &str) -> Self {
        let mut encoder = Encoder::new(b"sluice variant 1");
        encoder.part(&self.0);
        encoder.part(digest);
        encoder.part(coding.as_bytes());
        encoder.finish()
    }

    /// The fingerprint's bytes, evenly distributed.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for Key {
    fn from(bytes: [u8; 16]) -> Self {
        Key(bytes)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand, since every lookup in a shared store names its key so.
        let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
        let digits = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        let mut text = String::with_capacity(2 * self.0.len());
        text.extend(digits);
        f.write_str(&text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

fn method_class(parts: &KeyParts<'_>) -> &'static str {
    let ranged = parts.dialect == Dialect::Rest && parts.headers.contains_key(RANGE);
    match *parts.method {
        Method::GET => "GET",
        Method::HEAD if ranged => "HEAD",
        Method::HEAD => "GET",
        _ => "POST",
    }
}

/// Hashes a sequence of parts, each after its length, and of lists, each
/// element after a one and the end a zero, so that no two different sequences
/// hash the same bytes.
struct Encoder(blake3::Hasher);

impl Encoder {
    fn new(layout: &[u8]) -> Self {
        let mut encoder = Encoder(blake3::Hasher::new());
        encoder.part(layout);
        encoder
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn list<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) {
        for bytes in parts {
            self.0.update(&[1]);
            self.part(bytes);
        }
        self.0.update(&[0]);
    }

    /// All values of a header: absent is no values, empty is one of no bytes.
    fn header(&mut self, headers: &HeaderMap, name: &HeaderName) {
        self.list(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    }

    fn finish(self) -> Key {
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        Key(fingerprint)
    }
}

#[cfg(test)]
mod tests;
