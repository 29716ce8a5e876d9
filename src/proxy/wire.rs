//! A downstream connection as Pingora sees it: cut off at the end of one
//! message, and written to in large pieces.
//!
//! Pingora reads ahead while it waits for upstream, to notice a client that
//! goes away, and takes bytes of the next request for an error. [`Wire`] lets
//! it read the bytes of the current message alone, keeps what comes behind
//! them for the next turn, and still reports the end of the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::chunk::ChunkScanner;
use super::head::Framing;

/// Least room for a read of a head: most fit, which saves a call to the kernel.
const HEAD_ROOM: usize = 4096;
/// Writes below this size are gathered until Pingora flushes: head and body of
/// a small answer leave in one call.
const GATHERED: usize = 16 * 1024;
/// Most bytes of later requests that are kept while one is answered.
const READ_AHEAD: usize = 64 * 1024;

/// What Pingora may still read of the current message.
#[derive(Debug, Clone, Copy)]
enum Allowance {
    /// So many bytes, then the message is over.
    Bytes(u64),
    /// A chunked body, up to its end.
    Chunks(ChunkScanner),
    /// All there is: the end is not known beforehand.
    Unlimited,
}

/// A connection and the bytes that were read from it too early.
#[derive(Debug)]
pub struct Wire {
    inner: Stream,
    ahead: BytesMut,
    allowance: Allowance,
    /// What was written and not sent yet.
    behind: BytesMut,
}

impl Wire {
    /// Wraps a connection, nothing read yet.
    pub fn new(inner: Stream) -> Self {
        Self { inner, ahead: BytesMut::new(), allowance: Allowance::Bytes(0), behind: BytesMut::new() }
    }

    /// Takes the connection back from Pingora; `None` if it was not a [`Wire`].
    pub fn reclaim(stream: Stream) -> Option<Box<Self>> {
        stream.into_any().downcast::<Self>().ok()
    }

    /// What was read and not consumed yet.
    pub fn buffered(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads more into the buffer; 0 is the end of the connection.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.ahead.reserve(HEAD_ROOM);
        self.inner.read_buf(&mut self.ahead).await
    }

    /// Takes the head of `length` bytes out of the buffer and allows Pingora to
    /// read the body that `framing` announces.
    pub fn begin_message(&mut self, length: usize, framing: Framing) -> BytesMut {
        self.allowance = match framing {
            Framing::None => Allowance::Bytes(0),
            Framing::Length(length) => Allowance::Bytes(length),
            Framing::Chunked => Allowance::Chunks(ChunkScanner::default()),
            Framing::Tunnel => Allowance::Unlimited,
        };
        self.ahead.split_to(length)
    }

    /// Hands the whole connection over, what was read of it first.
    pub fn into_whole(mut self: Box<Self>) -> Stream {
        self.allowance = Allowance::Unlimited;
        self
    }

    /// Nothing more of the message is to come: keeps what arrives for the next
    /// one, and reports only the end of the connection.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; 2048];
        while self.ahead.len() < READ_AHEAD {
            let mut buffer = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => self.ahead.extend_from_slice(buffer.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    /// Reads as much of a chunked body as there is, and keeps what comes behind it.
    fn poll_chunks(
        &mut self,
        mut scanner: ChunkScanner,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let mut chunk = [0; 8192];
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
            self.ahead.extend_from_slice(buffer.filled());
        }
        let candidates = &self.ahead[..self.ahead.len().min(out.remaining())];
        let taken = scanner
            .scan(candidates)
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
        out.put_slice(&candidates[..taken]);
        self.ahead.advance(taken);
        self.allowance = Allowance::Chunks(scanner);
        Poll::Ready(Ok(()))
    }

    /// Sends what was gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.behind.is_empty() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.behind))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.behind.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let limit = match this.allowance {
            Allowance::Bytes(0) => return this.poll_watch(cx),
            Allowance::Chunks(scanner) if scanner.is_done() => return this.poll_watch(cx),
            Allowance::Chunks(scanner) => return this.poll_chunks(scanner, cx, out),
            Allowance::Bytes(left) => usize::try_from(left).unwrap_or(usize::MAX).min(out.remaining()),
            Allowance::Unlimited => out.remaining(),
        };
        let taken = if this.ahead.is_empty() {
            let mut part = ReadBuf::new(out.initialize_unfilled_to(limit));
            match Pin::new(&mut this.inner).poll_read(cx, &mut part) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let taken = part.filled().len();
            out.advance(taken);
            taken
        } else {
            let taken = limit.min(this.ahead.len());
            out.put_slice(&this.ahead[..taken]);
            this.ahead.advance(taken);
            taken
        };
        if let Allowance::Bytes(left) = &mut this.allowance {
            *left -= taken as u64;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.behind.len() + bytes.len() > GATHERED {
            ready!(self.poll_send(cx))?;
        }
        if bytes.len() > GATHERED {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        }
        self.behind.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // A connection that fails here is closing anyway.
        let _ = AsyncWriteExt::flush(self).await;
        Shutdown::shutdown(&mut *self.inner).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Wire {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

impl Peek for Wire {}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wire_with(text: &[u8]) -> (Wire, tokio::io::DuplexStream) {
        let (near, mut far) = tokio::io::duplex(4096);
        far.write_all(text).await.unwrap();
        let mut wire = Wire::new(Box::new(near));
        wire.fill().await.unwrap();
        (wire, far)
    }

    #[tokio::test]
    async fn a_message_ends_where_its_length_says() {
        let (mut wire, mut far) = wire_with(b"HEADbodyNEXT").await;
        assert_eq!(&wire.begin_message(4, Framing::Length(6))[..], b"HEAD");
        let mut body = [0; 6];
        wire.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"bodyNE");
        far.write_all(b"more").await.unwrap();
        let mut beyond = [0; 1];
        let pending = futures_util::poll!(std::pin::pin!(wire.read(&mut beyond)));
        assert!(pending.is_pending(), "bytes of the next message are not the current one's");
        assert_eq!(wire.buffered(), b"XTmore");
    }

    #[tokio::test]
    async fn a_chunked_message_ends_where_its_last_chunk_does() {
        let (mut wire, _far) = wire_with(b"HEAD2\r\nhi\r\n0\r\n\r\nNEXT").await;
        wire.begin_message(4, Framing::Chunked);
        let mut body = [0; 12];
        wire.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"2\r\nhi\r\n0\r\n\r\n");
        assert!(futures_util::poll!(std::pin::pin!(wire.read(&mut body))).is_pending());
        assert_eq!(wire.buffered(), b"NEXT");
        let (mut wire, _far) = wire_with(b"HEADx\r\n").await;
        wire.begin_message(4, Framing::Chunked);
        assert_eq!(wire.read(&mut body).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn small_writes_leave_together_when_flushed() {
        let (mut wire, mut far) = wire_with(b"x").await;
        wire.write_all(b"head").await.unwrap();
        wire.write_all(b"body").await.unwrap();
        let mut seen = [0; 16];
        assert!(futures_util::poll!(std::pin::pin!(far.read(&mut seen))).is_pending(), "nothing was flushed");
        wire.flush().await.unwrap();
        assert_eq!(far.read(&mut seen).await.unwrap(), 8);
        let large = vec![b'y'; 3 * GATHERED];
        let writing = tokio::spawn(async move {
            wire.write_all(b"head").await.unwrap();
            wire.write_all(&large).await.unwrap();
            AsyncWriteExt::shutdown(&mut wire).await.unwrap();
        });
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        writing.await.unwrap();
        assert_eq!((all.len(), &all[..5]), (4 + 3 * GATHERED, &b"heady"[..]));
    }

    #[tokio::test]
    async fn the_end_of_the_connection_is_seen_behind_a_message() {
        let (mut wire, far) = wire_with(b"HEAD").await;
        wire.begin_message(4, Framing::None);
        drop(far);
        assert_eq!(wire.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_kept_for_the_next_message_is_bounded() {
        let (mut wire, mut far) = wire_with(b"HEAD").await;
        wire.begin_message(4, Framing::None);
        let flood = tokio::spawn(async move { far.write_all(&[b'x'; 4 * READ_AHEAD]).await });
        let mut byte = [0; 1];
        let mut read = std::pin::pin!(wire.read(&mut byte));
        for _ in 0..200 {
            assert!(futures_util::poll!(&mut read).is_pending());
            tokio::task::yield_now().await;
        }
        flood.abort();
        assert!(wire.buffered().len() <= READ_AHEAD + 2048);
    }
}
