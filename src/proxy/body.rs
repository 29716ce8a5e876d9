//! Bodies that are read before it is known what becomes of their requests.

use bytes::{Bytes, BytesMut};
use http::header;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::exchange::{Exchange, view};

/// The most that Pingora can send again after Sluice has read it.
const MAX_READ_BODY: usize = 60 * 1024;

/// Reads a whole body, so that it can still be forwarded. `None`, with nothing
/// read, if it is longer than that allows or does not say how long it is.
///
/// # Errors
///
/// Pingora's, where the client is gone or pauses for too long.
pub async fn read(session: &mut Session, exchange: &mut Exchange) -> Result<Option<Bytes>> {
    let request = session.req_header();
    let length = view(request).header("content-length").and_then(|length| length.parse::<usize>().ok());
    let Some(length) = length.filter(|length| *length <= MAX_READ_BODY) else { return Ok(None) };
    if request.headers.contains_key(header::EXPECT) {
        session.write_continue_response().await?;
        exchange.continued = true;
    }
    session.enable_retry_buffering();
    let mut body = BytesMut::with_capacity(length);
    let patience = exchange.settings.config.limits.body_timeout;
    loop {
        let part = tokio::time::timeout(patience, session.read_request_body()).await.map_err(|_| {
            let mut error = Error::explain(ErrorType::ReadTimedout, "the body paused for too long");
            error.as_down();
            error
        })?;
        match part? {
            Some(part) => body.extend_from_slice(&part),
            None => return Ok(Some(body.freeze())),
        }
    }
}
