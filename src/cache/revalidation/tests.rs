use super::*;
use crate::cache::Timestamp;
use crate::cache::generation::Snapshot;
use http::StatusCode;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_795_341_600_000);

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(*name, HeaderValue::from_static(value));
        map
    })
}

fn answer(status: StatusCode, headers: &HeaderMap) -> Answer<'_> {
    Answer { status, headers, requested_at: NOW, received_at: NOW, authorized: false, one_user: false }
}

fn policy() -> Policy {
    Policy { ttl: Duration::from_secs(10), origin: true, ..Policy::default() }
}

fn entry(lines: &[(&'static str, &'static str)]) -> Entry {
    let headers = headers(lines);
    let earlier = Timestamp(NOW.0 - 100_000);
    let lifetimes = judge(
        &policy(),
        &Answer { requested_at: earlier, received_at: earlier, ..answer(StatusCode::OK, &headers) },
    )
    .unwrap();
    Entry::new(&EntryParts {
        status: StatusCode::OK,
        headers: &headers,
        body: b"body",
        head_only: false,
        lifetimes,
        tags: &Snapshot::default(),
    })
    .unwrap()
}

#[test]
fn a_tag_is_sent_rather_than_a_date() {
    let both = entry(&[("etag", "\"a\""), ("last-modified", "Sun, 22 Nov 2020 10:00:00 GMT")]);
    assert_eq!(condition(&both).unwrap(), (IF_NONE_MATCH, HeaderValue::from_static("\"a\"")));
    let dated = entry(&[("last-modified", "Sun, 22 Nov 2020 10:00:00 GMT")]);
    assert_eq!(condition(&dated).unwrap().0, IF_MODIFIED_SINCE);
    assert_eq!(condition(&entry(&[])), None, "a tag that was made here is unknown upstream");
}

#[test]
fn a_304_freshens_headers_and_not_what_describes_the_body() {
    let stored = entry(&[
        ("etag", "\"a\""),
        ("cache-control", "no-cache"),
        ("content-type", "image/png"),
        ("x-old", "1"),
    ]);
    let sent = headers(&[
        ("etag", "\"a\""),
        ("cache-control", "max-age=60"),
        ("content-length", "0"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("x-request-id", "1"),
        ("date", "Sun, 22 Nov 2026 10:00:00 GMT"),
    ]);
    let fresh = freshen(&stored, &policy(), &answer(StatusCode::NOT_MODIFIED, &sent)).unwrap();
    let value = |name: &'static str| {
        fresh.header(&HeaderName::from_static(name)).map(|value| std::str::from_utf8(value).unwrap())
    };
    assert_eq!(fresh.status(), StatusCode::OK);
    assert_eq!(fresh.body(), b"body");
    assert_eq!(fresh.lifetimes().ttl(NOW), 60_000);
    assert_eq!(value("cache-control").unwrap(), "max-age=60");
    assert_eq!(value("content-type").unwrap(), "image/png");
    assert_eq!(value("x-old").unwrap(), "1");
    assert_eq!(
        (value("content-length"), value("content-encoding"), value("x-request-id")),
        (None, None, None)
    );
}

#[test]
fn a_304_about_another_representation_is_no_use() {
    let stored = entry(&[("etag", "\"a\"")]);
    for (tag, expected) in [("\"b\"", Some(NotStored::Mismatch)), ("W/\"a\"", None)] {
        let sent = headers(&[("etag", tag)]);
        assert_eq!(freshen(&stored, &policy(), &answer(StatusCode::NOT_MODIFIED, &sent)).err(), expected);
    }
    let forbidding = headers(&[("cache-control", "no-store")]);
    let freshened = freshen(&stored, &policy(), &answer(StatusCode::NOT_MODIFIED, &forbidding));
    assert_eq!(freshened.err(), Some(NotStored::NoStore));
}

#[test]
fn heads_confirm_contradict_or_say_nothing() {
    let stored = entry(&[("etag", "\"a\""), ("content-type", "image/png")]);
    let head = |lines: &[(&'static str, &'static str)]| {
        compare_head(&stored, &policy(), &answer(StatusCode::OK, &headers(lines)))
    };
    assert!(matches!(head(&[("etag", "\"a\""), ("content-length", "4")]), HeadAnswer::Confirms(_)));
    assert_eq!(head(&[("etag", "\"b\""), ("content-length", "4")]), HeadAnswer::Contradicts);
    assert_eq!(head(&[("etag", "\"a\""), ("content-length", "5")]), HeadAnswer::Contradicts);
    assert_eq!(head(&[("content-length", "4"), ("content-type", "image/png")]), HeadAnswer::Silent);
    assert_eq!(head(&[]), HeadAnswer::Silent);
}
