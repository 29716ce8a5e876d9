//! The registry: who lives, and who has fallen silent.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::silent::stand_in_for;
use super::{NODES, SILENCE, Shared, StandIn, member};
use crate::store::error::StoreError;

/// Between two beats.
const BEAT_INTERVAL: Duration = Duration::from_millis(250);

/// [`SILENCE`] in milliseconds.
const SILENT_AFTER: u64 = SILENCE.as_millis() as u64;

/// For one beat.
const DEADLINE: Duration = Duration::from_secs(1);

/// Notes removed by one beat.
const REMOVED_AT_ONCE: usize = 1_000;

/// Beats for this node, and stands in for those that don't.
pub(super) struct Registry {
    shared: Arc<Shared>,
    stand_in: StandIn,
    /// When this node beat last, in milliseconds of Redis's clock. 0: never.
    last: u64,
    /// The first of the beats that were never as far apart as a silence.
    unbroken_since: u64,
    /// Standing in may take long, and this node has to be heard meanwhile.
    standing_in: JoinSet<()>,
}

impl Registry {
    pub(super) fn new(shared: Arc<Shared>, stand_in: StandIn) -> Self {
        Self { shared, stand_in, last: 0, unbroken_since: 0, standing_in: JoinSet::new() }
    }

    pub(super) async fn run(mut self) {
        let mut ticks = interval(BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // What keeps it from beating keeps requests from the store as
            // well, which is told of elsewhere.
            if let Ok(silent) = self.beat().await {
                self.see_to(silent);
            }
        }
    }

    /// Beats until no note is left that can be removed. Gives the silent nodes.
    async fn beat(&mut self) -> Result<Vec<u64>, StoreError> {
        loop {
            let ids = self.shared.removable();
            let outcome = self.beat_once(&ids).await;
            self.shared.ids.lock().left(&ids, outcome.is_ok());
            let silent = outcome?;
            if ids.len() < REMOVED_AT_ONCE {
                return Ok(silent);
            }
        }
    }

    async fn beat_once(&mut self, ids: &[u64]) -> Result<Vec<u64>, StoreError> {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        // After an outage the others need their time, too, to be heard again.
        let knows_others = self.last - self.unbroken_since >= SILENT_AFTER;
        let last = if knows_others { self.last } else { 0 }.to_string();
        let silence = SILENT_AFTER.to_string();
        let mut arguments = vec![self.shared.member.as_bytes(), silence.as_bytes(), last.as_bytes()];
        arguments.extend(ids.iter().map(String::as_bytes));
        let keys = self.shared.keys_of(self.shared.node);
        let answer = self.shared.commands.run(&NODES, &keys, &arguments, DEADLINE).await?;
        let [_, Value::BulkString(now), silent @ ..] = answer.as_slice() else {
            return Err(StoreError::Broken("the registry's answer has no time".into()));
        };
        let now = std::str::from_utf8(now).ok().and_then(|now| now.parse().ok());
        let now: u64 = now.ok_or_else(|| StoreError::Broken("the registry's time is no number".into()))?;
        if now < self.last || now - self.last >= SILENT_AFTER {
            self.unbroken_since = now;
        }
        self.last = now;
        Ok(silent.iter().filter_map(node).collect())
    }

    fn see_to(&mut self, silent: Vec<u64>) {
        while self.standing_in.try_join_next().is_some() {}
        if silent.is_empty() || !self.standing_in.is_empty() {
            return;
        }
        let (shared, stand_in) = (Arc::clone(&self.shared), Arc::clone(&self.stand_in));
        self.standing_in.spawn(async move {
            for node in silent {
                // What failed is tried again when the node is found the next time.
                let _ = stand_in_for(node, &shared, &stand_in).await;
            }
        });
    }
}

impl Shared {
    /// Notes that are done with and may be forgotten: what they stood for was
    /// sent. First the notes are taken, then the outbox is looked at, so that
    /// it had what they stood for, if it still has.
    fn removable(&self) -> Vec<u64> {
        let mut ids = self.ids.lock();
        let leaving = ids.leave(REMOVED_AT_ONCE);
        if self.outbox.is_empty() {
            return leaving;
        }
        ids.left(&leaving, false);
        Vec::new()
    }
}

/// Reads what [`member`] writes.
fn node(value: &Value) -> Option<u64> {
    let Value::BulkString(text) = value else { return None };
    let node = u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()?;
    (member(node).as_bytes() == text).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_a_node_is_one() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        for id in [0, 255, u64::MAX] {
            assert_eq!(node(&text(&member(id))), Some(id));
        }
        for odd in [text(""), text("ff"), text("+0000000000000ff"), text("00000000000000FF"), Value::Int(1)] {
            assert_eq!(node(&odd), None, "{odd:?}");
        }
    }
}
