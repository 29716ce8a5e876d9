//! Every way to reach a Redis, a fail-over, and what `sluice check` says about one.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend;
use crate::support::eventually;
use crate::support::faulty::Faulty;
use crate::support::http::Response;
use crate::support::process::{Process, directory, steady_port};
use crate::support::redis::{Redis, RedisCluster, RedisServer, Sentinels};
use crate::support::sluice::{Setup, Sluice, run, write_file};
use crate::support::unique;

/// All that a user of Redis must be allowed to, beside `~<namespace>:*` and `&<namespace>:bus`.
const COMMANDS: &str = "+hello +info +evalsha +eval +subscribe +publish +time +get +mget +set +del +unlink +pexpire \
     +pttl +hset +hdel +hscan +zadd +zrangebyscore +zrem +zscore";

/// And in a Cluster.
const CLUSTER_COMMANDS: &str = "+cluster|slots +cluster|myid +cluster|info +ping +asking";

/// How long after a write was answered the other node may show what was before:
/// 1 s is promised, the rest is for a busy machine.
const LAG: Duration = Duration::from_secs(2);

/// A password that no URL may hold unescaped.
const PASSWORD: &str = "pass:word/@%2F";
const ESCAPED: &str = "pass%3Aword%2F%40%252F";

/// Two nodes over one store, in front of an upstream that counts.
struct Pair {
    upstream: Faulty,
    nodes: [Sluice; 2],
}

impl Pair {
    /// `more` being what else its configuration says.
    #[track_caller]
    fn start(url: &str, more: impl Fn(Setup) -> Setup) -> Self {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        // A node that was away for 2 s is stood in for: that holds what it wrote for so long.
        let setup = Setup::new(&upstream.url()).section("upstream", "response_timeout = \"3s\"");
        let nodes = more(setup.redis(url)).nodes();
        Self { upstream, nodes }
    }

    /// They have one cache, and what is written through one is seen through the other.
    #[track_caller]
    fn share_one_cache(&self) {
        // On a busy machine the store may be too slow for a request now and then.
        eventually("the second node finds what the first has stored", || {
            let row = Row::insert();
            let answers = self.nodes.each_ref().map(|node| row.read(node));
            answers.iter().for_each(|answer| answer.shows("first"));
            self.upstream.count(&format!("GET {}", row.target())) == 1
        });
        let row = Row::insert();
        self.nodes.iter().for_each(|node| row.settle(node));
        for (writer, reader, name) in [(0, 1, "second"), (1, 0, "third")] {
            row.write(&self.nodes[writer], name);
            let written = Instant::now();
            row.read(&self.nodes[writer]).shows(name);
            eventually("the other node shows it", || row.read(&self.nodes[reader]).text().contains(name));
            assert!(written.elapsed() < LAG, "the other node showed it after {:?}", written.elapsed());
            self.nodes.iter().for_each(|node| row.settle(node));
            self.nodes.iter().for_each(|node| row.read(node).shows(name));
        }
        self.nodes.iter().for_each(Sluice::wait_for_store);
    }
}

/// A row of one's own.
struct Row(u64);

impl Row {
    fn insert() -> Self {
        let id = unique();
        backend::shared().sql(&format!("insert into users (id, name) values ({id}, 'first')"));
        Self(id)
    }

    fn target(&self) -> String {
        format!("/rest/v1/users?id=eq.{}&select=id,name", self.0)
    }

    #[track_caller]
    fn read(&self, node: &Sluice) -> Response {
        node.get(&self.target()).anonymous().send().expect(200)
    }

    #[track_caller]
    fn write(&self, node: &Sluice, name: &str) {
        let target = format!("/rest/v1/users?id=eq.{}", self.0);
        node.request("PATCH", &target).anonymous().json(&json!({ "name": name })).send().expect(204);
    }

    /// Reads it until it comes from the cache.
    #[track_caller]
    fn settle(&self, node: &Sluice) {
        eventually("the entry is used", || self.read(node).is_hit());
    }
}

trait Shows {
    /// Panics unless `name` is in it.
    fn shows(&self, name: &str);
}

impl Shows for Response {
    #[track_caller]
    fn shows(&self, name: &str) {
        let expected = format!("\"name\":\"{name}\"");
        assert!(self.text().contains(&expected), "{name} is due: {} {}", self.cache_status(), self.text());
    }
}

#[test]
fn a_database_with_a_number() {
    let redis = RedisServer::start(&[]);
    let pair = Pair::start(&format!("redis://{}/3", redis.address()), |setup| setup);
    pair.share_one_cache();
    let keyspace = redis.client().command(&["INFO", "keyspace"]).text();
    assert!(keyspace.contains("db3:keys=") && !keyspace.contains("db0:"), "{keyspace}");
}

#[test]
fn a_password_of_its_own_key_or_in_the_url() {
    let redis = RedisServer::start(&["--requirepass", PASSWORD]);
    let own_key = format!("password = '{PASSWORD}'");
    let address = redis.address();
    Pair::start(&redis.url(), |setup| setup.section("store", &own_key)).share_one_cache();
    let pair = Pair::start(&format!("redis://:{ESCAPED}@{address}/0"), |setup| setup);
    pair.share_one_cache();
    for node in &pair.nodes {
        assert!(!node.log().contains(PASSWORD) && !node.log().contains(ESCAPED), "{}", node.log());
    }
}

/// Two nodes whose user of Redis may run `commands` and no others; nothing is denied to him.
#[track_caller]
fn as_a_user_who_may(commands: &str, servers: &[RedisServer], url: &str) {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let setup = Setup::new(&upstream.url()).redis(&url.replacen("://", &format!("://sluice:{ESCAPED}@"), 1));
    let names = setup.namespace();
    let rules = format!("reset on >{PASSWORD} ~{names}:* &{names}:bus {commands}");
    let words: Vec<&str> = ["ACL", "SETUSER", "sluice"].into_iter().chain(rules.split_whitespace()).collect();
    let mut admins: Vec<_> = servers.iter().map(RedisServer::client).collect();
    for admin in &mut admins {
        admin.command(&words);
        admin.command(&["ACL", "SETUSER", "default", "off"]);
    }
    let pair = Pair { upstream, nodes: setup.nodes() };
    pair.share_one_cache();
    for admin in &mut admins {
        let denied = admin.command(&["ACL", "LOG"]).list();
        assert!(denied.is_empty(), "something was denied: {denied:?}");
    }
    // CONFIG GET would say more.
    let (code, text) = check_online(&setup);
    assert!(code == Some(0) && text.contains("server: "), "{text}");
}

#[test]
fn a_user_who_may_do_no_more_than_is_needed() {
    let redis = [RedisServer::start(&[])];
    as_a_user_who_may(COMMANDS, &redis, &redis[0].url());
    let cluster = RedisCluster::start();
    as_a_user_who_may(&format!("{COMMANDS} {CLUSTER_COMMANDS}"), cluster.masters(), &cluster.url());
}

/// A key or certificate of the tests.
fn pem(name: &str) -> String {
    format!("{}/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))
}

/// A server that speaks TLS, with a certificate of the tests' own authority, and its URL.
fn secure_server() -> (RedisServer, String) {
    let port = steady_port();
    let redis = RedisServer::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &pem("server"),
        "--tls-key-file",
        &pem("server-key"),
        "--tls-ca-cert-file",
        &pem("ca"),
        "--tls-auth-clients",
        "no",
    ]);
    (redis, format!("rediss://127.0.0.1:{port}/0"))
}

/// Starts it on a machine that trusts these roots.
fn start_trusting(setup: &Setup, roots: &str) -> Sluice {
    let file: PathBuf = write_file(&setup.toml());
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["serve", "-c"]).arg(&file).env("SSL_CERT_FILE", roots);
    Sluice::run(&command, file)
}

#[test]
fn tls_with_an_authority_of_the_machine() {
    let (_redis, url) = secure_server();
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let setup = Setup::new(&upstream.url()).redis(&url);
    let nodes = [(); 2].map(|()| start_trusting(&setup, &pem("ca")));
    nodes.iter().for_each(Sluice::wait_for_store);
    Pair { upstream, nodes }.share_one_cache();
}

#[test]
fn tls_with_an_authority_that_nobody_knows() {
    let (_redis, url) = secure_server();
    // A certificate that hasn't signed the server's.
    let sluice = start_trusting(&Setup::new(&backend::shared().url()).redis(&url), &pem("server"));
    let row = Row::insert();
    row.read(&sluice).expect_bypass("detail=store");
    row.write(&sluice, "second");
    row.read(&sluice).shows("second");
    eventually("the log says why", || {
        let log = sluice.log().to_ascii_lowercase();
        log.contains("certificate") || log.contains("unknownissuer")
    });
    assert_eq!(sluice.metric("sluice_store_up"), 0.0);
    sluice.admin("GET", "/readyz").send().expect(200);
}

#[test]
fn a_cluster_of_three_masters() {
    let cluster = RedisCluster::start();
    let pair = Pair::start(&cluster.url(), |setup| setup);
    for _ in 0..8 {
        pair.share_one_cache();
    }
    let keys = cluster.masters().each_ref().map(|master| master.client().command(&["DBSIZE"]).number());
    assert!(keys.iter().all(|&keys| keys > 0), "a master has nothing to do: {keys:?}");
    lives_through(&pair, || cluster.masters()[1].kill(), || cluster.masters()[1].restart());
}

#[test]
fn a_master_with_a_replica_under_sentinels() {
    let fleet = Sentinels::start();
    let pair = Pair::start(&fleet.url(), |setup| setup);
    pair.share_one_cache();
    let old = fleet.master_port();
    let replaced = || eventually("the replica is the master", || fleet.master_port() != old);
    lives_through(&pair, || fleet.master().kill(), replaced);
}

/// The old master lives on as a replica, and its connections with it.
#[test]
fn a_planned_fail_over() {
    let fleet = Sentinels::start();
    let pair = Pair::start(&fleet.url(), |setup| setup);
    let [before, after] = [(); 2].map(|()| Row::insert());
    pair.nodes.iter().for_each(|node| before.settle(node));
    before.write(&pair.nodes[0], "second");
    fleet.fail_over();
    after.write(&pair.nodes[0], "second");
    let written = Instant::now();
    eventually("both nodes are well again", || {
        pair.nodes.iter().for_each(|node| before.read(node).shows("second"));
        pair.nodes.iter().all(|node| node.metric("sluice_store_up") == 1.0) && written.elapsed() > LAG
    });
    pair.nodes.iter().for_each(|node| after.read(node).shows("second"));
    pair.share_one_cache();
}

/// Nothing fails while a master is gone; nothing that was invalidated before
/// or meanwhile is there when another one, or itself without memory, has taken over.
#[track_caller]
fn lives_through(pair: &Pair, gone: impl Fn(), back: impl FnOnce()) {
    let [before, meanwhile, untouched] = [(); 3].map(|()| Row::insert());
    let one = &pair.nodes[0];
    for row in [&before, &meanwhile, &untouched] {
        pair.nodes.iter().for_each(|node| row.read(node).shows("first"));
    }
    before.write(one, "second");
    gone();
    let check = || {
        before.read(one).shows("second");
        pair.nodes.iter().for_each(|node| untouched.read(node).shows("first"));
    };
    check();
    meanwhile.write(one, "second");
    meanwhile.read(one).shows("second");
    eventually("the loss is noticed", || {
        check();
        pair.nodes.iter().any(|node| node.metric("sluice_store_up") == 0.0)
    });
    back();
    for node in &pair.nodes {
        eventually("the store is up again", || {
            check();
            node.metric("sluice_store_up") == 1.0
        });
    }
    for node in &pair.nodes {
        before.read(node).shows("second");
        meanwhile.read(node).shows("second");
    }
    pair.share_one_cache();
}

/// Debian 12 has no Valkey; where there is one it must do as well.
#[test]
fn valkey_where_it_is_installed() {
    let port = steady_port();
    let place = directory(&format!("valkey-{port}"));
    let mut command = Command::new("valkey-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(&place);
    if Command::new("valkey-server").arg("--version").output().is_err() {
        eprintln!("valkey-server isn't installed: nothing was tried with it");
        return;
    }
    let valkey = Process::start("valkey-server", "KILL", None, &command);
    let address = format!("127.0.0.1:{port}");
    eventually("it answers or ends", || valkey.exited().is_some() || Redis::open(&address).is_ok());
    Pair::start(&format!("redis://{address}/0"), |setup| setup).share_one_cache();
}

/// `sluice check --online`: its exit code and what it says.
fn check_online(setup: &Setup) -> (Option<i32>, String) {
    let file = write_file(&setup.toml());
    let output = run(&["check", "--online", "-c", file.to_str().unwrap()]);
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), text)
}

#[test]
fn check_names_what_the_server_promises() {
    let redis = RedisServer::start(&[]);
    let mut admin = redis.client();
    let version = admin.info("redis_version");
    // What is set on the server, what must be said about it.
    let cases = [
        (vec![], ["persistence: none", "noeviction", "can't keep \"fsync\""]),
        (
            vec!["appendonly", "yes", "appendfsync", "always"],
            ["append-only file", "noeviction", "can keep \"fsync\""],
        ),
        (
            vec!["maxmemory", "64mb", "maxmemory-policy", "allkeys-lru"],
            ["allkeys-lru", "evict", "can't keep \"fsync\""],
        ),
    ];
    let mut said = Vec::new();
    for (settings, mentions) in cases {
        for setting in settings.chunks_exact(2) {
            admin.command(&["CONFIG", "SET", setting[0], setting[1]]);
        }
        let (code, text) = check_online(&Setup::new(&backend::shared().url()).redis(&redis.url()));
        assert_eq!(code, Some(0), "{settings:?}: {text}");
        for mention in mentions.into_iter().chain([version.as_str()]) {
            assert!(text.contains(mention), "{mention:?} isn't said about {settings:?}:\n{text}");
        }
        said.push(text);
    }
    assert!(said[0] != said[1] && said[1] != said[2], "the settings make no difference: {said:?}");
}

#[test]
fn check_fails_where_the_store_can_not_be_used() {
    let redis = RedisServer::start(&["--requirepass", PASSWORD]);
    let wrong = "not-the-password";
    let address = redis.address();
    let setup = Setup::new(&backend::shared().url()).redis(&format!("redis://:{wrong}@{address}/0"));
    let (code, text) = check_online(&setup);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.to_lowercase().contains("refused") && !text.contains(wrong) && !text.contains(PASSWORD),
        "{text}"
    );
    drop(redis);
    let (code, text) = check_online(&setup);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&address) && !text.contains(wrong), "{text}");
}
