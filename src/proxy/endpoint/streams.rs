//! The open streams of events, and what brings each its share.
//!
//! One task, [`Streams::deliver`], hears all that happens in the journal and
//! which watched tags move, and puts it into the inboxes of those concerned.
//! However many streams are open, a write costs those that tell of it nothing
//! but a look whether any is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::cache::changes::{Changes, Watch};
use crate::postgrest::timestamp::Micros;
use crate::store::journal::{CallerId, Event, Journal};
use crate::tag::TagId;
use crate::write::events::Position;

/// The most streams that are open at the same time.
const MAX_STREAMS: usize = 10_000;
/// The most that one caller has.
const MAX_PER_CALLER: usize = 16;
/// What a stream may lag behind.
const INBOX: usize = 64;
/// A table's changes are told of once in this time at most.
const ROUND: Duration = Duration::from_millis(100);

/// Something that a stream tells.
#[derive(Debug, Clone)]
pub enum News {
    /// Something happened to one of the caller's writes.
    Write(Arc<Event>),
    /// A table may have changed.
    Change {
        /// Its place among the stream's tables.
        table: usize,
        /// When it was noticed.
        at: Micros,
    },
}

/// Why no stream is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowded {
    /// There are too many of this caller's.
    Caller,
    /// There are too many altogether, or the process stops.
    Everybody,
}

/// All open streams.
pub struct Streams {
    changes: Arc<Changes>,
    events: Mutex<Option<broadcast::Receiver<Event>>>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    is_closed: bool,
    /// The last event that was put into inboxes.
    latest: Option<Position>,
    streams: HashMap<u64, Outlet>,
    by_caller: HashMap<CallerId, BTreeSet<u64>>,
    /// Streams with the places of their tables.
    by_tag: HashMap<TagId, BTreeSet<(u64, usize)>>,
}

/// A stream as those see it who fill its inbox.
struct Outlet {
    caller: CallerId,
    inbox: mpsc::Sender<News>,
    tables: Vec<Watch>,
}

impl Streams {
    /// No stream is open. What happens in `journal` from now on is heard of.
    pub fn new(journal: Option<&dyn Journal>, changes: Arc<Changes>) -> Self {
        let events = Mutex::new(journal.map(Journal::subscribe));
        Self { changes, events, open: Mutex::default() }
    }

    /// Fills the inboxes, for as long as the process runs.
    pub async fn deliver(self: Arc<Self>) {
        let mut events = self.events.lock().take();
        let mut next_round = Instant::now();
        loop {
            let moved = async {
                sleep_until(next_round).await;
                self.changes.moved().await
            };
            tokio::select! {
                event = next(&mut events) => match event {
                    Ok(event) => self.open.lock().tell(event),
                    // What was missed is found in the journal by those who come back.
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "streams of events ended: too much happened at once");
                        self.open.lock().end_all();
                    }
                    Err(RecvError::Closed) => events = None,
                },
                moved = moved => {
                    self.open.lock().tell_of_changes(&moved, Micros::of(SystemTime::now()));
                    next_round = Instant::now() + ROUND;
                }
            }
        }
    }

    /// Opens a stream for `caller`. What happens from now on is in its inbox.
    ///
    /// # Errors
    ///
    /// [`Crowded`] where there is no place for it.
    pub fn open(self: &Arc<Self>, caller: CallerId) -> Result<Stream, Crowded> {
        let mut open = self.open.lock();
        let (number, inbox) = open.add(caller)?;
        Ok(Stream { streams: Arc::clone(self), number, inbox, latest: open.latest })
    }

    /// Ends all streams, behind what is in their inboxes, and opens no others:
    /// the process stops.
    pub fn close(&self) {
        let mut open = self.open.lock();
        open.is_closed = true;
        open.end_all();
    }
}

async fn next(events: &mut Option<broadcast::Receiver<Event>>) -> Result<Event, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

impl Open {
    fn add(&mut self, caller: CallerId) -> Result<(u64, mpsc::Receiver<News>), Crowded> {
        if self.is_closed || self.streams.len() >= MAX_STREAMS {
            return Err(Crowded::Everybody);
        }
        let callers = self.by_caller.entry(caller).or_default();
        if callers.len() >= MAX_PER_CALLER {
            return Err(Crowded::Caller);
        }
        self.last += 1;
        callers.insert(self.last);
        let (inbox, receiver) = mpsc::channel(INBOX);
        self.streams.insert(self.last, Outlet { caller, inbox, tables: Vec::new() });
        Ok((self.last, receiver))
    }

    fn watch(&mut self, number: u64, tables: Vec<Watch>) {
        let Some(outlet) = self.streams.get_mut(&number) else { return };
        for (table, watch) in tables.iter().enumerate() {
            for tag in watch.tags() {
                self.by_tag.entry(*tag).or_default().insert((number, table));
            }
        }
        outlet.tables = tables;
    }

    fn remove(&mut self, number: u64) {
        let Some(Outlet { caller, tables, .. }) = self.streams.remove(&number) else { return };
        if let Some(callers) = self.by_caller.get_mut(&caller) {
            callers.remove(&number);
            if callers.is_empty() {
                self.by_caller.remove(&caller);
            }
        }
        for (table, watch) in tables.iter().enumerate() {
            for tag in watch.tags() {
                let Some(places) = self.by_tag.get_mut(tag) else { continue };
                places.remove(&(number, table));
                if places.is_empty() {
                    self.by_tag.remove(tag);
                }
            }
        }
    }

    fn end_all(&mut self) {
        self.streams.clear();
        self.by_caller.clear();
        self.by_tag.clear();
    }

    /// Puts an event into the inboxes of its writer.
    fn tell(&mut self, event: Event) {
        self.latest = Some(Position::of(&event));
        let Some(streams) = self.by_caller.get(&event.caller).cloned() else { return };
        let event = Arc::new(event);
        for number in streams {
            self.put(number, News::Write(event.clone()));
        }
    }

    /// Puts the tables that these tags are about into the inboxes of those who asked for them.
    fn tell_of_changes(&mut self, moved: &HashSet<TagId>, at: Micros) {
        let concerned: BTreeSet<(u64, usize)> =
            moved.iter().filter_map(|tag| self.by_tag.get(tag)).flatten().copied().collect();
        for (number, table) in concerned {
            self.put(number, News::Change { table, at });
        }
    }

    /// A stream whose inbox is full is read too slowly, and ends behind what is in it.
    fn put(&mut self, number: u64, news: News) {
        let taken = self.streams.get(&number).is_none_or(|outlet| outlet.inbox.try_send(news).is_ok());
        if !taken {
            self.remove(number);
        }
    }
}

/// An open stream. It is closed when it is dropped.
pub struct Stream {
    streams: Arc<Streams>,
    number: u64,
    inbox: mpsc::Receiver<News>,
    latest: Option<Position>,
}

impl Stream {
    /// The last event before those that come into the inbox, if there has been one.
    pub fn latest(&self) -> Option<Position> {
        self.latest
    }

    /// Tells from now on of changes of tables with these tags.
    pub fn watch(&self, tables: Vec<Vec<TagId>>) {
        let tables = tables.into_iter().map(|tags| self.streams.changes.watch(tags)).collect();
        self.streams.open.lock().watch(self.number, tables);
    }

    /// What comes next; `None`: the stream ends. Nothing is lost by giving up waiting.
    pub async fn next(&mut self) -> Option<News> {
        self.inbox.recv().await
    }

    /// What there is already.
    pub fn ready(&mut self) -> Option<News> {
        self.inbox.try_recv().ok()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.open.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests;
