//! A Redis that hangs, is gone, slow, full, read-only or forgetful: it costs
//! some milliseconds, and no answer is wrong, then or afterwards.

mod scene;

use std::time::Duration;

use self::scene::{Fault, MOST_LINES, Scene, Use, ask, endure, lines_about_the_store, start_node, warm};
use crate::support::redis::RedisServer;
use crate::support::relay::Relay;
use crate::support::{backend, eventually, unique};

#[test]
fn hung() {
    endure(&Fault::of("hung", |scene| scene.redis.freeze(), |scene| scene.redis.thaw()));
}

#[test]
fn gone() {
    endure(&Fault::of("gone", |scene| scene.redis.kill(), |scene| scene.redis.restart()));
}

#[test]
fn the_network_swallows_everything() {
    let strike = |scene: &Scene| scene.relays.iter().for_each(Relay::hang);
    let heal = |scene: &Scene| scene.relays.iter().for_each(Relay::resume);
    endure(&Fault::of("a hung network", strike, heal));
}

#[test]
fn the_writers_node_is_cut_off() {
    let fault =
        Fault::of("the writer cut off", |scene| scene.relays[0].cut(), |scene| scene.relays[0].resume());
    endure(&Fault { store: [Use::Lost, Use::Kept], silent: true, ..fault });
}

#[test]
fn the_other_node_is_cut_off() {
    let fault =
        Fault::of("the reader cut off", |scene| scene.relays[1].cut(), |scene| scene.relays[1].resume());
    // The node that is cut off doesn't write, and asks for nothing where nobody is.
    endure(&Fault { store: [Use::Kept, Use::Lost], fails: false, ..fault });
}

#[test]
fn the_other_node_hears_nothing() {
    let fault =
        Fault::of("the reader hung", |scene| scene.relays[1].hang(), |scene| scene.relays[1].resume());
    endure(&Fault { store: [Use::Kept, Use::Lost], ..fault });
}

#[test]
fn far_away() {
    let strike =
        |scene: &Scene| scene.relays.iter().for_each(|relay| relay.delay(Duration::from_millis(200)));
    let heal = |scene: &Scene| scene.relays.iter().for_each(Relay::resume);
    endure(&Fault { store: [Use::Either; 2], ..Fault::of("200 ms away", strike, heal) });
}

#[test]
fn paused() {
    endure(&Fault::of("paused", |scene| scene.command(&["CLIENT", "PAUSE", "4000", "ALL"]), |_| {}));
}

#[test]
fn asleep() {
    let strike = |scene: &Scene| {
        let mut redis = scene.redis.client();
        std::thread::spawn(move || redis.command(&["DEBUG", "SLEEP", "4"]));
    };
    let server = &["--enable-debug-command", "yes"];
    endure(&Fault { server, ..Fault::of("asleep", strike, |_| {}) });
}

#[test]
fn full() {
    let strike = |scene: &Scene| {
        scene.command(&["SET", "filling", &"x".repeat(4 << 20)]);
        scene.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    };
    let heal = |scene: &Scene| {
        scene.command(&["DEL", "filling"]);
        scene.command(&["CONFIG", "SET", "maxmemory", "0"]);
    };
    let fault = Fault::of("full", strike, heal);
    endure(&Fault { server: &["--maxmemory-policy", "noeviction"], store: [Use::Either; 2], ..fault });
}

#[test]
fn evicting_what_is_needed() {
    let strike = |scene: &Scene| scene.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let heal = |scene: &Scene| scene.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let fault = Fault::of("evicting", strike, heal);
    let server = &["--maxmemory-policy", "allkeys-random"];
    endure(&Fault { server, store: [Use::Either; 2], fails: false, ..fault });
}

#[test]
fn a_replica_of_nobody() {
    let strike = |scene: &Scene| scene.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let fault = Fault::of("a replica", strike, |scene| scene.command(&["REPLICAOF", "NO", "ONE"]));
    endure(&Fault { says: "takes no writes", ..fault });
}

#[test]
fn lacking_replicas() {
    let strike = |scene: &Scene| scene.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let heal = |scene: &Scene| scene.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    endure(&Fault { says: "takes no writes", ..Fault::of("lacking replicas", strike, heal) });
}

#[test]
fn another_password() {
    let strike = |scene: &Scene| {
        let mut redis = scene.redis.client();
        redis.command(&["CONFIG", "SET", "requirepass", "another"]);
        for kind in ["normal", "pubsub"] {
            redis.command(&["CLIENT", "KILL", "TYPE", kind]);
        }
    };
    let heal = |scene: &Scene| {
        let mut redis = scene.redis.client();
        redis.command(&["AUTH", "another"]);
        redis.command(&["CONFIG", "SET", "requirepass", ""]);
    };
    endure(&Fault { says: "refused", ..Fault::of("another password", strike, heal) });
}

#[test]
fn forgetting_everything() {
    endure(&Fault::passing("flushed", |scene| scene.command(&["FLUSHALL"])));
}

#[test]
fn forgetting_the_scripts() {
    endure(&Fault::passing("scripts flushed", |scene| scene.command(&["SCRIPT", "FLUSH"])));
}

#[test]
fn restarted_without_a_memory() {
    endure(&Fault {
        lasts: Duration::from_millis(1500),
        store: [Use::Either; 2],
        ..restarting("restarted empty")
    });
}

/// What it remembers is from before the writes, generations and all.
#[test]
fn restarted_with_an_old_memory() {
    let scene = Scene::start(&[]);
    scene.command(&["SAVE"]);
    for row in &scene.rows {
        scene.write(0, *row, "during").expect(204);
    }
    scene.redis.kill();
    scene.redis.restart();
    let remembered = scene.redis.client().keys("faults:e:*");
    assert!(!remembered.is_empty(), "it has forgotten everything");
    scene.recover();
    scene.all_is_true("restarted with what was before the writes");
    let fresh = start_node(&scene.redis.address());
    fresh.wait_for_store();
    for row in &scene.rows {
        assert!(ask(&fresh, &warm(*row)).expect(200).text().contains("during"), "a node that never knew");
    }
}

/// Nobody is left who could say so: the answers themselves tell that they are
/// from before.
#[test]
fn restarted_with_an_old_memory_and_new_nodes() {
    let scene = Scene::start(&[]);
    scene.command(&["SAVE"]);
    for row in &scene.rows {
        scene.write(0, *row, "during").expect(204);
    }
    scene.nodes.iter().for_each(|node| node.process().signal("KILL"));
    scene.redis.kill();
    scene.redis.restart();
    assert!(!scene.redis.client().keys("faults:e:*").is_empty(), "it has forgotten everything");
    let fresh = start_node(&scene.redis.address());
    fresh.wait_for_store();
    for row in &scene.rows {
        assert!(ask(&fresh, &warm(*row)).expect(200).text().contains("during"));
    }
}

#[test]
fn restarted_with_its_whole_memory() {
    let server = &["--appendonly", "yes", "--appendfsync", "always"];
    let fault = restarting("restarted with all it had");
    endure(&Fault { server, lasts: Duration::from_millis(1500), store: [Use::Either; 2], ..fault });
}

fn restarting(name: &'static str) -> Fault {
    let strike = |scene: &Scene| {
        scene.redis.kill();
        scene.redis.restart();
    };
    Fault { fails: false, ..Fault::of(name, strike, |_| {}) }
}

#[test]
fn not_there_yet() {
    let redis = RedisServer::start(&[]);
    redis.kill();
    let node = start_node(&redis.address());
    let row = unique();
    backend::shared().sql(&format!("insert into users (id, name) values ({row}, 'before')"));
    for _ in 0..10 {
        ask(&node, &warm(row)).expect(200).expect_bypass("detail=store");
        node.admin("GET", "/readyz").send().expect(200);
    }
    assert_eq!(node.metric("sluice_store_up"), 0.0);
    redis.restart();
    node.wait_for_store();
    eventually("it is used", || ask(&node, &warm(row)).expect(200).is_hit());
    assert!(lines_about_the_store(&node).len() <= MOST_LINES, "{}", node.log());
}
