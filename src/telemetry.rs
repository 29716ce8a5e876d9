//! What operators see: metrics and the log.

pub mod log;
pub mod metrics;

pub use metrics::{InvalidationSource, Metrics, Outcome, RouteMetrics};
