//! Connections that are open.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr};
use redis::{Pipeline, PushInfo, PushKind, RedisResult, Value, from_redis_value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Master;
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

    /// Sends `questions` at once. Their answers in order, an error where one of them is one.
    pub(in crate::store) async fn ask(&self, questions: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = questions.len();
        let answers = match self {
            Self::Single(connection) => connection.clone().req_packed_commands(questions, 0, count).await,
            Self::Cluster(connection) => connection.clone().req_packed_commands(questions, 0, count).await,
        };
        answers?.into_iter().map(Value::extract_error).collect()
    }
}

/// Whether the server is a master that has its keys in memory.
pub(super) async fn check_single(mut connection: MultiplexedConnection) -> Result<(), StoreError> {
    let answer = connection.req_packed_command(&redis::cmd("INFO")).await;
    role(answer.and_then(Value::extract_error).map_err(|error| StoreError::of(&error))?)
}

/// Whether each of these masters answers, and finds the Cluster complete. A
/// question for a node without a connection is put to any other, so each has
/// to answer with a name of its own.
pub(super) async fn check_cluster(
    connection: &ClusterConnection,
    masters: &[Master],
) -> Result<(), StoreError> {
    let mut questions = JoinSet::new();
    for slot in masters.iter().filter_map(|master| master.probe_slot) {
        questions.spawn(name_in_cluster(connection.clone(), slot));
    }
    let mut names = HashSet::new();
    while let Some(answer) = questions.join_next().await {
        names.insert(answer.map_err(|error| StoreError::Broken(error.to_string()))??);
    }
    if names.len() == masters.len() { Ok(()) } else { Err(StoreError::Unavailable) }
}

/// What the master of `slot` is called, where it finds the Cluster complete.
async fn name_in_cluster(mut connection: ClusterConnection, slot: u16) -> Result<String, StoreError> {
    let mut questions = redis::pipe();
    questions.cmd("CLUSTER").arg("MYID").cmd("CLUSTER").arg("INFO");
    let master = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
    let answers = connection.route_pipeline(questions, 0, 2, master).await;
    let answers = answers.and_then(|answers| Value::Array(answers).extract_error());
    let answers = answers.map_err(|error| StoreError::of(&error))?;
    let (name, info): (String, String) =
        from_redis_value(answers).map_err(|_| StoreError::Broken("CLUSTER INFO is no text".into()))?;
    if has_line(&info, "cluster_state:ok") { Ok(name) } else { Err(StoreError::Unavailable) }
}

/// What `INFO` says of a server that scripts can run on.
fn role(answer: Value) -> Result<(), StoreError> {
    let info: String = from_redis_value(answer).map_err(|_| StoreError::Broken("INFO is no text".into()))?;
    match (has_line(&info, "role:master"), has_line(&info, "loading:1")) {
        (false, _) => Err(StoreError::ReadOnly),
        (true, true) => Err(StoreError::Unavailable),
        (true, false) => Ok(()),
    }
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|found| found.trim_end() == line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loaded_master_is_of_use() {
        let cases = [
            ("# Replication\r\nrole:master\r\nloading:0\r\n", Ok(())),
            ("role:slave\r\nloading:0\r\n", Err(StoreError::ReadOnly)),
            ("role:master\r\nloading:1\r\n", Err(StoreError::Unavailable)),
            ("async_loading:1\r\nrole:master\r\n", Ok(())),
            ("", Err(StoreError::ReadOnly)),
        ];
        for (info, outcome) in cases {
            assert_eq!(role(Value::BulkString(info.into())), outcome, "{info:?}");
        }
        assert!(matches!(role(Value::Array(vec![])), Err(StoreError::Broken(_))));
    }

    #[test]
    fn only_messages_of_the_channel_are_handed_over_and_the_end_is_noticed() {
        let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let subscription =
            Subscription::new("bus", Arc::new(move |message: &[u8]| sink.lock().push(message.to_vec())));
        let receive = subscription.receiver();
        let bulk = |text: &str| Value::BulkString(text.into());
        let pushes = [
            (PushKind::Subscribe, vec![bulk("bus"), Value::Int(1)]),
            (PushKind::Message, vec![bulk("bus"), bulk("one")]),
            (PushKind::Message, vec![bulk("other"), bulk("two")]),
            (PushKind::Message, vec![bulk("bus")]),
            (PushKind::Message, vec![bulk("bus"), bulk("three")]),
        ];
        for (kind, data) in pushes {
            assert_eq!(receive(PushInfo { kind, data }), Ok(()));
        }
        assert_eq!(*seen.lock(), [b"one".to_vec(), b"three".to_vec()]);
        assert!(!*subscription.watched.borrow());
        assert_eq!(receive(PushInfo { kind: PushKind::Disconnection, data: vec![] }), Ok(()));
        assert!(*subscription.watched.borrow());
    }
}
