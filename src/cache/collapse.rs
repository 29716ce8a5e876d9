//! Request collapsing: concurrent misses for one key ask upstream once.
//!
//! The first to [`Collapse::join`] leads; the others wait for what it shares.
//! A flight is named by the key, the kind of method and the generations that
//! its tags had: whoever comes after a write starts another one. Having become
//! leader, look the key up once more: an earlier leader may have stored an
//! answer between the miss and the join.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::watch;

use super::generation::Snapshot;
use super::key::Key;

const SHARDS: usize = 64;

/// Bounds on waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollapseLimits {
    /// Waiters for one leader. Later ones ask for themselves.
    pub waiters_per_flight: usize,
    /// Waiters altogether.
    pub waiters: usize,
    /// For how long misses of a key whose answer could not be stored don't wait.
    pub remember_unstorable: Duration,
    /// Keys remembered so.
    pub unstorable_keys: usize,
}

impl Default for CollapseLimits {
    fn default() -> Self {
        Self {
            waiters_per_flight: 10_000,
            waiters: 100_000,
            remember_unstorable: Duration::from_secs(10),
            unstorable_keys: 65_536,
        }
    }
}

/// Who fetches what, and who waits for it. `T` is a shared answer.
pub struct Collapse<T> {
    shards: Box<[Mutex<Flights<T>>]>,
    waiting: AtomicUsize,
    /// Keys whose last answer could not be stored, with the end of the memory.
    unstorable: Cache<Key, Instant>,
    limits: CollapseLimits,
}

type Flights<T> = HashMap<FlightName, Flight<T>>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FlightName {
    key: Key,
    head: bool,
    tags: Snapshot,
}

struct Flight<T> {
    outcome: watch::Receiver<Option<Outcome<T>>>,
    waiters: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Outcome<T> {
    Shared(T),
    NotShared,
    Forgone,
}

/// What to do about a miss.
pub enum Turn<T> {
    /// Fetch, for whoever waits as well.
    Lead(Leader<T>),
    /// Wait for the one who fetches.
    Wait(Waiter<T>),
    /// Fetch for this request alone: too many wait, or the last answer could
    /// not be stored and waiting for the next would be in vain.
    Alone,
}

/// What a waiter has waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited<T> {
    /// The leader's answer.
    Shared(T),
    /// The leader's answer is the leader's alone, or did not come in time: ask
    /// for this request alone.
    Alone,
    /// The leader is gone without a word: join again, one of those who waited leads.
    Abandoned,
    /// The leader found that nothing can be stored now: no use in waiting again.
    Forgone,
}

impl<T: Clone + Send + Sync> Collapse<T> {
    /// Nobody fetching.
    pub fn new(limits: CollapseLimits) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            waiting: AtomicUsize::new(0),
            unstorable: Cache::new(limits.unstorable_keys),
            limits,
        })
    }

    /// Takes a turn at the answer to `key`. `tags` are their generations as
    /// read by this request, before any fetch of its own.
    pub fn join(self: &Arc<Self>, key: &Key, head: bool, tags: &Snapshot, now: Instant) -> Turn<T> {
        if self.is_unstorable(key, now) {
            return Turn::Alone;
        }
        let name = FlightName { key: *key, head, tags: tags.clone() };
        match self.shard(key).lock().entry(name.clone()) {
            Entry::Vacant(free) => {
                let (sender, outcome) = watch::channel(None);
                free.insert(Flight { outcome, waiters: Arc::default() });
                Turn::Lead(Leader { collapse: Arc::clone(self), name, sender })
            }
            Entry::Occupied(taken) => {
                let flight = taken.get();
                if !reserve(&flight.waiters, self.limits.waiters_per_flight) {
                    return Turn::Alone;
                }
                if !reserve(&self.waiting, self.limits.waiters) {
                    flight.waiters.fetch_sub(1, Ordering::Relaxed);
                    return Turn::Alone;
                }
                let place = Place { collapse: Arc::clone(self), waiters: Arc::clone(&flight.waiters) };
                Turn::Wait(Waiter { outcome: flight.outcome.clone(), _place: place })
            }
        }
    }

    /// Whether the last answer to `key` could not be stored, not long ago.
    pub fn is_unstorable(&self, key: &Key, now: Instant) -> bool {
        self.unstorable.get(key).is_some_and(|until| until > now)
    }

    /// Forgets that the answer to `key` could not be stored: one was.
    pub fn stored(&self, key: &Key) {
        self.unstorable.remove(key);
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl<T> Collapse<T> {
    /// Keys are evenly distributed, so any of their bytes picks a shard.
    fn shard(&self, key: &Key) -> &Mutex<Flights<T>> {
        &self.shards[usize::from(key.as_bytes()[0]) % SHARDS]
    }
}

/// Counts one more, unless there are `most`.
fn reserve(count: &AtomicUsize, most: usize) -> bool {
    let more = |count| (count < most).then_some(count + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// The one who fetches. Dropped without a word, it sets the waiters free.
pub struct Leader<T> {
    collapse: Arc<Collapse<T>>,
    name: FlightName,
    sender: watch::Sender<Option<Outcome<T>>>,
}

impl<T> Leader<T> {
    /// Gives `answer` to those who wait: it was stored, or only a generation
    /// that moved after they joined keeps it from being stored. To be called
    /// after the answer was stored, so that nobody misses both.
    pub fn share(self, answer: T) {
        self.collapse.unstorable.remove(&self.name.key);
        self.finish(Outcome::Shared(answer));
    }

    /// The answer can't be stored: each asks for itself, and later misses of
    /// this key don't wait for a while.
    pub fn keep(self, now: Instant) {
        self.collapse.unstorable.insert(self.name.key, now + self.collapse.limits.remember_unstorable);
        self.finish(Outcome::NotShared);
    }

    /// Nothing can be stored now; how the answer is has not been seen.
    pub fn forgo(self) {
        self.finish(Outcome::Forgone);
    }

    fn finish(self, outcome: Outcome<T>) {
        // First off the list, so that whoever comes from now on doesn't join what is over.
        self.collapse.shard(&self.name.key).lock().remove(&self.name);
        self.sender.send_replace(Some(outcome));
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        let mut flights = self.collapse.shard(&self.name.key).lock();
        // After `finish` the name may already be another leader's.
        if flights.get(&self.name).is_some_and(|flight| flight.outcome.same_channel(&self.sender.subscribe()))
        {
            flights.remove(&self.name);
        }
    }
}

/// One who waits for the leader.
pub struct Waiter<T> {
    outcome: watch::Receiver<Option<Outcome<T>>>,
    _place: Place<T>,
}

impl<T: Clone> Waiter<T> {
    /// Waits for the leader's answer, for `patience` at most.
    pub async fn wait(mut self, patience: Duration) -> Waited<T> {
        let outcome = tokio::time::timeout(patience, self.outcome.wait_for(Option::is_some)).await;
        match outcome {
            Err(_) => Waited::Alone,
            Ok(Err(_)) => Waited::Abandoned,
            Ok(Ok(outcome)) => match outcome.as_ref() {
                Some(Outcome::Shared(answer)) => Waited::Shared(answer.clone()),
                Some(Outcome::Forgone) => Waited::Forgone,
                Some(Outcome::NotShared) | None => Waited::Alone,
            },
        }
    }
}

/// A place among those who wait, given back when dropped.
struct Place<T> {
    collapse: Arc<Collapse<T>>,
    waiters: Arc<AtomicUsize>,
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.collapse.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
