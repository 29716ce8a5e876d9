//! Entries: stored answers, each one contiguous run of bytes.
//!
//! ```text
//! version 1 | flags 1 | status 2 | headers 2 | headers' bytes 4 | body's bytes 8
//! received 8 | initial age 8 | lifetime 8 | while revalidating 8 | if error 8 | digest 16
//! per header: name's bytes 2 | value's bytes 4 | name | value
//! body
//! ```
//!
//! Numbers are little-endian, times milliseconds. The same bytes serve in
//! memory and in a store outside; what comes from there is checked in full.
//! The tags' generations stand beside them: each process counts its own.

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Timestamp;
use super::freshness::{Lifetimes, Reuse};
use super::generation::Snapshot;

const VERSION: u8 = 1;
const FIXED: usize = 1 + 1 + 2 + 2 + 4 + 8 + 5 * 8 + 16;
const PER_HEADER: usize = 2 + 4;

const HEAD_ONLY: u8 = 1;
const EMPTY: u8 = 1 << 1;
const MUST_REVALIDATE: u8 = 1 << 2;
const NO_CACHE: u8 = 1 << 3;
const KNOWN_FLAGS: u8 = HEAD_ONLY | EMPTY | MUST_REVALIDATE | NO_CACHE;

/// A stored answer. Immutable, cheap to share.
#[derive(Debug, Clone)]
pub struct Entry {
    bytes: Bytes,
    status: StatusCode,
    flags: u8,
    header_count: u16,
    body_at: u32,
    lifetimes: Lifetimes,
    digest: [u8; 16],
    tags: Snapshot,
}

/// What an entry is made of.
#[derive(Debug, Clone, Copy)]
pub struct EntryParts<'a> {
    /// The answer's status.
    pub status: StatusCode,
    /// The headers to keep; see [`super::stored_headers::storable`].
    pub headers: &'a HeaderMap,
    /// The whole body; ignored where `head_only`.
    pub body: &'a [u8],
    /// The answer is to a HEAD: it has no body and answers HEAD alone.
    pub head_only: bool,
    /// How long the answer may be used.
    pub lifetimes: Lifetimes,
    /// The tags that the answer carries, as read before the fetch.
    pub tags: &'a Snapshot,
}

/// The answer is larger than the layout has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The answer has more headers than an entry can hold")]
pub struct TooLarge;

/// Bytes that are no entry of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by another version of the layout.
    #[error("The entry has layout {0}, not {VERSION}")]
    Version(u8),
    /// The lengths inside don't add up to the length of the whole.
    #[error("The entry's lengths don't add up")]
    Length,
    /// A field holds what is never written into it.
    #[error("The entry's {0} is malformed")]
    Malformed(&'static str),
}

impl Entry {
    /// Lays `parts` out.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] above 65,535 headers or 4 GiB of headers.
    pub fn new(parts: &EntryParts<'_>) -> Result<Self, TooLarge> {
        let body = if parts.head_only { &[][..] } else { parts.body };
        let header_bytes: usize =
            parts.headers.iter().map(|(name, value)| PER_HEADER + name.as_str().len() + value.len()).sum();
        let header_count = u16::try_from(parts.headers.len()).map_err(|_| TooLarge)?;
        let body_at = u32::try_from(FIXED + header_bytes).map_err(|_| TooLarge)?;
        let digest = digest(parts.status, parts.headers, body);
        let flags = flags(parts);

        let mut bytes = Vec::with_capacity(FIXED + header_bytes + body.len());
        bytes.put_u8(VERSION);
        bytes.put_u8(flags);
        bytes.put_u16_le(parts.status.as_u16());
        bytes.put_u16_le(header_count);
        bytes.put_u32_le(body_at - FIXED as u32);
        bytes.put_u64_le(body.len() as u64);
        put_lifetimes(&mut bytes, &parts.lifetimes);
        bytes.put_slice(&digest);
        for (name, value) in parts.headers {
            put_header(&mut bytes, name, value);
        }
        bytes.put_slice(body);
        Ok(Self {
            bytes: bytes.into(),
            status: parts.status,
            flags,
            header_count,
            body_at,
            lifetimes: parts.lifetimes,
            digest,
            tags: parts.tags.clone(),
        })
    }

    /// Reads an entry back from [`Entry::as_bytes`]. `tags` are those that it
    /// carries, with their generations in this process.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for whatever [`Entry::new`] would not have written.
    /// Whether the digest is the body's is not checked.
    pub fn decode(bytes: Bytes, tags: Snapshot) -> Result<Self, DecodeError> {
        let mut rest = &bytes[..];
        match rest.first() {
            None => return Err(DecodeError::Length),
            Some(&VERSION) if rest.len() >= FIXED => rest.advance(1),
            Some(&VERSION) => return Err(DecodeError::Length),
            Some(other) => return Err(DecodeError::Version(*other)),
        }
        let flags = rest.get_u8();
        if flags & !KNOWN_FLAGS != 0 {
            return Err(DecodeError::Malformed("flags"));
        }
        let status = StatusCode::from_u16(rest.get_u16_le()).map_err(|_| DecodeError::Malformed("status"))?;
        let header_count = rest.get_u16_le();
        let header_bytes = rest.get_u32_le();
        let body_bytes = rest.get_u64_le();
        let lifetimes = get_lifetimes(&mut rest, flags);
        let mut digest = [0; 16];
        rest.copy_to_slice(&mut digest);

        let body_at = (FIXED as u32).checked_add(header_bytes).ok_or(DecodeError::Length)?;
        if u64::from(body_at).checked_add(body_bytes) != Some(bytes.len() as u64) {
            return Err(DecodeError::Length);
        }
        if flags & HEAD_ONLY != 0 && body_bytes != 0 {
            return Err(DecodeError::Malformed("body"));
        }
        let entry = Self { bytes, status, flags, header_count, body_at, lifetimes, digest, tags };
        entry.check_headers()?;
        Ok(entry)
    }

    /// The entry as it is laid out.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The answer's status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether a HEAD filled it: it answers HEAD alone.
    pub fn is_head_only(&self) -> bool {
        self.flags & HEAD_ONLY != 0
    }

    /// Whether the answer has no rows.
    pub fn is_empty(&self) -> bool {
        self.flags & EMPTY != 0
    }

    /// How long it may be used.
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.lifetimes
    }

    /// The body; shares the entry's allocation.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.body_at as usize..)
    }

    /// The body's length in bytes.
    pub fn body_len(&self) -> usize {
        self.bytes.len() - self.body_at as usize
    }

    /// A fingerprint of status, body and what describes it: two entries with
    /// one digest give the same representation.
    pub fn digest(&self) -> &[u8; 16] {
        &self.digest
    }

    /// The stored headers in order, values sharing the entry's allocation.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        self.raw_headers().filter_map(|(name, value)| {
            let value = self.bytes.slice_ref(value);
            Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_maybe_shared(value).ok()?))
        })
    }

    /// The first value of a stored header.
    pub fn header(&self, name: &HeaderName) -> Option<HeaderValue> {
        let (_, value) = self.raw_headers().find(|(stored, _)| *stored == name.as_str().as_bytes())?;
        HeaderValue::from_maybe_shared(self.bytes.slice_ref(value)).ok()
    }

    /// The entry's tags with the generations that they had before the fetch.
    pub fn tags(&self) -> &Snapshot {
        &self.tags
    }

    fn raw_headers(&self) -> RawHeaders<'_> {
        RawHeaders(self.bytes.get(FIXED..self.body_at as usize).unwrap_or_default())
    }

    fn check_headers(&self) -> Result<(), DecodeError> {
        let mut raw = self.raw_headers();
        let mut count = 0_u32;
        for (name, value) in raw.by_ref() {
            // A name in capitals would never be found.
            let parsed = HeaderName::from_bytes(name).map_err(|_| DecodeError::Malformed("header name"))?;
            if parsed.as_str().as_bytes() != name {
                return Err(DecodeError::Malformed("header name"));
            }
            HeaderValue::from_bytes(value).map_err(|_| DecodeError::Malformed("header value"))?;
            count += 1;
        }
        if !raw.0.is_empty() || count != u32::from(self.header_count) {
            return Err(DecodeError::Malformed("header list"));
        }
        Ok(())
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.tags == other.tags
    }
}

impl Eq for Entry {}

/// Walks the encoded headers; stops where they don't add up.
struct RawHeaders<'a>(&'a [u8]);

impl<'a> Iterator for RawHeaders<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut lengths, rest) = self.0.split_at_checked(PER_HEADER)?;
        let name_len = usize::from(lengths.get_u16_le());
        let value_len = usize::try_from(lengths.get_u32_le()).ok()?;
        let (name, rest) = rest.split_at_checked(name_len)?;
        let (value, rest) = rest.split_at_checked(value_len)?;
        self.0 = rest;
        Some((name, value))
    }
}

fn flags(parts: &EntryParts<'_>) -> u8 {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    flag(parts.head_only, HEAD_ONLY)
        | flag(parts.lifetimes.empty, EMPTY)
        | match parts.lifetimes.reuse {
            Reuse::Free => 0,
            Reuse::MustRevalidate => MUST_REVALIDATE,
            Reuse::NoCache => NO_CACHE,
        }
}

fn put_lifetimes(bytes: &mut Vec<u8>, lifetimes: &Lifetimes) {
    bytes.put_u64_le(lifetimes.received_at.0);
    bytes.put_u64_le(lifetimes.initial_age);
    bytes.put_u64_le(lifetimes.lifetime);
    bytes.put_u64_le(lifetimes.stale_while_revalidate);
    bytes.put_u64_le(lifetimes.stale_if_error);
}

fn get_lifetimes(bytes: &mut &[u8], flags: u8) -> Lifetimes {
    Lifetimes {
        received_at: Timestamp(bytes.get_u64_le()),
        initial_age: bytes.get_u64_le(),
        lifetime: bytes.get_u64_le(),
        stale_while_revalidate: bytes.get_u64_le(),
        stale_if_error: bytes.get_u64_le(),
        empty: flags & EMPTY != 0,
        reuse: match flags & (MUST_REVALIDATE | NO_CACHE) {
            0 => Reuse::Free,
            MUST_REVALIDATE => Reuse::MustRevalidate,
            _ => Reuse::NoCache,
        },
    }
}

fn put_header(bytes: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    // `http` allows names up to 65,535 bytes; values of 4 GiB don't fit `body_at`.
    bytes.put_u16_le(name.as_str().len() as u16);
    bytes.put_u32_le(value.len() as u32);
    bytes.put_slice(name.as_str().as_bytes());
    bytes.put_slice(value.as_bytes());
}

/// Fingerprints what a client can tell two answers apart by. Bodies with and
/// without a count are equal, their `Content-Range` is not.
fn digest(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(status.as_str().as_bytes());
    for name in ["content-type", "content-range", "preference-applied", "content-encoding"] {
        let values = headers.get_all(name).iter();
        values.for_each(|value| part(value.as_bytes()));
        // Ends the list with what no header's value is.
        part(b"\n");
    }
    part(body);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

#[cfg(test)]
mod tests;
