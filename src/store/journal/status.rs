//! How writes are, and what happens to them.

use bytes::Bytes;

use super::id::{CallerId, EventId, RowId, Seq, TableId, WriteId};
use crate::postgrest::timestamp::Micros;

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndState {
    /// Upstream took it, or had it already.
    Applied,
    /// Upstream's row is newer, or gone.
    Superseded,
    /// Upstream refused it, or it could not be sent.
    Rejected,
}

/// How a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not yet replayed.
    Queued,
    /// See [`EndState`].
    Ended(EndState),
}

impl State {
    /// The word for it, as clients see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Ended(EndState::Applied) => "applied",
            Self::Ended(EndState::Superseded) => "superseded",
            Self::Ended(EndState::Rejected) => "rejected",
        }
    }
}

/// The end of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which write.
    pub seq: Seq,
    /// How it ended.
    pub state: EndState,
    /// Why, in a word.
    pub reason: Option<String>,
    /// What an operator wants to know. Opaque; empty for what was applied.
    pub detail: Bytes,
    /// The `updated_at` that upstream answered.
    pub echo: Option<String>,
    /// How many counted attempts it took.
    pub attempts: u32,
}

/// How a write is, for whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub id: WriteId,
    /// Its place in the order.
    pub seq: Seq,
    /// Who wrote.
    pub caller: CallerId,
    /// To which table.
    pub table: TableId,
    /// To which row.
    pub row: RowId,
    /// Whether the row was to be made by it.
    pub is_insert: bool,
    /// How it is.
    pub state: State,
    /// Why it ended so.
    pub reason: Option<String>,
    /// The timestamp that it sets.
    pub updated_at: Micros,
    /// When it was accepted.
    pub accepted_at: Micros,
    /// When it ended, and the number of that event.
    pub ended: Option<(Micros, EventId)>,
    /// Counted attempts.
    pub attempts: u32,
    /// As in [`Draft::label`].
    pub label: Bytes,
    /// As in [`Ended::detail`].
    pub detail: Bytes,
}

/// Something that happened to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number. It grows, in the order in which things became durable.
    pub number: EventId,
    /// Whose write.
    pub caller: CallerId,
    /// Which.
    pub id: WriteId,
    /// To which table.
    pub table: TableId,
    /// To which row.
    pub row: RowId,
    /// How it is from now on.
    pub state: State,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: Micros,
    /// As in [`Draft::label`].
    pub label: Bytes,
}

/// A part of the events that were missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// The caller's, in order.
    pub events: Vec<Event>,
    /// Where to go on.
    pub next: EventId,
    /// Whether there may be more.
    pub more: bool,
}

/// How much is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Queued writes.
    pub writes: u64,
    /// When the oldest of them was accepted.
    pub oldest: Option<Micros>,
}
