use super::*;
use crate::cache::entry::EntryParts;
use crate::cache::freshness::Lifetimes;
use crate::cache::generation::Snapshot;

const NOW: Timestamp = Timestamp(1_795_341_600_000);

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(*name, HeaderValue::from_static(value));
        map
    })
}

fn entry_of(lines: &[(&'static str, &'static str)], body: &[u8], head_only: bool) -> Entry {
    let lifetimes = Lifetimes { received_at: NOW, initial_age: 1500, ..Lifetimes::default() };
    Entry::new(&EntryParts {
        status: StatusCode::OK,
        headers: &headers(lines),
        body,
        head_only,
        lifetimes,
        tags: &Snapshot::default(),
    })
    .unwrap()
}

fn rows() -> Entry {
    entry_of(&[("content-type", "application/json"), ("content-range", "0-0/*")], b"[{\"id\":1}]", false)
}

fn object() -> Entry {
    let lines = [
        ("content-type", "image/png"),
        ("etag", "\"md5\""),
        ("last-modified", "Sun, 22 Nov 2020 10:00:00 GMT"),
        ("date", "Sun, 22 Nov 2026 10:00:00 GMT"),
        ("cache-control", "max-age=3600"),
        ("accept-ranges", "bytes"),
    ];
    entry_of(&lines, b"0123456789", false)
}

fn read(entry: &Entry, head: bool, dialect: Dialect, lines: &[(&'static str, &'static str)]) -> Delivery {
    let vary = VaryNames::new(dialect, dialect == Dialect::Rest, &[], false);
    let headers = headers(lines);
    deliver(entry, None, &Reading { head, headers: &headers, dialect, vary: &vary }, Timestamp(NOW.0 + 5000))
}

#[test]
fn rows_get_the_headers_that_upstream_left_out() {
    let delivery = read(&rows(), false, Dialect::Rest, &[]);
    let value = |name: &str| delivery.headers[name].to_str().unwrap().to_owned();
    assert_eq!(delivery.status, StatusCode::OK);
    assert_eq!(&delivery.body[..], b"[{\"id\":1}]");
    assert_eq!(value("age"), "6");
    assert_eq!(value("content-length"), "10");
    assert_eq!(value("cache-control"), "private, no-cache");
    assert_eq!(value("vary"), "accept, prefer, range, range-unit, accept-profile, authorization, apikey");
    assert!(value("etag").starts_with("W/\"") && value("etag").len() == 36);
}

#[test]
fn upstreams_own_headers_stay() {
    let delivery = read(&object(), false, Dialect::Object, &[]);
    assert_eq!(delivery.headers["cache-control"], "max-age=3600");
    assert_eq!(delivery.headers["etag"], "\"md5\"");
    assert!(!delivery.headers.contains_key("vary"));
}

#[test]
fn vary_is_merged_and_names_the_encoding_of_what_may_be_compressed() {
    let lines = [("content-type", "text/csv"), ("vary", "Accept-Encoding, X-Other"), ("vary", "Accept")];
    let route = [HeaderName::from_static("x-tenant")];
    let vary = VaryNames::new(Dialect::Render, false, &route, true);
    let none = HeaderMap::new();
    let reading = Reading { head: false, headers: &none, dialect: Dialect::Render, vary: &vary };
    let large = vec![b'a'; 4096];
    let merged = deliver(&entry_of(&lines, &large, false), None, &reading, NOW);
    assert_eq!(merged.headers["vary"], "accept, x-tenant, origin, accept-encoding, x-other");
    let own = deliver(&entry_of(&lines[..1], &large, false), None, &reading, NOW);
    assert_eq!(own.headers["vary"], "accept, x-tenant, origin, accept-encoding");
    let small = deliver(&entry_of(&lines[..1], b"a", false), None, &reading, NOW);
    assert_eq!(small.headers["vary"], "accept, x-tenant, origin");
}

#[test]
fn a_client_that_has_it_gets_304() {
    let etag = read(&rows(), false, Dialect::Rest, &[]).headers["etag"].to_str().unwrap().to_owned();
    let request: &'static str = etag.leak();
    let delivery = read(&rows(), false, Dialect::Rest, &[("if-none-match", request)]);
    assert_eq!(delivery.status, StatusCode::NOT_MODIFIED);
    assert!(delivery.body.is_empty());
    let mut names: Vec<&str> = delivery.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["age", "cache-control", "content-range", "etag", "vary"]);

    let counted =
        entry_of(&[("content-type", "application/json"), ("content-range", "0-0/1")], b"[{\"id\":1}]", false);
    assert_eq!(read(&counted, false, Dialect::Rest, &[("if-none-match", request)]).status, StatusCode::OK);

    let dated =
        read(&object(), true, Dialect::Object, &[("if-modified-since", "Sun, 22 Nov 2020 10:00:00 GMT")]);
    assert_eq!(dated.status, StatusCode::NOT_MODIFIED);
}

#[test]
fn head_has_the_length_and_no_body() {
    let from_get = read(&rows(), true, Dialect::Rest, &[]);
    assert_eq!(
        (from_get.body.len(), &from_get.headers["content-length"]),
        (0, &HeaderValue::from_static("10"))
    );
    let filled_by_head = entry_of(&[("content-length", "77"), ("content-range", "0-9/10")], b"", true);
    let from_head = read(&filled_by_head, true, Dialect::Rest, &[]);
    assert_eq!(from_head.headers["content-length"], "77");
    assert!(!from_head.headers.contains_key("etag"), "a body that was not seen has no tag");
}

#[test]
fn objects_are_cut_and_rows_are_not() {
    let range = [("range", "bytes=2-4")];
    let part = read(&object(), false, Dialect::Object, &range);
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &b"234"[..]));
    assert_eq!(part.headers["content-range"], "bytes 2-4/10");
    assert_eq!(part.headers["content-length"], "3");
    let beyond = read(&object(), false, Dialect::Object, &[("range", "bytes=10-")]);
    assert_eq!((beyond.status, beyond.body.len()), (StatusCode::RANGE_NOT_SATISFIABLE, 0));
    assert_eq!(beyond.headers["content-range"], "bytes */10");
    assert_eq!(beyond.headers["content-length"], "0");
    assert_eq!(read(&object(), true, Dialect::Object, &range).status, StatusCode::OK, "HEAD has no ranges");
    assert_eq!(read(&rows(), false, Dialect::Rest, &range).status, StatusCode::OK);
    let changed = [("range", "bytes=2-4"), ("if-range", "\"other\"")];
    assert_eq!(read(&object(), false, Dialect::Object, &changed).status, StatusCode::OK);
    let known = [("range", "bytes=2-4"), ("if-none-match", "\"md5\"")];
    assert_eq!(read(&object(), false, Dialect::Object, &known).status, StatusCode::NOT_MODIFIED);
}

#[test]
fn a_compressed_body_weakens_the_tag() {
    let vary = VaryNames::new(Dialect::Object, false, &[], false);
    let none = HeaderMap::new();
    let reading = Reading { head: false, headers: &none, dialect: Dialect::Object, vary: &vary };
    let delivery = deliver(&object(), Some((Coding::Gzip, Bytes::from_static(b"zz"))), &reading, NOW);
    assert_eq!(delivery.headers["etag"], "W/\"md5\"");
    assert_eq!(delivery.headers["content-encoding"], "gzip");
    assert_eq!(delivery.headers["content-length"], "2");
    assert!(!delivery.headers.contains_key("accept-ranges"));
    assert_eq!(&delivery.body[..], b"zz");
}
