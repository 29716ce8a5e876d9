//! Sluice's own endpoints for clients, under `/sluice/v1/`: what became of a
//! deferred write, and the stream of what happens.

pub mod events;
mod missing;
mod problem;
pub mod status;
pub mod streams;
mod tables;
mod visitor;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CACHE_CONTROL, CONTENT_TYPE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::Result;
use pingora::proxy::Session;

use self::problem::Problem;
use super::exchange::Exchange;
use super::gateway::Gateway;
use super::respond;
use crate::cors::add_vary;
use crate::request::DecodedPath;
use crate::telemetry::metrics::Outcome;

/// The methods that all endpoints have.
const METHODS: &str = "GET, HEAD, OPTIONS";
/// Longer lists of headers that a script would like to send are not granted.
const MAX_REQUEST_HEADERS: usize = 2048;

/// One of the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint<'a> {
    /// `/sluice/v1/writes/<id>`.
    Write(&'a str),
    /// `/sluice/v1/events`.
    Events,
}

impl<'a> Endpoint<'a> {
    fn of(path: &'a DecodedPath) -> Option<Self> {
        let mut segments = path.segments().skip(2);
        match (segments.next(), segments.next(), segments.next()) {
            (Some("writes"), Some(id), None) => Some(Self::Write(id)),
            (Some("events"), None, None) => Some(Self::Events),
            _ => None,
        }
    }
}

/// Answers a request under `/sluice/v1/`. `path` is `None` where it has no
/// single reading.
///
/// # Errors
///
/// Pingora's, where the client is gone.
pub async fn serve(
    gateway: &Arc<Gateway>,
    session: &mut Session,
    exchange: &mut Exchange,
    path: Option<&DecodedPath>,
) -> Result<()> {
    let method = session.req_header().method.clone();
    if method == Method::OPTIONS && session.req_header().headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        // Whatever the path: a script is to see the 404 of a wrong one.
        return preflight(session, exchange).await;
    }
    let Some(endpoint) = path.and_then(Endpoint::of) else {
        return problem(session, exchange, Problem::no_endpoint()).await;
    };
    match method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => {
            let headers = HeaderMap::from_iter([(ALLOW, HeaderValue::from_static(METHODS))]);
            return answer(session, exchange, StatusCode::NO_CONTENT, headers, Bytes::new()).await;
        }
        _ => return problem(session, exchange, Problem::method(METHODS)).await,
    }
    match endpoint {
        Endpoint::Write(id) => {
            let request = session.req_header();
            match status::answer(gateway, &exchange.settings, &request.headers, id).await {
                Ok(body) => json(session, exchange, body).await,
                Err(refused) => problem(session, exchange, refused).await,
            }
        }
        Endpoint::Events => events::serve(gateway, session, exchange).await,
    }
}

/// Allows scripts of other origins what the endpoints have (Fetch, section 4.8).
/// Who asks is told by a token, never by a cookie, so that any header may come along.
async fn preflight(session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    let asked = session.req_header().headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let mut headers = HeaderMap::from_iter([
        (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS)),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(exchange.settings.config.cors.max_age.as_secs())),
    ]);
    if let Some(asked) = asked.filter(|asked| asked.len() <= MAX_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    add_vary(&mut headers, "Access-Control-Request-Headers");
    answer(session, exchange, StatusCode::NO_CONTENT, headers, Bytes::new()).await
}

async fn json(session: &mut Session, exchange: &mut Exchange, body: String) -> Result<()> {
    let headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]);
    answer(session, exchange, StatusCode::OK, headers, Bytes::from(body)).await
}

async fn problem(session: &mut Session, exchange: &mut Exchange, problem: Problem) -> Result<()> {
    let (headers, body) = (problem.headers(), problem.body());
    let written = answer(session, exchange, problem.status, headers, body).await;
    exchange.outcome = Outcome::Error;
    written
}

/// Writes a whole answer.
async fn answer(
    session: &mut Session,
    exchange: &mut Exchange,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
) -> Result<()> {
    exchange.outcome = Outcome::Hit;
    respond::own(session, exchange, status, headers, body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_by_path() {
        let endpoint = |path: &str| {
            let path = DecodedPath::parse(path).unwrap();
            Endpoint::of(&path).map(|endpoint| format!("{endpoint:?}"))
        };
        assert_eq!(endpoint("/sluice/v1/events").as_deref(), Some("Events"));
        assert_eq!(endpoint("/sluice/v1/writes/a%20b").as_deref(), Some("Write(\"a b\")"));
        for path in [
            "/sluice/v1",
            "/sluice/v1/writes",
            "/sluice/v1/writes/a/b",
            "/sluice/v1/events/a",
            "/sluice/v1/x",
        ] {
            assert_eq!(endpoint(path), None, "{path}");
        }
    }
}
