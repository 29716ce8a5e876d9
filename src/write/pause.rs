//! When nobody is replayed because upstream is away, and how long a lane waits
//! before its next try.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many lanes have to fail, with no answer in between, for all to pause.
const FAILING_LANES: usize = 3;
/// So many lanes that have probed are remembered.
const PROBED_LANES: usize = 64;

/// Waits that double up to an end, each as long as chance says: what failed
/// together doesn't come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest that the first wait takes.
    pub first: Duration,
    /// The longest that any wait takes.
    pub max: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row, 1 or more: anything up to
    /// twice the one before. `chance` is evenly distributed over all numbers.
    pub fn wait(&self, failures: u32, chance: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.max);
        // 32 bits are plenty for the length of a wait.
        let nanoseconds = (longest.as_nanos().saturating_mul(u128::from(chance >> 32) + 1)) >> 32;
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// Whether lanes are replayed. Each try of a lane is told: its start where all
/// pause, and how it ended. `L` names a lane.
///
/// A lane whose requests alone are not answered stops no other lane. Three
/// different ones, with no answer in between, mean that upstream is away: then
/// one lane at a time probes, each time another one, until upstream answers
/// anything.
#[derive(Debug)]
pub struct Pause<L> {
    backoff: Backoff,
    state: State<L>,
}

#[derive(Debug)]
enum State<L> {
    /// All are replayed. The lanes that failed since the last answer.
    Running {
        failing: Vec<L>,
    },
    Paused(Paused<L>),
}

#[derive(Debug)]
struct Paused<L> {
    failures: u32,
    next_probe: Instant,
    under_way: Option<L>,
    /// The lanes that have probed, the latest at the back.
    probed: VecDeque<L>,
}

impl<L: Copy + Eq> Pause<L> {
    /// Nothing has failed yet. Probes are as far apart as `backoff` says.
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, state: State::Running { failing: Vec::new() } }
    }

    /// Whether only probes are sent.
    pub fn is_paused(&self) -> bool {
        matches!(self.state, State::Paused(_))
    }

    /// When the next probe may start; `None` while nothing is paused, or one is under way.
    pub fn next_probe(&self) -> Option<Instant> {
        match &self.state {
            State::Paused(paused) if paused.under_way.is_none() => Some(paused.next_probe),
            State::Paused(_) | State::Running { .. } => None,
        }
    }

    /// Chooses the lane among `ready` that probes now: one that has not probed
    /// yet, else the one whose probe is longest ago. `None`: none may.
    ///
    /// The chosen one is told of by [`Self::failed`], [`Self::answered`] or [`Self::withdrawn`].
    pub fn probe(&mut self, ready: &[L], now: Instant) -> Option<L> {
        let State::Paused(paused) = &mut self.state else { return None };
        if paused.under_way.is_some() || now < paused.next_probe {
            return None;
        }
        let last_probe = |lane: &L| paused.probed.iter().position(|probed| probed == lane);
        // `None` comes before every place.
        let lane = ready.iter().copied().min_by_key(last_probe)?;
        paused.probed.retain(|probed| *probed != lane);
        if paused.probed.len() == PROBED_LANES {
            paused.probed.pop_front();
        }
        paused.probed.push_back(lane);
        paused.under_way = Some(lane);
        Some(lane)
    }

    /// A lane's request was not answered: refused, timed out, broken off, or by
    /// an edge that could not reach upstream. Says whether that made all pause.
    pub fn failed(&mut self, lane: L, now: Instant, chance: u64) -> bool {
        match &mut self.state {
            State::Running { failing } => {
                if !failing.contains(&lane) {
                    failing.push(lane);
                }
                if failing.len() < FAILING_LANES {
                    return false;
                }
                let probed = failing.drain(..).collect();
                let next_probe = now + self.backoff.wait(1, chance);
                self.state = State::Paused(Paused { failures: 1, next_probe, under_way: None, probed });
                true
            }
            State::Paused(paused) => {
                // What had started before the pause tells nothing new.
                if paused.under_way == Some(lane) {
                    paused.under_way = None;
                    paused.failures = paused.failures.saturating_add(1);
                    paused.next_probe = now + self.backoff.wait(paused.failures, chance);
                }
                false
            }
        }
    }

    /// Upstream answered a lane's request, whatever it said. Says whether that
    /// ended a pause.
    pub fn answered(&mut self) -> bool {
        let was_paused = self.is_paused();
        self.state = State::Running { failing: Vec::new() };
        was_paused
    }

    /// A lane's request was given up without knowing more: its probe doesn't count.
    pub fn withdrawn(&mut self, lane: L) {
        if let State::Paused(paused) = &mut self.state
            && paused.under_way == Some(lane)
        {
            paused.under_way = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(60) };

    #[test]
    fn waits_double_up_to_the_longest() {
        let longest = |failures| BACKOFF.wait(failures, u64::MAX).as_millis();
        let waits: Vec<_> = (0..12).map(longest).collect();
        assert_eq!(waits, [200, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(longest(u32::MAX), 60000);
        let huge = Backoff { first: Duration::MAX, max: Duration::from_secs(1) };
        assert_eq!(huge.wait(5, u64::MAX), Duration::from_secs(1));
    }

    #[test]
    fn chance_takes_any_part_of_a_wait() {
        for (chance, milliseconds) in [(0, 0), (u64::MAX / 4, 200), (u64::MAX / 2, 400), (u64::MAX, 800)] {
            let wait = BACKOFF.wait(3, chance).as_micros();
            assert!(wait.abs_diff(milliseconds * 1000) < 2, "{chance}: {wait} µs");
        }
    }

    enum Event {
        /// A lane's request fails; whether that makes all pause.
        Fails(u8, bool),
        /// One is answered; whether that ends a pause.
        Answers(bool),
        /// So many milliseconds later these are ready; which one probes.
        Probe(u64, &'static [u8], Option<u8>),
        Withdrawn(u8),
    }
    use Event::{Answers, Fails, Probe, Withdrawn};

    fn play(events: &[Event]) -> Pause<u8> {
        let mut pause = Pause::new(BACKOFF);
        let mut now = Instant::now();
        for (index, event) in events.iter().enumerate() {
            match event {
                Fails(lane, pauses) => assert_eq!(pause.failed(*lane, now, u64::MAX), *pauses, "{index}"),
                Answers(ends) => assert_eq!(pause.answered(), *ends, "{index}"),
                Probe(after, ready, lane) => {
                    now += Duration::from_millis(*after);
                    assert_eq!(pause.probe(ready, now), *lane, "{index}");
                }
                Withdrawn(lane) => pause.withdrawn(*lane),
            }
        }
        pause
    }

    const PAUSED: [Event; 3] = [Fails(1, false), Fails(2, false), Fails(3, true)];

    fn paused_then(events: Vec<Event>) -> Pause<u8> {
        play(&PAUSED.into_iter().chain(events).collect::<Vec<_>>())
    }

    #[test]
    fn three_lanes_in_a_row_pause_all() {
        let cases: [(&str, &[Event], bool); 5] = [
            (
                "one lane, ever so often",
                &[Fails(1, false), Fails(1, false), Fails(1, false), Fails(1, false)],
                false,
            ),
            ("two lanes", &[Fails(1, false), Fails(2, false), Fails(1, false)], false),
            ("three lanes", &[Fails(1, false), Fails(1, false), Fails(2, false), Fails(3, true)], true),
            (
                "three lanes, an answer in between",
                &[Fails(1, false), Fails(2, false), Answers(false), Fails(3, false)],
                false,
            ),
            ("an answer before", &[Answers(false), Fails(1, false), Fails(2, false), Fails(3, true)], true),
        ];
        for (name, events, is_paused) in cases {
            assert_eq!(play(events).is_paused(), is_paused, "{name}");
        }
    }

    #[test]
    fn nobody_probes_while_nothing_is_paused() {
        assert_eq!(play(&[Fails(1, false), Probe(1000, &[1, 2], None)]).next_probe(), None);
    }

    #[test]
    fn one_lane_probes_at_a_time_and_each_time_another() {
        paused_then(vec![
            Probe(199, &[4], None),
            Probe(1, &[], None),
            Probe(0, &[1, 2, 4, 5], Some(4)),
            Probe(60_000, &[5], None),
            Fails(4, false),
            Probe(399, &[5], None),
            Probe(1, &[4, 1, 5], Some(5)),
            Fails(5, false),
            // All have failed: the one that did so longest ago.
            Probe(800, &[5, 4, 3, 2], Some(2)),
            Fails(2, false),
            // Where there is only one, it is better than none.
            Probe(1600, &[2], Some(2)),
        ]);
    }

    #[test]
    fn any_answer_ends_the_pause() {
        let pause = paused_then(vec![Probe(200, &[4], Some(4)), Answers(true), Answers(false)]);
        assert!(!pause.is_paused());
        // From a request that had started before it, too, and then all begins anew.
        assert!(!paused_then(vec![Answers(true), Fails(4, false), Fails(5, false)]).is_paused());
        assert!(
            paused_then(vec![Answers(true), Fails(4, false), Fails(5, false), Fails(1, true)]).is_paused()
        );
    }

    #[test]
    fn what_started_before_the_pause_is_no_probe() {
        paused_then(vec![
            Fails(7, false),
            Probe(200, &[4], Some(4)),
            Fails(8, false),
            Probe(60_000, &[5], None),
            Fails(4, false),
            Probe(400, &[5], Some(5)),
        ]);
    }

    #[test]
    fn a_probe_that_was_given_up_lets_the_next_start() {
        let pause = paused_then(vec![
            Probe(200, &[4], Some(4)),
            Withdrawn(9),
            Probe(0, &[5], None),
            Withdrawn(4),
            Probe(0, &[4, 5], Some(5)),
        ]);
        assert_eq!(pause.next_probe(), None);
    }

    #[test]
    fn remembered_lanes_are_bounded() {
        let mut pause: Pause<u32> = Pause::new(BACKOFF);
        let mut now = Instant::now();
        for lane in 0..1000 {
            if pause.is_paused() {
                now += Duration::from_secs(61);
                assert_eq!(pause.probe(&[lane], now), Some(lane));
            }
            pause.failed(lane, now, u64::MAX);
        }
        let State::Paused(paused) = &pause.state else { panic!("upstream is away") };
        assert_eq!(paused.probed.len(), PROBED_LANES);
    }
}
