//! Joining the store, and what goes on behind requests: claiming the
//! namespace, sending what could not be sent, saying how the store is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::Value;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::bus::{self, Hooks, Message};
use super::commands::{Change, Commands, Observer};
use super::connect::Connector;
use super::names::Names;
use super::notes::{Notes, StandIn};
use super::outbox::Outbox;
use super::pulse::Pulse;
use super::responses::{Responses, node_id};
use super::script::Script;
use super::{Local, Patience, Shared, StoreError};
use crate::config::{RedisStore, Upstream};
use crate::tag::Tag;
use crate::telemetry::metrics::InvalidationSource;

/// How often it is looked whether something is to be done.
const TICK: Duration = Duration::from_millis(50);
/// For what no request waits for.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long the start waits for the store. Without it Sluice starts as well.
const FIRST: Duration = Duration::from_secs(1);
/// The same as [`TICK`], while the start waits.
const FIRST_TICK: Duration = Duration::from_millis(5);
/// How long the store has to be out of use before the log says so.
const LASTING: Duration = Duration::from_millis(250);
/// How often the owner of a namespace that is another's is looked at again.
const FOREIGN_EVERY: Duration = Duration::from_secs(10);
/// How often the log says that the store is full.
const FULL_EVERY: Duration = Duration::from_secs(60);

static ADOPT: LazyLock<Script> = LazyLock::new(|| Script::new("adopt", include_str!("redis/adopt.lua")));

/// Why a store can't be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its settings.
    #[error("The store can't be used: {0}.")]
    Settings(StoreError),
    /// Its namespace is in use for another upstream.
    #[error(
        "The store's namespace {namespace:?} belongs to {owner}, and upstream is {upstream}. Give this upstream \
         another store.namespace, or remove the key {namespace}:upstream from Redis."
    )]
    Foreign {
        /// The namespace.
        namespace: String,
        /// The upstream that it belongs to.
        owner: String,
        /// This node's upstream.
        upstream: String,
    },
}

/// How the store is, beyond its connections.
pub(super) struct Health {
    namespace: String,
    upstream: String,
    /// The key that says so.
    owner: Vec<u8>,
    /// Whether the namespace is known to be this upstream's. Changed under the lock of `losses`.
    adopted: AtomicBool,
    /// How often a connection was lost.
    losses: Mutex<u64>,
    /// Something is to be done at once.
    wanted: Notify,
    fault: Mutex<Option<StoreError>>,
    full: Mutex<Option<Instant>>,
}

impl Health {
    pub(super) fn is_adopted(&self) -> bool {
        self.adopted.load(Ordering::SeqCst)
    }

    pub(super) fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Redis had no memory for something.
    pub(super) fn full(&self) {
        let now = Instant::now();
        let mut said = self.full.lock();
        if said.is_none_or(|last| now.duration_since(last) >= FULL_EVERY) {
            *said = Some(now);
            tracing::warn!("the store is full: what it has is served on, new answers are not shared");
        }
    }

    /// Notes what is wrong. That it isn't available says less than what made it so.
    fn broke(&self, error: StoreError) {
        let mut fault = self.fault.lock();
        if error != StoreError::Unavailable || fault.is_none() {
            *fault = Some(error);
        }
    }

    /// Hears how a connection is.
    fn observer(self: Arc<Self>) -> Observer {
        Arc::new(move |change| {
            if let Change::Down(reason) = change {
                // It may come back empty, or be another.
                let mut losses = self.losses.lock();
                *losses += 1;
                self.adopted.store(false, Ordering::SeqCst);
                drop(losses);
                self.broke(reason);
            }
            self.wake();
        })
    }
}

impl Shared {
    /// Joins the store. If it can't be reached, that goes on behind requests.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if its settings can't be used, or its namespace belongs to
    /// another upstream.
    pub async fn open(store: &RedisStore, upstream: &Upstream, local: Local) -> Result<Arc<Self>, OpenError> {
        let connector = Arc::new(Connector::new(store));
        let names = Names::new(&store.namespace);
        let node = node_id().map_err(OpenError::Settings)?;
        let health = Arc::new(Health {
            namespace: store.namespace.clone(),
            upstream: upstream.identity(),
            owner: names.upstream(),
            adopted: AtomicBool::new(false),
            losses: Mutex::new(0),
            wanted: Notify::new(),
            fault: Mutex::new(None),
            full: Mutex::new(None),
        });
        let pulse = Pulse::new(Instant::now());
        let commands = Commands::start(connector.clone(), health.clone().observer());
        let responses = Arc::new(Responses::new(commands.clone(), names.clone(), node));
        let outbox = Outbox::new();
        let stand_in = stand_in(&responses, &local);
        let notes = Notes::start(commands.clone(), names.clone(), node, outbox.clone(), stand_in);
        let removals = Arc::new(AtomicU64::new(0));
        let hooks = hooks(&local, &health, &commands, outbox.clone(), removals.clone(), node);
        let bus = bus::start(connector, names, pulse.clone(), hooks);
        let shared =
            Arc::new(Self { commands, responses, pulse, outbox, notes, health, local, removals, _bus: bus });
        // Later is early enough, but for an owner that is another's.
        if let Ok(Err(foreign)) = timeout(FIRST, shared.first_adoption()).await {
            return Err(foreign);
        }
        tokio::spawn(shared.clone().keep_up());
        Ok(shared)
    }

    /// Leaves the store, once all requests have ended: what waits is sent, if
    /// that can be done within `limit`, and no other node stands in for this one.
    pub async fn leave(&self, limit: Duration) {
        let sent = async {
            while !self.outbox.is_empty() {
                self.catch_up().await;
                tokio::time::sleep(FIRST_TICK).await;
            }
        };
        if timeout(limit, sent).await.is_err() {
            tracing::error!(
                "stopped while redis was away: it was not told what the last writes changed, and other nodes may \
                 serve that until it expires"
            );
        }
        self.notes.goodbye(DEADLINE).await;
    }

    /// Returns once the store is in use.
    async fn first_adoption(&self) -> Result<(), OpenError> {
        while !self.is_ready() {
            if !self.health.is_adopted()
                && let Err(Adoption::Foreign(foreign)) = self.adopt().await
            {
                return Err(foreign);
            }
            tokio::time::sleep(FIRST_TICK).await;
        }
        Ok(())
    }

    async fn keep_up(self: Arc<Self>) {
        let mut report = Report::new();
        let mut foreign = None;
        loop {
            tokio::select! {
                () = self.health.wanted.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            if !self.health.is_adopted()
                && foreign.is_none_or(|since: Instant| since.elapsed() >= FOREIGN_EVERY)
            {
                foreign = match self.adopt().await {
                    Err(Adoption::Foreign(error)) => {
                        tracing::error!(%error, "the store is not used");
                        Some(Instant::now())
                    }
                    Ok(()) | Err(Adoption::Failed) => None,
                };
            }
            self.catch_up().await;
            report.look(self.is_ready(), &self.health);
        }
    }

    /// Claims the namespace for this upstream, unless it is another's.
    async fn adopt(&self) -> Result<(), Adoption> {
        let upstream = &self.health.upstream;
        let keys = [self.health.owner.clone()];
        let losses = *self.health.losses.lock();
        let mut answer =
            self.commands.run(&ADOPT, &keys, &[upstream.as_bytes()], DEADLINE).await.map_err(|error| {
                self.health.broke(error);
                Adoption::Failed
            })?;
        match answer.pop() {
            Some(Value::BulkString(owner)) if owner != upstream.as_bytes() => {
                Err(Adoption::Foreign(OpenError::Foreign {
                    namespace: self.health.namespace.clone(),
                    owner: String::from_utf8_lossy(&owner).into_owned(),
                    upstream: upstream.clone(),
                }))
            }
            // Nil where there is no memory for an owner.
            _ => {
                let now = self.health.losses.lock();
                // What was lost meanwhile may have been the one that answered.
                self.health.adopted.store(*now == losses, Ordering::SeqCst);
                Ok(())
            }
        }
    }

    /// Sends what waits to be sent and what is due.
    async fn catch_up(&self) {
        for due in self.outbox.due(Instant::now()) {
            self.invalidate(&due.tags, due.hold, &Patience::new()).await;
        }
        if !self.health.is_adopted() {
            return;
        }
        while let Some(batch) = self.outbox.take() {
            match self.send(batch.tags(), batch.hold(), DEADLINE).await {
                Ok(()) => batch.sent(),
                Err(error) => return self.health.broke(error),
            }
        }
    }
}

/// Why the namespace could not be claimed.
enum Adoption {
    Foreign(OpenError),
    Failed,
}

/// What another node's death asks of this one.
fn stand_in(responses: &Arc<Responses>, local: &Local) -> StandIn {
    let (responses, local) = (responses.clone(), local.clone());
    Arc::new(move |tags, hold| {
        let (responses, local) = (responses.clone(), local.clone());
        Box::pin(async move {
            let sent = responses.invalidate(&tags, hold, DEADLINE).await;
            local.generations.advance(&tags);
            sent?;
            local.metrics.invalidation(InvalidationSource::StandIn);
            tracing::warn!(tags = tags.len(), "stood in for a node that died with writes on their way");
            Ok(())
        })
    })
}

/// What the bus brings.
fn hooks(
    local: &Local,
    health: &Arc<Health>,
    commands: &Arc<Commands>,
    outbox: Arc<Outbox>,
    removals: Arc<AtomicU64>,
    node: u64,
) -> Hooks {
    let waking = health.clone();
    let (hearing, missing, commands) = (local.clone(), local.clone(), commands.clone());
    Hooks {
        on_message: Arc::new(move |message| match message {
            Message::Tags { origin, hold, tags } => {
                if !hold.is_zero() {
                    // Redis holds them as well, unless it fails over or evicts.
                    let now = Instant::now();
                    hearing.generations.hold(&tags, now + hold, now);
                }
                hearing.generations.advance(&tags);
                if origin != node {
                    hearing.metrics.invalidation(InvalidationSource::Node);
                }
            }
            Message::Removed { key } => {
                // Before it is removed: whoever puts one in meanwhile looks at the count first.
                removals.fetch_add(1, Ordering::SeqCst);
                hearing.memory.remove(&key);
            }
        }),
        on_gap: Arc::new(move || {
            missing.generations.advance(&[Tag::All.id()]);
            missing.metrics.invalidation(InvalidationSource::Gap);
        }),
        on_new_master: Arc::new(move || {
            // What the one before was told last this one may not have heard.
            outbox.push(&[Tag::All.id()], Duration::ZERO);
            waking.wake();
        }),
        on_change: health.clone().observer(),
        on_master_changed: Arc::new(move || commands.reconnect()),
    }
}

/// Says in the log how the store is, when that has changed for a while. What is
/// down as often as it is up is down.
struct Report {
    is_up: Option<bool>,
    looked: Instant,
    /// How long it has been down, less how long it has been up.
    down: Duration,
}

impl Report {
    fn new() -> Self {
        Self { is_up: None, looked: Instant::now(), down: Duration::ZERO }
    }

    fn look(&mut self, is_up: bool, health: &Health) {
        let passed = self.looked.elapsed();
        self.looked += passed;
        self.down =
            if is_up { self.down.saturating_sub(passed) } else { self.down + passed }.min(LASTING * 2);
        if self.is_up != Some(true) && is_up && self.down < LASTING {
            tracing::info!(namespace = health.namespace, "the store is in use");
            self.is_up = Some(true);
            *health.fault.lock() = None;
        } else if self.is_up != Some(false) && self.down >= LASTING {
            let reason = health.fault.lock().clone().unwrap_or(StoreError::Unavailable);
            tracing::warn!(%reason, "the store can't be used: reads are forwarded");
            self.is_up = Some(false);
        }
    }
}
