//! What the tests are made of: real servers, a scriptable faulty one, raw
//! HTTP, tokens, and the `sluice` binary as a child process.
//!
//! Everything listens on free ports and in directories of this process, so the
//! tests may run in parallel and twice at once. Children die with the process.

pub mod backend;
pub mod faulty;
pub mod front;
pub mod http;
pub mod process;
pub mod redis;
pub mod relay;
pub mod script;
pub mod sluice;
pub mod spelled;
pub mod story;
pub mod token;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for anything that is bound to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `condition` until it holds; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Prints how `times` are spread and gives back what 99 % of them don't exceed.
#[track_caller]
pub fn p99(what: &str, times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
    eprintln!("{what}: {} times, p50 {:.1?}, p99 {:.1?}, max {:.1?}", sorted.len(), at(50), at(99), at(100));
    at(99)
}

/// A number that no other test of this process gets: rows of one's own.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Pseudo-random numbers that a printed seed brings back (xorshift64*).
pub struct Random(u64);

impl Random {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// Whether something of `percent` probability happens.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
