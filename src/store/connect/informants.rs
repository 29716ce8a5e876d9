//! Servers that are asked where others are: sentinels, nodes of a Cluster.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

use super::dial::{Dialer, Greeting, at};
use crate::config::HostPort;
use crate::store::error::{StoreError, code_of};

/// For each of them, the connection and the answer.
const EACH: Duration = Duration::from_millis(300);
/// For all of them in one round.
const ROUND: Duration = Duration::from_secs(1);
/// More of them are not remembered.
const MAX: usize = 128;

/// Servers that are asked in turn; those that failed come last the next time.
pub(super) struct Informants {
    dialer: Arc<Dialer>,
    greeting: Greeting,
    addresses: Mutex<Vec<HostPort>>,
    /// The connection to the one that answered last.
    kept: AsyncMutex<Option<(HostPort, MultiplexedConnection)>>,
}

impl Informants {
    pub(super) fn new(dialer: Arc<Dialer>, greeting: Greeting, addresses: Vec<HostPort>) -> Self {
        Self { dialer, greeting, addresses: Mutex::new(addresses), kept: AsyncMutex::new(None) }
    }

    /// All that are known.
    pub(super) fn addresses(&self) -> Vec<HostPort> {
        self.addresses.lock().clone()
    }

    /// Remembers more of them, as the last to be asked.
    pub(super) fn learn<'a>(&self, found: impl Iterator<Item = &'a HostPort>) {
        let mut addresses = self.addresses.lock();
        for address in found {
            if addresses.len() < MAX && !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
    }

    /// Whoever answered last was wrong: the others are asked first.
    pub(super) async fn doubt(&self) {
        if let Some((address, _)) = self.kept.lock().await.take() {
            self.put_last(&address);
        }
    }

    /// The first answer that `read` makes something of.
    ///
    /// # Errors
    ///
    /// A refusal if one of them refused, else what the last one said.
    pub(super) async fn ask<T>(
        &self,
        question: &Cmd,
        read: impl Fn(&HostPort, Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        timeout(ROUND, self.ask_in_turn(question, read)).await.unwrap_or(Err(StoreError::Timeout))
    }

    async fn ask_in_turn<T>(
        &self,
        question: &Cmd,
        read: impl Fn(&HostPort, Value) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut kept = self.kept.lock().await;
        if let Some((address, mut connection)) = kept.take() {
            let answer = within(send(&mut connection, question)).await;
            if let Ok(found) = answer.and_then(|value| read(&address, value)) {
                *kept = Some((address, connection));
                return Ok(found);
            }
            self.put_last(&address);
        }
        let mut failure = StoreError::Unavailable;
        for address in self.addresses() {
            let mut reached = None;
            let answer = within(self.ask_one(&address, question, &mut reached)).await;
            match answer.and_then(|value| read(&address, value)) {
                Ok(found) => {
                    *kept = reached.map(|connection| (address, connection));
                    return Ok(found);
                }
                Err(error) => {
                    self.put_last(&address);
                    if !matches!(failure, StoreError::Refused(_)) {
                        failure = at(&address, error);
                    }
                }
            }
        }
        Err(failure)
    }

    /// Leaves the connection in `reached`.
    async fn ask_one(
        &self,
        address: &HostPort,
        question: &Cmd,
        reached: &mut Option<MultiplexedConnection>,
    ) -> Result<Value, Failure> {
        let connection = reached.insert(self.dialer.open(address, self.greeting, EACH).await?);
        match send(connection, question).await {
            Err(Failure::Redis(error)) if self.wants_credentials(&error) => {
                let connection =
                    reached.insert(self.dialer.open(address, Greeting::Credentials, EACH).await?);
                send(connection, question).await
            }
            outcome => outcome,
        }
    }

    fn wants_credentials(&self, error: &RedisError) -> bool {
        let unsaid = self.greeting == Greeting::None && self.dialer.has_credentials();
        unsaid && code_of(error) == Some("NOAUTH")
    }

    fn put_last(&self, address: &HostPort) {
        let mut addresses = self.addresses.lock();
        if let Some(at) = addresses.iter().position(|known| known == address) {
            let address = addresses.remove(at);
            addresses.push(address);
        }
    }
}

enum Failure {
    Store(StoreError),
    Redis(RedisError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn send(connection: &mut MultiplexedConnection, question: &Cmd) -> Result<Value, Failure> {
    let answer = connection.send_packed_command(question).await;
    answer.and_then(Value::extract_error).map_err(Failure::Redis)
}

async fn within(answer: impl Future<Output = Result<Value, Failure>>) -> Result<Value, StoreError> {
    match timeout(EACH, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Failure::Store(error))) => Err(error),
        Ok(Err(Failure::Redis(error))) => Err(StoreError::of(&error)),
        Err(_) => Err(StoreError::Timeout),
    }
}
