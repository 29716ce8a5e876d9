//! Who has queued writes, to be asked on each read without a lock.

use std::sync::atomic::{AtomicU32, Ordering};

use super::id::CallerId;

/// Counters; callers that share one cost each other a look-up.
const COUNTERS: usize = 1 << 16;

/// Counts of queued writes by fingerprints of their callers.
pub struct Presence(Box<[AtomicU32]>);

impl Presence {
    pub fn new() -> Self {
        Self((0..COUNTERS).map(|_| AtomicU32::new(0)).collect())
    }

    /// Before a write of the caller becomes visible.
    pub fn add(&self, caller: CallerId) {
        self.counter(caller).fetch_add(1, Ordering::AcqRel);
    }

    /// After a write of the caller has gone.
    pub fn remove(&self, caller: CallerId) {
        self.counter(caller).fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether the caller may have queued writes.
    pub fn may_have(&self, caller: CallerId) -> bool {
        self.counter(caller).load(Ordering::Acquire) > 0
    }

    /// Ids are fingerprints: two bytes of one spread evenly.
    fn counter(&self, caller: CallerId) -> &AtomicU32 {
        &self.0[usize::from(u16::from_be_bytes([caller.0[0], caller.0[1]]))]
    }
}
