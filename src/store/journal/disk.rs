//! The file of an embedded journal: a redb database.

mod open;
mod row;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

pub use self::open::{Loaded, file_in, open};
pub use self::row::{EndedRow, QueuedRow};

use super::id::{CallerId, EventId, LaneId, RowId, Seq, WriteId};
use super::queue::{Ahead, Echo, Entry};
use super::{Draft, EndState, Ended, Event, EventPage, Status};
use crate::postgrest::timestamp::Micros;

/// The latest format of the file that this version knows, and the one that it writes.
const FORMAT: u32 = 1;

type Id = [u8; 16];

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Queued writes by [`Seq`]; a [`QueuedRow`].
const QUEUED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("queued");
/// Counted attempts by [`Seq`].
const ATTEMPTS: TableDefinition<'_, u64, u32> = TableDefinition::new("attempts");
/// Parked lanes: row and caller.
const PARKED: TableDefinition<'_, (Id, Id), ()> = TableDefinition::new("parked");
/// Upstream's answers about rows that have other writes queued: [`Seq`] and text.
const ECHOES: TableDefinition<'_, Id, (u64, &str)> = TableDefinition::new("echoes");
/// Rows whose last timestamp is ahead of the clock.
const AHEAD: TableDefinition<'_, Id, i64> = TableDefinition::new("ahead");
/// What ended, by [`EventId`]; an [`EndedRow`].
const APPLIED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("applied");
const SUPERSEDED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("superseded");
const REJECTED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rejected");
/// Which of the three, and under which number, by [`WriteId`].
const ENDED: TableDefinition<'_, u128, (u8, u64)> = TableDefinition::new("ended");

/// The key in `meta` of what changes with each commit: the next [`Seq`], the next [`EventId`], the clock.
const MARKS: &str = "marks";

/// How long what ended stays to be found, dead letters aside, in µs.
const KEPT: i64 = 24 * 3600 * 1_000_000;

/// Ended writes that one commit clears away at most, of each kind.
const CLEARED: usize = 256;

/// Ended writes that one page looks at.
const PAGE: usize = 10_000;

const STATES: [EndState; 3] = [EndState::Applied, EndState::Superseded, EndState::Rejected];

fn table_of(state: EndState) -> TableDefinition<'static, u64, &'static [u8]> {
    match state {
        EndState::Applied => APPLIED,
        EndState::Superseded => SUPERSEDED,
        EndState::Rejected => REJECTED,
    }
}

fn code_of(state: EndState) -> u8 {
    match state {
        EndState::Applied => 0,
        EndState::Superseded => 1,
        EndState::Rejected => 2,
    }
}

/// How many of a kind are kept; then the oldest go. What was applied needs little room.
fn most_of(state: EndState) -> u64 {
    match state {
        EndState::Applied => 1_000_000,
        EndState::Superseded | EndState::Rejected => 100_000,
    }
}

/// What redb says, or what a row lacks.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Nothing has changed on disk.
    #[error("{0}")]
    Failed(Box<redb::Error>),
    /// It may have changed.
    #[error("{0}")]
    InDoubt(redb::CommitError),
    /// A row is not what was written.
    #[error(transparent)]
    BadRow(#[from] row::BadRow),
    /// A queued write has no row.
    #[error("there is no row for the queued write {}", .0.0)]
    NoRow(Seq),
    /// The file is closed.
    #[error("the journal is closed")]
    Closed,
}

macro_rules! failed {
    ($($error:ty),*) => {
        $(impl From<$error> for DiskError {
            fn from(error: $error) -> Self {
                Self::Failed(Box::new(error.into()))
            }
        })*
    };
}
failed!(redb::StorageError, redb::TableError, redb::TransactionError);

/// What is to become durable at once.
#[derive(Default)]
pub struct Changes<'a> {
    pub appends: Vec<(Seq, Entry, &'a Draft)>,
    pub ends: Vec<(EventId, Micros, &'a Ended)>,
    /// Zero: none any longer.
    pub attempts: Vec<(Seq, u32)>,
    /// Parked, or no longer.
    pub parked: Vec<(LaneId, bool)>,
    pub echoes: Vec<(RowId, Option<Echo>)>,
    pub ahead: Vec<(RowId, Option<Ahead>)>,
    pub next_seq: u64,
    pub next_event: u64,
    pub clock: i64,
}

impl Changes<'_> {
    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty()
            && self.ends.is_empty()
            && self.attempts.is_empty()
            && self.parked.is_empty()
            && self.echoes.is_empty()
            && self.ahead.is_empty()
    }
}

/// The open file.
pub struct Disk {
    file: PathBuf,
    database: RwLock<Option<Arc<Database>>>,
}

impl Disk {
    fn new(file: PathBuf, database: Database) -> Self {
        Self { file, database: RwLock::new(Some(Arc::new(database))) }
    }

    /// Where it is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Closes the file, as soon as the last reader is done.
    pub fn close(&self) {
        drop(self.database.write().take());
    }

    fn database(&self) -> Result<Arc<Database>, DiskError> {
        self.database.read().clone().ok_or(DiskError::Closed)
    }

    /// Makes the changes durable, all or none. Returns the events of the ends, in order.
    ///
    /// # Errors
    ///
    /// [`DiskError`]. The file has to be opened anew then.
    pub fn commit(&self, changes: &Changes<'_>) -> Result<Vec<Event>, DiskError> {
        let database = self.database()?;
        let transaction = database.begin_write()?;
        let events = write(&transaction, changes)?;
        transaction.commit().map_err(DiskError::InDoubt)?;
        Ok(events)
    }

    /// A queued write.
    ///
    /// # Errors
    ///
    /// [`DiskError`] if it can't be read.
    pub fn queued(&self, seq: Seq, attempts: u32) -> Result<Option<Status>, DiskError> {
        let table = self.database()?.begin_read()?.open_table(QUEUED)?;
        let Some(row) = table.get(seq.0)? else { return Ok(None) };
        Ok(Some(QueuedRow::decode(row.value())?.status(seq, attempts)))
    }

    /// The records of queued writes.
    ///
    /// # Errors
    ///
    /// [`DiskError`] if they can't be read.
    pub fn records(&self, seqs: impl IntoIterator<Item = Seq>) -> Result<Vec<Option<Bytes>>, DiskError> {
        let table = self.database()?.begin_read()?.open_table(QUEUED)?;
        let one = |seq: Seq| {
            let Some(row) = table.get(seq.0)? else { return Ok(None) };
            Ok(Some(Bytes::copy_from_slice(QueuedRow::decode(row.value())?.record)))
        };
        seqs.into_iter().map(one).collect()
    }

    /// A write that ended, and its record if that was kept.
    ///
    /// # Errors
    ///
    /// [`DiskError`] if it can't be read.
    pub fn ended(&self, id: WriteId) -> Result<Option<(Status, Bytes)>, DiskError> {
        let transaction = self.database()?.begin_read()?;
        let place = transaction.open_table(ENDED)?.get(id.0)?.map(|place| place.value());
        let Some((code, number)) = place else { return Ok(None) };
        let Some(state) = STATES.into_iter().find(|state| code_of(*state) == code) else { return Ok(None) };
        let table = transaction.open_table(table_of(state))?;
        let Some(row) = table.get(number)? else { return Ok(None) };
        let row = EndedRow::decode(row.value())?;
        Ok(Some((row.status(state, EventId(number)), Bytes::copy_from_slice(row.record))))
    }

    /// What ended so, after an event.
    ///
    /// # Errors
    ///
    /// [`DiskError`] if it can't be read.
    pub fn ended_so(&self, state: EndState, after: EventId, most: usize) -> Result<Vec<Status>, DiskError> {
        let table = self.database()?.begin_read()?.open_table(table_of(state))?;
        let rows = table.range(after.0.saturating_add(1)..)?.take(most.min(PAGE));
        let status = |row: Result<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>), _>| {
            let (number, row) = row?;
            Ok(EndedRow::decode(row.value())?.status(state, EventId(number.value())))
        };
        rows.map(status).collect()
    }

    /// The ends of a caller's writes, after an event. Looks at no more than `PAGE` of each kind.
    ///
    /// # Errors
    ///
    /// [`DiskError`] if they can't be read.
    pub fn ended_since(&self, caller: CallerId, after: EventId, most: usize) -> Result<EventPage, DiskError> {
        let transaction = self.database()?.begin_read()?;
        let mut events = Vec::new();
        let mut next = EventId(u64::MAX);
        for state in STATES {
            let mut last = None;
            for (looked, row) in
                transaction.open_table(table_of(state))?.range(after.0.saturating_add(1)..)?.enumerate()
            {
                if looked == PAGE {
                    next = next.min(last.unwrap_or(after));
                    break;
                }
                let (number, row) = row?;
                let number = EventId(number.value());
                last = Some(number);
                let row = EndedRow::decode(row.value())?;
                if row.head.caller == caller {
                    events.push(row.event(state, number));
                }
            }
        }
        // Beyond `next` some of another kind may be missing.
        events.retain(|event| event.number <= next);
        events.sort_unstable_by_key(|event| event.number);
        let more = next.0 < u64::MAX || events.len() > most;
        events.truncate(most);
        let cut = !events.is_empty() && events.len() == most;
        let last = events.last().map_or(after, |event| event.number);
        Ok(EventPage { next: if cut || !more { last } else { next }, events, more })
    }
}

fn write(transaction: &WriteTransaction, changes: &Changes<'_>) -> Result<Vec<Event>, DiskError> {
    let mut queued = transaction.open_table(QUEUED)?;
    for (seq, entry, draft) in &changes.appends {
        queued.insert(seq.0, QueuedRow::new(draft, entry).encode().as_slice())?;
    }
    let events =
        if changes.ends.is_empty() { Vec::new() } else { write_ends(transaction, &mut queued, changes)? };
    write_rare(transaction, changes)?;
    let mut marks = [0; 24];
    marks[..8].copy_from_slice(&changes.next_seq.to_be_bytes());
    marks[8..16].copy_from_slice(&changes.next_event.to_be_bytes());
    marks[16..].copy_from_slice(&changes.clock.to_be_bytes());
    transaction.open_table(META)?.insert(MARKS, marks.as_slice())?;
    Ok(events)
}

fn write_ends(
    transaction: &WriteTransaction,
    queued: &mut Table<'_, u64, &'static [u8]>,
    changes: &Changes<'_>,
) -> Result<Vec<Event>, DiskError> {
    let mut places = transaction.open_table(ENDED)?;
    let mut events = Vec::with_capacity(changes.ends.len());
    for state in STATES {
        let mut of_state = changes.ends.iter().filter(|(_, _, ended)| ended.state == state).peekable();
        if of_state.peek().is_none() {
            continue;
        }
        let mut table = transaction.open_table(table_of(state))?;
        for (number, at, ended) in of_state {
            let bytes = queued.remove(ended.seq.0)?.ok_or(DiskError::NoRow(ended.seq))?;
            let row = QueuedRow::decode(bytes.value())?;
            let row = EndedRow::new(&row, ended, *at);
            table.insert(number.0, row.encode().as_slice())?;
            places.insert(row.head.id.0, (code_of(state), number.0))?;
            events.push(row.event(state, *number));
        }
        clear(&mut table, &mut places, state, Micros(changes.clock))?;
    }
    events.sort_unstable_by_key(|event| event.number);
    Ok(events)
}

/// Removes what ended too long ago, and what is too many.
fn clear(
    table: &mut Table<'_, u64, &'static [u8]>,
    places: &mut Table<'_, u128, (u8, u64)>,
    state: EndState,
    now: Micros,
) -> Result<(), DiskError> {
    for _ in 0..CLEARED {
        let too_many = table.len()? > most_of(state);
        let Some((number, id, ended_at)) = first_of(table)? else { return Ok(()) };
        let too_old = state != EndState::Rejected && now.0.saturating_sub(ended_at.0) > KEPT;
        if !too_old && !too_many {
            return Ok(());
        }
        if state == EndState::Rejected {
            tracing::warn!(write = %id, "the oldest dead letter was dropped: there are too many");
        }
        table.remove(number)?;
        places.remove(id.0)?;
    }
    Ok(())
}

fn first_of(table: &Table<'_, u64, &'static [u8]>) -> Result<Option<(u64, WriteId, Micros)>, DiskError> {
    let Some((number, row)) = table.first()? else { return Ok(None) };
    let row = EndedRow::decode(row.value())?;
    Ok(Some((number.value(), row.head.id, row.ended_at)))
}

fn write_rare(transaction: &WriteTransaction, changes: &Changes<'_>) -> Result<(), DiskError> {
    if !changes.attempts.is_empty() {
        let mut table = transaction.open_table(ATTEMPTS)?;
        for (seq, attempts) in &changes.attempts {
            match attempts {
                0 => drop(table.remove(seq.0)?),
                attempts => drop(table.insert(seq.0, attempts)?),
            }
        }
    }
    if !changes.parked.is_empty() {
        let mut table = transaction.open_table(PARKED)?;
        for (lane, parked) in &changes.parked {
            let key = (lane.row.0, lane.caller.0);
            if *parked { drop(table.insert(key, ())?) } else { drop(table.remove(key)?) }
        }
    }
    if !changes.echoes.is_empty() {
        let mut table = transaction.open_table(ECHOES)?;
        for (row, echo) in &changes.echoes {
            match echo {
                Some(echo) => drop(table.insert(row.0, (echo.seq.0, echo.text.as_str()))?),
                None => drop(table.remove(row.0)?),
            }
        }
    }
    if !changes.ahead.is_empty() {
        let mut table = transaction.open_table(AHEAD)?;
        for (row, ahead) in &changes.ahead {
            match ahead {
                Some(ahead) => drop(table.insert(row.0, ahead.last.0)?),
                None => drop(table.remove(row.0)?),
            }
        }
    }
    Ok(())
}
