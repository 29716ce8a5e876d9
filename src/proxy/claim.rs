//! The fleet's turn at a miss: which node asks upstream, and what its answer
//! is stored under.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::gateway::Gateway;
use crate::cache::{Entry, NotKept, RequestDirectives, Snapshot, Standing, Timestamp, standing};
use crate::plan::ReadPlan;
use crate::route::{FreshnessSource, ReadPolicy};
use crate::store::{Asked, Kept, LeaseState, Patience, Shared, SharedClaim, StoreError};

/// How long a node that waits for another's answer pauses between two looks:
/// from the first to the longest, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Generations outlive the entries that carry them by this much.
const MARGIN: Duration = Duration::from_secs(60);
/// Where upstream says how long an answer is fresh, the store keeps it this long at most.
const LONGEST_ORIGIN: Duration = Duration::from_secs(3600);

/// What an answer may be stored under: the generations of its tags, here and
/// in the shared store, as they were before upstream was asked.
pub struct Claim {
    snapshot: Snapshot,
    shared: Option<SharedClaim>,
    stale: Option<Entry>,
    replaces: bool,
}

/// What came of a turn.
pub enum Claimed {
    /// Upstream is to be asked.
    Fetch(Box<Claim>),
    /// Another node has stored it meanwhile.
    Found(Entry),
}

/// A miss.
pub struct Miss<'a> {
    /// The cache.
    pub gateway: &'a Gateway,
    /// The read.
    pub plan: &'a ReadPlan,
    /// Whether it is a HEAD.
    pub head: bool,
    /// The client's `Cache-Control`, where it counts.
    pub directives: Option<RequestDirectives>,
    /// The generations here, read before now.
    pub snapshot: Snapshot,
    /// What is stored here but may not be served as it is.
    pub stale: Option<Entry>,
    /// How long the request may wait for the shared store.
    pub patience: Patience,
}

/// The shared store's word on a miss.
struct Word {
    claim: SharedClaim,
    entry: Option<Entry>,
}

impl Miss<'_> {
    /// Takes the turn for this request alone.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the shared store can't be asked: nothing can be stored then.
    pub async fn claim_alone(self) -> Result<Claimed, StoreError> {
        let Some(shared) = &self.gateway.shared else { return Ok(self.unshared()) };
        let word = self.ask(shared, false, &self.patience).await?;
        Ok(self.decide(word))
    }

    /// Takes the turn for all nodes, or waits for the one that has it, for
    /// `patience` at most.
    ///
    /// # Errors
    ///
    /// As [`Miss::claim_alone`].
    pub async fn claim(self, patience: Duration) -> Result<Claimed, StoreError> {
        let Some(shared) = &self.gateway.shared else { return Ok(self.unshared()) };
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        // What comes after the first time is waiting for upstream.
        let mut store_patience = self.patience.clone();
        loop {
            let word = self.ask(shared, begun.elapsed() < patience, &store_patience).await?;
            let is_elsewhere = word.claim.lease() == LeaseState::Taken;
            match self.decide(word) {
                Claimed::Fetch(_) if is_elsewhere => tokio::time::sleep(pause).await,
                claimed => return Ok(claimed),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            store_patience = Patience::new();
        }
    }

    /// Takes the turn for all nodes unless another has it: `None` then.
    ///
    /// # Errors
    ///
    /// As [`Miss::claim_alone`].
    pub async fn claim_if_free(self) -> Result<Option<Claimed>, StoreError> {
        let Some(shared) = &self.gateway.shared else { return Ok(Some(self.unshared())) };
        let word = self.ask(shared, true, &self.patience).await?;
        let is_elsewhere = word.claim.lease() == LeaseState::Taken;
        match self.decide(word) {
            Claimed::Fetch(_) if is_elsewhere => Ok(None),
            claimed => Ok(Some(claimed)),
        }
    }

    fn unshared(self) -> Claimed {
        // A write may have come between the lookup and the snapshot.
        let stale = self.stale.filter(|entry| self.gateway.generations.is_current(entry.tags()));
        let replaces = stale.is_some();
        Claimed::Fetch(Box::new(Claim { snapshot: self.snapshot, shared: None, stale, replaces }))
    }

    async fn ask(&self, shared: &Arc<Shared>, leases: bool, patience: &Patience) -> Result<Word, StoreError> {
        let plan = self.plan;
        let keep_for = longest_use(&plan.policy) + MARGIN;
        let asked =
            Asked { key: &plan.key, head: self.head, tags: &plan.entry_tags, snapshot: &self.snapshot };
        let (claim, entry) = shared.claim(asked, leases, keep_for, patience).await?;
        Ok(Word { claim, entry })
    }

    fn decide(&self, word: Word) -> Claimed {
        let now = Timestamp::from(SystemTime::now());
        let is_fresh =
            |entry: &Entry| matches!(standing(entry, self.directives.as_ref(), now), Standing::Fresh { .. });
        // Who isn't admitted is given nothing that is stored.
        match word.entry.filter(|_| self.plan.admitted) {
            Some(entry) if is_fresh(&entry) => Claimed::Found(entry),
            // What is stale here is not known to be what the store's generations are about.
            stale => {
                let snapshot = self.snapshot.clone();
                let replaces = stale.is_some() || self.stale.is_some();
                Claimed::Fetch(Box::new(Claim { snapshot, shared: Some(word.claim), stale, replaces }))
            }
        }
    }
}

impl Claim {
    /// The generations here.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What is stored but may not be served as it is. Upstream may confirm it.
    pub fn stale(&self) -> Option<&Entry> {
        self.stale.as_ref()
    }

    /// Whether something is stored that the answer takes the place of.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// Whether the answer may be stored, by its tags.
    ///
    /// # Errors
    ///
    /// [`NotKept`] if a tag has moved, or was or is held.
    pub fn may_keep(&self, gateway: &Gateway) -> Result<(), NotKept> {
        if self.shared.as_ref().is_some_and(SharedClaim::is_held) {
            return Err(NotKept::Held);
        }
        gateway.generations.may_keep(&self.snapshot, Instant::now())
    }

    /// Stores `entry` wherever there is a place for it.
    ///
    /// # Errors
    ///
    /// [`NotKept::Refused`] if there is none.
    pub async fn keep(&self, gateway: &Gateway, plan: &ReadPlan, entry: &Entry) -> Result<(), NotKept> {
        let is_here = gateway.memory.insert(plan.key, entry.clone());
        let Some(shared) = &self.shared else {
            return if is_here { Ok(()) } else { Err(NotKept::Refused) };
        };
        let now = Timestamp::from(SystemTime::now());
        let left = Duration::from_millis(entry.lifetimes().usable(now));
        let ttl = left.min(longest_use(&plan.policy));
        let kept = shared.keep(entry, &plan.entry_tags, ttl).await;
        if kept == Ok(Kept::Stored) || is_here { Ok(()) } else { Err(NotKept::Refused) }
    }

    /// The answer can't be stored: nobody need wait for the next one.
    pub fn forgo(&self) {
        if let Some(shared) = &self.shared {
            shared.forgo();
        }
    }

    /// Runs `fetch`, and keeps the fleet's turn meanwhile.
    pub async fn during<T>(&self, fetch: impl Future<Output = T>) -> T {
        match &self.shared {
            Some(shared) => shared.during(fetch).await,
            None => fetch.await,
        }
    }
}

/// For how long after it was stored an answer may be of use, at most.
fn longest_use(policy: &ReadPolicy) -> Duration {
    let fresh = match policy.freshness {
        FreshnessSource::Route => policy.ttl,
        FreshnessSource::Origin => policy.ttl.max(LONGEST_ORIGIN),
    };
    fresh + policy.stale_while_revalidate.max(policy.stale_if_error)
}
