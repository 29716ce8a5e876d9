//! What a node knows of the queue, and whether that is all there is to know.
//!
//! Every change of the journal has a number, and is told on a channel. The node loads what
//! there is, then follows. A number that is left out is a gap: it loads again. A beat
//! asks Redis for the number of the latest change: up to a second from the asking on, who has
//! followed up to there knows all that matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, oneshot, watch};

use super::super::id::{CallerId, EventId, RowId, Seq};
use super::super::presence::Presence;
use super::super::{Depth, Event, Pending, Wanted};
use super::view::View;
use super::wire::{Item, Message};
use crate::store::pulse::TRUST;
use crate::store::stamp::ReplicationId;

/// Events that a subscriber may be behind.
const EVENTS: usize = 4096;

/// Changes that may come while the node loads.
const MAX_BUFFERED: usize = 100_000;

/// Until when nothing is trusted.
const NEVER: u64 = 0;

enum Phase {
    /// There is no link, or it has missed something.
    Away,
    /// Changes that came are applied when the rest is there.
    Loading(Vec<Message>),
    /// Up to date as far as changes have come.
    Live(ReplicationId),
}

struct Inner {
    view: View,
    phase: Phase,
    /// Which link is heard.
    link: u64,
    /// The latest beat: the change that it told of, and when it was sent.
    beat: Option<(u64, Instant)>,
    /// What the server's clock said, in ms, and when.
    server_time: Option<(u64, Instant)>,
    waiting: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    last_event: EventId,
}

/// What there is.
pub struct Loaded {
    /// Which master said so.
    pub replication: ReplicationId,
    /// The change as of which it is, at the earliest.
    pub since: u64,
    /// The last event at that time.
    pub last_event: EventId,
    pub view: View,
    /// What ended since [`Mirror::last_event`].
    pub missed: Vec<Event>,
}

/// The node's copy of the queue.
pub struct Mirror {
    inner: Mutex<Inner>,
    /// The latest change that is in it.
    position: AtomicU64,
    origin: Instant,
    /// In nanoseconds from `origin`.
    trusted_until: AtomicU64,
    presence: Presence,
    changed: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
    /// Something was missed.
    gap: Notify,
}

impl Mirror {
    pub fn new() -> Self {
        let inner = Inner {
            view: View::default(),
            phase: Phase::Away,
            link: 0,
            beat: None,
            server_time: None,
            waiting: BTreeMap::new(),
            last_event: EventId(0),
        };
        Self {
            inner: Mutex::new(inner),
            position: AtomicU64::new(0),
            origin: Instant::now(),
            trusted_until: AtomicU64::new(NEVER),
            presence: Presence::new(),
            changed: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS),
            gap: Notify::new(),
        }
    }

    /// Whether the node knows all that matters. One load.
    pub fn is_trusted(&self, now: Instant) -> bool {
        self.nanoseconds(now) < self.trusted_until.load(Ordering::Acquire)
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// A new link, that is to be heard from now on instead of the last.
    pub fn link(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.link += 1;
        inner.phase = Phase::Loading(Vec::new());
        self.distrust(&mut inner);
        inner.link
    }

    /// There is no link any more. What is known stays, and isn't trusted.
    pub fn unlink(&self) {
        self.lose(&mut self.inner.lock());
    }

    fn lose(&self, inner: &mut Inner) {
        inner.phase = Phase::Away;
        self.distrust(inner);
        // Who waits would wait in vain.
        inner.waiting.clear();
    }

    fn distrust(&self, inner: &mut Inner) {
        inner.beat = None;
        self.trusted_until.store(NEVER, Ordering::Release);
    }

    /// Returns when something was missed.
    pub async fn gap(&self) {
        loop {
            self.gap.notified().await;
            // It may have been about a link before this one.
            if matches!(self.inner.lock().phase, Phase::Away) {
                return;
            }
        }
    }

    /// What the channel said on a link.
    pub fn hear(&self, link: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            // Somebody tried whether he may say something.
            return;
        }
        let message = Message::read(bytes);
        let mut inner = self.inner.lock();
        if inner.link != link {
            return;
        }
        let is_followed = match (message, &mut inner.phase) {
            (Ok(message), Phase::Loading(buffered)) => {
                buffered.push(message);
                buffered.len() <= MAX_BUFFERED
            }
            (Ok(message), Phase::Live(replication)) => {
                message.replication == *replication && self.follow(&mut inner, message)
            }
            (Err(error), Phase::Loading(_) | Phase::Live(_)) => {
                tracing::warn!(%error, "what the journal tells can't be read");
                false
            }
            (_, Phase::Away) => true,
        };
        if !is_followed {
            self.lose(&mut inner);
            self.gap.notify_one();
        }
        drop(inner);
        self.notify();
    }

    /// Applies a change. False if one before it is missing.
    fn follow(&self, inner: &mut Inner, message: Message) -> bool {
        let position = self.position.load(Ordering::Relaxed);
        if message.change <= position {
            return true;
        }
        if message.change != position + 1 {
            return false;
        }
        for item in message.items {
            self.apply(inner, item);
        }
        self.reach(inner, message.change);
        true
    }

    fn apply(&self, inner: &mut Inner, item: Item) {
        match item {
            Item::Appended(write, event) => {
                let caller = write.caller;
                if !inner.view.insert(write) {
                    return;
                }
                self.presence.add(caller);
                self.tell(inner, event);
            }
            Item::Ended(seq, event) => {
                if let Some(caller) = inner.view.remove(seq) {
                    self.presence.remove(caller);
                }
                self.tell(inner, event);
            }
            Item::Lane(lane, state) => inner.view.set_lane(lane, state),
        }
    }

    fn tell(&self, inner: &mut Inner, event: Event) {
        if event.number > inner.last_event {
            inner.last_event = event.number;
            // Nobody may be listening.
            let _ = self.events.send(event);
        }
    }

    fn reach(&self, inner: &mut Inner, change: u64) {
        self.position.store(change, Ordering::Release);
        let later = inner.waiting.split_off(&(change + 1));
        for waiting in std::mem::replace(&mut inner.waiting, later).into_values().flatten() {
            let _ = waiting.send(());
        }
        self.trust(inner);
    }

    fn trust(&self, inner: &mut Inner) {
        if let (Some((change, sent_at)), Phase::Live(_)) = (inner.beat, &inner.phase)
            && change <= self.position.load(Ordering::Relaxed)
        {
            self.trusted_until.store(self.nanoseconds(sent_at + TRUST), Ordering::Release);
        }
    }

    /// What was loaded on a link; what came meanwhile goes on from there. Whether nothing is missing.
    pub fn loaded(&self, link: u64, loaded: Loaded) -> bool {
        let Loaded { replication, since, last_event, view, missed } = loaded;
        let mut inner = self.inner.lock();
        if inner.link != link {
            return false;
        }
        let Phase::Loading(buffered) = std::mem::replace(&mut inner.phase, Phase::Live(replication)) else {
            return false;
        };
        // Nobody must seem to have nothing while the two change places.
        view.callers().for_each(|caller| self.presence.add(caller));
        let before = std::mem::replace(&mut inner.view, view);
        inner.view.set_paused(before.is_paused());
        before.callers().for_each(|caller| self.presence.remove(caller));
        for event in missed {
            self.tell(&mut inner, event);
        }
        inner.last_event = inner.last_event.max(last_event);
        self.reach(&mut inner, since);
        let is_whole = buffered
            .into_iter()
            .all(|message| message.replication == replication && self.follow(&mut inner, message));
        if !is_whole {
            self.lose(&mut inner);
        }
        drop(inner);
        self.notify();
        is_whole
    }

    /// The last event that was told of.
    pub fn last_event(&self) -> EventId {
        self.inner.lock().last_event
    }

    /// Redis was asked at `sent_at` for the latest change and for its time, and said this.
    /// Whether the node is that far.
    pub fn beat(&self, sent_at: Instant, change: u64, server_time: u64) -> bool {
        let mut inner = self.inner.lock();
        inner.server_time = Some((server_time, Instant::now()));
        inner.beat = Some((change, sent_at));
        self.trust(&mut inner);
        change <= self.position.load(Ordering::Relaxed)
    }

    /// Returns once a change is known here, or there is no link, or the time is over.
    pub async fn reached(&self, change: u64, patience: Duration) {
        if self.position.load(Ordering::Acquire) >= change {
            return;
        }
        let waiting = {
            let mut inner = self.inner.lock();
            if self.position.load(Ordering::Acquire) >= change || matches!(inner.phase, Phase::Away) {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            inner.waiting.entry(change).or_default().push(sender);
            receiver
        };
        if tokio::time::timeout(patience, waiting).await.is_err() {
            // It would seem as if it had not happened.
            self.distrust(&mut self.inner.lock());
        }
    }

    fn notify(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    pub fn set_paused(&self, paused: bool) {
        self.inner.lock().view.set_paused(paused);
        self.notify();
    }

    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub fn snapshot(&self, caller: CallerId) -> Arc<[Pending]> {
        if !self.presence.may_have(caller) {
            return Arc::default();
        }
        self.inner.lock().view.snapshot(caller)
    }

    pub fn row_is_pending(&self, row: RowId) -> bool {
        self.inner.lock().view.row_is_pending(row)
    }

    pub fn depth(&self) -> Depth {
        self.inner.lock().view.depth()
    }

    pub fn after(&self, after: Seq, most: usize) -> Vec<Pending> {
        self.inner.lock().view.after(after, most)
    }

    pub fn wanted(&self, wanted: &Wanted<'_>) -> Vec<Pending> {
        self.inner.lock().view.wanted(wanted)
    }

    pub fn among(&self, seqs: &BTreeSet<Seq>) -> Vec<Pending> {
        self.inner.lock().view.among(seqs)
    }

    /// Whether it is of no use to ask for ready lanes: none is, for certain.
    pub fn has_nothing_ready(&self, now: Instant) -> bool {
        if !self.is_trusted(Instant::now()) {
            return false;
        }
        let inner = self.inner.lock();
        let Some((time, at)) = inner.server_time else { return false };
        let passed = now.saturating_duration_since(at).as_millis();
        !inner.view.has_ready(time.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// When the next waiting lane becomes ready by time alone.
    pub fn next_due(&self) -> Option<Instant> {
        let inner = self.inner.lock();
        let (time, at) = inner.server_time?;
        let due = inner.view.next_due()?;
        Some(at + Duration::from_millis(due.saturating_sub(time)))
    }

    pub fn lingering(&self, seqs: &[Seq]) -> Vec<Seq> {
        self.inner.lock().view.lingering(seqs)
    }

    pub fn waits_for(&self, rights: [u8; 16]) -> bool {
        self.inner.lock().view.waits_for(rights)
    }
}
