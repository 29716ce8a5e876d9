//! The way to upstream: its addresses, the trust in its certificate, and the
//! client that fills, refreshes and fetches documents.
//!
//! Requests that are merely forwarded go through Pingora; they use the same
//! [`Resolver`] and the same [`Trust`].

mod body;
mod client;
mod connect;
mod error;
mod resolver;
mod tls;

pub use body::{Collected, collect, ends_explicitly};
pub use client::{Client, ClientSettings, SettingsError};
pub use error::{DocumentError, FetchError, Phase};
pub use resolver::{LookupFuture, ResolveError, Resolver};
pub use tls::{Trust, TrustError};

/// Upstream's clock minus this machine's, in seconds, by the `Date` of an
/// answer that came at `now`. `Date` has whole seconds, so it is off by half
/// of one either way. `None` if there is no readable `Date`.
pub fn clock_skew(headers: &http::HeaderMap, now: std::time::SystemTime) -> Option<f64> {
    let date = httpdate::parse_http_date(headers.get(http::header::DATE)?.to_str().ok()?).ok()?;
    let skew = match date.duration_since(now) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    };
    Some(skew + 0.5)
}
