//! The errors of Sluice's own endpoints, in PostgREST's shape.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde_json::json;

use crate::identity::Refusal;
use crate::tag::Relation;

/// When to try again what can't be answered now, in seconds.
const SOON: &str = "2";

/// Why a request is refused.
#[derive(Debug)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    message: &'static str,
    details: Cow<'static, str>,
    hint: &'static str,
    header: Option<(HeaderName, &'static str)>,
}

impl Problem {
    fn new(status: StatusCode, message: &'static str, details: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message, details: details.into(), hint: "Try again.", header: None }
    }

    fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }

    fn header(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// There is nothing at this path.
    pub fn no_endpoint() -> Self {
        let details = "Paths under /sluice/v1/ are Sluice's own and are not forwarded.";
        Self::new(StatusCode::NOT_FOUND, "Sluice has no such endpoint.", details).hint("Check the path.")
    }

    /// The endpoint has other methods than this one.
    pub fn method(allowed: &'static str) -> Self {
        let details = "Sluice's own endpoints are read.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed.", details)
            .hint("Send a GET request.")
            .header(ALLOW, allowed)
    }

    /// The parameters can't be read.
    pub fn malformed(details: impl Into<Cow<'static, str>>) -> Self {
        let hint = "Correct the request's parameters.";
        Self::new(StatusCode::BAD_REQUEST, "The request is malformed.", details).hint(hint)
    }

    /// It is unknown who asks. Without a reason: nobody says who.
    pub fn unauthorized(reason: Option<Refusal>) -> Self {
        let details = match reason {
            None => "The request has no token of a signed-in user.",
            Some(Refusal::ExpiredToken) => "The token has expired.",
            Some(Refusal::Ambiguous) => "The request has several tokens.",
            Some(Refusal::Privileged) => "A secret key is nobody's, and has no writes of its own.",
            Some(_) => "The token is not valid, or Sluice has no key that verifies it.",
        };
        Self::new(StatusCode::UNAUTHORIZED, "Sluice needs to know who asks.", details)
            .hint("Send the session's access token as Authorization: Bearer <token>.")
            .header(WWW_AUTHENTICATE, "Bearer")
    }

    /// Nothing that the caller may know of.
    pub fn no_write() -> Self {
        let details = "It never was, it is somebody else's, or it ended more than 24 hours ago.";
        Self::new(StatusCode::NOT_FOUND, "There is no such write.", details).hint("Check the id.")
    }

    /// What became of writes can't be told now.
    pub fn no_journal() -> Self {
        let details = "The journal of deferred writes can't be read.";
        Self::unavailable(details)
    }

    /// Sluice stops, or has as many streams as it takes.
    pub fn unavailable(details: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Sluice can't answer this now.", details)
            .header(RETRY_AFTER, SOON)
    }

    /// The caller has as many streams as one may have.
    pub fn too_many_streams() -> Self {
        let details = "As many streams are open for this user as one may have.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many streams are open.", details)
            .hint("Close streams that are no longer read.")
            .header(RETRY_AFTER, SOON)
    }

    /// Upstream doesn't let the caller read the table.
    pub fn not_readable(table: &Relation, status: StatusCode) -> Self {
        let details = format!("Upstream answered {} when asked for {table} with limit=0.", status.as_u16());
        Self::new(StatusCode::FORBIDDEN, "A table may not be read.", details)
            .hint("Leave it out of tables, or grant select on it; send the API key along.")
    }

    /// Upstream doesn't say whether the caller may read a table.
    pub fn upstream(status: StatusCode, table: &Relation) -> Self {
        let details = format!("It is unknown whether {table} may be read.");
        Self::new(status, "Upstream could not be asked.", details).header(RETRY_AFTER, SOON)
    }

    /// The headers of the answer, CORS aside.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ]);
        headers.extend(self.header.clone().map(|(name, value)| (name, HeaderValue::from_static(value))));
        headers
    }

    /// The body.
    pub fn body(&self) -> Bytes {
        let body = json!({
            "code": format!("SLUICE{}", self.status.as_u16()),
            "message": self.message,
            "details": self.details,
            "hint": self.hint,
        });
        Bytes::from(body.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_postgrests_shape() {
        let users = Relation::new("public", "users");
        for problem in [
            Problem::no_endpoint(),
            Problem::no_write(),
            Problem::unauthorized(None),
            Problem::not_readable(&users, StatusCode::UNAUTHORIZED),
        ] {
            let body: serde_json::Value = serde_json::from_slice(&problem.body()).unwrap();
            assert_eq!(body["code"], format!("SLUICE{}", problem.status.as_u16()));
            assert!(["message", "details", "hint"].iter().all(|key| body[key].is_string()), "{body}");
        }
    }

    #[test]
    fn each_refusal_says_what_http_wants() {
        let users = Relation::new("public", "users");
        for (problem, status, name) in [
            (Problem::unauthorized(Some(Refusal::ExpiredToken)), 401, Some("www-authenticate")),
            (Problem::method("GET"), 405, Some("allow")),
            (Problem::too_many_streams(), 429, Some("retry-after")),
            (Problem::no_journal(), 503, Some("retry-after")),
            (Problem::upstream(StatusCode::GATEWAY_TIMEOUT, &users), 504, Some("retry-after")),
            (Problem::not_readable(&users, StatusCode::NOT_FOUND), 403, None),
        ] {
            assert_eq!(problem.status.as_u16(), status);
            let headers = problem.headers();
            assert_eq!(headers[CACHE_CONTROL], "no-store");
            assert!(name.is_none_or(|name| headers.contains_key(name)), "{problem:?}");
        }
    }
}
