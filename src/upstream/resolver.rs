//! Upstream's addresses, looked up behind the requests that need them.
//!
//! A lookup never runs on a thread of the runtime, never takes longer than
//! its deadline as far as callers can tell, and never takes away what was
//! known: a failed one leaves the last good answer in place.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

/// How old an answer may be before a request has it looked up again behind its back.
const REFRESH_AFTER: Duration = Duration::from_secs(10);
/// The least time between two lookups, failed ones and those that a failed connection asks for included.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// For how long an address that could not be connected to is tried last.
const PENALTY: Duration = Duration::from_secs(30);
/// More addresses than this of one name are not used.
const MAX_ADDRESSES: usize = 16;

/// A lookup under way.
pub type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
type Lookup = Box<dyn Fn() -> LookupFuture + Send + Sync>;

/// Why upstream has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Could not find the address of {host}: {reason}. Check upstream.url and the machine's DNS.")]
pub struct ResolveError {
    /// The name that was looked up.
    pub host: String,
    /// What the system's resolver said.
    pub reason: String,
    /// Whether no answer came in time.
    pub timed_out: bool,
}

/// One upstream's host and port as addresses to connect to.
pub struct Resolver {
    host: String,
    deadline: Duration,
    lookup: Lookup,
    state: Mutex<State>,
    /// Counts lookups that ended, for those who wait for the first answer.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// As the last good lookup gave them.
    found: Vec<SocketAddr>,
    /// `found` with the penalised ones last; what callers get.
    ordered: Option<Arc<[SocketAddr]>>,
    /// Addresses that are never looked up.
    literal: bool,
    penalised: HashMap<SocketAddr, Instant>,
    /// When the last lookup ended.
    checked: Option<Instant>,
    failure: Option<ResolveError>,
    looking: bool,
}

impl Resolver {
    /// Resolves `host` (a name, or an IP address with or without brackets)
    /// with the system's resolver; one lookup takes at most `deadline`.
    pub fn new(host: &str, port: u16, deadline: Duration) -> Arc<Self> {
        let name = host.to_owned();
        Self::with_lookup(host, port, deadline, move || {
            let name = name.clone();
            Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })
        })
    }

    /// Like [`Resolver::new`], with a lookup of the caller's.
    pub fn with_lookup(
        host: &str,
        port: u16,
        deadline: Duration,
        lookup: impl Fn() -> LookupFuture + Send + Sync + 'static,
    ) -> Arc<Self> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let mut state = State::default();
        if let Ok(ip) = bare.parse::<IpAddr>() {
            state.found = vec![SocketAddr::new(ip, port)];
            state.ordered = Some(state.found.clone().into());
            state.literal = true;
        }
        Arc::new(Self {
            host: bare.to_owned(),
            deadline,
            lookup: Box::new(lookup),
            state: Mutex::new(state),
            ended: watch::channel(0).0,
        })
    }

    /// The addresses to try, in this order; never empty.
    ///
    /// Waits only for the very first answer, or for another try when there
    /// never was one.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] where no lookup has ever succeeded and the last one failed.
    pub async fn addresses(self: &Arc<Self>) -> Result<Arc<[SocketAddr]>, ResolveError> {
        if let Some(ordered) = self.known(&mut self.state.lock()) {
            return Ok(ordered);
        }
        let mut ended = self.ended.subscribe();
        let mut waited = false;
        loop {
            {
                let mut state = self.state.lock();
                if let Some(ordered) = self.known(&mut state) {
                    return Ok(ordered);
                }
                match &state.failure {
                    Some(failure) if waited || !state.due(RETRY_AFTER) => return Err(failure.clone()),
                    _ => self.look(&mut state),
                }
            }
            waited = true;
            // The sender lives in `self`: this cannot fail.
            let _ = ended.changed().await;
        }
    }

    /// What the last good lookup gave; where that is old, another one is started.
    fn known(self: &Arc<Self>, state: &mut State) -> Option<Arc<[SocketAddr]>> {
        let ordered = state.ordered.clone()?;
        if state.due(REFRESH_AFTER) {
            self.look(state);
        }
        Some(ordered)
    }

    /// Says that `address` could not be connected to: it is tried last for a
    /// while, and the name is looked up again.
    pub fn report_failure(self: &Arc<Self>, address: SocketAddr) {
        let mut state = self.state.lock();
        if !state.found.contains(&address) {
            return;
        }
        state.penalised.insert(address, Instant::now() + PENALTY);
        state.reorder();
        if state.due(RETRY_AFTER) {
            self.look(&mut state);
        }
    }

    /// Starts a lookup unless one is under way.
    fn look(self: &Arc<Self>, state: &mut State) {
        if state.looking {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        state.looking = true;
        let mut flight = Flight { resolver: Arc::clone(self), landed: false };
        runtime.spawn(async move {
            let outcome = timeout(flight.resolver.deadline, (flight.resolver.lookup)()).await;
            flight.land(outcome);
        });
    }

    fn failed(&self, reason: impl Into<String>, timed_out: bool) -> ResolveError {
        ResolveError { host: self.host.clone(), reason: reason.into(), timed_out }
    }

    fn settle(&self, outcome: Result<io::Result<Vec<SocketAddr>>, Elapsed>) {
        let outcome = match outcome {
            Err(_) => Err(self.failed(format!("no answer within {:?}", self.deadline), true)),
            Ok(Err(error)) => Err(self.failed(error.to_string(), false)),
            Ok(Ok(found)) if found.is_empty() => Err(self.failed("the name has no address", false)),
            Ok(Ok(found)) => Ok(distinct(found)),
        };
        let mut state = self.state.lock();
        state.checked = Some(Instant::now());
        match outcome {
            Ok(found) => {
                if state.failure.take().is_some() {
                    tracing::info!(host = self.host, "upstream's name resolves again");
                }
                state.found = found;
                state.reorder();
            }
            Err(failure) => {
                if state.failure.as_ref() != Some(&failure) {
                    let kept = state.found.len();
                    tracing::warn!(
                        host = self.host,
                        reason = failure.reason,
                        kept,
                        "could not resolve upstream's name"
                    );
                }
                state.failure = Some(failure);
            }
        }
    }
}

impl State {
    fn due(&self, after: Duration) -> bool {
        !self.literal && self.checked.is_none_or(|checked| checked.elapsed() >= after)
    }

    fn reorder(&mut self) {
        let now = Instant::now();
        let found = &self.found;
        self.penalised.retain(|address, until| *until > now && found.contains(address));
        let penalised = &self.penalised;
        let mut ordered = found.clone();
        // Among the penalised, the one that failed longest ago comes first.
        ordered.sort_by_key(|address| penalised.get(address).copied());
        self.ordered = Some(ordered.into());
    }
}

/// A lookup under way. However it ends, the next one may start and those who wait are woken.
struct Flight {
    resolver: Arc<Resolver>,
    /// Whether its outcome was noted; a task that panics or is cut off notes none.
    landed: bool,
}

impl Flight {
    fn land(&mut self, outcome: Result<io::Result<Vec<SocketAddr>>, Elapsed>) {
        self.resolver.settle(outcome);
        self.landed = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let resolver = &self.resolver;
        let mut state = resolver.state.lock();
        state.looking = false;
        if !self.landed {
            state.checked = Some(Instant::now());
            state.failure = Some(resolver.failed("the lookup was cut off", false));
        }
        drop(state);
        resolver.ended.send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn distinct(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut kept = Vec::with_capacity(found.len().min(MAX_ADDRESSES));
    for address in found {
        if kept.len() < MAX_ADDRESSES && !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
