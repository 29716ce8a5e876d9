//! The values of labels.

use http::StatusCode;

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// From the cache, fresh.
    Hit,
    /// From the cache, stale: it is being refreshed, or upstream failed.
    Stale,
    /// By a fill of its own.
    Miss,
    /// By another request's fill.
    Collapsed,
    /// A read that may not use the cache.
    Bypass,
    /// A write that was made durable, to be replayed later.
    Queued,
    /// Not a read of a route that caches.
    Forwarded,
    /// By Sluice itself, with an error.
    Error,
}

impl Outcome {
    pub(super) const ALL: [Outcome; 8] = [
        Outcome::Hit,
        Outcome::Stale,
        Outcome::Miss,
        Outcome::Collapsed,
        Outcome::Bypass,
        Outcome::Queued,
        Outcome::Forwarded,
        Outcome::Error,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Stale => "stale",
            Outcome::Miss => "miss",
            Outcome::Collapsed => "collapsed",
            Outcome::Bypass => "bypass",
            Outcome::Queued => "queued",
            Outcome::Forwarded => "forwarded",
            Outcome::Error => "error",
        }
    }
}

/// What made answers void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidationSource {
    /// A write to `/rest/v1/` or `/graphql/v1` that was forwarded.
    Write,
    /// A forwarded change of a storage object.
    Storage,
    /// A replay of a deferred write.
    Replay,
    /// A refresh that upstream answered with another status.
    Refresh,
    /// A write that upstream never answered.
    Unanswered,
    /// Another node, for whatever it saw.
    Node,
    /// What this node may have missed while it was cut off from the others.
    Gap,
    /// Writes of a node that died before it could invalidate.
    StandIn,
}

impl InvalidationSource {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            InvalidationSource::Write => "write",
            InvalidationSource::Storage => "storage",
            InvalidationSource::Replay => "replay",
            InvalidationSource::Refresh => "refresh",
            InvalidationSource::Unanswered => "unanswered",
            InvalidationSource::Node => "node",
            InvalidationSource::Gap => "gap",
            InvalidationSource::StandIn => "stand_in",
        }
    }
}

/// What became of a deferred write, or that it was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteState {
    /// Durable, and waiting for its replay.
    Queued,
    /// Upstream has it.
    Applied,
    /// Upstream's row was newer, or gone.
    Superseded,
    /// Upstream refused it, or it could not be replayed.
    Rejected,
}

impl WriteState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            WriteState::Queued => "queued",
            WriteState::Applied => "applied",
            WriteState::Superseded => "superseded",
            WriteState::Rejected => "rejected",
        }
    }
}

/// What came of one request of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// An answer that decided.
    Ended,
    /// An answer that calls for another try.
    Retried,
    /// No answer, or one that a gateway gave in upstream's place.
    Unreachable,
    /// The token is not accepted.
    Unauthorized,
    /// A refusal that isn't final while an older write of the caller is queued.
    Deferred,
}

impl AttemptResult {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            AttemptResult::Ended => "ended",
            AttemptResult::Retried => "retried",
            AttemptResult::Unreachable => "unreachable",
            AttemptResult::Unauthorized => "unauthorized",
            AttemptResult::Deferred => "deferred",
        }
    }
}

/// A status as its class; the label's values are `1xx` to `5xx`.
pub(super) const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The index of a status's class in [`STATUS_CLASSES`].
pub(super) fn class_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len()) - 1
}
