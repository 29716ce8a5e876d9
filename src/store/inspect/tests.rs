use super::*;
use crate::config::{Ack, Topology};

const REDIS: &str = include_str!("tests/redis-7.0.txt");
/// A master with two replicas: what matters of what it says.
const VALKEY: &str = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n\
                      valkey_release_stage:ga\r\nserver_mode:standalone\r\n\r\n# Memory\r\nmaxmemory:104857600\r\n\
                      maxmemory_human:100.00M\r\nmaxmemory_policy:volatile-lru\r\n\r\n# Persistence\r\nloading:0\r\n\
                      aof_enabled:1\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
                      min_slaves_good_slaves:2\r\n\
                      slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=1\r\n";

fn settings(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn address(port: u16) -> HostPort {
    HostPort { host: "10.0.0.1".into(), port }
}

fn single() -> Topology {
    Topology::Single(address(6379))
}

/// What is said of one server.
fn said(inspection: &Inspection, ack: Ack, topology: &Topology) -> Vec<String> {
    let masters = [(address(6379), inspection.clone())];
    findings(&masters, ack, topology).iter().map(ToString::to_string).collect()
}

fn redis(pairs: &[(&str, &str)]) -> Inspection {
    Inspection::of(REDIS, Some(&settings(pairs)))
}

#[test]
fn redis_as_it_comes() {
    let inspection = redis(&[
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("save", "3600 1 300 100 60 10000"),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("min-replicas-to-write", "0"),
    ]);
    let server = Server { name: "Redis".into(), version: "7.0.15".into(), compatible: (7, 0) };
    let eviction = Eviction { limit: Some(0), policy: Some("noeviction".into()) };
    let expected = Inspection {
        server,
        is_master: true,
        persistence: Persistence::Snapshots,
        eviction,
        replicas: 0,
        wants_replicas: false,
    };
    assert_eq!(inspection, expected);
    assert_eq!(
        said(&inspection, Ack::Fsync, &single()),
        [
            "server: Redis 7.0.15 at 10.0.0.1:6379",
            "persistence: snapshots only, a crash loses what came after the last",
            "eviction: none without maxmemory (noeviction)",
            "warning: without maxmemory the store grows until the machine's memory ends",
            "ack: the store can't keep \"fsync\": it has no append-only file (set appendonly yes and appendfsync \
             always); it decides nothing yet, this version defers no writes",
        ]
    );
}

#[test]
fn without_config_what_info_says_counts() {
    let inspection = Inspection::of(VALKEY, None);
    assert_eq!(inspection.server.to_string(), "Valkey 8.0.1");
    assert_eq!(inspection.server.compatible, (7, 2));
    assert_eq!(inspection.persistence, Persistence::Appends(Flush::Unknown));
    assert_eq!(
        inspection.eviction,
        Eviction { limit: Some(104_857_600), policy: Some("volatile-lru".into()) }
    );
    assert_eq!((inspection.replicas, inspection.wants_replicas), (2, true));
    assert_eq!(Inspection::of(REDIS, None).persistence, Persistence::NoAppends);
    assert_eq!(
        said(&inspection, Ack::Replicated, &single()),
        [
            "server: Valkey 8.0.1 at 10.0.0.1:6379",
            "persistence: append-only file; the server doesn't tell appendfsync",
            "eviction: volatile-lru at 100 MiB: cached answers make room for new ones",
            "ack: the store can keep \"replicated\"; it decides nothing yet, this version defers no writes",
        ]
    );
}

#[test]
fn a_server_that_took_redis_place_is_named() {
    let inspection = Inspection::of("redis_version:7.4.0\r\ndragonfly_version:df-v1.30.0\r\n", None);
    assert_eq!(inspection.server.to_string(), "Dragonfly 1.30.0");
}

#[test]
fn an_answer_that_says_nothing_is_read() {
    let inspection = Inspection::of("", Some(&HashMap::new()));
    assert_eq!(inspection.server.to_string(), "Redis of an unknown version");
    assert_eq!(inspection.eviction, Eviction { limit: None, policy: None });
    assert!(said(&inspection, Ack::Memory, &single()).iter().any(|line| line.starts_with("failure: ")));
}

#[test]
fn what_each_ack_needs() {
    let sentinel = Topology::Sentinel { sentinels: vec![address(26379)], master: "m".into() };
    let file = [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction")];
    let always = [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")];
    let evicting = [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "allkeys-lru")];
    let limited = [&evicting[..], &[("maxmemory", "1000")]].concat();
    let newer = Inspection::of(VALKEY, Some(&settings(&file)));
    let replicated = Inspection { replicas: 1, ..redis(&file) };
    let safe = Inspection { wants_replicas: true, ..replicated.clone() };
    // The server, the promise, and why it can't be kept.
    let cases = [
        (redis(&file), Ack::Fsync, single(), Some("older than Redis 7.2")),
        (redis(&always), Ack::Fsync, single(), None),
        (newer.clone(), Ack::Fsync, single(), None),
        (newer, Ack::Fsync, sentinel.clone(), Some("\"replicated\"")),
        (redis(&file), Ack::Replicated, sentinel.clone(), Some("no replica")),
        (replicated, Ack::Replicated, sentinel.clone(), Some("min-replicas-to-write")),
        (safe, Ack::Replicated, sentinel, None),
        (redis(&[]), Ack::Memory, single(), None),
        (redis(&limited), Ack::Fsync, single(), Some("without a TTL")),
        (redis(&limited), Ack::Memory, single(), Some("without a TTL")),
        (redis(&evicting), Ack::Fsync, single(), None),
    ];
    for (inspection, ack, topology, lack) in cases {
        let said = said(&inspection, ack, &topology).pop().unwrap();
        assert_eq!(said.contains("can't keep"), lack.is_some(), "{said}");
        assert!(said.contains(lack.unwrap_or("can keep")), "{said}");
    }
}

#[test]
fn what_each_policy_means() {
    for (policy, warns, mention) in [
        ("noeviction", false, "nothing new is cached"),
        ("volatile-lru", false, "cached answers make room"),
        ("volatile-ttl", true, "volatile-lru"),
        ("allkeys-lfu", true, "notes of writes"),
    ] {
        let inspection = redis(&[("maxmemory", "1048577"), ("maxmemory-policy", policy)]);
        let said = said(&inspection, Ack::Memory, &single()).join("\n");
        assert!(said.contains(&format!("eviction: {policy} at 2 MiB: ")), "{said}");
        assert!(said.contains(mention) && said.contains("warning: ") == warns, "{said}");
    }
}

#[test]
fn what_is_too_old_or_a_replica_fails() {
    let old = Inspection::of(&REDIS.replace("redis_version:7.0.15", "redis_version:6.0.16"), None);
    let replica = Inspection::of(&REDIS.replace("role:master", "role:slave"), None);
    for (inspection, mention) in
        [(old, "Redis 6.0.16 at 10.0.0.1:6379 is too old"), (replica, "is a replica")]
    {
        let said = said(&inspection, Ack::Memory, &single());
        let failures: Vec<_> = said.iter().filter(|line| line.starts_with("failure: ")).collect();
        assert!(failures.len() == 1 && failures[0].contains(mention), "{said:?}");
        assert_eq!(said.len(), 2, "nothing more is said of it: {said:?}");
    }
}

#[test]
fn masters_are_spoken_of_together_where_they_are_set_alike() {
    let cluster = Topology::Cluster(vec![address(1)]);
    let (one, other) = (redis(&[("save", "")]), redis(&[("appendonly", "yes")]));
    let alike = [(address(1), one.clone()), (address(2), one.clone())];
    let said = |masters: &[(HostPort, Inspection)]| -> String {
        findings(masters, Ack::Memory, &cluster).iter().map(|finding| format!("{finding}\n")).collect()
    };
    let text = said(&alike);
    assert!(text.starts_with("server: Redis 7.0.15 at 10.0.0.1:1, 10.0.0.1:2\n"), "{text}");
    let text = said(&[(address(1), one.clone()), (address(2), other), (address(3), one)]);
    assert!(text.starts_with("warning: the store's masters are set differently"), "{text}");
    assert!(text.contains("at 10.0.0.1:1, 10.0.0.1:3\n") && text.contains("at 10.0.0.1:2\n"), "{text}");
}
