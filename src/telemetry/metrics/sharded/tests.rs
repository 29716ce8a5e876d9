use std::thread;

use prometheus_client::encoding::text;
use prometheus_client::metrics::{counter, family::Family, histogram};
use prometheus_client::registry::Registry;
use proptest::prelude::*;

use super::*;

/// The bounds as they are shown, in seconds.
const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type Labels = [(&'static str, &'static str); 2];

const LABELS: Labels = [("route", "profiles"), ("outcome", "hit")];

fn encoded(metric: impl EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static) -> String {
    let mut registry = Registry::with_prefix("sluice");
    registry.register("shown", "As it is shown", metric);
    let mut encoded = String::new();
    text::encode(&mut encoded, &registry).unwrap();
    encoded
}

/// What this histogram and the library's show after the same durations.
fn histograms(durations: &[Duration]) -> [String; 2] {
    let ours = Family::<Labels, Histogram>::default();
    let theirs =
        Family::<Labels, histogram::Histogram>::new_with_constructor(|| histogram::Histogram::new(SECONDS));
    for duration in durations {
        ours.get_or_create(&LABELS).observe(*duration);
        theirs.get_or_create(&LABELS).observe(duration.as_secs_f64());
    }
    [encoded(ours), encoded(theirs)]
}

/// The sum of a histogram, and everything else about it.
fn split(encoded: &str) -> (f64, Vec<&str>) {
    let (sums, rest): (Vec<_>, Vec<_>) = encoded.lines().partition(|line| line.contains("_sum"));
    let [sum] = sums[..] else { panic!("{encoded}") };
    (sum.rsplit(' ').next().unwrap().parse().unwrap(), rest)
}

#[test]
fn counters_show_what_the_library_s_show() {
    let (ours, theirs) = (Counter::default(), counter::Counter::<u64>::default());
    for amount in [0, 1, 41, 1 << 40] {
        ours.add(amount);
        theirs.inc_by(amount);
    }
    assert_eq!(encoded(ours), encoded(theirs));

    let ours = Family::<Labels, Counter>::default();
    ours.get_or_create(&LABELS).add(3);
    let theirs = Family::<Labels, counter::Counter>::default();
    theirs.get_or_create(&LABELS).inc_by(3);
    assert_eq!(encoded(ours), encoded(theirs));
}

#[test]
fn histograms_show_what_the_library_s_show() {
    // Halves and quarters of seconds add up without rounding.
    let several = [0, 250, 500, 1_000, 2_500, 5_000, 10_000, 86_400_000].map(Duration::from_millis);
    for durations in [&[][..], &several] {
        let [ours, theirs] = histograms(durations);
        assert_eq!(ours, theirs, "{durations:?}");
    }
    for nanoseconds in [1, 12_345, 333_333_333, 60_000_000_000, u64::MAX] {
        let [ours, theirs] = histograms(&[Duration::from_nanos(nanoseconds)]);
        assert_eq!(ours, theirs, "{nanoseconds} ns");
    }
}

#[test]
fn what_equals_a_bound_is_within_it() {
    for (index, seconds) in SECONDS.into_iter().enumerate() {
        let bound = Duration::from_secs_f64(seconds);
        for (duration, bucket) in [
            (bound - Duration::from_nanos(1), index),
            (bound, index),
            (bound + Duration::from_nanos(1), index + 1),
        ] {
            let histogram = Histogram::default();
            histogram.observe(duration);
            let counts: Vec<_> =
                (0..BUCKETS).map(|index| histogram.0.total(|shard| &shard.buckets[index])).collect();
            let expected: Vec<_> = (0..BUCKETS).map(|index| u64::from(index == bucket)).collect();
            assert_eq!(counts, expected, "{duration:?}");
        }
    }
}

#[test]
fn a_duration_without_end_is_counted() {
    let histogram = Histogram::default();
    histogram.observe(Duration::MAX);
    assert_eq!(histogram.0.total(|shard| &shard.buckets[BUCKETS - 1]), 1);
    assert_eq!(histogram.0.total(|shard| &shard.nanoseconds), u64::MAX);
}

#[test]
fn sums_over_threads_are_exact() {
    // More threads than shards: some share one.
    const THREADS: u64 = 2 * MAX_SHARDS as u64;
    const ROUNDS: u64 = 1_000;
    let (counter, histogram) = (Counter::default(), Histogram::default());
    thread::scope(|scope| {
        for thread in 1..=THREADS {
            let (counter, histogram) = (counter.clone(), histogram.clone());
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    counter.add(thread);
                    histogram.observe(Duration::from_nanos(thread * 100_000 + round));
                }
            });
        }
    });
    let threads = THREADS * (THREADS + 1) / 2;
    assert_eq!(counter.total(), threads * ROUNDS);
    let nanoseconds = threads * 100_000 * ROUNDS + THREADS * (ROUNDS * (ROUNDS - 1) / 2);
    assert_eq!(histogram.0.total(|shard| &shard.nanoseconds), nanoseconds);
    let counts: Vec<_> = (0..4).map(|index| histogram.0.total(|shard| &shard.buckets[index])).collect();
    // The first thread's first round takes as long as the first bound.
    assert_eq!(counts, [1, 2 * ROUNDS - 1, 2 * ROUNDS + 1, 5 * ROUNDS]);
}

#[test]
fn threads_in_a_row_write_to_different_shards() {
    let counter = Counter::default();
    let shards = counter.0.0.len();
    assert!(shards.is_power_of_two() && (2..=MAX_SHARDS).contains(&shards));
    // Other tests' threads take numbers as well: this many in a row cannot all meet.
    for _ in 0..MAX_SHARDS {
        let counter = counter.clone();
        thread::spawn(move || counter.add(1)).join().unwrap();
    }
    let used = counter.0.0.iter().filter(|shard| shard.0.load(Ordering::Relaxed) > 0).count();
    assert!(used > 1, "all of {shards} shards but one are unused");
}

#[test]
fn shards_share_no_cache_line() {
    assert_eq!(size_of::<CounterShard>(), 64);
    assert_eq!(align_of::<HistogramShard>(), 64);
    assert!(size_of::<HistogramShard>() * MAX_SHARDS <= 3 << 10);
}

proptest! {
    #[test]
    fn any_durations_show_as_the_library_shows_them(
        durations in prop::collection::vec(
            prop_oneof![0..200_000_u64, 0..20_000_000_000_u64, prop::sample::select(&BOUNDS[..])],
            1..50,
        ),
    ) {
        let durations: Vec<_> = durations.into_iter().map(Duration::from_nanos).collect();
        let [ours, theirs] = histograms(&durations);
        let ((our_sum, ours), (their_sum, theirs)) = (split(&ours), split(&theirs));
        prop_assert_eq!(ours, theirs);
        // Ours is exact; the library's rounds with each duration.
        prop_assert_eq!(our_sum, durations.iter().sum::<Duration>().as_secs_f64());
        prop_assert!((our_sum - their_sum).abs() <= 1e-9 * our_sum);
    }
}
