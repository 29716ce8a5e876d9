//! The bus: how this node learns what the others invalidate.
//!
//! There is a link to each master, a connection that messages come through and
//! that beats are answered on. A link's life:
//!
//! 1. It connects and subscribes. From then on it misses nothing.
//! 2. Its first beat is answered. What was said before it connected is
//!    unknown, so everything cached in this process is voided.
//! 3. Only then does the [`Pulse`] count it.
//! 4. It beats until it breaks. Then it ends, and the next one begins.

mod message;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::Value;
use redis::cluster_routing::Slot;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

pub use self::message::Message;
use super::backoff::{Backoff, chance};
use super::commands::{Change, Observer};
use super::connect::{BusConnection, Connector, Master, OnMessage};
use super::error::StoreError;
use super::names::Names;
use super::pulse::{Link, Pulse, TRUST};
use super::script::Script;
use super::stamp::ReplicationId;
use crate::config::HostPort;

/// Between the sending of two beats.
const BEAT_INTERVAL: Duration = Duration::from_millis(200);

/// Masters remembered. One that is forgotten and met again counts as new.
const MAX_MET: usize = 1_024;

/// A beat that is answered later doesn't count.
const TIMELY: Duration = Duration::from_millis(250);

/// A link whose beat isn't answered for so long is given up. While it lives it
/// loses nothing, however slow it is.
const BEAT_DEADLINE: Duration = Duration::from_secs(5);

/// How often sentinels or a Cluster are asked for the masters.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// For the question. The connector takes a second.
const LOOK_DEADLINE: Duration = Duration::from_secs(3);

/// The wait before a link is made anew, and the longest there is.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new("beat", include_str!("redis/beat.lua")));

/// What the bus calls. Nothing here may block.
#[derive(Clone)]
pub struct Hooks {
    /// A message came. It has to be applied by the return.
    pub on_message: Arc<dyn Fn(Message) + Send + Sync>,
    /// Messages may have been missed: everything cached in this process has
    /// to be void by the return.
    pub on_gap: Arc<dyn Fn() + Send + Sync>,
    /// A master is there that wasn't before: one was promoted, or restarted.
    /// What the one before it was told last may be lost.
    pub on_new_master: Arc<dyn Fn() + Send + Sync>,
    /// What is cached in this process is up to date again, or isn't any more.
    pub on_change: Observer,
    /// Others than before are the masters.
    pub on_master_changed: Arc<dyn Fn() + Send + Sync>,
}

/// The bus, running until it is dropped.
#[must_use]
pub struct Bus(AbortHandle);

impl Drop for Bus {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a link to each master and `pulse` up to date. Must be called on a runtime.
pub fn start(connector: Arc<Connector>, names: Names, pulse: Arc<Pulse>, hooks: Hooks) -> Bus {
    let (announced, met) = (Mutex::new(None), Mutex::default());
    let shared =
        Shared { connector, names, pulse, hooks, announced, met, has_been_up: AtomicBool::new(false) };
    let supervisor = Supervisor {
        shared: Arc::new(shared),
        expected: HashSet::new(),
        links: JoinSet::new(),
        masters: HashMap::new(),
        backoff: Backoff::new(RETRY.0, RETRY.1),
    };
    Bus(tokio::spawn(supervisor.run()).abort_handle())
}

/// Subscribes and beats once at each master, as a node does.
///
/// # Errors
///
/// What keeps a node from doing so.
pub async fn attempt(connector: &Connector, names: &Names) -> Result<(), StoreError> {
    for master in connector.masters().await? {
        let connection = connector.bus(&master, names.channel(), Arc::new(|_: &[u8]| {})).await?;
        connection.run(&BEAT, &[probe_key(names, master.probe_slot)], &[], TRUST).await?;
    }
    Ok(())
}

/// What all links share.
struct Shared {
    connector: Arc<Connector>,
    names: Names,
    pulse: Arc<Pulse>,
    hooks: Hooks,
    announced: Mutex<Option<Change>>,
    /// The masters that beats have been answered by, the latest last.
    met: Mutex<Vec<ReplicationId>>,
    has_been_up: AtomicBool,
}

impl Shared {
    /// One link, from its connecting to its end. Whether it ever beat.
    async fn link(self: Arc<Self>, master: Master) -> bool {
        let link = self.pulse.link(&master.address);
        let mut has_beaten = false;
        let reason = match self.keep(&link, &master, &mut has_beaten).await {
            Ok(never) => match never {},
            Err(reason) => reason,
        };
        // Before anybody is told, so that nobody trusts it any more.
        drop(link);
        self.announce_down(reason);
        has_beaten
    }

    async fn keep(
        &self,
        link: &Link,
        master: &Master,
        has_beaten: &mut bool,
    ) -> Result<Infallible, StoreError> {
        let connection = self.connector.bus(master, self.names.channel(), self.receiver()).await?;
        let probe = [probe_key(&self.names, master.probe_slot)];
        let mut ticks = interval(BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = connection.closed() => return Err(StoreError::Broken("the bus was disconnected".into())),
            }
            // An answer proves what the server had said when it ran the beat:
            // certainly not before this.
            let sent_at = Instant::now();
            let replication_id = self.beat(&connection, &probe).await?;
            if last != Some(replication_id) {
                (self.hooks.on_gap)();
                if self.meet(replication_id) && self.has_been_up.load(Ordering::SeqCst) {
                    (self.hooks.on_new_master)();
                }
                last = Some(replication_id);
            }
            *has_beaten = true;
            // A Redis too slow to be told of writes is too slow to be believed.
            if sent_at.elapsed() <= TIMELY {
                link.beat(sent_at, replication_id);
                self.announce_up();
            }
        }
    }

    /// Whether a master is met for the first time.
    fn meet(&self, replication_id: ReplicationId) -> bool {
        let mut met = self.met.lock();
        if met.contains(&replication_id) {
            return false;
        }
        if met.len() == MAX_MET {
            met.remove(0);
        }
        met.push(replication_id);
        true
    }

    fn receiver(&self) -> OnMessage {
        let hooks = self.hooks.clone();
        let said = AtomicBool::new(false);
        Arc::new(move |bytes| match Message::decode(bytes) {
            Ok(message) => (hooks.on_message)(message),
            Err(error) => {
                if !said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "everything in memory is void");
                }
                (hooks.on_gap)();
            }
        })
    }

    async fn beat(&self, connection: &BusConnection, probe: &[Vec<u8>]) -> Result<ReplicationId, StoreError> {
        let answer = connection.run(&BEAT, probe, &[], BEAT_DEADLINE);
        tokio::pin!(answer);
        let answer = match timeout(TRUST, &mut answer).await {
            Ok(answer) => answer?,
            Err(_) => {
                self.announce_down(StoreError::Timeout);
                answer.await?
            }
        };
        replication_id(&answer)
    }

    /// Says that all links beat, if they do and it wasn't said.
    fn announce_up(&self) {
        let mut announced = self.announced.lock();
        if *announced != Some(Change::Up) && self.pulse.is_trusted(Instant::now()) {
            *announced = Some(Change::Up);
            self.has_been_up.store(true, Ordering::SeqCst);
            (self.hooks.on_change)(Change::Up);
        }
    }

    /// Says that a link doesn't beat, unless one already didn't for a like reason.
    fn announce_down(&self, reason: StoreError) {
        let mut announced = self.announced.lock();
        let change = Change::Down(reason);
        if change.is_news(announced.as_ref()) {
            *announced = Some(change.clone());
            (self.hooks.on_change)(change);
        }
    }
}

/// Looks for the masters and sees to it that each has a link.
struct Supervisor {
    shared: Arc<Shared>,
    /// The masters found last.
    expected: HashSet<HostPort>,
    links: JoinSet<bool>,
    /// Whose link each task is.
    masters: HashMap<Id, HostPort>,
    backoff: Backoff,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            match timeout(LOOK_DEADLINE, self.shared.connector.masters()).await {
                Ok(Ok(masters)) => {
                    self.adopt(masters);
                    self.rest().await;
                }
                Ok(Err(reason)) => self.look_again(reason).await,
                Err(_) => self.look_again(StoreError::Timeout).await,
            }
        }
    }

    /// Masters couldn't be found. Links that live are kept: they prove for
    /// themselves that they lead to a master.
    async fn look_again(&mut self, reason: StoreError) {
        if self.links.is_empty() {
            self.shared.announce_down(reason);
        }
        sleep(self.backoff.wait(chance())).await;
    }

    /// Makes the links that are missing. Where the masters are others than
    /// before all links are made anew: what a lost one said last may not have
    /// come, which a new link takes into account.
    fn adopt(&mut self, masters: Vec<Master>) {
        let found: HashSet<HostPort> = masters.iter().map(|master| master.address.clone()).collect();
        if found != self.expected {
            let is_first = self.expected.is_empty();
            self.links = JoinSet::new();
            self.masters.clear();
            self.shared.pulse.expect(&Vec::from_iter(found.iter().cloned()));
            self.expected = found;
            if !is_first {
                (self.shared.hooks.on_master_changed)();
            }
        }
        let linked: HashSet<HostPort> = self.masters.values().cloned().collect();
        for master in masters.into_iter().filter(|master| !linked.contains(&master.address)) {
            let address = master.address.clone();
            let task = self.links.spawn(Arc::clone(&self.shared).link(master));
            self.masters.insert(task.id(), address);
        }
    }

    /// Waits until there is a reason to look for the masters again.
    async fn rest(&mut self) {
        tokio::select! {
            Some(ended) = self.links.join_next_with_id() => {
                self.ended(ended);
                while let Some(ended) = self.links.try_join_next_with_id() {
                    self.ended(ended);
                }
                sleep(self.backoff.wait(chance())).await;
            }
            () = sleep(LOOK_INTERVAL) => {}
        }
    }

    fn ended(&mut self, ended: Result<(Id, bool), JoinError>) {
        let (task, has_beaten) = ended.unwrap_or_else(|panicked| (panicked.id(), false));
        self.masters.remove(&task);
        if has_beaten {
            self.backoff.reset();
        }
    }
}

/// A key that nobody sets, in a slot that the master owns.
fn probe_key(names: &Names, slot: Option<u16>) -> Vec<u8> {
    let wanted = slot.and_then(Slot::new);
    let is_in_slot = |number: &String| wanted.is_none_or(|slot| Slot::for_key(number) == slot);
    // Every slot is met long before these end.
    let number = (0..1_000_000_u32).map(|number| number.to_string()).find(is_in_slot).unwrap_or_default();
    format!("{}:{{{number}}}", names.channel()).into_bytes()
}

/// The replication id, which every script's answer begins with.
fn replication_id(answer: &[Value]) -> Result<ReplicationId, StoreError> {
    let id = match answer.first() {
        Some(Value::BulkString(text)) => ReplicationId::parse(text),
        _ => None,
    };
    id.ok_or_else(|| StoreError::Broken("a script's answer has no replication id".into()))
}

#[cfg(test)]
mod tests;
