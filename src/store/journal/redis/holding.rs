//! What this node has claimed.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncGuard};

use super::super::id::{CallerId, LaneId};

/// The claims that this node knows to hold.
#[derive(Default)]
pub struct Holding {
    lanes: Mutex<HashMap<LaneId, u64>>,
    turn: AsyncMutex<()>,
}

impl Holding {
    /// Leave to change what the node holds by Redis's account, one after the other.
    pub async fn turn(&self) -> AsyncGuard<'_, ()> {
        self.turn.lock().await
    }

    pub fn add(&self, lane: LaneId, number: u64) {
        self.lanes.lock().insert(lane, number);
    }

    /// A claim that is no longer held once what is returned is dropped: until then Redis has it.
    pub fn leave(&self, lane: LaneId, number: u64) -> Leaving<'_> {
        Leaving { holding: self, lane, number }
    }

    pub fn len(&self) -> u64 {
        self.lanes.lock().len() as u64
    }

    pub fn all(&self) -> Vec<(LaneId, u64)> {
        self.lanes.lock().iter().map(|(lane, number)| (*lane, *number)).collect()
    }

    /// How many lanes of each caller are in flight.
    pub fn by_caller(&self) -> HashMap<CallerId, usize> {
        let mut counts = HashMap::new();
        for lane in self.lanes.lock().keys() {
            *counts.entry(lane.caller).or_default() += 1;
        }
        counts
    }
}

/// See [`Holding::leave`].
pub struct Leaving<'a> {
    holding: &'a Holding,
    lane: LaneId,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut lanes = self.holding.lanes.lock();
        // It may have been claimed anew since.
        if lanes.get(&self.lane) == Some(&self.number) {
            lanes.remove(&self.lane);
        }
    }
}
