use std::sync::mpsc;

use super::*;
use crate::config::{Ack, HostPort, RedisStore, StoreUrl, Topology};

/// A port that was free a moment ago, and nobody listens on.
fn nowhere() -> HostPort {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    HostPort { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() }
}

fn store(address: HostPort) -> RedisStore {
    let topology = Topology::Single(address);
    let url = StoreUrl { topology, tls: false, username: None, password: None, database: 0 };
    RedisStore { url, password: None, namespace: "test".into(), ack: Ack::Fsync }
}

#[tokio::test]
async fn without_a_server_scripts_fail_at_once_and_the_change_is_told_once() {
    let (told, changes) = mpsc::channel();
    let connector = Arc::new(Connector::new(&store(nowhere())));
    let observer: Observer = Arc::new(move |change| {
        let _ = told.send(change);
    });
    let commands = Commands::start(connector, observer);
    let script = Script::new("one", "return {1}");
    sleep(Duration::from_millis(400)).await;
    let began = Instant::now();
    let outcome = commands.run(&script, &[], &[], Duration::from_secs(10)).await;
    assert_eq!(outcome, Err(StoreError::Unavailable));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(!commands.is_available());
    let changes: Vec<_> = changes.try_iter().collect();
    assert!(matches!(changes.as_slice(), [Change::Down(StoreError::Broken(_))]), "{changes:?}");
}
