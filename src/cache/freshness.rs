//! Whether an answer may be stored, how long it is fresh, and what may be
//! done with it at lookup: the route's rules, and RFC 9111 and RFC 5861 where
//! the route leaves them to upstream.

use std::time::Duration;

use http::header::{ACCEPT, AGE, CONTENT_RANGE, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderName, StatusCode};

use super::directives::{RequestDirectives, ResponseDirectives};
use super::entry::Entry;
use super::stored_headers::sets_cookies;
use super::{Timestamp, whole_millis};
use crate::postgrest;

/// How a route wants its answers kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// How long an answer is fresh; under `origin`, where upstream says nothing.
    pub ttl: Duration,
    /// For how long after that a stale answer is given while a new one is fetched.
    pub stale_while_revalidate: Duration,
    /// For how long after that a stale answer is given while upstream fails.
    pub stale_if_error: Duration,
    /// How long an answer without rows is fresh; never longer than others.
    pub empty_ttl: Duration,
    /// Upstream's own headers decide.
    pub origin: bool,
    /// The client's `Cache-Control` counts.
    pub obey_request: bool,
}

/// An answer that may be stored.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers as upstream sent them.
    pub headers: &'a HeaderMap,
    /// When upstream was asked.
    pub requested_at: Timestamp,
    /// When the head of the answer came.
    pub received_at: Timestamp,
    /// Whether the request to upstream carried `Authorization`.
    pub authorized: bool,
    /// Whether the partition it would be stored in is a single user's.
    pub one_user: bool,
}

/// Whether a stale answer may ever be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reuse {
    /// Within its windows.
    #[default]
    Free,
    /// Never while stale, except as upstream's own windows say.
    MustRevalidate,
    /// Never before upstream confirmed it, fresh or not.
    NoCache,
}

/// How long a stored answer may be used. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifetimes {
    /// When it came.
    pub received_at: Timestamp,
    /// How old it was then (RFC 9111, section 4.2.3, `corrected_initial_age`).
    pub initial_age: u64,
    /// The age up to which it is fresh.
    pub lifetime: u64,
    /// How long beyond that it is given while a new one is fetched.
    pub stale_while_revalidate: u64,
    /// How long beyond that it is given while upstream fails.
    pub stale_if_error: u64,
    /// Whether it has no rows.
    pub empty: bool,
    /// What a client may loosen with `max-stale`.
    pub reuse: Reuse,
}

impl Lifetimes {
    /// The answer's age at `now`.
    pub fn age(&self, now: Timestamp) -> u64 {
        self.initial_age.saturating_add(now.since(self.received_at))
    }

    /// How long it is of use from `now` on, stale windows included, in milliseconds.
    pub fn usable(&self, now: Timestamp) -> u64 {
        let stale = self.stale_while_revalidate.max(self.stale_if_error);
        self.lifetime.saturating_add(stale).saturating_sub(self.age(now))
    }

    /// How long it stays fresh from `now` on; negative once it is stale.
    pub fn ttl(&self, now: Timestamp) -> i64 {
        let (lifetime, age) = (i128::from(self.lifetime), i128::from(self.age(now)));
        i64::try_from(lifetime - age).unwrap_or(if lifetime > age { i64::MAX } else { i64::MIN })
    }
}

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// Neither 200 nor PostgREST's 206.
    #[error("status")]
    Status,
    /// A 206 of bytes, not of rows.
    #[error("partial")]
    Partial,
    /// `Cache-Control: no-store`.
    #[error("no-store")]
    NoStore,
    /// `Cache-Control: private`, and the partition is not one user's.
    #[error("private")]
    Private,
    /// `Set-Cookie` with a name that isn't the edge's.
    #[error("set-cookie")]
    SetCookie,
    /// `Vary: *`.
    #[error("vary")]
    Vary,
    /// Upstream set a lifetime for an answer to `Authorization` that users
    /// would share, and did not say that they may (RFC 9111, section 3.5).
    #[error("authorization")]
    Authorization,
    /// It would be of no use: neither fresh for any time, nor usable while
    /// stale, nor to be revalidated.
    #[error("ttl")]
    NoLifetime,
    /// A 304 that is about another representation than the stored one.
    #[error("mismatch")]
    Mismatch,
    /// More headers or tags than an entry can hold.
    #[error("size")]
    Size,
    /// It is coded in a way that not every client takes.
    #[error("content-encoding")]
    Coding,
}

/// Whether a request asks for a query plan: those are neither stored nor
/// answered from the cache.
pub fn asks_for_plan(request: &HeaderMap) -> bool {
    const PLAN: &[u8] = b"application/vnd.pgrst.plan";
    request
        .get_all(ACCEPT)
        .iter()
        .any(|value| value.as_bytes().windows(PLAN.len()).any(|part| part.eq_ignore_ascii_case(PLAN)))
}

/// Decides whether `answer` is stored, and how long it may be used.
///
/// Whatever the route says, upstream's `no-store`, `private`, `Set-Cookie` and
/// `Vary: *` count. Any other `Vary` doesn't: a fill carries nothing that
/// isn't in the key, and what upstream didn't see can't have changed the answer.
///
/// Under `origin`, RFC 9111, section 3.5 is applied where upstream itself says
/// how long the answer is fresh and its partition is shared by users. Where
/// upstream says nothing, the route's ttl and scope are the operator's word.
///
/// # Errors
///
/// [`NotStored`], the reason.
pub fn judge(policy: &Policy, answer: &Answer<'_>) -> Result<Lifetimes, NotStored> {
    check_status(answer)?;
    let directives = ResponseDirectives::of(answer.headers);
    check_prohibitions(policy, answer, &directives)?;
    let initial_age = initial_age(answer);
    let stated = if policy.origin { stated_lifetime(answer, &directives) } else { None };
    if stated.is_none() && policy.ttl.is_zero() {
        return Err(NotStored::NoLifetime);
    }
    let mut lifetimes = route_lifetimes(policy, answer, initial_age);
    if policy.origin {
        apply_directives(&mut lifetimes, stated, answer, &directives)?;
    }
    if is_empty_answer(answer.headers) {
        let allowed = initial_age.saturating_add(whole_millis(policy.empty_ttl));
        lifetimes.lifetime = lifetimes.lifetime.min(allowed);
        lifetimes.stale_while_revalidate = 0;
        lifetimes.stale_if_error = 0;
        lifetimes.empty = true;
    }
    let usable_stale = lifetimes.stale_while_revalidate > 0 || lifetimes.stale_if_error > 0;
    let validatable = answer.headers.contains_key(ETAG) || answer.headers.contains_key(LAST_MODIFIED);
    let worth_validating = policy.origin && validatable && !lifetimes.empty;
    if lifetimes.lifetime <= initial_age && !usable_stale && !worth_validating {
        return Err(NotStored::NoLifetime);
    }
    Ok(lifetimes)
}

fn check_status(answer: &Answer<'_>) -> Result<(), NotStored> {
    match answer.status {
        StatusCode::OK => Ok(()),
        StatusCode::PARTIAL_CONTENT => {
            let range = answer.headers.get(CONTENT_RANGE).ok_or(NotStored::Partial)?;
            // PostgREST counts rows: `0-4/10`. A unit in front means a part of a representation.
            let counts_rows =
                range.as_bytes().first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'*');
            if counts_rows { Ok(()) } else { Err(NotStored::Partial) }
        }
        _ => Err(NotStored::Status),
    }
}

fn check_prohibitions(
    policy: &Policy,
    answer: &Answer<'_>,
    directives: &ResponseDirectives,
) -> Result<(), NotStored> {
    // Section 5.2.2.3: who understands the status may ignore the `no-store` beside `must-understand`.
    let understood = policy.origin && directives.must_understand && answer.status == StatusCode::OK;
    if directives.no_store && !understood {
        return Err(NotStored::NoStore);
    }
    if directives.private && !answer.one_user {
        return Err(NotStored::Private);
    }
    if sets_cookies(answer.headers) {
        return Err(NotStored::SetCookie);
    }
    let names = answer.headers.get_all(VARY).iter();
    if names
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|name| name.trim_ascii() == b"*")
    {
        return Err(NotStored::Vary);
    }
    Ok(())
}

fn route_lifetimes(policy: &Policy, answer: &Answer<'_>, initial_age: u64) -> Lifetimes {
    Lifetimes {
        received_at: answer.received_at,
        initial_age,
        // The route's ttl runs from the receipt, however old upstream says the answer is.
        lifetime: initial_age.saturating_add(whole_millis(policy.ttl)),
        stale_while_revalidate: whole_millis(policy.stale_while_revalidate),
        stale_if_error: whole_millis(policy.stale_if_error),
        empty: false,
        reuse: Reuse::Free,
    }
}

fn apply_directives(
    lifetimes: &mut Lifetimes,
    stated: Option<u64>,
    answer: &Answer<'_>,
    directives: &ResponseDirectives,
) -> Result<(), NotStored> {
    let shareable = directives.public || directives.must_revalidate || directives.s_maxage.is_some();
    if stated.is_some() && answer.authorized && !answer.one_user && !shareable {
        return Err(NotStored::Authorization);
    }
    lifetimes.lifetime = stated.unwrap_or(lifetimes.lifetime);
    if directives.no_cache {
        lifetimes.lifetime = 0;
        lifetimes.stale_while_revalidate = 0;
        lifetimes.stale_if_error = 0;
        lifetimes.reuse = Reuse::NoCache;
        return Ok(());
    }
    // `s-maxage` has the meaning of `proxy-revalidate` (section 5.2.2.10): the route's windows don't
    // apply. Windows in the same answer are upstream's own permission, except against must-revalidate.
    let strict = directives.must_revalidate || directives.proxy_revalidate;
    if strict || directives.s_maxage.is_some() {
        lifetimes.stale_while_revalidate = 0;
        lifetimes.stale_if_error = 0;
        lifetimes.reuse = Reuse::MustRevalidate;
    }
    if !strict {
        let stated_or = |stated: Option<u64>, other| stated.map_or(other, |seconds| seconds * 1000);
        lifetimes.stale_while_revalidate =
            stated_or(directives.stale_while_revalidate, lifetimes.stale_while_revalidate);
        lifetimes.stale_if_error = stated_or(directives.stale_if_error, lifetimes.stale_if_error);
    }
    Ok(())
}

/// The lifetime that upstream states (RFC 9111, section 4.2.1). Heuristic
/// freshness is not used.
fn stated_lifetime(answer: &Answer<'_>, directives: &ResponseDirectives) -> Option<u64> {
    if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        return Some(seconds * 1000);
    }
    if directives.no_cache {
        return Some(0);
    }
    let mut lines = answer.headers.get_all(EXPIRES).iter();
    let first = lines.next()?;
    // Two different dates, or what is no date, such as `0`, mean stale.
    if lines.any(|other| other != first) {
        return Some(0);
    }
    let expires = http_date(answer.headers, &EXPIRES);
    let date = http_date(answer.headers, &DATE).unwrap_or(answer.received_at);
    Some(expires.map_or(0, |expires| expires.since(date)))
}

/// `corrected_initial_age` of RFC 9111, section 4.2.3.
fn initial_age(answer: &Answer<'_>) -> u64 {
    let apparent = http_date(answer.headers, &DATE).map_or(0, |date| {
        // Dates have no fractions: within its second an answer is of no age.
        answer.received_at.since(date) / 1000 * 1000
    });
    let delay = answer.received_at.since(answer.requested_at);
    apparent.max(age_header(answer.headers).saturating_add(delay))
}

/// The first `Age` in milliseconds (section 5.1); a malformed one doesn't count.
fn age_header(headers: &HeaderMap) -> u64 {
    const MAX_SECONDS: u64 = 1 << 31;
    let Some(value) = headers.get(AGE).and_then(|value| value.to_str().ok()) else { return 0 };
    let first = value.split(',').next().unwrap_or_default().trim();
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    first.parse().unwrap_or(MAX_SECONDS).min(MAX_SECONDS) * 1000
}

/// The time that a header names, if it has exactly one well-formed value.
fn http_date(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    Timestamp::from_http_date(value.as_bytes())
}

/// Whether PostgREST says that there are no rows: `*/0`, `*/*`.
fn is_empty_answer(headers: &HeaderMap) -> bool {
    postgrest::is_empty_answer(headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()))
}

/// What may be done with an entry now. `ttl` is in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be given as it is.
    Fresh {
        /// How long it stays fresh; negative if the client accepts it stale.
        ttl: i64,
    },
    /// Upstream is asked, before or behind the answer.
    Stale {
        /// How long it has been stale, negative; positive if the client wants it fresher.
        ttl: i64,
        /// It may be given while a new one is fetched behind it.
        while_revalidating: bool,
        /// It may be given if upstream answers 5xx or 429, times out or refuses.
        if_error: bool,
    },
}

/// Decides what may be done with `entry`. `request` are the client's
/// directives where the route obeys them.
pub fn standing(entry: &Entry, request: Option<&RequestDirectives>, now: Timestamp) -> Standing {
    let lifetimes = entry.lifetimes();
    let ttl = lifetimes.ttl(now);
    let within = |window: u64| ttl > 0 || ttl.unsigned_abs() < window;
    let usable = lifetimes.reuse != Reuse::NoCache;
    let stale = |while_revalidating, if_error| Standing::Stale { ttl, while_revalidating, if_error };

    let if_error = usable && within(lifetimes.stale_if_error);
    if let Some(request) = request {
        // A client that asks for upstream's word gets it, an error included.
        if request.no_cache || request.no_store {
            return stale(false, false);
        }
        if request.max_age.is_some_and(|most| lifetimes.age(now) > most * 1000)
            || request.min_fresh.is_some_and(|least| ttl < seconds_as_ttl(least))
        {
            return stale(false, if_error);
        }
        if let Some(most) = request.max_stale
            && ttl <= 0
            && lifetimes.reuse == Reuse::Free
            && ttl >= -seconds_as_ttl(most)
        {
            return Standing::Fresh { ttl };
        }
    }
    if ttl > 0 && usable {
        return Standing::Fresh { ttl };
    }
    stale(usable && within(lifetimes.stale_while_revalidate), if_error)
}

/// Directives' seconds are at most 2^31: as milliseconds they always fit.
fn seconds_as_ttl(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
