//! The admin listener: liveness, readiness and metrics, for operators and
//! their machines, never for clients.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::telemetry::Metrics;

/// More connections than this wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// How long a request's head may take, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// More headers than this are refused.
const MAX_HEADERS: usize = 64;
/// The largest head.
const MAX_HEAD: usize = 16 << 10;
/// How long to wait where the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether Sluice takes requests: from its first accept until it is told to
/// stop. It depends on nothing else, least of all on upstream.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether requests are taken.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether requests are taken.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the admin listener answers from.
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    sample: Box<dyn Fn(&Metrics) + Send + Sync>,
}

impl Admin {
    /// `sample` is called before metrics are written, to set those that are
    /// looked up rather than counted.
    pub fn new(
        metrics: Arc<Metrics>,
        readiness: Readiness,
        sample: impl Fn(&Metrics) + Send + Sync + 'static,
    ) -> Self {
        Self { metrics, readiness, sample: Box::new(sample) }
    }

    /// Answers connections of `listener` until `shutdown` becomes true or its
    /// sender is gone; requests under way are finished by their own tasks.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accept = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = stopped(&mut shutdown) => return,
                accepted = accept => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept an admin connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let connection = Arc::clone(&self).connection(stream, shutdown.clone());
            tokio::spawn(async move {
                connection.await;
                drop(permit);
            });
        }
    }

    fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        mut shutdown: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send {
        let service = service_fn(move |request| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(&request)) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        async move {
            tokio::pin!(connection);
            let early = tokio::select! {
                outcome = &mut connection => Some(outcome),
                () = stopped(&mut shutdown) => None,
            };
            let outcome = match early {
                Some(outcome) => outcome,
                None => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "an admin connection broke off");
            }
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let read: fn(&Self, &Request<Incoming>) -> Response<Full<Bytes>> = match request.uri().path() {
            "/livez" => |_, _| text(StatusCode::OK, "ok\n"),
            "/readyz" => |admin, _| admin.ready(),
            "/metrics" => Self::metrics,
            _ => return error(StatusCode::NOT_FOUND, "SLUICE404", "There is nothing here"),
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return read(self, request);
        }
        let mut response =
            error(StatusCode::METHOD_NOT_ALLOWED, "SLUICE405", "Only GET and HEAD are possible here");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        if self.readiness.is_ready() {
            text(StatusCode::OK, "ready\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    }

    fn metrics(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        (self.sample)(&self.metrics);
        let (media_type, metrics) = self.metrics.encode(request.headers());
        response(StatusCode::OK, media_type, metrics.into())
    }
}

/// Ends when `shutdown` becomes true or its sender is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response(status, media_type, Bytes::from_static(body.as_bytes()))
}

/// An error in PostgREST's shape, like those that clients see.
fn error(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "code": code, "message": message, "details": null, "hint": null });
    response(status, HeaderValue::from_static("application/json"), body.to_string().into())
}

fn response(status: StatusCode, media_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Running {
        address: SocketAddr,
        readiness: Readiness,
        stop: watch::Sender<bool>,
        task: tokio::task::JoinHandle<()>,
    }

    async fn running() -> Running {
        let readiness = Readiness::new();
        let sample = |metrics: &Metrics| metrics.set_cache(42, 1);
        let admin = Arc::new(Admin::new(Arc::new(Metrics::new()), readiness.clone(), sample));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(admin.serve(listener, stopped));
        Running { address, readiness, stop, task }
    }

    impl Running {
        async fn ask(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }
    }

    #[tokio::test]
    async fn probes_and_metrics() {
        let running = running().await;
        assert!(running.ask("GET /livez").await.starts_with("HTTP/1.1 200"));
        assert!(running.ask("GET /readyz").await.starts_with("HTTP/1.1 503"));
        running.readiness.set(true);
        assert!(running.ask("GET /readyz?verbose").await.starts_with("HTTP/1.1 200"));
        running.readiness.set(false);
        assert!(running.ask("GET /readyz").await.starts_with("HTTP/1.1 503"));
        let metrics = running.ask("GET /metrics").await;
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.contains("\nsluice_cache_entries 42\n"), "{metrics}");
    }

    #[tokio::test]
    async fn a_head_request_has_no_body() {
        let answer = running().await.ask("HEAD /livez").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn anything_else_is_an_error_in_postgrests_shape() {
        let running = running().await;
        let answer = running.ask("GET /").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["code"], "SLUICE404");
        assert!(body["message"].is_string() && body["details"].is_null() && body["hint"].is_null());
        let answer = running.ask("POST /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET, HEAD"), "{answer}");
        assert!(running.ask("nonsense").await.starts_with("HTTP/1.1 400"));
    }

    #[tokio::test]
    async fn it_stops_when_told() {
        let running = running().await;
        let mut idle = TcpStream::connect(running.address).await.unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut byte = [0];
        idle.read_exact(&mut byte).await.unwrap();
        running.stop.send(true).unwrap();
        running.task.await.unwrap();
        assert!(TcpStream::connect(running.address).await.is_err());
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
    }
}
