//! What a request asks for: the parts of its head that decide anything, and
//! the resource that its path names.

use std::borrow::Cow;
use std::fmt;

use http::header::{ACCEPT, RANGE};
use http::{HeaderMap, HeaderName, Method};
use percent_encoding::percent_decode_str;

use crate::tag::Relation;

static REST_HEADERS: [HeaderName; 4] =
    [ACCEPT, HeaderName::from_static("prefer"), RANGE, HeaderName::from_static("range-unit")];
static RENDER_HEADERS: [HeaderName; 1] = [ACCEPT];

/// The head of a request, borrowed from whoever parsed it.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as sent, not decoded.
    pub path: &'a str,
    /// The query as sent, without `?`; empty where there is none.
    pub query: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestView<'a> {
    /// The only value of a header, as text. `None` if the header is absent,
    /// repeated or not visible ASCII: such a header decides nothing by text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }

    /// Whether the method is safe in the sense of RFC 9110, section 9.2.1.
    pub fn is_safe(&self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

/// A path, each segment percent-decoded once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DecodedPath {
    /// The decoded segments, a slash before each; none has one within.
    text: String,
}

/// Why a path can't be told apart from another spelling of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path does not begin with `/`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A `%` is not followed by two hexadecimal digits.
    #[error("the path has a malformed percent-encoding")]
    PercentEncoding,
    /// A segment decodes to bytes that are not UTF-8, or to a NUL.
    #[error("the path is not text in UTF-8")]
    NotText,
    /// A segment is empty, `.` or `..`, or has an encoded slash or a backslash:
    /// gateways normalise such paths, each in its own way.
    #[error("the path has an empty or a dot segment, an encoded slash or a backslash")]
    Ambiguous,
}

impl DecodedPath {
    /// Decodes `path` (as sent, without the query).
    ///
    /// # Errors
    ///
    /// [`PathError`] where the path has several readings; such requests are
    /// forwarded and never cached. A trailing slash counts as ambiguous.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let rest = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let mut text = String::with_capacity(path.len());
        for segment in rest.split('/') {
            text.push('/');
            text.push_str(&decode_segment(segment)?);
        }
        Ok(Self { text })
    }

    /// The decoded segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').skip(1)
    }

    /// The decoded path with its slashes, as `path` expressions of routes see it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for DecodedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn decode_segment(segment: &str) -> Result<Cow<'_, str>, PathError> {
    let decoded = if segment.contains('%') {
        if !percent_encoding_is_well_formed(segment) {
            return Err(PathError::PercentEncoding);
        }
        percent_decode_str(segment).decode_utf8().map_err(|_| PathError::NotText)?
    } else {
        Cow::Borrowed(segment)
    };
    if decoded.bytes().any(|byte| byte == b'\0') {
        return Err(PathError::NotText);
    }
    if matches!(&*decoded, "" | "." | "..") || decoded.bytes().any(|byte| matches!(byte, b'/' | b'\\')) {
        return Err(PathError::Ambiguous);
    }
    Ok(decoded)
}

/// Whether every `%` in `text` is followed by two hexadecimal digits.
pub fn percent_encoding_is_well_formed(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(index, _)| {
        bytes.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// The resource that a request's path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/rest/v1/<name>`: a table or a view.
    Table(Relation),
    /// `/rest/v1/rpc/<name>`.
    Function(Relation),
    /// Anything else under `/rest/v1`, its root included.
    Rest,
    /// `/graphql/v1` and below.
    GraphQl,
    /// `/storage/v1` and below; which object it is, [`crate::storage_api`] tells.
    Storage,
    /// Auth, realtime, functions and whatever is unknown.
    Other,
}

impl Target {
    /// Whether it is PostgREST's business which schema the request names.
    fn is_in_a_schema(&self) -> bool {
        matches!(self, Target::Table(_) | Target::Function(_) | Target::Rest | Target::GraphQl)
    }

    /// Whether PostgREST may read another schema out of the request than
    /// [`Target::of`] does: the profile header is repeated, or no plain text.
    pub fn is_unclear(&self, request: &RequestView<'_>) -> bool {
        let profile = profile_header(request.method);
        self.is_in_a_schema() && request.headers.contains_key(profile) && request.header(profile).is_none()
    }

    /// The resource of `path`, in the schema that the request's profile header
    /// names (`Accept-Profile` for GET and HEAD, `Content-Profile` for the
    /// rest, as PostgREST reads them), `default_schema` without one.
    pub fn of(request: &RequestView<'_>, path: &DecodedPath, default_schema: &str) -> Self {
        let relation = |name: &str| {
            Relation::new(request.header(profile_header(request.method)).unwrap_or(default_schema), name)
        };
        let mut segments = path.segments();
        let mut next = || segments.next();
        match (next(), next(), next(), next(), next()) {
            (Some("rest"), Some("v1"), Some("rpc"), Some(name), None) => Target::Function(relation(name)),
            (Some("rest"), Some("v1"), Some(name), None, None) if name != "rpc" => {
                Target::Table(relation(name))
            }
            (Some("rest"), ..) => Target::Rest,
            (Some("graphql"), ..) => Target::GraphQl,
            (Some("storage"), Some("v1"), ..) => Target::Storage,
            _ => Target::Other,
        }
    }
}

/// Which of the request's headers upstream reads, by where the path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// PostgREST, and whatever isn't Storage: content negotiation, profiles,
    /// preferences, and ranges that count rows.
    Rest,
    /// Storage's objects: one representation each, byte ranges cut by the cache itself.
    Object,
    /// Storage's rendered images: as objects, the format negotiated by `Accept`.
    Render,
}

impl Dialect {
    /// All of them, in the order of their numbers.
    pub const ALL: [Dialect; 3] = [Dialect::Rest, Dialect::Object, Dialect::Render];

    /// The dialect spoken at `path`.
    pub fn of(path: &DecodedPath) -> Self {
        let mut segments = path.segments();
        match (segments.next(), segments.next(), segments.next()) {
            (Some("storage"), Some("v1"), Some("render")) => Dialect::Render,
            (Some("storage"), Some("v1"), _) => Dialect::Object,
            _ => Dialect::Rest,
        }
    }

    /// The headers that take part in the key by themselves, beside the
    /// profile and the route's own.
    pub fn keyed_headers(self) -> &'static [HeaderName] {
        match self {
            Dialect::Rest => &REST_HEADERS,
            Dialect::Object => &[],
            Dialect::Render => &RENDER_HEADERS,
        }
    }
}

/// Whether a path as sent is PostgREST's, whoever normalises it.
pub fn is_rest_path(path: &str) -> bool {
    // Most paths that aren't can be told from how they begin, without decoding them.
    (path.starts_with("/rest/v1") || path.contains('%'))
        && DecodedPath::parse(path).is_ok_and(|path| {
            let mut segments = path.segments();
            (segments.next(), segments.next()) == (Some("rest"), Some("v1"))
        })
}

/// The header in which PostgREST looks for the schema of a request with this method.
pub fn profile_header(method: &Method) -> &'static str {
    if matches!(*method, Method::GET | Method::HEAD) { "accept-profile" } else { "content-profile" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: Method, path: &str) -> Target {
        let headers = HeaderMap::new();
        let request = RequestView { method: &method, path, query: "", headers: &headers };
        Target::of(&request, &DecodedPath::parse(path).unwrap(), "public")
    }

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(DecodedPath::parse("/rest/v1/a%2541").unwrap().to_string(), "/rest/v1/a%41");
        assert_eq!(DecodedPath::parse("/rest/v1/us%65rs"), DecodedPath::parse("/rest/v1/users"));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for path in [
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/x%2fb",
            "/rest%2Fv1/a",
            "/a/x\\b",
            "/a%5cb",
            "/a/",
        ] {
            assert_eq!(DecodedPath::parse(path), Err(PathError::Ambiguous), "{path}");
        }
        assert_eq!(DecodedPath::parse("/a%2"), Err(PathError::PercentEncoding));
        assert_eq!(DecodedPath::parse("/a%zz"), Err(PathError::PercentEncoding));
        assert_eq!(DecodedPath::parse("/a%ff"), Err(PathError::NotText));
        assert_eq!(DecodedPath::parse("/a%00"), Err(PathError::NotText));
        assert_eq!(DecodedPath::parse("a"), Err(PathError::NotAbsolute));
    }

    #[test]
    fn targets_by_path() {
        assert_eq!(target(Method::GET, "/rest/v1/users"), Target::Table(Relation::new("public", "users")));
        assert_eq!(target(Method::POST, "/rest/v1/rpc/f"), Target::Function(Relation::new("public", "f")));
        assert_eq!(target(Method::GET, "/rest/v1/rpc"), Target::Rest);
        assert_eq!(target(Method::GET, "/rest/v1/a/b"), Target::Rest);
        assert_eq!(target(Method::POST, "/graphql/v1"), Target::GraphQl);
        assert_eq!(target(Method::GET, "/storage/v1/object/public/b/o"), Target::Storage);
        assert_eq!(target(Method::GET, "/auth/v1/user"), Target::Other);
    }
}
