use std::mem::MaybeUninit;

use http::header::{ACCEPT_LANGUAGE, IF_NONE_MATCH};

use super::*;
use crate::proxy::head::{HeadLimits, MAX_HEADERS, parse};

const LIMITS: HeadLimits = HeadLimits { max_bytes: 16 * 1024, max_headers: 64 };

fn speller() -> Speller {
    Speller::new([7; 16], [])
}

/// What is read of a head, if it is the front's: spelling, HEAD, `Origin`.
fn read_by(speller: &Speller, head: &str) -> Option<(Spelling, bool, Option<String>)> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let head = parse(head.as_bytes(), &mut fields, LIMITS).unwrap().unwrap();
    let asked = speller.read(&head)?;
    let origin = asked.origin.map(|origin| String::from_utf8(origin.to_vec()).unwrap());
    Some((asked.spelling, asked.head, origin))
}

fn read(line: &str, fields: &[&str]) -> Option<(Spelling, bool, Option<String>)> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    read_by(&speller(), &format!("{line}\r\nHost: h\r\n{fields}\r\n"))
}

fn spelling(line: &str, fields: &[&str]) -> Spelling {
    read(line, fields).expect("a head that is the front's").0
}

const GET: &str = "GET /rest/v1/users?id=eq.1 HTTP/1.1";

#[test]
fn what_could_matter_tells_heads_apart() {
    let base = spelling(GET, &["Authorization: Bearer a", "Accept: application/json"]);
    let others = [
        spelling(
            "HEAD /rest/v1/users?id=eq.1 HTTP/1.1",
            &["Authorization: Bearer a", "Accept: application/json"],
        ),
        spelling(
            "GET /rest/v1/users?id=eq.2 HTTP/1.1",
            &["Authorization: Bearer a", "Accept: application/json"],
        ),
        spelling(GET, &["Authorization: Bearer b", "Accept: application/json"]),
        spelling(GET, &["Authorization: Bearer a", "Accept: text/csv"]),
        spelling(GET, &["Authorization: Bearer a"]),
        spelling(GET, &["Authorization: Bearer a", "Accept: application/json", "X-Tenant: 1"]),
        spelling(GET, &["Authorization: Bearer a", "Accept: application/json", "Prefer: count=exact"]),
        spelling(GET, &["Authorization: Bearer a", "Accept: application/json", "Accept-Encoding: gzip"]),
        spelling(GET, &["Authorization: Bearer a", "Accept: application/json", "Cache-Control: no-cache"]),
        spelling(GET, &["Authorization: Bearer a", "Accept: application/json", "Range: 0-9"]),
        spelling(GET, &["Authorization: Bearer a", "Accept: application/json", "Content-Length: 0"]),
        spelling(GET, &["apikey: Bearer a", "Accept: application/json"]),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(*other, base, "{index}");
        assert_eq!(others.iter().filter(|same| *same == other).count(), 1, "{index}");
    }
}

#[test]
fn what_makes_no_difference_takes_no_part() {
    let base = spelling(GET, &["apikey: k", "Accept: */*"]);
    for noise in [
        &["Traceparent: 00-1-2-01", "apikey: k", "Accept: */*"][..],
        &["apikey: k", "User-Agent: a", "Accept: */*"],
        &["apikey: k", "Accept: */*", "X-Request-Id: 1", "sec-ch-ua: \"x\""],
        &["apikey: k", "X-CLIENT-INFO: supabase-js/2", "Accept: */*", "If-None-Match: \"a\""],
        &["apikey: k", "Origin: https://a.example", "Accept: */*", "Connection: Keep-Alive"],
    ] {
        assert_eq!(spelling(GET, noise), base, "{noise:?}");
    }
    assert_eq!(read(GET, &["Origin: https://a.example"]).unwrap().2.as_deref(), Some("https://a.example"));
    // What stands between two fields that matter doesn't join them.
    assert_ne!(spelling(GET, &["a: 1", "User-Agent: x", "b: 2"]), spelling(GET, &["b: 2", "a: 1"]));
}

#[test]
fn a_header_that_a_route_varies_by_matters() {
    let speller = Speller::new([7; 16], [ACCEPT_LANGUAGE, ACCEPT_LANGUAGE, IF_NONE_MATCH]);
    let with = |field: &str| read_by(&speller, &format!("{GET}\r\nHost: h\r\n{field}\r\n\r\n"));
    assert_ne!(with("Accept-Language: de").unwrap().0, with("Accept-Language: en").unwrap().0);
    assert!(with("If-None-Match: \"a\"").is_none());
    assert_eq!(with("User-Agent: a").unwrap().0, with("User-Agent: b").unwrap().0);
}

#[test]
fn other_requests_are_the_proxys() {
    for (line, fields) in [
        ("POST /rest/v1/rpc/f HTTP/1.1", &[][..]),
        ("OPTIONS /a HTTP/1.1", &[]),
        ("GET /a HTTP/1.0", &[]),
        (GET, &["Content-Length: 3"]),
        (GET, &["Transfer-Encoding: chunked"]),
        (GET, &["Connection: close"]),
        (GET, &["Connection: keep-alive, x-none"]),
        (GET, &["Connection: keep-alive", "Connection: keep-alive"]),
        (GET, &["Upgrade: h2c"]),
        (GET, &["Upgrade: websocket", "Connection: upgrade"]),
        (GET, &["Sluice-Debug: token"]),
    ] {
        assert!(read(line, fields).is_none(), "{line} {fields:?}");
    }
}

#[test]
fn the_key_is_part_of_it() {
    let head = format!("{GET}\r\nHost: h\r\n\r\n");
    let other = Speller::new([8; 16], []);
    assert_ne!(read_by(&speller(), &head).unwrap().0, read_by(&other, &head).unwrap().0);
}
