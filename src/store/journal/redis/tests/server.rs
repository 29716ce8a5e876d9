//! A server of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::Connection;
use tempfile::TempDir;

use super::super::link::SILENCE;
use super::super::scripts::{self, BEAT};
use super::super::{InRedis, Server};
use crate::config::{Ack, HostPort, RedisStore, StoreUrl, Topology};
use crate::store::journal::{Journal, Limits};

pub const LIMITS: Limits = Limits { max_writes: 10_000, max_writes_per_caller: 10_000, concurrency: 16 };
pub const UPSTREAM: &str = "https://abc.supabase.co";

/// A `redis-server` with an append-only file, killed when dropped.
pub struct RedisServer {
    process: Child,
    pub port: u16,
    arguments: Vec<String>,
    _folder: TempDir,
}

fn spawn(arguments: &[String]) -> Child {
    let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).spawn().expect("redis-server is installed")
}

impl RedisServer {
    pub fn start(extra: &[&str]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let (at, place) = (port.to_string(), folder.path().to_string_lossy().into_owned());
        let own = ["--port", &at, "--bind", "127.0.0.1", "--dir", &place, "--save", ""];
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let arguments: Vec<_> =
            own.iter().chain(&durable).chain(extra).map(|&text| text.to_owned()).collect();
        let server = Self { process: spawn(&arguments), port, arguments, _folder: folder };
        server.wait();
        server
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, with what it has on its disk.
    pub fn restart(&mut self) {
        self.process = spawn(&self.arguments);
        self.wait();
    }

    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.try_client().is_none() {
            assert!(Instant::now() < until, "redis-server doesn't start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn try_client(&self) -> Option<Connection> {
        let mut client = redis::Client::open(("127.0.0.1", self.port)).ok()?.get_connection().ok()?;
        redis::cmd("PING").exec(&mut client).ok()?;
        Some(client)
    }

    pub fn client(&self) -> Connection {
        self.try_client().expect("redis-server answers")
    }

    pub fn store(&self, namespace: &str) -> RedisStore {
        let url = StoreUrl {
            topology: Topology::Single(HostPort { host: "127.0.0.1".into(), port: self.port }),
            tls: false,
            username: None,
            password: None,
            database: 0,
        };
        RedisStore { url, password: None, namespace: namespace.to_owned(), ack: Ack::Fsync }
    }

    pub async fn node(&self, namespace: &str, limits: Limits) -> InRedis {
        let node = InRedis::open(&self.store(namespace), UPSTREAM, limits).await.unwrap();
        follows(&node).await;
        node
    }
}

/// A port that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A Cluster of three masters that share the slots.
pub fn cluster() -> Vec<RedisServer> {
    let masters = [(0, 5460), (5461, 10_922), (10_923, 16_383)].map(|(first, last)| {
        let server = cluster_node();
        redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last).exec(&mut server.client()).unwrap();
        server
    });
    for (epoch, master) in masters.iter().enumerate() {
        redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(epoch + 1).exec(&mut master.client()).unwrap();
    }
    for other in &masters[1..] {
        meet(&masters[0], other);
    }
    masters.iter().for_each(|master| cluster_is_well(master, 3));
    masters.into()
}

/// A Cluster of one master and its replica.
pub fn replicated_cluster() -> Vec<RedisServer> {
    let (master, replica) = (cluster_node(), cluster_node());
    redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16_383).exec(&mut master.client()).unwrap();
    meet(&master, &replica);
    cluster_is_well(&replica, 2);
    let id: String = redis::cmd("CLUSTER").arg("MYID").query(&mut master.client()).unwrap();
    redis::cmd("CLUSTER").arg("REPLICATE").arg(id).exec(&mut replica.client()).unwrap();
    redis::cmd("CONFIG").arg("SET").arg("min-replicas-to-write").arg(1).exec(&mut master.client()).unwrap();
    until("the replica follows", || info(&master, "replication").contains("min_slaves_good_slaves:1"));
    until("the replica is known", || {
        let nodes: String = redis::cmd("CLUSTER").arg("NODES").query(&mut master.client()).unwrap();
        nodes.contains("slave")
    });
    vec![master, replica]
}

fn cluster_node() -> RedisServer {
    let bus = free_port().to_string();
    let own = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--cluster-port", &bus];
    RedisServer::start(&own)
}

fn meet(one: &RedisServer, other: &RedisServer) {
    let bus: (String, u16) =
        redis::cmd("CONFIG").arg("GET").arg("cluster-port").query(&mut other.client()).unwrap();
    let mut meet = redis::cmd("CLUSTER");
    meet.arg("MEET").arg("127.0.0.1").arg(other.port).arg(bus.1).exec(&mut one.client()).unwrap();
}

fn cluster_is_well(node: &RedisServer, size: usize) {
    let size = format!("cluster_known_nodes:{size}");
    until("the cluster is well", || {
        let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut node.client()).unwrap();
        info.contains("cluster_state:ok") && info.contains(&size)
    });
}

pub fn info(server: &RedisServer, section: &str) -> String {
    redis::cmd("INFO").arg(section).query(&mut server.client()).unwrap()
}

/// Waits until it is so.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: still not so");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns when the node knows what is queued.
pub async fn follows(node: &InRedis) {
    let until = Instant::now() + Duration::from_secs(10);
    while !node.is_current() {
        assert!(Instant::now() < until, "the node doesn't follow: {:?}", node.failure());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Returns when the node knows what has changed so far.
pub async fn catches_up(node: &InRedis) {
    let change = beat(&node.server, &node.node, b"").await;
    node.mirror.reached(change, Duration::from_secs(5)).await;
}

async fn beat(server: &Server, node: &[u8], silence: &[u8]) -> u64 {
    server.run(&BEAT, &[node, silence]).await.unwrap().number().unwrap()
}

/// As if `dead` had been silent for long, and `node` had found out.
pub async fn takes_over(node: &InRedis, dead: [u8; 8], namespace: &str, client: &mut Connection) {
    redis::cmd("ZADD").arg(nodes_key(namespace)).arg(0).arg(dead.as_slice()).exec(client).unwrap();
    let silence = SILENCE.as_millis().to_string();
    beat(&node.server, &node.node, silence.as_bytes()).await;
}

fn nodes_key(namespace: &str) -> Vec<u8> {
    scripts::keys(namespace).into_iter().find(|key| key.ends_with(b":nodes")).unwrap()
}
