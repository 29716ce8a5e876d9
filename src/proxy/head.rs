//! The head of an HTTP/1 request, checked before anything acts on it.
//!
//! Two readers that disagree on where a message ends are how requests are
//! smuggled. Whatever could be read in two ways is refused here, with the
//! connection closed, instead of being forwarded in one of them (RFC 9112,
//! sections 5 and 6, and 11.2).

use bytes::BytesMut;
use httparse::Status;

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

/// A complete head at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its length in bytes, blank line included.
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

/// Looks for a head at the start of `buffer`; `None` means that it is not complete yet.
///
/// # Errors
///
/// [`HeadError`] where the head must be refused.
pub fn parse(buffer: &[u8], limits: HeadLimits) -> Result<Option<Head>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let allowed = limits.max_headers.min(MAX_HEADERS);
    let mut request = httparse::Request::new(&mut fields[..allowed]);
    let length = match request.parse(buffer) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if buffer.len() >= limits.max_bytes => {
            return Err(HeadError::TooLarge("The request's head is longer than limits.max_header_bytes."));
        }
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal(error)),
    };
    if length > limits.max_bytes {
        return Err(HeadError::TooLarge("The request's head is longer than limits.max_header_bytes."));
    }
    if request.path.is_some_and(|target| target.len() > MAX_TARGET) {
        return Err(HeadError::TooLarge("The request's target is longer than 65,000 bytes."));
    }
    if request.method == Some("CONNECT") {
        return Err(HeadError::Method);
    }
    check_target(request.path.unwrap_or_default(), request.headers)?;
    let framing = framing(request.version == Some(1), request.headers)?;
    Ok(Some(Head { length, framing }))
}

/// The head with the bytes of its target percent-encoded that no URI may have
/// (RFC 3986, section 2) and that gateways take nevertheless: curl sends
/// `in.("a b")` as it is typed. Pingora would refuse them.
pub fn encoded(head: BytesMut) -> BytesMut {
    const REFUSED: &[u8] = b"\"<>`";
    let Some(start) = head.iter().position(|byte| *byte == b' ') else { return head };
    let end = head[start + 1..].iter().position(|byte| *byte == b' ').map_or(head.len(), |at| start + 1 + at);
    if !head[start..end].iter().any(|byte| REFUSED.contains(byte)) {
        return head;
    }
    let mut encoded = BytesMut::with_capacity(head.len() + 64);
    encoded.extend_from_slice(&head[..start]);
    for byte in &head[start..end] {
        if REFUSED.contains(byte) {
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
fn check_target(target: &str, fields: &[httparse::Header<'_>]) -> Result<(), HeadError> {
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

fn names_host(fields: &[httparse::Header<'_>], authority: &str) -> bool {
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

/// RFC 9112, section 6.3, with every ambiguity refused.
fn framing(is_http_11: bool, fields: &[httparse::Header<'_>]) -> Result<Framing, HeadError> {
    let named = |name: &'static str| fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    let hosts = named("host").count();
    if named("host").any(|host| host.value.contains(&b'@')) {
        return Err(HeadError::Malformed("The Host header field is malformed."));
    }
    if hosts > 1 || (hosts == 0 && is_http_11) {
        return Err(HeadError::Malformed("The request needs exactly one Host header field."));
    }
    let mut lengths = named("content-length");
    let mut codings = named("transfer-encoding");
    let length = match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return Err(HeadError::Malformed("The request has several Content-Length fields.")),
        (Some(field), None) => Some(parse_length(field.value)?),
        (None, None) => None,
    };
    let chunked = match (codings.next(), codings.next()) {
        (_, Some(_)) => {
            return Err(HeadError::Malformed("The request has several Transfer-Encoding fields."));
        }
        (Some(field), None) if field.value.eq_ignore_ascii_case(b"chunked") => true,
        (Some(_), None) => return Err(HeadError::Malformed("The only Transfer-Encoding taken is chunked.")),
        (None, None) => false,
    };
    match (length, chunked) {
        (Some(_), true) => {
            Err(HeadError::Malformed("The request has both Content-Length and Transfer-Encoding."))
        }
        (None, true) if !is_http_11 => Err(HeadError::Malformed("HTTP/1.0 has no Transfer-Encoding.")),
        (None, true) => Ok(Framing::Chunked),
        (Some(0) | None, false) if named("upgrade").any(|field| is_websocket(field)) => Ok(Framing::Tunnel),
        (Some(0) | None, false) => Ok(Framing::None),
        (Some(length), false) => Ok(Framing::Length(length)),
    }
}

/// The one protocol that is switched to; others, `h2c` say, are asked for in vain.
fn is_websocket(field: &httparse::Header<'_>) -> bool {
    field.value.eq_ignore_ascii_case(b"websocket")
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
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { max_bytes: 1024, max_headers: 8 };

    fn parsed(text: &str) -> Result<Option<Head>, HeadError> {
        parse(text.as_bytes(), LIMITS)
    }

    fn framing_of(fields: &str) -> Result<Framing, HeadError> {
        parsed(&format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).map(|head| head.unwrap().framing)
    }

    #[test]
    fn a_head_is_found_once_it_is_complete() {
        let text = "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\nrest";
        assert_eq!(parsed(&text[..20]), Ok(None));
        assert_eq!(parsed(text), Ok(Some(Head { length: text.len() - 4, framing: Framing::None })));
    }

    #[test]
    fn framing_is_read_from_the_fields() {
        assert_eq!(framing_of("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(framing_of("Content-Length: 0\r\n"), Ok(Framing::None));
        assert_eq!(framing_of("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(framing_of("Connection: upgrade\r\nUpgrade: websocket\r\n"), Ok(Framing::Tunnel));
        assert_eq!(framing_of("Connection: upgrade\r\nUpgrade: h2c\r\n"), Ok(Framing::None));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding : chunked\r\n",
            "A: b\r\n c\r\n",
            "A: b\0c\r\n",
            "A\0: b\r\n",
            "Host: other\r\n",
        ] {
            assert!(matches!(framing_of(fields), Err(HeadError::Malformed(_))), "{fields:?}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(parsed(old), Err(HeadError::Malformed(_))));
        assert!(matches!(parsed("GET / HTTP/1.1\r\n\r\n"), Err(HeadError::Malformed(_))));
        assert!(matches!(parsed("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), Err(HeadError::Malformed(_))));
        for target in ["rest", "http://", "http://u@h/", "ftp://h/", "h:80"] {
            let head = parsed(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert!(matches!(head, Err(HeadError::Malformed(_))), "{target}");
        }
        assert!(matches!(parsed("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"), Err(HeadError::Malformed(_))));
        let absolute = |host: &str| parsed(&format!("GET http://h/a HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(matches!(absolute("other"), Err(HeadError::Malformed(_))));
        assert!(matches!(absolute("H"), Ok(Some(_))));
        assert_eq!(parsed("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"), Err(HeadError::Method));
    }

    #[test]
    fn targets_that_gateways_take_are_encoded() {
        let encode = |text: &str| encoded(text.as_bytes().into());
        assert_eq!(
            encode("GET /a?b=in.(\"c\") HTTP/1.1\r\nA: \"\r\n"),
            "GET /a?b=in.(%22c%22) HTTP/1.1\r\nA: \"\r\n"
        );
        assert_eq!(encode("GET /<`> HTTP/1.1\r\n"), "GET /%3C%60%3E HTTP/1.1\r\n");
        assert_eq!(encode("GET /a HTTP/1.1\r\nA: <\r\n"), "GET /a HTTP/1.1\r\nA: <\r\n");
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let many = "A: b\r\n".repeat(9);
        assert!(matches!(framing_of(&many), Err(HeadError::TooLarge(_))));
        let long = format!("A: {}\r\n", "b".repeat(2000));
        assert!(matches!(framing_of(&long), Err(HeadError::TooLarge(_))));
        let endless = "GET /".to_owned() + &"a".repeat(2000);
        assert!(matches!(parsed(&endless), Err(HeadError::TooLarge(_))));
    }
}
