//! Metrics for Prometheus. Counting costs no lock and no look-up by label:
//! the series of a route are resolved once. What every hit counts is kept per
//! thread and added up when it is scraped.

mod labels;
mod route;
mod sharded;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::RwLock;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use labels::{AttemptResult, InvalidationSource, Outcome, WriteState};
pub use route::RouteMetrics;

use labels::{STATUS_CLASSES, class_index};
use route::{NO_ROUTE, RouteFamilies};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    operation: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

/// All metrics of one Sluice.
pub struct Metrics {
    registry: Registry,
    families: RouteFamilies,
    unrouted: Arc<RouteMetrics>,
    routes: RwLock<HashMap<String, Arc<RouteMetrics>>>,
    upstream_requests: [Counter; STATUS_CLASSES.len()],
    upstream_failures: Counter,
    saved_bytes: sharded::Counter,
    front_hits: sharded::Counter,
    invalidations: Family<SourceLabel, Counter>,
    evictions: Family<ReasonLabel, Counter>,
    cache_entries: Gauge,
    cache_bytes: Gauge,
    connections: Gauge,
    store_up: Gauge,
    store_operations: Family<StoreLabels, Counter>,
    clock_skew: Gauge<f64, AtomicU64>,
    queue_depth: Gauge,
    queue_oldest_age: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that all begin at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("sluice");
        let families = RouteFamilies::default();
        families.register(&mut registry);
        let upstream = Family::<StatusLabel, Counter>::default();
        registry.register("upstream_requests", "Requests sent to upstream", upstream.clone());
        let by_status = |status| upstream.get_or_create_owned(&StatusLabel { status });
        let unrouted = Arc::new(RouteMetrics::new(NO_ROUTE, families.clone()));
        let metrics = Self {
            families,
            unrouted,
            routes: RwLock::default(),
            upstream_requests: STATUS_CLASSES.map(by_status),
            upstream_failures: by_status("none"),
            saved_bytes: sharded::Counter::default(),
            front_hits: sharded::Counter::default(),
            invalidations: Family::default(),
            evictions: Family::default(),
            cache_entries: Gauge::default(),
            cache_bytes: Gauge::default(),
            connections: Gauge::default(),
            store_up: Gauge::<i64, AtomicI64>::default(),
            store_operations: Family::default(),
            clock_skew: Gauge::default(),
            queue_depth: Gauge::default(),
            queue_oldest_age: Gauge::default(),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        let saved = self.saved_bytes.clone();
        registry.register(
            "upstream_saved_bytes",
            "Bytes of bodies that upstream did not have to send",
            saved,
        );
        let front_hits = self.front_hits.clone();
        registry.register("front_hits", "Hits answered by the front, without the proxy", front_hits);
        registry.register("invalidations", "Invalidations by what caused them", self.invalidations.clone());
        registry.register("cache_evictions", "Entries that left the cache", self.evictions.clone());
        registry.register("cache_entries", "Entries in the cache", self.cache_entries.clone());
        registry.register("cache_bytes", "Memory that the cache's entries take", self.cache_bytes.clone());
        registry.register("connections", "Open connections of clients", self.connections.clone());
        registry.register("store_up", "Whether the store can be used", self.store_up.clone());
        let operations = self.store_operations.clone();
        registry.register("store_operations", "Calls of the shared store by what came of them", operations);
        let skew = self.clock_skew.clone();
        registry.register("clock_skew_seconds", "Upstream's clock minus this machine's", skew);
        registry.register(
            "queue_depth",
            "Deferred writes that wait for their replay",
            self.queue_depth.clone(),
        );
        let age = self.queue_oldest_age.clone();
        registry.register("queue_oldest_age_seconds", "For how long the oldest of them has waited", age);
        let build = Family::<VersionLabel, Gauge>::default();
        build.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The running version", build);
        self
    }

    /// The series of a route of the configuration; keep the handle. Names of
    /// anything else, taken from requests say, must not come here: a series
    /// is never forgotten.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        if let Some(route) = self.routes.read().get(name) {
            return Arc::clone(route);
        }
        let mut routes = self.routes.write();
        let new = || Arc::new(RouteMetrics::new(name, self.families.clone()));
        Arc::clone(routes.entry(name.to_owned()).or_insert_with(new))
    }

    /// The series of the requests that no route matches.
    pub fn unrouted(&self) -> &Arc<RouteMetrics> {
        &self.unrouted
    }

    /// Counts a request to upstream; `None`: there was no response (label `none`).
    pub fn upstream_request(&self, status: Option<StatusCode>) {
        match status {
            Some(status) => self.upstream_requests[class_index(status)].inc(),
            None => self.upstream_failures.inc(),
        };
    }

    /// Counts bytes of a body that came from the cache.
    pub fn saved(&self, bytes: u64) {
        self.saved_bytes.add(bytes);
    }

    /// Counts a hit that the front answered, without the proxy.
    pub fn front_hit(&self) {
        self.front_hits.add(1);
    }

    /// Counts an invalidation.
    pub fn invalidation(&self, source: InvalidationSource) {
        self.invalidations.get_or_create(&SourceLabel { source: source.as_str() }).inc();
    }

    /// Notes how many entries have left the cache for this reason so far.
    pub fn set_evicted(&self, reason: &'static str, entries: u64) {
        self.evictions.get_or_create(&ReasonLabel { reason }).inner().store(entries, Ordering::Relaxed);
    }

    /// Notes how full the cache is.
    pub fn set_cache(&self, entries: u64, bytes: u64) {
        self.cache_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a client's connection while the guard lives.
    pub fn connection(&self) -> ConnectionGuard {
        self.connections.inc();
        ConnectionGuard(self.connections.clone())
    }

    /// Notes whether the store can be used.
    pub fn set_store_up(&self, up: bool) {
        self.store_up.set(i64::from(up));
    }

    /// Counts a call of the shared store. `result` is `ok`, or what kind of error it was.
    pub fn store_operation(&self, operation: &'static str, result: &'static str) {
        self.store_operations.get_or_create(&StoreLabels { operation, result }).inc();
    }

    /// Notes upstream's clock minus this machine's.
    pub fn set_clock_skew(&self, seconds: f64) {
        self.clock_skew.set(seconds);
    }

    /// Notes how many deferred writes wait, and for how long the oldest has.
    pub fn set_queue(&self, depth: u64, oldest: Duration) {
        self.queue_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.queue_oldest_age.set(oldest.as_secs_f64());
    }

    /// All metrics as text, in the format that the scraper's `Accept` asks
    /// for, and that format's media type. The two differ in name only: what
    /// is written here is understood as either.
    pub fn encode(&self, request: &HeaderMap) -> (HeaderValue, String) {
        let mut encoded = String::with_capacity(16 << 10);
        // Writing to a string does not fail.
        let _ = text::encode(&mut encoded, &self.registry);
        let accepts = request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let openmetrics = accepts.flat_map(|value| value.split(',')).any(|range| {
            range.split(';').next().is_some_and(|media| media.trim() == "application/openmetrics-text")
        });
        let media = if openmetrics {
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        } else {
            "text/plain; version=0.0.4; charset=utf-8"
        };
        (HeaderValue::from_static(media), encoded)
    }
}

/// A connection that is counted as open.
pub struct ConnectionGuard(Gauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
