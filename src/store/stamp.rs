//! Stamps: what an entry in Redis remembers of its tags' generations.

use smallvec::SmallVec;

use crate::cache::generation::TagSet;
use crate::tag::TagId;

/// A generation's bytes.
const GENERATION: usize = 16;

/// A server's replication id (`master_replid`), its first 128 of 160 bits. A
/// server has another after a restart, and a replica after it was promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplicationId(pub u128);

impl ReplicationId {
    /// Reads what a server states: hexadecimal digits. `None` if it isn't that.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(text.get(..32)?).ok()?;
        // `from_str_radix` takes a sign as well.
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(digits, 16).ok().map(Self)
    }
}

/// A tag's generation as one master had it: no other master, nor the same one
/// after a restart, ever gives the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp(pub u128);

impl Stamp {
    /// The stamp of a generation as it is in Redis. `None` if it is absent or
    /// held (an empty string), or no generation at all: it matches nothing.
    pub fn of(generation: Option<&[u8]>, replication: ReplicationId) -> Option<Self> {
        let bytes: [u8; GENERATION] = generation?.try_into().ok()?;
        Some(Self(u128::from_be_bytes(bytes) ^ replication.0))
    }
}

/// Tags with their stamps as read at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamps(SmallVec<[(TagId, Option<Stamp>); 8]>);

impl Stamps {
    /// Whether an answer whose fetch began now may be kept: every tag has a
    /// generation, and none is held.
    pub fn complete(&self) -> bool {
        self.0.iter().all(|(_, stamp)| stamp.is_some())
    }

    /// The tags with their stamps, ascending by tag. `None`: absent or held.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (TagId, Option<Stamp>)> + '_ {
        self.0.iter().copied()
    }

    /// The stamp of `tag`, if it is among these and has one.
    pub fn get(&self, tag: TagId) -> Option<Stamp> {
        let index = self.0.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        self.0[index].1
    }

    /// These without the tags that `set` doesn't name.
    #[must_use]
    pub fn narrowed_to(&self, set: &TagSet) -> Self {
        let named = |(tag, _): &(TagId, Option<Stamp>)| set.as_slice().binary_search(tag).is_ok();
        Self(self.0.iter().copied().filter(named).collect())
    }
}

impl FromIterator<(TagId, Option<Stamp>)> for Stamps {
    /// Each tag once; of a tag that comes twice with different stamps, none counts.
    fn from_iter<I: IntoIterator<Item = (TagId, Option<Stamp>)>>(stamps: I) -> Self {
        let mut stamps: SmallVec<[(TagId, Option<Stamp>); 8]> = stamps.into_iter().collect();
        stamps.sort_unstable_by_key(|(tag, _)| *tag);
        stamps.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same && next.1 != kept.1 {
                kept.1 = None;
            }
            same
        });
        Self(stamps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICATION: &[u8; 40] = b"00112233445566778899aabbccddeeff01234567";

    fn stamps(of: &[(u64, Option<u128>)]) -> Stamps {
        of.iter().map(|(tag, stamp)| (TagId(*tag), stamp.map(Stamp))).collect()
    }

    #[test]
    fn a_replication_id_is_its_first_128_bits() {
        let id = ReplicationId::parse(REPLICATION).unwrap();
        assert_eq!(id, ReplicationId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff));
        for wrong in [&b""[..], &REPLICATION[..31], b"+0112233445566778899aabbccddeeff", &[0xff; 40]] {
            assert_eq!(ReplicationId::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_stamp_depends_on_generation_and_server() {
        let (one, other) = (ReplicationId(1), ReplicationId(2));
        let stamp = Stamp::of(Some(&[7; 16]), one).unwrap();
        assert_eq!(Stamp::of(Some(&[7; 16]), one), Some(stamp));
        assert_ne!(Stamp::of(Some(&[7; 16]), other), Some(stamp));
        assert_ne!(Stamp::of(Some(&[8; 16]), one), Some(stamp));
    }

    #[test]
    fn what_is_absent_held_or_malformed_has_no_stamp() {
        for generation in [None, Some(&b""[..]), Some(&[7; 15]), Some(&[7; 17])] {
            assert_eq!(Stamp::of(generation, ReplicationId(1)), None, "{generation:?}");
        }
    }

    #[test]
    fn stamps_are_complete_only_with_all_of_them() {
        assert!(stamps(&[]).complete());
        assert!(stamps(&[(1, Some(1)), (2, Some(2))]).complete());
        assert!(!stamps(&[(1, Some(1)), (2, None)]).complete());
    }

    #[test]
    fn stamps_ascend_and_contradictions_count_for_nothing() {
        let made = stamps(&[(3, Some(30)), (1, Some(10)), (3, Some(31)), (1, Some(10))]);
        assert_eq!(made, stamps(&[(1, Some(10)), (3, None)]));
        assert_eq!(made.get(TagId(1)), Some(Stamp(10)));
        assert_eq!((made.get(TagId(2)), made.get(TagId(3))), (None, None));
    }

    #[test]
    fn narrowing_keeps_what_the_set_names() {
        let made = stamps(&[(1, Some(10)), (2, None), (3, Some(30))]);
        let set: TagSet = [TagId(3), TagId(1), TagId(9)].into_iter().collect();
        assert_eq!(made.narrowed_to(&set), stamps(&[(1, Some(10)), (3, Some(30))]));
    }
}
