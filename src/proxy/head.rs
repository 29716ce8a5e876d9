//! The head of an HTTP/1 request, checked before anything acts on it.
//!
//! Two readers that disagree on where a message ends are how requests are
//! smuggled. Whatever could be read in two ways is refused here, with the
//! connection closed, instead of being forwarded in one of them (RFC 9112,
//! sections 5 and 6, and 11.2).

use std::mem::MaybeUninit;

use bytes::BytesMut;
use httparse::{Header, Status};

/// What a connection allows of a head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Most bytes from the first of the request line to the blank line.
    pub max_bytes: usize,
    /// Most header fields.
    pub max_headers: usize,
}

/// Where the message's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// The last chunk ends it.
    Chunked,
    /// An upgrade is asked for: what follows belongs to whoever answers.
    Tunnel,
}

/// Room for the fields of a head, on the stack of whoever parses. It is never initialised as a
/// whole, which would cost more than the parsing:
/// `let mut fields: Fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];`
pub type Fields<'b> = [MaybeUninit<Header<'b>>; MAX_HEADERS];

/// A complete head at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'h, 'b> {
    /// As it was sent: methods are case-sensitive.
    pub method: &'b str,
    /// As it was sent.
    pub target: &'b str,
    /// Whether the version is HTTP/1.1; it is HTTP/1.0 otherwise.
    pub is_http_11: bool,
    /// The header fields, in the order in which they came.
    pub fields: &'h [Header<'b>],
    /// All of it, from the request line to the blank line, inclusive.
    pub raw: &'b [u8],
    /// How many bytes it takes of the buffer: `raw`, and blank lines before it.
    pub length: usize,
    /// What follows it.
    pub framing: Framing,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is not HTTP/1, or could be read in two ways.
    #[error("{0}")]
    Malformed(&'static str),
    /// It asks for a tunnel.
    #[error("CONNECT is not allowed")]
    Method,
    /// It is longer, or has more fields, than the limits allow.
    #[error("{0}")]
    TooLarge(&'static str),
}

/// The longest request target that the `http` crate can hold is 65,534 bytes.
const MAX_TARGET: usize = 65_000;
/// Pingora parses at most so many fields.
pub const MAX_HEADERS: usize = 256;
const TOO_LONG: HeadError = HeadError::TooLarge("The request's head is longer than limits.max_header_bytes.");

/// Looks for a head at the start of `buffer`; `None` means that it is not complete yet.
///
/// # Errors
///
/// [`HeadError`] where the head must be refused.
pub fn parse<'h, 'b>(
    buffer: &'b [u8],
    fields: &'h mut Fields<'b>,
    limits: HeadLimits,
) -> Result<Option<Head<'h, 'b>>, HeadError> {
    let allowed = limits.max_headers.min(MAX_HEADERS);
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(buffer, &mut fields[..allowed]) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if buffer.len() >= limits.max_bytes => return Err(TOO_LONG),
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal(error)),
    };
    if length > limits.max_bytes {
        return Err(TOO_LONG);
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if target.len() > MAX_TARGET {
        return Err(HeadError::TooLarge("The request's target is longer than 65,000 bytes."));
    }
    if method == "CONNECT" {
        return Err(HeadError::Method);
    }
    check_target(target, request.headers)?;
    let is_http_11 = request.version == Some(1);
    let telling = Telling::of(request.headers);
    let framing = telling.framing(is_http_11)?;
    // Blank lines before a request are ignored (RFC 9112, section 2.2).
    let blank = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    Ok(Some(Head {
        method,
        target,
        is_http_11,
        fields: request.headers,
        raw: &buffer[blank..length],
        length,
        framing,
    }))
}

/// The head with the bytes of its target percent-encoded that no URI may have
/// (RFC 3986, section 2) and that gateways take nevertheless: curl sends
/// `in.("a b")` as it is typed. Pingora would refuse them.
pub fn encoded(head: &[u8]) -> BytesMut {
    let is_refused = |byte: &u8| b"\"<>`".contains(byte);
    let start = head.iter().position(|byte| *byte == b' ').map_or(head.len(), |at| at + 1);
    let end = head[start..].iter().position(|byte| *byte == b' ').map_or(head.len(), |at| start + at);
    if !head[start..end].iter().any(is_refused) {
        return head.into();
    }
    let mut encoded = BytesMut::with_capacity(head.len() + 64);
    encoded.extend_from_slice(&head[..start]);
    for byte in &head[start..end] {
        if is_refused(byte) {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            encoded.extend_from_slice(&[*byte]);
        }
    }
    encoded.extend_from_slice(&head[end..]);
    encoded
}

/// The authority of a target in absolute-form (RFC 9112, section 3.2.2).
fn authority(target: &str) -> Option<&str> {
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))?;
    target[scheme.len()..].split(['/', '?', '#']).next()
}

/// Whether the target is one that is served, for the host that it is asked of.
/// User information in an authority is for nobody here.
fn check_target(target: &str, fields: &[Header<'_>]) -> Result<(), HeadError> {
    match authority(target) {
        Some(authority) if authority.is_empty() || authority.contains('@') => {
            Err(HeadError::Malformed("The request's target names no host."))
        }
        Some(authority) if !names_host(fields, authority) => {
            Err(HeadError::Malformed("The request's target names another host than its Host field."))
        }
        None if !(target.starts_with('/') || target == "*") => {
            Err(HeadError::Malformed("The request's target is neither a path nor an http URL."))
        }
        Some(_) | None => Ok(()),
    }
}

fn names_host(fields: &[Header<'_>], authority: &str) -> bool {
    let mut hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    hosts.all(|host| host.value.eq_ignore_ascii_case(authority.as_bytes()))
}

fn refusal(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => {
            HeadError::TooLarge("The request has more header fields than limits.max_headers.")
        }
        httparse::Error::HeaderName => HeadError::Malformed("A header field's name is malformed or folded."),
        httparse::Error::HeaderValue => HeadError::Malformed("A header field's value has a forbidden byte."),
        httparse::Error::NewLine => HeadError::Malformed("A line of the request's head ends wrongly."),
        httparse::Error::Version => {
            HeadError::Malformed("The request's version is not HTTP/1.0 or HTTP/1.1.")
        }
        httparse::Error::Token | httparse::Error::Status => {
            HeadError::Malformed("The request line is malformed.")
        }
    }
}

/// The fields that tell where the message ends, found in one pass.
#[derive(Debug, Default)]
struct Telling<'b> {
    hosts: usize,
    host_names_user: bool,
    length: Option<&'b [u8]>,
    lengths: usize,
    coding: Option<&'b [u8]>,
    codings: usize,
    asks_for_websocket: bool,
    connection_names_message: bool,
}

/// Whether a line of `Connection` names a field of the message, which it can't (RFC 9110, section
/// 7.6.1): what would be forwarded without that field is another message.
fn names_message(options: &[u8]) -> bool {
    const OF_THE_MESSAGE: [&[u8]; 3] = [b"content-length", b"host", b"content-type"];
    let mut options = options.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    options.any(|option| OF_THE_MESSAGE.iter().any(|name| option.eq_ignore_ascii_case(name)))
}

impl<'b> Telling<'b> {
    fn of(fields: &[Header<'b>]) -> Self {
        let mut telling = Self::default();
        for field in fields {
            // Most fields are told apart by the length of their name.
            let named = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if named("host") => {
                    telling.hosts += 1;
                    telling.host_names_user |= field.value.contains(&b'@');
                }
                7 if named("upgrade") => {
                    // The one protocol that is switched to; others, `h2c` say, are asked for in vain.
                    telling.asks_for_websocket |= field.value.eq_ignore_ascii_case(b"websocket");
                }
                10 if named("connection") => telling.connection_names_message |= names_message(field.value),
                14 if named("content-length") => {
                    telling.lengths += 1;
                    telling.length = Some(field.value);
                }
                17 if named("transfer-encoding") => {
                    telling.codings += 1;
                    telling.coding = Some(field.value);
                }
                _ => {}
            }
        }
        telling
    }

    /// RFC 9112, section 6.3, with every ambiguity refused.
    fn framing(&self, is_http_11: bool) -> Result<Framing, HeadError> {
        if self.connection_names_message {
            return Err(HeadError::Malformed("The Connection header field names a field of the message."));
        }
        if self.host_names_user {
            return Err(HeadError::Malformed("The Host header field is malformed."));
        }
        if self.hosts > 1 || (self.hosts == 0 && is_http_11) {
            return Err(HeadError::Malformed("The request needs exactly one Host header field."));
        }
        if self.lengths > 1 {
            return Err(HeadError::Malformed("The request has several Content-Length fields."));
        }
        if self.codings > 1 {
            return Err(HeadError::Malformed("The request has several Transfer-Encoding fields."));
        }
        let length = self.length.map(parse_length).transpose()?;
        if self.coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
            return Err(HeadError::Malformed("The only Transfer-Encoding taken is chunked."));
        }
        match (length, self.coding.is_some()) {
            (Some(_), true) => {
                Err(HeadError::Malformed("The request has both Content-Length and Transfer-Encoding."))
            }
            (None, true) if !is_http_11 => Err(HeadError::Malformed("HTTP/1.0 has no Transfer-Encoding.")),
            (None, true) => Ok(Framing::Chunked),
            (Some(0) | None, false) if self.asks_for_websocket => Ok(Framing::Tunnel),
            (Some(0) | None, false) => Ok(Framing::None),
            (Some(length), false) => Ok(Framing::Length(length)),
        }
    }
}

/// Digits alone: a sign, a list or white space within is read differently by different servers.
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    let malformed = HeadError::Malformed("The request's Content-Length is no number.");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(malformed);
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(malformed)
}

#[cfg(test)]
mod tests;
