//! Content codings between upstream and the cache.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::faulty::{Answer, Faulty};
use crate::support::sluice::{Setup, Sluice};

const TARGET: &str = "/rest/v1/users?select=name";

fn gzip(plain: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn compressed(plain: &str) -> Answer {
    Answer::new(200, gzip(plain))
        .header("Content-Type", "application/json; charset=utf-8")
        .header("Content-Encoding", "gzip")
        .header("ETag", "\"strong\"")
}

fn in_front(routes: &str) -> (Faulty, Sluice) {
    let upstream = Faulty::start();
    let sluice = Setup::new(&upstream.url()).routes(routes).start();
    (upstream, sluice)
}

/// What the last fill said it takes.
fn asked(upstream: &Faulty) -> Option<String> {
    upstream.requests(TARGET).last()?.header("accept-encoding").map(str::to_owned)
}

fn route(max_body: &str) -> String {
    format!(
        "[[route]]\nname = \"rest\"\ntable = \"*\"\n[route.read]\nttl = \"1h\"\nmax_body = \"{max_body}\"\n"
    )
}

#[test]
fn a_compressed_fill_is_stored_plain_for_everybody() {
    let (upstream, sluice) = in_front(&route("1MiB"));
    let plain = "[{\"name\":\"somebody\"}]".repeat(40);
    upstream.always(TARGET, compressed(&plain).act());
    let miss = sluice.get(TARGET).anonymous().header("Accept-Encoding", "gzip").send().expect_stored();
    assert_eq!(asked(&upstream).as_deref(), Some("gzip"));
    assert_eq!(miss.header("etag"), Some("W/\"strong\""));
    let hit = sluice.get(TARGET).anonymous().send().expect_hit();
    assert_eq!(hit.header("content-encoding"), None);
    assert_eq!(hit.text(), plain);
}

#[test]
fn upstream_is_asked_for_what_the_client_takes() {
    let (upstream, sluice) = in_front(&route("1MiB"));
    upstream.always(TARGET, Answer::json("[]").act());
    sluice.get(TARGET).anonymous().send().expect_stored();
    assert_eq!(asked(&upstream).as_deref(), Some("identity"));
}

#[test]
fn a_coding_that_not_everybody_takes_is_not_stored() {
    let (upstream, sluice) = in_front(&route("1MiB"));
    let answer = Answer::json("not really").header("Content-Encoding", "br");
    upstream.always(TARGET, answer.act());
    for _ in 0..2 {
        let answer = sluice.get(TARGET).anonymous().send().expect_no_hit();
        assert_eq!(answer.header("content-encoding"), Some("br"));
    }
}

#[test]
fn what_becomes_too_large_goes_out_as_it_came() {
    let (upstream, sluice) = in_front(&route("1KiB"));
    let plain = "[{\"name\":\"somebody\"}]".repeat(1000);
    upstream.always(TARGET, compressed(&plain).act());
    for _ in 0..2 {
        let answer = sluice.get(TARGET).anonymous().header("Accept-Encoding", "gzip").send().expect_no_hit();
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(answer.body, gzip(&plain));
    }
}
