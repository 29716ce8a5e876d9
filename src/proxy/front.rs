//! The front: connections, from accept to close.
//!
//! It reads and checks the head of each HTTP/1 request and hands the request,
//! with the bytes already read, to Pingora's proxy; then it takes the
//! connection back for the next one. HTTP/2 connections go to the proxy whole.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::head::{self, Framing, Head, HeadError, HeadLimits};
use super::listener::{Accepted, Listener};
use super::phases::Phases;
use super::synth::Synthetic;
use super::wire::Wire;
use crate::config::{Config, Limits};
use crate::telemetry::metrics::{Metrics, Outcome};

/// What begins an HTTP/2 connection without TLS (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a refused client may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// How long accepting rests where the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the connections of all listeners.
pub struct Front {
    proxy: Arc<HttpProxy<Phases>>,
    limits: Limits,
    proxy_protocol: bool,
    /// Whether scripts of any origin may read why a request was refused.
    any_origin: bool,
    tls: Arc<ArcSwapOption<Acceptor>>,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// How a connection goes on after a head was looked for.
enum Next {
    Request(Head),
    Http2,
    Refuse(Synthetic),
    Close,
}

impl Front {
    /// A front for `proxy`. `tls` holds the acceptor of the moment, which a reload replaces;
    /// empty means plain HTTP.
    pub fn new(
        proxy: Arc<HttpProxy<Phases>>,
        config: &Config,
        tls: Arc<ArcSwapOption<Acceptor>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let limits = config.limits.clone();
        let slots = Arc::new(Semaphore::new(limits.connections));
        let any_origin = config.cors.allow_origins.iter().any(|origin| origin == "*");
        Self { proxy, limits, proxy_protocol: config.proxy_protocol, any_origin, tls, slots, metrics }
    }

    /// Accepts until `shutdown` turns true. Each connection holds a clone of
    /// `alive`, so that its receiver learns when the last one is over.
    ///
    /// At `limits.connections` one more is accepted and waits, the others wait
    /// in the kernel's backlog, until one is over.
    pub async fn serve(
        self: Arc<Self>,
        listener: Listener,
        mut shutdown: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) {
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut shutdown) => return,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((connection, slot)) => {
                    let (front, shutdown, alive) = (self.clone(), shutdown.clone(), alive.clone());
                    tokio::spawn(async move {
                        let counted = front.metrics.connection();
                        front.connection(connection, shutdown).await;
                        drop((slot, alive, counted));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self, listener: &Listener) -> io::Result<(Accepted, tokio::sync::OwnedSemaphorePermit)> {
        let accepted = listener.accept().await?;
        let slot = self.slots.clone().acquire_owned().await.map_err(io::Error::other)?;
        Ok((accepted, slot))
    }

    async fn connection(&self, accepted: Accepted, shutdown: watch::Receiver<bool>) {
        let Ok(Some(stream)) = timeout(self.limits.header_timeout, self.establish(accepted)).await else {
            return;
        };
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            self.proxy.process_new(stream, &shutdown).await;
        } else {
            self.http1(Box::new(Wire::new(stream)), shutdown).await;
        }
    }

    /// The PROXY header and the TLS handshake, where they are due.
    async fn establish(&self, accepted: Accepted) -> Option<Stream> {
        let stream = accepted
            .into_stream(self.proxy_protocol)
            .await
            .inspect_err(|error| tracing::debug!(%error, "connection refused"))
            .ok()?;
        match self.tls.load_full() {
            None => Some(Box::new(stream)),
            Some(acceptor) => match acceptor.tls_handshake(stream).await {
                Ok(stream) => Some(Box::new(stream)),
                Err(error) => {
                    tracing::debug!(%error, "tls handshake failed");
                    None
                }
            },
        }
    }

    async fn http1(&self, mut wire: Box<Wire>, mut shutdown: watch::Receiver<bool>) {
        let mut first = true;
        loop {
            let head = match self.next(&mut wire, first, &mut shutdown).await {
                Next::Request(head) => head,
                Next::Http2 => {
                    self.proxy.process_new(wire.into_whole(), &shutdown).await;
                    return;
                }
                Next::Refuse(answer) => return self.refuse(wire, answer).await,
                Next::Close => return,
            };
            first = false;
            let bytes = head::encoded(wire.begin_message(head.length, head.framing));
            let mut session = ServerSession::new_http1(wire);
            // A websocket may be silent for as long as its ends like.
            let body_timeout = (head.framing != Framing::Tunnel).then_some(self.limits.body_timeout);
            session.set_read_timeout(body_timeout);
            session.set_write_timeout(body_timeout);
            session.set_total_drain_timeout(Some(self.limits.body_timeout));
            session.set_pipelined_prefix(bytes);
            let Some(reused) = self.proxy.process_new_http(session, &shutdown).await else { return };
            let Some(reclaimed) = Wire::reclaim(reused.consume().0) else { return };
            wire = reclaimed;
        }
    }

    /// Waits for the next head. Between requests the idle timeout holds and a
    /// stop closes the connection; once a byte has come, the header timeout holds.
    async fn next(&self, wire: &mut Wire, first: bool, shutdown: &mut watch::Receiver<bool>) -> Next {
        let limits =
            HeadLimits { max_bytes: self.limits.max_header_bytes, max_headers: self.limits.max_headers };
        if wire.buffered().is_empty() {
            let patience = if first { self.limits.header_timeout } else { self.limits.idle_timeout };
            let read = tokio::select! {
                biased;
                read = timeout(patience, wire.fill()) => read,
                () = stopped(shutdown) => return Next::Close,
            };
            if !matches!(read, Ok(Ok(1..))) {
                return Next::Close;
            }
        }
        let deadline = Instant::now() + self.limits.header_timeout;
        loop {
            if first && PREFACE.starts_with(wire.buffered()) {
                // Too short to tell yet.
            } else if first && wire.buffered().starts_with(PREFACE) {
                return Next::Http2;
            } else {
                match head::parse(wire.buffered(), limits) {
                    Ok(Some(head)) => return Next::Request(head),
                    Ok(None) => {}
                    Err(HeadError::Malformed(why)) => return Next::Refuse(Synthetic::malformed(why)),
                    Err(HeadError::Method) => return Next::Refuse(Synthetic::method_not_allowed()),
                    Err(HeadError::TooLarge(why)) => return Next::Refuse(Synthetic::head_too_large(why)),
                }
            }
            match timeout_at(deadline, wire.fill()).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Next::Close,
                Err(_) => return Next::Refuse(Synthetic::request_timeout()),
            }
        }
    }

    /// Tells a client why and closes. What it still sends is read for a moment,
    /// since closing over unread bytes would reset the connection before it has the answer.
    async fn refuse(&self, mut wire: Box<Wire>, answer: Synthetic) {
        self.metrics.unrouted().request(Outcome::Error, answer.status, Duration::ZERO);
        let body = answer.body();
        let cors = if self.any_origin { "Access-Control-Allow-Origin: *\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\
             {cors}Connection: close\r\n\r\n",
            answer.status,
            body.len()
        );
        let told = timeout(LINGER, async {
            wire.write_all(head.as_bytes()).await?;
            wire.write_all(&body).await?;
            wire.shutdown().await
        });
        if matches!(told.await, Ok(Ok(()))) {
            let mut rest = [0; 4096];
            let mut stream = wire.into_whole();
            // Nobody is left to be told of a failure here.
            let _ =
                timeout(LINGER, async { while !matches!(stream.read(&mut rest).await, Ok(0) | Err(_)) {} })
                    .await;
        }
    }
}

/// Returns once `shutdown` is true or its sender is gone.
pub async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
