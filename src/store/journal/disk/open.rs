//! Opening the file: making it, checking that it is ours, reading what is in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, WriteTransaction,
};

use super::super::OpenError;
use super::super::id::{CallerId, LaneId, RowId, Seq};
use super::super::queue::{Echo, Entry};
use super::row::{BadRow, QueuedRow};
use super::{
    AHEAD, APPLIED, ATTEMPTS, Disk, DiskError, ECHOES, ENDED, FORMAT, MARKS, META, PARKED, QUEUED, REJECTED,
    SUPERSEDED,
};
use crate::postgrest::timestamp::Micros;

/// The file's name in the folder.
const FILE: &str = "journal.redb";

/// redb's own cache, in bytes. The system's does the rest.
const CACHE: usize = 16 * 1024 * 1024;

const VERSION: &str = "format";
const UPSTREAM: &str = "upstream";

/// What is in a journal, its records aside.
pub struct Loaded {
    /// Queued writes, in order.
    pub queued: Vec<(Seq, Entry)>,
    pub attempts: Vec<(Seq, u32)>,
    pub parked: Vec<LaneId>,
    pub echoes: Vec<(RowId, Echo)>,
    pub ahead: Vec<(RowId, Micros)>,
    pub next_seq: Seq,
    pub next_event: u64,
    pub clock: Micros,
}

/// The journal's file in a folder.
pub fn file_in(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Opens the journal in `folder`, and makes both if they aren't there.
///
/// # Errors
///
/// [`OpenError`] names the file and the remedy.
pub fn open(folder: &Path, upstream: &str) -> Result<(Disk, Loaded), OpenError> {
    let file = file_in(folder);
    let opened = make(folder, &file)?;
    // What a damaged file makes redb say is for it to choose; a panic is one of the ways.
    let result = panic::catch_unwind(AssertUnwindSafe(|| read(opened, &file, upstream)));
    let (database, loaded) = result.unwrap_or_else(|_| Err(corrupt(&file, "it can't be read")))?;
    Ok((Disk::new(file, database), loaded))
}

fn make(folder: &Path, file: &Path) -> Result<File, OpenError> {
    let in_folder = |error| OpenError::Io { file: folder.to_owned(), error };
    let is_new = !file.try_exists().map_err(in_folder)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(in_folder)?;
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(file);
    let opened = opened.map_err(|error| OpenError::Io { file: file.to_owned(), error })?;
    if is_new {
        // A file whose name is not on disk is lost with the machine, however durable its content.
        let parent =
            folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync(folder).and_then(|()| sync(parent)).map_err(in_folder)?;
    }
    Ok(opened)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn read(opened: File, file: &Path, upstream: &str) -> Result<(Database, Loaded), OpenError> {
    let mut builder = Builder::new();
    let name: PathBuf = file.to_owned();
    builder.set_cache_size(CACHE).set_repair_callback(move |repair| {
        let done = (repair.progress() * 100.0) as u8;
        tracing::info!(file = %name.display(), percent = done, "the journal was not closed; it is being checked");
    });
    let database = FileBackend::new(opened).and_then(|backend| builder.create_with_backend(backend));
    let database = database.map_err(|error| of_database(file, error))?;
    prepare(&database, file, upstream)?;
    let loaded = load(&database).map_err(|error| of_disk(file, error))?;
    Ok((database, loaded))
}

/// Makes the tables of a new file; of another one checks whose it is.
fn prepare(database: &Database, file: &Path, upstream: &str) -> Result<(), OpenError> {
    let found = identity(database).map_err(|error| of_disk(file, error))?;
    let Some((format, theirs)) = found else {
        let made = database.begin_write().map_err(DiskError::from).and_then(|transaction| {
            create(&transaction, upstream)?;
            transaction.commit().map_err(DiskError::InDoubt)
        });
        return made.map_err(|error| of_disk(file, error));
    };
    match format {
        Some(FORMAT) => {}
        Some(found) if found > FORMAT => {
            return Err(OpenError::Newer { file: file.to_owned(), found, known: FORMAT });
        }
        _ => return Err(corrupt(file, "it has no format")),
    }
    if theirs != upstream {
        return Err(OpenError::OtherUpstream { file: file.to_owned(), theirs, ours: upstream.to_owned() });
    }
    Ok(())
}

/// The file's format and upstream; `None` for one without tables.
fn identity(database: &Database) -> Result<Option<(Option<u32>, String)>, DiskError> {
    let transaction = database.begin_read()?;
    if transaction.list_tables()?.next().is_none() {
        return Ok(None);
    }
    let meta = transaction.open_table(META)?;
    let format = meta.get(VERSION)?.and_then(|bytes| bytes.value().try_into().ok());
    let upstream = meta.get(UPSTREAM)?.map(|bytes| String::from_utf8_lossy(bytes.value()).into_owned());
    Ok(Some((format.map(u32::from_be_bytes), upstream.unwrap_or_default())))
}

fn create(transaction: &WriteTransaction, upstream: &str) -> Result<(), DiskError> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(VERSION, FORMAT.to_be_bytes().as_slice())?;
    meta.insert(UPSTREAM, upstream.as_bytes())?;
    for table in [QUEUED, APPLIED, SUPERSEDED, REJECTED] {
        transaction.open_table(table)?;
    }
    transaction.open_table(ATTEMPTS)?;
    transaction.open_table(PARKED)?;
    transaction.open_table(ECHOES)?;
    transaction.open_table(AHEAD)?;
    transaction.open_table(ENDED)?;
    Ok(())
}

fn load(database: &Database) -> Result<Loaded, DiskError> {
    let transaction = database.begin_read()?;
    let (next_seq, next_event, clock) = match transaction.open_table(META)?.get(MARKS)? {
        Some(marks) => marks_of(marks.value())?,
        None => (1, 1, 0),
    };
    let mut loaded = Loaded {
        queued: Vec::new(),
        attempts: Vec::new(),
        parked: Vec::new(),
        echoes: Vec::new(),
        ahead: Vec::new(),
        next_seq: Seq(next_seq),
        next_event,
        clock: Micros(clock),
    };
    for row in transaction.open_table(QUEUED)?.iter()? {
        let (seq, row) = row?;
        loaded.queued.push((Seq(seq.value()), QueuedRow::decode(row.value())?.head.entry()));
    }
    for row in transaction.open_table(ATTEMPTS)?.iter()? {
        let (seq, attempts) = row?;
        loaded.attempts.push((Seq(seq.value()), attempts.value()));
    }
    for row in transaction.open_table(PARKED)?.iter()? {
        let (row, caller) = row?.0.value();
        loaded.parked.push(LaneId { row: RowId(row), caller: CallerId(caller) });
    }
    for row in transaction.open_table(ECHOES)?.iter()? {
        let (row, echo) = row?;
        let (seq, text) = echo.value();
        loaded.echoes.push((RowId(row.value()), Echo { seq: Seq(seq), text: text.to_owned() }));
    }
    for row in transaction.open_table(AHEAD)?.iter()? {
        let (row, last) = row?;
        loaded.ahead.push((RowId(row.value()), Micros(last.value())));
    }
    Ok(loaded)
}

fn marks_of(bytes: &[u8]) -> Result<(u64, u64, i64), BadRow> {
    let marks: &[u8; 24] = bytes.try_into().map_err(|_| BadRow::of(bytes))?;
    let [seq, event, clock] = [0, 8, 16].map(|at| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&marks[at..at + 8]);
        u64::from_be_bytes(eight)
    });
    Ok((seq, event, clock.cast_signed()))
}

fn of_database(file: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { file: file.to_owned() },
        DatabaseError::Storage(StorageError::Io(error)) => of_io(file, error),
        other => corrupt(file, &other.to_string()),
    }
}

fn of_disk(file: &Path, error: DiskError) -> OpenError {
    match error {
        DiskError::Failed(error) => match *error {
            redb::Error::Io(error) => of_io(file, error),
            other => corrupt(file, &other.to_string()),
        },
        DiskError::InDoubt(redb::CommitError::Storage(StorageError::Io(error))) => of_io(file, error),
        other => corrupt(file, &other.to_string()),
    }
}

/// redb tells in I/O errors of a file that is none of its own, or cut short.
fn of_io(file: &Path, error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => corrupt(file, &error.to_string()),
        _ => OpenError::Io { file: file.to_owned(), error },
    }
}

fn corrupt(file: &Path, what: &str) -> OpenError {
    OpenError::Corrupt { file: file.to_owned(), what: what.to_owned() }
}
