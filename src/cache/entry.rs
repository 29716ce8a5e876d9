//! Entries: stored answers, each one contiguous run of bytes.
//!
//! ```text
//! version 1 | flags 1 | status 2 | head's bytes 4 | body's bytes 8
//! received 8 | initial age 8 | lifetime 8 | while revalidating 8 | if error 8 | digest 16
//! per header: name's bytes 1 | role 1 | line's bytes 4 | the line, as HTTP/1 writes it
//! body
//! ```
//!
//! Numbers are little-endian, times milliseconds. The same bytes serve in
//! memory and in a store outside; what comes from there is checked in full.
//! In memory the tags' generations stand before them: each process counts its own.

mod lines;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

pub use self::lines::{Line, Role};
use self::lines::{Lines, put_line};
use super::Timestamp;
use super::encoding::is_compressible;
use super::freshness::{Lifetimes, Reuse};
use super::generation::Snapshot;
use crate::tag::TagId;

const VERSION: u8 = 2;
const FIXED: usize = 1 + 1 + 2 + 4 + 8 + 5 * 8 + DIGEST;
const DIGEST: usize = 16;
const LIFETIMES_AT: usize = 1 + 1 + 2 + 4 + 8;
const DIGEST_AT: usize = FIXED - DIGEST;

/// In front of the layout: how many tags, then each with its generation.
const TAG_COUNT: usize = 2;
const PER_TAG: usize = 8 + 8;

const HEAD_ONLY: u8 = 1;
const EMPTY: u8 = 1 << 1;
const MUST_REVALIDATE: u8 = 1 << 2;
const NO_CACHE: u8 = 1 << 3;
const COMPRESSIBLE: u8 = 1 << 4;
const KNOWN_FLAGS: u8 = HEAD_ONLY | EMPTY | MUST_REVALIDATE | NO_CACHE | COMPRESSIBLE;

/// A stored answer. Immutable; a clone shares the one allocation that it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(Arc<[u8]>);

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
#[error("The answer has longer headers than an entry can hold")]
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
    /// [`TooLarge`] where a header's name is longer than 255 bytes, where the
    /// head has 4 GiB, or above 65,535 tags.
    pub fn new(parts: &EntryParts<'_>) -> Result<Self, TooLarge> {
        let body = if parts.head_only { &[][..] } else { parts.body };
        let mut head = Vec::with_capacity(parts.headers.len() * 48);
        for (name, value) in parts.headers {
            put_line(&mut head, name, value).ok_or(TooLarge)?;
        }
        let head_bytes = u32::try_from(head.len()).map_err(|_| TooLarge)?;
        let mut bytes = begin(parts.tags, FIXED + head.len() + body.len()).ok_or(TooLarge)?;
        bytes.put_u8(VERSION);
        bytes.put_u8(flags(parts));
        bytes.put_u16_le(parts.status.as_u16());
        bytes.put_u32_le(head_bytes);
        bytes.put_u64_le(body.len() as u64);
        put_lifetimes(&mut bytes, &parts.lifetimes);
        bytes.put_slice(&digest(parts.status, parts.headers, body));
        bytes.put_slice(&head);
        bytes.put_slice(body);
        Ok(Self(bytes.into()))
    }

    /// Reads an entry back from [`Entry::as_bytes`]. `tags` are those that it
    /// carries, with their generations in this process.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for whatever [`Entry::new`] would not have written.
    /// Whether the digest is the body's is not checked.
    pub fn decode(layout: &[u8], tags: &Snapshot) -> Result<Self, DecodeError> {
        let mut rest = layout;
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
        StatusCode::from_u16(rest.get_u16_le()).map_err(|_| DecodeError::Malformed("status"))?;
        let head_bytes = u64::from(rest.get_u32_le());
        let body_bytes = rest.get_u64_le();
        if (FIXED as u64 + head_bytes).checked_add(body_bytes) != Some(layout.len() as u64) {
            return Err(DecodeError::Length);
        }
        if flags & HEAD_ONLY != 0 && body_bytes != 0 {
            return Err(DecodeError::Malformed("body"));
        }
        // Within the layout's length, which is a `usize`.
        Lines::of(&layout[FIXED..FIXED + head_bytes as usize]).check()?;
        let mut bytes = begin(tags, layout.len()).ok_or(DecodeError::Malformed("tags"))?;
        bytes.put_slice(layout);
        Ok(Self(bytes.into()))
    }

    /// The entry as it is laid out, its tags left out.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[TAG_COUNT + self.tag_count() * PER_TAG..]
    }

    /// How many bytes it takes in memory, tags included.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Whether the two are one allocation.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The answer's status.
    pub fn status(&self) -> StatusCode {
        let layout = self.as_bytes();
        StatusCode::from_u16(u16::from_le_bytes([layout[2], layout[3]])).unwrap_or(StatusCode::OK)
    }

    /// Whether a HEAD filled it: it answers HEAD alone.
    pub fn is_head_only(&self) -> bool {
        self.flags() & HEAD_ONLY != 0
    }

    /// Whether the answer has no rows.
    pub fn is_empty(&self) -> bool {
        self.flags() & EMPTY != 0
    }

    /// Whether it is given compressed to those who accept it; see
    /// [`super::encoding::is_compressible`].
    pub fn is_compressible(&self) -> bool {
        self.flags() & COMPRESSIBLE != 0
    }

    /// How long it may be used.
    pub fn lifetimes(&self) -> Lifetimes {
        get_lifetimes(&self.as_bytes()[LIFETIMES_AT..DIGEST_AT], self.flags())
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        let layout = self.as_bytes();
        &layout[FIXED + head_bytes(layout)..]
    }

    /// The body, sharing the entry's allocation.
    pub fn shared_body(&self) -> Bytes {
        let body = self.0.len() - self.body().len()..;
        Bytes::from_owner(Owner(self.0.clone())).slice(body)
    }

    /// A fingerprint of status, body and what describes it: two entries with
    /// one digest give the same representation.
    pub fn digest(&self) -> [u8; DIGEST] {
        let mut digest = [0; DIGEST];
        digest.copy_from_slice(&self.as_bytes()[DIGEST_AT..FIXED]);
        digest
    }

    /// The stored headers, in order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let layout = self.as_bytes();
        Lines::of(&layout[FIXED..FIXED + head_bytes(layout)])
    }

    /// The stored headers as a map.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in self.lines() {
            let name = HeaderName::from_bytes(line.name());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line.value())) {
                headers.append(name, value);
            }
        }
        headers
    }

    /// The first value of a stored header.
    pub fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        self.lines().find(|line| line.name() == name.as_str().as_bytes()).map(|line| line.value())
    }

    /// The entry's tags with the generations that they had before the fetch, ascending.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (TagId, u64)> + '_ {
        let tags = &self.0[TAG_COUNT..TAG_COUNT + self.tag_count() * PER_TAG];
        tags.chunks_exact(PER_TAG).map(|mut tag| (TagId(tag.get_u64_le()), tag.get_u64_le()))
    }

    fn tag_count(&self) -> usize {
        usize::from(u16::from_le_bytes([self.0[0], self.0[1]]))
    }

    fn flags(&self) -> u8 {
        self.as_bytes()[1]
    }
}

impl std::fmt::Debug for Entry {
    /// Without headers and body, which are somebody's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lifetimes = self.lifetimes();
        f.debug_struct("Entry")
            .field("status", &self.status())
            .field("lifetimes", &lifetimes)
            .finish_non_exhaustive()
    }
}

/// Keeps an entry's allocation alive for a slice of it.
struct Owner(Arc<[u8]>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The tags, and room for a layout of so many bytes. `None` above 65,535 tags.
fn begin(tags: &Snapshot, layout: usize) -> Option<Vec<u8>> {
    let count = u16::try_from(tags.iter().len()).ok()?;
    let mut bytes = Vec::with_capacity(TAG_COUNT + usize::from(count) * PER_TAG + layout);
    bytes.put_u16_le(count);
    for (tag, generation) in tags.iter() {
        bytes.put_u64_le(tag.0);
        bytes.put_u64_le(generation);
    }
    Some(bytes)
}

fn head_bytes(layout: &[u8]) -> usize {
    // It was a slice's length, here or where the bytes were checked.
    u32::from_le_bytes([layout[4], layout[5], layout[6], layout[7]]) as usize
}

fn flags(parts: &EntryParts<'_>) -> u8 {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let compressible = !parts.head_only && is_compressible(parts.status, parts.headers, parts.body.len());
    flag(parts.head_only, HEAD_ONLY)
        | flag(parts.lifetimes.empty, EMPTY)
        | flag(compressible, COMPRESSIBLE)
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

fn get_lifetimes(mut bytes: &[u8], flags: u8) -> Lifetimes {
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

/// Fingerprints what a client can tell two answers apart by. Bodies with and
/// without a count are equal, their `Content-Range` is not.
fn digest(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> [u8; DIGEST] {
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
    let mut digest = [0; DIGEST];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..DIGEST]);
    digest
}

#[cfg(test)]
mod tests;
