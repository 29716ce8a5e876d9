//! The index: what is known of requests by their spelling.
//!
//! The proxy enters a request once it has answered it from the cache. From
//! then on the front knows which entry heads of this spelling ask for, and who
//! asks. What may change between two requests is not in here: whether tokens
//! and keys still hold, whether the entry is fresh and none of its tags moved.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::spelling::Spelling;
use crate::cache::{Coding, Key, TagPrints, VaryNames};
use crate::identity::Caller;
use crate::request::Dialect;
use crate::telemetry::metrics::RouteMetrics;

/// What a slot takes, its place in the cache included.
const SLOT_BYTES: u64 = 104;
/// Readers remembered at most, as many as there are verified tokens.
const MAX_READERS: usize = 65_536;

/// What is known of a spelling.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// The entry that is asked for.
    pub key: Key,
    /// The tags that the entry must carry.
    pub tags: TagPrints,
    /// The coding that the client prefers for what is compressible.
    pub coding: Option<Coding>,
    /// Who asks, on which route.
    pub reader: ReaderId,
}

/// Names a [`Reader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReaderId([u8; 16]);

impl ReaderId {
    /// Names `caller` on a route, under an edition of the rules.
    pub fn of(caller: &Caller, route: &str, dialect: Dialect, edition: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&caller.fingerprint()).update(&edition.to_le_bytes()).update(&[dialect as u8]);
        hasher.update(route.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }
}

/// A caller on a route.
pub struct Reader {
    /// The edition of the rules that this was found out under.
    pub edition: u64,
    /// Who asks. Whether he is admitted is another question each time.
    pub caller: Caller,
    /// Which headers upstream reads.
    pub dialect: Dialect,
    /// The route's `Vary`.
    pub vary: Arc<VaryNames>,
    /// The route's name.
    pub route: Arc<str>,
    /// The route's series.
    pub metrics: Arc<RouteMetrics>,
}

/// Slots by spelling. Bounded: what is not used makes room.
pub struct Index {
    slots: Option<Cache<Spelling, Slot>>,
    readers: Cache<ReaderId, Arc<Reader>>,
}

impl Index {
    /// An index of at most `bytes`, its readers aside; zero indexes nothing.
    pub fn new(bytes: u64) -> Self {
        let slots = usize::try_from(bytes / SLOT_BYTES).unwrap_or(usize::MAX);
        Self { slots: (slots > 0).then(|| Cache::new(slots)), readers: Cache::new(MAX_READERS) }
    }

    /// What is known of a spelling.
    pub fn get(&self, spelling: &Spelling) -> Option<(Slot, Arc<Reader>)> {
        let slot = self.slots.as_ref()?.get(spelling)?;
        let reader = self.readers.get(&slot.reader)?;
        Some((slot, reader))
    }

    /// Enters what was found out, in the place of what was known. `reader` is
    /// made where it isn't known yet.
    pub fn enter(&self, spelling: Spelling, slot: Slot, reader: impl FnOnce() -> Reader) {
        let Some(slots) = &self.slots else { return };
        if self.readers.get(&slot.reader).is_none() {
            self.readers.insert(slot.reader, Arc::new(reader()));
        }
        slots.insert(spelling, slot);
    }

    /// How many bytes it takes, its readers aside.
    pub fn bytes(&self) -> u64 {
        self.slots.as_ref().map_or(0, |slots| slots.len() as u64 * SLOT_BYTES)
    }
}
