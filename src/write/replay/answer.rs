//! What an answer of upstream means, whatever was asked.

use std::time::Duration;

use bytes::Bytes;
use http::header::{DATE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{Outcome, Reason, Retry, Wait};
use crate::postgrest::object::Object;

/// The largest answer that is read, in bytes. More of it is not needed: a row
/// that is larger can't be compared, and of an error 4 KiB are kept.
pub const MAX_ANSWER: usize = 4 << 20;

/// So much of a refusal's body is kept, in bytes.
const MAX_KEPT_BODY: usize = 4 << 10;

/// The longest `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// PostgreSQL's error for a missing right, a policy's refusal included.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// What PostgREST 12 answers, with 400, where PostgreSQL went away under a statement.
const CONNECTION_LOST: &str = "";
/// PostgreSQL's error for any write while it takes none, which PostgREST answers with 405.
const READ_ONLY: &str = "25006";
/// PostgreSQL's error for a key that is there already.
const UNIQUE_VIOLATION: &str = "23505";

/// An answer of upstream, its body read up to [`MAX_ANSWER`].
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// What an answer means before it is known what was asked.
#[derive(Debug)]
pub(super) enum Meaning {
    /// Upstream did what was asked.
    Taken,
    /// Upstream said no, and will say so again.
    Refused(Refusal),
    /// Upstream said nothing about the request itself.
    Later(Wait),
}

/// Upstream's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    code: Option<String>,
    body: String,
}

impl Refusal {
    /// Whether a right is missing.
    pub(super) fn is_missing_right(&self) -> bool {
        self.code.as_deref() == Some(INSUFFICIENT_PRIVILEGE)
    }

    /// Whether the key, or another unique value, is there already.
    pub(super) fn is_duplicate(&self) -> bool {
        self.status == StatusCode::CONFLICT && self.code.as_deref() == Some(UNIQUE_VIOLATION)
    }

    /// The end that it makes.
    pub(super) fn outcome(self) -> Outcome {
        Outcome::Rejected { reason: Reason::Refused, status: Some(self.status.as_u16()), body: self.body }
    }
}

impl Answer {
    /// What it means.
    pub(super) fn meaning(&self) -> Meaning {
        match self.status.as_u16() {
            200 | 201 | 204 | 206 => Meaning::Taken,
            401 => Meaning::Later(Wait::NewToken),
            408 | 425 | 429 => self.counted(),
            400..=499 => {
                let refusal = self.refusal();
                if refusal.code.as_deref().is_some_and(|code| code == READ_ONLY || code == CONNECTION_LOST) {
                    // A standby, a full disk, a crash: that says nothing about the write.
                    return Meaning::Later(Wait::Retry(Retry::Uncounted));
                }
                Meaning::Refused(refusal)
            }
            // The edge's own errors: upstream may never have heard of the request.
            502..=504 | 520..=529 => Meaning::Later(Wait::Retry(Retry::Uncounted)),
            // A redirect, another success or no status known today: nobody says what became of the request.
            _ => self.counted(),
        }
    }

    /// The rows in the body; `None` if it is anything but an array of objects.
    pub(super) fn rows(&self) -> Option<Vec<Object>> {
        Object::parse_rows(&self.body)
    }

    fn counted(&self) -> Meaning {
        Meaning::Later(Wait::Retry(Retry::Counted { after: self.retry_after() }))
    }

    fn refusal(&self) -> Refusal {
        #[derive(Deserialize)]
        struct Said {
            code: Option<String>,
        }
        let said = serde_json::from_slice::<Said>(&self.body).ok();
        Refusal { status: self.status, code: said.and_then(|said| said.code), body: kept(&self.body) }
    }

    /// `Retry-After` (RFC 9110, section 10.2.3). A date counts from the
    /// answer's own `Date`, so that no clock is compared with another.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.text(&RETRY_AFTER)?;
        let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Duration::from_secs(text.parse().unwrap_or(u64::MAX))
        } else {
            let date = httpdate::parse_http_date(self.text(&DATE)?).ok()?;
            httpdate::parse_http_date(text).ok()?.duration_since(date).unwrap_or_default()
        };
        Some(wait.min(MAX_RETRY_AFTER))
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

/// The beginning of a body, as text.
fn kept(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(MAX_KEPT_BODY)]).into_owned();
    // What stands for a broken character may be longer than its bytes.
    while text.len() > MAX_KEPT_BODY {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            body: Bytes::copy_from_slice(body),
        }
    }

    #[test]
    fn the_status_decides() {
        for status in 200..=599 {
            let expected = match status {
                200 | 201 | 204 | 206 => "taken",
                401 => "token",
                408 | 425 | 429 => "counted",
                400..=499 => "refused",
                502 | 503 | 504 | 520..=529 => "uncounted",
                _ => "counted",
            };
            let found = match answer(status, &[], b"").meaning() {
                Meaning::Taken => "taken",
                Meaning::Refused(_) => "refused",
                Meaning::Later(Wait::NewToken) => "token",
                Meaning::Later(Wait::Retry(Retry::Counted { .. })) => "counted",
                Meaning::Later(Wait::Retry(Retry::Uncounted)) => "uncounted",
            };
            assert_eq!(found, expected, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        const DATE: (&str, &str) = ("date", "Sun, 22 Nov 2026 20:00:00 GMT");
        type Headers = &'static [(&'static str, &'static str)];
        let cases: [(Headers, Option<u64>); 10] = [
            (&[], None),
            (&[("retry-after", "0")], Some(0)),
            (&[("retry-after", " 120 ")], Some(120)),
            (&[("retry-after", "99999999999999999999999")], Some(3600)),
            (&[("retry-after", "")], None),
            (&[("retry-after", "-5")], None),
            (&[("retry-after", "soon"), DATE], None),
            (&[("retry-after", "Sun, 22 Nov 2026 20:00:30 GMT"), DATE], Some(30)),
            (&[("retry-after", "Sun, 22 Nov 2026 19:00:00 GMT"), DATE], Some(0)),
            (&[("retry-after", "Sun, 22 Nov 2026 20:00:30 GMT")], None),
        ];
        for (headers, expected) in cases {
            let found = answer(429, headers, b"").retry_after();
            assert_eq!(found, expected.map(Duration::from_secs), "{headers:?}");
        }
    }

    #[test]
    fn a_refusal_keeps_the_beginning_of_its_body() {
        let cases: [(&[u8], Option<&str>); 5] = [
            (br#"{"code":"23505","message":"duplicate"}"#, Some("23505")),
            (br#"{"code":7}"#, None),
            (b"<html>", None),
            (b"\xff\xfe", None),
            (b"", None),
        ];
        for (body, code) in cases {
            let refusal = answer(409, &[], body).refusal();
            assert_eq!(refusal.code.as_deref(), code);
            assert_eq!(refusal.body, String::from_utf8_lossy(body));
        }
        for long in
            ["é".repeat(5000).into_bytes(), vec![0xff; 5000], [b"x", "é".repeat(5000).as_bytes()].concat()]
        {
            let length = answer(400, &[], &long).refusal().body.len();
            assert!((MAX_KEPT_BODY - 4..=MAX_KEPT_BODY).contains(&length), "{length}");
        }
    }

    #[test]
    fn a_right_that_is_missing_and_a_key_that_is_there() {
        let cases = [
            (403, "42501", true, false),
            (404, "42501", true, false),
            (409, "23505", false, true),
            (400, "23505", false, false),
            (409, "23503", false, false),
        ];
        for (status, code, missing_right, duplicate) in cases {
            let refusal = answer(status, &[], format!(r#"{{"code":"{code}"}}"#).as_bytes()).refusal();
            assert_eq!(
                (refusal.is_missing_right(), refusal.is_duplicate()),
                (missing_right, duplicate),
                "{code}"
            );
        }
    }

    #[test]
    fn rows_are_an_array_of_objects() {
        for (body, rows) in [
            ("[]", Some(0)),
            (r#"[{"a":1},{}]"#, Some(2)),
            (r#"{"a":1}"#, None),
            ("[1]", None),
            ("[{", None),
            ("", None),
        ] {
            assert_eq!(answer(200, &[], body.as_bytes()).rows().map(|rows| rows.len()), rows, "{body}");
        }
    }
}
