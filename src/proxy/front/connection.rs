//! An HTTP/1 connection between two requests for the proxy.
//!
//! Heads are looked for and answered from memory as long as that is possible;
//! [`Conversation::next`] returns with the first request that the proxy has to
//! answer, or with the reason why the connection ends. For an answer from
//! memory the kernel is called twice, to receive and to send, and no timer, lock or
//! memory is asked for.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::Instant;

use super::deadline::{Deadline, Stop};
use super::hit::Answer;
use super::spelling::Spelling;
use crate::config::Limits;
use crate::proxy::head::{self, Fields, Framing, Head, HeadError, HeadLimits, MAX_HEADERS};
use crate::proxy::synth::Synthetic;
use crate::proxy::wire::Wire;

/// What begins an HTTP/2 connection without TLS (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Answers to requests that came together are gathered up to this size, then sent.
const GATHERED: usize = 64 * 1024;

/// A client's side of a connection, from one request to the next.
pub struct Conversation<'f, A> {
    limits: &'f Limits,
    answer: A,
    /// Whether no request has come yet.
    first: bool,
    /// When the last bytes came.
    now: Instant,
    /// Since when the next request, or the rest of its head, is waited for.
    since: Instant,
    deadline: Deadline,
    stop: Stop,
}

/// How a connection goes on.
#[derive(Debug)]
pub enum Next {
    /// With a request for the proxy. All answers to those before it were sent.
    Forward(Forward),
    /// With another protocol: it is an HTTP/2 connection.
    Http2,
    /// Not at all, and the client is told why.
    Refuse(Synthetic),
    /// Not at all.
    Close,
}

/// A request for the proxy, whose body may now be read.
#[derive(Debug)]
pub struct Forward {
    /// Its head, as Pingora takes it.
    pub head: BytesMut,
    /// What follows.
    pub framing: Framing,
    /// Under what its answer is found from now on.
    pub spelling: Option<Spelling>,
}

/// What came of the bytes that are there.
enum Turn {
    /// They are no complete head.
    Starved,
    /// Answers to some have to be sent before more are made.
    Full,
    /// They are none that memory can answer.
    Over(Next),
}

impl<'f, A> Conversation<'f, A>
where
    A: Fn(&Head<'_, '_>, std::time::Instant, &mut Vec<u8>) -> Answer,
{
    /// A conversation that begins now. `stop` turns true when the process stops.
    ///
    /// `answer` answers from memory: it adds an answer to the bytes that it is given, and changes
    /// none of them. It is told when the request came, and not asked once the process stops.
    pub fn new(limits: &'f Limits, stop: watch::Receiver<bool>, answer: A) -> Self {
        let now = Instant::now();
        let deadline = Deadline::new(now + limits.header_timeout);
        Self { limits, answer, first: true, now, since: now, deadline, stop: Stop::new(stop) }
    }

    /// Waits for the next request that memory does not answer, and answers those before it in
    /// their order.
    pub async fn next(&mut self, wire: &mut Wire) -> Next {
        self.now = Instant::now();
        self.since = self.now;
        loop {
            let turn = self.turn(wire);
            if self.send(wire).await.is_err() {
                return Next::Close;
            }
            match turn {
                Turn::Over(next) => return next,
                Turn::Full => {}
                Turn::Starved => {
                    if let Some(end) = self.read(wire).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Answers one request after the other, without waiting.
    fn turn(&mut self, wire: &mut Wire) -> Turn {
        while !wire.buffered().is_empty() {
            if self.first && wire.buffered().starts_with(PREFACE) {
                return Turn::Over(Next::Http2);
            }
            if self.first && PREFACE.starts_with(wire.buffered()) {
                // Too short to tell yet.
                return Turn::Starved;
            }
            if let Some(turn) = self.request(wire) {
                return turn;
            }
            if wire.gathered() >= GATHERED {
                return Turn::Full;
            }
        }
        Turn::Starved
    }

    /// Takes the next request; `None`: it was answered, and there may be another one.
    fn request(&mut self, wire: &mut Wire) -> Option<Turn> {
        let limits =
            HeadLimits { max_bytes: self.limits.max_header_bytes, max_headers: self.limits.max_headers };
        let is_stopping = self.stop.is_due();
        let began = self.now.into_std();
        let taken = wire.exchange(|read, out| {
            let mut fields: Fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
            let head = match head::parse(read, &mut fields, limits) {
                Ok(Some(head)) => head,
                Ok(None) => return Err(Turn::Starved),
                Err(error) => return Err(Turn::Over(Next::Refuse(refusal(error)))),
            };
            let gathered = out.len();
            let answer = if is_stopping { Answer::Elsewhere(None) } else { (self.answer)(&head, began, out) };
            Ok(match answer {
                Answer::Written { body } => Taken::Answered { length: head.length, body },
                Answer::Elsewhere(spelling) => {
                    out.truncate(gathered);
                    let forward = Forward { head: head::encoded(head.raw), framing: head.framing, spelling };
                    Taken::Forward { length: head.length, forward }
                }
            })
        });
        let taken = match taken {
            Ok(taken) => taken,
            Err(turn) => return Some(turn),
        };
        self.first = false;
        self.since = self.now;
        match taken {
            Taken::Answered { length, body } => {
                wire.consume(length);
                let body = body?;
                wire.attach(body);
                Some(Turn::Full)
            }
            Taken::Forward { length, forward } => {
                wire.begin_message(length, forward.framing);
                Some(Turn::Over(Next::Forward(forward)))
            }
        }
    }

    /// Sends what was gathered. Nothing is read meanwhile: a client that does not read its answers
    /// is not given more of them.
    ///
    /// # Errors
    ///
    /// Those of the connection, and `TimedOut` where it takes nothing for `limits.body_timeout`.
    async fn send(&mut self, wire: &mut Wire) -> io::Result<()> {
        if !wire.has_unsent() {
            return Ok(());
        }
        // What the socket had taken, and when it has to have taken more.
        let mut pending = None;
        poll_fn(|cx| {
            if let Poll::Ready(sent) = Pin::new(&mut *wire).poll_flush(cx) {
                return Poll::Ready(sent);
            }
            let (_, due) = match pending {
                Some((sent, due)) if sent == wire.sent() => (sent, due),
                _ => *pending.insert((wire.sent(), Instant::now() + self.limits.body_timeout)),
            };
            ready!(self.deadline.poll(cx, due));
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        })
        .await?;
        if pending.is_some() {
            self.now = Instant::now();
            self.since = self.now;
        }
        Ok(())
    }

    /// Reads more; `Some`: the connection is over instead. The bytes of a head have to come within
    /// `limits.header_timeout`, all together; before its first one the connection may be idle for
    /// `limits.idle_timeout`, and until the process stops.
    async fn read(&mut self, wire: &mut Wire) -> Option<Next> {
        let idle = wire.buffered().is_empty();
        let patience =
            if idle && !self.first { self.limits.idle_timeout } else { self.limits.header_timeout };
        let due = self.since + patience;
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = wire.poll_fill(cx) {
                return Poll::Ready(Ok(matches!(read, Ok(1..))));
            }
            if self.deadline.poll(cx, due).is_ready() {
                return Poll::Ready(Err(Late));
            }
            if idle && self.stop.poll(cx).is_ready() {
                return Poll::Ready(Ok(false));
            }
            Poll::Pending
        });
        match read.await {
            Ok(true) => {
                self.now = Instant::now();
                if idle {
                    self.since = self.now;
                }
                None
            }
            Err(Late) if !idle => Some(Next::Refuse(Synthetic::request_timeout())),
            Ok(false) | Err(Late) => Some(Next::Close),
        }
    }
}

/// The time for a read is over.
struct Late;

/// A request that was taken from the buffer, `length` bytes of it.
enum Taken {
    Answered { length: usize, body: Option<Bytes> },
    Forward { length: usize, forward: Forward },
}

fn refusal(error: HeadError) -> Synthetic {
    match error {
        HeadError::Malformed(why) => Synthetic::malformed(why),
        HeadError::Method => Synthetic::method_not_allowed(),
        HeadError::TooLarge(why) => Synthetic::head_too_large(why),
    }
}

#[cfg(test)]
mod tests;
