//! The connection that requests share: kept, made anew, and left alone while
//! Redis doesn't answer.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{RedisError, RedisResult, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until, timeout};

use super::backoff::{Backoff, chance, spread};
use super::breaker::{Breaker, Probed};
use super::connect::{CommandConnection, Connector};
use super::error::{StoreError, code_of};
use super::script::Script;

/// The wait before the second try to connect, and the longest there is.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A connection that lasted this long is made anew without a wait.
const STEADY: Duration = Duration::from_secs(2);
/// Who waits this long anyway is let through while requests are spared: a
/// Redis that is slow has to hear of writes all the same.
const PATIENT: Duration = Duration::from_millis(500);
/// For a probe, as for a request.
const PROBE: Duration = super::BUDGET;
/// What chance adds to the time between two probes, at most.
const PROBE_JITTER: Duration = Duration::from_millis(50);
/// An operation that had less time than this and was not answered says
/// nothing of the server.
const LEAST_DEADLINE: Duration = Duration::from_millis(40);

/// What became of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Scripts run.
    Up,
    /// They don't, for this reason, or now for this other reason.
    Down(StoreError),
}

impl Change {
    /// Whether it says what `before` did not: a reason of the same kind as before is no news.
    pub(super) fn is_news(&self, before: Option<&Change>) -> bool {
        match (before, self) {
            (Some(Change::Up), Change::Up) => false,
            (Some(Change::Down(before)), Change::Down(now)) => before.kind() != now.kind(),
            _ => true,
        }
    }
}

/// Who is told of changes, one after the other.
pub type Observer = Arc<dyn Fn(Change) + Send + Sync>;

/// Leave to carry out one operation.
pub(super) struct Admission {
    /// What it is to be sent over.
    pub(super) connection: Arc<CommandConnection>,
    /// Which one that is, counted from the first.
    number: u64,
    deadline: Duration,
}

/// Runs scripts for requests.
pub struct Commands {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Commands {
    /// Connects behind the caller's back and stays connected until it is
    /// dropped. Must be called on a runtime.
    pub fn start(connector: Arc<Connector>, observer: Observer) -> Arc<Self> {
        let link = Mutex::new(Link { connection: None, number: 0, breaker: Breaker::default(), fault: None });
        let shared = Arc::new(Shared { connector, link, changed: Notify::new() });
        let supervisor = Supervisor {
            shared: Arc::clone(&shared),
            backoff: Backoff::new(RETRY.0, RETRY.1),
            announced: None,
            observer,
        };
        let supervisor = tokio::spawn(supervisor.run()).abort_handle();
        Arc::new(Self { shared, supervisor })
    }

    /// Whether the store is a Cluster: keys of one script must share a slot.
    pub fn is_cluster(&self) -> bool {
        self.shared.connector.is_cluster()
    }

    /// Whether there is a connection, and it is believed to be answered.
    pub fn is_available(&self) -> bool {
        self.shared.link.lock().usable(Duration::ZERO).is_some()
    }

    /// Runs a script. Never longer than `deadline`; where that is short, fails
    /// at once while Redis is known not to answer in time. It may have run even where it failed.
    ///
    /// # Errors
    ///
    /// Why there is no answer, or what the script failed with.
    pub async fn run(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        arguments: &[&[u8]],
        deadline: Duration,
    ) -> Result<Vec<Value>, StoreError> {
        let admission = self.admit(deadline)?;
        let answer = admission.connection.run(script, keys, arguments);
        self.within(&admission, script.name(), answer).await
    }

    /// The connection, for one operation that takes no longer than `deadline`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] where there is none, or where `deadline` is
    /// short and Redis is known not to answer in time.
    pub(super) fn admit(&self, deadline: Duration) -> Result<Admission, StoreError> {
        let (connection, number) = self.shared.link.lock().usable(deadline).ok_or(StoreError::Unavailable)?;
        Ok(Admission { connection, number, deadline })
    }

    /// Awaits the answer to the operation that was admitted, for its deadline
    /// at most, and notes what it says of the connection.
    ///
    /// # Errors
    ///
    /// Why there is no answer, or what `operation` failed with.
    pub(super) async fn within<T>(
        &self,
        admission: &Admission,
        operation: &'static str,
        answer: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        let Admission { connection, number, deadline } = admission;
        match timeout(*deadline, answer).await {
            Ok(Ok(values)) => {
                self.shared.noted(*number, Sign::answered(connection), None);
                Ok(values)
            }
            Ok(Err(error)) => {
                let reason = StoreError::of(&error);
                tracing::debug!(operation, %reason, "redis answered with an error");
                self.shared.noted(*number, Sign::of(connection, &error), Some(&reason));
                Err(reason)
            }
            Err(_) => {
                let sign = if *deadline < LEAST_DEADLINE { Sign::None } else { Sign::Unanswered };
                self.shared.noted(*number, sign, Some(&StoreError::Timeout));
                Err(StoreError::Timeout)
            }
        }
    }

    /// The connection is to be made anew: it leads to another server than the
    /// bus does, or sentinels name another master.
    pub fn reconnect(&self) {
        let mut link = self.shared.link.lock();
        let number = link.number;
        link.lose(number, &StoreError::Unavailable);
        self.shared.changed.notify_one();
    }
}

/// What an operation's end says of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It works, if only to answer with an error.
    Answered,
    /// There was no answer.
    Unanswered,
    /// It is of no more use.
    Lost,
    /// Nothing.
    None,
}

impl Sign {
    fn of(connection: &CommandConnection, error: &RedisError) -> Self {
        let is_broken = error.is_io_error() || error.is_unrecoverable_error();
        match connection {
            // A master that became a replica. Its successor has to be looked up.
            CommandConnection::Single(_) if code_of(error) == Some("READONLY") => Self::Lost,
            CommandConnection::Single(_) if is_broken => Self::Lost,
            // It mends itself, node by node.
            CommandConnection::Cluster(_) if is_broken => Self::Unanswered,
            // A node is gone, and no other has its slots yet.
            CommandConnection::Cluster(_) if matches!(code_of(error), Some("MOVED" | "CLUSTERDOWN")) => {
                Self::Unanswered
            }
            _ => Self::answered(connection),
        }
    }

    /// Where one node of a Cluster answers, another may still be what requests wait for.
    fn answered(connection: &CommandConnection) -> Self {
        match connection {
            CommandConnection::Single(_) => Self::Answered,
            CommandConnection::Cluster(_) => Self::None,
        }
    }
}

struct Shared {
    connector: Arc<Connector>,
    link: Mutex<Link>,
    /// The connection is lost, or the breaker opened.
    changed: Notify,
}

struct Link {
    connection: Option<Arc<CommandConnection>>,
    /// How many connections there have been, this one included.
    number: u64,
    breaker: Breaker,
    /// Why there is no connection.
    fault: Option<StoreError>,
}

impl Link {
    /// The connection, for who waits up to `deadline` for an answer.
    fn usable(&self, deadline: Duration) -> Option<(Arc<CommandConnection>, u64)> {
        let is_let = |_: &&Arc<CommandConnection>| deadline >= PATIENT || !self.breaker.is_open();
        let connection = self.connection.as_ref().filter(is_let)?;
        Some((connection.clone(), self.number))
    }

    /// Does nothing where connection `number` has been replaced or lost already.
    fn lose(&mut self, number: u64, reason: &StoreError) {
        if self.number == number && self.connection.take().is_some() {
            self.fault = Some(reason.clone());
        }
    }
}

impl Shared {
    fn noted(&self, number: u64, sign: Sign, reason: Option<&StoreError>) {
        let mut link = self.link.lock();
        if link.number != number {
            return;
        }
        match sign {
            Sign::Answered => link.breaker.answered(),
            Sign::Unanswered => {
                if link.breaker.failed(Instant::now(), jitter()) {
                    self.changed.notify_one();
                }
            }
            Sign::Lost => {
                link.lose(number, reason.unwrap_or(&StoreError::Unavailable));
                self.changed.notify_one();
            }
            Sign::None => {}
        }
    }

    fn install(&self, connection: CommandConnection) {
        let mut link = self.link.lock();
        link.connection = Some(Arc::new(connection));
        link.number += 1;
        link.breaker = Breaker::default();
        link.fault = None;
    }
}

fn jitter() -> Duration {
    spread(PROBE_JITTER, chance())
}

/// What the supervisor does next.
enum Next {
    /// Make a new connection; there is none, for this reason.
    Connect(StoreError),
    /// Probe at this time.
    Probe(Arc<CommandConnection>, Instant),
    /// Wait until something changes.
    Wait,
}

/// Keeps the connection; the only one who tells of changes.
struct Supervisor {
    shared: Arc<Shared>,
    backoff: Backoff,
    announced: Option<Change>,
    observer: Observer,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            self.connect().await;
            let since = Instant::now();
            let reason = self.keep().await;
            self.announce(Change::Down(reason));
            if since.elapsed() < STEADY {
                sleep(self.backoff.wait(chance())).await;
            } else {
                self.backoff.reset();
            }
        }
    }

    /// Tries until there is a connection.
    async fn connect(&mut self) {
        loop {
            match self.shared.connector.commands().await {
                Ok(connection) => {
                    self.shared.install(connection);
                    return self.announce(Change::Up);
                }
                Err(reason) => {
                    if matches!(reason, StoreError::Refused(_)) {
                        self.backoff.slow_down();
                    }
                    self.announce(Change::Down(reason));
                }
            }
            sleep(self.backoff.wait(chance())).await;
        }
    }

    /// Returns when the connection is lost, and why.
    async fn keep(&mut self) -> StoreError {
        loop {
            match self.next() {
                Next::Connect(reason) => return reason,
                Next::Wait => self.shared.changed.notified().await,
                Next::Probe(connection, due) => {
                    self.announce(Change::Down(StoreError::Timeout));
                    self.probe(&connection, due).await;
                }
            }
        }
    }

    fn next(&self) -> Next {
        let link = self.shared.link.lock();
        match (&link.connection, link.breaker.next_probe()) {
            (None, _) => Next::Connect(link.fault.clone().unwrap_or(StoreError::Unavailable)),
            (Some(connection), Some(due)) => Next::Probe(connection.clone(), due),
            (Some(_), None) => Next::Wait,
        }
    }

    /// Probes when it is due, unless the connection is lost before.
    async fn probe(&mut self, connection: &CommandConnection, due: Instant) {
        tokio::select! {
            () = sleep_until(due.into()) => {}
            () = self.shared.changed.notified() => return,
        }
        let outcome = self.shared.connector.check(connection, PROBE).await;
        let probed = {
            let mut link = self.shared.link.lock();
            let probed = link.breaker.probed(outcome.is_ok(), Instant::now(), jitter());
            let is_lost = match &outcome {
                Err(StoreError::Broken(_) | StoreError::ReadOnly) => !self.shared.connector.is_cluster(),
                _ => probed == Probed::GivenUp,
            };
            if let (true, Err(reason)) = (is_lost, &outcome) {
                let number = link.number;
                link.lose(number, reason);
            }
            probed
        };
        if probed == Probed::Closed {
            self.announce(Change::Up);
        }
    }

    /// Says what has changed, if anything has.
    fn announce(&mut self, change: Change) {
        if change.is_news(self.announced.as_ref()) {
            (self.observer)(change.clone());
            self.announced = Some(change);
        }
    }
}

#[cfg(test)]
mod tests;
