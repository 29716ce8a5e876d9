//! Connections that are open.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{PushInfo, PushKind, RedisResult, Value, from_redis_value};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::store::error::StoreError;
use crate::store::script::Script;

/// What is done with a message of the bus.
pub type OnMessage = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// A connection to one master that also gets the bus's messages. Once it is
/// dropped no more come.
pub struct BusConnection {
    connection: MultiplexedConnection,
    closed: watch::Receiver<bool>,
}

impl BusConnection {
    /// Runs a script. All messages that the server sent before its answer
    /// have been handed over by the time this returns. Never longer than `deadline`.
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
        let mut connection = self.connection.clone();
        match timeout(deadline, script.run_on(&mut connection, keys, arguments)).await {
            Ok(outcome) => outcome.map_err(|error| StoreError::of(&error)),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    /// Returns when the connection is known to be broken: at once where it
    /// was already.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error says that the sender is gone, and the connection with it.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

/// A channel before its connection is there.
pub(super) struct Subscription {
    channel: String,
    on_message: OnMessage,
    closed: watch::Sender<bool>,
    watched: watch::Receiver<bool>,
}

impl Subscription {
    pub(super) fn new(channel: &str, on_message: OnMessage) -> Self {
        let (closed, watched) = watch::channel(false);
        Self { channel: channel.to_owned(), on_message, closed, watched }
    }

    /// Takes what the server says unasked, in the order in which it said it.
    pub(super) fn receiver(&self) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
        let channel = self.channel.clone();
        let on_message = Arc::clone(&self.on_message);
        let closed = self.closed.clone();
        move |push| {
            match (push.kind, push.data.as_slice()) {
                (PushKind::Message, [Value::BulkString(name), Value::BulkString(message)])
                    if name == channel.as_bytes() =>
                {
                    on_message(message);
                }
                (PushKind::Disconnection, _) => {
                    closed.send_replace(true);
                }
                _ => {}
            }
            Ok(())
        }
    }

    pub(super) async fn begin(
        self,
        mut connection: MultiplexedConnection,
    ) -> Result<BusConnection, StoreError> {
        connection.subscribe(&self.channel).await.map_err(|error| StoreError::of(&error))?;
        Ok(BusConnection { connection, closed: self.watched })
    }
}

/// A connection for scripts.
#[derive(Clone)]
pub enum CommandConnection {
    /// To one server.
    Single(MultiplexedConnection),
    /// To all nodes of a Cluster; finds the node of a script by its first key.
    Cluster(ClusterConnection),
}

impl CommandConnection {
    pub(in crate::store) async fn run(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        arguments: &[&[u8]],
    ) -> RedisResult<Vec<Value>> {
        match self {
            Self::Single(connection) => script.run_on(&mut connection.clone(), keys, arguments).await,
            Self::Cluster(connection) => script.run_on(&mut connection.clone(), keys, arguments).await,
        }
    }

    /// Whether the server is a master that has its keys in memory, or all
    /// masters of a Cluster answer.
    ///
    /// # Errors
    ///
    /// Why not, within `limit`.
    pub(in crate::store) async fn check(&self, limit: Duration) -> Result<(), StoreError> {
        match timeout(limit, self.ask_for_role()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Timeout),
        }
    }

    async fn ask_for_role(&self) -> Result<(), StoreError> {
        match self {
            Self::Single(connection) => role(ask(&mut connection.clone(), "INFO").await?),
            Self::Cluster(connection) => ask(&mut connection.clone(), "PING").await.map(drop),
        }
    }
}

async fn ask(connection: &mut impl ConnectionLike, command: &str) -> Result<Value, StoreError> {
    let answer = connection.req_packed_command(&redis::cmd(command)).await;
    answer.and_then(Value::extract_error).map_err(|error| StoreError::of(&error))
}

/// What `INFO` says of a server that scripts can run on.
fn role(answer: Value) -> Result<(), StoreError> {
    let info: String = from_redis_value(answer).map_err(|_| StoreError::Broken("INFO is no text".into()))?;
    let has = |line: &str| info.lines().any(|found| found.trim_end() == line);
    match (has("role:master"), has("loading:1")) {
        (false, _) => Err(StoreError::ReadOnly),
        (true, true) => Err(StoreError::Unavailable),
        (true, false) => Ok(()),
    }
}
