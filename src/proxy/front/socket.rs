//! Connections of clients, as Pingora takes them: sockets, and TLS over them.
//!
//! Nothing is buffered here; [`Wire`](crate::proxy::wire::Wire) does that once, for both.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsStream};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A socket that a client is connected to.
#[derive(Debug)]
pub struct Socket {
    stream: SocketStream,
    digest: Arc<SocketDigest>,
    sent: Arc<AtomicU64>,
}

/// The kinds of sockets.
#[derive(Debug)]
pub enum SocketStream {
    /// From an IP address.
    Tcp(TcpStream),
    /// From a process of this machine.
    Unix(UnixStream),
}

impl Socket {
    /// Makes it a socket for Pingora, whose digest tells `client`'s address. The kernel is
    /// never asked for that address.
    pub fn new(stream: SocketStream, client: Option<SocketAddr>) -> Self {
        let descriptor = match &stream {
            SocketStream::Tcp(stream) => stream.as_raw_fd(),
            SocketStream::Unix(stream) => stream.as_raw_fd(),
        };
        let digest = SocketDigest::from_raw_fd(descriptor);
        // Only a digest that was asked before is taken already, and this one is new.
        let _ = digest.peer_addr.set(client.map(Into::into));
        Self { stream, digest: Arc::new(digest), sent: Arc::default() }
    }

    fn count(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(sent)) = sent {
            self.sent.fetch_add(sent as u64, Ordering::Relaxed);
        }
        sent
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            SocketStream::Tcp(stream) => Pin::new(stream).poll_read(cx, out),
            SocketStream::Unix(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = match &mut self.stream {
            SocketStream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            SocketStream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.count(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = match &mut self.stream {
            SocketStream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            SocketStream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        };
        self.count(sent)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Neither kind keeps anything back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            SocketStream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            SocketStream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        // A connection that fails here is closing anyway.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        match &self.stream {
            SocketStream::Tcp(stream) => stream.as_raw_fd(),
            SocketStream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl Ssl for Socket {}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }
}

impl Peek for Socket {}

/// A socket, with TLS over it or without.
#[derive(Debug)]
pub struct Transport {
    layer: Layer,
    sent: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Layer {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Transport {
    /// The socket as it is.
    pub fn plain(socket: Socket) -> Self {
        Self { sent: socket.sent.clone(), layer: Layer::Plain(socket) }
    }

    /// TLS over the socket, once the handshake is done.
    ///
    /// # Errors
    ///
    /// Those of the handshake and of the connection.
    pub async fn tls(socket: Socket, acceptor: &Acceptor) -> pingora::Result<Self> {
        let sent = socket.sent.clone();
        let stream = acceptor.tls_handshake(socket).await?;
        Ok(Self { layer: Layer::Tls(Box::new(stream)), sent })
    }

    /// Bytes that the socket took so far: more than before is progress, whatever was written.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_read(cx, out),
            Layer::Tls(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Layer::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, pieces),
            Layer::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[async_trait]
impl Shutdown for Transport {
    async fn shutdown(&mut self) {
        match &mut self.layer {
            Layer::Plain(socket) => Shutdown::shutdown(socket).await,
            Layer::Tls(stream) => Shutdown::shutdown(stream.as_mut()).await,
        }
    }
}

impl UniqueID for Transport {
    fn id(&self) -> UniqueIDType {
        match &self.layer {
            Layer::Plain(socket) => socket.id(),
            Layer::Tls(stream) => stream.id(),
        }
    }
}

impl Ssl for Transport {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        match &self.layer {
            Layer::Plain(_) => None,
            Layer::Tls(stream) => stream.get_ssl_digest(),
        }
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match &self.layer {
            Layer::Plain(_) => None,
            Layer::Tls(stream) => stream.selected_alpn_proto(),
        }
    }
}

impl GetTimingDigest for Transport {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        match &self.layer {
            Layer::Plain(socket) => socket.get_timing_digest(),
            Layer::Tls(stream) => stream.get_timing_digest(),
        }
    }
}

impl GetProxyDigest for Transport {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Transport {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        match &self.layer {
            Layer::Plain(socket) => socket.get_socket_digest(),
            Layer::Tls(stream) => stream.get_socket_digest(),
        }
    }
}

impl Peek for Transport {}
