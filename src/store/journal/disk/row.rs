//! Rows as bytes: fields of fixed length, big-endian, then parts that say how
//! long they are. Another layout is another format of the file.

use bytes::Bytes;

use super::super::id::{CallerId, EventId, RowId, Seq, TableId, WriteId};
use super::super::queue::Entry;
use super::super::{Draft, EndState, Ended, Event, State, Status};
use crate::postgrest::timestamp::Micros;

/// A row that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row of {0} bytes is not what was written")]
pub struct BadRow(usize);

impl BadRow {
    /// These bytes are none.
    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes.len())
    }
}

/// What all rows begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub id: WriteId,
    pub caller: CallerId,
    pub table: TableId,
    pub row: RowId,
    pub is_insert: bool,
    pub updated_at: Micros,
    pub accepted_at: Micros,
}

/// A queued write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRow<'a> {
    pub head: Head,
    pub label: &'a [u8],
    pub record: &'a [u8],
}

/// A write that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRow<'a> {
    pub head: Head,
    pub seq: Seq,
    pub ended_at: Micros,
    pub attempts: u32,
    /// Empty for none.
    pub reason: &'a str,
    pub label: &'a [u8],
    pub detail: &'a [u8],
    /// Kept of what was rejected; else empty.
    pub record: &'a [u8],
}

impl Head {
    /// What a row begins with that is known by `entry`.
    pub fn of(entry: &Entry) -> Self {
        let Entry { id, caller, table, row, is_insert, updated_at, accepted_at, .. } = *entry;
        Self { id, caller, table, row, is_insert, updated_at, accepted_at }
    }

    /// The entry of a write that has no attempts yet.
    pub fn entry(&self) -> Entry {
        let Self { id, caller, table, row, is_insert, updated_at, accepted_at } = *self;
        Entry { id, caller, table, row, is_insert, updated_at, accepted_at, attempts: 0, next: None }
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.id.0.to_be_bytes());
        bytes.extend_from_slice(&self.caller.0);
        bytes.extend_from_slice(&self.table.0);
        bytes.extend_from_slice(&self.row.0);
        bytes.push(u8::from(self.is_insert));
        bytes.extend_from_slice(&self.updated_at.0.to_be_bytes());
        bytes.extend_from_slice(&self.accepted_at.0.to_be_bytes());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadRow> {
        Ok(Self {
            id: WriteId(u128::from_be_bytes(from.array()?)),
            caller: CallerId(from.array()?),
            table: TableId(from.array()?),
            row: RowId(from.array()?),
            is_insert: from.array::<1>()?[0] != 0,
            updated_at: Micros(i64::from_be_bytes(from.array()?)),
            accepted_at: Micros(i64::from_be_bytes(from.array()?)),
        })
    }

    fn status(&self, seq: Seq, state: State) -> Status {
        Status {
            id: self.id,
            seq,
            caller: self.caller,
            table: self.table,
            row: self.row,
            is_insert: self.is_insert,
            state,
            reason: None,
            updated_at: self.updated_at,
            accepted_at: self.accepted_at,
            ended: None,
            attempts: 0,
            label: Bytes::new(),
            detail: Bytes::new(),
        }
    }
}

impl<'a> QueuedRow<'a> {
    /// The row of a draft that was stamped.
    pub fn new(draft: &'a Draft, entry: &Entry) -> Self {
        Self { head: Head::of(entry), label: &draft.label, record: &draft.record }
    }

    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96 + self.label.len() + self.record.len());
        self.head.put(&mut bytes);
        put_part(&mut bytes, self.label);
        bytes.extend_from_slice(self.record);
        bytes
    }

    /// Reads a row.
    ///
    /// # Errors
    ///
    /// [`BadRow`] if it is too short.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BadRow> {
        let mut from = Reader { left: bytes, len: bytes.len() };
        Ok(Self { head: Head::take(&mut from)?, label: from.part()?, record: from.left })
    }

    /// How the write is.
    pub fn status(&self, seq: Seq, attempts: u32) -> Status {
        let label = Bytes::copy_from_slice(self.label);
        Status { attempts, label, ..self.head.status(seq, State::Queued) }
    }
}

impl<'a> EndedRow<'a> {
    /// The row of a queued write that ends.
    pub fn new(queued: &QueuedRow<'a>, ended: &'a Ended, ended_at: Micros) -> Self {
        Self {
            head: queued.head,
            seq: ended.seq,
            ended_at,
            attempts: ended.attempts,
            reason: ended.reason.as_deref().unwrap_or_default(),
            label: queued.label,
            detail: &ended.detail,
            record: if ended.state == EndState::Rejected { queued.record } else { &[] },
        }
    }

    /// The row's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let parts = self.reason.len() + self.label.len() + self.detail.len() + self.record.len();
        let mut bytes = Vec::with_capacity(128 + parts);
        self.head.put(&mut bytes);
        bytes.extend_from_slice(&self.seq.0.to_be_bytes());
        bytes.extend_from_slice(&self.ended_at.0.to_be_bytes());
        bytes.extend_from_slice(&self.attempts.to_be_bytes());
        put_part(&mut bytes, self.reason.as_bytes());
        put_part(&mut bytes, self.label);
        put_part(&mut bytes, self.detail);
        bytes.extend_from_slice(self.record);
        bytes
    }

    /// Reads a row.
    ///
    /// # Errors
    ///
    /// [`BadRow`] if it is too short, or the reason is no text.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BadRow> {
        let mut from = Reader { left: bytes, len: bytes.len() };
        Ok(Self {
            head: Head::take(&mut from)?,
            seq: Seq(u64::from_be_bytes(from.array()?)),
            ended_at: Micros(i64::from_be_bytes(from.array()?)),
            attempts: u32::from_be_bytes(from.array()?),
            reason: std::str::from_utf8(from.part()?).map_err(|_| BadRow::of(bytes))?,
            label: from.part()?,
            detail: from.part()?,
            record: from.left,
        })
    }

    /// How the write ended.
    pub fn status(&self, state: EndState, number: EventId) -> Status {
        Status {
            reason: self.reason(),
            ended: Some((self.ended_at, number)),
            attempts: self.attempts,
            label: Bytes::copy_from_slice(self.label),
            detail: Bytes::copy_from_slice(self.detail),
            ..self.head.status(self.seq, State::Ended(state))
        }
    }

    /// The event of the end.
    pub fn event(&self, state: EndState, number: EventId) -> Event {
        Event {
            number,
            caller: self.head.caller,
            id: self.head.id,
            table: self.head.table,
            row: self.head.row,
            state: State::Ended(state),
            reason: self.reason(),
            at: self.ended_at,
            label: Bytes::copy_from_slice(self.label),
        }
    }

    fn reason(&self) -> Option<String> {
        (!self.reason.is_empty()).then(|| self.reason.to_owned())
    }
}

fn put_part(bytes: &mut Vec<u8>, part: &[u8]) {
    let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(part);
}

struct Reader<'a> {
    left: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRow> {
        let (array, left) = self.left.split_first_chunk().ok_or(BadRow(self.len))?;
        self.left = left;
        Ok(*array)
    }

    fn part(&mut self) -> Result<&'a [u8], BadRow> {
        let len = u32::from_be_bytes(self.array()?) as usize;
        let (part, left) = self.left.split_at_checked(len).ok_or(BadRow(self.len))?;
        self.left = left;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            id: WriteId(0x0123_4567_89ab_7def_8123_4567_89ab_cdef),
            caller: CallerId([1; 16]),
            table: TableId([2; 16]),
            row: RowId([3; 16]),
            is_insert: true,
            updated_at: Micros(-4),
            accepted_at: Micros(i64::MAX),
        }
    }

    #[test]
    fn rows_are_read_as_they_were_written_and_cut_ones_are_refused() {
        let queued = QueuedRow { head: head(), label: b"label", record: b"record" };
        let bytes = queued.encode();
        assert_eq!(QueuedRow::decode(&bytes), Ok(queued));
        for len in 0..bytes.len() - b"record".len() {
            assert!(QueuedRow::decode(&bytes[..len]).is_err(), "{len} bytes");
        }

        let (reason, detail) = ("too_old", b"{}".as_slice());
        let (seq, ended_at) = (Seq(7), Micros(8));
        let ended = EndedRow {
            head: head(),
            seq,
            ended_at,
            attempts: 9,
            reason,
            label: b"label",
            detail,
            record: b"record",
        };
        let bytes = ended.encode();
        assert_eq!(EndedRow::decode(&bytes), Ok(ended));
        for len in 0..bytes.len() - b"record".len() {
            assert!(EndedRow::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn the_record_is_kept_of_what_was_rejected_alone() {
        let queued = QueuedRow { head: head(), label: b"", record: b"record" };
        for (state, kept) in
            [(EndState::Applied, ""), (EndState::Superseded, ""), (EndState::Rejected, "record")]
        {
            let ended =
                Ended { seq: Seq(1), state, reason: None, detail: Bytes::new(), echo: None, attempts: 0 };
            let row = EndedRow::new(&queued, &ended, Micros(1));
            assert_eq!(row.record, kept.as_bytes(), "{state:?}");
            assert_eq!(row.status(state, EventId(5)).reason, None);
        }
    }
}
