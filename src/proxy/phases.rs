//! Pingora's callbacks, in the order in which a request meets them.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use http::{StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::defer::{Deferral, SLUICE_WRITE};
use super::exchange::Exchange;
use super::gateway::{Gateway, Settings};
use super::pending::{self, SLUICE_PENDING, Seen};
use super::read::{self, Served};
use super::respond::{self, CACHE_STATUS};
use super::synth::Synthetic;
use super::{body, endpoint, order, origin};
use crate::cors::Preflight;
use crate::headers;
use crate::plan::{Plan, Why};
use crate::request::DecodedPath;
use crate::route::Route;
use crate::tag::Relation;
use crate::telemetry::metrics::Outcome;

/// Addresses of upstream that are tried before a client is told.
const MAX_ATTEMPTS: usize = 3;

/// Sluice as Pingora calls it.
pub struct Phases {
    gateway: Arc<Gateway>,
}

impl Phases {
    /// Callbacks that work on `gateway`.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    async fn carry_out(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        plan: Plan,
        body: Bytes,
    ) -> Result<Served> {
        match pending::see_to(&self.gateway, session, exchange, &plan).await? {
            Seen::Plain => {}
            Seen::Answered => return Ok(Served::Answered),
            Seen::Forward => return Ok(Served::Forward),
        }
        match plan {
            Plan::Endpoint => {
                let path = DecodedPath::parse(session.req_header().uri.path()).ok();
                endpoint::serve(&self.gateway, session, exchange, path.as_ref()).await?;
                Ok(Served::Answered)
            }
            Plan::Defer { route, relation } => self.defer(session, exchange, route, relation).await,
            Plan::Preflight => self.preflight(session, exchange).await,
            Plan::Read(read) => read::serve(&self.gateway, session, exchange, *read, body).await,
            Plan::Forward { why, .. } => {
                exchange.forward(&why);
                Ok(Served::Forward)
            }
            // Its body was not to be had.
            Plan::NeedsBody(_) => {
                exchange.forward(&Why::Bypass("body".into()));
                Ok(Served::Forward)
            }
        }
    }

    async fn defer(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        route: Arc<Route>,
        relation: Relation,
    ) -> Result<Served> {
        exchange.forward(&Why::Method);
        let Some(deferral) = Deferral::of(&self.gateway, exchange, route, relation) else {
            return Ok(Served::Forward);
        };
        let body = body::read(session, exchange).await?;
        exchange.whole_body.clone_from(&body);
        deferral.serve(session, exchange, body).await
    }

    async fn preflight(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Served> {
        let request = session.req_header();
        let Some(asked) = Preflight::of(request.uri.path(), &request.headers) else {
            exchange.forward(&Why::Bypass("preflight".into()));
            return Ok(Served::Forward);
        };
        let settings = exchange.settings.clone();
        let preflights = &self.gateway.preflights;
        if let Some((answer, ttl)) = preflights.get(&asked, settings.config.cors.max_age) {
            exchange.outcome = Outcome::Hit;
            respond::preflight(session, exchange, &answer, Some(ttl)).await?;
            return Ok(Served::Answered);
        }
        let answered = preflights.ask(&settings, &request.uri, &request.headers, asked).await;
        self.gateway.metrics.upstream_request(answered.as_ref().ok().map(|answer| answer.status));
        match answered {
            Ok(answer) => {
                exchange.outcome = Outcome::Miss;
                respond::preflight(session, exchange, &answer, None).await?;
            }
            Err(error) => {
                tracing::warn!(%error, "preflight failed");
                let answer =
                    if error.is_timeout() { Synthetic::gateway_timeout() } else { Synthetic::bad_gateway() };
                respond::synthetic(session, exchange, answer).await?;
            }
        }
        Ok(Served::Answered)
    }
}

#[async_trait]
impl ProxyHttp for Phases {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::new(self.gateway.settings(), self.gateway.stopping.clone())
    }

    /// No modules: compression is the cache's, and forwarded bodies stay as they are.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        if session.req_header().headers.len() > exchange.settings.config.limits.max_headers {
            let answer =
                Synthetic::head_too_large("The request has more header fields than limits.max_headers.");
            respond::synthetic(session, exchange, answer).await?;
            return Ok(true);
        }
        let body_timeout = exchange.settings.config.limits.body_timeout;
        if session.req_header().version == Version::HTTP_2 {
            // HTTP/1 connections have theirs from the front.
            session.set_write_timeout(Some(body_timeout));
            session.set_total_drain_timeout(Some(body_timeout));
        }
        if headers::asks_to_close(&session.req_header().headers) {
            // Pingora reads the first line of `Connection` alone.
            session.set_keepalive(None);
        }
        normalize(session.req_header_mut())?;
        exchange.meet(session);
        let mut plan = exchange.plan(session.req_header(), None);
        if matches!(plan, Plan::Read(_)) && !session.as_downstream_mut().is_body_empty() {
            // HTTP/2 announces no length: the head alone did not tell.
            plan = Plan::Forward { route: None, why: Why::Bypass("body".into()) };
        }
        let mut body = Bytes::new();
        if let Plan::NeedsBody(_) = plan
            && let Some(read) = body::read(session, exchange).await?
        {
            plan = exchange.plan(session.req_header(), Some(&read));
            body = read;
        }
        if let Some(queue) = &self.gateway.queue {
            let Settings { authenticator, config, .. } = &*exchange.settings;
            let headers = &session.req_header().headers;
            queue.see_token(authenticator, &config.routes, headers, SystemTime::now());
        }
        if let Served::Answered = self.carry_out(session, exchange, plan, body).await? {
            return Ok(true);
        }
        if !order::may_pass(&self.gateway, exchange, session.req_header()).await {
            respond::synthetic(session, exchange, Synthetic::writes_in_the_way()).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        origin::peer(&exchange.settings, exchange.attempts, session.is_upgrade_req()).await
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        exchange.attempts += 1;
        if let Some(address) = peer._address.as_inet() {
            exchange.settings.resolver.report_failure(*address);
        }
        // Nothing was sent, so another address may be tried whatever the method.
        error.set_retry(exchange.attempts < MAX_ATTEMPTS);
        error
    }

    /// Only what is safe is sent again where a kept connection turns out dead:
    /// a DELETE with `limit` would delete twice.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        _exchange: &mut Exchange,
        client_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("peer: {}", peer._address));
        if session.req_header().method.is_safe() && !session.as_ref().retry_buffer_truncated() {
            error.retry.decide_reuse(client_reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if let Some(forwarding) = &exchange.forwarding {
            origin::prepare_request(&exchange.settings, request, forwarding)?;
        }
        if exchange.continued {
            request.remove_header(&header::EXPECT);
        }
        let bodiless = session.as_downstream_mut().is_body_empty();
        exchange.sent(&self.gateway, session.req_header(), bodiless).await;
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.body_passed(session.req_header(), body.as_ref(), end);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        exchange.answered(&self.gateway, session.req_header(), response).await;
        if exchange.is_last() {
            session.set_keepalive(None);
        }
        if let Some(forwarding) = &exchange.forwarding {
            origin::prepare_response(&exchange.settings, response, forwarding)?;
        }
        let own = [
            (CACHE_STATUS, exchange.cache_status.take()),
            (SLUICE_WRITE, exchange.write_status.take()),
            (SLUICE_PENDING, exchange.pending_writes.take()),
        ];
        for (name, value) in own {
            if let Some(value) = value {
                response.append_header(name, value)?;
            }
        }
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        // Before anybody is told: nobody may be given what the request has touched.
        exchange.abandon();
        let Some(answer) = answer_to(error) else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        let request = session.req_header();
        if *error.esource() == ErrorSource::Downstream {
            tracing::debug!(%error, "request failed");
        } else {
            tracing::warn!(%error, method = %request.method, path = request.uri.path(), "forwarding failed");
        }
        let error_code = answer.status.as_u16();
        // A client that has part of an answer is told by the connection's end.
        let begun = session.response_written().is_some_and(|response| {
            !response.status.is_informational() || response.status == StatusCode::SWITCHING_PROTOCOLS
        });
        if !begun {
            session.set_keepalive(None);
            if let Err(error) = respond::synthetic(session, exchange, answer).await {
                tracing::debug!(%error, "answer not written");
            }
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, exchange: &mut Exchange) {
        exchange.finish(&self.gateway, session);
    }

    /// `fail_to_proxy` logs already.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    /// Pingora's own lines name the request by [`Self::request_summary`]; one a try is too many.
    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    /// Without the query, which may hold credentials.
    fn request_summary(&self, session: &Session, _exchange: &Exchange) -> String {
        let request = session.req_header();
        format!("{} {}", request.method, request.uri.path())
    }
}

/// Makes of the head what everybody after this point reads alike.
///
/// The host is in `Host`, where HTTP/2 has it in `:authority`, and the target
/// begins with its path, where HTTP/1 may send a URL. Fields
/// that `Connection` names are gone, since Pingora would drop them on the way,
/// after they were read here.
fn normalize(request: &mut RequestHeader) -> Result<()> {
    if let Some(authority) = request.uri.authority().map(ToString::to_string) {
        request.insert_header(header::HOST, authority)?;
    }
    let is_origin_form = request.raw_path().starts_with(b"/") || request.raw_path() == b"*";
    if request.raw_path_is_utf8() && !is_origin_form {
        // The URI has the path alone, the bytes for the wire have the URL.
        request.set_uri(request.uri.clone());
    }
    for name in &origin::connection_fields(&request.headers) {
        request.remove_header(name);
    }
    Ok(())
}

/// What a client is told of an error; `None` where he is gone.
fn answer_to(error: &Error) -> Option<Synthetic> {
    use ErrorType::{
        ConnectTimedout, ConnectionClosed, ReadError, ReadTimedout, TLSHandshakeTimedout, WriteError,
    };
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadTimedout) => Some(Synthetic::request_timeout()),
        (ErrorSource::Downstream, _) if is_malformed(error) => {
            Some(Synthetic::malformed("The request's chunked body is malformed."))
        }
        (ErrorSource::Downstream, WriteError | ReadError | ConnectionClosed) => None,
        (ErrorSource::Downstream, _) => Some(Synthetic::malformed("The request's body is malformed.")),
        (ErrorSource::Upstream, ConnectTimedout | ReadTimedout | TLSHandshakeTimedout) => {
            Some(Synthetic::gateway_timeout())
        }
        (ErrorSource::Upstream, _) => Some(Synthetic::bad_gateway()),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Synthetic::internal()),
    }
}

/// Whether the front refused what the client sent.
fn is_malformed(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::InvalidData)
}
