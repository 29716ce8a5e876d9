//! Hits: requests that are answered from memory, without the proxy.
//!
//! Nothing is decided here that the proxy decides otherwise. What it found out
//! about a spelling is in the [`Index`](super::index::Index); whether the
//! caller is still admitted, whether this process hears of writes, and whether
//! the entry is there, current and fresh is asked anew for each request.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::StatusCode;

use super::index::Reader;
use super::spelling::{Asked, Spelling};
use crate::cache::{CacheStatus, HeadWriter, Line, Reading, Standing, Timestamp, deliver, standing};
use crate::headers;
use crate::proxy::gateway::{Gateway, Settings};
use crate::proxy::head::Head;
use crate::telemetry::log::Access;
use crate::telemetry::metrics::Outcome;

/// Longer bodies are not copied behind their heads.
const GATHERED: usize = 8 * 1024;

/// Answers requests from memory.
pub struct Hits {
    gateway: Arc<Gateway>,
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    /// It was answered: the head was written, and the body unless it is here.
    Written {
        /// A long body, to be sent behind what was written.
        body: Option<Bytes>,
    },
    /// It is one for the proxy, which may enter this spelling into the index.
    Elsewhere(Option<Spelling>),
}

impl Hits {
    /// Answers from the memory of `gateway`.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    /// Appends the answer to a request, if it is there, to `out`. Its head was
    /// complete at `began` and came from `peer`; `None` is a unix socket.
    pub fn answer(
        &self,
        head: &Head<'_, '_>,
        peer: Option<IpAddr>,
        began: Instant,
        out: &mut Vec<u8>,
    ) -> Answer {
        if self.gateway.stopping.load(Ordering::Relaxed) {
            return Answer::Elsewhere(None);
        }
        let settings = self.gateway.peek();
        let Some(asked) = settings.speller.read(head) else { return Answer::Elsewhere(None) };
        let Some(hit) = self.hit(&settings, &asked, out) else {
            return Answer::Elsewhere(Some(asked.spelling));
        };
        let duration = began.elapsed();
        self.gateway.metrics.saved(hit.stored);
        self.gateway.metrics.front_hit();
        hit.reader.metrics.request(Outcome::Hit, hit.status, duration);
        if settings.config.log.access {
            log(&settings, head, peer, &hit, duration);
        }
        Answer::Written { body: hit.long_body }
    }

    /// `None`: the proxy has to see to it.
    fn hit(&self, settings: &Settings, asked: &Asked<'_>, out: &mut Vec<u8>) -> Option<Hit> {
        let gateway = &*self.gateway;
        let (slot, reader) = gateway.index.get(&asked.spelling)?;
        let now = SystemTime::now();
        if reader.edition != settings.edition() || settings.authenticator.admit(&reader.grounds, now).is_err()
        {
            return None;
        }
        if reader.writer.is_some_and(|writer| gateway.has_queued(writer)) {
            return None;
        }
        let entry = gateway.recall(&slot.key, slot.tags, asked.head)?;
        let now = Timestamp::from(now);
        // A client whose `Cache-Control` counts is not in the index.
        let Standing::Fresh { ttl } = standing(&entry, None, now) else { return None };
        let encoded = match slot.coding.filter(|_| entry.is_compressible()) {
            Some(coding) => Some((coding, gateway.memory.variant(&slot.key, &entry, coding)?)),
            None => None,
        };
        let reading = Reading {
            head: asked.head,
            conditions: &asked.conditions,
            dialect: reader.dialect,
            vary: &reader.vary,
            grant: settings.cors.grant(asked.origin),
            status: CacheStatus::hit(ttl),
        };
        let delivery = deliver(&entry, encoded, &reading, now, &mut Http1(out));
        out.extend_from_slice(b"connection: keep-alive\r\n\r\n");
        let body = delivery.body.bytes(&entry);
        let (sent, is_long) = (body.len() as u64, body.len() > GATHERED);
        if !is_long {
            out.extend_from_slice(body);
        }
        let long_body = is_long.then(|| delivery.body.shared(&entry));
        Some(Hit { reader, status: delivery.status, stored: entry.body().len() as u64, sent, long_body })
    }
}

/// An answer that was made.
struct Hit {
    reader: Arc<Reader>,
    status: StatusCode,
    /// How long the stored body is.
    stored: u64,
    /// How long the body is that is sent.
    sent: u64,
    /// That body, if it isn't behind the head already.
    long_body: Option<Bytes>,
}

/// Writes the request's line into the access log.
fn log(settings: &Settings, head: &Head<'_, '_>, peer: Option<IpAddr>, hit: &Hit, duration: Duration) {
    let forwarded_for = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("x-forwarded-for"));
    let lines = forwarded_for.filter_map(|field| std::str::from_utf8(field.value).ok());
    Access {
        method: head.method,
        path: head.target,
        status: hit.status.as_u16(),
        route: &hit.reader.route,
        outcome: Outcome::Hit,
        detail: None,
        bytes: hit.sent,
        duration,
        client: headers::client(lines, peer, &settings.config.trusted_proxies),
    }
    .log();
}

/// A head as HTTP/1.1 writes it (RFC 9112, sections 4 and 5).
struct Http1<'a>(&'a mut Vec<u8>);

impl HeadWriter for Http1<'_> {
    fn status(&mut self, status: StatusCode) {
        self.0.reserve(1024);
        self.0.extend_from_slice(b"HTTP/1.1 ");
        self.0.extend_from_slice(status.as_str().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    fn field(&mut self, name: &'static str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, line: Line<'_>) {
        self.0.extend_from_slice(line.as_bytes());
    }
}

#[cfg(test)]
mod tests;
