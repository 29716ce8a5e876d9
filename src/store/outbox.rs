//! The outbox: invalidations that Redis has not been told of yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::tag::{Tag, TagId};

/// Tags kept one by one, of either kind. Beyond, everything is invalidated.
const MAX_TAGS: usize = 65_536;

/// Tags in one batch.
const BATCH: usize = 1_024;

/// How often everything is invalidated while too much waits for its time.
const OVERFLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Invalidations that wait to be sent, and those whose time is yet to come.
///
/// It is empty only once all that was pushed has been sent: what is on its way
/// still counts. While it isn't, Redis may have entries that it ought not to.
#[derive(Default)]
pub struct Outbox {
    /// Whether `unsent` has any. Changed under its lock.
    waiting: AtomicBool,
    unsent: Mutex<Unsent>,
    later: Mutex<Later>,
}

/// Tags to be invalidated, and for how long no answers about them are to be
/// kept (zero: those asked for from now on may be).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidation {
    /// Never empty.
    pub tags: Vec<TagId>,
    /// The hold.
    pub hold: Duration,
}

#[derive(Default)]
struct Unsent {
    /// The longest hold that is wanted for each.
    tags: HashMap<TagId, Duration>,
    /// Too many were pushed: everything is to be invalidated, with this hold.
    everything: Option<Duration>,
    /// Batches taken that are neither sent nor back.
    on_the_way: usize,
}

#[derive(Default)]
struct Later {
    /// By time, then by a number of its own.
    by_time: BTreeMap<(Instant, u64), Invalidation>,
    last_number: u64,
    tags: usize,
    overflow: Option<Overflow>,
}

/// Stands for more than [`MAX_TAGS`]: everything is invalidated again and
/// again, so that each is at most an interval late.
#[derive(Clone, Copy)]
struct Overflow {
    next: Instant,
    last: Instant,
    hold: Duration,
}

impl Outbox {
    /// Nothing in it.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether all that was pushed has been sent. One load.
    pub fn is_empty(&self) -> bool {
        !self.waiting.load(Ordering::SeqCst)
    }

    /// Adds an invalidation that could not be sent.
    pub fn push(&self, tags: &[TagId], hold: Duration) {
        let mut unsent = self.unsent.lock();
        unsent.add(tags, hold);
        self.waiting.store(unsent.waits(), Ordering::SeqCst);
    }

    /// Takes some to be sent now. `None`: there is nothing more to take.
    pub fn take(self: &Arc<Self>) -> Option<Batch> {
        let invalidation = self.unsent.lock().take()?;
        Some(Batch { outbox: Arc::clone(self), invalidation, sent: false })
    }

    /// Adds an invalidation that is to be made at `at`.
    pub fn later(&self, tags: &[TagId], hold: Duration, at: Instant) {
        if !tags.is_empty() {
            self.later.lock().add(tags, hold, at);
        }
    }

    /// Takes those whose time has come. They are the caller's from now on.
    pub fn due(&self, now: Instant) -> Vec<Invalidation> {
        self.later.lock().due(now)
    }

    /// A batch was sent, or is back to be sent again.
    fn returned(&self, batch: &Invalidation, sent: bool) {
        let mut unsent = self.unsent.lock();
        unsent.on_the_way -= 1;
        if !sent {
            unsent.add(&batch.tags, batch.hold);
        }
        self.waiting.store(unsent.waits(), Ordering::SeqCst);
    }
}

/// Invalidations that are being sent. Dropped, they are back in the outbox
/// unless [`Batch::sent`] was called.
#[must_use]
pub struct Batch {
    outbox: Arc<Outbox>,
    invalidation: Invalidation,
    sent: bool,
}

impl Batch {
    /// The tags.
    pub fn tags(&self) -> &[TagId] {
        &self.invalidation.tags
    }

    /// For how long no answers about them are to be kept.
    pub fn hold(&self) -> Duration {
        self.invalidation.hold
    }

    /// Redis has been told.
    pub fn sent(mut self) {
        self.sent = true;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.outbox.returned(&self.invalidation, self.sent);
    }
}

impl Unsent {
    fn waits(&self) -> bool {
        !self.tags.is_empty() || self.everything.is_some() || self.on_the_way > 0
    }

    fn add(&mut self, tags: &[TagId], hold: Duration) {
        if tags.is_empty() {
            return;
        }
        if let Some(longest) = &mut self.everything {
            *longest = hold.max(*longest);
            return;
        }
        for tag in tags {
            let longest = self.tags.entry(*tag).or_insert(hold);
            *longest = hold.max(*longest);
        }
        if self.tags.len() > MAX_TAGS {
            self.everything = self.tags.values().copied().max();
            self.tags = HashMap::new();
        }
    }

    /// Those of one hold, at most [`BATCH`].
    fn take(&mut self) -> Option<Invalidation> {
        let invalidation = if let Some(hold) = self.everything.take() {
            Invalidation { tags: vec![Tag::All.id()], hold }
        } else {
            let hold = *self.tags.values().next()?;
            let alike = self.tags.iter().filter(|(_, other)| **other == hold);
            let tags: Vec<TagId> = alike.map(|(tag, _)| *tag).take(BATCH).collect();
            for tag in &tags {
                self.tags.remove(tag);
            }
            Invalidation { tags, hold }
        };
        self.on_the_way += 1;
        Some(invalidation)
    }
}

impl Later {
    fn add(&mut self, tags: &[TagId], hold: Duration, at: Instant) {
        if let Some(overflow) = &mut self.overflow {
            overflow.next = at.min(overflow.next);
            overflow.last = at.max(overflow.last);
            overflow.hold = hold.max(overflow.hold);
            return;
        }
        self.last_number += 1;
        self.tags += tags.len();
        let invalidation = Invalidation { tags: tags.to_vec(), hold };
        self.by_time.insert((at, self.last_number), invalidation);
        if self.tags > MAX_TAGS {
            self.overflow = self.everything();
            self.by_time = BTreeMap::new();
            self.tags = 0;
        }
    }

    fn everything(&self) -> Option<Overflow> {
        let ((next, _), _) = self.by_time.first_key_value()?;
        let ((last, _), _) = self.by_time.last_key_value()?;
        let hold = self.by_time.values().map(|invalidation| invalidation.hold).max()?;
        Some(Overflow { next: *next, last: *last, hold })
    }

    fn due(&mut self, now: Instant) -> Vec<Invalidation> {
        let mut due = Vec::new();
        while let Some(first) = self.by_time.first_entry().filter(|first| first.key().0 <= now) {
            let invalidation = first.remove();
            self.tags -= invalidation.tags.len();
            due.push(invalidation);
        }
        if let Some(overflow) = self.overflow.filter(|overflow| overflow.next <= now) {
            due.push(Invalidation { tags: vec![Tag::All.id()], hold: overflow.hold });
            let more = now < overflow.last;
            let next = (now + OVERFLOW_INTERVAL).min(overflow.last);
            self.overflow = more.then_some(Overflow { next, ..overflow });
        }
        due
    }
}

#[cfg(test)]
mod tests;
