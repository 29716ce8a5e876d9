//! `[queue]`: how deferred writes are queued and replayed.

use std::time::Duration;

use super::section::{Section, Zero};

/// `[queue]`. Of the times only `linger` and `drain_wait` may be zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Queued writes, all callers together. Beyond, writes are forwarded.
    pub max_writes: usize,
    /// Queued writes of one caller, at most `max_writes`.
    pub max_writes_per_caller: usize,
    /// How old a queued write may get; then it is rejected.
    pub max_wait: Duration,
    /// How many of upstream's answers may call for another try; then it is rejected.
    pub max_attempts: u32,
    /// How long a write waits for later ones of its row; shorter than `max_wait`.
    pub linger: Duration,
    /// How many rows are replayed side by side.
    pub concurrency: usize,
    /// The pause before a write is tried again, at first.
    pub backoff_first: Duration,
    /// The longest pause, at least `backoff_first`.
    pub backoff_max: Duration,
    /// The longest that a request waits for queued writes.
    pub drain_wait: Duration,
}

impl Default for Queue {
    /// What `[queue]` means where it says nothing.
    fn default() -> Self {
        Self {
            max_writes: 100_000,
            max_writes_per_caller: 1000,
            max_wait: Duration::from_secs(24 * 60 * 60),
            max_attempts: 12,
            linger: Duration::ZERO,
            concurrency: 16,
            backoff_first: Duration::from_millis(200),
            backoff_max: Duration::from_secs(60),
            drain_wait: Duration::from_secs(2),
        }
    }
}

/// What the process knows of each queued write is in memory.
const MOST_WRITES: usize = 1_000_000;
const MOST_ATTEMPTS: usize = 1000;
const MOST_CONCURRENCY: usize = 1024;

/// Reads the section.
pub(super) fn read(section: &mut Section<'_>) -> Queue {
    let default = Queue::default();
    let max_writes = section.integer("max_writes", default.max_writes, 1..=MOST_WRITES);
    let max_wait = section.duration("max_wait", default.max_wait, Zero::Refused);
    let max_attempts = section.integer("max_attempts", default.max_attempts as usize, 1..=MOST_ATTEMPTS);
    let (backoff_first, backoff_max) = section.table("backoff", |section| backoff(section, &default));
    Queue {
        max_writes,
        max_writes_per_caller: max_writes_per_caller(section, &default, max_writes),
        max_wait,
        max_attempts: u32::try_from(max_attempts).unwrap_or(default.max_attempts),
        linger: linger(section, &default, max_wait),
        concurrency: section.integer("concurrency", default.concurrency, 1..=MOST_CONCURRENCY),
        backoff_first,
        backoff_max,
        drain_wait: section.duration("drain_wait", default.drain_wait, Zero::Allowed),
    }
}

/// The default gives way to a smaller `max_writes`; what is stated has to fit.
fn max_writes_per_caller(section: &mut Section<'_>, default: &Queue, max_writes: usize) -> usize {
    let default = default.max_writes_per_caller.min(max_writes);
    let most = section.integer("max_writes_per_caller", default, 1..=MOST_WRITES);
    if most > max_writes {
        section.problem_with(
            "max_writes_per_caller",
            "is larger than `max_writes`",
            "lower it, or raise `max_writes`",
        );
    }
    most.min(max_writes)
}

fn linger(section: &mut Section<'_>, default: &Queue, max_wait: Duration) -> Duration {
    let linger = section.duration("linger", default.linger, Zero::Allowed);
    if linger >= max_wait {
        section.problem_with(
            "linger",
            "is not shorter than `max_wait`",
            "lower it: a write would be too old before it is replayed",
        );
    }
    linger
}

/// The default of `max` gives way to a longer `first`; what is stated has to fit.
fn backoff(section: &mut Section<'_>, default: &Queue) -> (Duration, Duration) {
    let first = section.duration("first", default.backoff_first, Zero::Refused);
    let max = section.duration("max", default.backoff_max.max(first), Zero::Refused);
    if max < first {
        section.problem_with("max", "is shorter than `first`", "raise it, or lower `first`");
    }
    (first, max.max(first))
}
