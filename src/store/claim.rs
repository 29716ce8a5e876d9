//! What a fill's answer is stored under in the shared store, and the fleet's
//! turn to fetch it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::responses::{Filled, Kept, LEASE, Lease, LeaseState, UNSTORABLE};
use super::stamp::Stamps;
use super::{Patience, Shared, StoreError};
use crate::cache::{Entry, EntryTags, Key};

/// How often a lease is renewed: twice in its time, with some to spare.
const RENEWAL: Duration = Duration::from_millis(LEASE.as_millis() as u64 * 2 / 5);

/// What a fill's answer is stored under, and the lease of its key if this node
/// got it. Dropped, it gives the lease back.
pub struct SharedClaim {
    shared: Arc<Shared>,
    key: Key,
    stamps: Stamps,
    held: bool,
    state: LeaseState,
    /// Asked for, or granted.
    lease: Mutex<Option<Lease>>,
    patience: Patience,
}

impl SharedClaim {
    /// A claim that is being asked for.
    pub(super) fn new(shared: Arc<Shared>, key: Key, lease: Option<Lease>, patience: Patience) -> Self {
        let (stamps, state) = (Stamps::default(), LeaseState::NotAsked);
        Self { shared, key, stamps, held: false, state, lease: Mutex::new(lease), patience }
    }

    /// Notes the store's answer.
    pub(super) fn granted(&mut self, stamps: Stamps, held: bool, state: LeaseState) {
        self.stamps = stamps;
        self.held = held;
        self.state = state;
        if state != LeaseState::Granted {
            *self.lease.get_mut() = None;
        }
    }

    /// Who has the key's lease.
    pub fn lease(&self) -> LeaseState {
        self.state
    }

    /// Whether upstream's word on one of the tags can't be trusted yet.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The answer can't be stored: the other nodes needn't wait for the next one either.
    pub fn forgo(&self) {
        if let Some(lease) = self.lease.lock().take() {
            give_back(&self.shared, lease, UNSTORABLE);
        }
    }

    /// Runs `fetch` and renews the lease meanwhile.
    pub async fn during<T>(&self, fetch: impl Future<Output = T>) -> T {
        let fetch = pin!(fetch);
        tokio::select! {
            biased;
            done = fetch => done,
            never = self.renew() => match never {},
        }
    }

    async fn renew(&self) -> Infallible {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let lease = self.lease.lock().clone();
            let Some(lease) = lease else { return std::future::pending().await };
            let call = |deadline| self.shared.responses.renew(&lease, deadline);
            // If it fails, another node may ask upstream as well.
            let _ = self.shared.timed("renew", &Patience::new(), call).await;
        }
    }

    /// Stores `entry`, the answer to a request with these `tags`, for `ttl`,
    /// and gives the lease back.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store doesn't take it.
    pub async fn keep(&self, entry: &Entry, tags: &EntryTags, ttl: Duration) -> Result<Kept, StoreError> {
        let lease = self.lease.lock().take();
        let filled = Filled {
            key: &self.key,
            entry: entry.as_bytes(),
            empty: entry.is_empty(),
            tags,
            stamps: &self.stamps,
            ttl,
        };
        let call = |deadline| self.shared.responses.keep(&filled, lease.as_ref(), deadline);
        let kept = self.shared.timed("keep", &self.patience, call).await;
        if kept.is_err() {
            *self.lease.lock() = lease;
        }
        kept
    }
}

impl Drop for SharedClaim {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.get_mut().take() {
            give_back(&self.shared, lease, Duration::ZERO);
        }
    }
}

/// Gives a lease back behind the caller's back; for the time `open` it is nobody's.
fn give_back(shared: &Arc<Shared>, lease: Lease, open: Duration) {
    let shared = shared.clone();
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let call = |deadline| shared.responses.release(&lease, open, deadline);
            // Otherwise it runs out by itself.
            let _ = shared.timed("release", &Patience::new(), call).await;
        });
    }
}
