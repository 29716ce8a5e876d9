//! One lane's turn: its writes go upstream, one after the other, until they have ended or have to wait.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use pingora::http::RequestHeader;

use super::credential::Shown;
use super::end::{ended, given_up};
use super::{Replayer, backoff, chance};
use crate::headers::USER_AGENT;
use crate::plan;
use crate::postgrest::footprint::WriteBody;
use crate::postgrest::timestamp::Micros;
use crate::proxy::exchange::{is_gateways_own, view};
use crate::proxy::gateway::Settings;
use crate::proxy::invalidate::PendingInvalidation;
use crate::store::journal::{Claim, LaneId, MAX_MEMBERS, Member, Settled, Wait};
use crate::tag::TagId;
use crate::telemetry::metrics::{AttemptResult, InvalidationSource};
use crate::upstream::{Collected, FetchError, collect};
use crate::write::record::Record;
use crate::write::replay::{
    Answer, Ask, Failure, Job, JobMember, MAX_ANSWER, MemberEnd, Reason, Replay, Retry, Step,
};

/// How long a lane waits whose writes can't be read, or whose ends can't be kept.
const TROUBLE: Duration = Duration::from_secs(5);

/// How long a lane waits for a token before it looks for one itself.
const TOKEN_ROUND: Duration = Duration::from_secs(60);

/// A lane's writes, as far as they can be read.
struct Lane {
    claim: Claim,
    records: Vec<Record>,
}

impl Replayer {
    /// Replays a lane, and gives it back.
    pub(super) async fn replay(self: Arc<Self>, claim: Claim) {
        let lane = Lane::read(claim);
        let wait = self.work(&lane).await;
        self.pause.lock().withdrawn(lane.claim.lane);
        self.release(lane.claim, wait).await;
        if let Wait::Token { rights, .. } = wait
            && self.queue.wallet.newest(&rights, SystemTime::now()).is_some()
        {
            // It was seen before anything waited for it.
            self.queue.journal.wake_token(rights);
        }
    }

    /// What the lane waits for afterwards.
    async fn work(&self, lane: &Lane) -> Wait {
        let (now, settings) = (SystemTime::now(), self.gateway.settings());
        let Some((head, record)) = lane.head() else { return Wait::Until(Instant::now() + TROUBLE) };
        let shown = self.credential(record, head.id, now);
        let left = time_left(head, settings.config.queue.max_wait, now);
        match (shown, left) {
            (Some(_), Some(_)) => self.send(lane, &settings).await,
            (Some(_), None) => self.give_up(lane, Reason::TooOld).await,
            (None, None) => self.give_up(lane, Reason::AuthExpired).await,
            (None, Some(_)) => self.wait_for_token(head, record, &settings, now),
        }
    }

    fn wait_for_token(&self, member: &Member, record: &Record, settings: &Settings, now: SystemTime) -> Wait {
        let left = time_left(member, settings.config.queue.max_wait, now).unwrap_or_default();
        self.queue.wallet.want(record.rights, now + left, now);
        tracing::debug!(route = record.route, "queued write waits for a newer token");
        // Looked at now and then: of too many tokens some are forgotten.
        Wait::Token { rights: record.rights, until: Instant::now() + left.min(TOKEN_ROUND) }
    }

    /// Sends the lane's writes until all have ended, or one has to wait.
    async fn send(&self, lane: &Lane, settings: &Arc<Settings>) -> Wait {
        let Some((mut replay, mut ask)) = Replay::new(lane.job()) else { return Wait::Now };
        let mut done = 0;
        // Whether an older write of the caller was queued when what is sent now was sent.
        let mut had_older = false;
        loop {
            let Some((member, record)) = lane.member(ask.member) else { return Wait::Now };
            let now = SystemTime::now();
            let Some(shown) = self.credential(record, member.id, now) else {
                return self.wait_for_token(member, record, settings, now);
            };
            had_older |= self.has_older(lane, done);
            let step = match self.ask(settings, &ask, &shown).await {
                Ok(answer) => {
                    if self.has_later(lane) {
                        replay.note_later();
                    }
                    let step = replay.answered(&answer);
                    if !matches!(step, Step::Retry(Retry::Uncounted)) {
                        self.upstream_answered(lane.claim.lane);
                    }
                    step
                }
                Err(failure) => replay.failed(failure),
            };
            match step {
                Step::Ask(next) => ask = next,
                Step::End(end) if end.needs_oldest && had_older => {
                    // It may have been refused for the lack of that one, which may have ended since.
                    self.gateway.metrics.route(&record.route).replay(AttemptResult::Deferred);
                    return Wait::Older;
                }
                Step::End(end) => {
                    had_older = false;
                    let count = end.ended.len();
                    let attempts = lane.attempts(done);
                    if let Some(wait) = self.settle(lane, done, &end.ended, attempts, end.needs_oldest).await
                    {
                        return wait;
                    }
                    done += count;
                    match replay.proceed() {
                        Some(next) => ask = next,
                        None => return Wait::Now,
                    }
                }
                Step::Retry(retry) => return self.later(lane, done, retry, settings).await,
                Step::NewToken => {
                    self.gateway.metrics.route(&record.route).replay(AttemptResult::Unauthorized);
                    // Only what is wanted is remembered as refused.
                    let wait = self.wait_for_token(member, record, settings, now);
                    self.queue.wallet.refuse(&record.rights, shown.token());
                    return wait;
                }
            }
        }
    }

    /// Whether the caller has a write queued that is older than those of the lane from `done` on.
    fn has_older(&self, lane: &Lane, done: usize) -> bool {
        let queued = self.queue.journal.snapshot(lane.claim.lane.caller);
        queued.first().zip(lane.claim.members.get(done)).is_some_and(|(oldest, head)| oldest.seq < head.seq)
    }

    /// Whether a write was appended to the lane since it was claimed.
    fn has_later(&self, lane: &Lane) -> bool {
        let LaneId { row, caller } = lane.claim.lane;
        let last = lane.claim.members.last().map(|member| member.seq);
        let queued = self.queue.journal.snapshot(caller);
        queued.iter().rev().any(|write| write.row == row && Some(write.seq) > last)
    }

    /// Ends members from `done` on. What the lane has to wait for, if it can't go on at once.
    async fn settle(
        &self,
        lane: &Lane,
        done: usize,
        ends: &[MemberEnd],
        attempts: u32,
        final_only: bool,
    ) -> Option<Wait> {
        let members = || lane.claim.members.iter().zip(&lane.records).skip(done);
        let ended: Vec<_> = members().zip(ends).map(|((m, r), end)| ended(m, r, end, attempts)).collect();
        let Some((_, first)) = lane.member(done) else { return Some(Wait::Now) };
        let route = self.gateway.metrics.route(&first.route);
        match self.queue.journal.settle(&lane.claim, ended.clone(), final_only).await {
            Ok(Settled::Done) => {
                route.replay(AttemptResult::Ended);
                let mut parks = false;
                for ((member, record), end) in members().zip(&ended) {
                    parks |= self.note(member, record, end);
                }
                parks.then_some(Wait::Parked)
            }
            Ok(Settled::NotOldest) => {
                route.replay(AttemptResult::Deferred);
                Some(Wait::Older)
            }
            Ok(Settled::Lost) => {
                tracing::error!("a lane was claimed by somebody else");
                Some(Wait::Now)
            }
            Err(error) => {
                tracing::error!(%error, "the end of a queued write can't be kept, it will be replayed again");
                Some(Wait::Until(Instant::now() + TROUBLE))
            }
        }
    }

    /// Ends the head without asking upstream.
    async fn give_up(&self, lane: &Lane, reason: Reason) -> Wait {
        self.settle(lane, 0, &[given_up(reason)], lane.attempts(0), true).await.unwrap_or(Wait::Now)
    }

    /// When the first member that has not ended is tried again.
    async fn later(&self, lane: &Lane, done: usize, retry: Retry, settings: &Settings) -> Wait {
        let Some(record) = lane.records.get(done) else { return Wait::Now };
        let route = self.gateway.metrics.route(&record.route);
        match retry {
            Retry::Uncounted => {
                route.replay(AttemptResult::Unreachable);
                Wait::Until(self.upstream_failed(lane.claim.lane))
            }
            Retry::Counted { after } => {
                route.replay(AttemptResult::Retried);
                let attempts = lane.attempts(done) + 1;
                if attempts >= settings.config.queue.max_attempts {
                    let end = [given_up(Reason::Attempts)];
                    return self.settle(lane, done, &end, attempts, true).await.unwrap_or(Wait::Now);
                }
                let wait = backoff(settings).wait(attempts, chance());
                Wait::Counted(Instant::now() + wait.max(after.unwrap_or_default()))
            }
        }
    }

    /// Sends one request and reads its answer. What it may have changed is invalidated before anybody goes by the answer.
    async fn ask(&self, settings: &Arc<Settings>, ask: &Ask, shown: &Shown) -> Result<Answer, Failure> {
        let request = request(ask, shown).map_err(|_| Failure::Broken)?;
        let pending = self.begin(&request, settings).await;
        let answer = match self.exchange(request, settings).await {
            Ok(answer) => answer,
            Err(failure) => {
                if failure == Failure::Refused
                    && let Some(pending) = pending
                {
                    pending.withdraw();
                }
                return Err(failure);
            }
        };
        if is_gateways_own(answer.status) {
            // Behind the gateway the write may still be under way: dropping it says so.
            drop(pending);
            return Ok(answer);
        }
        if let Some(pending) = pending {
            pending.complete(None).await;
        }
        Ok(answer)
    }

    /// What a write may change is invalidated from now on, whatever becomes of it.
    async fn begin(&self, request: &Request<Bytes>, settings: &Settings) -> Option<PendingInvalidation> {
        let tags = touched(request, settings)?;
        let invalidator = self.gateway.invalidator(settings);
        let mut pending = invalidator.begin(tags, InvalidationSource::Replay).await;
        pending.went_whole(None);
        Some(pending)
    }

    async fn exchange(&self, request: Request<Bytes>, settings: &Settings) -> Result<Answer, Failure> {
        let response = settings.client.send(request).await;
        self.gateway.metrics.upstream_request(response.as_ref().ok().map(|response| response.status()));
        let (head, body) = response.map_err(failure)?.into_parts();
        self.gateway.note_clock(&head.headers);
        let idle = settings.config.upstream.response_timeout;
        let body = match collect(body, MAX_ANSWER as u64, idle).await.map_err(failure)? {
            Collected::Whole(body) => body,
            Collected::TooLarge { read, .. } => read,
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Lane {
    /// What can be read of a claim. What can't stops the lane: it may be of a later version.
    fn read(claim: Claim) -> Self {
        let mut records = Vec::with_capacity(claim.members.len());
        for member in &claim.members {
            match Record::decode(&member.record) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::error!(id = %member.id, %error, "a queued write can't be replayed");
                    break;
                }
            }
        }
        Self { claim, records }
    }

    /// How often the member at `at` was tried already. Only the head of a claim has waited.
    fn attempts(&self, at: usize) -> u32 {
        if at == 0 { self.claim.attempts } else { 0 }
    }

    fn head(&self) -> Option<(&Member, &Record)> {
        self.member(0)
    }

    fn member(&self, at: usize) -> Option<(&Member, &Record)> {
        self.claim.members.get(at).zip(self.records.get(at))
    }

    fn job(&self) -> Job {
        let members = self.claim.members.iter().zip(&self.records);
        let member = |(member, record): (&Member, &Record)| JobMember {
            record: record.clone(),
            updated_at: member.updated_at,
        };
        Job {
            members: members.map(member).collect(),
            echo: self.claim.echo.clone(),
            has_later: self.claim.members.len() >= MAX_MEMBERS
                || self.records.len() < self.claim.members.len(),
            retried_dead_letter: false,
        }
    }
}

/// For how long a write may still wait. `None`: it has waited for too long.
fn time_left(member: &Member, max_wait: Duration, now: SystemTime) -> Option<Duration> {
    let waited = Micros::of(now).0.saturating_sub(member.accepted_at.0);
    max_wait
        .checked_sub(Duration::from_micros(u64::try_from(waited).unwrap_or_default()))
        .filter(|left| !left.is_zero())
}

fn request(ask: &Ask, shown: &Shown) -> Result<Request<Bytes>, http::Error> {
    let mut request =
        Request::builder().method(ask.method.clone()).uri(&ask.target).body(ask.body.clone())?;
    let headers: &mut HeaderMap = request.headers_mut();
    headers.clone_from(&ask.headers);
    headers.insert(http::header::USER_AGENT, USER_AGENT);
    shown.add_to(headers);
    Ok(request)
}

/// The tags that the request may move; `None` for a read.
fn touched(request: &Request<Bytes>, settings: &Settings) -> Option<Vec<TagId>> {
    if *request.method() == Method::GET {
        return None;
    }
    let target = request.uri().path_and_query()?.as_str();
    let mut head = RequestHeader::build(request.method().clone(), target.as_bytes(), None).ok()?;
    for (name, value) in request.headers() {
        head.append_header(name.clone(), value.clone()).ok()?;
    }
    Some(settings.with_rules(|rules, now| {
        let request_view = view(&head);
        let tags = plan::touched(&request_view, WriteBody::Whole(request.body()), rules);
        plan::moved(&request_view, &tags, rules, now)
    }))
}

fn failure(error: FetchError) -> Failure {
    match error {
        FetchError::Unreachable(_) => Failure::Refused,
        FetchError::TimedOut(_) => Failure::TimedOut,
        FetchError::Broken(_) => Failure::Broken,
    }
}
