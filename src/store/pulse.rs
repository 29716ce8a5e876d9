//! The pulse: whether what the bus has told this node is up to date.
//!
//! Every master has a link, a connection that messages come through in order.
//! A beat that was answered on it proves that all messages which the master
//! sent before it ran the beat have been applied here. What is cached in this
//! process may be used while every link's last answered beat was sent less
//! than [`TRUST`] ago.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::stamp::ReplicationId;
use crate::config::HostPort;

/// How long an answered beat is trusted, from when it was sent.
pub const TRUST: Duration = Duration::from_secs(1);

/// No time is trusted.
const NEVER: u64 = 0;

type ReplicationIds = SmallVec<[ReplicationId; 4]>;

/// Until when the messages applied here are known to be all that matter.
///
/// Memory order. A link moves the generations that a gap voids, then counts
/// its beat; a reader sees the count, then compares generations. The count is
/// stored with `Release` and loaded with `Acquire`, so that who trusts it sees
/// what was voided before.
pub struct Pulse {
    origin: Instant,
    /// In nanoseconds from `origin`.
    trusted_until: AtomicU64,
    /// The replication ids of all masters whose links have beaten.
    replication_ids: ArcSwap<ReplicationIds>,
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    /// One of each master that is expected to beat.
    by_master: HashMap<HostPort, LinkState>,
    last_number: u64,
}

#[derive(Default)]
struct LinkState {
    /// Which link speaks for the master. Those before it are not heard any more.
    number: u64,
    beat: Option<Beat>,
}

#[derive(Clone, Copy)]
struct Beat {
    sent_at: Instant,
    replication_id: ReplicationId,
}

impl Pulse {
    /// Trusts nothing yet. `origin` is earlier than all beats.
    pub fn new(origin: Instant) -> Arc<Self> {
        Arc::new(Self {
            origin,
            trusted_until: AtomicU64::new(NEVER),
            replication_ids: ArcSwap::default(),
            links: Mutex::default(),
        })
    }

    /// Whether every link's last answered beat was sent less than [`TRUST`]
    /// before `now`. To be asked before generations are compared, not after:
    /// who finds trust restored may have compared before the gap was. One load.
    pub fn is_trusted(&self, now: Instant) -> bool {
        nanoseconds(now.saturating_duration_since(self.origin)) < self.trusted_until.load(Ordering::Acquire)
    }

    /// Whether a server with this replication id is one of the masters that
    /// the links lead to. What another server says must not be believed.
    pub fn knows(&self, replication_id: ReplicationId) -> bool {
        self.replication_ids.load().contains(&replication_id)
    }

    /// From now on these masters have to beat and all others don't. Links made
    /// before are not heard any more: nothing is trusted until each of
    /// `masters` has a new link that has beaten.
    pub fn expect(&self, masters: &[HostPort]) {
        let mut links = self.links.lock();
        links.by_master = masters.iter().map(|master| (master.clone(), LinkState::default())).collect();
        self.publish(&links);
    }

    /// A new link to `master`, in place of its last. It is counted from its
    /// first beat on.
    pub fn link(self: &Arc<Self>, master: &HostPort) -> Link {
        let mut links = self.links.lock();
        links.last_number += 1;
        let number = links.last_number;
        if let Some(state) = links.by_master.get_mut(master) {
            *state = LinkState { number, beat: None };
        }
        self.publish(&links);
        Link { pulse: Arc::clone(self), master: master.clone(), number }
    }

    fn set(&self, master: &HostPort, number: u64, beat: Option<Beat>) {
        let mut links = self.links.lock();
        let Some(state) = links.by_master.get_mut(master).filter(|state| state.number == number) else {
            return;
        };
        state.beat = beat;
        self.publish(&links);
    }

    /// Makes what the links say visible to readers.
    fn publish(&self, links: &Links) {
        let beats: SmallVec<[Beat; 4]> = links.by_master.values().filter_map(|state| state.beat).collect();
        let replication_ids: ReplicationIds = beats.iter().map(|beat| beat.replication_id).collect();
        if **self.replication_ids.load() != replication_ids {
            self.replication_ids.store(Arc::new(replication_ids));
        }
        let all_beat = beats.len() == links.by_master.len();
        let oldest = beats.iter().map(|beat| beat.sent_at).min().filter(|_| all_beat);
        let until = oldest
            .map_or(NEVER, |sent_at| nanoseconds((sent_at + TRUST).saturating_duration_since(self.origin)));
        self.trusted_until.store(until, Ordering::Release);
    }
}

/// A connection to a master. Dropped, it is lost, and nothing is trusted until
/// the master has another that has beaten.
#[must_use]
pub struct Link {
    pulse: Arc<Pulse>,
    master: HostPort,
    number: u64,
}

impl Link {
    /// A beat sent at `sent_at` was answered by the server with this
    /// replication id. Before the first beat of a link, and before one with
    /// another id than the last, everything cached in this process is to be
    /// voided: nobody knows what was said before.
    pub fn beat(&self, sent_at: Instant, replication_id: ReplicationId) {
        self.pulse.set(&self.master, self.number, Some(Beat { sent_at, replication_id }));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.pulse.set(&self.master, self.number, None);
    }
}

/// Enough for 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const ID_7: ReplicationId = ReplicationId(7);
    const ID_8: ReplicationId = ReplicationId(8);
    const ID_9: ReplicationId = ReplicationId(9);

    fn master(port: u16) -> HostPort {
        HostPort { host: "redis".into(), port }
    }

    fn pulse(ports: &[u16]) -> (Arc<Pulse>, Instant) {
        let origin = Instant::now();
        let pulse = Pulse::new(origin);
        pulse.expect(&ports.iter().copied().map(master).collect::<Vec<_>>());
        (pulse, origin + Duration::from_secs(100))
    }

    #[test]
    fn a_beat_is_trusted_from_its_sending_for_a_second() {
        let (pulse, now) = pulse(&[1]);
        let link = pulse.link(&master(1));
        assert!(!pulse.is_trusted(now), "nothing has beaten");
        link.beat(now, ID_7);
        assert!(pulse.is_trusted(now));
        assert!(pulse.is_trusted(now + TRUST - SOON));
        assert!(!pulse.is_trusted(now + TRUST));
        link.beat(now + 5 * TRUST, ID_7);
        assert!(pulse.is_trusted(now + 6 * TRUST - SOON), "a slow link has caught up");
    }

    #[test]
    fn the_link_that_is_furthest_behind_decides() {
        let (pulse, now) = pulse(&[1, 2]);
        let (one, two) = (pulse.link(&master(1)), pulse.link(&master(2)));
        one.beat(now, ID_7);
        assert!(!pulse.is_trusted(now), "one of two is missing");
        two.beat(now + TRUST / 2, ID_8);
        assert!(pulse.is_trusted(now + TRUST - SOON));
        assert!(!pulse.is_trusted(now + TRUST));
        one.beat(now + TRUST, ID_7);
        assert!(pulse.is_trusted(now + TRUST + TRUST / 2 - SOON));
        assert!(!pulse.is_trusted(now + TRUST + TRUST / 2));
    }

    #[test]
    fn a_lost_link_ends_trust_until_the_next_has_beaten() {
        let (pulse, now) = pulse(&[1, 2]);
        let (one, two) = (pulse.link(&master(1)), pulse.link(&master(2)));
        one.beat(now, ID_7);
        two.beat(now, ID_8);
        drop(one);
        assert!(!pulse.is_trusted(now));
        assert!(!pulse.knows(ID_7) && pulse.knows(ID_8));
        let one = pulse.link(&master(1));
        assert!(!pulse.is_trusted(now));
        one.beat(now, ID_9);
        assert!(pulse.is_trusted(now));
        assert!(!pulse.knows(ID_7) && pulse.knows(ID_9));
    }

    #[test]
    fn a_link_that_was_replaced_is_not_heard_any_more() {
        let (pulse, now) = pulse(&[1]);
        let old = pulse.link(&master(1));
        let new = pulse.link(&master(1));
        old.beat(now, ID_7);
        assert!(!pulse.is_trusted(now), "the new link may have missed a message");
        new.beat(now, ID_7);
        drop(old);
        assert!(pulse.is_trusted(now), "the old link's end is no news");
    }

    #[test]
    fn a_change_of_masters_ends_trust() {
        let (pulse, now) = pulse(&[1, 2]);
        let (one, two) = (pulse.link(&master(1)), pulse.link(&master(2)));
        one.beat(now, ID_7);
        two.beat(now, ID_8);
        pulse.expect(&[master(1)]);
        assert!(!pulse.is_trusted(now) && !pulse.knows(ID_7));
        one.beat(now, ID_7);
        assert!(!pulse.is_trusted(now), "what the lost master said last may not have come");
        let one = pulse.link(&master(1));
        one.beat(now, ID_7);
        two.beat(now, ID_8);
        assert!(pulse.is_trusted(now) && !pulse.knows(ID_8));
    }

    #[test]
    fn without_masters_nothing_is_trusted() {
        let (pulse, now) = pulse(&[]);
        assert!(!pulse.is_trusted(now));
        let stray = pulse.link(&master(1));
        stray.beat(now, ID_7);
        assert!(!pulse.is_trusted(now) && !pulse.knows(ID_7));
    }
}
