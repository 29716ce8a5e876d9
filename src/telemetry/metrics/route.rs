//! The series of a route: what was answered, how, and how long it took.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter as PlainCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::{AttemptResult, Outcome, STATUS_CLASSES, WriteState, class_index};
use super::sharded::{Counter, Histogram};

/// The `route` label of requests that no route matches.
pub(super) const NO_ROUTE: &str = "-";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    outcome: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    route: Arc<str>,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    route: Arc<str>,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    route: Arc<str>,
    result: &'static str,
}

/// The families that a route's series belong to.
#[derive(Clone, Default)]
pub(super) struct RouteFamilies {
    requests: Family<RequestLabels, Counter>,
    durations: Family<OutcomeLabels, Histogram>,
    upstream_durations: Family<RouteLabel, Histogram>,
    writes: Family<WriteLabels, PlainCounter>,
    attempts: Family<AttemptLabels, PlainCounter>,
}

impl RouteFamilies {
    /// Shows all series of all routes, as far as they were counted at all.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register(
            "request_duration_seconds",
            "From a request's head to the end of its answer",
            self.durations.clone(),
        );
        registry.register(
            "upstream_duration_seconds",
            "From a request to upstream to the head of its response",
            self.upstream_durations.clone(),
        );
        registry.register("writes", "Deferred writes by the state that they came to", self.writes.clone());
        registry.register("replay_attempts", "Tries to replay deferred writes", self.attempts.clone());
    }
}

/// The series of one route, or of the requests that no route matches. Keep
/// the handle where the route is known: counting then takes no look-up.
pub struct RouteMetrics {
    route: Arc<str>,
    families: RouteFamilies,
    requests: [[OnceLock<Counter>; STATUS_CLASSES.len()]; Outcome::ALL.len()],
    durations: [OnceLock<Histogram>; Outcome::ALL.len()],
    upstream_duration: OnceLock<Histogram>,
}

impl RouteMetrics {
    pub(super) fn new(route: &str, families: RouteFamilies) -> Self {
        Self {
            route: route.into(),
            families,
            requests: Default::default(),
            durations: Default::default(),
            upstream_duration: OnceLock::new(),
        }
    }

    /// Counts a request that was answered with `status` after `duration`.
    pub fn request(&self, outcome: Outcome, status: StatusCode, duration: Duration) {
        let class = class_index(status);
        let requests = self.requests[outcome as usize][class].get_or_init(|| {
            self.families.requests.get_or_create_owned(&RequestLabels {
                route: Arc::clone(&self.route),
                outcome: outcome.as_str(),
                status: STATUS_CLASSES[class],
            })
        });
        requests.add(1);
        let durations = self.durations[outcome as usize].get_or_init(|| {
            let labels = OutcomeLabels { route: Arc::clone(&self.route), outcome: outcome.as_str() };
            self.families.durations.get_or_create_owned(&labels)
        });
        durations.observe(duration);
    }

    /// Counts the time from a request to upstream until its response's head.
    pub fn upstream(&self, duration: Duration) {
        let durations = self.upstream_duration.get_or_init(|| {
            self.families
                .upstream_durations
                .get_or_create_owned(&RouteLabel { route: Arc::clone(&self.route) })
        });
        durations.observe(duration);
    }

    /// Counts a deferred write that came to `state`.
    pub fn write(&self, state: WriteState) {
        let labels = WriteLabels { route: Arc::clone(&self.route), state: state.as_str() };
        self.families.writes.get_or_create(&labels).inc();
    }

    /// Counts a try to replay a deferred write.
    pub fn replay(&self, result: AttemptResult) {
        let labels = AttemptLabels { route: Arc::clone(&self.route), result: result.as_str() };
        self.families.attempts.get_or_create(&labels).inc();
    }
}
