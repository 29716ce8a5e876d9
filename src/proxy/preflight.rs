//! CORS preflights: asked of upstream once, then answered from memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, header};
use quick_cache::sync::Cache;

use super::gateway::Settings;
use crate::cors::Preflight;
use crate::upstream::{Collected, FetchError, collect};

/// Kept answers. The keys are of bounded length, so this is some megabytes at most.
const CAPACITY: usize = 4096;
/// A preflight's answer has no body worth the name; a longer one is not passed on.
const MAX_BODY: u64 = 64 * 1024;
/// What upstream sees of a preflight.
const CARRIED: [HeaderName; 3] =
    [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_REQUEST_HEADERS];

/// Upstream's answer to a preflight.
#[derive(Debug, Clone)]
pub struct PreflightAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers to pass on.
    pub headers: HeaderMap,
    /// The body, of an answer that isn't kept.
    pub body: Bytes,
}

/// Answers kept by path, origin and both request headers.
pub struct Preflights {
    kept: Cache<Preflight, (Instant, Arc<PreflightAnswer>)>,
}

impl Default for Preflights {
    fn default() -> Self {
        Self::new()
    }
}

impl Preflights {
    /// Keeps nothing yet.
    pub fn new() -> Self {
        Self { kept: Cache::new(CAPACITY) }
    }

    /// The answer kept for `preflight`, if it is not older than `max_age`, and
    /// for how many milliseconds more it is kept.
    pub fn get(&self, preflight: &Preflight, max_age: Duration) -> Option<(Arc<PreflightAnswer>, i64)> {
        let (since, answer) = self.kept.get(preflight)?;
        let left = max_age.checked_sub(since.elapsed())?;
        Some((answer, i64::try_from(left.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Forgets all answers.
    pub fn clear(&self) {
        self.kept.clear();
    }

    /// Asks upstream, and keeps a 2xx.
    ///
    /// # Errors
    ///
    /// [`FetchError`] where upstream does not answer.
    pub async fn ask(
        &self,
        settings: &Settings,
        target: &Uri,
        request: &HeaderMap,
        preflight: Preflight,
    ) -> Result<Arc<PreflightAnswer>, FetchError> {
        let mut asked = Request::new(Bytes::new());
        *asked.method_mut() = Method::OPTIONS;
        *asked.uri_mut() = target.clone();
        for name in CARRIED {
            for value in request.get_all(&name) {
                asked.headers_mut().append(name.clone(), value.clone());
            }
        }
        let (head, body) = settings.client.send(asked).await?.into_parts();
        let body = match collect(body, MAX_BODY, settings.config.upstream.response_timeout).await? {
            Collected::Whole(body) => body,
            Collected::TooLarge { .. } => Bytes::new(),
        };
        if !head.status.is_success() {
            return Ok(Arc::new(refused(head, body)));
        }
        let headers = settings.cors.preflight(&head.headers);
        let answer = Arc::new(PreflightAnswer { status: head.status, headers, body: Bytes::new() });
        self.kept.insert(preflight, (Instant::now(), answer.clone()));
        Ok(answer)
    }
}

/// A refusal is passed on as it is, framing aside.
fn refused(head: http::response::Parts, body: Bytes) -> PreflightAnswer {
    let mut headers = head.headers;
    crate::headers::remove_hop_by_hop(&mut headers);
    crate::headers::remove_not_passed_on(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    PreflightAnswer { status: head.status, headers, body }
}
