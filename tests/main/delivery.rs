//! What a client sees of a cached answer is what upstream would have sent.

use std::io::Read;

use crate::support::backend;
use crate::support::eventually;
use crate::support::faulty::{Act, Answer, Faulty};
use crate::support::http::Connection;
use crate::support::sluice::Setup;

// Other tests add users above 50.
const LIST: &str = "/rest/v1/users?select=*&id=lte.50&order=id";

fn setup() -> Setup {
    Setup::new(&backend::shared().url())
}

#[test]
fn content_range_survives_hits_and_304() {
    let sluice = setup().start();
    for (header, value, expected) in [
        ("Prefer", "count=exact", "0-49/50"),
        ("Range", "0-4", "0-4/*"),
        ("Prefer", "count=planned", "0-49/"),
    ] {
        let request = sluice.get(LIST).anonymous().header(header, value);
        let first = request.send().expect_stored();
        let hit = request.send().expect_hit();
        let etag = hit.header("etag").expect("a hit has an ETag").to_owned();
        let unchanged = request.clone().header("If-None-Match", &etag).send().expect(304).expect_hit();
        let range = first.header("content-range").unwrap();
        assert!(range.starts_with(expected), "{header}: {value} gave {range}");
        assert_eq!(hit.header("content-range"), Some(range));
        // A browser keeps the range that it has with this ETag where a 304 has none.
        assert!(unchanged.header("content-range").is_none_or(|again| again == range));
        for answer in [&first, &hit, &unchanged] {
            assert_eq!(answer.header("etag"), Some(etag.as_str()));
        }
        assert!(unchanged.body.is_empty());
    }
}

#[test]
fn etags_are_weak_and_tell_content_ranges_apart() {
    let sluice = setup().start();
    let plain = sluice.get(LIST).anonymous();
    let counted = sluice.get(LIST).anonymous().header("Prefer", "count=exact");
    let etag = |answer: crate::support::http::Response| answer.header("etag").unwrap().to_owned();
    let (one, other) = (etag(plain.send()), etag(counted.send()));
    assert!(one.starts_with("W/\""), "{one}");
    assert_ne!(one, other, "same body, another Content-Range: a browser must not keep the old one");
    counted.clone().header("If-None-Match", &one).send().expect(200);
    plain.clone().header("If-None-Match", format!("\"x\", {one}")).send().expect(304);
    plain.clone().header("If-None-Match", "*").send().expect(304);
}

#[test]
fn hits_carry_age_and_tell_browsers_to_ask_again() {
    let sluice = setup().start();
    let request = sluice.get(LIST).anonymous();
    let first = request.send().expect_stored();
    assert_eq!(first.header("cache-control"), Some("private, no-cache"));
    let hit = request.send().expect_hit();
    assert_eq!(hit.header("cache-control"), Some("private, no-cache"));
    assert!(hit.cache_status().contains("ttl="), "{}", hit.cache_status());
    eventually("the entry grows old", || {
        let age: u64 = request.send().expect_hit().header("age").unwrap().parse().unwrap();
        age >= 1
    });
}

#[test]
fn cache_status_is_appended_to_upstreams_own() {
    let upstream = Faulty::start();
    let answer = Answer::json("[]").header("Content-Range", "0-0/*").header("Cache-Status", "edge; hit");
    upstream.always("GET /rest/v1/users", answer.act());
    let sluice = Setup::new(&upstream.url()).start();
    let joined = sluice.get(LIST).anonymous().send().joined("cache-status");
    assert_eq!(joined, "edge; hit, sluice; fwd=uri-miss; stored");
}

#[test]
fn hits_are_compressed_from_stored_variants() {
    let sluice = setup().start();
    let plain = sluice.get(LIST).anonymous().send().expect(200).expect_stored();
    for _ in 0..2 {
        let zipped =
            sluice.get(LIST).anonymous().header("Accept-Encoding", "gzip").send().expect(200).expect_hit();
        assert_eq!(zipped.header("content-encoding"), Some("gzip"));
        assert!(zipped.body.len() < plain.body.len());
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut text).unwrap();
        assert_eq!(text, plain.body);
        assert!(zipped.joined("vary").to_ascii_lowercase().contains("accept-encoding"));
    }
    for coding in ["br", "zstd"] {
        let answer = sluice.get(LIST).anonymous().header("Accept-Encoding", coding).send().expect_hit();
        assert_eq!(answer.header("content-encoding"), Some(coding));
    }
    for coding in ["identity", "gzip;q=0, identity", "unheard-of"] {
        let answer = sluice.get(LIST).anonymous().header("Accept-Encoding", coding).send().expect_hit();
        assert_eq!((answer.header("content-encoding"), &answer.body), (None, &plain.body));
    }
}

#[test]
fn one_connection_serves_hits_misses_and_forwards_in_turn() {
    let sluice = setup().start();
    let mut connection = Connection::open(sluice.address()).unwrap();
    let hit = sluice.get("/rest/v1/teams?id=eq.1").anonymous();
    hit.send_over(&mut connection).expect_stored();
    for id in 1..5 {
        hit.send_over(&mut connection).expect(200).expect_hit();
        sluice
            .get(&format!("/rest/v1/teams?id=eq.{}", 10 + id))
            .anonymous()
            .send_over(&mut connection)
            .expect(200)
            .expect_no_hit();
        sluice.get("/whoami").send_over(&mut connection).expect(200);
        sluice
            .request("HEAD", "/rest/v1/teams?id=eq.1")
            .anonymous()
            .send_over(&mut connection)
            .expect(200)
            .expect_hit();
    }
    // Pipelined: the answers come in the order of the requests.
    let other = sluice.get("/rest/v1/teams?id=eq.2").anonymous();
    connection.write(&[hit.encode(), other.encode(), hit.encode()].concat()).unwrap();
    let names: Vec<_> = (0..3).map(|_| connection.read("GET").unwrap().json()[0]["name"].clone()).collect();
    assert_eq!(names, ["red", "blue", "red"]);
}

#[test]
fn head_reads_what_get_filled_and_not_the_other_way_round() {
    let sluice = setup().start();
    let get = sluice.get(LIST).anonymous();
    let head = sluice.request("HEAD", LIST).anonymous();
    let filled = head.send().expect(200).expect_no_hit();
    assert!(filled.body.is_empty());
    let again = head.send().expect(200).expect_hit();
    assert_eq!(again.header("etag"), None, "a HEAD's entry has no body to make an ETag of");
    let body = get.send().expect(200).expect_no_hit();
    assert!(!body.body.is_empty());
    get.send().expect_hit();
    let from_get = head.send().expect(200).expect_hit();
    assert_eq!(from_get.header("content-range"), body.header("content-range"));
}

#[test]
fn every_answer_can_be_read_in_a_browser() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice = Setup::new(&upstream.url()).start();
    let ask =
        |target: &str| sluice.get(target).anonymous().header("Origin", "https://app.example.com").send();
    let readable = |answer: &crate::support::http::Response, what: &str| {
        let allowed = answer.header("access-control-allow-origin");
        assert!(matches!(allowed, Some("*" | "https://app.example.com")), "{what}: {allowed:?}");
        let exposed = answer.joined("access-control-expose-headers").to_ascii_lowercase();
        for name in ["content-range", "cache-status", "etag", "age"] {
            assert!(exposed.contains(name), "{what} exposes {exposed:?}, not {name}");
        }
    };
    readable(&ask(LIST).expect_stored(), "a miss");
    readable(&ask(LIST).expect_hit(), "a hit");
    readable(&ask("/rest/v1/nothing_there").expect(404), "a forwarded error");
    upstream.always("GET /rest/v1/teams", Act::Drop);
    let error = ask("/rest/v1/teams").expect(502);
    readable(&error, "an error of Sluice's own");
    let body = error.json();
    assert!(body["code"].as_str().unwrap().starts_with("SLUICE"), "{body}");
    for field in ["message", "details", "hint"] {
        assert!(body.get(field).is_some(), "{body}");
    }
}

#[test]
fn preflights_come_from_the_cache() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice = Setup::new(&upstream.url()).start();
    let preflight = |target: &str, origin: &str, headers: &str| {
        sluice
            .request("OPTIONS", target)
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "PATCH")
            .header("Access-Control-Request-Headers", headers)
            .send()
    };
    let first = preflight("/rest/v1/users?id=eq.1", "https://a.example", "apikey,authorization").expect(200);
    let second = preflight("/rest/v1/users?id=eq.2", "https://a.example", "apikey,authorization").expect(200);
    for answer in [&first, &second] {
        assert!(answer.header("access-control-allow-methods").unwrap().contains("PATCH"));
        assert!(answer.header("access-control-max-age").is_some());
        assert!(matches!(answer.header("access-control-allow-origin"), Some("*" | "https://a.example")));
    }
    assert_eq!(upstream.count("OPTIONS /rest/v1/users"), 1, "the same path, origin and headers");
    preflight("/rest/v1/users", "https://b.example", "apikey,authorization");
    preflight("/rest/v1/users", "https://a.example", "apikey");
    assert_eq!(upstream.count("OPTIONS /rest/v1/users"), 3, "other origins and headers have their own");
}

#[test]
fn an_answer_larger_than_the_limit_is_streamed_and_not_stored() {
    let sluice = setup().read("ttl = \"1h\"\nmax_body = \"1KiB\"").start();
    for _ in 0..2 {
        let answer = sluice.get(LIST).anonymous().send().expect(200).expect_no_hit();
        assert_eq!(answer.json().as_array().unwrap().len(), 50);
    }
}

#[test]
fn a_connection_survives_every_kind_of_answer() {
    let sluice = setup().start();
    let object = ("Accept", "application/vnd.pgrst.object+json");
    let calls = [
        ("GET", "/rest/v1/users?id=eq.1", 200, false),
        ("GET", "/rest/v1/users?id=eq.999999&select=name,latest_post(title)", 406, false),
        ("POST", "/rest/v1/words", 201, true),
        ("GET", "/rest/v1/users?id=eq.1", 200, false),
        ("GET", "/rest/v1/nothing", 404, false),
        ("PATCH", "/rest/v1/words?key=eq.nothing", 204, true),
        ("HEAD", "/rest/v1/users?id=eq.2", 200, false),
        ("POST", "/rest/v1/words", 409, true),
        ("DELETE", "/rest/v1/words?key=eq.nothing", 204, false),
        ("GET", "/rest/v1/users?select=nothing", 400, false),
        ("POST", "/rest/v1/rpc/rename", 404, true),
    ];
    let key = format!("connection {}", crate::support::unique());
    for (first, _, _, _) in [calls[0], calls[2]] {
        let mut connection = Connection::open(sluice.address()).unwrap();
        for (method, target, status, body) in calls {
            let request = sluice.request(method, target).anonymous();
            let request = if status == 406 { request.header(object.0, object.1) } else { request };
            let request = if body {
                request.json(&serde_json::json!({ "key": format!("{key} {first}") }))
            } else {
                request
            };
            let answer = request
                .try_send_over(&mut connection)
                .unwrap_or_else(|error| panic!("{method} {target}: {error}"));
            println!("{method} {target} {:?}", answer.headers);
            answer.expect(status);
        }
    }
}
