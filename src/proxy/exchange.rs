//! One request and its answer, from the first callback to the last.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::front::spelling::{self, Spelling};
use super::gateway::{Gateway, Settings};
use super::invalidate::PendingInvalidation;
use super::origin;
use crate::cache::{CacheStatus, Forwarded};
use crate::headers::Forwarding;
use crate::plan::{self, Plan, Why};
use crate::postgrest::footprint::WriteBody;
use crate::postgrest::query::Query;
use crate::request::{RequestView, is_rest_path};
use crate::route::Route;
use crate::tag::{Tag, TagId};
use crate::telemetry::log::Access;
use crate::telemetry::metrics::{InvalidationSource, Metrics, Outcome, RouteMetrics};

/// Bodies of writes are looked into up to this size; of larger ones nothing is known.
const MAX_INSPECTED: usize = 256 * 1024;

const CONTENT_PROFILE: &str = "content-profile";
/// Of a write on a route that defers others.
const METHOD_NOT_DEFERRED: HeaderValue = HeaderValue::from_static("forwarded; reason=method");

/// What is known of one request.
pub struct Exchange {
    /// The settings that it began with; a reload does not touch it.
    pub settings: Arc<Settings>,
    /// Who sent it, once its head is there.
    pub forwarding: Option<Forwarding>,
    /// How it was answered.
    pub outcome: Outcome,
    /// Sluice's member of `Cache-Status` on a forwarded answer.
    pub cache_status: Option<HeaderValue>,
    /// Why a write is forwarded that might have been deferred.
    pub write_status: Option<HeaderValue>,
    /// How many queued writes of the caller a forwarded read lacks.
    pub pending_writes: Option<HeaderValue>,
    /// All of the request's body, where it was read before it was known what becomes of it.
    pub whole_body: Option<Bytes>,
    /// How often connecting to upstream was tried.
    pub attempts: usize,
    /// Whether Sluice told the client to go on with the body.
    pub continued: bool,
    /// The request's spelling, where it may be entered into the index.
    pub spelling: Option<Spelling>,
    /// The edition of the settings that it began with.
    pub edition: u64,
    stopping: Arc<AtomicBool>,
    begun: Instant,
    sent_upstream: Option<Instant>,
    route: Option<Arc<Route>>,
    detail: Option<Cow<'static, str>>,
    pending: Option<PendingInvalidation>,
    body: Inspected,
}

/// The body of a forwarded write, as far as it is of interest.
#[derive(Default)]
struct Inspected {
    bytes: BytesMut,
    too_large: bool,
}

/// Answers that gateways and edges give in upstream's place: 502 to 504, and
/// the 520 to 529 of edges.
pub fn is_gateways_own(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504 | 520..=529)
}

/// The parts of a request's head that decide anything.
pub fn view(request: &RequestHeader) -> RequestView<'_> {
    RequestView {
        method: &request.method,
        path: request.uri.path(),
        query: request.uri.query().unwrap_or_default(),
        headers: &request.headers,
    }
}

impl Exchange {
    /// A request that is about to be read.
    pub fn new(settings: Arc<Settings>, stopping: Arc<AtomicBool>) -> Self {
        Self {
            edition: settings.edition(),
            settings,
            stopping,
            spelling: spelling::CURRENT.try_with(|spelling| *spelling).ok().flatten(),
            forwarding: None,
            outcome: Outcome::Forwarded,
            cache_status: None,
            write_status: None,
            pending_writes: None,
            whole_body: None,
            attempts: 0,
            continued: false,
            begun: Instant::now(),
            sent_upstream: None,
            route: None,
            detail: None,
            pending: None,
            body: Inspected::default(),
        }
    }

    /// Whether the connection is to be closed behind the answer: the process stops.
    pub fn is_last(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Notes who sent the request.
    pub fn meet(&mut self, session: &Session) {
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip);
        let tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let request = session.req_header();
        self.forwarding = Some(origin::forwarding(&self.settings.config, request, peer, tls));
    }

    /// Decides what is to be done; `body` is a function's.
    pub fn plan(&mut self, request: &RequestHeader, body: Option<&[u8]>) -> Plan {
        let plan = if request.raw_path_is_utf8() {
            self.settings.with_rules(|rules, now| plan::plan(&view(request), body, rules, now))
        } else {
            Plan::Forward { route: None, why: Why::Bypass("path".into()) }
        };
        let route = match &plan {
            Plan::Read(read) => Some(&read.route),
            Plan::NeedsBody(route) | Plan::Defer { route, .. } => Some(route),
            Plan::Forward { route, .. } => route.as_ref(),
            Plan::Endpoint | Plan::Preflight => None,
        };
        self.route = route.cloned();
        plan
    }

    /// The request goes upstream as it is, for this reason.
    pub fn forward(&mut self, why: &Why) {
        match why {
            Why::Method => {
                if self.write_status.is_none()
                    && self.route.as_ref().is_some_and(|route| route.write.is_some())
                {
                    self.write_status = Some(METHOD_NOT_DEFERRED);
                }
                self.outcome = Outcome::Forwarded;
                self.cache_status = Some(CacheStatus::forwarded(Forwarded::Method).header_value());
            }
            Why::Bypass(detail) => {
                self.outcome = if self.route.is_some() { Outcome::Bypass } else { Outcome::Forwarded };
                let status = CacheStatus::forwarded(Forwarded::Bypass).detail(detail);
                self.cache_status = Some(status.header_value());
                self.detail = Some(detail.clone());
            }
        }
    }

    /// Notes that the request is being sent. What it may touch is invalidated
    /// from now on, whatever becomes of it.
    pub async fn sent(&mut self, gateway: &Gateway, request: &RequestHeader, bodiless: bool) {
        self.body = Inspected::default();
        if self.pending.is_none() && !view(request).is_safe() {
            let touched = self.touched(request, WriteBody::Unknown);
            if !touched.is_empty() {
                let storage = request.uri.path().starts_with("/storage/");
                let source = if storage { InvalidationSource::Storage } else { InvalidationSource::Write };
                self.pending = Some(gateway.invalidator(&self.settings).begin(touched, source).await);
            }
        }
        self.sent_upstream = Some(Instant::now());
        if bodiless {
            self.body_passed(request, None, true);
        }
    }

    /// Notes a part of the request's body as it passes.
    pub fn body_passed(&mut self, request: &RequestHeader, part: Option<&Bytes>, end: bool) {
        if self.pending.is_none() {
            return;
        }
        if let Some(part) = part {
            self.body.too_large |= self.body.bytes.len() + part.len() > MAX_INSPECTED;
            if !self.body.too_large {
                self.body.bytes.extend_from_slice(part);
            }
        }
        if end {
            let body = std::mem::take(&mut self.body.bytes);
            let touches = (!self.body.too_large).then(|| self.touched(request, WriteBody::Whole(&body)));
            if let Some(pending) = &mut self.pending {
                pending.went_whole(touches);
            }
        }
    }

    /// Upstream answered: what the request touched is invalidated before the
    /// answer is passed on, and the credentials that it accepted are learned.
    pub async fn answered(&mut self, gateway: &Gateway, request: &RequestHeader, response: &ResponseHeader) {
        let status = response.status;
        gateway.metrics.upstream_request(Some(status));
        if let Some(sent) = self.sent_upstream {
            self.metrics(&gateway.metrics).upstream(sent.elapsed());
        }
        if is_gateways_own(status) {
            // Behind the gateway the write may still be under way.
            self.abandon();
        } else {
            self.complete(request, response).await;
        }
        if status.is_success() && request.method != Method::OPTIONS && is_rest_path(request.uri.path()) {
            self.learn(request);
        }
    }

    async fn complete(&mut self, request: &RequestHeader, response: &ResponseHeader) {
        let Some(pending) = self.pending.take() else { return };
        let default = &self.settings.config.upstream.default_schema;
        let named = request.headers.contains_key(CONTENT_PROFILE);
        let elsewhere = response.headers.get(CONTENT_PROFILE).is_some_and(|name| name != default.as_str());
        // Then it went to another schema than the one whose tables were named.
        let more = (!named && elsewhere).then(|| Tag::Every.id());
        pending.complete(more).await;
    }

    /// Nobody knows whether, or when, upstream commits what the request asks for.
    pub fn abandon(&mut self) {
        self.pending = None;
    }

    fn learn(&self, request: &RequestHeader) {
        let Ok(query) = Query::parse(request.uri.query().unwrap_or_default()) else { return };
        let now = SystemTime::now();
        let authenticator = &self.settings.authenticator;
        if let Ok(caller) = authenticator.identify(&request.headers, &query, now) {
            authenticator.learn(&caller, now);
        }
    }

    fn touched(&self, request: &RequestHeader, body: WriteBody<'_>) -> Vec<TagId> {
        self.settings.with_rules(|rules, now| {
            let request = view(request);
            plan::moved(&request, &plan::touched(&request, body, rules), rules, now)
        })
    }

    /// Counts and, where that is asked for, logs the request.
    pub fn finish(&mut self, gateway: &Gateway, session: &Session) {
        let Some(status) = session.response_written().map(|response| response.status) else { return };
        let duration = self.begun.elapsed();
        self.metrics(&gateway.metrics).request(self.outcome, status, duration);
        if !self.settings.config.log.access {
            return;
        }
        let request = session.req_header();
        let target = request.uri.path_and_query().map_or("", |target| target.as_str());
        Access {
            method: request.method.as_str(),
            path: target,
            status: status.as_u16(),
            route: self.route.as_ref().map_or("-", |route| &route.name),
            outcome: self.outcome,
            detail: self.detail.as_deref(),
            bytes: session.body_bytes_sent() as u64,
            duration,
            client: self.forwarding.as_ref().and_then(|forwarding| forwarding.client),
        }
        .log();
    }

    fn metrics(&self, metrics: &Metrics) -> Arc<RouteMetrics> {
        match &self.route {
            Some(route) => metrics.route(&route.name),
            None => metrics.unrouted().clone(),
        }
    }
}
