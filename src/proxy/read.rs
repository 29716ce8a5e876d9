//! Reads that the cache may answer: lookup, collapsing, delivery.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::proxy::Session;

use super::exchange::Exchange;
use super::fill::is_passing_error;
use super::front::index::Entered;
use super::gateway::Gateway;
use super::lookup::{Lookup, Obtained, Stale};
use super::respond;
use super::synth::Synthetic;
use crate::cache::{CacheStatus, Entry, Forwarded, RequestDirectives, Standing};
use crate::identity::{FillCredentials, Refusal};
use crate::plan::{ReadPlan, Why};
use crate::request::Dialect;
use crate::telemetry::metrics::Outcome;

/// Why a read that could be cached is forwarded while the store is down.
const NO_STORE: &str = "store";

/// Whether a read was answered.
pub enum Served {
    /// It was.
    Answered,
    /// The client's own request is to be forwarded.
    Forward,
}

/// Answers a read from the cache, or from upstream by way of the cache.
///
/// # Errors
///
/// Pingora's, where the client is gone or upstream breaks off midway.
pub async fn serve(
    gateway: &Arc<Gateway>,
    session: &mut Session,
    exchange: &mut Exchange,
    plan: ReadPlan,
    body: Bytes,
) -> Result<Served> {
    let request = session.req_header();
    let head = request.method == Method::HEAD;
    let directives = plan.policy.obey_request_directives.then(|| RequestDirectives::of(&request.headers));
    if directives.is_some_and(|directives| directives.no_store) {
        exchange.forward(&Why::Bypass("no-store".into()));
        return Ok(Served::Forward);
    }
    let mut lookup = Lookup::new(gateway, plan, head, body);
    lookup.directives = directives;
    let Ok(mut found) = lookup.recall().await else {
        exchange.forward(&Why::Bypass(NO_STORE.into()));
        return Ok(Served::Forward);
    };
    if !lookup.plan.admitted && found.take().is_some() {
        lookup.why = Forwarded::Bypass;
    }
    if let Some(entry) = found {
        match lookup.standing(&entry) {
            Standing::Fresh { ttl } => {
                exchange.outcome = Outcome::Hit;
                lookup.enter(session, exchange);
                return lookup.hit(session, exchange, &entry, CacheStatus::hit(ttl)).await;
            }
            Standing::Stale { ttl, while_revalidating: true, .. } => {
                exchange.outcome = Outcome::Stale;
                lookup.refresh(session.req_header(), &exchange.settings, entry.clone());
                let status = CacheStatus::hit(ttl).detail("revalidating");
                return lookup.hit(session, exchange, &entry, status).await;
            }
            Standing::Stale { ttl, if_error, .. } => {
                lookup.stale = Some(Stale { entry, ttl, if_error });
                lookup.why = Forwarded::Stale;
            }
        }
    }
    if let Some(directives) = directives {
        if directives.only_if_cached {
            respond::synthetic(session, exchange, Synthetic::not_cached()).await?;
            return Ok(Served::Answered);
        }
        if directives.no_cache {
            lookup.why = Forwarded::Request;
        }
    }
    if lookup.is_vain() {
        exchange.cache_status = Some(CacheStatus::forwarded(lookup.why).header_value());
        return Ok(Served::Forward);
    }
    let obtained = lookup.obtain(session.req_header(), &exchange.settings).await;
    lookup.answer(session, exchange, obtained).await
}

impl Lookup<'_> {
    async fn hit(
        &self,
        session: &mut Session,
        exchange: &Exchange,
        entry: &Entry,
        status: CacheStatus<'_>,
    ) -> Result<Served> {
        self.gateway.metrics.saved(entry.body().len() as u64);
        respond::entry(session, exchange, self.gateway, &self.plan, entry, status).await?;
        Ok(Served::Answered)
    }

    /// Lets the front answer the next request of this spelling.
    fn enter(&self, session: &Session, exchange: &Exchange) {
        let Some(spelling) = exchange.spelling else { return };
        let (headers, settings) = (&session.req_header().headers, &*exchange.settings);
        let entered = Entered { spelling, edition: exchange.edition, headers, settings };
        if self.gateway.memory.is_enabled() {
            self.gateway.index.enter_read(&entered, &self.plan, &self.gateway.metrics);
        }
    }

    async fn answer(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        obtained: Obtained,
    ) -> Result<Served> {
        let status = match self.why {
            Forwarded::Bypass => CacheStatus::forwarded(self.why).detail(Refusal::ApiKey.detail()),
            why => CacheStatus::forwarded(why),
        };
        match obtained {
            Obtained::Entry { entry, stored, collapsed } => {
                exchange.outcome = if collapsed { Outcome::Collapsed } else { Outcome::Miss };
                let status = if stored { status.stored() } else { status };
                let status = if collapsed { status.collapsed() } else { status };
                respond::entry(session, exchange, self.gateway, &self.plan, &entry, status).await?;
            }
            Obtained::Response(response) => {
                exchange.outcome = Outcome::Miss;
                let answered = response.head.status;
                if is_passing_error(answered)
                    && let Some(stale) = self.usable_stale()
                {
                    return self.stale_if_error(session, exchange, stale, Some(answered)).await;
                }
                if self.is_for_the_clients_own_request(session) {
                    exchange.cache_status = Some(status.header_value());
                    return Ok(Served::Forward);
                }
                let why = response.why.to_string();
                respond::unstored(session, exchange, *response, status.detail(&why)).await?;
            }
            Obtained::NoStore => {
                exchange.forward(&Why::Bypass(NO_STORE.into()));
                return Ok(Served::Forward);
            }
            Obtained::Crowded => {
                exchange.cache_status = Some(status.detail("crowded").header_value());
                return Ok(Served::Forward);
            }
            Obtained::Failed(error) => {
                tracing::warn!(route = self.plan.route.name, %error, "fill failed");
                if let Some(stale) = self.usable_stale() {
                    return self.stale_if_error(session, exchange, stale, None).await;
                }
                let answer =
                    if error.is_timeout() { Synthetic::gateway_timeout() } else { Synthetic::bad_gateway() };
                respond::synthetic(session, exchange, answer).await?;
            }
        }
        Ok(Served::Answered)
    }

    /// Whether an answer that can't be stored is not to be passed on: it was
    /// asked for without the client's credentials, or without the range and
    /// the conditions that he sent for an object.
    fn is_for_the_clients_own_request(&self, session: &Session) -> bool {
        const CUTS: [HeaderName; 4] = [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE];
        let headers = &session.req_header().headers;
        let cut = self.plan.dialect != Dialect::Rest && CUTS.iter().any(|name| headers.contains_key(name));
        cut || matches!(self.plan.credentials, FillCredentials::Anonymous { .. })
    }

    async fn stale_if_error(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        stale: &Stale,
        answered: Option<StatusCode>,
    ) -> Result<Served> {
        exchange.outcome = Outcome::Stale;
        let status = CacheStatus::forwarded(Forwarded::Stale).ttl(stale.ttl).detail("stale-if-error");
        let status = match answered {
            Some(answered) => status.fwd_status(answered),
            None => status,
        };
        self.hit(session, exchange, &stale.entry, status).await
    }
}
