//! The front: connections, from accept to close.
//!
//! It reads and checks the head of each HTTP/1 request and answers from memory
//! what can be answered from there. Any other request is handed, with the bytes already
//! read, to Pingora's proxy; then the connection is taken back for the next
//! one. HTTP/2 connections go to the proxy whole.

pub mod buffer;
pub mod connection;
pub mod deadline;
pub mod hit;
pub mod index;
pub mod socket;
pub mod spelling;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Ssl};
use pingora::proxy::HttpProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use self::connection::{Conversation, Forward, Next};
use self::deadline::stopped;
use self::hit::Hits;
use self::socket::Transport;
use super::head::Framing;
use super::listener::{Accepted, Listener};
use super::phases::Phases;
use super::synth::Synthetic;
use super::wire::Wire;
use crate::config::{Config, Limits};
use crate::telemetry::metrics::{Metrics, Outcome};

/// How long a refused client may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// How long accepting rests where the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the connections of all listeners.
pub struct Front {
    proxy: Arc<HttpProxy<Phases>>,
    hits: Hits,
    limits: Limits,
    proxy_protocol: bool,
    /// Whether scripts of any origin may read why a request was refused.
    any_origin: bool,
    tls: Arc<ArcSwapOption<Acceptor>>,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Front {
    /// A front for `proxy`, which answers what `hits` does not. `tls` holds the acceptor of the
    /// moment, which a reload replaces; empty means plain HTTP.
    pub fn new(
        proxy: Arc<HttpProxy<Phases>>,
        hits: Hits,
        config: &Config,
        tls: Arc<ArcSwapOption<Acceptor>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let limits = config.limits.clone();
        let slots = Arc::new(Semaphore::new(limits.connections));
        let any_origin = config.cors.allow_origins.iter().any(|origin| origin == "*");
        Self { proxy, hits, limits, proxy_protocol: config.proxy_protocol, any_origin, tls, slots, metrics }
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
        // What happens once is kept out of what a connection holds for as long as it is open.
        let establishing = Box::pin(timeout(self.limits.header_timeout, self.establish(accepted)));
        let Ok(Some(transport)) = establishing.await else { return };
        if matches!(transport.selected_alpn_proto(), Some(ALPN::H2)) {
            self.proxy.process_new(Box::new(transport), &shutdown).await;
        } else {
            self.http1(Box::new(Wire::new(transport)), shutdown).await;
        }
    }

    /// The PROXY header and the TLS handshake, where they are due.
    async fn establish(&self, accepted: Accepted) -> Option<Transport> {
        let socket = accepted
            .into_socket(self.proxy_protocol)
            .await
            .inspect_err(|error| tracing::debug!(%error, "connection refused"))
            .ok()?;
        let Some(acceptor) = self.tls.load_full() else { return Some(Transport::plain(socket)) };
        Transport::tls(socket, &acceptor)
            .await
            .inspect_err(|error| tracing::debug!(%error, "tls handshake failed"))
            .ok()
    }

    async fn http1(&self, mut wire: Box<Wire>, shutdown: watch::Receiver<bool>) {
        let peer = wire.peer();
        let mut conversation = Conversation::new(&self.limits, shutdown.clone(), |head, began, out| {
            self.hits.answer(head, peer, began, out)
        });
        loop {
            match conversation.next(&mut wire).await {
                Next::Forward(forward) => match self.forward(wire, forward, &shutdown).await {
                    Some(reclaimed) => wire = reclaimed,
                    None => return,
                },
                Next::Http2 => {
                    self.proxy.process_new(wire.into_whole(), &shutdown).await;
                    return;
                }
                Next::Refuse(answer) => return Box::pin(self.refuse(wire, answer)).await,
                Next::Close => return,
            }
        }
    }

    /// Hands the request to Pingora; `None`: the connection ends with it.
    async fn forward(
        &self,
        wire: Box<Wire>,
        forward: Forward,
        shutdown: &watch::Receiver<bool>,
    ) -> Option<Box<Wire>> {
        let mut session = ServerSession::new_http1(wire);
        // A websocket may be silent for as long as its ends like.
        let body_timeout = (forward.framing != Framing::Tunnel).then_some(self.limits.body_timeout);
        session.set_read_timeout(body_timeout);
        session.set_write_timeout(body_timeout);
        session.set_total_drain_timeout(Some(self.limits.body_timeout));
        session.set_pipelined_prefix(forward.head);
        let answered = self.proxy.process_new_http(session, shutdown);
        let reused = spelling::CURRENT.scope(forward.spelling, answered).await?;
        Wire::reclaim(reused.consume().0)
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
