//! What can go wrong between Sluice and Redis.

use redis::{ErrorKind, RedisError};

/// More of a server's text than this is not shown.
const MAX_TEXT: usize = 240;

/// Why Redis didn't do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no connection, Redis has been too slow for a while, or it
    /// says that it can't answer now (it is loading, busy, its Cluster is down).
    #[error("Redis is not available")]
    Unavailable,
    /// No answer within the deadline.
    #[error("Redis did not answer in time")]
    Timeout,
    /// `maxmemory` is reached and nothing may be evicted.
    #[error("Redis is full: raise its maxmemory, or set an eviction policy")]
    Full,
    /// The server takes no writes: it is a replica, has too few replicas, or can't write to its disk.
    #[error("Redis takes no writes: it is a replica, lacks replicas, or can't write to its disk")]
    ReadOnly,
    /// The server refuses these credentials, or what they may not do.
    #[error("Redis refused: {0}")]
    Refused(String),
    /// The connection broke, or what came over it was not the expected answer.
    #[error("The exchange with Redis broke off: {0}")]
    Broken(String),
}

impl StoreError {
    /// The kind in one word, as a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Refused(_) => "refused",
            Self::Broken(_) => "broken",
        }
    }

    /// What the client library reports, sorted by what it means here. The
    /// text holds no secrets.
    pub fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Refused(text_of(error)),
            ErrorKind::Io if error.is_timeout() => Self::Timeout,
            _ => match code_of(error) {
                Some(code) => Self::of_code(code, error),
                None => Self::Broken(text_of(error)),
            },
        }
    }

    fn of_code(code: &str, error: &RedisError) -> Self {
        match code {
            "OOM" => Self::Full,
            "READONLY" | "NOREPLICAS" | "MISCONF" => Self::ReadOnly,
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Refused(text_of(error)),
            "LOADING" | "BUSY" | "UNKILLABLE" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" => {
                Self::Unavailable
            }
            _ => Self::Broken(text_of(error)),
        }
    }
}

/// Codes that a server before 7.0 hides inside the text of a script's `ERR`.
const WRAPPED: [&str; 7] =
    ["OOM", "READONLY", "NOREPLICAS", "MISCONF", "NOPERM", "MASTERDOWN", "CLUSTERDOWN"];

/// The code of an error that a server answered with: its first word, or where
/// a script ran into it, the code that it would have had outside of one.
pub(super) fn code_of(error: &RedisError) -> Option<&str> {
    let code = error.code()?;
    let inside = (code == "ERR").then(|| error.detail().and_then(code_inside)).flatten();
    Some(inside.unwrap_or(code))
}

fn code_inside(detail: &str) -> Option<&'static str> {
    if detail.starts_with("The user executing the script can't") {
        return Some("NOPERM");
    }
    if !detail.starts_with("Error running script") {
        return None;
    }
    let mut words = detail.split_ascii_whitespace().map(|word| word.trim_start_matches('-'));
    words.find_map(|word| WRAPPED.into_iter().find(|code| *code == word))
}

/// Says what `error` says, without the arguments of a command that the server
/// doesn't know: those of `HELLO` and `AUTH` are credentials.
fn text_of(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    let shown = text.split(", with args").next().unwrap_or_default();
    shown.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests;
