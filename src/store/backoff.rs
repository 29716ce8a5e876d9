//! How long to wait before something is tried again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Waits that double, up to an end, each shortened by chance so that
/// processes that lost the same server don't come back to it in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with `first` and goes up to `last`.
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: first }
    }

    /// The next wait: between half of what it is now and all of it.
    /// `chance` is evenly distributed over all numbers.
    pub fn wait(&mut self, chance: u64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.last);
        wait / 2 + spread(wait / 2, chance)
    }

    /// From now on each wait is among the longest.
    pub fn slow_down(&mut self) {
        self.next = self.last;
    }

    /// The next wait is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between nothing and `whole`, as `chance` says.
pub fn spread(whole: Duration, chance: u64) -> Duration {
    // 16 bits are plenty for the length of a wait.
    let share = u32::from((chance >> 48) as u16);
    whole * share / (1 << 16)
}

/// An unpredictable number, evenly distributed.
pub fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(2);

    fn longest(backoff: &mut Backoff) -> u128 {
        (backoff.wait(u64::MAX) + Duration::from_millis(1)).as_millis()
    }

    #[test]
    fn waits_double_up_to_the_last() {
        let mut backoff = Backoff::new(FIRST, LAST);
        let waits: Vec<_> = (0..7).map(|_| longest(&mut backoff)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(longest(&mut backoff), 100);
        backoff.slow_down();
        assert_eq!(longest(&mut backoff), 2000);
    }

    #[test]
    fn chance_takes_up_to_a_half() {
        for (chance, milliseconds) in [(0, 50), (u64::MAX / 2 + 1, 75), (u64::MAX, 99)] {
            assert_eq!(Backoff::new(FIRST, LAST).wait(chance).as_millis(), milliseconds);
        }
        assert_ne!(super::chance(), super::chance());
    }
}
