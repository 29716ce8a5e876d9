//! What the scripts and the nodes tell each other, as bytes. Numbers are big-endian, parts
//! say how long they are.
//!
//! ```text
//! entry    id, caller, table, row, 16 bytes each; 1 for an insert; accepted in µs, 8; updated: s, 8, µs, 4
//! body     label as a part, record
//! ending   attempts, 4; reason as a part, detail as a part
//! ended    write, 8; entry; time in µs, 8; ending; label as a part; the record if it was rejected
//! event    write, 8; entry; state, 1; number, 8; time in µs, 8; reason as a part, label as a part
//! message  replication id, 32 hexadecimal digits; change, 8; then
//!          'A': write, entry, event's number, label    'E': event    'L': lane, 32; state's length, 1; state
//! ```

use bytes::Bytes;

use super::super::id::{CallerId, EventId, LaneId, RowId, Seq, TableId, WriteId};
use super::super::{Draft, EndState, Ended, Event, Pending, State, Status};
use crate::postgrest::timestamp::Micros;
use crate::store::stamp::ReplicationId;

/// Digits of a replication id in a message.
const REPLICATION: usize = 32;

/// Bytes that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis holds or sent what this version of Sluice did not write. All nodes must run the same version")]
pub struct Malformed;

/// Takes bytes apart from their beginning.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, left) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = left;
        Ok(*array)
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn time(&mut self) -> Result<Micros, Malformed> {
        Ok(Micros(i64::try_from(self.number()?).map_err(|_| Malformed)?))
    }

    fn part(&mut self) -> Result<&'a [u8], Malformed> {
        let len = u32::from_be_bytes(self.array()?) as usize;
        let (part, left) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = left;
        Ok(part)
    }

    fn text(&mut self) -> Result<Option<String>, Malformed> {
        let text = std::str::from_utf8(self.part()?).map_err(|_| Malformed)?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// When a write was accepted, and the timestamp that it sets.
    pub fn times(&mut self) -> Result<(Micros, Micros), Malformed> {
        let accepted_at = self.time()?;
        let seconds = i64::try_from(self.number()?).map_err(|_| Malformed)?;
        let micros = u32::from_be_bytes(self.array()?);
        let updated_at = seconds.saturating_mul(1_000_000).saturating_add(i64::from(micros));
        Ok((accepted_at, Micros(updated_at)))
    }

    /// A queued write's entry.
    pub fn entry(&mut self, seq: Seq) -> Result<Pending, Malformed> {
        let id = WriteId(u128::from_be_bytes(self.array()?));
        let (caller, table, row) = (CallerId(self.array()?), TableId(self.array()?), RowId(self.array()?));
        let is_insert = self.array::<1>()?[0] != 0;
        let (accepted_at, updated_at) = self.times()?;
        Ok(Pending { seq, id, caller, table, row, is_insert, updated_at, accepted_at, lane_is_stuck: false })
    }

    fn write(&mut self) -> Result<Pending, Malformed> {
        let seq = Seq(self.number()?);
        self.entry(seq)
    }

    fn lane(&mut self) -> Result<LaneId, Malformed> {
        Ok(LaneId { row: RowId(self.array()?), caller: CallerId(self.array()?) })
    }
}

/// A lane as the scripts name it.
pub fn lane_bytes(lane: LaneId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&lane.row.0);
    bytes[16..].copy_from_slice(&lane.caller.0);
    bytes
}

/// Reads a lane's name.
///
/// # Errors
///
/// [`Malformed`] if it is none.
pub fn lane(bytes: &[u8]) -> Result<LaneId, Malformed> {
    Reader(bytes).lane()
}

/// The part of an entry that its author decides.
pub fn head(draft: &Draft) -> Vec<u8> {
    let id = draft.id.0.to_be_bytes();
    [&id[..], &draft.caller.0, &draft.table.0, &draft.row.0, &[u8::from(draft.is_insert)]].concat()
}

/// A draft's label and record.
pub fn body(draft: &Draft) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + draft.label.len() + draft.record.len());
    put_part(&mut bytes, &draft.label);
    bytes.extend_from_slice(&draft.record);
    bytes
}

/// The record in a body.
///
/// # Errors
///
/// [`Malformed`] if it is none.
pub fn record(body: Vec<u8>) -> Result<Bytes, Malformed> {
    let mut from = Reader(&body);
    from.part()?;
    let at = body.len() - from.0.len();
    Ok(Bytes::from(body).slice(at..))
}

/// What is kept of a write's end beside what was known of it.
pub fn ending(ended: &Ended) -> Vec<u8> {
    let mut bytes = ended.attempts.to_be_bytes().to_vec();
    put_part(&mut bytes, ended.reason.as_deref().unwrap_or_default().as_bytes());
    put_part(&mut bytes, &ended.detail);
    bytes
}

fn put_part(bytes: &mut Vec<u8>, part: &[u8]) {
    let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(part);
}

/// The letter for how a write ended.
pub fn letter(state: EndState) -> u8 {
    match state {
        EndState::Applied => b'A',
        EndState::Superseded => b'S',
        EndState::Rejected => b'R',
    }
}

/// How a write ended whose letter this is.
///
/// # Errors
///
/// [`Malformed`] if it is nobody's.
pub fn end_state(letter: u8) -> Result<EndState, Malformed> {
    match letter {
        b'A' => Ok(EndState::Applied),
        b'S' => Ok(EndState::Superseded),
        b'R' => Ok(EndState::Rejected),
        _ => Err(Malformed),
    }
}

/// How a write is that has this entry; the rest is to be filled in.
pub fn status(write: &Pending, state: State, label: &[u8]) -> Status {
    Status {
        id: write.id,
        seq: write.seq,
        caller: write.caller,
        table: write.table,
        row: write.row,
        is_insert: write.is_insert,
        state,
        reason: None,
        updated_at: write.updated_at,
        accepted_at: write.accepted_at,
        ended: None,
        attempts: 0,
        label: Bytes::copy_from_slice(label),
        detail: Bytes::new(),
    }
}

/// How a queued write is.
///
/// # Errors
///
/// [`Malformed`] if these are not its entry and label.
pub fn queued_status(seq: Seq, entry: &[u8], attempts: u32, label: &[u8]) -> Result<Status, Malformed> {
    let write = Reader(entry).entry(seq)?;
    Ok(Status { attempts, ..status(&write, State::Queued, Reader(label).part()?) })
}

/// How a write ended, and its record if that was kept.
///
/// # Errors
///
/// [`Malformed`] if this is no ended write.
pub fn ended_status(state: EndState, number: EventId, row: &[u8]) -> Result<(Status, Bytes), Malformed> {
    let mut from = Reader(row);
    let write = from.write()?;
    let at = from.time()?;
    let attempts = u32::from_be_bytes(from.array()?);
    let (reason, detail) = (from.text()?, Bytes::copy_from_slice(from.part()?));
    let status = status(&write, State::Ended(state), from.part()?);
    Ok((
        Status { reason, ended: Some((at, number)), attempts, detail, ..status },
        Bytes::copy_from_slice(from.0),
    ))
}

fn event(write: &Pending, number: EventId, state: State, at: Micros) -> Event {
    let Pending { caller, id, table, row, .. } = *write;
    Event { number, caller, id, table, row, state, reason: None, at, label: Bytes::new() }
}

impl Reader<'_> {
    /// The event of an end, and whose.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is none.
    pub fn event(&mut self) -> Result<(Seq, Event), Malformed> {
        let write = self.write()?;
        let state = State::Ended(end_state(self.array::<1>()?[0])?);
        let (number, at) = (EventId(self.number()?), self.time()?);
        let (reason, label) = (self.text()?, Bytes::copy_from_slice(self.part()?));
        Ok((write.seq, Event { reason, label, ..event(&write, number, state, at) }))
    }
}

/// What a lane with a state does, as far as nodes have to know. Times are the server's, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneState {
    /// Somebody has it; what came meanwhile may linger then.
    Claimed { lingers: bool },
    /// Waits for later writes to merge with.
    Lingering(u64),
    /// Waits for a moment.
    BackingOff(u64),
    /// Waits for an older write.
    WaitingForOlder,
    /// Waits for a moment or a token.
    WaitingForToken(u64, [u8; 16]),
    /// Waits for an operator.
    Parked,
}

impl LaneState {
    /// Reads a state. `None`: the lane is ready, or empty.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is none.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
        let mut from = Reader(rest);
        Ok(Some(match kind {
            b'C' => {
                from.array::<24>()?;
                Self::Claimed { lingers: from.number()? > 0 }
            }
            b'L' => Self::Lingering(from.number()?),
            b'B' => Self::BackingOff(from.number()?),
            b'O' => Self::WaitingForOlder,
            b'T' => Self::WaitingForToken(from.number()?, from.array()?),
            b'P' => Self::Parked,
            _ => return Err(Malformed),
        }))
    }

    /// Whether the lane will not be replayed soon.
    pub fn is_stuck(self) -> bool {
        !matches!(self, Self::Claimed { .. } | Self::Lingering(_))
    }

    /// When it is ready by time alone.
    pub fn due(self) -> Option<u64> {
        match self {
            Self::Lingering(at) | Self::BackingOff(at) | Self::WaitingForToken(at, _) => Some(at),
            Self::Claimed { .. } | Self::WaitingForOlder | Self::Parked => None,
        }
    }
}

/// Something that a message tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A write was appended.
    Appended(Pending, Event),
    /// A write ended.
    Ended(Seq, Event),
    /// A lane has this state from now on.
    Lane(LaneId, Option<LaneState>),
}

/// What one script changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which master ran it.
    pub replication: ReplicationId,
    /// The number of the change: one more than that of the one before.
    pub change: u64,
    /// What changed, in order.
    pub items: Vec<Item>,
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let (digits, rest) = bytes.split_at_checked(REPLICATION).ok_or(Malformed)?;
        let replication = ReplicationId::parse(digits).ok_or(Malformed)?;
        let mut from = Reader(rest);
        let change = from.number()?;
        let mut items = Vec::new();
        while !from.0.is_empty() {
            items.push(Self::item(&mut from)?);
        }
        Ok(Self { replication, change, items })
    }

    fn item(from: &mut Reader<'_>) -> Result<Item, Malformed> {
        match from.array::<1>()?[0] {
            b'A' => {
                let write = from.write()?;
                let number = EventId(from.number()?);
                let label = Bytes::copy_from_slice(from.part()?);
                let event = event(&write, number, State::Queued, write.accepted_at);
                Ok(Item::Appended(write, Event { label, ..event }))
            }
            b'E' => from.event().map(|(seq, event)| Item::Ended(seq, event)),
            b'L' => {
                let lane = from.lane()?;
                let len = usize::from(from.array::<1>()?[0]);
                let (state, left) = from.0.split_at_checked(len).ok_or(Malformed)?;
                from.0 = left;
                Ok(Item::Lane(lane, LaneState::read(state)?))
            }
            _ => Err(Malformed),
        }
    }
}
