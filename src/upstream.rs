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
