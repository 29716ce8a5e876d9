//! What is in Redis, and that every node makes the same of it.

use std::io::Read;

use super::{ROUTE, new_row, read, rename, shared};
use crate::support::faulty::{Answer, Faulty};
use crate::support::http::Response;
use crate::support::redis::{self, RedisServer};
use crate::support::sluice::{Setup, Sluice, undisturbed};
use crate::support::{backend, eventually};

const TARGET: &str = "/rest/v1/users?order=id&limit=5&id=lte.50";

fn age(answer: &Response) -> u64 {
    answer.header("age").expect("a hit has an age").parse().expect("an age is a number")
}

#[test]
fn what_one_node_has_fetched_is_a_hit_on_the_other() {
    undisturbed(|| {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let [one, other] = shared(&upstream.url()).nodes();
        let stored = read(&one, TARGET).expect_stored();
        eventually("the entry grows old", || age(&read(&one, TARGET).expect_hit()) >= 1);
        let hit = read(&other, TARGET).expect_hit();
        assert!(age(&hit) >= 1, "its age counts from when it was fetched");
        let ttl = hit.cache_status().rsplit("ttl=").next().unwrap().parse::<u64>().unwrap();
        assert!(ttl < 3600, "so does what is left of its lifetime: {ttl}");
        assert_eq!(hit.body, stored.body);
        for header in ["content-type", "content-range", "etag", "cache-control", "vary"] {
            assert_eq!(hit.joined(header), stored.joined(header), "{header}");
        }
        let known = other.get(TARGET).anonymous().header("If-None-Match", stored.header("etag").unwrap());
        known.send().expect(304).expect_hit();
        assert_eq!(upstream.count(ROUTE), 1);
    });
}

#[test]
fn a_head_answer_is_shared_and_serves_head_alone() {
    undisturbed(|| {
        let [one, other] = shared(&backend::shared().url()).nodes();
        let head = |node: &Sluice| node.request("HEAD", TARGET).anonymous().send().expect(200);
        head(&one).expect_no_hit();
        eventually("it is kept", || head(&one).is_hit());
        head(&other).expect_hit();
        let body = read(&other, TARGET).expect_no_hit();
        assert!(!body.body.is_empty());
        eventually("it is kept", || read(&one, TARGET).is_hit());
        assert_eq!(read(&one, TARGET).body, body.body);
    });
}

#[test]
fn without_memory_every_hit_comes_from_redis() {
    undisturbed(|| {
        let upstream = Faulty::in_front_of(&backend::shared().url());
        let setup = shared(&upstream.url());
        let [usual] = setup.nodes();
        let [bare] = setup.clone().without_memory().nodes();
        read(&bare, TARGET).expect_no_hit();
        eventually("it is kept", || read(&bare, TARGET).is_hit());
        read(&bare, TARGET).expect_hit();
        read(&usual, TARGET).expect_hit();
        assert_eq!(upstream.count(ROUTE), 1);

        let mut redis = redis::shared().client();
        let entries = redis.keys(&format!("{}:e:*", setup.namespace()));
        assert_eq!(entries.len(), 1);
        entries.iter().for_each(|key| assert_eq!(redis.command(&["DEL", key]).number(), 1));
        read(&usual, TARGET).expect_hit();
        read(&bare, TARGET).expect_no_hit();
        assert_eq!(upstream.count(ROUTE), 2);
    });
}

#[test]
fn large_bodies_are_compressed_in_redis_and_come_out_the_same() {
    undisturbed(|| {
        let upstream = Faulty::start();
        let row = |n: usize| format!(r#"{{"id":{n},"name":"user {n}","email":"user{n}@example.com"}}"#);
        let body = format!("[{}]", (0..8000).map(row).collect::<Vec<_>>().join(","));
        upstream.always(ROUTE, Answer::json(&body).header("Content-Range", "0-7999/*").act());
        let setup = shared(&upstream.url());
        let [one] = setup.nodes();
        let [usual] = setup.nodes();
        let [bare] = setup.clone().without_memory().nodes();
        read(&one, TARGET).expect_stored();
        eventually("it is kept", || read(&bare, TARGET).is_hit());

        let mut redis = redis::shared().client();
        let entries = redis.keys(&format!("{}:e:*", setup.namespace()));
        let sizes = entries.iter().map(|key| redis.command(&["STRLEN", key]).number());
        let size = usize::try_from(sizes.sum::<i64>()).unwrap();
        assert!(size > 0 && size < body.len() / 4, "{size} bytes for a body of {}", body.len());

        for node in [&one, &usual, &bare] {
            for coding in ["", "gzip", "br", "zstd", "identity"] {
                let request = node.get(TARGET).anonymous();
                let request =
                    if coding.is_empty() { request } else { request.header("Accept-Encoding", coding) };
                let answer = request.send().expect(200).expect_hit();
                assert_eq!(answer.header("content-range"), Some("0-7999/*"));
                assert!(decoded(&answer) == body.as_bytes(), "{coding}: another body");
            }
        }
        assert_eq!(upstream.count(ROUTE), 1);
    });
}

fn decoded(answer: &Response) -> Vec<u8> {
    let mut body = Vec::new();
    match answer.header("content-encoding") {
        None => body.clone_from(&answer.body),
        Some("gzip") => {
            flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut body).unwrap();
        }
        Some("br") => {
            brotli::Decompressor::new(&answer.body[..], 4096).read_to_end(&mut body).unwrap();
        }
        Some("zstd") => body = zstd::stream::decode_all(&answer.body[..]).unwrap(),
        Some(other) => panic!("nobody asked for {other}"),
    }
    body
}

#[test]
fn keys_begin_with_the_namespace_and_end_by_themselves() {
    let server = RedisServer::start(&[]);
    let read_keys = "ttl = \"1h\"\nstale_if_error = \"1h\"";
    let setup = Setup::new(&backend::shared().url()).read(read_keys).with_schema().redis(&server.url());
    let [one, other] = setup.nodes();
    let row = new_row();
    for target in [TARGET, &row, "/rest/v1/teams?select=*,members(role)"] {
        read(&one, target);
        read(&other, target);
    }
    one.request("HEAD", "/rest/v1/posts?limit=1").anonymous().send().expect(200);
    rename(&other, &row, "after");
    read(&one, &row);

    let mut redis = server.client();
    let of_kind = |keys: &std::collections::BTreeSet<String>, kind: &str| {
        let prefix = format!("{}:{kind}:", setup.namespace());
        keys.iter().filter(|key| key.starts_with(&prefix)).cloned().collect::<Vec<_>>()
    };
    let mut keys = redis.keys("*");
    eventually("everything is kept", || {
        keys = redis.keys("*");
        of_kind(&keys, "e").len() >= 4
    });
    assert!(!of_kind(&keys, "g").is_empty(), "{keys:?}");
    for key in &keys {
        assert!(key.starts_with(&format!("{}:", setup.namespace())), "{key} is somebody else's");
    }
    // Two hours are what an answer with rows may be used for; what is stamped lasts no less than it.
    let two_hours = 2 * 3_600_000;
    for key in of_kind(&keys, "e") {
        let left = redis.command(&["PTTL", &key]).number();
        assert!((1..=two_hours).contains(&left), "{key} has {left} ms left");
    }
    for key in of_kind(&keys, "g") {
        let left = redis.command(&["PTTL", &key]).number();
        assert!(left > 3_600_000, "{key} has {left} ms left");
    }
    for key in of_kind(&keys, "l").into_iter().chain(of_kind(&keys, "h")) {
        let left = redis.command(&["PTTL", &key]).number();
        // -2: gone meanwhile.
        assert!(left == -2 || (0..=1000).contains(&left), "{key} has {left} ms left");
    }
}
