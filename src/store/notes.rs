//! Notes: what writes are on their way, so that others can stand in for a node
//! that dies between upstream's commit and its invalidation.
//!
//! A write is noted before it is forwarded. Every node says that it lives by a
//! beat; whoever finds one silent invalidates what its notes name, and only
//! then forgets it. Two that do so at once do no harm. How long a node has
//! been silent is told by the clock of Redis alone.

mod note;
mod registry;
mod silent;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use self::registry::Registry;
use super::commands::Commands;
use super::error::StoreError;
use super::names::Names;
use super::outbox::Outbox;
use super::script::Script;
use crate::tag::TagId;

/// A node that hasn't been heard for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(2);

/// Notes of one node, those included that are done with but still in Redis.
const MAX_NOTES: usize = 65_536;

static NOTE: LazyLock<Script> = LazyLock::new(|| Script::new("note", include_str!("redis/note.lua")));
static NODES: LazyLock<Script> = LazyLock::new(|| Script::new("nodes", include_str!("redis/nodes.lua")));
static RECALL: LazyLock<Script> = LazyLock::new(|| Script::new("recall", include_str!("redis/recall.lua")));
static BURY: LazyLock<Script> = LazyLock::new(|| Script::new("bury", include_str!("redis/bury.lua")));

/// Invalidates tags with a hold on behalf of a dead node, here and in Redis.
/// `Ok` only once Redis was told: then the node's notes are removed.
pub type StandIn = Arc<dyn Fn(Vec<TagId>, Duration) -> StandingIn + Send + Sync>;

/// What a [`StandIn`] gives.
pub type StandingIn = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// The notes of this node, and the registry of all nodes.
pub struct Notes {
    shared: Arc<Shared>,
    registry: AbortHandle,
}

impl Drop for Notes {
    fn drop(&mut self) {
        self.registry.abort();
    }
}

/// What notes share with the registry.
struct Shared {
    commands: Arc<Commands>,
    /// While something is in it, notes stay: nobody else knows of those writes.
    outbox: Arc<Outbox>,
    names: Names,
    node: u64,
    /// The node as it is called in Redis.
    member: String,
    ids: Mutex<Ids>,
}

#[derive(Default)]
struct Ids {
    last: u64,
    open: usize,
    /// Done with, to be removed from Redis.
    closed: Vec<u64>,
    /// Being removed from Redis.
    leaving: usize,
}

impl Notes {
    /// Registers `node`, an id that no other ever had, and beats from then on.
    /// Must be called on a runtime.
    pub fn start(
        commands: Arc<Commands>,
        names: Names,
        node: u64,
        outbox: Arc<Outbox>,
        stand_in: StandIn,
    ) -> Arc<Self> {
        let ids = Mutex::default();
        let shared = Arc::new(Shared { commands, outbox, names, node, member: member(node), ids });
        let registry = tokio::spawn(Registry::new(Arc::clone(&shared), stand_in).run()).abort_handle();
        Arc::new(Self { shared, registry })
    }

    /// Notes a write that may touch `tags` and may commit until `hold` after
    /// this node's death. It may be forwarded once this has returned.
    ///
    /// # Errors
    ///
    /// Nobody will stand in for this write.
    pub async fn open(&self, tags: &[TagId], hold: Duration, deadline: Duration) -> Result<Note, StoreError> {
        let shared = &self.shared;
        let id = shared.ids.lock().open().ok_or(StoreError::Unavailable)?;
        let mut note = Note { shared: Arc::clone(shared), id, is_written: true };
        let keys = shared.keys_of(shared.node);
        let text = id.to_string();
        let value = note::encode(tags, hold);
        let arguments = [shared.member.as_bytes(), text.as_bytes(), &value];
        let outcome = shared.commands.run(&NOTE, &keys, &arguments, deadline).await;
        // Of any other failure nobody knows whether the note was written before it.
        note.is_written = outcome != Err(StoreError::Unavailable);
        outcome.map(|_| note)
    }

    /// To be called when the process ends and all requests have: removes the
    /// node, unless writes are open or invalidations unsent. Those another node
    /// sees to, as it does where Redis can't be told within `deadline`.
    pub async fn goodbye(&self, deadline: Duration) {
        self.registry.abort();
        let shared = &self.shared;
        let has_open = shared.ids.lock().open > 0;
        if !has_open && shared.outbox.is_empty() {
            let arguments = [shared.member.as_bytes(), b"-1"];
            let _ = shared.commands.run(&BURY, &shared.keys_of(shared.node), &arguments, deadline).await;
        }
    }
}

impl Shared {
    /// The set of nodes, and the notes of `node`.
    fn keys_of(&self, node: u64) -> [Vec<u8>; 2] {
        [self.names.nodes(), self.names.notes(node)]
    }
}

/// A write that is on its way. To be dropped once Redis has been told of its
/// invalidation, or the outbox has it. Costs no round trip.
#[must_use]
pub struct Note {
    shared: Arc<Shared>,
    id: u64,
    /// Whether it may be in Redis.
    is_written: bool,
}

impl Drop for Note {
    fn drop(&mut self) {
        let mut ids = self.shared.ids.lock();
        ids.open -= 1;
        if self.is_written {
            ids.closed.push(self.id);
        }
    }
}

impl Ids {
    /// A new id, unless there are too many.
    fn open(&mut self) -> Option<u64> {
        if self.open + self.closed.len() + self.leaving >= MAX_NOTES {
            return None;
        }
        self.last += 1;
        self.open += 1;
        Some(self.last)
    }

    /// At most `most` that are done with. They stay counted until [`Ids::left`].
    fn leave(&mut self, most: usize) -> Vec<u64> {
        let rest = self.closed.len().saturating_sub(most);
        let leaving = self.closed.split_off(rest);
        self.leaving += leaving.len();
        leaving
    }

    /// These are gone from Redis, or still to be removed.
    fn left(&mut self, ids: &[u64], gone: bool) {
        self.leaving -= ids.len();
        if !gone {
            self.closed.extend(ids);
        }
    }
}

/// A node as it is called in Redis.
fn member(node: u64) -> String {
    format!("{node:016x}")
}

#[cfg(test)]
mod tests;
