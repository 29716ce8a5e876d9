//! The index: what is known of requests by their spelling.
//!
//! The proxy enters a request once it has answered it from the cache. From
//! then on the front knows which entry heads of this spelling ask for, and who
//! asks. What may change between two requests is not in here: whether tokens
//! and keys still hold, whether the entry is fresh and none of its tags moved.

use std::hash::Hash;
use std::sync::Arc;

use http::HeaderMap;
use http::header::RANGE;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};

use super::spelling::Spelling;
use crate::cache::encoding::negotiate;
use crate::cache::{Coding, Key, RequestDirectives, TagPrints, VaryNames};
use crate::identity::{Caller, Grounds, WriterId};
use crate::plan::ReadPlan;
use crate::proxy::gateway::Settings;
use crate::request::Dialect;
use crate::telemetry::metrics::{Metrics, RouteMetrics};

/// What a slot and a reader take, their places in the caches included.
const SLOT_BYTES: u64 = 104;
const READER_BYTES: u64 = 512;
/// One part in so many of the bytes is the readers'.
const READERS_SHARE: u64 = 4;

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
    /// What the caller's admission rests on; he has to be admitted each time.
    pub grounds: Grounds,
    /// Who he is as a writer: what he has queued has to be seen to by the proxy.
    pub writer: Option<WriterId>,
    /// Which headers upstream reads.
    pub dialect: Dialect,
    /// The route's `Vary`.
    pub vary: Arc<VaryNames>,
    /// The route's name.
    pub route: Arc<str>,
    /// The route's series.
    pub metrics: Arc<RouteMetrics>,
}

/// A request that is entered.
#[derive(Clone, Copy)]
pub struct Entered<'a> {
    /// Its spelling.
    pub spelling: Spelling,
    /// The edition of the settings that it was planned by.
    pub edition: u64,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The settings that it was planned by.
    pub settings: &'a Settings,
}

/// Slots by spelling. Bounded: what is not used makes room.
pub struct Index {
    slots: Option<Cache<Spelling, Slot>>,
    readers: Cache<ReaderId, Arc<Reader>>,
}

impl Index {
    /// An index of at most `bytes`; zero indexes nothing.
    pub fn new(bytes: u64) -> Self {
        let readers = places(bytes / READERS_SHARE / READER_BYTES);
        let slots = places((bytes - bytes / READERS_SHARE) / SLOT_BYTES);
        Self { slots: (slots > 0).then(|| unit_cache(slots)), readers: unit_cache(readers) }
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

    /// Enters a request that was just answered from the cache by `plan`, unless it asks for what the front
    /// doesn't do: a part of an object, or what its `Cache-Control` says.
    pub fn enter_read(&self, asked: &Entered<'_>, plan: &ReadPlan, metrics: &Metrics) {
        let Entered { spelling, edition, headers, settings } = *asked;
        let is_in_part = plan.dialect != Dialect::Rest && headers.contains_key(RANGE);
        let is_directed = plan.policy.obey_request_directives
            && RequestDirectives::of(headers) != RequestDirectives::default();
        if is_in_part || is_directed {
            return;
        }
        let slot = Slot {
            key: plan.key,
            tags: plan.entry_tags.prints(),
            coding: negotiate(headers),
            reader: ReaderId::of(&plan.caller, &plan.route.name, plan.dialect, edition),
        };
        self.enter(spelling, slot, || Reader {
            edition,
            grounds: plan.caller.grounds(),
            writer: plan.caller.writer(),
            dialect: plan.dialect,
            vary: settings.vary(plan),
            route: plan.route.name.as_str().into(),
            metrics: metrics.route(&plan.route.name),
        });
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> u64 {
        let slots = self.slots.as_ref().map_or(0, |slots| slots.len() as u64 * SLOT_BYTES);
        slots + self.readers.len() as u64 * READER_BYTES
    }
}

fn places(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A cache of so many items, without room for the keys of those that left.
fn unit_cache<K: Eq + Hash + Clone, V: Clone>(items: usize) -> Cache<K, V> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity(items.max(1))
        .weight_capacity(items.max(1) as u64)
        .ghost_allocation(0.0)
        .build();
    match options {
        Ok(options) => Cache::with_options(
            options,
            UnitWeighter,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ),
        Err(_) => Cache::new(items),
    }
}

#[cfg(test)]
mod tests;
