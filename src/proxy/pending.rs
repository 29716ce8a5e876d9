//! Reads by somebody who has queued writes: answered as if upstream had them already.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use tokio::time::timeout_at;

use super::exchange::{Exchange, view};
use super::gateway::{Gateway, Settings};
use super::known::{Known, Row};
use super::order::caller;
use super::origin;
use super::respond;
use crate::cache::{CacheStatus, Forwarded};
use crate::headers::{self, Forwarding, ReadHeaders};
use crate::identity::Caller;
use crate::plan::{Plan, Why, has_body};
use crate::postgrest::footprint::read_tags;
use crate::postgrest::query::Query;
use crate::request::{DecodedPath, Dialect, Target};
use crate::route::Route;
use crate::store::journal::{CallerId, Pending, Seq, TableId};
use crate::tag::Tag;
use crate::telemetry::metrics::Outcome;
use crate::upstream::{Collected, collect};
use crate::write::overlay::{Correction, List, Point, PointAnswer, ReadShape, RowAnswer, correction};
use crate::write::queue::{Queue, caller_of, table_id};

/// How many of his queued writes an answer does or may lack.
pub const SLUICE_PENDING: HeaderName = HeaderName::from_static("sluice-pending");
/// What `Cache-Status` says of answers that queued writes take part in.
const DETAIL: &str = "pending-writes";
/// The largest list that is corrected, in bytes.
const MAX_LIST: u64 = 4 << 20;
/// How often an answer is begun anew because what is queued has changed.
const ROUNDS: usize = 3;
/// How often it is looked at most whether what is waited for has ended.
const TICK: Duration = Duration::from_millis(2);

/// What became of a read.
pub enum Seen {
    /// Its sender's queued writes, if he has any, make no difference any more.
    Plain,
    /// It was answered.
    Answered,
    /// It is forwarded as it is: what is queued can't be put into its answer.
    Forward,
}

/// A read by somebody who has queued writes.
struct Reader<'a> {
    gateway: &'a Arc<Gateway>,
    queue: &'a Queue,
    settings: Arc<Settings>,
    caller: CallerId,
    session: [u8; 16],
    route: Option<Arc<Route>>,
    forwarding: Option<Forwarding>,
    /// When it waits no longer.
    deadline: Instant,
}

/// Sees to what the sender of a read has queued. `plan` is what would be done otherwise.
///
/// # Errors
///
/// Pingora's, where the client is gone.
pub async fn see_to(
    gateway: &Arc<Gateway>,
    session: &mut Session,
    exchange: &mut Exchange,
    plan: &Plan,
) -> Result<Seen> {
    let Some(reader) = Reader::of(gateway, exchange, session.req_header(), plan) else {
        return Ok(Seen::Plain);
    };
    // Again, since something may settle, or come in, while the first answer is made.
    for round in 0..ROUNDS {
        let Some(found) = reader.correction(session.req_header()).await else {
            return Ok(reader.forward(exchange, None));
        };
        let seqs: Vec<Seq> = match found {
            Correction::Nothing => return Ok(Seen::Plain),
            // Upstream may hide the row for a header that the row is read without.
            Correction::Point(point) if !reader.reads_as_usual(session.req_header()) => point.seqs(),
            Correction::Point(point) => {
                let answer = reader.point(&point, session.req_header()).await;
                match answer.filter(|_| reader.are_queued(&point.seqs())) {
                    Some(PointAnswer::Row(answer)) => {
                        reader.answer_row(session, exchange, answer, point.seqs().len()).await?;
                        return Ok(Seen::Answered);
                    }
                    Some(PointAnswer::Absent) => return Ok(Seen::Plain),
                    Some(PointAnswer::Incomplete) | None => point.seqs(),
                }
            }
            Correction::List(list) => {
                let answer = reader.list(&list, session.req_header()).await;
                if reader.are_queued(list.seqs())
                    && let Some((head, body)) = answer
                {
                    reader.answer_list(session, exchange, head, body, list.seqs().len()).await?;
                    return Ok(Seen::Answered);
                }
                list.seqs().to_vec()
            }
            Correction::Wait(seqs) => seqs,
        };
        if round + 1 == ROUNDS || !reader.wait(&seqs).await {
            return Ok(reader.forward(exchange, Some(seqs.len())));
        }
    }
    Ok(reader.forward(exchange, None))
}

impl<'a> Reader<'a> {
    /// `None`: the request is no read, or its sender has nothing queued.
    fn of(
        gateway: &'a Arc<Gateway>,
        exchange: &Exchange,
        request: &RequestHeader,
        plan: &Plan,
    ) -> Option<Self> {
        let queue = gateway.queue.as_deref()?;
        let read = |caller: &Caller, route: Option<Arc<Route>>| {
            Some(Self {
                gateway,
                queue,
                settings: exchange.settings.clone(),
                caller: caller_of(caller).filter(|caller| !queue.journal.snapshot(*caller).is_empty())?,
                session: caller.session()?,
                route,
                forwarding: exchange.forwarding.clone(),
                deadline: Instant::now() + exchange.settings.config.queue.drain_wait,
            })
        };
        match plan {
            Plan::Read(plan) => read(&plan.caller, Some(plan.route.clone())),
            Plan::Forward { route, .. } if matches!(request.method, Method::GET | Method::HEAD) => {
                if queue.journal.depth().writes == 0 {
                    return None;
                }
                read(&caller(&exchange.settings, request)?, route.clone())
            }
            _ => None,
        }
    }

    /// What is to be done about what is queued. `None` where the journal can't be read.
    async fn correction(&self, request: &RequestHeader) -> Option<Correction> {
        let taking_part = match self.taking_part(request) {
            Ok(writes) if has_body(&view(request)) => {
                // Nothing is answered here to what only upstream understands.
                let seqs: Vec<Seq> = writes.iter().map(|write| write.seq).collect();
                return Some(if seqs.is_empty() { Correction::Nothing } else { Correction::Wait(seqs) });
            }
            Ok(writes) => writes,
            // Upstream may read anything out of it.
            Err(seqs) => return Some(Correction::Wait(seqs)),
        };
        let writes = self.queue.decoded(taking_part).await.ok()?;
        Some(self.read(request, |read| correction(read, &writes)).unwrap_or(Correction::Nothing))
    }

    /// The queued writes that may matter to the read; as an error, all there are, if it has several readings.
    fn taking_part(&self, request: &RequestHeader) -> std::result::Result<Vec<Pending>, Vec<Seq>> {
        let tags = self.read(request, |read| {
            read_tags(read.target, read.query, read.schemas, read.depends_on)
                .map(|read| read.tags)
                .unwrap_or_default()
        });
        let Some(tags) = tags else {
            let queued = self.queue.journal.snapshot(self.caller);
            return Err(queued.iter().map(|write| write.seq).collect());
        };
        let tables: Vec<TableId> = tags.iter().filter_map(table_of).collect();
        // Without its tags, or with such as may be of any table, no write can be left out.
        let is_any = tags.is_empty() || tags.iter().any(|tag| matches!(tag, Tag::Schema(_)));
        Ok(self.queue.writes_of(self.caller, |write| is_any || tables.contains(&write.table)))
    }

    /// Whether the request has no header that a policy may read, but for those that the row is read with as well.
    fn reads_as_usual(&self, request: &RequestHeader) -> bool {
        let policy = self.route.as_ref().and_then(|route| route.read.as_deref());
        let vary = policy.map_or(&[] as &[HeaderName], |policy| &policy.vary);
        let ignored = |name: &HeaderName| {
            policy.is_some_and(|policy| policy.ignore_headers.iter().any(|glob| glob.matches(name)))
        };
        let reading = ReadHeaders { method: &request.method, dialect: Dialect::Rest, vary };
        reading.first_unknown(&request.headers, ignored).is_none()
    }

    /// Calls `decide` with the read. `None` where it has several readings.
    fn read<T>(&self, request: &RequestHeader, decide: impl FnOnce(&ReadShape<'_>) -> T) -> Option<T> {
        let request = view(request);
        let (path, query) = (DecodedPath::parse(request.path).ok()?, Query::parse(request.query).ok()?);
        let target = Target::of(&request, &path, &self.settings.config.upstream.default_schema);
        let schemas = self.settings.schemas.load();
        let routes = &self.settings.config.routes;
        Some(decide(&ReadShape {
            method: request.method,
            target: &target,
            query: &query,
            headers: request.headers,
            schemas: &schemas,
            depends_on: self.route.as_ref().and_then(|route| route.read.as_ref()?.depends_on.as_deref()),
            policy_of: &|relation| routes.of_table(relation).find_map(|route| route.write.clone()),
            same_session: &|record| record.session == self.session,
        }))
    }

    /// The row with what is queued laid over it. `None`: it can't be had.
    async fn point(&self, point: &Point, request: &RequestHeader) -> Option<PointAnswer> {
        let routes = &self.settings.config.routes;
        let route = self.route.clone().or_else(|| routes.of_table(point.relation()).next().cloned())?;
        let row = Row {
            table: point.relation(),
            key: point.key(),
            route: &route,
            headers: &request.headers,
            reads: true,
        };
        match timeout_at(self.deadline.into(), row.look_up(self.gateway, &self.settings)).await {
            Ok(Known::Row(base)) => Some(point.answer(Some(&base))),
            Ok(Known::Absent) => Some(point.answer(None)),
            Ok(Known::Unreachable(_)) | Err(_) => Some(point.answer_from_record()),
            Ok(Known::Unclear) => None,
        }
    }

    /// Upstream's answer with what is queued put in.
    async fn list(&self, list: &List, sent: &RequestHeader) -> Option<(http::response::Parts, Bytes)> {
        let _place = self.gateway.fills.clone().try_acquire_owned().ok()?;
        let mut prepared = sent.clone();
        origin::prepare_headers(&mut prepared, self.forwarding.as_ref()?).ok()?;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = sent.method.clone();
        *request.uri_mut() = sent.uri.path_and_query()?.as_str().parse().ok()?;
        *request.headers_mut() = prepared.headers.clone();
        headers::remove_hop_by_hop(request.headers_mut());
        for name in [CONTENT_LENGTH, EXPECT] {
            request.headers_mut().remove(name);
        }
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let response = self.settings.client.send(request).await.ok()?;
        self.gateway.metrics.upstream_request(Some(response.status()));
        let (head, body) = response.into_parts();
        if !matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return None;
        }
        let body = match collect(body, MAX_LIST, self.settings.config.limits.body_timeout).await.ok()? {
            Collected::Whole(body) => list.correct(&body)?,
            Collected::TooLarge { .. } => return None,
        };
        Some((head, body))
    }

    /// Whether all of them are still queued.
    fn are_queued(&self, seqs: &[Seq]) -> bool {
        let queued = self.queue.journal.snapshot(self.caller);
        seqs.iter().all(|seq| queued.binary_search_by_key(seq, |write| write.seq).is_ok())
    }

    /// Waits until all of them have ended. `false`: they won't soon.
    async fn wait(&self, seqs: &[Seq]) -> bool {
        self.queue.journal.end_linger(seqs);
        let mut changed = self.queue.journal.changed();
        loop {
            changed.mark_unchanged();
            let left = self.queue.writes_of(self.caller, |write| seqs.binary_search(&write.seq).is_ok());
            if left.is_empty() {
                return true;
            }
            if left.iter().any(|write| write.lane_is_stuck) {
                return false;
            }
            match timeout_at(self.deadline.into(), changed.changed()).await {
                Ok(Ok(())) => tokio::time::sleep(TICK).await,
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }

    fn forward(&self, exchange: &mut Exchange, count: Option<usize>) -> Seen {
        exchange.forward(&Why::Bypass(DETAIL.into()));
        exchange.pending_writes = count.map(HeaderValue::from);
        Seen::Forward
    }

    async fn answer_row(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        answer: RowAnswer,
        count: usize,
    ) -> Result<()> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert(CONTENT_RANGE, HeaderValue::from_static(answer.content_range));
        exchange.outcome = Outcome::Hit;
        mark(&mut headers, CacheStatus::hit(0), count);
        respond::own(session, exchange, StatusCode::OK, headers, answer.body).await
    }

    async fn answer_list(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        head: http::response::Parts,
        body: Bytes,
        count: usize,
    ) -> Result<()> {
        let mut headers = head.headers;
        headers::remove_hop_by_hop(&mut headers);
        headers::remove_not_passed_on(&mut headers);
        headers.remove(http::header::CONTENT_LENGTH);
        if let Some(forwarding) = &exchange.forwarding
            && let Some(location) = origin::public_location(&self.settings, &headers, forwarding)
            && let Ok(location) = HeaderValue::try_from(location)
        {
            headers.insert(http::header::LOCATION, location);
        }
        exchange.outcome = Outcome::Bypass;
        mark(&mut headers, CacheStatus::forwarded(Forwarded::Bypass), count);
        respond::own(session, exchange, head.status, headers, body).await
    }
}

fn table_of(tag: &Tag) -> Option<TableId> {
    match tag {
        Tag::Table(relation) => Some(table_id(relation)),
        _ => None,
    }
}

/// Says that queued writes took part.
fn mark(headers: &mut HeaderMap, status: CacheStatus<'_>, count: usize) {
    headers.append(respond::CACHE_STATUS, status.detail(DETAIL).header_value());
    headers.insert(SLUICE_PENDING, HeaderValue::from(count));
}
