use super::*;
use crate::cache::entry::EntryParts;
use crate::cache::freshness::Lifetimes;
use crate::cache::generation::{EntryTags, Snapshot};
use crate::tag::TagId;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::time::Instant;

fn entry(body: &[u8], head_only: bool, empty: bool, tags: &Snapshot) -> Entry {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
    let parts = EntryParts {
        status: StatusCode::OK,
        headers: &headers,
        body,
        head_only,
        lifetimes: Lifetimes { empty, ..Lifetimes::default() },
        tags,
    };
    Entry::new(&parts).unwrap()
}

fn key(number: u64) -> Key {
    let hash = blake3::hash(&number.to_le_bytes());
    Key::from(<[u8; 16]>::try_from(&hash.as_bytes()[..16]).unwrap())
}

fn untagged() -> TagPrints {
    EntryTags::new(&[], &[]).prints()
}

#[test]
fn an_entry_is_found_until_one_of_its_tags_moves() {
    let (memory, generations) = (Memory::new(1 << 20), Generations::new());
    let tags = EntryTags::new(&[TagId(1)], &[TagId(2)]);
    let snapshot = generations.read(tags.of(false), Instant::now());
    memory.insert(key(1), entry(b"a", false, false, &snapshot));
    assert!(memory.get(&key(1), tags.prints(), false, &generations).is_some());
    generations.advance(&[TagId(2)]);
    assert!(memory.get(&key(1), tags.prints(), false, &generations).is_some());
    let other_tags = EntryTags::new(&[TagId(1), TagId(3)], &[]);
    assert!(memory.get(&key(1), other_tags.prints(), false, &generations).is_none());
    generations.advance(&[TagId(1)]);
    assert!(memory.get(&key(1), tags.prints(), false, &generations).is_none());
    assert_eq!((memory.entries(), memory.evictions(EvictionReason::Invalidated)), (0, 1));
}

#[test]
fn an_empty_answer_dies_with_the_tags_of_emptiness() {
    let (memory, generations) = (Memory::new(1 << 20), Generations::new());
    let tags = EntryTags::new(&[TagId(1)], &[TagId(2)]);
    let snapshot = generations.read(tags.all(), Instant::now());
    memory.insert(key(1), entry(b"[]", false, true, &snapshot));
    assert!(memory.get(&key(1), tags.prints(), false, &generations).is_some());
    generations.advance(&[TagId(2)]);
    assert!(memory.get(&key(1), tags.prints(), false, &generations).is_none());
}

#[test]
fn what_a_head_filled_answers_heads_alone() {
    let (memory, generations) = (Memory::new(1 << 20), Generations::new());
    memory.insert(key(1), entry(b"", true, false, &Snapshot::default()));
    assert!(memory.get(&key(1), untagged(), true, &generations).is_some());
    assert!(memory.get(&key(1), untagged(), false, &generations).is_none());
}

#[test]
fn a_variant_is_that_of_its_body() {
    let memory = Memory::new(1 << 20);
    let (one, other) =
        (entry(b"a", false, false, &Snapshot::default()), entry(b"b", false, false, &Snapshot::default()));
    memory.insert_variant(&key(1), &one, Coding::Gzip, b"compressed".to_vec());
    assert_eq!(memory.variant(&key(1), &one, Coding::Gzip).unwrap(), &b"compressed"[..]);
    assert_eq!(memory.variant(&key(1), &one, Coding::Zstd), None);
    assert_eq!(memory.variant(&key(2), &one, Coding::Gzip), None);
    assert_eq!(memory.variant(&key(1), &other, Coding::Gzip), None, "the body has changed");
}

#[test]
fn a_hundred_thousand_small_entries_fit_and_the_budget_holds() {
    let budget = 192 << 20;
    let (memory, generations) = (Memory::new(budget), Generations::new());
    for number in 0..100_000 {
        memory.insert(key(number), entry(&[b'a'; 1024], false, false, &Snapshot::default()));
    }
    assert_eq!(memory.entries(), 100_000);
    for number in 100_000..150_000 {
        memory.insert(key(number), entry(&[b'a'; 1024], false, false, &Snapshot::default()));
        // Whoever was just told that it is stored finds it.
        assert!(memory.get(&key(number), untagged(), false, &generations).is_some(), "{number}");
    }
    assert!(memory.bytes() <= budget, "{}", memory.bytes());
    assert!(memory.bytes() > budget / 10 * 9);
    assert_eq!(memory.entries() + memory.evictions(EvictionReason::Capacity), 150_000);
}

#[test]
fn entries_in_use_outlive_a_scan() {
    let (memory, generations) = (Memory::new(4 << 20), Generations::new());
    for number in 0..100 {
        memory.insert(key(number), entry(&[b'a'; 1024], false, false, &Snapshot::default()));
    }
    for number in 1000..20_000 {
        memory.insert(key(number), entry(&[b'a'; 1024], false, false, &Snapshot::default()));
        assert!(memory.get(&key(number % 100), untagged(), false, &generations).is_some(), "{number}");
    }
}

#[test]
fn sizes_and_replacements_are_accounted() {
    let (memory, generations) = (Memory::new(1 << 20), Generations::new());
    memory.insert(key(1), entry(b"a", false, false, &Snapshot::default()));
    memory.insert(key(1), entry(b"bb", false, false, &Snapshot::default()));
    assert_eq!((memory.entries(), memory.evictions(EvictionReason::Capacity)), (1, 0));
    assert_eq!(memory.get(&key(1), untagged(), false, &generations).unwrap().body(), b"bb");
    assert!(!memory.insert(key(1), entry(&vec![0; 2 << 20], false, false, &Snapshot::default())));
    assert_eq!(memory.evictions(EvictionReason::TooLarge), 1);
    assert!(memory.get(&key(1), untagged(), false, &generations).is_none(), "the older answer is gone too");
    memory.insert(key(2), entry(b"a", false, false, &Snapshot::default()));
    memory.remove(&key(2));
    assert_eq!((memory.entries(), memory.bytes(), memory.evictions(EvictionReason::Removed)), (0, 0, 1));
}

#[test]
fn no_budget_stores_nothing() {
    let (memory, generations) = (Memory::new(0), Generations::new());
    assert!(!memory.insert(key(1), entry(b"a", false, false, &Snapshot::default())));
    assert!(memory.get(&key(1), untagged(), false, &generations).is_none());
    assert_eq!((memory.entries(), memory.bytes()), (0, 0));
}
