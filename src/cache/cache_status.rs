//! `Cache-Status` (RFC 9211): what the cache did, told to the client.

use std::fmt;

use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

use super::decimal::Decimal;
use super::key::Key;

/// Why a request went upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// The request is one that is never answered from the cache.
    Bypass,
    /// Its method isn't.
    Method,
    /// Nothing was stored for it.
    UriMiss,
    /// What was stored was stale.
    Stale,
    /// The client asked for upstream's word.
    Request,
}

impl Forwarded {
    fn as_str(self) -> &'static str {
        match self {
            Forwarded::Bypass => "bypass",
            Forwarded::Method => "method",
            Forwarded::UriMiss => "uri-miss",
            Forwarded::Stale => "stale",
            Forwarded::Request => "request",
        }
    }
}

/// One member of `Cache-Status`, Sluice's own. Prints itself as such; it goes
/// behind upstream's own members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    outcome: Outcome,
    ttl: Option<i64>,
    detail: Option<&'a str>,
    key: Option<&'a Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Hit,
    Fwd { why: Forwarded, status: Option<StatusCode>, stored: bool, collapsed: bool },
}

impl<'a> CacheStatus<'a> {
    /// Answered from the cache; `ttl` in milliseconds, printed as whole seconds.
    pub fn hit(ttl: i64) -> Self {
        Self { outcome: Outcome::Hit, ttl: Some(ttl), detail: None, key: None }
    }

    /// Sent upstream.
    pub fn forwarded(why: Forwarded) -> Self {
        let outcome = Outcome::Fwd { why, status: None, stored: false, collapsed: false };
        Self { outcome, ttl: None, detail: None, key: None }
    }

    /// With more about why.
    #[must_use]
    pub fn detail(self, detail: &'a str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// With the key, for an operator.
    #[must_use]
    pub fn key(self, key: &'a Key) -> Self {
        Self { key: Some(key), ..self }
    }

    /// With the ttl, in milliseconds, of a stored answer that was given although upstream was asked.
    #[must_use]
    pub fn ttl(self, ttl: i64) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// With the status that upstream answered, where the client gets another.
    #[must_use]
    pub fn fwd_status(mut self, answered: StatusCode) -> Self {
        if let Outcome::Fwd { status, .. } = &mut self.outcome {
            *status = Some(answered);
        }
        self
    }

    /// The answer was stored.
    #[must_use]
    pub fn stored(mut self) -> Self {
        if let Outcome::Fwd { stored, .. } = &mut self.outcome {
            *stored = true;
        }
        self
    }

    /// The answer to another's request was shared.
    #[must_use]
    pub fn collapsed(mut self) -> Self {
        if let Outcome::Fwd { collapsed, .. } = &mut self.outcome {
            *collapsed = true;
        }
        self
    }

    /// The member as a header's value.
    pub fn header_value(&self) -> HeaderValue {
        // What is printed is always visible ASCII; the fallback keeps this total.
        HeaderValue::from_bytes(&self.to_bytes()).unwrap_or(HeaderValue::from_static("sluice"))
    }

    /// The member as it is sent. By hand, since every hit has one.
    pub(crate) fn to_bytes(self) -> MemberBytes {
        let mut out = MemberBytes::from_slice(b"sluice");
        let (mut is_stored, mut is_collapsed) = (false, false);
        match self.outcome {
            Outcome::Hit => out.extend_from_slice(b"; hit"),
            Outcome::Fwd { why, status, stored, collapsed } => {
                out.extend_from_slice(b"; fwd=");
                out.extend_from_slice(why.as_str().as_bytes());
                if let Some(status) = status {
                    out.extend_from_slice(b"; fwd-status=");
                    out.extend_from_slice(status.as_str().as_bytes());
                }
                (is_stored, is_collapsed) = (stored, collapsed);
            }
        }
        if let Some(ttl) = self.ttl {
            let seconds = ttl.div_euclid(1000);
            out.extend_from_slice(if seconds < 0 { b"; ttl=-" } else { b"; ttl=" });
            out.extend_from_slice(Decimal::of(seconds.unsigned_abs()).as_bytes());
        }
        if is_stored {
            out.extend_from_slice(b"; stored");
        }
        if is_collapsed {
            out.extend_from_slice(b"; collapsed");
        }
        if let Some(detail) = self.detail {
            out.extend_from_slice(b"; detail=");
            put_item(&mut out, detail);
        }
        if let Some(key) = self.key {
            // Hexadecimal: it may begin with a digit, as no token does.
            out.extend_from_slice(format!("; key=\"{key}\"").as_bytes());
        }
        out
    }
}

/// A member's bytes: most fit.
pub(crate) type MemberBytes = SmallVec<[u8; 64]>;

impl fmt::Display for CacheStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

/// Appends a token where `text` is one, else a string (RFC 9651, sections 3.3.3
/// and 3.3.4). What a string can't hold is left out.
fn put_item(out: &mut MemberBytes, text: &str) {
    let starts_token = |byte: u8| byte.is_ascii_alphabetic() || byte == b'*';
    let continues_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    if text.bytes().next().is_some_and(starts_token) && text.bytes().all(continues_token) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for byte in text.bytes().filter(|byte| matches!(byte, b' '..=b'~')) {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_printed_as_promised() {
        let key = Key::from([0x1f; 16]);
        let cases = [
            (CacheStatus::hit(297_900), "sluice; hit; ttl=297"),
            (CacheStatus::hit(-2_100).detail("revalidating"), "sluice; hit; ttl=-3; detail=revalidating"),
            (CacheStatus::forwarded(Forwarded::UriMiss).stored(), "sluice; fwd=uri-miss; stored"),
            (CacheStatus::forwarded(Forwarded::UriMiss).collapsed(), "sluice; fwd=uri-miss; collapsed"),
            (
                CacheStatus::forwarded(Forwarded::Bypass).detail("header-x-tenant"),
                "sluice; fwd=bypass; detail=header-x-tenant",
            ),
            (CacheStatus::forwarded(Forwarded::Method), "sluice; fwd=method"),
            (
                CacheStatus::forwarded(Forwarded::Stale)
                    .fwd_status(StatusCode::SERVICE_UNAVAILABLE)
                    .ttl(-40_000)
                    .detail("stale-if-error"),
                "sluice; fwd=stale; fwd-status=503; ttl=-40; detail=stale-if-error",
            ),
            (
                CacheStatus::forwarded(Forwarded::Bypass).detail("a \"b\"\r\n\u{e9}"),
                "sluice; fwd=bypass; detail=\"a \\\"b\\\"\"",
            ),
            (CacheStatus::forwarded(Forwarded::Bypass).detail("5xx"), "sluice; fwd=bypass; detail=\"5xx\""),
        ];
        for (status, text) in cases {
            assert_eq!(status.to_string(), text);
            assert_eq!(status.header_value(), text);
        }
        let with_key = CacheStatus::hit(0).key(&key).to_string();
        assert_eq!(with_key, format!("sluice; hit; ttl=0; key=\"{}\"", "1f".repeat(16)));
    }
}
