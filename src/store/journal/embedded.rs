//! The journal in a file on this machine's disk.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;

use self::writer::{Message, Writer, of_failure};
use super::disk::{self, Disk, DiskError, Loaded};
use super::id::{CallerId, EventId, LaneId, RowId, Seq, WriteId};
use super::presence::Presence;
use super::queue::{Entry, Limits, Queue, Taken};
use super::{
    AppendError, Appended, Claim, Depth, Draft, EndState, Ended, Event, EventPage, Journal, JournalError,
    Member, OpenError, Pending, Settled, Status, Wait, Wanted,
};

/// Messages that wait for the writer. Who has one more waits until there is room.
const INBOX: usize = 1024;

/// Events that a subscriber may be behind.
const EVENTS: usize = 4096;

/// Bytes of records from which on a claim takes no more members.
const CLAIM_BYTES: usize = 1024 * 1024;

/// Where a journal is, whose it is, and how much it may hold.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder; made with mode 0700 if it isn't there.
    pub folder: PathBuf,
    /// What tells the upstream from any other. A journal remembers it.
    pub upstream: String,
    /// How much may be queued and in flight.
    pub limits: Limits,
}

/// How often this process has opened a journal: a claim on one that was closed since is no
/// claim on the one that was opened after it.
static OPENED: AtomicU64 = AtomicU64::new(0);

type Clock = dyn Fn() -> SystemTime + Send + Sync;

/// A journal in a file, with its writer thread. Dropped, it is closed.
pub struct Embedded {
    shared: Arc<Shared>,
    // Dropped before the thread is waited for, which ends when it is.
    inbox: mpsc::Sender<Message>,
    _writer: Joined,
}

struct Shared {
    disk: Disk,
    queue: Mutex<Queue>,
    presence: Presence,
    changed: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
    failure: OnceLock<String>,
    closed: AtomicBool,
    clock: Box<Clock>,
}

struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(writer) = self.0.take() {
            // It has said so itself if it ended badly.
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn now(&self) -> SystemTime {
        (self.clock)()
    }

    fn failure(&self) -> Option<JournalError> {
        self.failure.get().map(|why| JournalError::Unavailable(why.clone()))
    }

    fn fail(&self, why: &dyn fmt::Display) {
        let why = why.to_string();
        tracing::error!(file = %self.disk.file().display(), error = %why, "the journal can't be used until restart");
        let _ = self.failure.set(why);
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(JournalError::Closed);
        }
        self.failure().map_or(Ok(()), Err)
    }

    /// Why the writer isn't there.
    fn gone(&self) -> JournalError {
        self.failure().unwrap_or(JournalError::Closed)
    }

    fn release(&self, lane: LaneId, number: u64, wait: Wait) {
        self.queue.lock().release(lane, number, wait, Instant::now());
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }
}

impl Embedded {
    /// Opens the journal, and makes it if there is none. Reads the whole queue: not for a
    /// thread that has other things to do.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says which file and what to do.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Self::open_with_clock(options, Box::new(SystemTime::now))
    }

    /// Whether there is a journal in this folder.
    pub fn is_in(folder: &Path) -> bool {
        disk::file_in(folder).exists()
    }

    fn open_with_clock(options: &Options, clock: Box<Clock>) -> Result<Self, OpenError> {
        let (disk, loaded) = disk::open(&options.folder, &options.upstream)?;
        let (presence, next_event) = (Presence::new(), EventId(loaded.next_event));
        let queue = restore(loaded, options.limits, &presence);
        let shared = Arc::new(Shared {
            disk,
            queue: Mutex::new(queue),
            presence,
            changed: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS),
            failure: OnceLock::new(),
            closed: AtomicBool::new(false),
            clock,
        });
        let (inbox, messages) = mpsc::channel(INBOX);
        let writer = Writer::new(shared.clone(), messages, next_event);
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| OpenError::Io { file: shared.disk.file().to_owned(), error })?;
        Ok(Self { shared, inbox, _writer: Joined(Some(thread)) })
    }

    /// Sends the writer a message and waits for its answer. `Err`: there is no writer.
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(message(reply)).await.map_err(|_| self.shared.gone())?;
        answer.await.map_err(|_| self.shared.gone())
    }

    /// Reads from disk, where it holds up nobody.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Disk) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.shared.check()?;
        let shared = self.shared.clone();
        match spawn_blocking(move || read(&shared.disk)).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => Err(unreadable(&self.shared.disk, &error)),
            Err(stopped) => Err(unreadable(&self.shared.disk, &stopped)),
        }
    }

    async fn look(&self, id: WriteId) -> Result<Option<Status>, JournalError> {
        let queued = self.shared.queue.lock().by_id(id).map(|(seq, entry)| (seq, entry.attempts));
        if let Some((seq, attempts)) = queued
            && let Some(status) = self.read(move |disk| disk.queued(seq, attempts)).await?
        {
            return Ok(Some(status));
        }
        Ok(self.read(move |disk| disk.ended(id)).await?.map(|(status, _)| status))
    }
}

fn restore(loaded: Loaded, limits: Limits, presence: &Presence) -> Queue {
    let first_claim = OPENED.fetch_add(1, Ordering::Relaxed) << 32;
    let mut queue = Queue::new(limits, loaded.clock, loaded.next_seq, first_claim);
    for (seq, entry) in loaded.queued {
        presence.add(entry.caller);
        queue.restore(seq, entry);
    }
    for (seq, attempts) in loaded.attempts {
        queue.restore_attempts(seq, attempts);
    }
    for lane in loaded.parked {
        queue.restore_parked(lane);
    }
    for (row, echo) in loaded.echoes {
        queue.restore_echo(row, echo);
    }
    for (row, last) in loaded.ahead {
        queue.restore_ahead(row, last);
    }
    queue
}

fn unreadable(disk: &Disk, error: &dyn fmt::Display) -> JournalError {
    tracing::error!(file = %disk.file().display(), error = %error, "the journal can't be read");
    JournalError::Unavailable(error.to_string())
}

#[async_trait]
impl Journal for Embedded {
    async fn append(&self, draft: Draft) -> Result<Appended, AppendError> {
        self.shared.check().map_err(|failure| of_failure(&failure))?;
        let (reply, answer) = oneshot::channel();
        let sent = self.inbox.send(Message::Append { draft, reply }).await;
        sent.map_err(|_| of_failure(&self.shared.gone()))?;
        answer.await.unwrap_or(Err(AppendError::Unknown))
    }

    async fn find(&self, id: WriteId) -> Result<Option<Status>, JournalError> {
        if let Some(status) = self.look(id).await? {
            return Ok(Some(status));
        }
        self.ask(|reply| Message::Barrier { reply }).await?;
        self.look(id).await
    }

    fn snapshot(&self, caller: CallerId) -> Arc<[Pending]> {
        if !self.shared.presence.may_have(caller) {
            return Arc::default();
        }
        self.shared.queue.lock().snapshot(caller)
    }

    fn row_is_pending(&self, row: RowId) -> bool {
        self.shared.queue.lock().row_is_pending(row)
    }

    async fn records(&self, seqs: &[Seq]) -> Result<Vec<Option<Bytes>>, JournalError> {
        let seqs = seqs.to_vec();
        self.read(move |disk| disk.records(seqs)).await
    }

    async fn claim(&self, most: usize, now: Instant) -> Result<Vec<Claim>, JournalError> {
        self.shared.check()?;
        let taken = self.shared.queue.lock().claim(most, now);
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let unread = Unread { shared: self.shared.clone(), taken };
        let (claims, unread) = self.read(move |disk| Ok((unread.read(disk)?, unread))).await?;
        unread.keep();
        Ok(claims)
    }

    async fn settle(
        &self,
        claim: &Claim,
        ended: Vec<Ended>,
        final_only: bool,
    ) -> Result<Settled, JournalError> {
        let (lane, number) = (claim.lane, claim.number);
        self.ask(|reply| Message::Settle { lane, number, ended, final_only, reply }).await?
    }

    async fn release(&self, claim: Claim, wait: Wait) -> Result<(), JournalError> {
        let (lane, number) = (claim.lane, claim.number);
        match wait {
            Wait::Counted(_) | Wait::Parked => {
                self.ask(|reply| Message::Release { lane, number, wait, reply }).await?
            }
            Wait::Now | Wait::Until(_) | Wait::Older | Wait::Token { .. } => {
                self.shared.release(lane, number, wait);
                Ok(())
            }
        }
    }

    async fn unpark(&self, lane: LaneId) -> Result<bool, JournalError> {
        self.ask(|reply| Message::Unpark { lane, reply }).await?
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn next_due(&self) -> Option<Instant> {
        self.shared.queue.lock().next_due()
    }

    fn end_linger(&self, seqs: &[Seq]) {
        self.shared.queue.lock().end_linger(seqs);
        self.shared.notify();
    }

    fn wake_token(&self, rights: [u8; 16]) {
        self.shared.queue.lock().wake_token(rights);
        self.shared.notify();
    }

    fn failure(&self) -> Option<JournalError> {
        self.shared.check().err()
    }

    fn set_paused(&self, paused: bool) {
        self.shared.queue.lock().set_paused(paused);
        self.shared.notify();
    }

    fn depth(&self) -> Depth {
        self.shared.queue.lock().depth()
    }

    fn queued(&self, after: Seq, most: usize) -> Vec<Pending> {
        self.shared.queue.lock().after(after, most)
    }

    fn wanted(&self, wanted: &Wanted<'_>) -> Vec<Pending> {
        self.shared.queue.lock().wanted(wanted)
    }

    fn queued_among(&self, seqs: &BTreeSet<Seq>) -> Vec<Pending> {
        self.shared.queue.lock().among(seqs)
    }

    async fn ended(&self, state: EndState, after: EventId, most: usize) -> Result<Vec<Status>, JournalError> {
        self.read(move |disk| disk.ended_so(state, after, most)).await
    }

    async fn rejected_record(&self, id: WriteId) -> Result<Option<Bytes>, JournalError> {
        let ended = self.read(move |disk| disk.ended(id)).await?;
        Ok(ended.map(|(_, record)| record).filter(|record| !record.is_empty()))
    }

    async fn ended_since(
        &self,
        caller: CallerId,
        after: EventId,
        most: usize,
    ) -> Result<EventPage, JournalError> {
        self.read(move |disk| disk.ended_since(caller, after, most)).await
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    fn set_limits(&self, limits: Limits) {
        self.shared.queue.lock().set_limits(limits);
    }

    async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        // Without a writer it is closed already.
        let _ = self.ask(|reply| Message::Close { reply }).await;
    }
}

/// Lanes that were claimed and whose records are yet to be read. Dropped before, they
/// are released.
struct Unread {
    shared: Arc<Shared>,
    taken: Vec<Taken>,
}

impl Unread {
    fn read(&self, disk: &Disk) -> Result<Vec<Claim>, DiskError> {
        self.taken.iter().map(|taken| claim_of(taken, disk)).collect()
    }

    fn keep(mut self) {
        self.taken.clear();
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        for taken in &self.taken {
            self.shared.release(taken.lane, taken.number, Wait::Now);
        }
    }
}

fn claim_of(taken: &Taken, disk: &Disk) -> Result<Claim, DiskError> {
    let records = disk.records(taken.members.iter().map(|(seq, _)| *seq))?;
    let mut members = Vec::with_capacity(taken.members.len());
    let mut bytes = 0;
    for ((seq, entry), record) in taken.members.iter().zip(records) {
        let record = record.ok_or(DiskError::NoRow(*seq))?;
        bytes += record.len();
        if bytes > CLAIM_BYTES && !members.is_empty() {
            break;
        }
        let Entry { id, updated_at, accepted_at, .. } = *entry;
        members.push(Member { seq: *seq, id, updated_at, accepted_at, record });
    }
    let attempts = taken.members.first().map_or(0, |(_, head)| head.attempts);
    Ok(Claim { lane: taken.lane, number: taken.number, attempts, members, echo: taken.echo.clone() })
}
