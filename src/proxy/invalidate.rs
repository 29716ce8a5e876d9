//! Invalidation by what passes through.
//!
//! A write that is on its way is a [`PendingInvalidation`]. Its answer
//! completes it before being passed on; if none comes, dropping it does what
//! must be done when nobody knows whether, or when, upstream commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::Generations;
use crate::store::{Note, Patience, Shared};
use crate::tag::TagId;
use crate::telemetry::metrics::{InvalidationSource, Metrics};

/// Moves generations, and keeps answers from being stored where upstream's
/// word on a tag can't be trusted yet.
#[derive(Clone)]
pub struct Invalidator {
    generations: Arc<Generations>,
    shared: Option<Arc<Shared>>,
    metrics: Arc<Metrics>,
    /// `upstream.settle`: how far upstream's read replicas may be behind.
    settle: Duration,
    /// `upstream.response_timeout`: how long a write without an answer may still commit.
    unanswered: Duration,
}

impl Invalidator {
    /// For an upstream with these times.
    pub fn new(
        generations: Arc<Generations>,
        shared: Option<Arc<Shared>>,
        metrics: Arc<Metrics>,
        settle: Duration,
        unanswered: Duration,
    ) -> Self {
        Self { generations, shared, metrics, settle, unanswered }
    }

    /// Makes every entry that carries one of the tags unusable. When it is
    /// done, no lookup on this node finds one any more, and the other nodes
    /// are being told.
    async fn invalidate(&self, tags: &[TagId], source: InvalidationSource, patience: &Patience) {
        if tags.is_empty() {
            return;
        }
        self.hold(tags, self.settle);
        if let Some(shared) = &self.shared {
            shared.invalidate(tags, self.settle, patience).await;
        }
        // Behind the store: what was looked up there before it knew carries the counters from before this.
        self.generations.advance(tags);
        self.metrics.invalidation(source);
    }

    /// A write that goes upstream now and may touch `tags`. The other nodes
    /// invalidate for this one should it die before the answer.
    pub async fn begin(&self, tags: Vec<TagId>, source: InvalidationSource) -> PendingInvalidation {
        let patience = Patience::new();
        let note = match &self.shared {
            Some(shared) => shared.note_write(&tags, self.unanswered, &patience).await,
            None => None,
        };
        let invalidator = self.clone();
        PendingInvalidation { invalidator, tags, source, whole: false, answered: false, note, patience }
    }

    fn hold(&self, tags: &[TagId], time: Duration) {
        if !time.is_zero() {
            let now = Instant::now();
            self.generations.hold(tags, now + time, now);
        }
    }

    /// Upstream may commit until `hold` is over, or have done so already. What
    /// is cached goes at once. What is asked of upstream meanwhile isn't kept,
    /// so that nothing is left to go then.
    fn abandon(&self, tags: &[TagId], hold: Duration, note: Option<Note>) {
        self.hold(tags, hold.max(self.settle));
        self.generations.advance(tags);
        self.metrics.invalidation(InvalidationSource::Unanswered);
        if let Some(shared) = &self.shared {
            shared.invalidate_behind(tags.to_vec(), hold.max(self.settle), note);
        }
    }
}

/// A write that upstream has not answered yet.
pub struct PendingInvalidation {
    invalidator: Invalidator,
    /// What it may touch, as far as is known.
    tags: Vec<TagId>,
    source: InvalidationSource,
    /// Whether all of the request has gone upstream. Without the end of its
    /// body it can't be carried out.
    whole: bool,
    answered: bool,
    /// What another node would go by.
    note: Option<Note>,
    patience: Patience,
}

impl PendingInvalidation {
    /// The last of the request goes upstream now; its body, if it is known,
    /// tells which of the tags it `touches`.
    pub fn went_whole(&mut self, touches: Option<Vec<TagId>>) {
        self.whole = true;
        if let Some(touches) = touches {
            self.tags = touches;
        }
    }

    /// Nothing was sent: it changes nothing.
    pub fn withdraw(mut self) {
        self.answered = true;
    }

    /// Upstream answered, perhaps telling of something more that was touched.
    /// To be awaited before the answer is passed on.
    pub async fn complete(mut self, more: Option<TagId>) {
        self.tags.extend(more);
        self.invalidator.invalidate(&self.tags, self.source, &self.patience).await;
        // Not before: cut off midway, the write counts as unanswered.
        self.answered = true;
    }
}

impl Drop for PendingInvalidation {
    fn drop(&mut self) {
        if self.answered || self.tags.is_empty() {
            return;
        }
        let hold = if self.whole { self.invalidator.unanswered } else { Duration::ZERO };
        self.invalidator.abandon(&self.tags, hold, self.note.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::TagSet;
    use crate::tag::Tag;

    const UNANSWERED: Duration = Duration::from_secs(30);

    fn parts(settle: Duration) -> (Invalidator, Arc<Generations>, TagSet) {
        let generations = Arc::new(Generations::new());
        let invalidator =
            Invalidator::new(generations.clone(), None, Arc::new(Metrics::new()), settle, UNANSWERED);
        (invalidator, generations, [Tag::Every.id()].into_iter().collect())
    }

    fn keeps(generations: &Generations, tags: &TagSet) -> bool {
        let now = Instant::now();
        generations.may_keep(&generations.read(tags, now), now).is_ok()
    }

    #[tokio::test]
    async fn an_answered_write_invalidates_once() {
        let (invalidator, generations, tags) = parts(Duration::ZERO);
        let before = generations.read(&tags, Instant::now());
        let pending = invalidator.begin(tags.as_slice().to_vec(), InvalidationSource::Write).await;
        assert!(generations.is_current(before.iter()), "nothing is known of the write yet");
        pending.complete(None).await;
        assert!(!generations.is_current(before.iter()));
        assert!(keeps(&generations, &tags), "what is filled after the answer may be kept");
    }

    #[tokio::test]
    async fn after_an_unanswered_write_nothing_is_kept_for_as_long_as_it_may_commit() {
        let (invalidator, generations, tags) = parts(Duration::ZERO);
        let begun = Instant::now();
        let before = generations.read(&tags, begun);
        let mut pending = invalidator.begin(tags.as_slice().to_vec(), InvalidationSource::Write).await;
        pending.went_whole(None);
        drop(pending);
        assert!(!generations.is_current(before.iter()));
        assert!(!keeps(&generations, &tags));
        let between = generations.read(&tags, begun + UNANSWERED / 2);
        let after = Instant::now() + UNANSWERED;
        assert!(generations.may_keep(&between, after).is_err(), "it was asked while the write was open");
        assert!(generations.may_keep(&generations.read(&tags, after), after).is_ok());
    }

    #[tokio::test]
    async fn a_write_that_never_went_whole_holds_nothing() {
        let (invalidator, generations, tags) = parts(Duration::ZERO);
        let before = generations.read(&tags, Instant::now());
        drop(invalidator.begin(tags.as_slice().to_vec(), InvalidationSource::Write).await);
        assert!(!generations.is_current(before.iter()));
        assert!(keeps(&generations, &tags));
    }

    #[tokio::test]
    async fn nothing_is_kept_until_replicas_have_settled() {
        let (invalidator, generations, tags) = parts(Duration::from_secs(60));
        let pending = invalidator.begin(tags.as_slice().to_vec(), InvalidationSource::Write).await;
        pending.complete(None).await;
        assert!(!keeps(&generations, &tags));
    }
}
