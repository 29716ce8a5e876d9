//! What nodes tell each other on the bus.
//!
//! ```text
//! kind: 1 byte, 't' or 'k'
//! 't': the node that says it, 8 bytes, milliseconds to hold them, 4 bytes, then tags, 8 bytes each, all little-endian
//! 'k': a key, 32 bytes
//! ```

use std::time::Duration;

use crate::cache::Key;
use crate::tag::{Tag, TagId};

/// More tags than this are said as [`Tag::All`].
pub const MAX_TAGS: usize = 65_536;

const HEAD: usize = 1 + size_of::<u64>();
const TAGS: u8 = b't';
const REMOVED: u8 = b'k';

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Every entry that carries one of these tags is unusable.
    Tags {
        /// The node that says so.
        origin: u64,
        /// For how long no answers about them are to be kept; in whole milliseconds.
        hold: Duration,
        /// At least one.
        tags: Vec<TagId>,
    },
    /// An entry was removed.
    Removed {
        /// The entry's key.
        key: Key,
    },
}

/// A message of another kind, or cut off. What it said is unknown, so that
/// it may have named anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("A message on the bus can't be read: {length} bytes. All nodes must run the same version")]
pub struct MalformedMessage {
    /// How long it is.
    pub length: usize,
}

impl Message {
    /// The bytes of a message that names `tags`. A hold is rounded up to a millisecond.
    pub fn tags(origin: u64, hold: Duration, tags: &[TagId]) -> Vec<u8> {
        let everything = [Tag::All.id()];
        let tags = if tags.len() > MAX_TAGS { &everything[..] } else { tags };
        let milliseconds = u32::try_from(hold.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEAD + size_of::<u32>() + size_of_val(tags));
        bytes.push(TAGS);
        bytes.extend(origin.to_le_bytes());
        bytes.extend(milliseconds.to_le_bytes());
        bytes.extend(tags.iter().flat_map(|tag| tag.0.to_le_bytes()));
        bytes
    }

    /// The bytes of a message that says that the entry of `key` was removed.
    pub fn removed(key: &Key) -> Vec<u8> {
        [&[REMOVED], &key.as_bytes()[..]].concat()
    }

    /// Reads a message's bytes.
    ///
    /// # Errors
    ///
    /// [`MalformedMessage`] if the kind is unknown or the length is not its.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedMessage> {
        Self::read(bytes).ok_or(MalformedMessage { length: bytes.len() })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            TAGS => {
                let (origin, rest) = rest.split_first_chunk()?;
                let origin = u64::from_le_bytes(*origin);
                let (milliseconds, tags) = rest.split_first_chunk()?;
                let hold = Duration::from_millis(u64::from(u32::from_le_bytes(*milliseconds)));
                let (tags, left) = tags.as_chunks();
                let fits = left.is_empty() && !tags.is_empty() && tags.len() <= MAX_TAGS;
                let tags = tags.iter().map(|tag| TagId(u64::from_le_bytes(*tag))).collect();
                fits.then_some(Message::Tags { origin, hold, tags })
            }
            REMOVED => {
                let key = <[u8; 16]>::try_from(rest).ok()?;
                Some(Message::Removed { key: Key::from(key) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tags_come_back(origin: u64, hold: u32, tags in prop::collection::vec(any::<u64>().prop_map(TagId), 1..50)) {
            let hold = Duration::from_millis(hold.into());
            let bytes = Message::tags(origin, hold, &tags);
            prop_assert_eq!(Message::decode(&bytes), Ok(Message::Tags { origin, hold, tags }));
        }

        #[test]
        fn a_key_comes_back(key: [u8; 16]) {
            let key = Key::from(key);
            let bytes = Message::removed(&key);
            prop_assert_eq!(Message::decode(&bytes), Ok(Message::Removed { key }));
        }

        #[test]
        fn a_message_cut_short_or_longer_is_never_half_understood(tags in prop::collection::vec(any::<u64>().prop_map(TagId), 1..5), less in 1_usize..8) {
            let bytes = Message::tags(1, Duration::ZERO, &tags);
            prop_assert!(Message::decode(&bytes[..bytes.len() - less]).is_err());
            let removed = Message::removed(&Key::from([7; 16]));
            prop_assert!(Message::decode(&removed[..removed.len() - less]).is_err());
            prop_assert!(Message::decode(&[removed, vec![0; less]].concat()).is_err());
        }

        #[test]
        fn garbage_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(Message::Tags { origin, hold, tags }) = Message::decode(&bytes) {
                prop_assert_eq!(Message::tags(origin, hold, &tags), bytes);
            }
        }
    }

    #[test]
    fn what_says_nothing_is_malformed() {
        let no_tags = Message::tags(1, Duration::ZERO, &[]);
        for bytes in [&b""[..], b"t", b"x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", &no_tags] {
            assert_eq!(Message::decode(bytes), Err(MalformedMessage { length: bytes.len() }));
        }
    }

    #[test]
    fn more_tags_than_fit_are_everything() {
        let most: Vec<TagId> = (0..MAX_TAGS as u64).map(TagId).collect();
        let named = |tags: &[TagId]| match Message::decode(&Message::tags(1, Duration::ZERO, tags)) {
            Ok(Message::Tags { tags, .. }) => tags,
            other => panic!("{other:?}"),
        };
        assert_eq!(named(&most), most);
        let more: Vec<TagId> = (0..=MAX_TAGS as u64).map(TagId).collect();
        assert_eq!(named(&more), [Tag::All.id()]);
    }
}
