//! Answers that Sluice makes itself.
//!
//! Each has a JSON body in PostgREST's shape, so that supabase-js reports it
//! as it reports any other error.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

/// An error of Sluice's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synthetic {
    /// The status.
    pub status: StatusCode,
    /// What happened.
    pub message: &'static str,
    /// Where and why.
    pub details: &'static str,
    /// What to do.
    pub hint: &'static str,
}

impl Synthetic {
    /// The request could be read in two ways, or is not HTTP.
    pub const fn malformed(details: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: "The request is malformed.",
            details,
            hint: "Send a request as RFC 9112 describes it.",
        }
    }

    /// The method is none that a proxy of this kind serves.
    pub const fn method_not_allowed() -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: "The method is not allowed.",
            details: "Sluice opens no tunnels.",
            hint: "Send the request to the resource itself.",
        }
    }

    /// The head of the request is larger than the limits allow.
    pub const fn head_too_large(details: &'static str) -> Self {
        Self {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            message: "The request's head is too large.",
            details,
            hint: "Send a shorter URL and fewer headers, or raise [limits].",
        }
    }

    /// The client did not send its request, or its body, in time.
    pub const fn request_timeout() -> Self {
        Self {
            status: StatusCode::REQUEST_TIMEOUT,
            message: "The request did not arrive in time.",
            details: "No byte came for the time that [limits] allows.",
            hint: "Try again.",
        }
    }

    /// Upstream can't be reached, or broke off.
    pub const fn bad_gateway() -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            message: "Upstream could not be reached.",
            details: "The connection to upstream was refused, failed or broke off.",
            hint: "Try again. If it lasts, ask the operator to check `upstream.url`.",
        }
    }

    /// Upstream is too slow.
    pub const fn gateway_timeout() -> Self {
        Self {
            status: StatusCode::GATEWAY_TIMEOUT,
            message: "Upstream did not answer in time.",
            details: "The connection or the answer took longer than the configuration allows.",
            hint: "Try again.",
        }
    }

    /// `Cache-Control: only-if-cached` and nothing cached (RFC 9111, section 5.2.1.7).
    pub const fn not_cached() -> Self {
        Self {
            status: StatusCode::GATEWAY_TIMEOUT,
            message: "The answer is not in the cache.",
            details: "The request says only-if-cached.",
            hint: "Leave only-if-cached out.",
        }
    }

    /// No such endpoint of Sluice's own.
    pub const fn not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: "Sluice has no such endpoint.",
            details: "Paths under /sluice/v1/ are Sluice's own and are not forwarded.",
            hint: "Check the path.",
        }
    }

    /// Writes that were accepted before have to go first, and don't.
    pub const fn writes_in_the_way() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "Earlier writes have not reached the database yet.",
            details: "The request could overtake writes that were accepted before it. Nothing was forwarded.",
            hint: "Try again. If it lasts, ask the operator to look at the queue.",
        }
    }

    /// Nobody knows whether a write is queued.
    pub const fn write_unknown() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "It is not known whether the write was accepted.",
            details: "The queue did not confirm it. The write was not forwarded, and may still be carried out.",
            hint: "Read the row before you try again.",
        }
    }

    /// The queue can't be read.
    pub const fn queue_unavailable() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "Writes to this table can't be taken now.",
            details: "The queue can't be used, and the write could overtake what is in it. Nothing was forwarded.",
            hint: "Try again. If it lasts, ask the operator to look at the log.",
        }
    }

    /// Something failed that never should.
    pub const fn internal() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: "Sluice failed to handle the request.",
            details: "The log has the reason.",
            hint: "Report it with the log line.",
        }
    }

    /// The body.
    pub fn body(&self) -> Bytes {
        let body = json!({
            "code": format!("SLUICE{}", self.status.as_u16()),
            "message": self.message,
            "details": self.details,
            "hint": self.hint,
        });
        Bytes::from(body.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_postgrests_shape() {
        let body: serde_json::Value = serde_json::from_slice(&Synthetic::bad_gateway().body()).unwrap();
        assert_eq!(body["code"], "SLUICE502");
        assert!(["message", "details", "hint"].iter().all(|key| body[key].is_string()));
    }
}
