//! Entries into envelopes and out of them.

use bytes::Bytes;

use super::{Filled, Found};
use crate::cache::generation::EntryTags;
use crate::cache::key::Key;
use crate::store::envelope::{self, Envelope, MAX_ENTRY, OpenError, SealError};
use crate::store::stamp::Stamps;

/// Larger entries are wrapped and unwrapped off the I/O threads.
pub(super) const INLINE: usize = 256 << 10;

/// What a fill brought as it goes to Redis, with the tags of what it turned out to be.
pub(super) async fn sealed(filled: &Filled<'_>) -> Result<Vec<u8>, SealError> {
    let (key, entry, empty) = (*filled.key, filled.entry, filled.empty);
    let tags = filled.tags.of(empty);
    let stamps = filled.stamps.narrowed_to(tags);
    if stamps.iter().len() < tags.as_slice().len() {
        return Err(SealError::Incomplete);
    }
    if entry.len() <= INLINE || entry.len() > MAX_ENTRY {
        return envelope::seal(&key, &stamps, empty, entry);
    }
    let entry = entry.to_vec();
    let sealing = tokio::task::spawn_blocking(move || envelope::seal(&key, &stamps, empty, &entry));
    // It ends early only with the process.
    sealing.await.unwrap_or(Err(SealError::Incomplete))
}

/// The entry in `frame` if it may answer: it carries the tags that an answer
/// of its kind has by the request, and their stamps `now`.
pub(super) async fn usable(key: &Key, tags: &EntryTags, now: &Stamps, frame: Option<Bytes>) -> Option<Found> {
    let opened = match Envelope::read(frame?) {
        Ok(envelope) => {
            let empty = envelope.holds_empty();
            if !envelope.is_current(tags.of(empty), now) {
                return None;
            }
            open(*key, envelope).await.map(|entry| Found { entry, empty })
        }
        Err(error) => Err(error),
    };
    // Once per lookup, so not for an operator: after an upgrade all are such.
    opened.inspect_err(|error| tracing::debug!(%key, %error, "unreadable entry in redis")).ok()
}

async fn open(key: Key, envelope: Envelope) -> Result<Bytes, OpenError> {
    if envelope.entry_len() <= INLINE {
        return envelope.open(&key, MAX_ENTRY);
    }
    let opening = tokio::task::spawn_blocking(move || envelope.open(&key, MAX_ENTRY));
    opening.await.unwrap_or(Err(OpenError::Compression))
}
