use super::*;
use http::HeaderValue;

fn lines(lines: &[&str]) -> HeaderMap {
    lines.iter().fold(HeaderMap::new(), |mut map, line| {
        map.append(CACHE_CONTROL, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        map
    })
}

#[test]
fn numbers() {
    let cases: &[(&[&str], Option<u64>)] = &[
        (&[""], None),
        (&["max-age=60"], Some(60)),
        (&["Max-Age=60"], Some(60)),
        (&["max-age=\"60\""], Some(60)),
        (&["max-age=0060"], Some(60)),
        (&["public,, ,max-age=60 "], Some(60)),
        (&["a=b", "max-age=60"], Some(60)),
        (&["max-age=60, max-age=60"], Some(60)),
        (&["max-age=60, max-age=61"], Some(0)),
        (&["max-age=60", "max-age=0"], Some(0)),
        (&["max-age"], Some(0)),
        (&["max-age="], Some(0)),
        (&["max-age=-1"], Some(0)),
        (&["max-age=+1"], Some(0)),
        (&["max-age=1.5"], Some(0)),
        (&["max-age=1s"], Some(0)),
        (&["max-age='60'"], Some(0)),
        (&["max-age =60"], Some(0)),
        (&["max-age= 60"], Some(0)),
        (&["max-age=\"60"], Some(0)),
        (&["max-age=2147483649"], Some(1 << 31)),
        (&["max-age=99999999999999999999999"], Some(1 << 31)),
        (&["x=\"max-age=60\""], None),
        (&["x=\"a, max-age=60\""], None),
        (&["x=\"a\\\", max-age=60\""], None),
        (&["xmax-age=60"], None),
    ];
    for (sent, expected) in cases {
        assert_eq!(ResponseDirectives::of(&lines(sent)).max_age, *expected, "{sent:?}");
    }
}

#[test]
fn restrictions_are_found_wherever_they_stand() {
    for line in [
        "no-store",
        "NO-STORE",
        "no-store=x",
        "max-age=5,no-store",
        "x=\"a\", no-store",
        "private=\"a, no-store",
        "\"\", no-store",
    ] {
        assert!(ResponseDirectives::of(&lines(&[line])).no_store, "{line}");
    }
    let all = ResponseDirectives::of(&lines(&[
        "no-cache=\"set-cookie\", private=\"x-a, x-b\", public, must-revalidate, proxy-revalidate",
        "must-understand, no-transform, s-maxage=1, stale-while-revalidate=2, stale-if-error=3",
    ]));
    assert_eq!(
        all,
        ResponseDirectives {
            no_store: false,
            no_cache: true,
            private: true,
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            no_transform: true,
            max_age: None,
            s_maxage: Some(1),
            stale_while_revalidate: Some(2),
            stale_if_error: Some(3),
        }
    );
}

#[test]
fn requests() {
    let of = |line| RequestDirectives::of(&lines(&[line]));
    assert!(of("no-cache").no_cache && of("no-store").no_store && of("only-if-cached").only_if_cached);
    assert_eq!(of("max-age=0").max_age, Some(0));
    assert_eq!(of("max-stale").max_stale, Some(1 << 31));
    assert_eq!(of("max-stale=5").max_stale, Some(5));
    assert_eq!(of("max-stale=x").max_stale, Some(0));
    assert_eq!(of("min-fresh=5").min_fresh, Some(5));
    assert_eq!(of("min-fresh=x").min_fresh, Some(1 << 31));
}

#[test]
fn pragma_counts_without_cache_control_alone() {
    let mut headers = HeaderMap::new();
    headers.insert(PRAGMA, HeaderValue::from_static("x, No-Cache"));
    assert!(RequestDirectives::of(&headers).no_cache);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
    assert!(!RequestDirectives::of(&headers).no_cache);
}

#[test]
fn a_line_that_is_not_ascii_still_restricts() {
    assert!(ResponseDirectives::of(&lines(&["\u{e9}, no-store"])).no_store);
}
