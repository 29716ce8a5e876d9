//! Connections to Redis: one server, a master that sentinels name, a Cluster.

mod cluster;
mod connection;
mod dial;
mod informants;
mod sentinel;

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{ProtocolVersion, RedisResult};
use tokio::time::timeout;

use self::connection::Subscription;
pub use self::connection::{BusConnection, CommandConnection, OnMessage};
use self::dial::{Dialer, Greeting, unlimited};
use self::informants::Informants;
use super::error::StoreError;
use crate::config::{HostPort, RedisStore, Topology};

/// For a connection, TLS handshake and authentication included.
const CONNECT: Duration = Duration::from_secs(1);
/// For the connection to each node of a Cluster, so that one that hangs leaves time for the rest.
const CONNECT_NODE: Duration = Duration::from_millis(400);
/// For one command of the Cluster's connection, which also checks its nodes by
/// it. No operation has a later deadline.
const CLUSTER_ANSWER: Duration = Duration::from_secs(1);
/// How often a Cluster's connection follows a slot or tries again.
const CLUSTER_RETRIES: u32 = 2;
/// Between two tries, in milliseconds.
const CLUSTER_RETRY_WAIT: (u64, u64) = (5, 25);
/// For the check of a new connection. Requests are spared a slow server by the
/// breaker; what they wrote it has to hear all the same.
const CHECK: Duration = Duration::from_secs(1);

/// Connects to the servers of one store.
pub struct Connector {
    dialer: Arc<Dialer>,
    directory: Directory,
}

/// How masters are found.
enum Directory {
    Single(HostPort),
    Sentinel { sentinels: Informants, name: String },
    Cluster(Informants),
}

/// A server that takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Where it is.
    pub address: HostPort,
    /// A slot that it owns, in a Cluster.
    pub probe_slot: Option<u16>,
}

impl Connector {
    /// For the store that the configuration names. Connects to nothing yet.
    pub fn new(store: &RedisStore) -> Self {
        let dialer = Arc::new(Dialer::new(store));
        let informants = |greeting, addresses: &Vec<HostPort>| {
            Informants::new(Arc::clone(&dialer), greeting, addresses.clone())
        };
        let directory = match &store.url.topology {
            Topology::Single(address) => Directory::Single(address.clone()),
            Topology::Sentinel { sentinels, master } => {
                Directory::Sentinel { sentinels: informants(Greeting::None, sentinels), name: master.clone() }
            }
            Topology::Cluster(nodes) => Directory::Cluster(informants(Greeting::Full, nodes)),
        };
        Self { dialer, directory }
    }

    /// Whether the store is a Cluster: keys of one script must share a slot.
    pub fn is_cluster(&self) -> bool {
        matches!(self.directory, Directory::Cluster(_))
    }

    /// The masters that there are now; never none. Takes up to a second. That
    /// a server is named here doesn't prove that it is a master.
    ///
    /// # Errors
    ///
    /// What those that were asked said, where none of them knew.
    pub async fn masters(&self) -> Result<Vec<Master>, StoreError> {
        match &self.directory {
            Directory::Single(address) => Ok(vec![Master { address: address.clone(), probe_slot: None }]),
            Directory::Sentinel { sentinels, name } => {
                let question = sentinel::question(name);
                let address = sentinels.ask(&question, |_, answer| sentinel::read(name, answer)).await?;
                Ok(vec![Master { address, probe_slot: None }])
            }
            Directory::Cluster(nodes) => {
                let question = cluster::question();
                let masters = nodes.ask(&question, |asked, answer| cluster::read(asked, &answer)).await?;
                nodes.learn(masters.iter().map(|master| &master.address));
                Ok(masters)
            }
        }
    }

    /// A connection of its own to `master` that gets the messages of `channel`.
    ///
    /// `on_message` is called for each of them on the task that reads the
    /// connection: before the answer to whatever was sent later is seen, and
    /// possibly before this returns. It must not block.
    ///
    /// # Errors
    ///
    /// Why there is no connection or no subscription, within a second.
    pub async fn bus(
        &self,
        master: &Master,
        channel: &str,
        on_message: OnMessage,
    ) -> Result<BusConnection, StoreError> {
        let subscribing = async {
            let subscription = Subscription::new(channel, on_message);
            let config = unlimited().set_push_sender(subscription.receiver());
            let open = self.dialer.open_with(&master.address, Greeting::Full, CONNECT, config);
            subscription.begin(open.await?).await
        };
        let subscribed = timeout(CONNECT, subscribing).await.unwrap_or(Err(StoreError::Timeout));
        subscribed.map_err(|error| dial::at(&master.address, error))
    }

    /// A connection for scripts that has passed [`Connector::check`].
    ///
    /// # Errors
    ///
    /// Why there is none, within three seconds.
    pub async fn commands(&self) -> Result<CommandConnection, StoreError> {
        let masters = self.masters().await?;
        let connected = self.connect(&masters).await;
        if let (Err(_), Directory::Sentinel { sentinels, .. }) = (&connected, &self.directory) {
            // The sentinel that named this master may be cut off from the others.
            sentinels.doubt().await;
        }
        connected
    }

    async fn connect(&self, masters: &[Master]) -> Result<CommandConnection, StoreError> {
        let connection = match (&self.directory, masters.first()) {
            (Directory::Cluster(nodes), _) => {
                CommandConnection::Cluster(self.cluster(&nodes.addresses()).await?)
            }
            (_, Some(master)) => CommandConnection::Single(self.plain(master).await?),
            (_, None) => return Err(StoreError::Unavailable),
        };
        self.check(&connection, CHECK).await?;
        Ok(connection)
    }

    /// Whether `connection` is of use: it leads to a master that has its keys
    /// in memory, or in a Cluster all masters answer and find it complete.
    ///
    /// # Errors
    ///
    /// Why not, within `limit`.
    pub async fn check(&self, connection: &CommandConnection, limit: Duration) -> Result<(), StoreError> {
        let checking = async {
            match connection {
                CommandConnection::Single(connection) => connection::check_single(connection.clone()).await,
                CommandConnection::Cluster(connection) => {
                    connection::check_cluster(connection, &self.masters().await?).await
                }
            }
        };
        timeout(limit, checking).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// A connection to `master` for whatever else there is to ask.
    ///
    /// # Errors
    ///
    /// Why there is none, within a second.
    pub async fn plain(&self, master: &Master) -> Result<MultiplexedConnection, StoreError> {
        let opened = self.dialer.open(&master.address, Greeting::Full, CONNECT).await;
        opened.map_err(|error| dial::at(&master.address, error))
    }

    async fn cluster(&self, nodes: &[HostPort]) -> Result<ClusterConnection, StoreError> {
        let connecting = async {
            let infos = nodes.iter().map(|node| self.dialer.info(node, Greeting::Full));
            let infos = infos.collect::<RedisResult<Vec<_>>>()?;
            let (shortest, longest) = CLUSTER_RETRY_WAIT;
            let client = ClusterClientBuilder::new(infos)
                .use_protocol(ProtocolVersion::RESP3)
                .tcp_settings(dial::tcp_settings())
                .connection_timeout(CONNECT_NODE)
                .response_timeout(CLUSTER_ANSWER)
                .overall_response_timeout(None)
                .retries(CLUSTER_RETRIES)
                .min_retry_wait(shortest)
                .max_retry_wait(longest)
                .build()?;
            client.get_async_connection().await
        };
        match timeout(CONNECT, connecting).await {
            Ok(outcome) => outcome.map_err(|error| StoreError::of(&error)),
            Err(_) => Err(StoreError::Timeout),
        }
    }
}
