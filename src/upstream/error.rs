//! What can go wrong between Sluice and upstream.

use http::StatusCode;
use hyper_util::client::legacy;

use super::connect::{BoxError, ConnectError, Seasoned};

/// Why there is no answer, or only part of one.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection: the name does not resolve, the connection or the TLS handshake is refused.
    #[error("Could not connect to upstream: {0}")]
    Unreachable(#[source] BoxError),
    /// Upstream took too long.
    #[error("Upstream took too long {0}")]
    TimedOut(Phase),
    /// The connection broke, or what came over it is not HTTP.
    #[error("The exchange with upstream broke off: {0}")]
    Broken(#[source] BoxError),
}

/// What upstream took too long for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The connection.
    Connect,
    /// The response's head.
    Head,
    /// More of the response's body.
    Body,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Connect => "to connect",
            Phase::Head => "to answer",
            Phase::Body => "to go on with its answer",
        })
    }
}

impl FetchError {
    /// Whether a client should be told that upstream was too slow (504)
    /// rather than that it could not be reached (502).
    pub fn is_timeout(&self) -> bool {
        matches!(self, FetchError::TimedOut(_))
    }
}

/// Why a document can't be had.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The URL is none, or neither `http` nor `https`.
    #[error("This is no http or https URL")]
    Url,
    /// No answer, or part of one.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An answer without the document.
    #[error("The server answered {0}")]
    Status(StatusCode),
    /// The document is larger than 1 MiB.
    #[error("The document is larger than 1 MiB")]
    TooLarge,
}

/// A failed try.
pub(super) struct Failure {
    pub(super) error: FetchError,
    /// Whether a connection that had served before was closed without a word.
    pub(super) idle_death: bool,
}

impl Failure {
    pub(super) fn of(error: FetchError) -> Self {
        Self { error, idle_death: false }
    }
}

impl From<legacy::Error> for Failure {
    fn from(error: legacy::Error) -> Self {
        if error.is_connect() {
            let slow = source_of::<ConnectError>(&error).is_some_and(ConnectError::is_timeout);
            return Self::of(if slow {
                FetchError::TimedOut(Phase::Connect)
            } else {
                FetchError::Unreachable(innermost(error))
            });
        }
        let mut extensions = http::Extensions::new();
        if let Some(connection) = error.connect_info() {
            connection.get_extras(&mut extensions);
        }
        let seasoned = extensions.get::<Seasoned>().is_some_and(Seasoned::get);
        let closed = source_of::<hyper::Error>(&error).is_some_and(|error| {
            error.is_incomplete_message()
                || error.is_canceled()
                || error.is_closed()
                || source_of::<std::io::Error>(error).is_some()
        });
        Self { idle_death: seasoned && closed, error: FetchError::Broken(innermost(error)) }
    }
}

/// The first error of type `E` among `error` and its sources.
fn source_of<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source()).take(16).find_map(|error| error.downcast_ref())
}

/// hyper's outer errors only say which step failed; the text of what is behind it is what an operator wants.
fn innermost(error: legacy::Error) -> BoxError {
    let mut text = Vec::new();
    let mut next = std::error::Error::source(&error);
    while let (Some(error), true) = (next, text.len() < 4) {
        let said = error.to_string();
        if text.last() != Some(&said) {
            text.push(said);
        }
        next = error.source();
    }
    if text.is_empty() { error.into() } else { text.join(": ").into() }
}
