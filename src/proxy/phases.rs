//! Pingora's callbacks, in the order in which a request meets them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::exchange::{Exchange, view};
use super::gateway::Gateway;
use super::origin;
use super::read::{self, Served};
use super::respond::{self, CACHE_STATUS};
use super::synth::Synthetic;
use crate::cors::Preflight;
use crate::plan::{Plan, Why};
use crate::telemetry::metrics::Outcome;

/// Addresses of upstream that are tried before a client is told.
const MAX_ATTEMPTS: usize = 3;
/// The most that Pingora can send again after Sluice has read it.
const MAX_READ_BODY: usize = 60 * 1024;

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
        match plan {
            Plan::Endpoint => {
                respond::synthetic(session, exchange, Synthetic::not_found()).await?;
                Ok(Served::Answered)
            }
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
            respond::preflight(session, &answer, Some(ttl)).await?;
            return Ok(Served::Answered);
        }
        let answered = preflights.ask(&settings, &request.uri, &request.headers, asked).await;
        self.gateway.metrics.upstream_request(answered.as_ref().ok().map(|answer| answer.status));
        match answered {
            Ok(answer) => {
                exchange.outcome = Outcome::Miss;
                respond::preflight(session, &answer, None).await?;
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
        Exchange::new(self.gateway.settings())
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
        name_host(session.req_header_mut())?;
        exchange.meet(session);
        let mut plan = exchange.plan(session.req_header(), None);
        let mut body = Bytes::new();
        if let Plan::NeedsBody(_) = plan
            && let Some(read) = read_body(session, exchange).await?
        {
            plan = exchange.plan(session.req_header(), Some(&read));
            body = read;
        }
        let served = self.carry_out(session, exchange, plan, body).await?;
        Ok(matches!(served, Served::Answered))
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

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if let Some(forwarding) = &exchange.forwarding {
            origin::prepare_request(&exchange.settings.config, request, forwarding)?;
        }
        if exchange.continued {
            request.remove_header(&header::EXPECT);
        }
        exchange.sent(&self.gateway, session.req_header());
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.body_passed(body.as_ref(), end);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if response.status.is_informational() && response.status != http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        exchange.answered(&self.gateway, session.req_header(), response.status);
        if let Some(forwarding) = &exchange.forwarding {
            origin::prepare_response(&exchange.settings, response, forwarding)?;
        }
        if let Some(status) = exchange.cache_status.take() {
            response.append_header(CACHE_STATUS, status)?;
        }
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
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
        if session.response_written().is_none() {
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
}

/// HTTP/2 names the host in `:authority`; from here on it is in `Host`, as in HTTP/1.
fn name_host(request: &mut RequestHeader) -> Result<()> {
    let authority = request.uri.authority().map(|authority| authority.to_string());
    match authority {
        Some(authority) if !request.headers.contains_key(header::HOST) => {
            request.insert_header(header::HOST, authority)
        }
        _ => Ok(()),
    }
}

/// What a client is told of an error; `None` where he is gone.
fn answer_to(error: &Error) -> Option<Synthetic> {
    use ErrorType::{
        ConnectTimedout, ConnectionClosed, ReadError, ReadTimedout, TLSHandshakeTimedout, WriteError,
    };
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadTimedout) => Some(Synthetic::request_timeout()),
        (ErrorSource::Downstream, WriteError | ReadError | ConnectionClosed) => None,
        (ErrorSource::Downstream, _) => Some(Synthetic::malformed("The request's body is malformed.")),
        (ErrorSource::Upstream, ConnectTimedout | ReadTimedout | TLSHandshakeTimedout) => {
            Some(Synthetic::gateway_timeout())
        }
        (ErrorSource::Upstream, _) => Some(Synthetic::bad_gateway()),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Synthetic::internal()),
    }
}

/// Reads a function's body, which is part of the key, so that it can still be
/// forwarded. `None`, with nothing read, if it is longer than that allows or
/// does not say how long it is.
async fn read_body(session: &mut Session, exchange: &mut Exchange) -> Result<Option<Bytes>> {
    let request = session.req_header();
    let length = view(request).header("content-length").and_then(|length| length.parse::<usize>().ok());
    let Some(length) = length.filter(|length| *length <= MAX_READ_BODY) else { return Ok(None) };
    if request.headers.contains_key(header::EXPECT) {
        session.write_continue_response().await?;
        exchange.continued = true;
    }
    session.enable_retry_buffering();
    let mut body = BytesMut::with_capacity(length);
    while let Some(part) = session.read_request_body().await? {
        body.extend_from_slice(&part);
    }
    Ok(Some(body.freeze()))
}
