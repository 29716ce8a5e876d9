//! Connections to upstream: each of its addresses in turn, with a deadline each.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::resolver::{ResolveError, Resolver};

/// How many addresses one request tries; those that failed come last the next time.
const MAX_TRIES: usize = 4;

/// What hyper carries errors in.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{address}: {reason}")]
    Refused { address: SocketAddr, reason: BoxError },
    #[error("{address}: no connection within {limit:?}")]
    TimedOut { address: SocketAddr, limit: Duration },
    #[error("the name has no address")]
    NoAddress,
}

impl ConnectError {
    pub(super) fn is_timeout(&self) -> bool {
        match self {
            ConnectError::Resolve(error) => error.timed_out,
            ConnectError::TimedOut { .. } => true,
            ConnectError::Refused { .. } | ConnectError::NoAddress => false,
        }
    }
}

/// Whether a connection has answered a request before: if it has, its death
/// under the next one says that it was idle for too long, not that upstream is ill.
#[derive(Debug, Clone, Default)]
pub(super) struct Seasoned(Arc<AtomicBool>);

impl Seasoned {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Connects to upstream, whatever host the request's URI names.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) resolver: Arc<Resolver>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) server_name: ServerName<'static>,
    /// For each address, TLS handshake included.
    pub(super) limit: Duration,
}

type Stream = MaybeHttpsStream<UpstreamStream>;

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await })
    }
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Stream, ConnectError> {
        let mut outcome = Err(ConnectError::NoAddress);
        for &address in self.resolver.addresses().await?.iter().take(MAX_TRIES) {
            outcome = self.connect_to(address, uri.clone()).await;
            if outcome.is_ok() {
                break;
            }
            self.resolver.report_failure(address);
        }
        outcome
    }

    async fn connect_to(&self, address: SocketAddr, uri: Uri) -> Result<Stream, ConnectError> {
        let name = Arc::new(FixedServerNameResolver::new(self.server_name.clone()));
        let mut https = HttpsConnector::new(ToAddress(address), Arc::clone(&self.tls), false, name);
        match timeout(self.limit, https.call(uri)).await {
            Ok(outcome) => outcome.map_err(|reason| ConnectError::Refused { address, reason }),
            Err(_) => Err(ConnectError::TimedOut { address, limit: self.limit }),
        }
    }
}

/// Connects to one address.
struct ToAddress(SocketAddr);

impl Service<Uri> for ToAddress {
    type Response = UpstreamStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<UpstreamStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(UpstreamStream { stream: TokioIo::new(stream), seasoned: Seasoned::default() })
        })
    }
}

/// A TCP connection that knows whether it has been of use.
pub(super) struct UpstreamStream {
    stream: TokioIo<TcpStream>,
    seasoned: Seasoned,
}

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.seasoned.clone())
    }
}

impl Read for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
