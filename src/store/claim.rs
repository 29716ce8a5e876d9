//! What a fill's answer is stored under in the shared store, and the fleet's
//! turn to fetch it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::responses::{Filled, Kept, LEASE, Lease, LeaseState};
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
    state: LeaseState,
    /// Asked for, or granted.
    lease: Mutex<Option<Lease>>,
    patience: Patience,
}

impl SharedClaim {
    /// A claim that is being asked for.
    pub(super) fn new(shared: Arc<Shared>, key: Key, lease: Option<Lease>, patience: Patience) -> Self {
        let (stamps, state) = (Stamps::default(), LeaseState::NotAsked);
        Self { shared, key, stamps, state, lease: Mutex::new(lease), patience }
    }

    /// Notes the store's answer.
    pub(super) fn granted(&mut self, stamps: Stamps, state: LeaseState) {
        self.stamps = stamps;
        self.state = state;
        if state != LeaseState::Granted {
            *self.lease.get_mut() = None;
        }
    }

    /// Who has the key's lease.
    pub fn lease(&self) -> LeaseState {
        self.state
    }

    /// Whether an answer may be stored: every tag has a generation and none is held.
    pub fn is_complete(&self) -> bool {
        self.stamps.complete()
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
        self.shared.timed("keep", &self.patience, call).await
    }
}

impl Drop for SharedClaim {
    fn drop(&mut self) {
        let Some(lease) = self.lease.get_mut().take() else { return };
        let shared = self.shared.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let call = |deadline| shared.responses.release(&lease, deadline);
                // Otherwise it runs out by itself.
                let _ = shared.timed("release", &Patience::new(), call).await;
            });
        }
    }
}
