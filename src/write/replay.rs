//! The replay of queued writes: what upstream is asked, and what its answers
//! mean. A state machine without I/O, without a clock and without credentials.
//!
//! A PATCH carries the key and one plain filter on `updated_at`, the guard. If
//! it finds no row, the row is read once: gone, or changed by somebody else
//! (superseded), or holding exactly these values (the answer to an earlier try
//! was lost), or refused by a policy. It is tried once more where the row's
//! time shows that nobody wrote in between: it is null, or what an
//! earlier-accepted write of the row was answered, which a trigger may set.
//! A plain insert is a plain POST, an upsert a guarded PATCH that becomes an
//! insert only where there was no row when the write was accepted.
//!
//! Nothing here is done twice with another result: a replay that broke off is
//! begun anew.

mod answer;
mod ask;
mod attempt;
mod changes;
mod merge;
mod target;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

pub use self::answer::{Answer, MAX_ANSWER};

use self::attempt::{Attempt, Next};
use self::changes::Changes;
use self::merge::Queued;
use self::write::Write;
use super::record::Record;
use crate::postgrest::object::Object;
use crate::postgrest::timestamp::Micros;

/// Queued writes of one lane, from its head on.
#[derive(Debug)]
pub struct Job {
    /// The writes, in the order accepted.
    pub members: Vec<JobMember>,
    /// The `updated_at` that a write of the row that was accepted before the
    /// first member got back from upstream.
    pub echo: Option<String>,
    /// Whether writes of the row are queued that were accepted after the last member.
    pub has_later: bool,
    /// Whether an operator had a rejected write tried again. Long after its
    /// time, it may change nothing but what its guard lets it.
    pub retried_dead_letter: bool,
}

/// One queued write.
#[derive(Debug)]
pub struct JobMember {
    /// What was accepted.
    pub record: Record,
    /// The `updated_at` that it was given.
    pub updated_at: Micros,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Send a request and come back with its answer.
    Ask(Ask),
    /// Writes have ended.
    End(End),
    /// Nothing has ended; the lane backs off, then its job is begun anew.
    Retry(Retry),
    /// Nothing has ended; upstream took the token for none, a newer one is needed.
    NewToken,
}

/// A request to upstream, without credentials.
pub struct Ask {
    /// The place in the job of the write whose credentials are sent: the newest of those that go as one.
    pub member: usize,
    /// The method.
    pub method: Method,
    /// The path and query.
    pub target: String,
    /// The headers, but for `Host`, `Authorization` and `apikey`.
    pub headers: HeaderMap,
    /// The body; empty for a read.
    pub body: Bytes,
}

/// How writes ended.
#[derive(Debug)]
pub struct End {
    /// One for each member, from the first on that had not ended; never empty.
    /// Either all were applied or it is a single one that wasn't.
    pub ended: Vec<MemberEnd>,
    /// Whether it is final only if the caller has no older write queued
    /// anywhere: a foreign key or a policy may need that one first.
    pub needs_oldest: bool,
}

/// How one write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberEnd {
    /// The end.
    pub outcome: Outcome,
    /// The `updated_at` that upstream has for the row since, as it spells it.
    pub echo: Option<String>,
}

/// The end of a write.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Upstream took it, or has exactly its values.
    Applied,
    /// Upstream's row is newer, or the row that was known is gone.
    Superseded {
        /// Upstream's row, with every column; `None`: gone.
        theirs: Option<Object>,
    },
    /// Upstream doesn't take it.
    Rejected {
        /// Why.
        reason: Reason,
        /// The status that said so, if one did.
        status: Option<u16>,
        /// The beginning of its body, 4 KiB at most.
        body: String,
    },
}

/// Why a write is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Upstream answered 4xx.
    Refused,
    /// The row can be read, but a policy lets the caller not change it.
    Denied,
    /// A row of this key exists that the caller can't see.
    NotVisible,
    /// Upstream called for another try too often.
    Attempts,
    /// Upstream could not be asked for too long.
    TooOld,
    /// No valid token came in time.
    AuthExpired,
}

impl Reason {
    /// The word for it in answers, logs and dead letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::NotVisible => "not_visible",
            Self::Attempts => "attempts",
            Self::TooOld => "too_old",
            Self::AuthExpired => "auth_expired",
        }
    }
}

/// Why a try came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Upstream answered that it could not, or what nobody understands: such tries are numbered.
    Counted {
        /// Not before so long: `Retry-After`, an hour at most.
        after: Option<Duration>,
    },
    /// Upstream could not be asked: that says nothing about the write.
    Uncounted,
}

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Retry(Retry),
    NewToken,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Refused,
    /// Upstream took too long.
    TimedOut,
    /// The exchange broke off, the body's end included.
    Broken,
}

/// Queued writes of one lane on their way upstream.
pub struct Replay {
    lane: Lane,
    /// The first member that has not ended.
    head: usize,
    /// How many go as one now, from the head on; behind it if its own end is held.
    count: usize,
    /// Members before this place go one by one.
    alone_until: usize,
    /// The head's own end, while those that go now may have overwritten it.
    held: Option<MemberEnd>,
    attempt: Attempt,
}

impl Replay {
    /// Begins; `None` if the job has no members.
    pub fn new(job: Job) -> Option<(Self, Ask)> {
        let lane = Lane::new(job);
        let count = lane.run(0);
        let (attempt, ask) = Attempt::new(lane.write(0, count)?);
        Some((Self { lane, head: 0, count, alone_until: 0, held: None, attempt }, ask))
    }

    /// Goes on with upstream's answer to the last [`Ask`].
    pub fn answered(&mut self, answer: &Answer) -> Step {
        let next = self.attempt.answered(answer);
        self.step(next)
    }

    /// Goes on without an answer to the last [`Ask`], whatever became of it.
    pub fn failed(&mut self, _failure: Failure) -> Step {
        let next = self.attempt.put_off(Wait::Retry(Retry::Uncounted));
        self.step(next)
    }

    /// A later write of the row was queued since the job was made: said before
    /// the answer to an insert, its time will be known to that one.
    pub fn note_later(&mut self) {
        self.lane.has_later = true;
        self.attempt.write.is_followed = true;
    }

    /// Goes on with the members that have not ended, once an [`End`] is
    /// settled; `None` if all have.
    pub fn proceed(&mut self) -> Option<Ask> {
        let count = if self.head < self.alone_until { 1 } else { self.lane.run(self.head) };
        self.begin(self.head, count)
    }

    fn step(&mut self, next: Next) -> Step {
        match next {
            Next::Ask(ask) => Step::Ask(ask),
            Next::End(end) => self.ended(end),
            Next::Wait(Wait::Retry(retry)) => Step::Retry(retry),
            Next::Wait(Wait::NewToken) => Step::NewToken,
        }
    }

    fn begin(&mut self, first: usize, count: usize) -> Option<Ask> {
        let (attempt, ask) = Attempt::new(self.lane.write(first, count)?);
        self.attempt = attempt;
        self.count = count;
        Some(ask)
    }

    /// What went as one has this end. Where it is a refusal or found no row,
    /// its members are looked at one by one.
    fn ended(&mut self, end: MemberEnd) -> Step {
        if end.outcome == Outcome::Applied {
            return self.applied(self.count + usize::from(self.held.is_some()), end.echo);
        }
        if let Some(own) = self.held.take() {
            return self.not_applied(own);
        }
        if self.count > 1 {
            if let Outcome::Superseded { theirs: Some(row) } = &end.outcome {
                let count = merge::applied_already(self.lane.members(self.head, self.count), row);
                if count > 0 {
                    let is_ours = merge::alter(self.lane.members(self.head, count));
                    return self.applied(count, self.attempt.write.echo_of(row).filter(|_| is_ours));
                }
            }
            self.alone_until = self.head + self.count;
            if let Some(ask) = self.begin(self.head, 1) {
                return Step::Ask(ask);
            }
        } else if let Some(count) = self.overwriting()
            && let Some(ask) = self.begin(self.head + 1, count)
        {
            self.held = Some(end);
            return Step::Ask(ask);
        }
        self.not_applied(end)
    }

    /// How many of the writes that went as one with the head, and could not,
    /// have to be applied for it to be overwritten.
    fn overwriting(&self) -> Option<usize> {
        merge::overwriting(self.lane.members(self.head, self.alone_until.saturating_sub(self.head)))
    }

    fn applied(&mut self, count: usize, echo: Option<String>) -> Step {
        self.head += count;
        self.held = None;
        if echo.is_some() {
            self.lane.echo.clone_from(&echo);
        }
        let end = MemberEnd { outcome: Outcome::Applied, echo };
        Step::End(End { ended: vec![end; count], needs_oldest: false })
    }

    fn not_applied(&mut self, end: MemberEnd) -> Step {
        self.head += 1;
        Step::End(End { ended: vec![end], needs_oldest: true })
    }
}

/// The members and what is known of the row's other writes.
struct Lane {
    members: Vec<Queued>,
    echo: Option<String>,
    has_later: bool,
    is_dead_letter: bool,
}

impl Lane {
    fn new(job: Job) -> Self {
        let queued =
            |member: JobMember| Queued { record: Arc::new(member.record), updated_at: member.updated_at };
        Self {
            members: job.members.into_iter().map(queued).collect(),
            echo: job.echo,
            has_later: job.has_later,
            is_dead_letter: job.retried_dead_letter,
        }
    }

    fn members(&self, first: usize, count: usize) -> &[Queued] {
        self.members.get(first..first.saturating_add(count)).unwrap_or_default()
    }

    /// How many members go as one from `first` on.
    fn run(&self, first: usize) -> usize {
        let rest = self.members.get(first..).unwrap_or_default();
        if self.is_dead_letter { rest.len().min(1) } else { merge::run(rest) }
    }

    /// Those members as one write; `None` if there are none.
    fn write(&self, first: usize, count: usize) -> Option<Write> {
        let members = self.members(first, count);
        let (oldest, newest) = (members.first()?, members.last()?);
        Some(Write {
            record: Arc::clone(&oldest.record),
            changes: Changes::of(members.iter().map(|member| &*member.record)),
            not_after: oldest.updated_at,
            updated_at: newest.updated_at,
            newest: first + members.len() - 1,
            echo: self.echo.clone(),
            is_followed: self.has_later || first + members.len() < self.members.len(),
            is_dead_letter: self.is_dead_letter,
        })
    }
}

impl fmt::Debug for Ask {
    /// Without the headers and the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("member", &self.member)
            .field("method", &self.method)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Outcome {
    /// Without the row and the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied => f.write_str("Applied"),
            Self::Superseded { theirs } => write!(f, "Superseded(gone: {})", theirs.is_none()),
            Self::Rejected { reason, status, .. } => write!(f, "Rejected({reason:?}, {status:?})"),
        }
    }
}

#[cfg(test)]
mod tests;
