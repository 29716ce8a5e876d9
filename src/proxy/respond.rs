//! Writing answers that do not come through Pingora's own forwarding.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body_util::BodyExt;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::exchange::Exchange;
use super::fill::Unstored;
use super::gateway::{Gateway, Settings};
use super::origin::{self, DEBUG};
use super::preflight::PreflightAnswer;
use super::synth::Synthetic;
use crate::cache::encoding::negotiate;
use crate::cache::{
    CacheStatus, Coding, Conditions, Entry, Forwarded, HeadWriter, Line, Reading, Timestamp, deliver,
};
use crate::headers;
use crate::plan::ReadPlan;
use crate::telemetry::metrics::Outcome;

/// The header in which caches say what they did (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Bodies up to this size are compressed where they are served: it takes
/// less than handing them to another thread and back.
const COMPRESSED_INLINE: usize = 16 * 1024;

/// When to come again where the queue is in the way, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Bodies are written in pieces of this size: `limits.body_timeout` is for each.
const PIECE: usize = 64 * 1024;

/// Writes an entry as the answer.
///
/// # Errors
///
/// Pingora's, where the client is gone.
pub async fn entry(
    session: &mut Session,
    exchange: &Exchange,
    gateway: &Gateway,
    plan: &ReadPlan,
    entry: &Entry,
    status: CacheStatus<'_>,
) -> Result<()> {
    let headers = &session.req_header().headers;
    let encoded = match negotiate(headers).filter(|_| entry.is_compressible()) {
        Some(coding) => encoded(gateway, plan, entry, coding).await,
        None => None,
    };
    let request = session.req_header();
    let debugged = may_debug(&exchange.settings, &request.headers);
    let status = if debugged { status.key(&plan.key) } else { status };
    let (status, mut headers, body) = written(exchange, request, plan, entry, encoded, status);
    if debugged {
        debug(&mut headers, plan);
    }
    write(session, exchange, status, headers, body).await
}

/// The answer that an entry makes to a request.
fn written(
    exchange: &Exchange,
    request: &RequestHeader,
    plan: &ReadPlan,
    entry: &Entry,
    encoded: Option<(Coding, Bytes)>,
    status: CacheStatus<'_>,
) -> (StatusCode, HeaderMap, Bytes) {
    let settings = &exchange.settings;
    let (conditions, vary) = (Conditions::of(&request.headers), settings.vary(plan));
    let reading = Reading {
        head: request.method == Method::HEAD,
        conditions: &conditions,
        dialect: plan.dialect,
        vary: &vary,
        grant: settings.cors.grant(request.headers.get(header::ORIGIN).map(HeaderValue::as_bytes)),
        status,
    };
    let mut written = Written::default();
    let delivery = deliver(entry, encoded, &reading, Timestamp::from(SystemTime::now()), &mut written);
    (delivery.status, written.headers, delivery.body.shared(entry))
}

/// A head on its way to Pingora.
#[derive(Default)]
struct Written {
    headers: HeaderMap,
}

impl HeadWriter for Written {
    /// Given with the headers, once all are there.
    fn status(&mut self, _: StatusCode) {
        self.headers.reserve(20);
    }

    fn field(&mut self, name: &'static str, value: &[u8]) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            self.headers.append(HeaderName::from_static(name), value);
        }
    }

    fn line(&mut self, line: Line<'_>) {
        let name = HeaderName::from_bytes(line.name());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line.value())) {
            self.headers.append(name, value);
        }
    }
}

/// The body in `coding`, from the stored variant; compressed and stored the
/// first time. `None` where compressing fails: the body goes out as it is.
async fn encoded(
    gateway: &Gateway,
    plan: &ReadPlan,
    entry: &Entry,
    coding: Coding,
) -> Option<(Coding, Bytes)> {
    if let Some(body) = gateway.memory.variant(&plan.key, entry, coding) {
        return Some((coding, body));
    }
    let compressed = if entry.body().len() <= COMPRESSED_INLINE {
        coding.compress(entry.body()).ok()?
    } else {
        let plain = entry.clone();
        tokio::task::spawn_blocking(move || coding.compress(plain.body())).await.ok()?.ok()?
    };
    Some((coding, gateway.memory.insert_variant(&plan.key, entry, coding, compressed)))
}

/// Whether the request shows the operator's token.
fn may_debug(settings: &Settings, request: &HeaderMap) -> bool {
    match (&settings.config.admin_token, request.get(DEBUG)) {
        // Hashes compare in constant time.
        (Some(token), Some(shown)) => {
            blake3::hash(token.expose().as_bytes()) == blake3::hash(shown.as_bytes())
        }
        _ => false,
    }
}

/// What an operator wants to know of a read.
fn debug(headers: &mut HeaderMap, plan: &ReadPlan) {
    let tags = plan.tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let lines = [
        ("sluice-route", plan.route.name.clone()),
        ("sluice-partition", plan.partition.to_string()),
        ("sluice-tags", tags),
    ];
    for (name, line) in lines {
        // Names from the configuration and from requests may hold what a header can't.
        let value = HeaderValue::try_from(line).unwrap_or(HeaderValue::from_static("?"));
        headers.insert(name, value);
    }
}

/// Passes an answer that can't be stored on to the client whose request it is.
///
/// # Errors
///
/// Pingora's, where the client is gone or upstream breaks off.
pub async fn unstored(
    session: &mut Session,
    exchange: &Exchange,
    answer: Unstored,
    status: CacheStatus<'_>,
) -> Result<()> {
    let Unstored { head, read, rest, .. } = answer;
    let mut headers = head.headers;
    headers::remove_hop_by_hop(&mut headers);
    headers::remove_not_passed_on(&mut headers);
    if let Some(forwarding) = &exchange.forwarding
        && let Some(location) = origin::public_location(&exchange.settings, &headers, forwarding)
        && let Ok(location) = HeaderValue::try_from(location)
    {
        headers.insert(header::LOCATION, location);
    }
    exchange.settings.cors.allow(&session.req_header().headers, &mut headers);
    headers.append(CACHE_STATUS, status.header_value());
    let Some(mut rest) = rest.filter(|_| session.req_header().method != Method::HEAD) else {
        return write(session, exchange, head.status, headers, read).await;
    };
    open(session, exchange, head.status, headers).await?;
    if !read.is_empty() {
        session.write_response_body(Some(read), false).await?;
    }
    let idle = exchange.settings.config.limits.body_timeout;
    while let Some(frame) = next_frame(&mut rest, idle).await? {
        if let Ok(chunk) = frame.into_data() {
            session.write_response_body(Some(chunk), false).await?;
        }
    }
    session.write_response_body(None, true).await
}

/// Begins an answer of Sluice's own whose body follows in pieces.
///
/// # Errors
///
/// Pingora's, where the client is gone.
pub async fn begin(
    session: &mut Session,
    exchange: &Exchange,
    status: StatusCode,
    mut headers: HeaderMap,
) -> Result<()> {
    exchange.settings.cors.allow(&session.req_header().headers, &mut headers);
    open(session, exchange, status, headers).await
}

/// Writes the head of an answer whose body follows.
async fn open(
    session: &mut Session,
    exchange: &Exchange,
    status: StatusCode,
    headers: HeaderMap,
) -> Result<()> {
    let announces_length = headers.contains_key(header::CONTENT_LENGTH);
    let mut response = response_header(status, headers);
    let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let knows_chunks = session.req_header().version == Version::HTTP_11;
    if has_body && knows_chunks && !announces_length {
        // Otherwise the end of the body would be the end of the connection.
        response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    if exchange.is_last() {
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(response), false).await
}

async fn next_frame(
    body: &mut hyper::body::Incoming,
    idle: Duration,
) -> Result<Option<hyper::body::Frame<Bytes>>> {
    let broken = |kind, why: &'static str| {
        let mut error = Error::explain(kind, why);
        error.as_up();
        error
    };
    match tokio::time::timeout(idle, body.frame()).await {
        Err(_) => Err(broken(ErrorType::ReadTimedout, "upstream's body paused for too long")),
        Ok(Some(Err(_))) => Err(broken(ErrorType::ReadError, "upstream's body broke off")),
        Ok(frame) => Ok(frame.and_then(std::result::Result::ok)),
    }
}

/// Writes the answer to a preflight.
///
/// # Errors
///
/// Pingora's, where the client is gone.
pub async fn preflight(
    session: &mut Session,
    exchange: &Exchange,
    answer: &PreflightAnswer,
    hit: Option<i64>,
) -> Result<()> {
    let mut headers = answer.headers.clone();
    let status = match hit {
        Some(ttl) => CacheStatus::hit(ttl),
        None if answer.status.is_success() => CacheStatus::forwarded(Forwarded::UriMiss).stored(),
        None => CacheStatus::forwarded(Forwarded::UriMiss),
    };
    headers.append(CACHE_STATUS, status.header_value());
    write(session, exchange, answer.status, headers, answer.body.clone()).await
}

/// Writes an answer of Sluice's own that is no error.
///
/// # Errors
///
/// Pingora's, where the client is gone.
pub async fn own(
    session: &mut Session,
    exchange: &Exchange,
    status: StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<()> {
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    exchange.settings.cors.allow(&session.req_header().headers, &mut headers);
    write(session, exchange, status, headers, body).await
}

/// Writes an error of Sluice's own.
///
/// # Errors
///
/// Pingora's, where the client is gone.
pub async fn synthetic(session: &mut Session, exchange: &mut Exchange, answer: Synthetic) -> Result<()> {
    exchange.outcome = Outcome::Error;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    exchange.settings.cors.allow(&session.req_header().headers, &mut headers);
    write(session, exchange, answer.status, headers, answer.body()).await
}

/// Writes a whole answer. `Content-Length` is the body's unless the headers
/// have one, as an answer to HEAD does.
async fn write(
    session: &mut Session,
    exchange: &Exchange,
    status: StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<()> {
    if exchange.is_last() {
        session.set_keepalive(None);
    }
    let has_length = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_head = session.req_header().method == Method::HEAD;
    if has_length && !(is_head || headers.contains_key(header::CONTENT_LENGTH)) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let bodiless = is_head || body.is_empty();
    session.write_response_header(Box::new(response_header(status, headers)), bodiless).await?;
    let mut rest = if bodiless { Bytes::new() } else { body };
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(PIECE));
        session.write_response_body(Some(piece), rest.is_empty()).await?;
    }
    Ok(())
}

fn response_header(status: StatusCode, headers: HeaderMap) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, headers);
    ResponseHeader::from(parts)
}
