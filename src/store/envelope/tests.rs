use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const KEY: [u8; 16] = [5; 16];

fn key() -> Key {
    Key::from(KEY)
}

fn stamps(of: &[(u64, u128)]) -> Stamps {
    of.iter().map(|(tag, stamp)| (TagId(*tag), Some(Stamp(*stamp)))).collect()
}

fn tags(of: &[u64]) -> TagSet {
    of.iter().copied().map(TagId).collect()
}

fn sealed(entry: &[u8]) -> Vec<u8> {
    seal(&key(), &stamps(&[(1, 10), (2, 20)]), false, entry).unwrap()
}

fn open(frame: &[u8]) -> Result<Bytes, OpenError> {
    Envelope::read(Bytes::copy_from_slice(frame))?.open(&key(), MAX_ENTRY)
}

/// A frame of one's own with a checksum that is right.
fn forged(flags: u8, entry_len: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![VERSION, flags, 0, 0];
    frame.put_u32_le(entry_len);
    frame.put_bytes(0, CHECKSUM);
    frame.put_slice(payload);
    let checksum = checksum(&key(), &frame);
    frame[CHECKSUM_AT..FIXED].copy_from_slice(&checksum);
    frame
}

/// Bytes that shrink and bytes that don't, around the limit of compression.
fn entries() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..200),
        vec(any::<u8>(), 4000..5000),
        (any::<u8>(), 4000_usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn tables() -> impl Strategy<Value = Vec<(u64, u128)>> {
    proptest::collection::btree_map(any::<u64>(), any::<u128>(), 0..8)
        .prop_map(|table| table.into_iter().collect())
}

#[test]
fn a_small_entry_costs_its_table_and_sixteen_bytes() {
    assert_eq!(sealed(&[7; 300]).len(), 300 + 2 * 24 + 16);
}

#[test]
fn only_what_shrinks_by_an_eighth_is_compressed() {
    // The first part can't be compressed, the rest can.
    let mixed = |random: usize, len: usize| {
        let mut bytes: Vec<u8> = vec![0; random];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes.resize(len, b' ');
        bytes
    };
    let cases = [
        (mixed(0, 4095), false),
        (mixed(0, 4096), true),
        (mixed(4096, 4096), false),
        (mixed(7600, 8192), false),
        (mixed(6800, 8192), true),
    ];
    for (entry, compressed) in cases {
        let frame = sealed(&entry);
        assert_eq!(frame[1] & COMPRESSED != 0, compressed, "{}", entry.len());
        assert_eq!(frame.len() < entry.len(), compressed, "{}", entry.len());
        assert_eq!(open(&frame).unwrap(), entry);
    }
}

#[test]
fn an_entry_is_current_with_exactly_its_tags_and_stamps() {
    let now = stamps(&[(1, 10), (2, 20), (3, 30)]);
    let envelope = Envelope::read(sealed(b"entry").into()).unwrap();
    assert!(envelope.is_current(&tags(&[1, 2]), &now));
    assert!(envelope.is_current(&tags(&[1, 2]), &stamps(&[(1, 10), (2, 20)])));
    for other in [&[][..], &[1], &[2], &[1, 3], &[1, 2, 3]] {
        assert!(!envelope.is_current(&tags(other), &now), "{other:?}");
    }
    let held: Stamps = [(TagId(1), Some(Stamp(10))), (TagId(2), None)].into_iter().collect();
    for moved in [stamps(&[(1, 10), (2, 21)]), stamps(&[(1, 11), (2, 20)]), stamps(&[(1, 10)]), held] {
        assert!(!envelope.is_current(&tags(&[1, 2]), &moved), "{moved:?}");
    }
}

#[test]
fn whether_the_answer_is_empty_is_kept() {
    for empty in [false, true] {
        for entry in [&[1; 10][..], &[1; 5000]] {
            let frame = seal(&key(), &stamps(&[]), empty, entry).unwrap();
            assert_eq!(Envelope::read(frame.into()).unwrap().holds_empty(), empty);
        }
    }
}

#[test]
fn what_no_lookup_may_find_is_not_sealed() {
    let absent: Stamps = [(TagId(1), Some(Stamp(1))), (TagId(2), None)].into_iter().collect();
    assert_eq!(seal(&key(), &absent, false, b""), Err(SealError::Incomplete));
    let large = vec![0; MAX_ENTRY + 1];
    assert_eq!(seal(&key(), &stamps(&[]), false, &large), Err(SealError::TooLarge));
    let many: Stamps = (0..65_536).map(|tag| (TagId(tag), Some(Stamp(1)))).collect();
    assert_eq!(seal(&key(), &many, false, b""), Err(SealError::TooLarge));
}

#[test]
fn another_keys_envelope_is_refused() {
    let envelope = Envelope::read(sealed(b"entry").into()).unwrap();
    assert_eq!(envelope.open(&Key::from([6; 16]), MAX_ENTRY), Err(OpenError::Checksum));
}

#[test]
fn malformed_frames_say_what_is_wrong() {
    let bomb = zstd::bulk::compress(&vec![0; 10 << 20], 1).unwrap();
    let short = zstd::bulk::compress(&[0; 5000], 1).unwrap();
    let cases = [
        (vec![], OpenError::Length),
        (vec![VERSION], OpenError::Length),
        (vec![9; 100], OpenError::Version(9)),
        (forged(1 << 2, 1, b"x"), OpenError::Flags),
        (forged(0, 2, b"x"), OpenError::Length),
        (forged(0, 0, b"x"), OpenError::Length),
        (forged(COMPRESSED, 1, b"x"), OpenError::Length),
        (forged(COMPRESSED, 6000, b"no such thing"), OpenError::Compression),
        (forged(COMPRESSED, 5001, &short), OpenError::Length),
        (forged(COMPRESSED, 4999, &short), OpenError::Compression),
        (forged(COMPRESSED, 5000, &bomb), OpenError::Compression),
        (forged(COMPRESSED, u32::MAX, &bomb), OpenError::TooLarge),
    ];
    for (index, (frame, expected)) in cases.into_iter().enumerate() {
        assert_eq!(open(&frame), Err(expected), "case {index}");
    }
}

#[test]
fn no_more_than_the_maximum_is_opened() {
    let frame = Bytes::from(sealed(&[1; 5000]));
    assert_eq!(Envelope::read(frame.clone()).unwrap().open(&key(), 4999), Err(OpenError::TooLarge));
    assert_eq!(Envelope::read(frame).unwrap().open(&key(), 5000).unwrap().len(), 5000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_was_sealed_is_opened(entry in entries(), table in tables(), empty: bool) {
        let now = stamps(&table);
        let frame = seal(&key(), &now, empty, &entry).unwrap();
        let envelope = Envelope::read(frame.into()).unwrap();
        let set: TagSet = table.iter().map(|(tag, _)| TagId(*tag)).collect();
        prop_assert!(envelope.is_current(&set, &now));
        prop_assert_eq!(envelope.holds_empty(), empty);
        prop_assert_eq!(envelope.open(&key(), MAX_ENTRY).unwrap(), entry);
    }

    #[test]
    fn a_flipped_bit_is_found(entry in entries(), place: prop::sample::Index, bit in 0_u8..8) {
        let mut frame = sealed(&entry);
        let place = place.index(frame.len());
        frame[place] ^= 1 << bit;
        prop_assert!(open(&frame).is_err());
    }

    #[test]
    fn a_cut_frame_is_found(entry in entries(), place: prop::sample::Index, more in vec(any::<u8>(), 1..20)) {
        let frame = sealed(&entry);
        prop_assert!(open(&frame[..place.index(frame.len())]).is_err());
        prop_assert!(open(&[&frame[..], &more].concat()).is_err());
    }

    #[test]
    fn garbage_is_refused(mut garbage in vec(any::<u8>(), 0..300), flags in 0_u8..4, tags in 0_u8..4) {
        // Mostly what looks right at first.
        if let [version, garbled_flags, low, high, ..] = &mut garbage[..] {
            (*version, *garbled_flags, *low, *high) = (VERSION, flags, tags, 0);
        }
        prop_assert!(open(&garbage).is_err());
        if let Ok(envelope) = Envelope::read(garbage.into()) {
            prop_assert!(!envelope.is_current(&TagSet::default(), &Stamps::default()) || tags == 0);
        }
    }
}
