use super::*;
use http::{HeaderMap, HeaderName, HeaderValue};

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

/// An answer as the client sees it.
#[derive(Default)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl HeadWriter for Answer {
    fn status(&mut self, status: StatusCode) {
        self.status = status;
    }

    fn field(&mut self, name: &'static str, value: &[u8]) {
        self.headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }

    fn line(&mut self, line: Line<'_>) {
        let name = HeaderName::from_bytes(line.name()).unwrap();
        self.headers.append(name, HeaderValue::from_bytes(line.value()).unwrap());
    }
}

fn delivered(
    entry: &Entry,
    encoded: Option<(Coding, Bytes)>,
    head: bool,
    dialect: Dialect,
    vary: &VaryNames,
    lines: &[(&'static str, &'static str)],
) -> Answer {
    let headers = headers(lines);
    let conditions = Conditions::of(&headers);
    let grant = Grant { allow_origin: Some(b"*") };
    let reading =
        Reading { head, conditions: &conditions, dialect, vary, grant, status: CacheStatus::hit(5000) };
    let mut answer = Answer::default();
    let delivery = deliver(entry, encoded, &reading, Timestamp(NOW.0 + 5000), &mut answer);
    assert_eq!(delivery.status, answer.status);
    answer.body = delivery.body.bytes(entry).to_vec();
    assert_eq!(delivery.body.shared(entry), answer.body);
    answer
}

fn read(entry: &Entry, head: bool, dialect: Dialect, lines: &[(&'static str, &'static str)]) -> Answer {
    let vary = VaryNames::new(dialect, dialect == Dialect::Rest, &[], false);
    delivered(entry, None, head, dialect, &vary, lines)
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
    let vary_of = |entry: &Entry| {
        let answer = delivered(entry, None, false, Dialect::Render, &vary, &[]);
        assert_eq!(answer.headers.get_all("vary").iter().count(), 1);
        answer.headers["vary"].to_str().unwrap().to_owned()
    };
    let large = vec![b'a'; 4096];
    let merged = vary_of(&entry_of(&lines, &large, false));
    assert_eq!(merged, "accept, x-tenant, origin, accept-encoding, x-other");
    let own = vary_of(&entry_of(&lines[..1], &large, false));
    assert_eq!(own, "accept, x-tenant, origin, accept-encoding");
    let small = vary_of(&entry_of(&lines[..1], b"a", false));
    assert_eq!(small, "accept, x-tenant, origin");
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
    let cors = ["access-control-allow-origin", "access-control-expose-headers"];
    let others = ["age", "cache-control", "cache-status", "content-range", "etag", "vary"];
    assert_eq!(names, [&cors[..], &others[..]].concat());

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
    let encoded = Some((Coding::Gzip, Bytes::from_static(b"zz")));
    let delivery = delivered(&object(), encoded, false, Dialect::Object, &vary, &[]);
    assert_eq!(delivery.headers["etag"], "W/\"md5\"");
    assert_eq!(delivery.headers["content-encoding"], "gzip");
    assert_eq!(delivery.headers["content-length"], "2");
    assert!(!delivery.headers.contains_key("accept-ranges"));
    assert_eq!(&delivery.body[..], b"zz");
}

#[test]
fn upstreams_lists_are_merged_and_its_own_members_stay() {
    let lines = [("access-control-expose-headers", "X-Total"), ("cache-status", "edge; hit")];
    let answer = read(&entry_of(&lines, b"[]", false), false, Dialect::Rest, &[]);
    let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.starts_with("X-Total, Age, "), "{exposed}");
    let statuses: Vec<_> = answer.headers.get_all("cache-status").iter().collect();
    assert_eq!(statuses, ["edge; hit", "sluice; hit; ttl=5"]);
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
}
