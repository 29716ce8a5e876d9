//! Invalidation by what passes through.
//!
//! A write that is on its way is a [`PendingInvalidation`]. Its answer
//! completes it before being passed on; if none comes, dropping it does what
//! must be done when nobody knows whether, or when, upstream commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::Generations;
use crate::tag::TagId;
use crate::telemetry::metrics::{InvalidationSource, Metrics};

/// Moves generations, and keeps answers from being stored where upstream's
/// word on a tag can't be trusted yet.
#[derive(Clone)]
pub struct Invalidator {
    generations: Arc<Generations>,
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
        metrics: Arc<Metrics>,
        settle: Duration,
        unanswered: Duration,
    ) -> Self {
        Self { generations, metrics, settle, unanswered }
    }

    /// Makes every entry that carries one of the tags unusable. When it
    /// returns, no lookup on this node finds one any more.
    pub fn invalidate(&self, tags: &[TagId], source: InvalidationSource) {
        if tags.is_empty() {
            return;
        }
        if !self.settle.is_zero() {
            self.hold(tags, self.settle);
        }
        self.generations.advance(tags);
        self.metrics.invalidation(source);
    }

    /// A write that goes upstream now and may touch `tags`.
    pub fn begin(&self, tags: Vec<TagId>, source: InvalidationSource) -> PendingInvalidation {
        PendingInvalidation { invalidator: self.clone(), tags, source, whole: false, answered: false }
    }

    fn hold(&self, tags: &[TagId], time: Duration) {
        let now = Instant::now();
        self.generations.hold(tags, now + time, now);
    }

    /// Upstream may commit at any moment, or have done so already. What is
    /// cached goes at once. What is asked of upstream until no commit is to be
    /// expected any more isn't kept, so that nothing is left to go then.
    fn abandon(&self, tags: &[TagId]) {
        self.hold(tags, self.unanswered);
        self.invalidate(tags, InvalidationSource::Unanswered);
    }
}

/// A write that upstream has not answered yet.
pub struct PendingInvalidation {
    invalidator: Invalidator,
    /// What it may touch, as far as its head tells.
    tags: Vec<TagId>,
    source: InvalidationSource,
    /// Whether all of the request has gone upstream. Without the end of its
    /// body it can't be carried out.
    whole: bool,
    answered: bool,
}

impl PendingInvalidation {
    /// The last of the request goes upstream now.
    pub fn went_whole(&mut self) {
        self.whole = true;
    }

    /// Upstream answered; now the body is known as well, and with it which of
    /// the tags it really touched. To be called before the answer is passed on.
    pub fn complete(mut self, touched: &[TagId]) {
        self.answered = true;
        self.invalidator.invalidate(touched, self.source);
    }
}

impl Drop for PendingInvalidation {
    fn drop(&mut self) {
        if self.answered || self.tags.is_empty() {
            return;
        }
        if self.whole {
            self.invalidator.abandon(&self.tags);
        } else {
            self.invalidator.invalidate(&self.tags, InvalidationSource::Unanswered);
        }
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
        let invalidator = Invalidator::new(generations.clone(), Arc::new(Metrics::new()), settle, UNANSWERED);
        (invalidator, generations, [Tag::Every.id()].into_iter().collect())
    }

    fn keeps(generations: &Generations, tags: &TagSet) -> bool {
        let now = Instant::now();
        generations.may_keep(&generations.read(tags, now), now).is_ok()
    }

    #[test]
    fn an_answered_write_invalidates_once() {
        let (invalidator, generations, tags) = parts(Duration::ZERO);
        let before = generations.read(&tags, Instant::now());
        let pending = invalidator.begin(tags.as_slice().to_vec(), InvalidationSource::Write);
        assert!(generations.is_current(&before), "nothing is known of the write yet");
        pending.complete(tags.as_slice());
        assert!(!generations.is_current(&before));
        assert!(keeps(&generations, &tags), "what is filled after the answer may be kept");
    }

    #[test]
    fn after_an_unanswered_write_nothing_is_kept_for_as_long_as_it_may_commit() {
        let (invalidator, generations, tags) = parts(Duration::ZERO);
        let begun = Instant::now();
        let before = generations.read(&tags, begun);
        let mut pending = invalidator.begin(tags.as_slice().to_vec(), InvalidationSource::Write);
        pending.went_whole();
        drop(pending);
        assert!(!generations.is_current(&before));
        assert!(!keeps(&generations, &tags));
        let between = generations.read(&tags, begun + UNANSWERED / 2);
        let after = Instant::now() + UNANSWERED;
        assert!(generations.may_keep(&between, after).is_err(), "it was asked while the write was open");
        assert!(generations.may_keep(&generations.read(&tags, after), after).is_ok());
    }

    #[test]
    fn a_write_that_never_went_whole_holds_nothing() {
        let (invalidator, generations, tags) = parts(Duration::ZERO);
        let before = generations.read(&tags, Instant::now());
        drop(invalidator.begin(tags.as_slice().to_vec(), InvalidationSource::Write));
        assert!(!generations.is_current(&before));
        assert!(keeps(&generations, &tags));
    }

    #[test]
    fn nothing_is_kept_until_replicas_have_settled() {
        let (invalidator, generations, tags) = parts(Duration::from_secs(60));
        invalidator.begin(tags.as_slice().to_vec(), InvalidationSource::Write).complete(tags.as_slice());
        assert!(!keeps(&generations, &tags));
    }
}
