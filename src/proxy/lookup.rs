//! A read's way through the cache: what is stored, whose turn it is to ask
//! upstream, and what came of that. Who is answered, and how, [`super::read`] sees to.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::Request;
use pingora::http::RequestHeader;

use super::claim::{Claim, Claimed, Miss};
use super::fill::{self, Fill, Filled, Unstored};
use super::gateway::{Gateway, Settings};
use crate::cache::{
    Entry, Forwarded, Leader, RequestDirectives, Snapshot, Standing, Timestamp, Turn, Waited, standing,
};
use crate::identity::FillCredentials;
use crate::plan::ReadPlan;
use crate::request::Dialect;
use crate::store::{Asked, Patience, StoreError};
use crate::upstream::FetchError;

/// How long a refresh that another node has in hand is left to it.
const ELSEWHERE: Duration = Duration::from_millis(100);

/// A read under way.
pub struct Lookup<'a> {
    /// The cache.
    pub gateway: &'a Arc<Gateway>,
    /// The read.
    pub plan: Arc<ReadPlan>,
    /// Whether it is a HEAD.
    pub head: bool,
    /// A function's; empty otherwise.
    pub body: Bytes,
    /// The client's `Cache-Control`, where it counts.
    pub directives: Option<RequestDirectives>,
    /// What is stored but stale, and how stale.
    pub stale: Option<Stale>,
    /// Why upstream is asked, if it is.
    pub why: Forwarded,
    /// How long the shared store is waited for.
    patience: Patience,
}

/// An entry past its freshness lifetime.
pub struct Stale {
    /// The entry.
    pub entry: Entry,
    /// What is left of its lifetime, in seconds: below zero.
    pub ttl: i64,
    /// Whether it may be served where upstream fails.
    pub if_error: bool,
}

/// What became of a miss.
pub enum Obtained {
    /// An answer that can be shared.
    Entry {
        /// The answer.
        entry: Entry,
        /// Whether it is stored.
        stored: bool,
        /// Whether another request brought it.
        collapsed: bool,
    },
    /// An answer for this request alone.
    Response(Box<Unstored>),
    /// No answer.
    Failed(FetchError),
    /// More fills are under way than there may be.
    Crowded,
    /// The shared store can't be asked.
    NoStore,
}

impl<'a> Lookup<'a> {
    /// A read that nothing is known of yet. `body` is a function's.
    pub fn new(gateway: &'a Arc<Gateway>, plan: ReadPlan, head: bool, body: Bytes) -> Self {
        Self {
            gateway,
            plan: Arc::new(plan),
            head,
            body,
            directives: None,
            stale: None,
            why: Forwarded::UriMiss,
            patience: Patience::new(),
        }
    }

    /// What is stored: here, or else where all nodes store. Who is not
    /// admitted is given none of it, so that it isn't asked for elsewhere.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the shared store can't be asked.
    pub async fn recall(&self) -> Result<Option<Entry>, StoreError> {
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

    /// What may be done with an entry now.
    pub fn standing(&self, entry: &Entry) -> Standing {
        standing(entry, self.directives.as_ref(), Timestamp::from(SystemTime::now()))
    }

    fn request(&self, sent: &RequestHeader) -> Result<Request<Bytes>, FetchError> {
        fill::request(&self.plan, sent, self.body.clone())
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
    pub fn refresh(&self, sent: &RequestHeader, settings: &Arc<Settings>, entry: Entry) {
        let snapshot = self.snapshot();
        let Turn::Lead(leader) = self.turn(&snapshot) else { return };
        let Ok(place) = self.gateway.fills.clone().try_acquire_owned() else { return };
        let Ok(request) = self.request(sent) else { return };
        let (gateway, settings, plan) = (self.gateway.clone(), settings.clone(), self.plan.clone());
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
    pub fn is_vain(&self) -> bool {
        let own_request_differs = matches!(self.plan.credentials, FillCredentials::Anonymous { .. })
            || self.plan.dialect != Dialect::Rest;
        let in_vain = self.stale.is_none() && own_request_differs;
        in_vain && self.gateway.flights.is_unstorable(&self.plan.key, Instant::now())
    }

    /// Asks upstream, or waits for somebody who does.
    pub async fn obtain(&self, sent: &RequestHeader, settings: &Arc<Settings>) -> Obtained {
        let patience = settings.config.upstream.response_timeout;
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
                (Ok(Claimed::Fetch(claim)), leader) => self.fetch(sent, settings, claim, leader).await,
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
        sent: &RequestHeader,
        settings: &Arc<Settings>,
        claim: Box<Claim>,
        leader: Option<Leader<Entry>>,
    ) -> Obtained {
        let Ok(place) = self.gateway.fills.clone().try_acquire_owned() else { return Obtained::Crowded };
        let request = match self.request(sent) {
            Ok(request) => request,
            Err(error) => return Obtained::Failed(error),
        };
        let (gateway, settings, plan) = (self.gateway.clone(), settings.clone(), self.plan.clone());
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

    /// What is stale, may be served on an error, and has not been invalidated meanwhile.
    pub fn usable_stale(&self) -> Option<&Stale> {
        self.stale
            .as_ref()
            .filter(|stale| stale.if_error && self.gateway.is_in_touch())
            .filter(|stale| self.gateway.generations.is_current(stale.entry.tags()))
    }
}
