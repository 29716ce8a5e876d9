//! When Redis isn't asked any more, and when it is again.

use std::time::{Duration, Instant};

/// So many failures in a row open the breaker.
const FAILURES: u32 = 3;
/// A row that began longer ago is not gone on with.
const ROW: Duration = Duration::from_secs(2);
/// The time between two probes, to which each adds some by chance.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// After so many probes in vain the connection is not believed in any more.
const PROBES: u32 = 2;

/// Spares requests the wait for a server that doesn't answer.
///
/// Closed: all are let through. Open: none are; probes say when it closes.
#[derive(Debug, Default)]
pub struct Breaker(State);

#[derive(Debug)]
enum State {
    Closed { failures: u32, since: Option<Instant> },
    Open { next_probe: Instant, probes: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0, since: None }
    }
}

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// The breaker is closed.
    Closed,
    /// It stays open; there will be another probe.
    Open,
    /// It stays open, and another connection should be tried.
    GivenUp,
}

impl Breaker {
    /// Whether nothing is let through.
    pub fn is_open(&self) -> bool {
        matches!(self.0, State::Open { .. })
    }

    /// When to probe next; `None` while it is closed.
    pub fn next_probe(&self) -> Option<Instant> {
        match self.0 {
            State::Closed { .. } => None,
            State::Open { next_probe, .. } => Some(next_probe),
        }
    }

    /// An operation was answered. That of one sent before the breaker opened
    /// doesn't close it: only a probe does.
    pub fn answered(&mut self) {
        if !self.is_open() {
            self.0 = State::default();
        }
    }

    /// An operation was not answered in time. Says whether that opened the
    /// breaker. `jitter` is added to the time until the first probe.
    pub fn failed(&mut self, now: Instant, jitter: Duration) -> bool {
        let State::Closed { failures, since } = &mut self.0 else { return false };
        if since.is_none_or(|since| now.saturating_duration_since(since) > ROW) {
            (*failures, *since) = (0, Some(now));
        }
        *failures += 1;
        if *failures < FAILURES {
            return false;
        }
        self.0 = State::Open { next_probe: now + PROBE_EVERY + jitter, probes: 0 };
        true
    }

    /// A probe was answered, or not.
    pub fn probed(&mut self, answered: bool, now: Instant, jitter: Duration) -> Probed {
        let State::Open { next_probe, probes } = &mut self.0 else { return Probed::Closed };
        if answered {
            self.0 = State::default();
            return Probed::Closed;
        }
        *probes += 1;
        *next_probe = now + PROBE_EVERY + jitter;
        if *probes < PROBES { Probed::Open } else { Probed::GivenUp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Event {
        Answer,
        Failure { opens: bool },
        Probe { answered: bool, gives: Probed },
    }
    use Event::{Answer, Failure, Probe};

    const FAILS: Event = Failure { opens: false };
    const OPENS: Event = Failure { opens: true };
    const IN_VAIN: Event = Probe { answered: false, gives: Probed::Open };

    fn play(events: &[Event]) -> Breaker {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        for event in events {
            match event {
                Answer => breaker.answered(),
                Failure { opens } => assert_eq!(breaker.failed(now, Duration::ZERO), *opens),
                Probe { answered, gives } => {
                    assert_eq!(breaker.probed(*answered, now, Duration::ZERO), *gives);
                }
            }
        }
        breaker
    }

    #[test]
    fn what_opens_and_closes_it() {
        let cases: [(&str, &[Event], bool); 8] = [
            ("nothing has happened", &[], false),
            ("two failures", &[FAILS, FAILS], false),
            ("three failures", &[FAILS, FAILS, OPENS], true),
            ("an answer between failures", &[FAILS, FAILS, Answer, FAILS, FAILS], false),
            ("a late answer", &[FAILS, FAILS, OPENS, Answer], true),
            ("more failures than needed", &[FAILS, FAILS, OPENS, FAILS, FAILS], true),
            ("a probe in vain", &[FAILS, FAILS, OPENS, IN_VAIN], true),
            (
                "a probe that is answered",
                &[FAILS, FAILS, OPENS, IN_VAIN, Probe { answered: true, gives: Probed::Closed }],
                false,
            ),
        ];
        for (name, events, is_open) in cases {
            let breaker = play(events);
            assert_eq!(breaker.is_open(), is_open, "{name}");
            assert_eq!(breaker.next_probe().is_some(), is_open, "{name}");
        }
    }

    #[test]
    fn it_takes_as_many_failures_to_open_again() {
        let closed = Probe { answered: true, gives: Probed::Closed };
        assert!(play(&[FAILS, FAILS, OPENS, closed, FAILS, FAILS, OPENS]).is_open());
    }

    #[test]
    fn failures_that_are_far_apart_are_no_row() {
        let now = Instant::now();
        let cases = [([0, 1000, 2000], true), ([0, 1000, 2001], false), ([0, 2001, 4002], false)];
        for (times, opens) in cases {
            let mut breaker = Breaker::default();
            for milliseconds in times {
                breaker.failed(now + Duration::from_millis(milliseconds), Duration::ZERO);
            }
            assert_eq!(breaker.is_open(), opens, "{times:?}");
        }
    }

    #[test]
    fn probes_are_apart_by_the_interval_and_the_jitter() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.failed(now, Duration::from_millis(20));
        }
        assert_eq!(breaker.next_probe(), Some(now + Duration::from_millis(270)));
        let later = now + Duration::from_millis(350);
        breaker.probed(false, later, Duration::from_millis(5));
        assert_eq!(breaker.next_probe(), Some(later + Duration::from_millis(255)));
    }

    #[test]
    fn the_second_probe_in_vain_gives_the_connection_up() {
        let mut breaker = play(&[FAILS, FAILS, OPENS]);
        let now = Instant::now();
        let came = [(); 2].map(|()| breaker.probed(false, now, Duration::ZERO));
        assert_eq!(came, [Probed::Open, Probed::GivenUp]);
        assert!(breaker.is_open());
    }
}
