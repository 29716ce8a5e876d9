//! L1: entries and their compressed forms in this process, within a budget of bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::encoding::Coding;
use super::entry::Entry;
use super::generation::{Generations, TagPrints};
use super::key::Key;

/// What an item costs beside its bytes: the key and its slot in slab and
/// table, their room to grow, the reference counts, the allocator's own words.
/// Measured: 100,000 entries of 1 KiB.
const ITEM_OVERHEAD: u64 = 128;

/// Each shard has its part of the budget, and no item can be larger than that.
const MIN_SHARD: u64 = 32 << 20;
const MAX_SHARDS: u64 = 64;

/// Guesses how many items fit, which sizes the memory of evicted keys.
const TYPICAL_ITEM: u64 = 2048;

/// Why an item left the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictionReason {
    /// It made room for others.
    Capacity,
    /// A write moved one of its tags; found at its next lookup.
    Invalidated,
    /// It was removed by name: upstream answered a refresh otherwise, say.
    Removed,
    /// It was larger than a shard of the budget and never came in.
    TooLarge,
}

impl EvictionReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [EvictionReason; 4] = [
        EvictionReason::Capacity,
        EvictionReason::Invalidated,
        EvictionReason::Removed,
        EvictionReason::TooLarge,
    ];

    /// The reason as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            EvictionReason::Capacity => "capacity",
            EvictionReason::Invalidated => "invalidated",
            EvictionReason::Removed => "removed",
            EvictionReason::TooLarge => "too_large",
        }
    }
}

/// Entries by key. The weight of what is in it never exceeds the budget.
pub struct Memory {
    /// `None` where the budget is zero.
    cache: Option<Cache<Key, Item, ByteWeighter, DefaultHashBuilder, Evicted>>,
    evictions: [AtomicU64; EvictionReason::ALL.len()],
}

#[derive(Clone)]
enum Item {
    Entry(Entry),
    /// A compressed body, under a key made of the entry's key and its digest:
    /// once the entry has another body, this is never found again.
    Variant(Box<Bytes>),
}

impl Memory {
    /// A memory for `budget` bytes, overhead included; zero stores nothing.
    pub fn new(budget: u64) -> Self {
        Self { cache: (budget > 0).then(|| build(budget)), evictions: Default::default() }
    }

    /// Whether it stores anything.
    pub fn is_enabled(&self) -> bool {
        self.cache.is_some()
    }

    /// The entry under `key`, if it may answer this request: its tags are
    /// those that the request has now, none has moved, and it has a body
    /// unless the request is a HEAD.
    pub fn get(&self, key: &Key, tags: TagPrints, head: bool, generations: &Generations) -> Option<Entry> {
        let Item::Entry(entry) = self.cache.as_ref()?.get(key)? else { return None };
        if !generations.is_current(entry.tags()) {
            self.remove_exactly(key, &entry);
            return None;
        }
        let answers = tags.name(&entry) && (head || !entry.is_head_only());
        answers.then_some(entry)
    }

    /// Keeps `entry`, in place of any other under this key. Whether its tags
    /// are current is the caller's to know; if one moves meanwhile, no lookup
    /// finds it. Whether there was room for it.
    pub fn insert(&self, key: Key, entry: Entry) -> bool {
        self.insert_item(key, Item::Entry(entry))
    }

    /// Keeps `entry`, which was stored elsewhere, unless what is here came later.
    pub fn insert_found(&self, key: Key, entry: Entry) {
        let is_newer = |here: &Entry| here.lifetimes().received_at > entry.lifetimes().received_at;
        match self.cache.as_ref().and_then(|cache| cache.get(&key)) {
            Some(Item::Entry(here)) if is_newer(&here) => {}
            _ => {
                self.insert(key, entry);
            }
        }
    }

    /// Forgets the entry under `key`.
    pub fn remove(&self, key: &Key) {
        if self.cache.as_ref().and_then(|cache| cache.remove(key)).is_some() {
            self.count(EvictionReason::Removed);
        }
    }

    /// The body of `entry`, which is under `key`, in `coding`.
    pub fn variant(&self, key: &Key, entry: &Entry, coding: Coding) -> Option<Bytes> {
        match self.cache.as_ref()?.get(&key.variant(&entry.digest(), coding.as_str()))? {
            Item::Variant(body) => Some(*body),
            Item::Entry(_) => None,
        }
    }

    /// Keeps the compressed body of `entry` and gives it back.
    pub fn insert_variant(&self, key: &Key, entry: &Entry, coding: Coding, body: Vec<u8>) -> Bytes {
        // Without the spare capacity that compressing left.
        let body = Bytes::from(body.into_boxed_slice());
        let variant = key.variant(&entry.digest(), coding.as_str());
        self.insert_item(variant, Item::Variant(Box::new(body.clone())));
        body
    }

    /// How many items it holds: entries and compressed bodies.
    pub fn entries(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.len() as u64)
    }

    /// How many bytes they take, overhead included.
    pub fn bytes(&self) -> u64 {
        self.cache.as_ref().map_or(0, Cache::weight)
    }

    /// How many items have left for this reason.
    pub fn evictions(&self, reason: EvictionReason) -> u64 {
        self.evictions[reason as usize].load(Ordering::Relaxed)
    }

    fn insert_item(&self, key: Key, item: Item) -> bool {
        let Some(cache) = &self.cache else { return false };
        let (mut evicted, mut is_kept) = (Vec::new(), true);
        cache.insert_with_lifecycle(key, item.clone(), &mut evicted);
        for (left, other) in evicted {
            if left != key {
                self.count(EvictionReason::Capacity);
            } else if other.is(&item) {
                self.count(EvictionReason::TooLarge);
                is_kept = false;
            }
        }
        is_kept
    }

    fn remove_exactly(&self, key: &Key, entry: &Entry) {
        let Some(cache) = &self.cache else { return };
        let same = |item: &Item| matches!(item, Item::Entry(stored) if stored.is(entry));
        if cache.remove_if(key, same).is_some() {
            self.count(EvictionReason::Invalidated);
        }
    }

    fn count(&self, reason: EvictionReason) {
        self.evictions[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Item {
    fn is(&self, other: &Item) -> bool {
        match (self, other) {
            (Item::Entry(one), Item::Entry(other)) => one.is(other),
            (Item::Variant(one), Item::Variant(other)) => one.as_ptr() == other.as_ptr(),
            _ => false,
        }
    }
}

fn build(budget: u64) -> Cache<Key, Item, ByteWeighter, DefaultHashBuilder, Evicted> {
    let shards = (budget / MIN_SHARD).clamp(1, MAX_SHARDS);
    // Powers of two are rounded up by the cache, which would make shards smaller than meant.
    let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
    let items = usize::try_from(budget / TYPICAL_ITEM).unwrap_or(usize::MAX).max(64);
    let options = OptionsBuilder::new()
        .shards(shards as usize)
        .estimated_items_capacity(items)
        .weight_capacity(budget)
        .build();
    match options {
        Ok(options) => Cache::with_options(options, ByteWeighter, DefaultHashBuilder::default(), Evicted),
        Err(_) => Cache::with(items, budget, ByteWeighter, DefaultHashBuilder::default(), Evicted),
    }
}

#[derive(Clone)]
struct ByteWeighter;

impl Weighter<Key, Item> for ByteWeighter {
    fn weight(&self, _: &Key, item: &Item) -> u64 {
        let bytes = match item {
            Item::Entry(entry) => entry.size(),
            Item::Variant(body) => body.len() + size_of::<Bytes>(),
        };
        bytes as u64 + ITEM_OVERHEAD
    }
}

/// Hands what leaves during an insert to whoever inserts.
#[derive(Clone)]
struct Evicted;

impl Lifecycle<Key, Item> for Evicted {
    type RequestState = Vec<(Key, Item)>;

    fn on_evict(&self, state: &mut Self::RequestState, key: Key, item: Item) {
        state.push((key, item));
    }
}

#[cfg(test)]
mod tests;
