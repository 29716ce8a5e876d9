//! The timestamps that writes get.
//!
//! The journal's clock ticks with each write and never goes back, not over a
//! restart either. So the last timestamp given for a row has to be remembered
//! only where it is ahead of the clock: where the row that was known came from
//! a clock ahead of this one.

use std::collections::HashMap;

use super::super::id::RowId;
use crate::postgrest::timestamp::Micros;

/// Rows ahead of the clock that are remembered, apart from those with queued writes.
const MAX_AHEAD: usize = 100_000;

/// How long one is remembered after its last write, in µs.
const REMEMBERED: i64 = 24 * 3600 * 1_000_000;

/// How often is looked which ones can be forgotten, in µs.
const SWEEP_INTERVAL: i64 = 60 * 1_000_000;

/// A row whose last timestamp is ahead of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// The last timestamp given.
    pub last: Micros,
    /// When it last had a queued write, roughly.
    pub touched: Micros,
}

/// The clock and what is ahead of it.
#[derive(Debug)]
pub struct Stamps {
    clock: Micros,
    ahead: HashMap<RowId, Ahead>,
    swept: Micros,
}

/// The two times of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When it was accepted: no two writes have the same.
    pub accepted_at: Micros,
    /// Later than any given for the row before.
    pub updated_at: Micros,
}

impl Stamps {
    /// A clock that goes on after `clock`.
    pub fn new(clock: Micros) -> Self {
        Self { clock, ahead: HashMap::new(), swept: clock }
    }

    /// The latest time that was read or given.
    pub fn clock(&self) -> Micros {
        self.clock
    }

    /// Moves the clock to `now`, unless it is there already.
    pub fn advance(&mut self, now: Micros) {
        self.clock = self.clock.max(now);
    }

    /// The times of a write of `row`, and what has to be remembered of the row, if anything.
    pub fn stamp(&mut self, row: RowId, floor: Option<Micros>, now: Micros) -> (Stamp, Option<Ahead>) {
        self.clock = self.clock.next().max(now);
        let after_last = self.ahead.get(&row).map(|ahead| ahead.last.next());
        let earliest = [floor, after_last].into_iter().flatten().max().unwrap_or(self.clock);
        let stamp = Stamp { accepted_at: self.clock, updated_at: self.clock.max(earliest) };
        let ahead =
            (stamp.updated_at > self.clock).then_some(Ahead { last: stamp.updated_at, touched: self.clock });
        if let Some(ahead) = ahead {
            self.ahead.insert(row, ahead);
        }
        (stamp, ahead)
    }

    /// What was remembered before a restart.
    pub fn restore(&mut self, row: RowId, last: Micros) {
        self.ahead.insert(row, Ahead { last, touched: self.clock });
    }

    /// Forgets rows that the clock has passed or that had no write for long, now and
    /// then. Returns them.
    pub fn sweep(&mut self, is_pending: impl Fn(&RowId) -> bool) -> Vec<RowId> {
        let crowded = self.ahead.len() > MAX_AHEAD;
        if self.ahead.is_empty() || (!crowded && self.clock.0.saturating_sub(self.swept.0) < SWEEP_INTERVAL) {
            return Vec::new();
        }
        self.swept = self.clock;
        let clock = self.clock;
        let mut forgotten = Vec::new();
        self.ahead.retain(|row, ahead| {
            let pending = is_pending(row);
            if pending {
                ahead.touched = clock;
            }
            let keep = ahead.last > clock && clock.0.saturating_sub(ahead.touched.0) < REMEMBERED;
            if !keep {
                forgotten.push(*row);
            }
            keep
        });
        if self.ahead.len() > MAX_AHEAD {
            self.forget_half(is_pending, &mut forgotten);
        }
        forgotten
    }

    /// Makes room at once for many: forgets the rows without queued writes that are least ahead.
    fn forget_half(&mut self, is_pending: impl Fn(&RowId) -> bool, forgotten: &mut Vec<RowId>) {
        let mut idle: Vec<(Micros, RowId)> = self
            .ahead
            .iter()
            .filter(|(row, _)| !is_pending(row))
            .map(|(row, ahead)| (ahead.last, *row))
            .collect();
        idle.sort_unstable();
        for (_, row) in idle.into_iter().take(MAX_AHEAD / 2) {
            self.ahead.remove(&row);
            forgotten.push(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u8) -> RowId {
        RowId([n; 16])
    }

    fn times(stamps: &mut Stamps, n: u8, floor: Option<i64>, now: i64) -> (i64, i64) {
        let (stamp, _) = stamps.stamp(row(n), floor.map(Micros), Micros(now));
        (stamp.accepted_at.0, stamp.updated_at.0)
    }

    #[test]
    fn the_clock_ticks_and_never_goes_back() {
        let mut stamps = Stamps::new(Micros(100));
        assert_eq!(times(&mut stamps, 1, None, 1000), (1000, 1000));
        assert_eq!(times(&mut stamps, 1, None, 1000), (1001, 1001), "same reading");
        assert_eq!(times(&mut stamps, 2, None, 7), (1002, 1002), "stepped back");
        assert_eq!(times(&mut stamps, 1, None, 2000), (2000, 2000));
    }

    #[test]
    fn a_floor_moves_its_row_alone() {
        let mut stamps = Stamps::new(Micros(0));
        assert_eq!(times(&mut stamps, 1, Some(5000), 1000), (1000, 5000));
        assert_eq!(times(&mut stamps, 2, None, 1001), (1001, 1001));
        assert_eq!(times(&mut stamps, 1, None, 1002), (1002, 5001));
        assert_eq!(times(&mut stamps, 1, Some(3000), 1003), (1003, 5002));
        assert_eq!(times(&mut stamps, 1, Some(3000), 6000), (6000, 6000));
    }

    #[test]
    fn only_what_is_ahead_is_to_be_remembered() {
        let mut stamps = Stamps::new(Micros(0));
        assert_eq!(stamps.stamp(row(1), Some(Micros(900)), Micros(1000)).1, None);
        let ahead = stamps.stamp(row(1), Some(Micros(1_000_000)), Micros(1001)).1;
        assert_eq!(ahead.map(|ahead| ahead.last), Some(Micros(1_000_000)));

        let mut reopened = Stamps::new(stamps.clock());
        reopened.restore(row(1), Micros(1_000_000));
        assert_eq!(times(&mut reopened, 1, None, 5), (1002, 1_000_001));
    }

    #[test]
    fn what_the_clock_has_passed_or_nobody_touched_for_a_day_is_forgotten() {
        let mut stamps = Stamps::new(Micros(0));
        let day = REMEMBERED;
        times(&mut stamps, 1, Some(10), 1);
        times(&mut stamps, 2, Some(10 * day), 2);
        times(&mut stamps, 3, Some(10 * day), 3);
        assert_eq!(stamps.sweep(|_| true), Vec::new(), "too early to look");
        stamps.advance(Micros(SWEEP_INTERVAL + 10));
        assert_eq!(stamps.sweep(|_| true), vec![row(1)]);
        stamps.advance(Micros(2 * day));
        assert_eq!(stamps.sweep(|other| *other == row(2)), vec![row(3)]);
        stamps.advance(Micros(3 * day - 1));
        assert_eq!(stamps.sweep(|_| false), Vec::new(), "a day from its last queued write");
    }
}
