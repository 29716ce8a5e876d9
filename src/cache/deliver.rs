//! From an entry to the answer that a client gets.

mod vary;

use bytes::Bytes;
use http::StatusCode;
use smallvec::SmallVec;

pub use self::vary::VaryNames;
use super::Timestamp;
use super::cache_status::CacheStatus;
use super::decimal::Decimal;
use super::encoding::Coding;
use super::entry::{Entry, Line, Role};
use super::precondition::{Conditions, Span, Validators};
use crate::cors::{self, Grant};
use crate::request::Dialect;

/// What a client is told to do with an answer about which upstream says
/// nothing: keep it for itself and ask each time, which a 304 answers.
const ASK_EACH_TIME: &[u8] = b"private, no-cache";

const EXPOSE_HEADERS: &str = "access-control-expose-headers";

/// Where the head of an answer is written to. Names are in lower case, values
/// are what a header may hold.
pub trait HeadWriter {
    /// Begins the head.
    fn status(&mut self, status: StatusCode);
    /// Adds a field behind the others.
    fn field(&mut self, name: &'static str, value: &[u8]);
    /// Adds a stored field.
    fn line(&mut self, line: Line<'_>);
}

/// How an entry is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The method is HEAD.
    pub head: bool,
    /// What the client has already, and which part it wants.
    pub conditions: &'a Conditions<'a>,
    /// Byte ranges are cut for Storage alone; PostgREST's count rows and are in the key.
    pub dialect: Dialect,
    /// The route's `Vary`.
    pub vary: &'a VaryNames,
    /// Whose scripts may read the answer.
    pub grant: Grant<'a>,
    /// What the cache did.
    pub status: CacheStatus<'a>,
}

/// What is sent behind the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// 200, PostgREST's or a byte range's 206, 304 or 416.
    pub status: StatusCode,
    /// The part of the body that is sent.
    pub body: DeliveredBody,
}

/// A body, or the part of one, that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveredBody {
    /// None: a 304, a 416, the answer to a HEAD.
    None,
    /// Bytes of the entry's own body, from the first up to the second position.
    Own(usize, usize),
    /// A compressed one.
    Encoded(Bytes),
}

impl DeliveredBody {
    /// The bytes; `entry` is the one that was delivered.
    pub fn bytes<'a>(&'a self, entry: &'a Entry) -> &'a [u8] {
        match self {
            DeliveredBody::None => &[],
            DeliveredBody::Own(first, end) => &entry.body()[*first..*end],
            DeliveredBody::Encoded(body) => body,
        }
    }

    /// The same, without copying them.
    pub fn shared(self, entry: &Entry) -> Bytes {
        match self {
            DeliveredBody::None => Bytes::new(),
            DeliveredBody::Own(first, end) => entry.shared_body().slice(first..end),
            DeliveredBody::Encoded(body) => body,
        }
    }
}

/// Writes the answer's head, and says what is to be sent behind it. `encoded`
/// is the body in the coding that [`super::encoding::negotiate`] chose, if any.
pub fn deliver(
    entry: &Entry,
    encoded: Option<(Coding, Bytes)>,
    reading: &Reading<'_>,
    now: Timestamp,
    out: &mut impl HeadWriter,
) -> Delivery {
    let stored = Stored::of(entry, encoded.is_some());
    let own = stored.validators();
    if reading.conditions.is_not_modified(&own) {
        out.status(StatusCode::NOT_MODIFIED);
        stored.write(entry, reading, now, out, |role| is_kept_in_304(role, own.etag.is_some()));
        return Delivery { status: StatusCode::NOT_MODIFIED, body: DeliveredBody::None };
    }
    let (answered, range, body) = match &encoded {
        Some((_, body)) => (entry.status(), None, DeliveredBody::Encoded(body.clone())),
        None => cut(entry, reading, &own),
    };
    out.status(answered);
    let compressed = encoded.is_some();
    let stays = |role| match role {
        Role::ContentRange => range.is_none(),
        Role::AcceptRanges => !compressed,
        _ => true,
    };
    stored.write(entry, reading, now, out, stays);
    if let Some(range) = &range {
        out.field("content-range", range.as_bytes());
    }
    if let Some((coding, _)) = &encoded {
        out.field("content-encoding", coding.as_str().as_bytes());
    }
    if !entry.is_head_only() {
        // A HEAD that filled it left upstream's own.
        let length = body.bytes(entry).len() as u64;
        out.field("content-length", Decimal::of(length).as_bytes());
    }
    Delivery { status: answered, body: if reading.head { DeliveredBody::None } else { body } }
}

/// Status, `Content-Range` and body that a request's `Range` gets.
fn cut(
    entry: &Entry,
    reading: &Reading<'_>,
    own: &Validators<'_>,
) -> (StatusCode, Option<String>, DeliveredBody) {
    let (status, len) = (entry.status(), entry.body().len());
    let ranged = reading.dialect != Dialect::Rest && !reading.head && status == StatusCode::OK;
    match if ranged { reading.conditions.span(len, own) } else { Span::Whole } {
        Span::Whole => (status, None, DeliveredBody::Own(0, len)),
        Span::Part { first, last } => {
            let range = format!("bytes {first}-{last}/{len}");
            (StatusCode::PARTIAL_CONTENT, Some(range), DeliveredBody::Own(first, last + 1))
        }
        Span::Unsatisfiable => {
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{len}")), DeliveredBody::None)
        }
    }
}

/// The headers of a 304 (RFC 9110, section 15.4.5), and those that each hop
/// adds. PostgREST's counts are among them, since scripts that revalidate by
/// themselves read them there.
fn is_kept_in_304(role: Role, has_etag: bool) -> bool {
    match role {
        Role::CacheControl
        | Role::CacheStatus
        | Role::ContentLocation
        | Role::ContentRange
        | Role::Date
        | Role::Expires => true,
        Role::LastModified => !has_etag,
        _ => false,
    }
}

/// What is looked for among an entry's headers before they are written.
struct Stored<'a> {
    etag: Option<Tag<'a>>,
    modified: Option<&'a [u8]>,
    dates: usize,
    date: Option<&'a [u8]>,
    says_how_to_cache: bool,
    vary: SmallVec<[&'a [u8]; 2]>,
    exposed: SmallVec<[&'a [u8]; 2]>,
}

enum Tag<'a> {
    Upstreams(&'a [u8]),
    Made([u8; 36]),
    /// Another coding is another sequence of bytes: the tag holds weakly.
    Weakened(Vec<u8>),
}

impl Tag<'_> {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Tag::Upstreams(tag) => tag,
            Tag::Made(tag) => tag,
            Tag::Weakened(tag) => tag,
        }
    }
}

impl<'a> Stored<'a> {
    fn of(entry: &'a Entry, encoded: bool) -> Self {
        let (mut etag, mut modified, mut modifications) = (None, None, 0);
        let (mut date, mut dates, mut says_how_to_cache) = (None, 0, false);
        let (mut vary, mut exposed) = (SmallVec::new(), SmallVec::new());
        for line in entry.lines() {
            let value = line.value();
            match line.role() {
                Role::Etag => etag = etag.or(Some(value)),
                Role::LastModified => (modified, modifications) = (Some(value), modifications + 1),
                Role::Date => (date, dates) = (Some(value), dates + 1),
                Role::CacheControl => says_how_to_cache = true,
                Role::Vary => vary.push(value),
                Role::Exposed => exposed.push(value),
                _ => {}
            }
        }
        let etag = match etag {
            None => (!entry.is_head_only()).then(|| Tag::Made(made_etag(&entry.digest()))),
            Some(tag) if encoded && tag.starts_with(b"\"") => Some(Tag::Weakened([b"W/", tag].concat())),
            Some(tag) => Some(Tag::Upstreams(tag)),
        };
        let modified = modified.filter(|_| modifications == 1);
        Self { etag, modified, dates, date, says_how_to_cache, vary, exposed }
    }

    fn validators(&self) -> Validators<'_> {
        Validators {
            etag: self.etag.as_ref().map(Tag::as_bytes),
            modified: self.modified,
            date: self.date.filter(|_| self.dates == 1),
        }
    }

    /// Writes the stored headers that `keeps`, and those that every answer from
    /// the cache has.
    fn write(
        &self,
        entry: &Entry,
        reading: &Reading<'_>,
        now: Timestamp,
        out: &mut impl HeadWriter,
        keeps: impl Fn(Role) -> bool,
    ) {
        for line in entry.lines() {
            let role = line.role();
            if !matches!(role, Role::Etag | Role::Vary | Role::Exposed) && keeps(role) {
                out.line(line);
            }
        }
        if let Some(etag) = &self.etag {
            out.field("etag", etag.as_bytes());
        }
        if !self.says_how_to_cache {
            out.field("cache-control", ASK_EACH_TIME);
        }
        if let Some(line) = reading.vary.line_for(&self.vary, entry.is_compressible()) {
            out.field("vary", &line);
        }
        out.field("age", Decimal::of(entry.lifetimes().age(now) / 1000).as_bytes());
        if let Some(origin) = reading.grant.allow_origin {
            out.field("access-control-allow-origin", origin);
        }
        match cors::exposed_with(&self.exposed) {
            Some(list) => out.field(EXPOSE_HEADERS, &list),
            None => self.exposed.iter().for_each(|list| out.field(EXPOSE_HEADERS, list)),
        }
        out.field("cache-status", &reading.status.to_bytes());
    }
}

fn made_etag(digest: &[u8; 16]) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut tag = *b"W/\"................................\"";
    for (byte, digits) in digest.iter().zip(tag[3..35].chunks_exact_mut(2)) {
        digits.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    tag
}

#[cfg(test)]
mod tests;
