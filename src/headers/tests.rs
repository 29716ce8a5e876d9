use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn class_in(method: &Method, dialect: Dialect, name: &'static str, value: &'static str) -> HeaderClass {
    let read = ReadHeaders { method, dialect, vary: &[HeaderName::from_static("x-tenant")] };
    read.class(&HeaderName::from_static(name), &HeaderValue::from_static(value))
}

fn class(name: &'static str) -> HeaderClass {
    class_in(&Method::GET, Dialect::Rest, name, "x")
}

#[test]
fn what_the_key_holds_is_keyed() {
    for name in [
        "accept",
        "accept-profile",
        "prefer",
        "range",
        "range-unit",
        "authorization",
        "apikey",
        "host",
        "x-tenant",
    ] {
        assert_eq!(class(name), HeaderClass::Keyed, "{name}");
    }
}

#[test]
fn the_fixed_list_is_ignorable() {
    for name in [
        "user-agent",
        "accept-language",
        "accept-encoding",
        "origin",
        "referer",
        "sec-fetch-mode",
        "sec-ch-ua",
        "dnt",
        "priority",
        "save-data",
        "cache-control",
        "pragma",
        "te",
        "connection",
        "keep-alive",
        "content-type",
        "x-client-info",
        "x-supabase-api-version",
        "x-retry-count",
        "x-supabase-client-platform",
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "x-b3-traceid",
        "sentry-trace",
        "x-request-id",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
        "x-datadog-trace-id",
        "x-forwarded-for",
        "forwarded",
        "via",
        "x-real-ip",
        "cf-ray",
        "cf-connecting-ip",
        "true-client-ip",
        "cdn-loop",
        "fly-client-ip",
        "if-none-match",
        "if-modified-since",
        "if-range",
    ] {
        assert_eq!(class(name), HeaderClass::Ignorable, "{name}");
    }
}

#[test]
fn whatever_else_is_unknown() {
    for name in [
        "cookie",
        "x-my-tenant",
        "content-profile",
        "content-encoding",
        "x-http-method-override",
        "if-match",
        "if-unmodified-since",
        "expect",
        "proxy-authorization",
        "cf-access-jwt-assertion",
        "secret",
    ] {
        assert_eq!(class(name), HeaderClass::Unknown, "{name}");
    }
}

#[test]
fn values_decide_where_names_do_not() {
    let get = |name, value| class_in(&Method::GET, Dialect::Rest, name, value);
    assert_eq!(get("content-length", "0"), HeaderClass::Ignorable);
    assert_eq!(get("content-length", "5"), HeaderClass::Unknown);
    assert_eq!(get("transfer-encoding", "chunked"), HeaderClass::Unknown);
    assert_eq!(get("upgrade", "h2c"), HeaderClass::Ignorable);
    assert_eq!(get("upgrade", "websocket"), HeaderClass::Unknown);
}

#[test]
fn a_function_read_by_post_is_keyed_by_its_own_headers() {
    let post = |name| class_in(&Method::POST, Dialect::Rest, name, "5");
    assert_eq!(post("content-type"), HeaderClass::Keyed);
    assert_eq!(post("content-profile"), HeaderClass::Keyed);
    assert_eq!(post("accept-profile"), HeaderClass::Unknown);
    assert_eq!(post("content-length"), HeaderClass::Ignorable);
    assert_eq!(post("transfer-encoding"), HeaderClass::Ignorable);
}

#[test]
fn storage_reads_have_fewer_keyed_headers() {
    let storage = |dialect, name| class_in(&Method::GET, dialect, name, "x");
    for dialect in [Dialect::Object, Dialect::Render] {
        assert_eq!(storage(dialect, "range"), HeaderClass::Ignorable);
        assert_eq!(storage(dialect, "range-unit"), HeaderClass::Ignorable);
    }
    assert_eq!(storage(Dialect::Object, "accept"), HeaderClass::Ignorable);
    assert_eq!(storage(Dialect::Render, "accept"), HeaderClass::Keyed);
}

#[test]
fn routes_ignore_more_but_not_what_changes_the_request() {
    let read = ReadHeaders { method: &Method::GET, dialect: Dialect::Rest, vary: &[] };
    let sent = headers(&[("accept", "*/*"), ("x-theme", "dark")]);
    assert_eq!(read.first_unknown(&sent, |_| false).map(HeaderName::as_str), Some("x-theme"));
    assert_eq!(read.first_unknown(&sent, |name| name == "x-theme"), None);
    let sent = headers(&[("x-http-method-override", "DELETE")]);
    assert!(read.first_unknown(&sent, |_| true).is_some());
    let vary = [HeaderName::from_static("x-http-method-override")];
    assert!(ReadHeaders { vary: &vary, ..read }.first_unknown(&sent, |_| true).is_some());
}

#[test]
fn a_fill_carries_what_is_keyed() {
    let vary = [HeaderName::from_static("x-tenant")];
    let read = ReadHeaders { method: &Method::GET, dialect: Dialect::Rest, vary: &vary };
    let request = headers(&[
        ("host", "proxy"),
        ("accept", "application/json"),
        ("prefer", "count=exact"),
        ("prefer", "return=minimal"),
        ("x-tenant", "a"),
        ("authorization", "Bearer x"),
        ("apikey", "k"),
        ("user-agent", "browser"),
        ("accept-encoding", "br"),
        ("x-forwarded-for", "1.1.1.1"),
        ("if-none-match", "\"x\""),
        ("content-type", "application/json"),
        ("traceparent", "00-0-0-00"),
        ("cookie", "a=b"),
    ]);
    let fill = read.fill(&request, HeaderValue::from_static("gzip"));
    let expected = headers(&[
        ("accept", "application/json"),
        ("prefer", "count=exact"),
        ("prefer", "return=minimal"),
        ("x-tenant", "a"),
        ("traceparent", "00-0-0-00"),
        ("user-agent", concat!("sluice/", env!("CARGO_PKG_VERSION"))),
        ("accept-encoding", "gzip"),
    ]);
    assert_eq!(fill, expected);
    let mut credentials = HeaderMap::new();
    copy_credentials(&request, &mut credentials);
    assert_eq!(credentials, headers(&[("authorization", "Bearer x"), ("apikey", "k")]));
}

#[test]
fn connection_headers_and_those_it_names_are_removed() {
    let mut response = headers(&[
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1"),
        ("content-type", "application/json"),
    ]);
    remove_hop_by_hop(&mut response);
    remove_not_passed_on(&mut response);
    assert_eq!(response, headers(&[("content-type", "application/json")]));
}

/// What the plan or the delivery of a GET or HEAD may read; each makes a difference somewhere.
const LOOKED_AT: [&str; 27] = [
    "accept",
    "accept-encoding",
    "accept-profile",
    "apikey",
    "authorization",
    "cache-control",
    "connection",
    "content-length",
    "content-profile",
    "cookie",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "prefer",
    "range",
    "range-unit",
    "sluice-debug",
    "transfer-encoding",
    "upgrade",
    "x-http-method-override",
    "x-upsert",
];

#[test]
fn what_is_immaterial_is_ignorable_everywhere_and_looked_at_nowhere() {
    assert!(!LOOKED_AT.iter().any(|name| is_immaterial(name)));
    let names = ["user-agent", "referer", "x-client-info", "traceparent", "x-request-id", "x-forwarded-for"];
    let more = ["sec-fetch-mode", "cf-ray", "x-b3-traceid", "content-type", "accept-language", "via", "dnt"];
    for name in names.iter().chain(&more) {
        assert!(is_immaterial(name), "{name}");
        let name = HeaderName::from_static(name);
        for (dialect, method) in
            Dialect::ALL.into_iter().flat_map(|one| [(one, Method::GET), (one, Method::HEAD)])
        {
            let reading = ReadHeaders { method: &method, dialect, vary: &[] };
            let class = reading.class(&name, &HeaderValue::from_static("x"));
            assert_eq!(class, HeaderClass::Ignorable, "{name} {dialect:?}");
        }
    }
    for unknown in ["x-tenant", "x-anything", "cf-access-token", ""] {
        assert!(!is_immaterial(unknown), "{unknown}");
    }
}
