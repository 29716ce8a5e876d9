//! Leases: who of all nodes fills an entry while the others wait for it.

use std::fmt;
use std::sync::LazyLock;

use rustls::crypto::SecureRandom;

use crate::cache::key::Key;
use crate::store::error::StoreError;

/// Names one fill of an entry. Nobody else can renew it or give it back.
#[derive(Clone, PartialEq, Eq)]
pub struct Lease {
    pub(super) key: Key,
    pub(super) head: bool,
    pub(super) token: [u8; 16],
}

impl Lease {
    /// A lease to ask for: of the fill of `key`, by a HEAD or a request with a body.
    ///
    /// # Errors
    ///
    /// [`StoreError::Broken`] if the system gives no random numbers.
    pub fn new(key: Key, head: bool) -> Result<Self, StoreError> {
        Ok(Self { key, head, token: random()? })
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("head", &self.head).finish_non_exhaustive()
    }
}

/// What came of asking for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// It was not asked for.
    NotAsked,
    /// The fill is this node's.
    Granted,
    /// The fill is another's.
    Taken,
    /// Nobody's: Redis has no memory for it, or the last answer could not be
    /// stored. Everybody fills for himself.
    Open,
}

/// An id that no other node has.
///
/// # Errors
///
/// [`StoreError::Broken`] if the system gives no random numbers.
pub fn node_id() -> Result<u64, StoreError> {
    Ok(u128::from_le_bytes(random()?) as u64)
}

/// Bytes that never come again.
pub(super) fn random() -> Result<[u8; 16], StoreError> {
    static SOURCE: LazyLock<&'static dyn SecureRandom> =
        LazyLock::new(|| rustls::crypto::ring::default_provider().secure_random);
    let mut bytes = [0; 16];
    match SOURCE.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(StoreError::Broken("The system gives no random numbers".into())),
    }
}
