//! Which of an answer's headers are kept with it.

use http::header::{
    AGE, CONNECTION, CONTENT_LENGTH, DATE, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Timestamp;
use crate::headers::connection_options;

/// Headers that are about one connection, one request, or the edge that the
/// answer came through. `Age` lives on in the entry's initial age.
static NEVER_STORED: [HeaderName; 19] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authentication-info"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    VIA,
    AGE,
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("alt-svc"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("sb-request-id"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("server-timing"),
];

/// Upstream's list of headers that scripts may read names what the answer has, whoever asks.
const EXPOSE_HEADERS: &str = "access-control-expose-headers";

/// Cookies of the edge in front of upstream. They say nothing about the answer.
const EDGE_COOKIES: &[&str] = &["__cf_bm", "__cflb", "_cfuvid", "cf_clearance"];
const EDGE_COOKIE_PREFIX: &str = "AWSALB";

/// The headers of an answer that are kept. `Content-Length` only where a HEAD
/// was answered: elsewhere the stored body has one. An answer without `Date`
/// gets the time of its receipt (RFC 9110, section 6.6.1).
pub fn storable(headers: &HeaderMap, head_only: bool, received_at: Timestamp) -> HeaderMap {
    let named: Vec<&str> = connection_options(headers).collect();
    let mut kept = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        let drops = is_never_stored(name)
            || (*name == CONTENT_LENGTH && !head_only)
            || named.iter().any(|option| option.eq_ignore_ascii_case(name.as_str()));
        if !drops {
            kept.append(name, value.clone());
        }
    }
    if !kept.contains_key(DATE)
        && let Ok(date) = HeaderValue::try_from(received_at.to_http_date())
    {
        kept.insert(DATE, date);
    }
    kept
}

/// Whether the answer sets a cookie that isn't the edge's.
pub fn sets_cookies(headers: &HeaderMap) -> bool {
    !headers.get_all(SET_COOKIE).iter().all(|value| is_edge_cookie(value.as_bytes()))
}

fn is_edge_cookie(cookie: &[u8]) -> bool {
    let name = cookie.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    EDGE_COOKIES.iter().any(|edge| edge.as_bytes() == name) || name.starts_with(EDGE_COOKIE_PREFIX.as_bytes())
}

fn is_never_stored(name: &HeaderName) -> bool {
    let text = name.as_str();
    NEVER_STORED.contains(name)
        || text.starts_with("cf-")
        || (text.starts_with("access-control-") && text != EXPOSE_HEADERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(*name, HeaderValue::from_static(value));
            map
        })
    }

    #[test]
    fn what_describes_the_answer_is_kept_and_nothing_else() {
        let sent = headers(&[
            ("content-type", "application/json"),
            ("content-range", "0-0/*"),
            ("content-length", "5"),
            ("connection", "X-Mine, close"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("cf-ray", "1"),
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-expose-headers", "Content-Range"),
            ("sb-request-id", "1"),
            ("x-request-id", "1"),
            ("server-timing", "db;dur=3"),
            ("alt-svc", "h3"),
            ("nel", "{}"),
            ("report-to", "{}"),
            ("strict-transport-security", "max-age=1"),
            ("set-cookie", "__cf_bm=1"),
            ("age", "5"),
            ("via", "1.1 x"),
            ("etag", "\"a\""),
            ("date", "Sun, 22 Nov 2026 10:00:00 GMT"),
        ]);
        let kept = storable(&sent, false, Timestamp(0));
        let names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        for name in ["content-type", "content-range", "access-control-expose-headers", "etag", "date"] {
            assert!(names.contains(&name), "{name}");
        }
        assert_eq!(names.len(), 5, "{names:?}");
        assert_eq!(storable(&sent, true, Timestamp(0))["content-length"], "5");
    }

    #[test]
    fn an_answer_without_a_date_gets_the_time_of_its_receipt() {
        let kept = storable(&HeaderMap::new(), false, Timestamp(1_795_341_600_999));
        assert_eq!(kept["date"], "Sun, 22 Nov 2026 10:00:00 GMT");
    }

    #[test]
    fn only_edge_cookies_are_harmless() {
        let cases = [
            (&["__cf_bm=x; path=/"][..], false),
            (&["__cf_bm=x", "_cfuvid=y", "AWSALBCORS=z"], false),
            (&["__cf_bm=x", "session=y"], true),
            (&["__cf_bmx=x"], true),
            (&["__CF_BM=x"], true),
            (&[""], true),
            (&[], false),
        ];
        for (cookies, sets) in cases {
            let lines: Vec<_> = cookies.iter().map(|cookie| ("set-cookie", *cookie)).collect();
            assert_eq!(sets_cookies(&headers(&lines)), sets, "{cookies:?}");
        }
    }
}
