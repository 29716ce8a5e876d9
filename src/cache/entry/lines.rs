//! The stored headers: each a line as HTTP/1 writes it, so that it is copied
//! to a client in one piece (RFC 9112, section 5).

use bytes::{Buf, BufMut};
use http::{HeaderName, HeaderValue};

use super::DecodeError;

const PER_LINE: usize = 1 + 1 + 4;
const SEPARATOR: &[u8] = b": ";
const END: &[u8] = b"\r\n";

/// What a stored header is to those who deliver it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Any header that is passed on as it is.
    Other,
    /// `ETag`
    Etag,
    /// `Last-Modified`
    LastModified,
    /// `Date`
    Date,
    /// `Expires`
    Expires,
    /// `Cache-Control`
    CacheControl,
    /// `Cache-Status`
    CacheStatus,
    /// `Vary`
    Vary,
    /// `Access-Control-Expose-Headers`
    Exposed,
    /// `Content-Range`
    ContentRange,
    /// `Content-Location`
    ContentLocation,
    /// `Accept-Ranges`
    AcceptRanges,
}

impl Role {
    /// All of them, in the order of their numbers. One more makes another layout.
    const ALL: [Role; 12] = [
        Role::Other,
        Role::Etag,
        Role::LastModified,
        Role::Date,
        Role::Expires,
        Role::CacheControl,
        Role::CacheStatus,
        Role::Vary,
        Role::Exposed,
        Role::ContentRange,
        Role::ContentLocation,
        Role::AcceptRanges,
    ];

    fn of(name: &[u8]) -> Self {
        match name {
            b"etag" => Role::Etag,
            b"last-modified" => Role::LastModified,
            b"date" => Role::Date,
            b"expires" => Role::Expires,
            b"cache-control" => Role::CacheControl,
            b"cache-status" => Role::CacheStatus,
            b"vary" => Role::Vary,
            b"access-control-expose-headers" => Role::Exposed,
            b"content-range" => Role::ContentRange,
            b"content-location" => Role::ContentLocation,
            b"accept-ranges" => Role::AcceptRanges,
            _ => Role::Other,
        }
    }
}

/// A stored header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    line: &'a [u8],
    name_len: usize,
    role: u8,
}

impl<'a> Line<'a> {
    /// The name, in lower case.
    pub fn name(&self) -> &'a [u8] {
        &self.line[..self.name_len]
    }

    /// What it is.
    pub fn role(&self) -> Role {
        Role::ALL.get(usize::from(self.role)).copied().unwrap_or(Role::Other)
    }

    /// The value.
    pub fn value(&self) -> &'a [u8] {
        &self.line[self.name_len + SEPARATOR.len()..self.line.len() - END.len()]
    }

    /// All of it, `name: value` and the line's end.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.line
    }
}

/// Appends a header. `None` if it is longer than there is room for.
pub(super) fn put_line(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) -> Option<()> {
    let name = name.as_str().as_bytes();
    let line_len = name.len() + SEPARATOR.len() + value.len() + END.len();
    out.put_u8(u8::try_from(name.len()).ok()?);
    out.put_u8(Role::of(name) as u8);
    out.put_u32_le(u32::try_from(line_len).ok()?);
    out.put_slice(name);
    out.put_slice(SEPARATOR);
    out.put_slice(value.as_bytes());
    out.put_slice(END);
    Some(())
}

/// Walks the stored headers; stops where they don't add up.
pub(super) struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    pub(super) fn of(head: &'a [u8]) -> Self {
        Self(head)
    }

    /// Whether all of it is what [`put_line`] writes.
    pub(super) fn check(mut self) -> Result<(), DecodeError> {
        for line in self.by_ref() {
            if !line.line[line.name_len..].starts_with(SEPARATOR) || !line.line.ends_with(END) {
                return Err(DecodeError::Malformed("header list"));
            }
            // A name in capitals would never be found.
            let name = &line.line[..line.name_len];
            let is_name = HeaderName::from_bytes(name).is_ok_and(|parsed| parsed.as_str().as_bytes() == name);
            if !is_name || Role::of(name) as u8 != line.role {
                return Err(DecodeError::Malformed("header name"));
            }
            HeaderValue::from_bytes(line.value()).map_err(|_| DecodeError::Malformed("header value"))?;
        }
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("header list")) }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut lengths, rest) = self.0.split_at_checked(PER_LINE)?;
        let name_len = usize::from(lengths.get_u8());
        let role = lengths.get_u8();
        let line_len = usize::try_from(lengths.get_u32_le()).ok()?;
        if line_len < name_len + SEPARATOR.len() + END.len() {
            return None;
        }
        let (line, rest) = rest.split_at_checked(line_len)?;
        self.0 = rest;
        Some(Line { line, name_len, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_found_by_their_numbers() {
        for role in Role::ALL {
            let line = Line { line: b"a: b\r\n", name_len: 1, role: role as u8 };
            assert_eq!(line.role(), role);
        }
    }
}
