//! The cache's core: which requests share an answer, what may be kept and for
//! how long, who asks upstream, and what a client is given.
//!
//! A lookup goes through the parts in this order: [`Key::of`] names what a
//! request asks for, [`Memory::get`] finds an [`Entry`] whose tags have not
//! moved, [`freshness::standing`] says what may be done with it,
//! [`deliver::deliver`] makes the answer. A miss goes through [`Collapse`],
//! reads a [`Snapshot`] of its tags' generations before upstream is asked, and
//! is judged by [`freshness::judge`].
//!
//! Nothing here reads a clock or does I/O: times come in as arguments.

pub mod cache_status;
pub mod changes;
pub mod collapse;
mod decimal;
pub mod deliver;
pub mod directives;
pub mod encoding;
pub mod entry;
pub mod freshness;
pub mod generation;
pub mod key;
pub mod memory;
pub mod precondition;
pub mod revalidation;
pub mod stored_headers;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use cache_status::{CacheStatus, Forwarded};
pub use collapse::{Collapse, CollapseLimits, Leader, Turn, Waited, Waiter};
pub use deliver::{DeliveredBody, Delivery, HeadWriter, Reading, VaryNames, deliver};
pub use directives::{RequestDirectives, ResponseDirectives};
pub use encoding::Coding;
pub use entry::{Entry, EntryParts, Line};
pub use freshness::{Answer, Lifetimes, NotStored, Policy, Standing, judge, standing};
pub use generation::{EntryTags, Generations, NotKept, Snapshot, TagPrints, TagSet};
pub use key::{Key, KeyParts};
pub use memory::{EvictionReason, Memory};
pub use precondition::Conditions;

/// A point in time: milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The milliseconds that passed since `earlier`; zero if the clock was set back.
    pub fn since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time that a header's value names, in one of HTTP's forms (RFC 9110, section 5.6.7).
    pub(crate) fn from_http_date(value: &[u8]) -> Option<Self> {
        httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok().map(Timestamp::from)
    }

    /// The time as HTTP prints it, in whole seconds.
    pub fn to_http_date(self) -> String {
        // Dates after the year 9999 have no HTTP form.
        const LAST: u64 = 253_402_300_799;
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs((self.0 / 1000).min(LAST)))
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before 1970 count as 1970.
    fn from(time: SystemTime) -> Self {
        Timestamp(whole_millis(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

/// A duration in milliseconds, at most `u64::MAX`.
pub(crate) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
