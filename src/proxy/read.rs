//! Reads that the cache may answer: lookup, collapsing, delivery.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{Method, Request, StatusCode};
use pingora::Result;
use pingora::proxy::Session;

use super::claim::{Claim, Claimed, Miss};
use super::exchange::Exchange;
use super::fill::{self, Fill, Filled, Unstored, is_passing_error};
use super::front::index::Entered;
use super::gateway::Gateway;
use super::respond;
use super::synth::Synthetic;
use crate::cache::{
    CacheStatus, Entry, Forwarded, Leader, RequestDirectives, Snapshot, Standing, Timestamp, Turn, Waited,
    standing,
};
use crate::identity::{FillCredentials, Refusal};
use crate::plan::{ReadPlan, Why};
use crate::request::Dialect;
use crate::store::{Asked, Patience, StoreError};
use crate::telemetry::metrics::Outcome;
use crate::upstream::FetchError;

/// Why a read that could be cached is forwarded while the store is down.
const NO_STORE: &str = "store";

/// How long a refresh that another node has in hand is left to it.
const ELSEWHERE: Duration = Duration::from_millis(100);

/// Whether a read was answered.
pub enum Served {
    /// It was.
    Answered,
    /// The client's own request is to be forwarded.
    Forward,
}

/// A read under way.
struct Lookup<'a> {
    gateway: &'a Arc<Gateway>,
    plan: Arc<ReadPlan>,
    head: bool,
    /// A function's; empty otherwise.
    body: Bytes,
    /// The client's `Cache-Control`, where it counts.
    directives: Option<RequestDirectives>,
    /// What is stored but stale, and how stale.
    stale: Option<Stale>,
    why: Forwarded,
    /// How long the shared store is waited for.
    patience: Patience,
}

struct Stale {
    entry: Entry,
    ttl: i64,
    if_error: bool,
}

/// What became of a miss.
enum Obtained {
    Entry {
        entry: Entry,
        stored: bool,
        collapsed: bool,
    },
    Response(Box<Unstored>),
    Failed(FetchError),
    /// More fills are under way than there may be.
    Crowded,
    /// The shared store can't be asked.
    NoStore,
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
    let why = Forwarded::UriMiss;
    let (plan, patience) = (Arc::new(plan), Patience::new());
    let mut lookup = Lookup { gateway, plan, head, body, directives, stale: None, why, patience };
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
                lookup.refresh(session, exchange, entry.clone());
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
    let obtained = lookup.obtain(session, exchange).await;
    lookup.answer(session, exchange, obtained).await
}

impl Lookup<'_> {
    /// What is stored: here, or else where all nodes store. Who is not
    /// admitted is given none of it, so that it isn't asked for elsewhere.
    async fn recall(&self) -> Result<Option<Entry>, StoreError> {
        let here = self.gateway.remembered(&self.plan, self.head);
        let Some(shared) = self.gateway.shared.as_ref().filter(|_| self.plan.admitted) else {
            return Ok(here);
        };
        if let Some(entry) = &here
            && let Standing::Fresh { .. } | Standing::Stale { while_revalidating: true, .. } =
                self.standing(entry)
        {
            return Ok(here);
        }
        // Before the store is asked: what moves from now on will be heard of.
        let snapshot = self.snapshot();
        let (key, tags) = (&self.plan.key, &self.plan.entry_tags);
        let asked = Asked { key, head: self.head, tags, snapshot: &snapshot };
        let there = shared.look(asked, &self.patience).await?;
        Ok(there.or(here))
    }

    fn standing(&self, entry: &Entry) -> Standing {
        standing(entry, self.directives.as_ref(), Timestamp::from(SystemTime::now()))
    }

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

    fn request(&self, session: &Session) -> Result<Request<Bytes>, FetchError> {
        fill::request(&self.plan, session.req_header(), self.body.clone())
    }

    fn snapshot(&self) -> Snapshot {
        self.gateway.generations.read(self.plan.entry_tags.all(), Instant::now())
    }

    fn miss(&self, snapshot: Snapshot) -> Miss<'_> {
        Miss {
            gateway: self.gateway,
            plan: &self.plan,
            head: self.head,
            directives: self.directives,
            snapshot,
            stale: self.stale.as_ref().map(|stale| stale.entry.clone()),
            patience: self.patience.clone(),
        }
    }

    /// Fetches behind the client's back, unless somebody does so already, the
    /// last answer could not be stored, or too much is being fetched.
    fn refresh(&self, session: &Session, exchange: &Exchange, entry: Entry) {
        let snapshot = self.snapshot();
        let Turn::Lead(leader) = self.turn(&snapshot) else { return };
        let Ok(place) = self.gateway.fills.clone().try_acquire_owned() else { return };
        let Ok(request) = self.request(session) else { return };
        let (gateway, settings, plan) = (self.gateway.clone(), exchange.settings.clone(), self.plan.clone());
        let (head, directives) = (self.head, self.directives);
        tokio::spawn(async move {
            let (stale, patience) = (Some(entry), Patience::new());
            let miss = Miss { gateway: &gateway, plan: &plan, head, directives, snapshot, stale, patience };
            match miss.claim_if_free().await {
                Ok(Some(Claimed::Fetch(claim))) => {
                    let fill =
                        Fill { settings, plan: plan.clone(), request, claim, gateway: gateway.clone() };
                    drop(fill.start(Some(leader), place));
                }
                Ok(Some(Claimed::Found(entry))) => leader.share(entry),
                Ok(None) => {
                    // Another node fetches. Whoever finds the entry stale meanwhile need not ask again.
                    drop(place);
                    tokio::time::sleep(ELSEWHERE).await;
                }
                Err(_) => leader.forgo(),
            }
        });
    }

    /// Whether a fill would be thrown away: the last one of this key was, its
    /// answer could not have been passed on to this client either, and nothing
    /// stale is there to be served in its place.
    fn is_vain(&self) -> bool {
        let own_request_differs = matches!(self.plan.credentials, FillCredentials::Anonymous { .. })
            || self.plan.dialect != Dialect::Rest;
        let in_vain = self.stale.is_none() && own_request_differs;
        in_vain && self.gateway.flights.is_unstorable(&self.plan.key, Instant::now())
    }

    /// Asks upstream, or waits for somebody who does.
    async fn obtain(&self, session: &Session, exchange: &Exchange) -> Obtained {
        let patience = exchange.settings.config.upstream.response_timeout;
        loop {
            let snapshot = self.snapshot();
            let leader = match self.turn(&snapshot) {
                Turn::Lead(leader) => Some(leader),
                Turn::Alone => None,
                Turn::Wait(waiter) => match waiter.wait(patience).await {
                    Waited::Shared(entry) => {
                        return Obtained::Entry { entry, stored: false, collapsed: true };
                    }
                    Waited::Alone => None,
                    Waited::Abandoned => continue,
                    Waited::Forgone => return Obtained::NoStore,
                },
            };
            // Between the miss and the turn an earlier leader may have stored the answer.
            let (leader, there) = match leader {
                Some(leader) => (Some(leader), self.stored_meanwhile()),
                None => (None, None),
            };
            let miss = self.miss(snapshot);
            let claimed = match (there, &leader) {
                (Some(entry), _) => Ok(Claimed::Found(entry)),
                (None, Some(_)) if self.why != Forwarded::Request => miss.claim(patience).await,
                (None, _) => miss.claim_alone().await,
            };
            return match (claimed, leader) {
                (Ok(Claimed::Fetch(claim)), leader) => self.fetch(session, exchange, claim, leader).await,
                (Ok(Claimed::Found(entry)), leader) => {
                    if let Some(leader) = leader {
                        leader.share(entry.clone());
                    }
                    Obtained::Entry { entry, stored: false, collapsed: true }
                }
                (Err(_), leader) => {
                    if let Some(leader) = leader {
                        leader.forgo();
                    }
                    Obtained::NoStore
                }
            };
        }
    }

    async fn fetch(
        &self,
        session: &Session,
        exchange: &Exchange,
        claim: Box<Claim>,
        leader: Option<Leader<Entry>>,
    ) -> Obtained {
        let Ok(place) = self.gateway.fills.clone().try_acquire_owned() else { return Obtained::Crowded };
        let request = match self.request(session) {
            Ok(request) => request,
            Err(error) => return Obtained::Failed(error),
        };
        let (gateway, settings, plan) = (self.gateway.clone(), exchange.settings.clone(), self.plan.clone());
        let fill = Fill { gateway, settings, plan, request, claim };
        match fill.start(leader, place).await {
            Ok(Ok(Filled::Entry { entry, kept })) => {
                Obtained::Entry { entry, stored: kept.is_ok(), collapsed: false }
            }
            Ok(Ok(Filled::Response(response))) => Obtained::Response(response),
            Ok(Err(error)) => Obtained::Failed(error),
            Err(_) => Obtained::Failed(FetchError::Broken("the fill was cut off".into())),
        }
    }

    /// Whether to fetch or to wait. Who is not admitted has to hear upstream himself.
    fn turn(&self, snapshot: &Snapshot) -> Turn<Entry> {
        if !self.plan.admitted {
            return Turn::Alone;
        }
        self.gateway.flights.join(&self.plan.key, self.head, snapshot, Instant::now())
    }

    fn stored_meanwhile(&self) -> Option<Entry> {
        if self.why == Forwarded::Request {
            return None;
        }
        let entry = self.gateway.remembered(&self.plan, self.head)?;
        matches!(self.standing(&entry), Standing::Fresh { .. }).then_some(entry)
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

    /// What is stale, may be served on an error, and has not been invalidated meanwhile.
    fn usable_stale(&self) -> Option<&Stale> {
        self.stale
            .as_ref()
            .filter(|stale| stale.if_error && self.gateway.is_in_touch())
            .filter(|stale| self.gateway.generations.is_current(stale.entry.tags()))
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
