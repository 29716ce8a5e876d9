//! The store that all nodes share: answers and their generations in Redis (L2),
//! and the bus on which each node hears what the others invalidate.
//!
//! [`responses`] reads and writes entries and generations, [`bus`] listens and
//! proves that nothing was missed ([`pulse`]), [`outbox`] keeps what could not
//! be said while Redis was away, [`notes`] lets one node stand in for another
//! that died. [`commands`] and [`connect`] lead to one server, to a master that
//! Sentinels name, or to a Cluster. [`Shared`] is all of it, as the proxy uses it.
//!
//! In Redis a tag's generation is a random number that an invalidation deletes;
//! an entry there remembers those that its tags had before the fetch, each
//! bound to the replication id of its master ([`stamp`]). In this process the
//! same tag has a counter ([`Generations`]), which moves as soon as the bus tells
//! of an invalidation.

mod backoff;
mod breaker;
mod bus;
mod claim;
mod commands;
pub mod connect;
pub mod envelope;
mod error;
pub mod inspect;
pub mod journal;
pub mod names;
mod notes;
mod outbox;
mod pulse;
mod responses;
mod script;
pub mod stamp;
mod upkeep;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use self::claim::SharedClaim;
pub use self::error::StoreError;
pub use self::notes::Note;
pub use self::responses::{Kept, LeaseState};
pub use self::upkeep::OpenError;

use self::bus::Bus;
use self::commands::Commands;
use self::notes::Notes;
use self::outbox::Outbox;
use self::pulse::Pulse;
use self::responses::{Found, Lease, Responses};
use self::stamp::ReplicationId;
use self::upkeep::Health;
use crate::cache::{Entry, EntryTags, Generations, Key, Memory, Snapshot};
use crate::tag::TagId;
use crate::telemetry::metrics::Metrics;

/// How long one request waits for the store, all its calls together.
const BUDGET: Duration = Duration::from_millis(80);

/// How long a request may still wait for the store.
#[derive(Clone)]
pub struct Patience(Arc<AtomicU64>);

impl Patience {
    /// A request's that has not waited yet.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(BUDGET.as_micros() as u64)))
    }

    fn left(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn spend(&self, waited: Duration) {
        let left = self.left().saturating_sub(waited);
        self.0.store(left.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

/// What the store knows of in this process.
#[derive(Clone)]
pub struct Local {
    /// L1.
    pub memory: Arc<Memory>,
    /// What voids its entries.
    pub generations: Arc<Generations>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The entry's key.
    pub key: &'a Key,
    /// Whether the request is a HEAD.
    pub head: bool,
    /// The tags that the request has now.
    pub tags: &'a EntryTags,
    /// Their generations in this process, read before now.
    pub snapshot: &'a Snapshot,
}

/// The store that all nodes share, as one node uses it.
pub struct Shared {
    commands: Arc<Commands>,
    responses: Arc<Responses>,
    pulse: Arc<Pulse>,
    outbox: Arc<Outbox>,
    notes: Arc<Notes>,
    health: Arc<Health>,
    local: Local,
    /// How many entries other nodes have removed by name.
    removals: Arc<AtomicU64>,
    _bus: Bus,
}

impl Shared {
    /// Whether this node hears what the others invalidate. If not, nothing in
    /// L1 may be served.
    pub fn is_in_touch(&self) -> bool {
        self.pulse.is_trusted(Instant::now())
    }

    /// Whether what is stored may be read: Redis answers, it is the one that
    /// the bus leads to, and it knows of all that this node has invalidated.
    pub fn is_ready(&self) -> bool {
        self.health.is_adopted()
            && self.commands.is_available()
            && self.outbox.is_empty()
            && self.is_in_touch()
    }

    /// The entry that answers this request, if there is one. It is in L1 from
    /// then on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be asked.
    pub async fn look(&self, asked: Asked<'_>, patience: &Patience) -> Result<Option<Entry>, StoreError> {
        self.check_ready("look")?;
        let call = |deadline| self.responses.look(asked.key, asked.tags, deadline);
        let removals = self.removals.load(Ordering::SeqCst);
        let looked = self.timed("look", patience, call).await?;
        self.check_masters(&looked.replications)?;
        Ok(looked.found.and_then(|found| self.found(found, asked, removals)))
    }

    /// Reads the generations that a fill's answer is to be stored under, and
    /// what is stored now. With `leases` it also takes the key's lease, which
    /// one node at a time has. Generations are kept for `keep_for` at least.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be asked.
    pub async fn claim(
        self: &Arc<Self>,
        asked: Asked<'_>,
        leases: bool,
        keep_for: Duration,
        patience: &Patience,
    ) -> Result<(SharedClaim, Option<Entry>), StoreError> {
        self.check_ready("claim")?;
        let Asked { key, head, tags, .. } = asked;
        let lease = if leases { Some(Lease::new(*key, head)?) } else { None };
        // Before it is sent: dropped halfway, it may have been granted all the same.
        let mut claim = SharedClaim::new(self.clone(), *key, lease.clone(), patience.clone());
        let call = |deadline| self.responses.claim(key, tags, lease.as_ref(), keep_for, deadline);
        let removals = self.removals.load(Ordering::SeqCst);
        let claimed = self.timed("claim", patience, call).await?;
        self.check_masters(&claimed.replications)?;
        if !claimed.held && !claimed.stamps.complete() {
            // There was no memory for a generation.
            self.local.metrics.store_operation("claim", StoreError::Full.kind());
            self.health.full();
        }
        let entry = claimed.found.and_then(|found| self.found(found, asked, removals));
        claim.granted(claimed.stamps, claimed.held, claimed.lease);
        Ok((claim, entry))
    }

    /// Removes an entry here and on all nodes.
    pub async fn remove(&self, key: &Key, patience: &Patience) {
        let call = |deadline| self.responses.remove(key, deadline);
        // What can't be removed now ends with its stale window.
        let _ = self.timed("remove", patience, call).await;
    }

    /// Voids whatever carries one of the tags, on all nodes. With a `hold`
    /// what is fetched until it is over is not kept either. What Redis can't
    /// be told now it is told first when it is back; until then this node reads
    /// nothing from it.
    pub async fn invalidate(&self, tags: &[TagId], hold: Duration, patience: &Patience) {
        let call = |deadline| self.send(tags, hold, deadline);
        // Where something waits to be sent already this joins it.
        let is_sent = match self.check_ready("invalidate") {
            Ok(()) => self.timed("invalidate", patience, call).await.is_ok(),
            Err(_) => false,
        };
        if !is_sent {
            self.outbox.push(tags, hold);
            self.health.wake();
        }
    }

    /// [Invalidates](Shared::invalidate) for a write that nobody waits for any
    /// more, and once more when `hold` is over.
    pub fn invalidate_behind(self: &Arc<Self>, tags: Vec<TagId>, hold: Duration, note: Option<Note>) {
        if !hold.is_zero() {
            // A Redis that restarts meanwhile forgets the hold.
            self.outbox.later(&tags, Duration::ZERO, Instant::now() + hold);
        }
        let shared = self.clone();
        tokio::spawn(async move {
            shared.invalidate(&tags, hold, &Patience::new()).await;
            // Redis knows, or the outbox does, which keeps notes from being forgotten.
            drop(note);
        });
    }

    /// Notes a write that is about to go upstream. If this node dies before
    /// the note is dropped, another one invalidates `tags` and holds them for
    /// `hold`. `None` if that can't be noted.
    pub async fn note_write(&self, tags: &[TagId], hold: Duration, patience: &Patience) -> Option<Note> {
        self.check_ready("note").ok()?;
        let call = |deadline| self.notes.open(tags, hold, deadline);
        self.timed("note", patience, call).await.ok()
    }

    /// Tells Redis, and with it all nodes.
    async fn send(&self, tags: &[TagId], hold: Duration, deadline: Duration) -> Result<(), StoreError> {
        let masters = self.responses.invalidate(tags, hold, deadline).await?;
        self.check_masters(&masters)
    }

    /// Makes an entry of what was found and puts it into L1, unless entries
    /// have been removed since `removals` was read: this may be one of them.
    fn found(&self, found: Found, asked: Asked<'_>, removals: u64) -> Option<Entry> {
        let entry = decode(found, asked)?;
        if self.removals.load(Ordering::SeqCst) == removals {
            self.local.memory.insert_found(*asked.key, entry.clone());
        }
        Some(entry)
    }

    fn check_ready(&self, operation: &'static str) -> Result<(), StoreError> {
        if self.is_ready() {
            return Ok(());
        }
        self.local.metrics.store_operation(operation, StoreError::Unavailable.kind());
        Err(StoreError::Unavailable)
    }

    /// A master that the bus doesn't lead to may not know of all invalidations.
    fn check_masters(&self, seen: &[ReplicationId]) -> Result<(), StoreError> {
        if seen.iter().all(|id| self.pulse.knows(*id)) {
            return Ok(());
        }
        if self.is_in_touch() {
            self.commands.reconnect();
        }
        Err(StoreError::Unavailable)
    }

    /// Calls the store within what is left of `patience`, and counts the call.
    async fn timed<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        operation: &'static str,
        patience: &Patience,
        call: impl FnOnce(Duration) -> F,
    ) -> Result<T, StoreError> {
        let left = patience.left();
        let result = if left.is_zero() || !self.health.is_adopted() {
            Err(StoreError::Unavailable)
        } else {
            let begun = Instant::now();
            let result = call(left).await;
            patience.spend(begun.elapsed());
            result
        };
        let outcome = result.as_ref().map_or_else(StoreError::kind, |_| "ok");
        self.local.metrics.store_operation(operation, outcome);
        if result.as_ref().is_err_and(|error| *error == StoreError::Full) {
            self.health.full();
        }
        result
    }
}

/// Reads what was stored. What another version wrote, or can't answer this
/// request, counts as absent.
fn decode(found: Found, asked: Asked<'_>) -> Option<Entry> {
    if asked.snapshot.is_held() {
        // A write whose answer never came is on its way to Redis, or may still commit.
        return None;
    }
    let tags = asked.tags.of(found.empty);
    let entry = Entry::decode(&found.entry, &asked.snapshot.narrowed_to(tags)).ok()?;
    let answers = entry.is_empty() == found.empty && (asked.head || !entry.is_head_only());
    answers.then_some(entry)
}
