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
    /// Not a read of a route that caches.
    Forwarded,
    /// By Sluice itself, with an error.
    Error,
}

impl Outcome {
    pub(super) const ALL: [Outcome; 7] = [
        Outcome::Hit,
        Outcome::Stale,
        Outcome::Miss,
        Outcome::Collapsed,
        Outcome::Bypass,
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
            InvalidationSource::Refresh => "refresh",
            InvalidationSource::Unanswered => "unanswered",
            InvalidationSource::Node => "node",
            InvalidationSource::Gap => "gap",
            InvalidationSource::StandIn => "stand_in",
        }
    }
}

/// A status as its class; the label's values are `1xx` to `5xx`.
pub(super) const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The index of a status's class in [`STATUS_CLASSES`].
pub(super) fn class_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len()) - 1
}
