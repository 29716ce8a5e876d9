//! Bodies of responses, read as far as they may be kept.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::error::{FetchError, Phase};

/// A body, read as far as allowed.
#[derive(Debug)]
pub enum Collected {
    /// All of it.
    Whole(Bytes),
    /// There is more than was allowed (or its `Content-Length` says so).
    TooLarge {
        /// What was read so far.
        read: Bytes,
        /// What follows.
        rest: Incoming,
    },
}

/// Reads a body of at most `max` bytes; `idle` is the longest wait for more of it.
///
/// # Errors
///
/// [`FetchError`] where the body breaks off before its `Content-Length` or
/// last chunk, or doesn't go on in time.
pub async fn collect(mut body: Incoming, max: u64, idle: Duration) -> Result<Collected, FetchError> {
    if body.size_hint().lower() > max {
        return Ok(Collected::TooLarge { read: Bytes::new(), rest: body });
    }
    let mut read = BytesMut::new();
    loop {
        let frame = timeout(idle, body.frame()).await.map_err(|_| FetchError::TimedOut(Phase::Body))?;
        let Some(frame) = frame else { return Ok(Collected::Whole(read.freeze())) };
        let frame = frame.map_err(|error| FetchError::Broken(error.into()))?;
        // Trailers are dropped: nothing that is stored has a place for them.
        let Ok(chunk) = frame.into_data() else { continue };
        if (read.len() + chunk.len()) as u64 > max {
            let read = if read.is_empty() { chunk } else { extended(read, &chunk).freeze() };
            return Ok(Collected::TooLarge { read, rest: body });
        }
        if read.is_empty() && body.is_end_stream() {
            return Ok(Collected::Whole(chunk));
        }
        read = extended(read, &chunk);
    }
}

fn extended(mut read: BytesMut, chunk: &[u8]) -> BytesMut {
    read.extend_from_slice(chunk);
    read
}

/// Whether a response's body says where it ends. One that ends with its
/// connection may have been cut short and must not be stored.
pub fn ends_explicitly(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)
}
