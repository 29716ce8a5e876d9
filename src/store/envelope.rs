//! Envelopes: what an entry is wrapped in while it is in Redis.
//!
//! ```text
//! version 1 | flags 1 | tags 2 | entry's bytes 4 | checksum 8
//! per tag: tag 8 | stamp 16
//! the entry, perhaps compressed
//! ```
//!
//! Numbers are little-endian, tags ascend. The checksum is over all else and
//! the key: what was cut, changed or got under another key is never served.

use bytes::{Buf, BufMut, Bytes};

use super::stamp::{Stamp, Stamps};
use crate::cache::generation::TagSet;
use crate::cache::key::Key;
use crate::tag::TagId;

const VERSION: u8 = 1;
const FIXED: usize = 1 + 1 + 2 + 4 + CHECKSUM;
const CHECKSUM: usize = 8;
const CHECKSUM_AT: usize = FIXED - CHECKSUM;
const PER_TAG: usize = 8 + 16;

const COMPRESSED: u8 = 1;
const EMPTY: u8 = 1 << 1;
const KNOWN_FLAGS: u8 = COMPRESSED | EMPTY;

/// Smaller entries aren't worth compressing.
const MIN_COMPRESSED: usize = 4 << 10;
const LEVEL: i32 = 1;

/// The largest entry that goes to Redis, in bytes before it is compressed:
/// larger ones would keep the server from answering others for too long.
pub const MAX_ENTRY: usize = 2 << 20;

/// Why an entry doesn't go to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A tag's generation was absent or held when it was read.
    #[error("The entry has a tag without a generation")]
    Incomplete,
    /// The entry is larger than [`MAX_ENTRY`] or has more than 65,535 tags.
    #[error("The entry is larger than an envelope can hold")]
    TooLarge,
}

/// Bytes that are no envelope of this version, or another key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Written by another version of the layout.
    #[error("The envelope has layout {0}, not {VERSION}")]
    Version(u8),
    /// A flag that this version doesn't know.
    #[error("The envelope has unknown flags")]
    Flags,
    /// The lengths inside don't add up to the length of the whole.
    #[error("The envelope's lengths don't add up")]
    Length,
    /// The entry would be larger than is allowed.
    #[error("The envelope's entry is larger than is allowed")]
    TooLarge,
    /// Something in it was changed, or it was stored under another key.
    #[error("The envelope's checksum is another one's")]
    Checksum,
    /// What is compressed can't be decompressed.
    #[error("The envelope's entry can't be decompressed")]
    Compression,
}

/// An envelope whose lengths add up. Whether they are to be believed is known
/// once it was opened.
#[derive(Debug, Clone)]
pub struct Envelope {
    frame: Bytes,
    flags: u8,
    entry_len: usize,
    entry_at: usize,
}

/// Wraps an entry in the envelope that is stored under `key`. `empty`: the
/// answer has no rows. Takes time in proportion to the entry: some 30
/// milliseconds for the largest.
///
/// # Errors
///
/// [`SealError`] if no lookup could find the entry, or none should.
pub fn seal(key: &Key, stamps: &Stamps, empty: bool, entry: &[u8]) -> Result<Vec<u8>, SealError> {
    let tags = u16::try_from(stamps.iter().len()).map_err(|_| SealError::TooLarge)?;
    if entry.len() > MAX_ENTRY {
        return Err(SealError::TooLarge);
    }
    let compressed = compress(entry);
    let payload = compressed.as_deref().unwrap_or(entry);
    let mut frame = Vec::with_capacity(FIXED + usize::from(tags) * PER_TAG + payload.len());
    frame.put_u8(VERSION);
    frame.put_u8(if compressed.is_some() { COMPRESSED } else { 0 } | if empty { EMPTY } else { 0 });
    frame.put_u16_le(tags);
    frame.put_u32_le(entry.len() as u32);
    frame.put_bytes(0, CHECKSUM);
    for (tag, stamp) in stamps.iter() {
        frame.put_u64_le(tag.0);
        frame.put_u128_le(stamp.ok_or(SealError::Incomplete)?.0);
    }
    frame.put_slice(payload);
    let checksum = checksum(key, &frame);
    frame[CHECKSUM_AT..FIXED].copy_from_slice(&checksum);
    Ok(frame)
}

impl Envelope {
    /// Reads an envelope's head.
    ///
    /// # Errors
    ///
    /// [`OpenError`] for what [`seal`] would not have written, as far as it
    /// can be seen without the whole.
    pub fn read(frame: Bytes) -> Result<Self, OpenError> {
        let mut rest = &frame[..];
        match rest.first() {
            None => return Err(OpenError::Length),
            Some(&VERSION) if rest.len() >= FIXED => rest.advance(1),
            Some(&VERSION) => return Err(OpenError::Length),
            Some(other) => return Err(OpenError::Version(*other)),
        }
        let flags = rest.get_u8();
        if flags & !KNOWN_FLAGS != 0 {
            return Err(OpenError::Flags);
        }
        let entry_at = FIXED + usize::from(rest.get_u16_le()) * PER_TAG;
        let entry_len = usize::try_from(rest.get_u32_le()).map_err(|_| OpenError::TooLarge)?;
        let stored = frame.len().checked_sub(entry_at).ok_or(OpenError::Length)?;
        // What was compressed has become smaller.
        let adds_up = if flags & COMPRESSED == 0 { stored == entry_len } else { stored < entry_len };
        adds_up.then_some(Self { frame, flags, entry_len, entry_at }).ok_or(OpenError::Length)
    }

    /// Whether the answer has no rows.
    pub fn holds_empty(&self) -> bool {
        self.flags & EMPTY != 0
    }

    /// How many bytes the entry has.
    pub fn entry_len(&self) -> usize {
        self.entry_len
    }

    /// Whether the entry carries exactly the tags of `set`, each with the
    /// stamp that it has `now`.
    pub fn is_current(&self, set: &TagSet, now: &Stamps) -> bool {
        let table = self.frame.get(FIXED..self.entry_at).unwrap_or_default();
        table.len() == set.as_slice().len() * PER_TAG
            && table.chunks_exact(PER_TAG).zip(set.as_slice()).all(|(mut row, tag)| {
                TagId(row.get_u64_le()) == *tag && now.get(*tag) == Some(Stamp(row.get_u128_le()))
            })
    }

    /// The entry's bytes; `key` is what the envelope was found under.
    /// Allocates no more than the entry takes, and that only up to `max`.
    ///
    /// # Errors
    ///
    /// [`OpenError`] for what [`seal`] would not have written for this key.
    pub fn open(self, key: &Key, max: usize) -> Result<Bytes, OpenError> {
        if self.entry_len > max {
            return Err(OpenError::TooLarge);
        }
        if checksum(key, &self.frame) != self.frame[CHECKSUM_AT..FIXED] {
            return Err(OpenError::Checksum);
        }
        let stored = &self.frame[self.entry_at..];
        if self.flags & COMPRESSED != 0 {
            let entry = zstd::bulk::decompress(stored, self.entry_len).map_err(|_| OpenError::Compression)?;
            return (entry.len() == self.entry_len).then(|| entry.into()).ok_or(OpenError::Length);
        }
        Ok(self.frame.slice(self.entry_at..))
    }
}

/// The entry compressed, if that makes it smaller by an eighth at least.
fn compress(entry: &[u8]) -> Option<Vec<u8>> {
    if entry.len() < MIN_COMPRESSED {
        return None;
    }
    let compressed = zstd::bulk::compress(entry, LEVEL).ok()?;
    (compressed.len() <= entry.len() - entry.len() / 8).then_some(compressed)
}

/// Over key and frame; the frame has at least its fixed part.
fn checksum(key: &Key, frame: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(&frame[..CHECKSUM_AT]);
    hasher.update(&frame[FIXED..]);
    let mut checksum = [0; CHECKSUM];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM]);
    checksum
}

#[cfg(test)]
mod tests;
