//! Generations: how a write makes every answer that it may have changed
//! unusable, at once and without searching for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::changes::Changes;
use super::entry::Entry;
use crate::tag::TagId;

/// Chunks of counters, and counters in each: 2^20 counters, 8 MiB once all are in use.
const CHUNKS: usize = 1 << 10;
const CHUNK: usize = 1 << 10;

/// Holds kept one by one. Beyond, one hold stands for everything.
const MAX_HOLDS: usize = 65_536;

/// How often expired holds are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A set of tags, sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TagSet(SmallVec<[TagId; 8]>);

impl TagSet {
    /// The tags in the set, ascending.
    pub fn as_slice(&self) -> &[TagId] {
        &self.0
    }
}

/// Tags that ascend, as a number: two sets that differ have different ones, as a rule.
fn fingerprint(tags: impl Iterator<Item = TagId>) -> u64 {
    // Tags are fingerprints themselves; an odd factor keeps their order in.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    tags.fold(FACTOR, |sum, tag| (sum ^ tag.0).wrapping_mul(FACTOR).rotate_left(29))
}

impl FromIterator<TagId> for TagSet {
    fn from_iter<I: IntoIterator<Item = TagId>>(tags: I) -> Self {
        let mut tags: SmallVec<[TagId; 8]> = tags.into_iter().collect();
        tags.sort_unstable();
        tags.dedup();
        TagSet(tags)
    }
}

/// The tags that a read's answer carries. Which set counts is known once the
/// answer is: one without rows depends on more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryTags {
    with_rows: TagSet,
    empty: TagSet,
}

impl EntryTags {
    /// Every answer carries `tags`; one without rows carries `if_empty` as well.
    pub fn new(tags: &[TagId], if_empty: &[TagId]) -> Self {
        Self {
            with_rows: tags.iter().copied().collect(),
            empty: tags.iter().chain(if_empty).copied().collect(),
        }
    }

    /// The tags of an answer that is `empty` or not.
    pub fn of(&self, empty: bool) -> &TagSet {
        if empty { &self.empty } else { &self.with_rows }
    }

    /// All tags that the answer may come to carry: what a fill reads beforehand.
    pub fn all(&self) -> &TagSet {
        &self.empty
    }

    /// Both sets, by their fingerprints.
    pub fn prints(&self) -> TagPrints {
        TagPrints {
            with_rows: fingerprint(self.with_rows.0.iter().copied()),
            empty: fingerprint(self.empty.0.iter().copied()),
        }
    }
}

/// The fingerprints of [`EntryTags`]: enough to tell whether an entry's are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagPrints {
    with_rows: u64,
    empty: u64,
}

impl TagPrints {
    /// Whether the entry carries exactly these tags.
    pub fn name(self, entry: &Entry) -> bool {
        let print = if entry.is_empty() { self.empty } else { self.with_rows };
        print == fingerprint(entry.tags().map(|(tag, _)| tag))
    }
}

/// Tags with their generations as read at one time, before a fetch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Snapshot {
    /// Ascending by tag, each tag once.
    tags: SmallVec<[(TagId, u64); 8]>,
    /// A hold was on one of the tags when they were read.
    held: bool,
}

impl Snapshot {
    /// Whether one of the tags was held.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The tags with their generations, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (TagId, u64)> + '_ {
        self.tags.iter().copied()
    }

    /// The tags that an entry carries, ascending: none of them was held.
    pub fn carried(tags: impl Iterator<Item = (TagId, u64)>) -> Self {
        Self { tags: tags.collect(), held: false }
    }

    /// This snapshot without the tags that `set` doesn't name.
    #[must_use]
    pub fn narrowed_to(&self, set: &TagSet) -> Self {
        let named = |(tag, _): &(TagId, u64)| set.as_slice().binary_search(tag).is_ok();
        Self { tags: self.tags.iter().copied().filter(named).collect(), held: self.held }
    }
}

/// Why an answer must not be kept, by its tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// A write touched what the answer was made from after the fetch began.
    /// Those who waited for the answer may still be given it.
    Moved,
    /// What upstream says about the tags can't be trusted yet.
    Held,
    /// There is no place for it. Those who waited may still be given it.
    Refused,
}

/// The generation of every tag, as striped counters: tags that share a counter
/// are invalidated together, which costs a fill and is never wrong.
///
/// Memory order. A fill reads its tags' generations, then asks upstream; a
/// write hears from upstream, then moves the generations, then passes the
/// answer on. Whoever asks after having seen that answer must find the new
/// generation, and no fill may pair a new generation with an answer from
/// before the write. Both need the counter's accesses to stay between the I/O
/// around them, across different counters too: all of them are `SeqCst`,
/// which costs a reader no more than `Acquire` on the machines served.
pub struct Generations {
    /// A chunk is made when one of its counters first moves; until then they are zero.
    chunks: Box<[OnceLock<Box<[AtomicU64]>>]>,
    /// Whether `holds` may have any; spares lookups and fills the lock.
    any_hold: AtomicBool,
    holds: Mutex<Holds>,
    changes: Arc<Changes>,
}

#[derive(Default)]
struct Holds {
    by_tag: HashMap<TagId, Instant>,
    everything: Option<Instant>,
    swept: Option<Instant>,
}

impl Default for Generations {
    fn default() -> Self {
        Self::new()
    }
}

impl Generations {
    /// All generations at zero, nothing held.
    pub fn new() -> Self {
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            any_hold: AtomicBool::new(false),
            holds: Mutex::default(),
            changes: Arc::new(Changes::new()),
        }
    }

    /// Tells those who watch tags when these move.
    pub fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// The generations of `tags` now. To be read before upstream is asked.
    pub fn read(&self, tags: &TagSet, now: Instant) -> Snapshot {
        Snapshot {
            tags: tags.as_slice().iter().map(|tag| (*tag, self.generation(*tag))).collect(),
            held: self.held(tags, now),
        }
    }

    /// Gives each tag a generation that it never had. From the return on, no
    /// entry that carries one of them is current.
    pub fn advance(&self, tags: &[TagId]) {
        for tag in tags {
            let (chunk, index) = position(*tag);
            let counters = self.chunks[chunk].get_or_init(|| (0..CHUNK).map(|_| AtomicU64::new(0)).collect());
            counters[index].fetch_add(1, Ordering::SeqCst);
        }
        self.changes.notify(tags);
    }

    /// Whether none of these tags has moved since it had this generation.
    pub fn is_current(&self, mut tags: impl Iterator<Item = (TagId, u64)>) -> bool {
        tags.all(|(tag, generation)| self.generation(tag) == generation)
    }

    /// Answers about these tags are not kept until `until`: neither those
    /// asked for before, nor those asked for meanwhile.
    pub fn hold(&self, tags: &[TagId], until: Instant, now: Instant) {
        let mut holds = self.holds.lock();
        holds.sweep(now);
        holds.add(tags, until);
        self.any_hold.store(true, Ordering::SeqCst);
    }

    /// Whether one of the tags is held.
    pub fn held(&self, tags: &TagSet, now: Instant) -> bool {
        if !self.any_hold.load(Ordering::SeqCst) {
            return false;
        }
        let mut holds = self.holds.lock();
        holds.sweep(now);
        if holds.is_empty() {
            self.any_hold.store(false, Ordering::SeqCst);
        }
        let mut ends =
            tags.as_slice().iter().filter_map(|tag| holds.by_tag.get(tag)).chain(&holds.everything);
        ends.any(|end| *end > now)
    }

    /// Whether an answer whose fetch began with `snapshot` may be kept.
    ///
    /// # Errors
    ///
    /// [`NotKept`] if a tag has moved, or was or is held.
    pub fn may_keep(&self, snapshot: &Snapshot, now: Instant) -> Result<(), NotKept> {
        let tags: TagSet = snapshot.iter().map(|(tag, _)| tag).collect();
        if snapshot.held || self.held(&tags, now) {
            Err(NotKept::Held)
        } else if !self.is_current(snapshot.iter()) {
            Err(NotKept::Moved)
        } else {
            Ok(())
        }
    }

    fn generation(&self, tag: TagId) -> u64 {
        let (chunk, index) = position(tag);
        self.chunks[chunk].get().map_or(0, |counters| counters[index].load(Ordering::SeqCst))
    }
}

impl Holds {
    fn is_empty(&self) -> bool {
        self.by_tag.is_empty() && self.everything.is_none()
    }

    fn add(&mut self, tags: &[TagId], until: Instant) {
        if self.by_tag.len() + tags.len() > MAX_HOLDS {
            let latest = self.by_tag.values().copied().chain(self.everything).fold(until, Instant::max);
            self.by_tag.clear();
            self.everything = Some(latest);
            return;
        }
        for tag in tags {
            let end = self.by_tag.entry(*tag).or_insert(until);
            *end = until.max(*end);
        }
    }

    /// Forgets what has expired, at most once in [`SWEEP_INTERVAL`].
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|last| now.saturating_duration_since(last) < SWEEP_INTERVAL) {
            return;
        }
        self.swept = Some(now);
        self.everything = self.everything.filter(|end| *end > now);
        self.by_tag.retain(|_, end| *end > now);
    }
}

/// A tag's chunk and place in it. Tags are fingerprints: any bits will do.
fn position(tag: TagId) -> (usize, usize) {
    let low = usize::from((tag.0 & 0x3ff) as u16);
    let high = usize::from(((tag.0 >> 10) & 0x3ff) as u16);
    (high, low)
}

#[cfg(test)]
mod tests;
