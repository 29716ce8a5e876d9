//! Faults drawn at random, under load: three nodes over one Redis, twenty
//! users, each with rows that say whose they are and how often they changed.
//!
//! `FAULTS` is how often each kind of fault strikes, `SEED` brings a sequence back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::Random;
use crate::support::backend::{self, Stack};
use crate::support::http::{Connection, Request, Response};
use crate::support::redis::RedisServer;
use crate::support::relay::Relay;
use crate::support::sluice::{Setup, Sluice};
use crate::support::story;
use crate::support::token::{Token, service_key};

const DEFAULT_FAULTS: u64 = 2;
const NODES: usize = 3;
const USERS: usize = 20;
const ROWS_EACH: usize = 3;
const READERS: usize = 3;
const WRITERS: usize = 2;

/// How long after a write was answered a node that is not the writer's may show
/// what was before: 1 s is promised (no L1 without a heartbeat of the bus); the
/// rest is for a machine on which everything else runs as well, where any of the
/// processes may not be scheduled for a while.
const LAG: Duration = Duration::from_millis(2_500);

/// How long the news of a change may be on its way between nodes that are well.
const SPREAD: Duration = Duration::from_millis(100);

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Killed,
    Stopped,
    Paused,
    Full,
    Cut,
    Hung,
}

const KINDS: [Kind; 6] = [Kind::Killed, Kind::Stopped, Kind::Paused, Kind::Full, Kind::Cut, Kind::Hung];

#[test]
fn random_faults_under_load_show_nobody_anything_wrong() {
    let seed = story::seed();
    let times = story::number("FAULTS").unwrap_or(DEFAULT_FAULTS);
    eprintln!("random faults: SEED={seed} FAULTS={times}");
    let mut random = Random::new(seed);
    let world = World::start();
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&world.stop);
        for _ in 0..READERS {
            let client = Client::new(&world, Random::new(random.next()));
            scope.spawn(|| client.read());
        }
        for writer in 0..WRITERS {
            let client = Client::new(&world, Random::new(random.next()));
            scope.spawn(move || client.write(writer));
        }
        for kind in drawn(times, &mut random) {
            world.suffer(kind, &mut random);
            world.nothing_is_wrong(&format!("SEED={seed}, {kind:?}"));
        }
        drop(stop);
    });
    world.nothing_is_wrong(&format!("SEED={seed}, the end"));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (reads, hits, writes) = (count(&world.reads), count(&world.hits), count(&world.writes));
    eprintln!("random faults: {reads} reads, {hits} of them hits, {writes} writes");
    assert!(hits > 200 && writes > 20, "the load proves little: {reads} reads, {hits} hits, {writes} writes");
}

/// Each kind so many times, in any order.
fn drawn(times: u64, random: &mut Random) -> Vec<Kind> {
    let mut left: Vec<Kind> = (0..times).flat_map(|_| KINDS).collect();
    let mut drawn = Vec::new();
    while !left.is_empty() {
        drawn.push(left.swap_remove(random.below(left.len() as u64) as usize));
    }
    drawn
}

/// Ends the load, a panic's way out included.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct User {
    sub: String,
    token: String,
}

/// A row, and what is known of its changes.
struct Row {
    id: u64,
    owner: usize,
    story: Mutex<Story>,
}

#[derive(Default)]
struct Story {
    /// The version that every node has shown since nothing was broken.
    settled: u64,
    /// What was written and answered since, oldest first.
    writes: Vec<Write>,
}

struct Write {
    version: u64,
    answered: Instant,
    node: usize,
    /// Whether the node was cut off meanwhile: the others learn of it when it is back.
    cut_off: bool,
}

impl Story {
    /// The oldest version that `node` may show to who asks at `asked`.
    fn oldest_allowed(&self, node: usize, asked: Instant) -> u64 {
        let due = |write: &&Write| match write.node == node {
            true => write.answered <= asked,
            false => !write.cut_off && write.answered + LAG <= asked,
        };
        self.writes.iter().filter(due).map(|write| write.version).max().unwrap_or_default().max(self.settled)
    }

    fn newest(&self) -> u64 {
        self.writes.last().map_or(self.settled, |write| write.version)
    }
}

struct World {
    redis: RedisServer,
    relays: [Relay; NODES],
    nodes: [Sluice; NODES],
    stack: Stack,
    users: Vec<User>,
    rows: Vec<Row>,
    /// Odd while the node is cut off from Redis.
    cuts: [AtomicU64; NODES],
    /// Held by each write; who holds it alone has no writes beside him.
    writing: RwLock<()>,
    stop: AtomicBool,
    wrong: Mutex<Vec<String>>,
    reads: AtomicU64,
    hits: AtomicU64,
    writes: AtomicU64,
}

impl World {
    fn start() -> Self {
        let stack = backend::shared().stack("chaos", "oracle.sql");
        let redis = RedisServer::start(&[]);
        let relays: [Relay; NODES] = std::array::from_fn(|_| Relay::start(&redis.address()));
        let nodes = std::array::from_fn(|node| {
            let store = format!("kind = \"redis\"\nurl = \"redis://{}/0\"", relays[node].address());
            Setup::new(&stack.url()).with_schema().section("store", &store).start()
        });
        let users: Vec<User> = (0..USERS)
            .map(|user| {
                let sub = format!("c4a05000-0000-4000-8000-{user:012}");
                let token = Token::of(&sub).sign();
                User { sub, token }
            })
            .collect();
        let rows: Vec<Row> = (0..USERS * ROWS_EACH)
            .map(|n| Row { id: 1_000 + n as u64, owner: n % USERS, story: Mutex::default() })
            .collect();
        let world = Self {
            redis,
            relays,
            nodes,
            stack,
            users,
            rows,
            cuts: std::array::from_fn(|_| AtomicU64::new(0)),
            writing: RwLock::default(),
            stop: AtomicBool::new(false),
            wrong: Mutex::default(),
            reads: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        };
        world.insert_rows();
        world.wait_until_up();
        world
    }

    fn insert_rows(&self) {
        let rows = self.rows.iter().map(
            |row| json!({ "id": row.id, "owner": self.users[row.owner].sub, "body": written(row.owner, 0) }),
        );
        Request::new(&self.stack.address(), "POST", "/rest/v1/notes")
            .signed_in(service_key())
            .json(&rows.collect())
            .send()
            .expect(201);
    }

    fn wait_until_up(&self) {
        self.nodes.iter().for_each(Sluice::wait_for_store);
    }

    /// One fault from its beginning to the proof that nothing is left of it.
    fn suffer(&self, kind: Kind, random: &mut Random) {
        let some = |random: &mut Random, most: u64| Duration::from_millis(random.below(most));
        let victim = random.below(NODES as u64) as usize;
        let lasting = Duration::from_millis(200) + some(random, 1_800);
        std::thread::sleep(some(random, 200));
        let cut_off: Vec<usize> = match kind {
            Kind::Killed | Kind::Stopped | Kind::Paused => (0..NODES).collect(),
            Kind::Cut | Kind::Hung => vec![victim],
            Kind::Full => Vec::new(),
        };
        eprintln!("random faults: {kind:?} for {lasting:?}, cut off: {cut_off:?}");
        cut_off.iter().for_each(|node| _ = self.cuts[*node].fetch_add(1, Ordering::SeqCst));
        self.strike(kind, victim, lasting);
        std::thread::sleep(lasting);
        self.heal(kind, victim);
        std::thread::sleep(some(random, 300));
        self.wait_until_up();
        self.settle();
        cut_off.iter().for_each(|node| _ = self.cuts[*node].fetch_add(1, Ordering::SeqCst));
    }

    fn strike(&self, kind: Kind, victim: usize, lasting: Duration) {
        match kind {
            Kind::Killed => self.redis.kill(),
            Kind::Stopped => self.redis.freeze(),
            Kind::Paused => {
                self.redis.client().command(&["CLIENT", "PAUSE", &lasting.as_millis().to_string(), "ALL"]);
            }
            Kind::Full => {
                self.redis.client().command(&["SET", "filling", &"x".repeat(2 << 20)]);
                self.redis.client().command(&["CONFIG", "SET", "maxmemory", "1mb"]);
            }
            Kind::Cut => self.relays[victim].cut(),
            Kind::Hung => self.relays[victim].hang(),
        }
    }

    fn heal(&self, kind: Kind, victim: usize) {
        match kind {
            Kind::Killed => self.redis.restart(),
            Kind::Stopped => self.redis.thaw(),
            Kind::Paused => {}
            Kind::Full => {
                self.redis.client().command(&["DEL", "filling"]);
                self.redis.client().command(&["CONFIG", "SET", "maxmemory", "0"]);
            }
            Kind::Cut | Kind::Hung => self.relays[victim].resume(),
        }
    }

    /// With no write under way, every node shows everybody what upstream does.
    fn settle(&self) {
        let _alone = self.writing.write().unwrap();
        self.wait_until_up();
        std::thread::sleep(SPREAD);
        for (number, user) in self.users.iter().enumerate() {
            let row = self.rows.iter().find(|row| row.owner == number).expect("everybody has rows");
            for target in ["/rest/v1/notes?order=id".to_owned(), format!("/rest/v1/notes?id=eq.{}", row.id)] {
                let request = |address: &str| Request::new(address, "GET", &target).signed_in(&user.token);
                let truth = request(&self.stack.address()).send().expect(200).text();
                for (number, node) in self.nodes.iter().enumerate() {
                    let answer = request(node.address()).send();
                    if (answer.status, answer.text()) != (200, truth.clone()) {
                        self.complain(
                            &format!("after recovery, node {number}: not {truth}"),
                            &target,
                            &answer,
                        );
                    }
                }
            }
        }
        for row in &self.rows {
            let mut story = row.story.lock().unwrap();
            *story = Story { settled: story.newest(), writes: Vec::new() };
        }
    }

    #[track_caller]
    fn nothing_is_wrong(&self, when: &str) {
        let wrong = std::mem::take(&mut *self.wrong.lock().unwrap());
        let first = wrong.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{when}: {} times, first:\n{first}", wrong.len());
    }

    fn complain(&self, what: &str, target: &str, answer: &Response) {
        let (status, how, text) = (answer.status, answer.cache_status(), answer.text());
        self.wrong.lock().unwrap().push(format!("{target}: {what}: {status} {how:?} {text}"));
    }
}

/// What a row's body says: whose it is, and its version.
fn written(owner: usize, version: u64) -> String {
    format!("{owner}:{version}")
}

/// One thread of load, with a connection to each node.
struct Client<'a> {
    world: &'a World,
    random: Random,
    connections: [Option<Connection>; NODES],
}

impl<'a> Client<'a> {
    fn new(world: &'a World, random: Random) -> Self {
        Self { world, random, connections: [const { None }; NODES] }
    }

    fn send(
        &mut self,
        node: usize,
        method: &str,
        target: &str,
        user: &User,
        body: Option<&Value>,
    ) -> Option<Response> {
        let address = self.world.nodes[node].address();
        let mut request = Request::new(address, method, target).signed_in(&user.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let connection = self.connections[node].take();
        let mut connection = connection.unwrap_or_else(|| Connection::open(address).unwrap());
        match request.try_send_over(&mut connection) {
            Ok(answer) => {
                self.connections[node] = (!answer.closes()).then_some(connection);
                Some(answer)
            }
            Err(error) => {
                let line = format!("{method} {target}: no answer from node {node}: {error}");
                self.world.wrong.lock().unwrap().push(line);
                None
            }
        }
    }

    fn read(mut self) {
        let world = self.world;
        while !world.stop.load(Ordering::Relaxed) {
            let node = self.random.below(NODES as u64) as usize;
            let owner = self.random.below(USERS as u64) as usize;
            let own: Vec<&Row> = world.rows.iter().filter(|row| row.owner == owner).collect();
            let list = self.random.chance(40);
            let asked_for = if list { own } else { vec![own[self.random.below(own.len() as u64) as usize]] };
            let target = match list {
                true => "/rest/v1/notes?order=id".to_owned(),
                false => format!("/rest/v1/notes?id=eq.{}", asked_for[0].id),
            };
            let asked = Instant::now();
            let allowed: Vec<u64> =
                asked_for.iter().map(|row| row.story.lock().unwrap().oldest_allowed(node, asked)).collect();
            let Some(answer) = self.send(node, "GET", &target, &world.users[owner], None) else { continue };
            world.reads.fetch_add(1, Ordering::Relaxed);
            world.hits.fetch_add(u64::from(answer.is_hit()), Ordering::Relaxed);
            if let Err(what) = judge(&answer, &world.users[owner].sub, &asked_for, &allowed) {
                world.complain(&format!("user {owner}, node {node}: {what}"), &target, &answer);
            }
            std::thread::sleep(Duration::from_millis(self.random.below(3)));
        }
    }

    /// Changes the rows of every so many-th user, one after the other.
    fn write(mut self, number: usize) {
        let world = self.world;
        let own: Vec<&Row> = world.rows.iter().filter(|row| row.owner % WRITERS == number).collect();
        while !world.stop.load(Ordering::Relaxed) {
            let row = own[self.random.below(own.len() as u64) as usize];
            let node = self.random.below(NODES as u64) as usize;
            let target = format!("/rest/v1/notes?id=eq.{}", row.id);
            let turn = world.writing.read().unwrap();
            let version = row.story.lock().unwrap().newest() + 1;
            let body = json!({ "body": written(row.owner, version) });
            let before = world.cuts[node].load(Ordering::SeqCst);
            let answer = self.send(node, "PATCH", &target, &world.users[row.owner], Some(&body));
            let answered = Instant::now();
            let cut_off = before % 2 == 1 || world.cuts[node].load(Ordering::SeqCst) != before;
            match answer {
                Some(answer) if answer.status == 204 => {
                    row.story.lock().unwrap().writes.push(Write { version, answered, node, cut_off });
                }
                Some(answer) => world.complain(&format!("the write through node {node}"), &target, &answer),
                None => {}
            }
            drop(turn);
            world.writes.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5 + self.random.below(20)));
        }
    }
}

/// Whether the answer has exactly these rows, all the asker's, none too old.
fn judge(answer: &Response, sub: &str, rows: &[&Row], allowed: &[u64]) -> Result<(), String> {
    if answer.status != 200 {
        return Err("upstream would have answered 200".to_owned());
    }
    let shown: Vec<Value> = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    if let Some(strange) = shown.iter().find(|shown| shown["owner"] != sub) {
        return Err(format!("somebody else's row: {strange}"));
    }
    let ids: Vec<u64> = shown.iter().filter_map(|shown| shown["id"].as_u64()).collect();
    if !rows.iter().map(|row| row.id).eq(ids) {
        return Err("other rows than were asked for".to_owned());
    }
    for ((row, shown), oldest) in rows.iter().zip(&shown).zip(allowed) {
        let (owner, version) =
            shown["body"].as_str().and_then(|body| body.split_once(':')).unwrap_or_default();
        if owner != row.owner.to_string() {
            return Err(format!("row {} has another one's text", row.id));
        }
        if version.parse().ok().is_none_or(|version: u64| version < *oldest) {
            return Err(format!("row {} is stale: version {version}, {oldest} was due", row.id));
        }
    }
    Ok(())
}
