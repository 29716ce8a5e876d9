use super::*;
use crate::cache::EntryTags;

fn reader(number: u64) -> ReaderId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    ReaderId(id)
}

fn slot(number: u64) -> Slot {
    let tags = EntryTags::new(&[], &[]).prints();
    Slot { key: Key::from([1; 16]), tags, coding: None, reader: reader(number) }
}

#[test]
fn what_is_not_used_makes_room() {
    let bytes = 64 << 10;
    let slots: Cache<u64, Slot> = unit_cache(places((bytes - bytes / READERS_SHARE) / SLOT_BYTES));
    for number in 0..10_000 {
        slots.insert(number, slot(number));
    }
    assert!(slots.len() as u64 * SLOT_BYTES <= bytes);
    assert!(slots.len() as u64 * SLOT_BYTES > bytes / 2);
}

#[test]
fn an_index_without_room_knows_nothing() {
    assert_eq!(Index::new(0).bytes(), 0);
    assert!(Index::new(0).slots.is_none());
    assert_eq!(Index::new(1 << 20).bytes(), 0);
}
