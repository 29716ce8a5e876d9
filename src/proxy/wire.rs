//! A downstream connection as Pingora sees it: cut off at the end of one
//! message, and written to in large pieces.
//!
//! Pingora reads ahead while it waits for upstream, to notice a client that
//! goes away, and takes bytes of the next request for an error. [`Wire`] lets
//! it read the bytes of the current message alone, keeps what comes behind
//! them for the next turn, and still reports the end of the connection.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::chunk::ChunkScanner;
use super::front::buffer::Buffer;
use super::front::socket::Transport;
use super::head::Framing;

/// Least room for a read: more than most heads take, so that the kernel is seldom asked twice.
const READ_ROOM: usize = 4096;
/// Writes are gathered up to this size until they are flushed: head and body
/// of a small answer leave in one call.
const GATHERED: usize = 16 * 1024;
/// Most bytes of later requests that are kept while one is answered.
const READ_AHEAD: usize = 64 * 1024;
/// Most pieces that one call to the kernel sends.
const PIECES: usize = 8;

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

/// A connection, the bytes that were read from it too early, and those that are to be sent.
#[derive(Debug)]
pub struct Wire {
    transport: Transport,
    ahead: Buffer,
    allowance: Allowance,
    behind: Buffer,
    /// A large body, sent behind `behind` without being copied.
    body: Bytes,
}

impl Wire {
    /// Wraps a connection, nothing read yet.
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
            ahead: Buffer::default(),
            allowance: Allowance::Bytes(0),
            behind: Buffer::default(),
            body: Bytes::new(),
        }
    }

    /// The client's address; `None` where it has none, on a unix socket.
    pub fn peer(&self) -> Option<IpAddr> {
        let digest = self.transport.get_socket_digest()?;
        digest.peer_addr()?.as_inet().map(SocketAddr::ip)
    }

    /// Takes the connection back from Pingora; `None` if it was not a [`Wire`].
    pub fn reclaim(stream: Stream) -> Option<Box<Self>> {
        stream.into_any().downcast::<Self>().ok()
    }

    /// What was read and not consumed yet.
    pub fn buffered(&self) -> &[u8] {
        self.ahead.bytes()
    }

    /// Shows `answer` what was read and not consumed yet, and where to add an answer to it,
    /// behind the answers that are there.
    pub fn exchange<T>(&mut self, answer: impl FnOnce(&[u8], &mut Vec<u8>) -> T) -> T {
        let answered = answer(self.ahead.bytes(), self.behind.room(READ_ROOM));
        self.behind.settle();
        answered
    }

    /// Reads more into the buffer; 0 is the end of the connection. Nothing is
    /// lost where it is not called again.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = pin!(self.transport.read_buf(self.ahead.room(READ_ROOM))).poll(cx);
        self.ahead.settle();
        read
    }

    /// Is done with the first `length` bytes of the buffer.
    pub fn consume(&mut self, length: usize) {
        self.ahead.advance(length);
    }

    /// Sends `body` behind what was gathered. Both have to be flushed before anything follows.
    pub fn attach(&mut self, body: Bytes) {
        self.body = body;
    }

    /// Bytes that are gathered, an attached body aside.
    pub fn gathered(&self) -> usize {
        self.behind.len()
    }

    /// Whether anything is to be sent.
    pub fn has_unsent(&self) -> bool {
        !(self.behind.is_empty() && self.body.is_empty())
    }

    /// Bytes that the socket took so far.
    pub fn sent(&self) -> u64 {
        self.transport.sent()
    }

    /// Is done with a head of `length` bytes and allows Pingora to read the
    /// body that `framing` announces.
    pub fn begin_message(&mut self, length: usize, framing: Framing) {
        self.allowance = match framing {
            Framing::None => Allowance::Bytes(0),
            Framing::Length(length) => Allowance::Bytes(length),
            Framing::Chunked => Allowance::Chunks(ChunkScanner::default()),
            Framing::Tunnel => Allowance::Unlimited,
        };
        self.consume(length);
    }

    /// Hands the whole connection over, what was read of it first.
    pub fn into_whole(mut self: Box<Self>) -> Stream {
        self.allowance = Allowance::Unlimited;
        self
    }

    /// Nothing more of the message is to come: keeps what arrives for the next
    /// one, and reports only the end of the connection.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < READ_AHEAD {
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
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
            ready!(self.poll_fill(cx))?;
        }
        let candidates = &self.ahead.bytes()[..self.ahead.len().min(out.remaining())];
        let taken = scanner
            .scan(candidates)
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
        out.put_slice(&candidates[..taken]);
        self.ahead.advance(taken);
        self.allowance = Allowance::Chunks(scanner);
        Poll::Ready(Ok(()))
    }

    /// Reads at most `limit` bytes, those that were read ahead first.
    fn poll_some(
        &mut self,
        limit: usize,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let before = out.filled().len();
        if !self.ahead.is_empty() {
            let taken = limit.min(self.ahead.len());
            out.put_slice(&self.ahead.bytes()[..taken]);
            self.ahead.advance(taken);
        } else if limit < out.remaining() {
            let mut part = ReadBuf::new(out.initialize_unfilled_to(limit));
            ready!(Pin::new(&mut self.transport).poll_read(cx, &mut part))?;
            let taken = part.filled().len();
            out.advance(taken);
        } else {
            ready!(Pin::new(&mut self.transport).poll_read(cx, out))?;
        }
        Poll::Ready(Ok(out.filled().len() - before))
    }

    /// Sends `pieces` behind everything that is to be sent before them, and
    /// says how many of their own bytes left.
    fn poll_send(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let before = [IoSlice::new(self.behind.bytes()), IoSlice::new(&self.body)];
            let mut all = [IoSlice::new(&[]); PIECES];
            let given = before.iter().chain(pieces).filter(|piece| !piece.is_empty());
            let count = all.iter_mut().zip(given).map(|(slot, piece)| *slot = *piece).count();
            let transport = Pin::new(&mut self.transport);
            let sent = match &all[..count] {
                [] => return Poll::Ready(Ok(0)),
                [piece] => ready!(transport.poll_write(cx, piece))?,
                pieces => ready!(transport.poll_write_vectored(cx, pieces))?,
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let gathered = sent.min(self.behind.len());
            let body = (sent - gathered).min(self.body.len());
            self.behind.advance(gathered);
            self.body.advance(body);
            let own = sent - gathered - body;
            let everything = self.behind.is_empty() && self.body.is_empty();
            if own > 0 || (everything && pieces.is_empty()) {
                return Poll::Ready(Ok(own));
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.allowance {
            Allowance::Bytes(0) => this.poll_watch(cx),
            Allowance::Chunks(scanner) if scanner.is_done() => this.poll_watch(cx),
            Allowance::Chunks(scanner) => this.poll_chunks(scanner, cx, out),
            Allowance::Bytes(left) => {
                let limit = usize::try_from(left).unwrap_or(usize::MAX).min(out.remaining());
                let taken = ready!(this.poll_some(limit, cx, out))?;
                this.allowance = Allowance::Bytes(left - taken as u64);
                Poll::Ready(Ok(()))
            }
            Allowance::Unlimited => this.poll_some(out.remaining(), cx, out).map_ok(|_| ()),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if self.behind.len() + length > GATHERED || !self.body.is_empty() {
            return self.poll_send(cx, pieces);
        }
        let behind = self.behind.room(length);
        pieces.iter().for_each(|piece| behind.extend_from_slice(piece));
        self.behind.settle();
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &[]))?;
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &[]))?;
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // A connection that fails here is closing anyway.
        let _ = AsyncWriteExt::flush(self).await;
        Shutdown::shutdown(&mut self.transport).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.transport.id()
    }
}

impl Ssl for Wire {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.transport.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.transport.selected_alpn_proto()
    }
}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.transport.get_timing_digest()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.transport.get_proxy_digest()
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.transport.get_socket_digest()
    }
}

impl Peek for Wire {}

#[cfg(test)]
mod tests;
