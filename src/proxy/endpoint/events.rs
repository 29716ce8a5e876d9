//! `/sluice/v1/events`: what happens to the caller's writes, and which tables
//! change, as server-sent events (HTML, section 9.2).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use tokio::time::{Instant, sleep_until};

use super::missing::Missing;
use super::problem::Problem;
use super::streams::{Crowded, News, Stream};
use super::tables::{self, Watched};
use super::visitor::{Bearer, Visitor};
use crate::identity::Refusal;
use crate::postgrest::query::Query;
use crate::postgrest::timestamp::Micros;
use crate::proxy::exchange::Exchange;
use crate::proxy::gateway::Gateway;
use crate::proxy::respond;
use crate::telemetry::metrics::Outcome;
use crate::write::events::{self, Resume};

/// Something is written, and the token looked at, this often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Clients come back after this time, and up to as much again: not all of them at once.
const RETRY: Duration = Duration::from_secs(1);
/// News are written together up to this size.
const PIECE: usize = 16 * 1024;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells nginx in front to pass everything on at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Answers with a stream that lasts until the token or the process ends, the
/// client goes away, or doesn't keep up.
///
/// # Errors
///
/// Pingora's, where the client is gone.
pub async fn serve(gateway: &Arc<Gateway>, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    let request = session.req_header();
    let query = request.uri.query().unwrap_or_default();
    match Subscription::begin(gateway, exchange, query, &request.headers).await {
        Ok((subscription, opening)) => subscription.run(gateway, session, exchange, opening).await,
        Err(refused) => super::problem(session, exchange, refused).await,
    }
}

/// A stream and whose it is.
struct Subscription {
    bearer: Bearer,
    visitor: Visitor,
    tables: Vec<Watched>,
    stream: Stream,
    default_schema: String,
}

/// What a stream was woken by.
enum Woken {
    News(Option<News>),
    Due,
    Gone,
}

impl Subscription {
    /// A stream for who asks, and what is written first.
    async fn begin(
        gateway: &Gateway,
        exchange: &Exchange,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<(Self, String), Problem> {
        let settings = &exchange.settings;
        let query = Query::parse(query)
            .map_err(|error| Problem::malformed(format!("The query has no single reading: {error}.")))?;
        let bearer =
            Bearer::of_request(headers, &query).map_err(|reason| Problem::unauthorized(Some(reason)))?;
        let visitor = visitor(gateway, &bearer)?;
        let default_schema = settings.config.upstream.default_schema.clone();
        let tables = tables::asked(&query, &default_schema)?;
        // A place comes first: upstream is not asked for more streams than there may be.
        let stream = gateway.streams.open(visitor.caller).map_err(crowded)?;
        let credentials = tables::credentials(&bearer, headers, &query);
        tables::check(gateway, settings, &tables, &credentials).await?;
        stream.watch(settings.with_rules(|rules, _| tables.iter().map(|table| table.tags(rules)).collect()));
        let subscription = Self { bearer, visitor, tables, stream, default_schema };
        let last = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
        // A browser that comes back by itself repeats the parameter, which is older then.
        let last = last.or_else(|| query.get("last_event_id"));
        let opening = subscription.opening(gateway, last).await?;
        Ok((subscription, opening))
    }

    /// What is written first to a client that has last seen the event `last`.
    async fn opening(&self, gateway: &Gateway, last: Option<&str>) -> Result<String, Problem> {
        let now = Micros::of(SystemTime::now());
        let latest = self.stream.latest();
        let mut text = events::retry_text(RETRY + RETRY.mul_f64(chance()));
        let resume = Resume::of(last, latest, now);
        if resume != Resume::Fresh {
            let missed = match (resume, &gateway.queue) {
                (Resume::After(after), Some(queue)) => {
                    let missing = Missing { caller: self.visitor.caller, after, until: latest };
                    missing.read(queue.journal.as_ref(), &self.default_schema).await.map_err(|error| {
                        tracing::warn!(%error, "missed events not read");
                        Problem::no_journal()
                    })?
                }
                _ => None,
            };
            text.push_str(missed.as_deref().unwrap_or(events::RESYNC));
            // Changes are not remembered: each table may have changed meanwhile.
            self.tables.iter().for_each(|table| text.push_str(&events::change_text(&table.name, now)));
        }
        text.extend(latest.map(events::position_text));
        Ok(text)
    }

    async fn run(
        mut self,
        gateway: &Gateway,
        session: &mut Session,
        exchange: &mut Exchange,
        opening: String,
    ) -> Result<()> {
        exchange.outcome = Outcome::Hit;
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (ACCEL_BUFFERING, HeaderValue::from_static("no")),
        ]);
        if session.req_header().method == Method::HEAD {
            return respond::own(session, exchange, StatusCode::OK, headers, Bytes::new()).await;
        }
        begin(session, exchange, headers).await?;
        let mut due = self.due();
        let mut text = opening;
        loop {
            session.write_response_body(Some(Bytes::from(text)), false).await?;
            let woken = tokio::select! {
                news = self.stream.next() => Woken::News(news),
                () = sleep_until(due) => Woken::Due,
                () = gone(session) => Woken::Gone,
            };
            text = match woken {
                Woken::News(Some(news)) => self.texts(&news),
                Woken::Due if self.still_holds(gateway) => {
                    due = self.due();
                    events::HEARTBEAT.to_owned()
                }
                Woken::News(None) | Woken::Due => return session.write_response_body(None, true).await,
                Woken::Gone => {
                    session.set_keepalive(None);
                    return Ok(());
                }
            };
        }
    }

    /// When to look at the token again.
    fn due(&self) -> Instant {
        let left = |expires: SystemTime| expires.duration_since(SystemTime::now()).unwrap_or_default();
        Instant::now() + self.visitor.expires.map_or(HEARTBEAT, left).min(HEARTBEAT)
    }

    /// Whether the token still counts, by the keys of the moment.
    fn still_holds(&mut self, gateway: &Gateway) -> bool {
        let Ok(visitor) = visitor(gateway, &self.bearer) else { return false };
        let is_same = visitor.caller == self.visitor.caller;
        self.visitor = visitor;
        is_same
    }

    /// The text of `news` and of what is in the inbox behind it.
    fn texts(&mut self, news: &News) -> String {
        let mut text = self.text(news);
        while text.len() < PIECE
            && let Some(news) = self.stream.ready()
        {
            text.push_str(&self.text(&news));
        }
        text
    }

    fn text(&self, news: &News) -> String {
        match news {
            News::Write(event) => events::write_text(event, &self.default_schema),
            News::Change { table, at } => events::change_text(&self.tables[*table].name, *at),
        }
    }
}

/// Writes the head of an answer whose length nobody knows.
async fn begin(session: &mut Session, exchange: &Exchange, mut headers: HeaderMap) -> Result<()> {
    let request = session.req_header();
    exchange.settings.cors.allow(&request.headers, &mut headers);
    if request.version == Version::HTTP_11 {
        // Otherwise the end of the body would be the end of the connection.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.headers = headers;
    if exchange.is_last() {
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(ResponseHeader::from(parts)), false).await
}

/// Whose token it is, if it counts by the keys of the moment. Unlike for a
/// single request, its time must not be over by a little either.
fn visitor(gateway: &Gateway, bearer: &Bearer) -> Result<Visitor, Problem> {
    let now = SystemTime::now();
    let visitor = bearer.visitor(&gateway.peek().authenticator, now).map_err(Problem::unauthorized)?;
    if visitor.expires.is_some_and(|expires| expires <= now) {
        return Err(Problem::unauthorized(Some(Refusal::ExpiredToken)));
    }
    Ok(visitor)
}

fn crowded(crowded: Crowded) -> Problem {
    match crowded {
        Crowded::Caller => Problem::too_many_streams(),
        Crowded::Everybody => Problem::unavailable("It stops, or has as many streams open as it takes."),
    }
}

/// Returns when the client has gone. A body that it sends is passed over.
async fn gone(session: &mut Session) {
    while session.as_downstream_mut().read_body_or_idle(false).await.is_ok() {}
}

/// A random number from 0 to 1: the standard library's hashers are keyed by the system's.
fn chance() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}
