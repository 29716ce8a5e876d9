use super::*;
use crate::cache::entry::EntryParts;
use crate::cache::generation::Snapshot;
use http::HeaderValue;

type Lines = &'static [(&'static str, &'static str)];

const SECOND: u64 = 1000;
/// Sun, 22 Nov 2026 10:00:00 GMT
const NOW: Timestamp = Timestamp(1_795_341_600_000);

const DATE_LINE: (&str, &str) = ("date", "Sun, 22 Nov 2026 10:00:00 GMT");
const TAG_LINE: (&str, &str) = ("etag", "\"a\"");

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(*name, HeaderValue::try_from(*value).unwrap());
        map
    })
}

fn answer(headers: &HeaderMap) -> Answer<'_> {
    Answer {
        status: StatusCode::OK,
        headers,
        requested_at: NOW,
        received_at: NOW,
        authorized: false,
        one_user: false,
    }
}

fn route() -> Policy {
    Policy { ttl: Duration::from_secs(300), empty_ttl: Duration::from_secs(2), ..Policy::default() }
}

fn origin() -> Policy {
    Policy { origin: true, ..route() }
}

/// Seconds of freshness left at receipt.
fn fresh_for(policy: &Policy, lines: &[(&'static str, &str)]) -> Result<i64, NotStored> {
    judge(policy, &answer(&headers(lines))).map(|lifetimes| lifetimes.ttl(NOW) / 1000)
}

#[test]
fn origin_freshness() {
    let cases: &[(Lines, Result<i64, NotStored>)] = &[
        (&[], Ok(300)),
        (&[("cache-control", "max-age=60")], Ok(60)),
        (&[("cache-control", "max-age=60, s-maxage=30")], Ok(30)),
        (&[("cache-control", "s-maxage=0, max-age=60"), TAG_LINE], Ok(0)),
        (&[("cache-control", "max-age=0")], Err(NotStored::NoLifetime)),
        (&[("cache-control", "max-age=0"), TAG_LINE], Ok(0)),
        (&[("cache-control", "max-age=0"), ("last-modified", "x")], Ok(0)),
        (&[("cache-control", "max-age=0, stale-while-revalidate=9")], Ok(0)),
        (&[("cache-control", "max-age=x")], Err(NotStored::NoLifetime)),
        (&[("cache-control", "no-cache")], Err(NotStored::NoLifetime)),
        (&[("cache-control", "no-cache, max-age=60"), TAG_LINE], Ok(0)),
        (&[("cache-control", "no-cache=\"x\", max-age=60"), TAG_LINE], Ok(0)),
        (&[("cache-control", "no-store, max-age=60")], Err(NotStored::NoStore)),
        (&[("cache-control", "must-understand, no-store, max-age=60")], Ok(60)),
        (&[("cache-control", "private, max-age=60")], Err(NotStored::Private)),
        (&[("cache-control", "private=\"x\", max-age=60")], Err(NotStored::Private)),
        (&[DATE_LINE, ("expires", "Sun, 22 Nov 2026 10:00:40 GMT")], Ok(40)),
        (&[("expires", "Sun, 22 Nov 2026 10:00:40 GMT")], Ok(40)),
        (&[DATE_LINE, ("expires", "Sun, 22 Nov 2026 10:00:40 GMT"), ("cache-control", "max-age=60")], Ok(60)),
        (&[("date", "Sun, 22 Nov 2026 09:59:30 GMT"), ("expires", "Sun, 22 Nov 2026 10:00:40 GMT")], Ok(40)),
        (&[DATE_LINE, ("expires", "Sun, 22 Nov 2026 09:00:00 GMT")], Err(NotStored::NoLifetime)),
        (&[DATE_LINE, ("expires", "0")], Err(NotStored::NoLifetime)),
        (
            &[
                DATE_LINE,
                ("expires", "Sun, 22 Nov 2026 10:00:40 GMT"),
                ("expires", "Sun, 22 Nov 2026 11:00:40 GMT"),
            ],
            Err(NotStored::NoLifetime),
        ),
        (&[("age", "20"), ("cache-control", "max-age=60")], Ok(40)),
        (&[("age", "20, 50"), ("cache-control", "max-age=60")], Ok(40)),
        (&[("age", "-1"), ("cache-control", "max-age=60")], Ok(60)),
        (&[("age", "x"), ("cache-control", "max-age=60")], Ok(60)),
        (&[("age", "99999999999999999999"), ("cache-control", "max-age=60")], Err(NotStored::NoLifetime)),
        (&[("date", "Sun, 22 Nov 2026 09:59:30 GMT"), ("cache-control", "max-age=60")], Ok(30)),
        (&[("date", "Sun, 22 Nov 2026 10:05:00 GMT"), ("cache-control", "max-age=60")], Ok(60)),
        (&[("last-modified", "Sun, 22 Nov 2020 10:00:00 GMT")], Ok(300)),
        (&[("vary", "Accept, *"), ("cache-control", "max-age=60")], Err(NotStored::Vary)),
        (&[("vary", "Origin, X-Unseen"), ("cache-control", "max-age=60")], Ok(60)),
        (&[("pragma", "no-cache"), ("cache-control", "max-age=60")], Ok(60)),
        (&[("cache-control", "max-age=60"), ("set-cookie", "a=b")], Err(NotStored::SetCookie)),
        (&[("cache-control", "max-age=60"), ("set-cookie", "__cf_bm=b")], Ok(60)),
    ];
    for (lines, expected) in cases {
        // 30 s of apparent age count against what upstream states, hence 40 of 70 above.
        assert_eq!(fresh_for(&origin(), lines), *expected, "{lines:?}");
    }
}

#[test]
fn the_time_upstream_took_is_age() {
    let headers = headers(&[("cache-control", "max-age=60"), ("age", "5")]);
    let slow = Answer { requested_at: Timestamp(NOW.0 - 3 * SECOND), ..answer(&headers) };
    let lifetimes = judge(&origin(), &slow).unwrap();
    assert_eq!((lifetimes.age(NOW), lifetimes.ttl(NOW)), (8000, 52_000));
    assert_eq!(lifetimes.ttl(Timestamp(NOW.0 + 60 * SECOND)), -8000);
    assert_eq!(lifetimes.ttl(Timestamp(0)), 52_000, "the clock was set back");
}

#[test]
fn no_ttl_means_not_stored_where_upstream_says_nothing() {
    for origin in [true, false] {
        let policy =
            Policy { ttl: Duration::ZERO, stale_if_error: Duration::from_secs(9), origin, ..route() };
        assert_eq!(fresh_for(&policy, &[("etag", "\"a\"")]), Err(NotStored::NoLifetime));
    }
}

#[test]
fn the_route_overrides_lifetimes_and_not_prohibitions() {
    let cases: &[(Lines, Result<i64, NotStored>)] = &[
        (&[("cache-control", "max-age=1")], Ok(300)),
        (&[("cache-control", "no-cache")], Ok(300)),
        (&[("age", "9999")], Ok(300)),
        (&[("cache-control", "no-store")], Err(NotStored::NoStore)),
        (&[("cache-control", "must-understand, no-store")], Err(NotStored::NoStore)),
        (&[("cache-control", "private")], Err(NotStored::Private)),
        (&[("set-cookie", "a=b")], Err(NotStored::SetCookie)),
        (&[("vary", "*")], Err(NotStored::Vary)),
    ];
    for (lines, expected) in cases {
        assert_eq!(fresh_for(&route(), lines), *expected, "{lines:?}");
    }
}

#[test]
fn statuses() {
    let judge_status = |status: u16, range: Option<&str>| {
        let lines: Vec<_> = range.map(|range| ("content-range", range)).into_iter().collect();
        let headers = headers(&lines);
        let status = StatusCode::from_u16(status).unwrap();
        judge(&route(), &Answer { status, ..answer(&headers) }).err()
    };
    assert_eq!(judge_status(200, None), None);
    assert_eq!(judge_status(206, Some("0-4/10")), None);
    assert_eq!(judge_status(206, Some("*/0")), None);
    assert_eq!(judge_status(206, Some("bytes 0-4/10")), Some(NotStored::Partial));
    assert_eq!(judge_status(206, None), Some(NotStored::Partial));
    for status in [201, 204, 301, 304, 400, 401, 404, 406, 410, 500, 503] {
        assert_eq!(judge_status(status, None), Some(NotStored::Status), "{status}");
    }
}

#[test]
fn private_is_for_one_users_partition() {
    let headers = headers(&[("cache-control", "private, max-age=60")]);
    for policy in [route(), origin()] {
        assert!(judge(&policy, &Answer { one_user: true, ..answer(&headers) }).is_ok());
    }
}

#[test]
fn answers_to_authorized_requests_are_shared_only_if_upstream_says_so() {
    let judge_line = |line: &str, one_user| {
        let headers = headers(&[("cache-control", line)]);
        judge(&origin(), &Answer { authorized: true, one_user, ..answer(&headers) }).err()
    };
    assert_eq!(judge_line("max-age=60", false), Some(NotStored::Authorization));
    for line in ["max-age=60, public", "s-maxage=60", "max-age=60, must-revalidate", "x"] {
        assert_eq!(judge_line(line, false), None, "{line}");
    }
    assert_eq!(judge_line("max-age=60", true), None);
}

#[test]
fn empty_answers_live_shortly() {
    let policy = Policy { stale_while_revalidate: Duration::from_secs(9), ..route() };
    for (range, seconds, empty) in
        [("*/0", 2, true), ("*/*", 2, true), ("0-0/*", 300, false), ("0-4/10", 300, false)]
    {
        let headers = headers(&[("content-range", range)]);
        let lifetimes = judge(&policy, &answer(&headers)).unwrap();
        assert_eq!((lifetimes.ttl(NOW), lifetimes.empty), (seconds * 1000, empty), "{range}");
        assert_eq!(lifetimes.stale_while_revalidate == 0, empty);
    }
    let brief = Policy { ttl: Duration::from_secs(1), ..route() };
    assert_eq!(fresh_for(&brief, &[("content-range", "*/0")]), Ok(1), "never above ttl");
    let never = Policy { empty_ttl: Duration::ZERO, ..route() };
    assert_eq!(fresh_for(&never, &[("content-range", "*/0")]), Err(NotStored::NoLifetime));
}

fn windows(line: &str) -> (u64, u64, Reuse) {
    let second = Duration::from_secs(1);
    let policy = Policy { stale_while_revalidate: second, stale_if_error: 2 * second, ..origin() };
    let headers = headers(&[("cache-control", line), ("etag", "\"a\"")]);
    let lifetimes = judge(&policy, &answer(&headers)).unwrap();
    (lifetimes.stale_while_revalidate / 1000, lifetimes.stale_if_error / 1000, lifetimes.reuse)
}

#[test]
fn who_may_open_a_stale_window() {
    use Reuse::{Free, MustRevalidate, NoCache};
    assert_eq!(windows("max-age=60"), (1, 2, Free));
    assert_eq!(windows("max-age=60, stale-while-revalidate=30"), (30, 2, Free));
    assert_eq!(windows("max-age=60, stale-if-error=0"), (1, 0, Free));
    assert_eq!(windows("s-maxage=60"), (0, 0, MustRevalidate));
    assert_eq!(windows("s-maxage=60, stale-while-revalidate=30"), (30, 0, MustRevalidate));
    assert_eq!(windows("max-age=60, must-revalidate, stale-if-error=30"), (0, 0, MustRevalidate));
    assert_eq!(windows("max-age=60, proxy-revalidate"), (0, 0, MustRevalidate));
    assert_eq!(windows("no-cache, stale-while-revalidate=30"), (0, 0, NoCache));
}

fn entry(swr: u64, sie: u64, reuse: Reuse) -> Entry {
    let lifetimes = Lifetimes {
        received_at: NOW,
        initial_age: 0,
        lifetime: if reuse == Reuse::NoCache { 0 } else { 10 * SECOND },
        stale_while_revalidate: swr * SECOND,
        stale_if_error: sie * SECOND,
        empty: false,
        reuse,
    };
    Entry::new(&EntryParts {
        status: StatusCode::OK,
        headers: &HeaderMap::new(),
        body: b"[]",
        head_only: false,
        lifetimes,
        tags: &Snapshot::default(),
    })
    .unwrap()
}

#[test]
fn standing_by_age() {
    let windowed = entry(5, 20, Reuse::Free);
    let at = |seconds: u64| standing(&windowed, None, Timestamp(NOW.0 + seconds * SECOND));
    let stale = |ttl, while_revalidating, if_error| Standing::Stale { ttl, while_revalidating, if_error };
    assert_eq!(at(0), Standing::Fresh { ttl: 10_000 });
    assert_eq!(at(9), Standing::Fresh { ttl: 1000 });
    assert_eq!(at(10), stale(0, true, true));
    assert_eq!(at(14), stale(-4000, true, true));
    assert_eq!(at(15), stale(-5000, false, true));
    assert_eq!(at(30), stale(-20_000, false, false));
    let unconfirmed = entry(0, 0, Reuse::NoCache);
    assert_eq!(standing(&unconfirmed, None, NOW), stale(0, false, false));
    let bare = entry(0, 0, Reuse::Free);
    assert_eq!(standing(&bare, None, Timestamp(NOW.0 + 10 * SECOND)), stale(0, false, false));
}

#[test]
fn standing_as_the_client_asks() {
    let (free, strict) = (entry(5, 20, Reuse::Free), entry(0, 0, Reuse::MustRevalidate));
    let at = |entry: &Entry, line: &str, seconds: u64| {
        let request = RequestDirectives::of(&headers(&[("cache-control", line)]));
        standing(entry, Some(&request), Timestamp(NOW.0 + seconds * SECOND))
    };
    let stale = |ttl, while_revalidating, if_error| Standing::Stale { ttl, while_revalidating, if_error };
    assert_eq!(at(&free, "x", 0), Standing::Fresh { ttl: 10_000 });
    assert_eq!(at(&free, "no-cache", 0), stale(10_000, false, false));
    assert_eq!(at(&free, "no-store", 0), stale(10_000, false, false));
    assert_eq!(at(&free, "max-age=5", 5), Standing::Fresh { ttl: 5000 });
    assert_eq!(at(&free, "max-age=5", 6), stale(4000, false, true));
    assert_eq!(at(&free, "min-fresh=4", 6), Standing::Fresh { ttl: 4000 });
    assert_eq!(at(&free, "min-fresh=5", 6), stale(4000, false, true));
    assert_eq!(at(&free, "max-stale=50", 60), Standing::Fresh { ttl: -50_000 });
    assert_eq!(at(&free, "max-stale=49", 60), stale(-50_000, false, false));
    assert_eq!(at(&free, "max-stale", 60), Standing::Fresh { ttl: -50_000 });
    assert_eq!(at(&strict, "max-stale", 60), stale(-50_000, false, false));
}

#[test]
fn plans_are_recognised() {
    for (accept, plan) in [
        ("application/vnd.pgrst.plan+json", true),
        ("text/csv, Application/Vnd.Pgrst.Plan; for=\"x\"", true),
        ("application/vnd.pgrst.object+json", false),
    ] {
        assert_eq!(asks_for_plan(&headers(&[("accept", accept)])), plan, "{accept}");
    }
}
