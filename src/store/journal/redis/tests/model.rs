//! Two nodes against the model of all journals.

use std::sync::atomic::{AtomicU32, Ordering};

use std::time::SystemTime;

use async_trait::async_trait;

use super::super::InRedis;
use super::server::{RedisServer, catches_up, takes_over};
use crate::postgrest::timestamp::Micros;
use crate::store::journal::model::{self, Bench};
use crate::store::journal::{Journal, redis::scripts};

/// Moves the clock's high-water mark, as another server's clock would have.
const TURN_CLOCK: &str = r"
local packed = redis.call('GET', KEYS[1])
if packed then
  local seq, event, claim, clock, change = struct.unpack('>I8I8I8I8I8', packed)
  redis.call('SET', KEYS[1], struct.pack('>I8I8I8I8I8', seq, event, claim, clock + ARGV[1], change))
end";

pub fn turn_clock(server: &RedisServer, namespace: &str, by: i64) {
    let marks = &scripts::keys(namespace)[0];
    redis::cmd("EVAL").arg(TURN_CLOCK).arg(1).arg(marks).arg(by).exec(&mut server.client()).unwrap();
}

struct Pair<'a> {
    server: &'a RedisServer,
    namespace: String,
    nodes: Vec<InRedis>,
}

impl<'a> Pair<'a> {
    async fn new(server: &'a RedisServer) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("model:{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let nodes =
            vec![server.node(&namespace, model::LIMITS).await, server.node(&namespace, model::LIMITS).await];
        Self { server, namespace, nodes }
    }

    async fn open(&mut self, node: usize) {
        self.nodes[node] = self.server.node(&self.namespace, model::LIMITS).await;
    }
}

#[async_trait]
impl Bench for Pair<'_> {
    fn nodes(&self) -> Vec<&dyn Journal> {
        self.nodes.iter().map(|node| node as &dyn Journal).collect()
    }

    async fn agree(&self) {
        for node in &self.nodes {
            catches_up(node).await;
        }
    }

    async fn restart(&mut self, node: usize) {
        self.nodes[node].close().await;
        self.open(node).await;
    }

    async fn crash(&mut self, node: usize) {
        let dead = self.nodes[node].node;
        self.open(node).await;
        let mut client = self.server.client();
        takes_over(&self.nodes[1 - node], dead, &self.namespace, &mut client).await;
    }

    fn now(&self) -> i64 {
        Micros::of(SystemTime::now()).0
    }

    fn turn_clock(&mut self, by: i64) {
        // What was given can't be taken back.
        turn_clock(self.server, &self.namespace, by.max(0));
    }
}

#[test]
fn the_journal_does_what_the_model_does() {
    let server = RedisServer::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(model::cases());
    let tried = runner.run(&model::steps(), |steps| {
        runtime.block_on(async { model::run(Pair::new(&server).await, steps).await });
        Ok(())
    });
    tried.unwrap();
}
