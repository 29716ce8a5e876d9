//! Counters and histograms that many threads write at once and a scrape reads
//! now and then. A thread writes to a shard of its own, so that no cache line
//! travels between the cores; a scrape adds the shards up.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds in nanoseconds: hits take microseconds, forwarded requests
/// seconds. What equals a bound is within it.
const BOUNDS: [u64; 16] = {
    const MICROSECOND: u64 = 1_000;
    const MILLISECOND: u64 = 1_000_000;
    const SECOND: u64 = 1_000_000_000;
    [
        100 * MICROSECOND,
        250 * MICROSECOND,
        500 * MICROSECOND,
        MILLISECOND,
        2_500 * MICROSECOND,
        5 * MILLISECOND,
        10 * MILLISECOND,
        25 * MILLISECOND,
        50 * MILLISECOND,
        100 * MILLISECOND,
        250 * MILLISECOND,
        500 * MILLISECOND,
        SECOND,
        2_500 * MILLISECOND,
        5 * SECOND,
        10 * SECOND,
    ]
};

/// The bounded buckets, and one for whatever takes longer.
const BUCKETS: usize = BOUNDS.len() + 1;

/// However many cores there are: a histogram takes at most 3 KiB.
const MAX_SHARDS: usize = 16;

/// A power of two. There are more shards than cores because threads that count
/// only now and then take their turn too, and workers should not meet.
static SHARDS: LazyLock<usize> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(MAX_SHARDS, usize::from);
    cores.saturating_mul(2).min(MAX_SHARDS).next_power_of_two()
});

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The running number of this thread among those that have counted anything.
    static THREAD: usize = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug)]
struct Sharded<T>(Arc<[T]>);

impl<T> Sharded<T> {
    /// The shard that this thread writes to. Threads may share one.
    fn own(&self) -> &T {
        let shards = &self.0;
        &shards[THREAD.with(|number| *number) & (shards.len() - 1)]
    }

    /// The total of what `read` says of each shard. Like a counter, it wraps around.
    fn total(&self, read: impl Fn(&T) -> &AtomicU64) -> u64 {
        self.0.iter().map(|shard| read(shard).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self((0..*SHARDS).map(|_| T::default()).collect())
    }
}

impl<T> Clone for Sharded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Alone in its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct CounterShard(AtomicU64);

/// A count that only grows. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counter(Sharded<CounterShard>);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.own().0.fetch_add(amount, Ordering::Relaxed);
    }

    /// What all threads have added so far.
    fn total(&self) -> u64 {
        self.0.total(|shard| &shard.0)
    }
}

impl TypedMetric for Counter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Counter {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, _, u64>(&self.total(), None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// In cache lines of its own. The first holds what short durations touch.
#[derive(Debug, Default)]
#[repr(align(64))]
struct HistogramShard {
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// How many durations were how long. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Sharded<HistogramShard>);

impl Histogram {
    /// Counts a duration. One of more than 584 years counts as 584 years.
    pub fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // From the start: the durations that matter are the short ones.
        let bucket = BOUNDS.iter().position(|bound| nanoseconds <= *bound).unwrap_or(BOUNDS.len());
        let shard = self.0.own();
        shard.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        shard.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let seconds = |nanoseconds| Duration::from_nanos(nanoseconds).as_secs_f64();
        let buckets: [(f64, u64); BUCKETS] = std::array::from_fn(|index| {
            let bound = BOUNDS.get(index).copied().map_or(f64::INFINITY, seconds);
            (bound, self.0.total(|shard| &shard.buckets[index]))
        });
        // Taken from the buckets, the count agrees with them whatever is counted meanwhile.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = seconds(self.0.total(|shard| &shard.nanoseconds));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests;
