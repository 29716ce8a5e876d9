use super::*;
use http::HeaderValue;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(*name, HeaderValue::from_static(value));
        map
    })
}

const MODIFIED: &str = "Sun, 22 Nov 2026 10:00:00 GMT";
const DATE: &str = "Sun, 22 Nov 2026 10:01:40 GMT";

fn tagged(etag: &str) -> Validators<'_> {
    Validators { etag: Some(etag.as_bytes()), ..Validators::default() }
}

#[test]
fn tags_are_compared_weakly_in_lists() {
    let cases = [
        ("\"a\"", "\"a\"", true),
        ("W/\"a\"", "\"a\"", true),
        ("\"a\"", "W/\"a\"", true),
        ("\"b\", W/\"a\" , \"c\"", "\"a\"", true),
        ("\"b,\", \"a,b\"", "\"a,b\"", true),
        ("*", "\"a\"", true),
        (" * ", "\"a\"", true),
        ("\"b\"", "\"a\"", false),
        ("\"A\"", "\"a\"", false),
        ("a", "\"a\"", false),
        ("w/\"a\"", "\"a\"", false),
        ("\"a", "\"a\"", false),
        ("", "\"a\"", false),
        ("\"x\\\", \"a\"", "\"a\"", true),
    ];
    for (list, own, matches) in cases {
        let request = headers(&[("if-none-match", list)]);
        assert_eq!(Conditions::of(&request).is_not_modified(&tagged(own)), matches, "{list} {own:?}");
    }
    let two = headers(&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")]);
    assert!(Conditions::of(&two).is_not_modified(&tagged("\"a\"")));
    assert!(!Conditions::of(&two).is_not_modified(&Validators::default()));
}

#[test]
fn dates_count_where_no_tag_is_sent() {
    let cases = [
        ("Sun, 22 Nov 2026 10:00:00 GMT", true),
        ("Sun, 22 Nov 2026 10:00:01 GMT", true),
        ("Sun, 22 Nov 2026 09:59:59 GMT", false),
        ("Sunday, 22-Nov-26 10:00:00 GMT", true),
        ("yesterday", false),
    ];
    for (since, matches) in cases {
        let request = headers(&[("if-modified-since", since)]);
        let dated = Validators { modified: Some(MODIFIED.as_bytes()), ..Validators::default() };
        assert_eq!(Conditions::of(&request).is_not_modified(&dated), matches, "{since}");
        assert!(!Conditions::of(&request).is_not_modified(&Validators::default()));
    }
    let both = headers(&[("if-modified-since", "Sun, 22 Nov 2026 11:00:00 GMT"), ("if-none-match", "\"b\"")]);
    let own = Validators { modified: Some(MODIFIED.as_bytes()), ..tagged("\"a\"") };
    assert!(!Conditions::of(&both).is_not_modified(&own));
}

#[test]
fn ranges() {
    let part = |first, last| Span::Part { first, last };
    let cases = [
        ("bytes=0-4", part(0, 4)),
        ("bytes=0-0", part(0, 0)),
        ("Bytes=5-", part(5, 9)),
        ("bytes=5-100", part(5, 9)),
        ("bytes=5-99999999999999999999999", part(5, 9)),
        ("bytes=-3", part(7, 9)),
        ("bytes=-30", part(0, 9)),
        ("bytes=9-", part(9, 9)),
        ("bytes=10-", Span::Unsatisfiable),
        ("bytes=99999999999999999999999-", Span::Unsatisfiable),
        ("bytes=-0", Span::Unsatisfiable),
        ("bytes=5-4", Span::Whole),
        ("bytes=0-1,3-4", Span::Whole),
        ("bytes=", Span::Whole),
        ("bytes=-", Span::Whole),
        ("bytes=a-b", Span::Whole),
        ("bytes=+1-2", Span::Whole),
        ("items=0-4", Span::Whole),
        ("0-4", Span::Whole),
    ];
    for (range, expected) in cases {
        let request = headers(&[("range", range)]);
        assert_eq!(Conditions::of(&request).span(10, &Validators::default()), expected, "{range}");
        assert_eq!(
            Conditions::of(&request).span(0, &Validators::default()),
            Span::Whole,
            "{range} of nothing"
        );
    }
    let twice = headers(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
    assert_eq!(Conditions::of(&twice).span(10, &Validators::default()), Span::Whole);
}

#[test]
fn if_range_needs_a_strong_validator() {
    let (strong, weak) = ("\"a\"", "W/\"a\"");
    let cases = [
        ("\"a\"", strong, DATE, true),
        ("\"b\"", strong, DATE, false),
        ("W/\"a\"", weak, DATE, false),
        ("\"a\"", weak, DATE, false),
        (MODIFIED, strong, DATE, true),
        (MODIFIED, strong, MODIFIED, false),
        ("Sun, 22 Nov 2026 10:00:01 GMT", strong, DATE, false),
        ("nonsense", strong, DATE, false),
    ];
    for (condition, etag, made, holds) in cases {
        let request = headers(&[("range", "bytes=0-0"), ("if-range", condition)]);
        let (modified, date) = (Some(MODIFIED.as_bytes()), Some(made.as_bytes()));
        let own = Validators { etag: Some(etag.as_bytes()), modified, date };
        let answered = Conditions::of(&request).span(10, &own);
        assert_eq!(answered == Span::Part { first: 0, last: 0 }, holds, "{condition} {etag:?} {made:?}");
    }
}
