//! What can go wrong with a journal.

use std::io;
use std::path::PathBuf;

/// Why a journal can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or the file can't be made, read or written.
    #[error("The journal {} can't be opened: {error}. Check the folder's owner and mode and the disk, or set store.path", file.display())]
    Io {
        /// The folder or file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process has it open.
    #[error("The journal {} is in use by another process. Stop that one, or give this one a store.path of its own", file.display())]
    Locked {
        /// The file.
        file: PathBuf,
    },
    /// It was written for another upstream: its writes must not be sent to this one.
    #[error("The journal {} belongs to another upstream, {theirs}, not to {ours}. Set store.path to another folder, or upstream.url back", file.display())]
    OtherUpstream {
        /// The file.
        file: PathBuf,
        /// The upstream that it was made for.
        theirs: String,
        /// The one that is configured.
        ours: String,
    },
    /// A later version of Sluice wrote it.
    #[error("The journal {} has format {found}, this version of Sluice knows {known}. Run the version that wrote it until the queue is empty, or a later one", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The latest format that is known here.
        known: u32,
    },
    /// Its content makes no sense.
    #[error("The journal {} is corrupt: {what}. Restore the file from a copy, or move it away to start with an empty one: the writes in it are then not replayed", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What was found.
        what: String,
    },
}

/// Why a write was not appended, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// As many writes are queued as may be.
    #[error("The queue is full")]
    Full,
    /// As many of this caller's writes are queued as may be.
    #[error("The caller's share of the queue is full")]
    CallerFull,
    /// The last queued write of the lane isn't the one that the author knew of.
    #[error("The row has another queued write of this caller by now")]
    Moved,
    /// The row has a queued write, and this one has to be alone.
    #[error("The row has a queued write")]
    RowBusy,
    /// Longer than a record may be.
    #[error("The record is too large")]
    TooLarge,
    /// The journal is closed. Certainly not appended.
    #[error("The journal is closed")]
    Closed,
    /// The journal can't be written. Certainly not appended.
    #[error("The journal can't be written: {0}")]
    Unavailable(String),
    /// It may be durable or not; [`find`](super::Journal::find) tells once the journal works again.
    #[error("It is not known whether the write was queued")]
    Unknown,
}

/// Why the journal doesn't answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It is closed.
    #[error("The journal is closed")]
    Closed,
    /// It can't be read or written until it is opened anew.
    #[error("The journal can't be used: {0}")]
    Unavailable(String),
}
