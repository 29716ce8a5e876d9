//! Fills: asking upstream on behalf of the cache.
//!
//! A fill runs in a task of its own, so that a client that goes away takes
//! nobody else's answer with it. It carries what the key holds and nothing
//! more: what upstream did not see can't have changed the answer.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::body::Incoming;
use pingora::http::RequestHeader;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::claim::Claim;
use super::gateway::{Gateway, Settings};
use crate::cache::encoding::{Coded, describe_plain, gunzip, takes_gzip};
use crate::cache::revalidation::{self, HeadAnswer};
use crate::cache::stored_headers::storable;
use crate::cache::{
    Answer, Collapse, Entry, EntryParts, Leader, Lifetimes, NotKept, NotStored, Policy, Timestamp, judge,
};
use crate::headers::{self, ReadHeaders};
use crate::identity::FillCredentials;
use crate::plan::ReadPlan;
use crate::postgrest::query::Query;
use crate::request::{Dialect, is_rest_path};
use crate::route::{FreshnessSource, ReadPolicy};
use crate::telemetry::metrics::InvalidationSource;
use crate::upstream::{Collected, FetchError, collect, ends_explicitly};

/// The fetches under way, whose answers are shared.
pub type Flights = Arc<Collapse<Entry>>;

/// Bodies are stored plain. On the way they are compressed where the client
/// takes gzip too, since he gets an answer that can't be stored as it comes.
const PLAIN: HeaderValue = HeaderValue::from_static("identity");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
/// Compressed bodies up to this size are decompressed where they arrive.
const DECODED_INLINE: usize = 64 * 1024;
const CONTENT_PROFILE: &str = "content-profile";
const ACCEPT_PROFILE: &str = "accept-profile";

/// A read on its way upstream.
pub struct Fill {
    /// Where its answer is stored.
    pub gateway: Arc<Gateway>,
    /// The settings that it began with.
    pub settings: Arc<Settings>,
    /// What it is a fill for.
    pub plan: Arc<ReadPlan>,
    /// What is sent; see [`request`].
    pub request: Request<Bytes>,
    /// What its answer may be stored under, read before anything is sent.
    pub claim: Box<Claim>,
}

/// What a fill for `plan` sends. `sent` is the client's request, `body` a function's.
///
/// # Errors
///
/// [`FetchError`] where no request can be made of it.
pub fn request(plan: &ReadPlan, sent: &RequestHeader, body: Bytes) -> Result<Request<Bytes>, FetchError> {
    let mut request = Request::new(body);
    *request.method_mut() = sent.method.clone();
    *request.uri_mut() =
        target(&sent.uri, &plan.credentials).map_err(|error| FetchError::Broken(error.into()))?;
    *request.headers_mut() = carried(plan, &sent.method, &sent.headers);
    Ok(request)
}

/// What a fill came to.
pub enum Filled {
    /// An answer that can be stored.
    Entry {
        /// The answer.
        entry: Entry,
        /// Whether it was, or why not.
        kept: Result<(), NotKept>,
    },
    /// An answer that can't, for the request alone that began the fill.
    Response(Box<Unstored>),
}

/// An answer that can't be stored, as far as it was read.
pub struct Unstored {
    /// Status and headers.
    pub head: http::response::Parts,
    /// The beginning of the body.
    pub read: Bytes,
    /// The rest of it.
    pub rest: Option<Incoming>,
    /// Why it can't be stored.
    pub why: NotStored,
}

impl Fill {
    fn is_head(&self) -> bool {
        *self.request.method() == Method::HEAD
    }

    /// Runs to the end whether anybody waits or not. Those who wait for
    /// `leader` are told before the answer arrives here. `place` is one of
    /// [`Gateway::fills`], held until the end.
    pub fn start(
        self,
        leader: Option<Leader<Entry>>,
        place: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Result<Filled, FetchError>> {
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let filled = self.run(leader).await;
            drop(place);
            // Nobody waits for a refresh, nor where the client has gone.
            let _ = sender.send(filled);
        });
        receiver
    }

    async fn run(self, leader: Option<Leader<Entry>>) -> Result<Filled, FetchError> {
        let filled = self.claim.during(self.fetch()).await;
        match (&filled, leader) {
            // Who joined before a write moved the generations asked before it, too.
            (
                Ok(Filled::Entry { entry, kept: Ok(()) | Err(NotKept::Moved | NotKept::Refused) }),
                Some(leader),
            ) => {
                leader.share(entry.clone());
            }
            (_, Some(leader)) => {
                self.claim.forgo();
                leader.keep(Instant::now());
            }
            (Ok(Filled::Entry { kept: Ok(()), .. }), None) => self.gateway.flights.stored(&self.plan.key),
            (_, None) => {}
        }
        filled
    }

    async fn fetch(&self) -> Result<Filled, FetchError> {
        if let Some((stale, name, value)) = self.condition() {
            let mut request = self.request.clone();
            request.headers_mut().insert(name, value);
            let (head, body, requested_at) = self.send(request).await?;
            if head.status != StatusCode::NOT_MODIFIED {
                return self.settle(head, body, requested_at).await;
            }
            let answer = self.answer(&head, requested_at);
            if let Ok(entry) = revalidation::freshen(stale, &policy(&self.plan.policy), &answer) {
                return Ok(self.keep(entry).await);
            }
            // The 304 is about something else than what is stored: only the whole answer helps.
        }
        let (head, body, requested_at) = self.send(self.request.clone()).await?;
        self.settle(head, body, requested_at).await
    }

    /// How to ask whether what is stored still holds (RFC 9111, section 4.3.1).
    fn condition(&self) -> Option<(&Entry, HeaderName, HeaderValue)> {
        let stale = self.claim.stale().filter(|_| !self.is_head())?;
        let (name, value) = revalidation::condition(stale)?;
        Some((stale, name, value))
    }

    async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<(http::response::Parts, Incoming, Timestamp), FetchError> {
        let requested_at = Timestamp::from(SystemTime::now());
        let begun = Instant::now();
        let response = self.settings.client.send(request).await;
        self.gateway.metrics.upstream_request(response.as_ref().ok().map(|response| response.status()));
        self.gateway.metrics.route(&self.plan.route.name).upstream(begun.elapsed());
        let (head, body) = response?.into_parts();
        self.gateway.note_clock(&head.headers);
        let is_rest = is_rest_path(self.request.uri().path());
        if is_rest && head.status.is_success() && self.plan.credentials == FillCredentials::AsSent {
            self.settings.authenticator.learn(&self.plan.caller, SystemTime::now());
        }
        Ok((head, body, requested_at))
    }

    /// Stores an answer if it may be, and says what came of it.
    async fn settle(
        &self,
        head: http::response::Parts,
        body: Incoming,
        requested_at: Timestamp,
    ) -> Result<Filled, FetchError> {
        let answer = self.answer(&head, requested_at);
        let lifetimes = match self.verdict(&head, &answer) {
            Ok(lifetimes) => lifetimes,
            Err(why) => return Ok(self.unstored(head, Bytes::new(), Some(body), why).await),
        };
        let idle = self.settings.config.limits.body_timeout;
        let body = match collect(body, self.plan.policy.max_body, idle).await? {
            Collected::Whole(body) => body,
            Collected::TooLarge { read, rest } => {
                return Ok(self.unstored(head, read, Some(rest), NotStored::Size).await);
            }
        };
        if let Some(confirmed) = self.confirmed_by_head(&answer) {
            return Ok(self.keep(confirmed).await);
        }
        let mut headers = storable(&head.headers, self.is_head(), answer.received_at);
        let plain = match Coded::of(&head.headers) {
            Coded::Gzip => {
                describe_plain(&mut headers);
                decoded(body.clone(), self.plan.policy.max_body).await
            }
            Coded::Plain | Coded::Otherwise => Some(body.clone()),
        };
        let Some(plain) = plain else { return Ok(self.unstored(head, body, None, NotStored::Size).await) };
        let entry = Entry::new(&EntryParts {
            status: head.status,
            headers: &headers,
            body: &plain,
            head_only: self.is_head(),
            lifetimes,
            tags: &self.claim.snapshot().narrowed_to(self.plan.entry_tags.of(lifetimes.empty)),
        });
        match entry {
            Ok(entry) => Ok(self.keep(entry).await),
            Err(_) => Ok(self.unstored(head, body, None, NotStored::Size).await),
        }
    }

    /// Whether an answer may be stored, and for how long, as far as its head tells.
    fn verdict(&self, head: &http::response::Parts, answer: &Answer<'_>) -> Result<Lifetimes, NotStored> {
        let lifetimes = judge(&policy(&self.plan.policy), answer)?;
        // A body that ends with its connection may have been cut short.
        if !(self.is_head() || ends_explicitly(&head.headers)) {
            return Err(NotStored::Size);
        }
        match Coded::of(&head.headers) {
            Coded::Plain => {}
            Coded::Gzip if !self.is_head() => {}
            Coded::Gzip | Coded::Otherwise => return Err(NotStored::Coding),
        }
        if self.contradicts_default_schema(&head.headers) { Err(NotStored::Mismatch) } else { Ok(lifetimes) }
    }

    /// An answer that says otherwise ends what is stored: only errors that
    /// pass leave it in its stale window.
    async fn unstored(
        &self,
        head: http::response::Parts,
        read: Bytes,
        rest: Option<Incoming>,
        why: NotStored,
    ) -> Filled {
        if self.claim.replaces() && !is_passing_error(head.status) {
            self.gateway.forget(&self.plan.key).await;
            self.gateway.metrics.invalidation(InvalidationSource::Refresh);
        }
        Filled::Response(Box::new(Unstored { head, read, rest, why }))
    }

    fn answer<'a>(&self, head: &'a http::response::Parts, requested_at: Timestamp) -> Answer<'a> {
        Answer {
            status: head.status,
            headers: &head.headers,
            requested_at,
            received_at: Timestamp::from(SystemTime::now()),
            authorized: self.request.headers().contains_key(header::AUTHORIZATION),
            one_user: self.plan.partition.is_one_users(),
        }
    }

    /// A HEAD may freshen the answer that a GET left (RFC 9111, section 4.3.5).
    fn confirmed_by_head(&self, answer: &Answer<'_>) -> Option<Entry> {
        let stale = self.claim.stale().filter(|stale| self.is_head() && !stale.is_head_only())?;
        match revalidation::compare_head(stale, &policy(&self.plan.policy), answer) {
            HeadAnswer::Confirms(entry) => Some(*entry),
            HeadAnswer::Contradicts | HeadAnswer::Silent => None,
        }
    }

    async fn keep(&self, entry: Entry) -> Filled {
        let mut kept = self.claim.may_keep(&self.gateway);
        if !Arc::ptr_eq(&self.settings, &self.gateway.peek()) {
            // The settings were replaced meanwhile, the upstream perhaps among them.
            kept = kept.and(Err(NotKept::Held));
        }
        if kept.is_ok() {
            kept = self.claim.keep(&self.gateway, &self.plan, &entry).await;
        }
        Filled::Entry { entry, kept }
    }

    /// Tables are named by `default_schema` where a request names none. If
    /// upstream's own default is another one, its tags would be wrong.
    fn contradicts_default_schema(&self, answered: &HeaderMap) -> bool {
        let expected = &self.settings.config.upstream.default_schema;
        let profile = answered.get(CONTENT_PROFILE).filter(|_| !self.names_schema());
        let contradicts = profile.is_some_and(|profile| profile.as_bytes() != expected.as_bytes());
        if contradicts {
            self.settings.contradict_default_schema();
            tracing::warn!(
                route = self.plan.route.name,
                upstream.default_schema = %expected,
                answered = profile.and_then(|profile| profile.to_str().ok()),
                "answer not stored: upstream's default schema is another one; set upstream.default_schema"
            );
        }
        contradicts
    }

    fn names_schema(&self) -> bool {
        [ACCEPT_PROFILE, CONTENT_PROFILE].iter().any(|name| self.request.headers().contains_key(*name))
    }
}

/// 5xx and 429: what `stale_if_error` covers, timeouts and refusals aside.
pub fn is_passing_error(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Undoes gzip, a long body's on another thread. `None` where that fails or
/// more than `max` bytes come of it.
async fn decoded(body: Bytes, max: u64) -> Option<Bytes> {
    let plain = if body.len() <= DECODED_INLINE {
        gunzip(&body, max)
    } else {
        tokio::task::spawn_blocking(move || gunzip(&body, max)).await.ok()?
    };
    plain.ok()?.map(Bytes::from)
}

/// The headers of a fill: what the key holds, and the credentials that are due.
fn carried(plan: &ReadPlan, method: &Method, sent: &HeaderMap) -> HeaderMap {
    let reading = ReadHeaders { method, dialect: plan.dialect, vary: &plan.policy.vary };
    // Objects are served in parts as well, and most are compressed already.
    let worthwhile = plan.dialect == Dialect::Rest && *method != Method::HEAD;
    let coding = if worthwhile && takes_gzip(sent) { GZIP } else { PLAIN };
    let mut carried = reading.fill(sent, coding);
    match &plan.credentials {
        FillCredentials::AsSent => headers::copy_credentials(sent, &mut carried),
        FillCredentials::Anonymous { api_key: Some(key) } => {
            carried.insert("apikey", key.clone());
        }
        FillCredentials::Anonymous { api_key: None } => {}
    }
    carried
}

/// Path and query as sent; a credential in the query goes only with the caller's own.
fn target(uri: &Uri, credentials: &FillCredentials) -> Result<Uri, http::Error> {
    let query = match (credentials, uri.query()) {
        (FillCredentials::Anonymous { .. }, Some(query)) => {
            query.split('&').filter(|pair| !is_api_key(pair)).collect::<Vec<_>>().join("&")
        }
        (_, query) => query.unwrap_or_default().to_owned(),
    };
    let separator = if query.is_empty() { "" } else { "?" };
    Uri::builder().path_and_query(format!("{}{separator}{query}", uri.path())).build()
}

fn is_api_key(pair: &str) -> bool {
    Query::parse(pair).is_ok_and(|query| query.get("apikey").is_some())
}

/// The policy as the cache's rules take it.
fn policy(policy: &ReadPolicy) -> Policy {
    Policy {
        ttl: policy.ttl,
        stale_while_revalidate: policy.stale_while_revalidate,
        stale_if_error: policy.stale_if_error,
        empty_ttl: policy.empty_ttl,
        origin: policy.freshness == FreshnessSource::Origin,
        obey_request: policy.obey_request_directives,
    }
}
