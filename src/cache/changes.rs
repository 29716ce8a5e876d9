//! Changes: which of the tags that somebody watches have moved.
//!
//! Invalidations tell of every tag that they move. As long as nobody watches
//! any that costs one load.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::tag::TagId;

/// The tags that are watched, and those among them that have moved since it was asked last.
#[derive(Default)]
pub struct Changes {
    /// Whether anything is watched; spares invalidations the lock.
    any: AtomicBool,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    /// How often each is watched.
    watched: HashMap<TagId, usize>,
    /// No more than are watched.
    moved: HashSet<TagId>,
}

impl Changes {
    /// Nothing is watched.
    pub fn new() -> Self {
        Self::default()
    }

    /// These tags have moved: what was read of them before may be void.
    pub fn notify(&self, tags: &[TagId]) {
        if !self.any.load(Ordering::SeqCst) {
            return;
        }
        let mut state = self.state.lock();
        let State { watched, moved } = &mut *state;
        let before = moved.len();
        moved.extend(tags.iter().filter(|tag| watched.contains_key(tag)));
        if moved.len() > before {
            self.arrived.notify_one();
        }
    }

    /// Watches `tags` until it is dropped. What moves from the return on is noticed.
    pub fn watch(self: &Arc<Self>, tags: Vec<TagId>) -> Watch {
        let mut state = self.state.lock();
        for tag in &tags {
            *state.watched.entry(*tag).or_default() += 1;
        }
        self.any.store(!state.watched.is_empty(), Ordering::SeqCst);
        Watch { changes: Arc::clone(self), tags }
    }

    /// Waits until a watched tag has moved; those that have since the last
    /// time. Meant for one listener, who may give up waiting without loss.
    pub async fn moved(&self) -> HashSet<TagId> {
        loop {
            let moved = std::mem::take(&mut self.state.lock().moved);
            if !moved.is_empty() {
                return moved;
            }
            self.arrived.notified().await;
        }
    }

    fn unwatch(&self, tags: &[TagId]) {
        let mut state = self.state.lock();
        for tag in tags {
            let Some(count) = state.watched.get_mut(tag) else { continue };
            *count -= 1;
            if *count == 0 {
                state.watched.remove(tag);
                state.moved.remove(tag);
            }
        }
        self.any.store(!state.watched.is_empty(), Ordering::SeqCst);
    }
}

/// Tags that are watched while it lives.
#[must_use]
pub struct Watch {
    changes: Arc<Changes>,
    tags: Vec<TagId>,
}

impl Watch {
    /// The tags.
    pub fn tags(&self) -> &[TagId] {
        &self.tags
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.changes.unwatch(&self.tags);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONE: TagId = TagId(1);
    const TWO: TagId = TagId(2);

    async fn moved(changes: &Changes) -> Option<HashSet<TagId>> {
        tokio::time::timeout(Duration::from_millis(20), changes.moved()).await.ok()
    }

    #[tokio::test]
    async fn only_what_is_watched_is_noticed() {
        let changes = Arc::new(Changes::new());
        changes.notify(&[ONE]);
        assert_eq!(moved(&changes).await, None);
        let watch = changes.watch(vec![ONE]);
        changes.notify(&[TWO]);
        assert_eq!(moved(&changes).await, None);
        changes.notify(&[TWO, ONE]);
        changes.notify(&[ONE]);
        assert_eq!(moved(&changes).await, Some(HashSet::from([ONE])), "both at once");
        assert_eq!(moved(&changes).await, None, "it is told once");
        drop(watch);
        changes.notify(&[ONE]);
        assert_eq!(moved(&changes).await, None);
    }

    #[tokio::test]
    async fn a_tag_is_watched_until_the_last_watch_ends() {
        let changes = Arc::new(Changes::new());
        let (first, second) = (changes.watch(vec![ONE]), changes.watch(vec![ONE, TWO]));
        drop(first);
        changes.notify(&[ONE]);
        assert_eq!(moved(&changes).await, Some(HashSet::from([ONE])));
        changes.notify(&[ONE]);
        drop(second);
        assert_eq!(moved(&changes).await, None, "nobody is left to be told");
        assert!(!changes.any.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn who_waits_already_is_woken() {
        let changes = Arc::new(Changes::new());
        let _watch = changes.watch(vec![TWO]);
        let waiting = tokio::spawn({
            let changes = changes.clone();
            async move { changes.moved().await }
        });
        tokio::task::yield_now().await;
        changes.notify(&[TWO]);
        assert_eq!(waiting.await.unwrap(), HashSet::from([TWO]));
    }
}
