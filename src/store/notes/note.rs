//! The form of a note in Redis.
//!
//! ```text
//! hold: milliseconds, 4 bytes, little-endian
//! tags: 8 bytes each, little-endian, at least one
//! ```

use std::time::Duration;

use crate::tag::{Tag, TagId};

/// More tags than this are noted as [`Tag::All`]: notes take room in Redis at
/// each write, and are read only where a node dies.
const MAX_TAGS: usize = 64;

const HOLD: usize = size_of::<u32>();

/// What a note says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) tags: Vec<TagId>,
    pub(super) hold: Duration,
}

/// The bytes of a note. A hold is rounded up to a millisecond.
pub(super) fn encode(tags: &[TagId], hold: Duration) -> Vec<u8> {
    let everything = [Tag::All.id()];
    let tags = if tags.len() > MAX_TAGS { &everything[..] } else { tags };
    let milliseconds = u32::try_from(hold.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HOLD + size_of_val(tags));
    bytes.extend(milliseconds.to_le_bytes());
    bytes.extend(tags.iter().flat_map(|tag| tag.0.to_le_bytes()));
    bytes
}

/// Reads a note. `None` if it isn't one.
pub(super) fn decode(bytes: &[u8]) -> Option<Noted> {
    let (hold, tags) = bytes.split_first_chunk()?;
    let hold = Duration::from_millis(u64::from(u32::from_le_bytes(*hold)));
    let (tags, left) = tags.as_chunks();
    let fits = left.is_empty() && !tags.is_empty() && tags.len() <= MAX_TAGS;
    let tags = tags.iter().map(|tag| TagId(u64::from_le_bytes(*tag))).collect();
    fits.then_some(Noted { tags, hold })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_note_comes_back(tags in prop::collection::vec(any::<u64>().prop_map(TagId), 1..50), hold: u32) {
            let hold = Duration::from_millis(hold.into());
            prop_assert_eq!(decode(&encode(&tags, hold)), Some(Noted { tags, hold }));
        }

        #[test]
        fn garbage_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(noted) = decode(&bytes) {
                prop_assert_eq!(encode(&noted.tags, noted.hold), bytes);
            }
        }
    }

    #[test]
    fn what_says_nothing_is_no_note() {
        let one = encode(&[TagId(1)], Duration::ZERO);
        for bytes in [&b""[..], b"abc", b"abcd", &one[..11], &[&one[..], b"x"].concat()] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_hold_is_never_shortened() {
        for (hold, noted) in [
            (Duration::from_micros(1), Duration::from_millis(1)),
            (Duration::from_millis(30_000), Duration::from_secs(30)),
            (Duration::from_secs(u64::MAX), Duration::from_millis(u32::MAX.into())),
        ] {
            assert_eq!(decode(&encode(&[TagId(1)], hold)).map(|noted| noted.hold), Some(noted));
        }
    }

    #[test]
    fn more_tags_than_fit_are_everything() {
        let many: Vec<TagId> = (0..=MAX_TAGS as u64).map(TagId).collect();
        let tags = |tags| decode(&encode(tags, Duration::ZERO)).map(|noted| noted.tags);
        assert_eq!(tags(&many[1..]), Some(many[1..].to_vec()));
        assert_eq!(tags(&many), Some(vec![Tag::All.id()]));
    }
}
