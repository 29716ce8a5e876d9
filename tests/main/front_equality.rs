//! The front's answers are the proxy's: whatever a request looks like, the
//! answer is the one that the same request gets which the front leaves to the proxy.
//!
//! `STEPS` and `SEED` change the length and bring a sequence back.

use std::collections::HashSet;
use std::io::Read;
use std::net::TcpStream;

use serde_json::json;

use crate::support::faulty::{Answer as Scripted, Faulty};
use crate::support::front::{Answer, Client, FrontHits};
use crate::support::sluice::{Setup, Sluice};
use crate::support::spelled::{MODIFIED, OBJECTS, Spelled, Spellings, Who};
use crate::support::story;
use crate::support::token::{alice, bob};

const DEFAULT_STEPS: u64 = 600;
/// Of the answers that can be the front's, this many percent are.
const FRONTS_SHARE: u64 = 90;

const ROUTES: &str = r#"
[[route]]
name = "notes"
table = "notes"
[route.read]
ttl = "1h"
empty_ttl = "1h"
scope = "user"

[[route]]
name = "words"
table = "words"
[route.read]
ttl = "1h"
empty_ttl = "1h"
scope = "public"

[[route]]
name = "posts"
table = "posts"
[route.read]
ttl = "1h"
scope = "role"
freshness = "origin"
request_directives = "obey"

[[route]]
name = "teams"
table = "teams"
[route.read]
ttl = "1h"
vary = ["x-tenant"]

[[route]]
name = "users"
table = "users"
[route.read]
ttl = "1h"
ignore_headers = ["x-my-*", "x-anything"]

[[route]]
name = "functions"
function = "count_posts"
[route.read]
ttl = "1h"

[[route]]
name = "public-objects"
path = '^/storage/v1/object/public/'
[route.read]
ttl = "1h"
scope = "public"
freshness = "origin"

[[route]]
name = "own-objects"
path = '^/storage/v1/object/authenticated/'
[route.read]
ttl = "1h"
scope = "session"
"#;

#[test]
fn answers_are_equal_where_any_origin_may_read_them() {
    compare("front_any", "allow_origins = [\"*\"]");
}

#[test]
fn answers_are_equal_where_origins_are_listed() {
    compare("front_listed", "allow_origins = [\"https://app.example.com\", \"https://b.example\"]");
}

#[test]
fn the_front_counts_its_hits() {
    let upstream = scripted(Faulty::start());
    let sluice = Setup::new(&upstream.url()).routes(ROUTES).start();
    let request = sluice.get(&format!("/storage/v1/object/{}", OBJECTS[0]));
    let mut client = Client::open(sluice.address());
    client.get(&request).expect(200);
    client.get(&request).expect(200).expect_hit();
    let counted = FrontHits::from_now(&sluice);
    client.get(&request).expect(200).expect_hit();
    counted.expect(1, "the third time");
    assert_eq!(counted.count(), 1);
}

/// The objects, whatever else it does.
fn scripted(upstream: Faulty) -> Faulty {
    let object = |kind: &str, body: Vec<u8>| {
        Scripted::new(200, body)
            .header("Content-Type", kind)
            .header("ETag", "\"strong\"")
            .header("Last-Modified", MODIFIED)
            .header("Date", "Wed, 01 Jan 2025 11:00:00 GMT")
            .header("Cache-Control", "max-age=100000000000")
            .header("Accept-Ranges", "bytes")
    };
    let large = json!((0..2_000).map(|n| format!("row {n}")).collect::<Vec<_>>()).to_string();
    let bodies = [
        object("image/png", (0..=255).collect()),
        object("application/json", large.into_bytes()),
        object("text/plain", b"a text of one's own".to_vec()),
    ];
    for (name, answer) in OBJECTS.iter().zip(bodies) {
        upstream.always(&format!("/storage/v1/object/{name}"), answer.act());
    }
    upstream.always("/functions/v1/echo", Scripted::json("{}").act());
    upstream
}

/// Sends what is made up, several times so that the front comes to know it and
/// then once past the front; the answers must be the same.
fn compare(database: &str, cors: &str) {
    let stack = story::stack(database);
    let upstream = scripted(Faulty::in_front_of(&stack.url()));
    let sluice = Setup::new(&upstream.url()).section("cors", cors).routes(ROUTES).start();
    let seed = story::seed();
    let steps = story::number("STEPS").unwrap_or(DEFAULT_STEPS);
    eprintln!("front, {database}: SEED={seed} STEPS={steps}");

    write(&sluice, 0);
    let mut spellings = Spellings::new(seed);
    let mut known = Connections::open(&sluice);
    let counted = FrontHits::from_now(&sluice);
    let (mut expected, mut possible, mut entered) = (0, 0, HashSet::new());
    for step in 0..steps {
        if spellings.random().chance(2) {
            write(&sluice, step);
        }
        let request = spellings.next_request();
        let bytes = request.as_it_is();
        let what = || format!("{database}, step {step}, SEED={seed}: {:?}", String::from_utf8_lossy(&bytes));
        let past_the_front = request.never_the_fronts();
        if spellings.random().chance(50) {
            known.ask(&request, &past_the_front, &what);
        }
        let answers: Vec<Answer> = (0..4).map(|_| known.ask(&request, &bytes, &what)).collect();
        let proxys = known.ask(&request, &past_the_front, &what);
        for answer in &answers {
            check_owner(request.who, answer, &what);
        }
        for answer in answers[2..].iter().filter(|answer| answer.seen() != proxys.seen()) {
            // What is stored may come and go with time, and with it whether both are hits.
            assert!(
                !(answer.is_hit() && proxys.is_hit()),
                "{:?}\n{:?}\n{}",
                answer.seen(),
                proxys.seen(),
                what()
            );
            known.settle(&request, &what);
        }
        for n in 0..answers.len() {
            let is_hit = answers[n].is_hit();
            let was_hit = n > 0 && answers[n - 1].is_hit();
            possible += u64::from(is_hit);
            // The proxy enters a spelling with its first hit.
            expected +=
                u64::from(is_hit && request.may_be_the_fronts() && (was_hit || entered.contains(&bytes)));
            if was_hit {
                entered.insert(bytes.clone());
            }
        }
        spellings.remember_tag(proxys.joined("etag"));
    }
    eprintln!("front, {database}: {} of {expected} answers were the front's", counted.count());
    assert!(expected * 2 >= steps, "only {expected} hits in {steps} steps: the sequence proves little");
    counted.expect(expected * FRONTS_SHARE / 100, "what it may answer");
    assert!(counted.count() <= possible, "the front has answered what was to be the proxy's");
}

/// Nobody is shown a row of somebody else's.
#[track_caller]
fn check_owner(who: Who, answer: &Answer, what: &dyn Fn() -> String) {
    let body = match answer.joined("content-encoding").as_str() {
        "" => answer.text(),
        _ if answer.body.is_empty() => return,
        "gzip" => {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
            text
        }
        "br" => {
            let mut bytes = Vec::new();
            brotli::BrotliDecompress(&mut &answer.body[..], &mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        }
        "zstd" => String::from_utf8(zstd::bulk::decompress(&answer.body, 1 << 24).unwrap()).unwrap(),
        other => panic!("an unknown coding: {other}"),
    };
    let (alices, bobs) = (body.contains("of alice"), body.contains("of bob"));
    let allowed = match who {
        Who::Alice => !bobs,
        Who::Bob => !alices,
        Who::Nobody => !alices && !bobs,
        Who::Unclear => true,
    };
    assert!(allowed, "{who:?} was shown {body}: {}", what());
}

/// Changes rows, and with them what is indexed.
#[track_caller]
fn write(sluice: &Sluice, step: u64) {
    for (owner, name) in [(alice(), "alice"), (bob(), "bob")] {
        let target = format!("/rest/v1/notes?owner=eq.{}", owner.sub());
        let change = json!({ "body": format!("of {name}, {step}") });
        sluice.request("PATCH", &target).signed_in(owner.sign()).json(&change).send().expect(204);
    }
    for (table, key) in [("teams", "name"), ("users", "name"), ("posts", "title")] {
        let change = json!({ key: format!("changed in {step}") });
        let target = format!("/rest/v1/{table}?id=eq.{}", 1 + step % 3);
        sluice.request("PATCH", &target).anonymous().json(&change).send().expect(204);
    }
}

/// Kept connections, opened again where an answer ended one.
struct Connections {
    address: String,
    kept: [Client<TcpStream>; 2],
    turn: usize,
}

impl Connections {
    fn open(sluice: &Sluice) -> Self {
        let address = sluice.address().to_owned();
        Self { kept: [Client::open(&address), Client::open(&address)], address, turn: 0 }
    }

    /// Asks until two answers are equal that nothing has come between.
    #[track_caller]
    fn settle(&mut self, request: &Spelled, what: &dyn Fn() -> String) {
        let mut pair = || {
            let fronts = self.ask(request, &request.as_it_is(), what);
            (fronts.seen(), self.ask(request, &request.never_the_fronts(), what).seen())
        };
        let pairs: Vec<_> = (0..3).map(|_| pair()).collect();
        assert!(pairs.iter().any(|(fronts, proxys)| fronts == proxys), "{:?}\n{}", pairs[2], what());
    }

    #[track_caller]
    fn ask(&mut self, request: &Spelled, bytes: &[u8], what: &dyn Fn() -> String) -> Answer {
        self.turn = (self.turn + 1) % self.kept.len();
        let client = &mut self.kept[self.turn];
        client.write(bytes);
        let answer = client.try_read(request.method).unwrap_or_else(|error| panic!("{error}: {}", what()));
        if answer.closes() {
            let mut closed = std::mem::replace(client, Client::open(&self.address));
            let rest = closed.read_to_end().unwrap_or_else(|error| panic!("{error}: {}", what()));
            // A head that is refused is not understood: its answer may have a body even to HEAD.
            let is_error = answer.status() >= 400 && request.method == "HEAD";
            assert!(rest.is_empty() || is_error, "more came: {}", what());
        }
        answer
    }
}
