//! The names of things in a journal.

use std::fmt;
use std::str::FromStr;

use crate::postgrest::timestamp::Micros;

/// Who writes: a fingerprint of `iss`, `role`, `sub`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId(pub [u8; 16]);

/// A fingerprint of a schema and a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub [u8; 16]);

/// A fingerprint of a schema, a table and a canonical key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub [u8; 16]);

/// The order of acceptance in one journal, from 1. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The order of what happened in one journal, from 1. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId(pub u64);

/// One caller's writes to one row, replayed one at a time, as accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The row.
    pub row: RowId,
    /// Who writes to it.
    pub caller: CallerId,
}

/// The name by which a client knows a write: a UUID of version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u128);

/// Where a UUID's text has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl WriteId {
    /// An id for a write that comes in at `time`, made unique by `random`
    /// (RFC 9562, section 5.7).
    pub fn new(time: Micros, random: u128) -> Self {
        let millis = u128::from(u64::try_from(time.0 / 1000).unwrap_or(0)) & 0xffff_ffff_ffff;
        let twelve_bits = (random >> 64) & 0xfff;
        let rest = random & (u128::MAX >> 66);
        Self(millis << 80 | 7 << 76 | twelve_bits << 64 | 0b10 << 62 | rest)
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = [(96, 0xffff_ffff_u128), (80, 0xffff), (64, 0xffff), (48, 0xffff)]
            .map(|(by, mask)| (self.0 >> by) & mask);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", self.0 & 0xffff_ffff_ffff)
    }
}

/// A text that is no hyphenated UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Not an id of a write: a UUID with hyphens is wanted")]
pub struct NotAWriteId;

impl FromStr for WriteId {
    type Err = NotAWriteId;

    fn from_str(text: &str) -> Result<Self, NotAWriteId> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(NotAWriteId);
        }
        let mut id = 0u128;
        for (at, byte) in bytes.iter().enumerate() {
            if HYPHENS.contains(&at) {
                if *byte != b'-' {
                    return Err(NotAWriteId);
                }
                continue;
            }
            let digit = char::from(*byte).to_digit(16).ok_or(NotAWriteId)?;
            id = id << 4 | u128::from(digit);
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_id_is_a_uuid_of_version_7_that_begins_with_the_time() {
        let id = WriteId::new(Micros(0x0123_4567_89ab * 1000 + 999), u128::MAX);
        assert_eq!(id.to_string(), "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(WriteId::new(Micros(1000), 0).to_string(), "00000000-0001-7000-8000-000000000000");
        assert!(WriteId::new(Micros(2000), 0) > WriteId::new(Micros(1000), u128::MAX));
    }

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        let id = WriteId::new(Micros(1_769_900_000_123_456), 0x1234_5678_9abc_def0_1122_3344_5566_7788);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        for text in [
            "",
            "0123456789ab7fffbfffffffffffffff",
            "01234567-89ab-7fff-bfff-fffffffffff",
            "01234567-89ab-7fff-bfff-fffffffffffff",
            "0123456-789ab-7fff-bfff-ffffffffffff",
            "+1234567-89ab-7fff-bfff-ffffffffffff",
            "01234567-89ab-7fff-bfff-fffffffffffg",
            "é1234567-89ab-7fff-bfff-fffffffffff",
        ] {
            assert_eq!(text.parse::<WriteId>(), Err(NotAWriteId), "{text}");
        }
    }
}
