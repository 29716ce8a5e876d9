//! Moments as PostgreSQL keeps them and PostgREST prints them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A moment, in microseconds since 1970-01-01T00:00:00Z; PostgreSQL's own
/// resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Micros(pub i64);

/// The SQL types of moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestampKind {
    /// `timestamp with time zone`.
    WithZone,
    /// `timestamp without time zone`; taken for UTC here.
    WithoutZone,
}

impl TimestampKind {
    /// The kind that an OpenAPI `format` (an SQL type's name) declares.
    pub fn declared(format: &str) -> Option<Self> {
        match format {
            "timestamp with time zone" => Some(Self::WithZone),
            "timestamp without time zone" => Some(Self::WithoutZone),
            _ => None,
        }
    }
}

impl Micros {
    /// The first moment of the year 1.
    const FIRST: i64 = -719_162 * DAY;
    /// The last moment of the year 9999.
    const LAST: i64 = 2_932_897 * DAY - 1;

    /// The moment of a clock's reading, cut to the microsecond.
    pub fn of(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => {
                Self(i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros))
            }
        }
    }

    /// The moment after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The text that PostgREST prints in UTC: a fraction without trailing
    /// zeros, then `+00:00` if the type has a zone. Moments outside the years 1
    /// to 9999 are printed as the nearest inside.
    pub fn text(self, kind: TimestampKind) -> String {
        let micros = self.0.clamp(Self::FIRST, Self::LAST);
        let (year, month, day) = civil(micros.div_euclid(DAY));
        let time = micros.rem_euclid(DAY);
        let (seconds, fraction) = (time / SECOND, time % SECOND);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if fraction != 0 {
            text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
        }
        if kind == TimestampKind::WithZone {
            text.push_str("+00:00");
        }
        text
    }

    /// Reads what PostgREST prints under any `TimeZone`, and RFC 3339 with `T`
    /// or a blank in the middle and at most six digits of a fraction. A zone is
    /// required where the type has one, else it is checked and passed over, as
    /// PostgreSQL does. `None`: anything else, or outside the years 1 to 9999.
    pub fn parse(text: &str, kind: TimestampKind) -> Option<Self> {
        let mut reader = Reader { rest: text.as_bytes() };
        let days = reader.date()?;
        if !reader.takes(b'T') && !reader.takes(b' ') {
            return None;
        }
        let local = days * DAY + reader.time()?;
        let offset = if reader.rest.is_empty() { None } else { Some(reader.offset()?) };
        let micros = match kind {
            TimestampKind::WithZone => local - offset?,
            TimestampKind::WithoutZone => local,
        };
        (reader.rest.is_empty() && (Self::FIRST..=Self::LAST).contains(&micros)).then_some(Self(micros))
    }
}

/// Whether a text is a day of the years 1 to 9999, spelt `YYYY-MM-DD`.
pub(super) fn is_date(text: &str) -> bool {
    let mut reader = Reader { rest: text.as_bytes() };
    reader.date().is_some() && reader.rest.is_empty()
}

/// What is left to read of a date or a timestamp.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    /// `YYYY-MM-DD`, in days since 1970-01-01.
    fn date(&mut self) -> Option<i64> {
        let year = self.number(4, 1..=9999)?;
        self.then(b'-')?;
        let month = self.number(2, 1..=12)?;
        self.then(b'-')?;
        let day = self.number(2, 1..=days_in_month(year, month))?;
        Some(days(year, month, day))
    }

    /// `hh:mm:ss`, a fraction allowed, in microseconds. Neither hour 24 nor
    /// second 60, which PostgreSQL carries into the next day or minute.
    fn time(&mut self) -> Option<i64> {
        let hour = self.number(2, 0..=23)?;
        self.then(b':')?;
        let minute = self.number(2, 0..=59)?;
        self.then(b':')?;
        let second = self.number(2, 0..=59)?;
        let fraction = if self.takes(b'.') { self.fraction()? } else { 0 };
        Some(((hour * 60 + minute) * 60 + second) * SECOND + fraction)
    }

    fn fraction(&mut self) -> Option<i64> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let missing = 6_u32.checked_sub(u32::try_from(count).ok()?)?;
        Some(self.number(count, 0..=SECOND)? * 10_i64.pow(missing))
    }

    /// `Z`, `±hh:mm` or, as PostgreSQL prints some zones of old, `±hh:mm:ss`,
    /// in microseconds. PostgreSQL takes no more than 15 hours.
    fn offset(&mut self) -> Option<i64> {
        if self.takes(b'Z') {
            return Some(0);
        }
        let is_west = self.takes(b'-');
        if !is_west {
            self.then(b'+')?;
        }
        let hours = self.number(2, 0..=15)?;
        self.then(b':')?;
        let minutes = self.number(2, 0..=59)?;
        let seconds = if self.takes(b':') { self.number(2, 0..=59)? } else { 0 };
        let offset = ((hours * 60 + minutes) * 60 + seconds) * SECOND;
        Some(if is_west { -offset } else { offset })
    }

    /// Exactly `count` digits, at least one, whose value is in `range`.
    fn number(&mut self, count: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let (digits, rest) = self.rest.split_at_checked(count)?;
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.rest = rest;
        let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        range.contains(&value).then_some(value)
    }

    fn then(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
    }

    fn takes(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in 400 years, after which the calendar repeats itself.
const ERA_DAYS: i64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01. Years are counted from March here: the
/// leap day is their last.
const EPOCH_DAYS: i64 = 719_468;

/// Days since 1970-01-01, for years from 1 on.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - EPOCH_DAYS
}

/// Year, month and day, for days from the year 1 on.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / (ERA_DAYS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year, (month + 2) % 12 + 1);
    (if month > 2 { year } else { year + 1 }, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::TimestampKind::{WithZone, WithoutZone};
    use super::*;

    #[test]
    fn printed_as_postgrest_prints() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (1, "1970-01-01T00:00:00.000001+00:00"),
            (-1, "1969-12-31T23:59:59.999999+00:00"),
            (1_769_904_000_000_000, "2026-02-01T00:00:00+00:00"),
            (1_769_904_000_123_400, "2026-02-01T00:00:00.1234+00:00"),
            (1_709_164_800_000_000, "2024-02-29T00:00:00+00:00"),
            (Micros::FIRST, "0001-01-01T00:00:00+00:00"),
            (Micros::LAST, "9999-12-31T23:59:59.999999+00:00"),
        ] {
            assert_eq!(Micros(micros).text(WithZone), text);
            assert_eq!(Micros(micros).text(WithoutZone), text.trim_end_matches("+00:00"));
            assert_eq!(Micros::parse(text, WithZone), Some(Micros(micros)), "{text}");
        }
        assert_eq!(Micros(i64::MAX).text(WithZone), Micros(Micros::LAST).text(WithZone));
        assert_eq!(Micros(i64::MIN).text(WithZone), Micros(Micros::FIRST).text(WithZone));
    }

    #[test]
    fn spellings_of_one_moment() {
        for text in [
            "2026-02-01T12:30:00Z",
            "2026-02-01 12:30:00Z",
            "2026-02-01T12:30:00.000Z",
            "2026-02-01T14:30:00+02:00",
            "2026-02-01T00:30:00.0-12:00",
            "2026-02-02T04:15:00.000000+15:45",
            "2026-02-01T12:49:32+00:19:32",
            "2026-02-01T12:30:00-00:00",
        ] {
            let moment = Micros::parse(text, WithZone).map(|moment| moment.text(WithZone));
            assert_eq!(moment.as_deref(), Some("2026-02-01T12:30:00+00:00"), "{text}");
        }
    }

    #[test]
    fn a_zone_is_passed_over_where_the_type_has_none() {
        for (text, expected) in [
            ("2026-02-01T12:30:00.5", Some("2026-02-01T12:30:00.5")),
            ("2026-02-01T12:30:00.500Z", Some("2026-02-01T12:30:00.5")),
            ("2026-02-01 12:30:00+02:00", Some("2026-02-01T12:30:00")),
            ("2026-02-01T12:30:00+16:00", None),
            ("2026-02-01T12:30:00+02:00 ", None),
        ] {
            let moment = Micros::parse(text, WithoutZone).map(|moment| moment.text(WithoutZone));
            assert_eq!(moment.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_moment() {
        for text in [
            "",
            "now",
            "infinity",
            "2026-02-01",
            "2026-02-01T00:00Z",
            "2026-02-01T00:00:00",
            "2026-02-01t00:00:00Z",
            "2026-02-01T00:00:00z",
            "2026-02-01_00:00:00Z",
            "2026-02-01T00:00:00.Z",
            "2026-02-01T00:00:00,5Z",
            "2026-02-01T00:00:00.1234567Z",
            "2026-02-01T24:00:00Z",
            "2026-02-01T00:60:00Z",
            "2026-02-01T00:00:60Z",
            "2026-02-30T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "10000-01-01T00:00:00Z",
            "0044-03-15T00:00:00+00:00 BC",
            "2026-02-01T00:00:00+02",
            "2026-02-01T00:00:00+0200",
            "2026-02-01T00:00:00 +02:00",
            "2026-02-01T00:00:00+16:00",
            "2026-02-01T00:00:00+02:60",
            "2026-02-01T00:00:00 UTC",
            " 2026-02-01T00:00:00Z",
            "2026-02-01T00:00:00Z ",
            "+026-02-01T00:00:00Z",
            "2026-2-1T00:00:00Z",
            "٢٠٢٦-02-01T00:00:00Z",
        ] {
            assert_eq!(Micros::parse(text, WithZone), None, "{text}");
        }
    }

    #[test]
    fn dates() {
        for (text, expected) in [
            ("2024-02-29", true),
            ("0001-01-01", true),
            ("9999-12-31", true),
            ("2023-02-29", false),
            ("2023-04-31", false),
            ("0000-01-01", false),
            ("2024-02-29 ", false),
            ("20240229", false),
            ("2024-02-29T00:00:00Z", false),
            ("today", false),
        ] {
            assert_eq!(is_date(text), expected, "{text}");
        }
    }

    #[test]
    fn clocks_are_read_to_the_microsecond() {
        let nanos = |nanos| Duration::from_nanos(nanos);
        assert_eq!(Micros::of(UNIX_EPOCH + nanos(1_999)), Micros(1));
        assert_eq!(Micros::of(UNIX_EPOCH - nanos(2_000)), Micros(-2));
        assert_eq!(Micros(1).next(), Micros(2));
        assert_eq!(Micros(i64::MAX).next(), Micros(i64::MAX));
    }

    #[test]
    fn types_by_name() {
        assert_eq!(TimestampKind::declared("timestamp with time zone"), Some(WithZone));
        assert_eq!(TimestampKind::declared("timestamp without time zone"), Some(WithoutZone));
        assert_eq!(TimestampKind::declared("date"), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(micros in Micros::FIRST..=Micros::LAST) {
            for kind in [WithZone, WithoutZone] {
                prop_assert_eq!(Micros::parse(&Micros(micros).text(kind), kind), Some(Micros(micros)));
            }
        }

        #[test]
        fn days_follow_each_other(day in Micros::FIRST / DAY..Micros::LAST / DAY) {
            let (year, month, date) = civil(day);
            prop_assert_eq!(days(year, month, date), day);
            let expected = if date < days_in_month(year, month) {
                (year, month, date + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
            prop_assert_eq!(civil(day + 1), expected);
        }

        #[test]
        fn the_order_of_texts_is_the_order_of_moments(
            one in Micros::FIRST..=Micros::LAST, other in Micros::FIRST..=Micros::LAST
        ) {
            let whole = |micros: i64| Micros(micros.div_euclid(SECOND) * SECOND);
            let text = |micros| whole(micros).text(WithZone);
            prop_assert_eq!(text(one).cmp(&text(other)), whole(one).cmp(&whole(other)));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), like in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[.0-9Z:+-]{0,9}") {
            for text in [&text, &like] {
                let _ = Micros::parse(text, WithZone);
                let _ = is_date(text);
            }
        }
    }
}
