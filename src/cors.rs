//! CORS: what lets scripts of other origins read answers that upstream never
//! saw, and the preflights that are kept.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use http::HeaderMap;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN, VARY,
};

use crate::headers::POSTGREST_EXPOSED;

/// What Sluice adds to the exposed headers.
const OWN_EXPOSED: [&str; 6] =
    ["Age", "Cache-Status", "ETag", "Preference-Applied", "Sluice-Pending", "Sluice-Write"];
/// Longer lists of upstream's are passed on as they are.
const MAX_EXPOSED: usize = 4096;
/// Preflights with a longer header than this are not kept.
const MAX_PREFLIGHT_PART: usize = 2048;

/// Which origins may read answers that Sluice makes itself.
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Origins,
    max_age: Duration,
}

/// What a script is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant<'a> {
    /// The value of `Access-Control-Allow-Origin`. `None`: nothing is allowed.
    pub allow_origin: Option<&'a [u8]>,
}

#[derive(Debug, Clone)]
enum Origins {
    Any,
    Listed(Vec<String>),
}

impl Cors {
    /// `allow_origins` are origins (`https://example.com`), or `*` for any.
    pub fn new(allow_origins: &[String], max_age: Duration) -> Self {
        let any = allow_origins.iter().any(|origin| origin == "*");
        let origins = if any { Origins::Any } else { Origins::Listed(allow_origins.to_vec()) };
        Self { origins, max_age }
    }

    /// Whether answers differ by who asks, and say so in `Vary`.
    pub fn varies(&self) -> bool {
        matches!(self.origins, Origins::Listed(_))
    }

    /// What scripts of `origin` (the request's `Origin`) may do with an answer.
    pub fn grant<'a>(&self, origin: Option<&'a [u8]>) -> Grant<'a> {
        let allow_origin = match &self.origins {
            Origins::Any => Some(&b"*"[..]),
            Origins::Listed(listed) => {
                origin.filter(|origin| listed.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(origin)))
            }
        };
        Grant { allow_origin }
    }

    /// Adds CORS headers to an answer that Sluice makes itself to a request with these headers.
    pub fn allow(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if self.varies() {
            add_vary(response, "Origin");
        }
        let origin = request.get(ORIGIN).map(HeaderValue::as_bytes);
        match self.grant(origin).allow_origin.and_then(|origin| HeaderValue::from_bytes(origin).ok()) {
            Some(origin) => response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin),
            None => response.remove(ACCESS_CONTROL_ALLOW_ORIGIN),
        };
        if let Some(exposed) = exposed(response) {
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// The headers of a kept preflight's answer: upstream's own CORS headers
    /// and `Vary`, and for how long the browser may keep them.
    pub fn preflight(&self, upstream: &HeaderMap) -> HeaderMap {
        let kept = |name: &HeaderName| *name == VARY || name.as_str().starts_with("access-control-");
        let mut headers = HeaderMap::new();
        for (name, value) in upstream.iter().filter(|(name, _)| kept(name)) {
            headers.append(name.clone(), value.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age.as_secs()));
        headers
    }
}

/// The value of `Access-Control-Expose-Headers` for a response, forwarded ones
/// included: upstream's own list, else PostgREST's, plus Sluice's. `None`
/// where nothing is to be changed.
pub fn exposed(response: &HeaderMap) -> Option<HeaderValue> {
    static DEFAULT: LazyLock<Option<HeaderValue>> =
        LazyLock::new(|| HeaderValue::from_bytes(&exposed_with(&[])?).ok());
    if !response.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS) {
        return DEFAULT.clone();
    }
    let upstreams = response.get_all(ACCESS_CONTROL_EXPOSE_HEADERS).iter().map(HeaderValue::as_bytes);
    HeaderValue::from_bytes(&exposed_with(&upstreams.collect::<Vec<_>>())?).ok()
}

/// The same, where `upstreams` are the lists that upstream sent.
pub fn exposed_with(upstreams: &[&[u8]]) -> Option<Cow<'static, [u8]>> {
    static DEFAULT: LazyLock<Vec<u8>> = LazyLock::new(|| merged(String::new()).into_bytes());
    if upstreams.is_empty() {
        return Some(Cow::Borrowed(&DEFAULT));
    }
    let mut list = String::new();
    for line in upstreams {
        let line = std::str::from_utf8(line).ok()?;
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(line);
    }
    // With credentials `*` is a plain name to browsers; upstream's own choice stands either way.
    if list.len() > MAX_EXPOSED || names(&list).any(|name| name == "*") {
        return None;
    }
    Some(Cow::Owned(merged(list).into_bytes()))
}

/// Upstream's names, PostgREST's where there are none, and Sluice's.
fn merged(mut list: String) -> String {
    if names(&list).next().is_none() {
        list = POSTGREST_EXPOSED.join(", ");
    }
    for own in OWN_EXPOSED {
        if !names(&list).any(|name| name.eq_ignore_ascii_case(own)) {
            list.push_str(", ");
            list.push_str(own);
        }
    }
    list
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Adds `name` to `Vary` unless it is there already.
pub fn add_vary(response: &mut HeaderMap, name: &'static str) {
    let there = response
        .get_all(VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| names(value).any(|there| there == "*" || there.eq_ignore_ascii_case(name)));
    if !there {
        response.append(VARY, HeaderValue::from_static(name));
    }
}

/// What the answer to a preflight is kept by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Preflight {
    path: String,
    origin: HeaderValue,
    method: HeaderValue,
    headers: Option<HeaderValue>,
}

impl Preflight {
    /// The preflight that an `OPTIONS` request for `path` (as sent) is;
    /// `None` if it is none, or none to keep: a header is missing, repeated or very long.
    pub fn of(path: &str, request: &HeaderMap) -> Option<Self> {
        let origin = only(request, &ORIGIN)??;
        let method = only(request, &ACCESS_CONTROL_REQUEST_METHOD)??;
        let headers = only(request, &ACCESS_CONTROL_REQUEST_HEADERS)?;
        let parts = [path.len(), origin.len(), method.len(), headers.map_or(0, HeaderValue::len)];
        if parts.iter().any(|length| *length > MAX_PREFLIGHT_PART) {
            return None;
        }
        let (origin, method, headers) = (origin.clone(), method.clone(), headers.cloned());
        Some(Self { path: path.to_owned(), origin, method, headers })
    }
}

/// `Some(None)`: absent; `None`: repeated.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Option<&'a HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    values.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn allowed(origins: &[&str], origin: Option<&'static str>) -> HeaderMap {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let request = origin.map(|origin| headers(&[("origin", origin)])).unwrap_or_default();
        let mut response = headers(&[("vary", "Accept")]);
        Cors::new(&origins, Duration::from_secs(7200)).allow(&request, &mut response);
        response
    }

    #[test]
    fn any_origin_is_answered_with_a_star() {
        let response = allowed(&["*"], Some("https://a.example"));
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(response.get_all(VARY).iter().count(), 1);
    }

    #[test]
    fn listed_origins_are_echoed() {
        let list = ["https://a.example", "https://b.example"];
        let response = allowed(&list, Some("https://b.example"));
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "https://b.example");
        for origin in [None, Some("https://c.example"), Some("https://a.example.evil")] {
            let response = allowed(&list, origin);
            assert!(!response.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{origin:?}");
            assert!(response.get_all(VARY).iter().any(|value| value == "Origin"), "{origin:?}");
        }
    }

    #[test]
    fn exposed_headers_are_merged() {
        let list = |value: HeaderValue| value.to_str().unwrap().to_owned();
        let default = list(exposed(&HeaderMap::new()).unwrap());
        for name in ["Content-Range", "Range-Unit", "Cache-Status", "ETag", "Sluice-Write"] {
            assert!(names(&default).any(|there| there == name), "{name}");
        }
        let upstreams = headers(&[
            ("access-control-expose-headers", "X-Total, etag"),
            ("access-control-expose-headers", "Age"),
        ]);
        let merged = list(exposed(&upstreams).unwrap());
        assert_eq!(
            merged,
            "X-Total, etag, Age, Cache-Status, Preference-Applied, Sluice-Pending, Sluice-Write"
        );
        assert_eq!(exposed(&headers(&[("access-control-expose-headers", "*")])), None);
    }

    #[test]
    fn vary_is_added_once() {
        let mut response = headers(&[("vary", "Accept, origin")]);
        add_vary(&mut response, "Origin");
        assert_eq!(response.get_all(VARY).iter().count(), 1);
        add_vary(&mut response, "Prefer");
        assert_eq!(response.get_all(VARY).iter().count(), 2);
    }

    #[test]
    fn preflights_differ_by_path_origin_and_both_headers() {
        let base = [
            ("origin", "https://a.example"),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "apikey"),
        ];
        let one = Preflight::of("/rest/v1/users", &headers(&base)).unwrap();
        assert_eq!(Preflight::of("/rest/v1/users", &headers(&base)), Some(one.clone()));
        assert_ne!(Preflight::of("/rest/v1/posts", &headers(&base)), Some(one.clone()));
        for index in 0..base.len() {
            let mut other = base;
            other[index].1 = "other";
            let other = Preflight::of("/rest/v1/users", &headers(&other)).unwrap();
            assert_ne!(other, one);
        }
        assert!(Preflight::of("/rest/v1/users", &headers(&base[..2])).is_some());
        assert!(Preflight::of("/rest/v1/users", &headers(&base[..1])).is_none());
        assert!(Preflight::of("/rest/v1/users", &headers(&base[1..])).is_none());
        let twice = [base[0], base[1], base[2], base[2]];
        assert!(Preflight::of("/rest/v1/users", &headers(&twice)).is_none());
        assert!(Preflight::of(&"/x".repeat(MAX_PREFLIGHT_PART), &headers(&base)).is_none());
    }

    #[test]
    fn a_kept_preflight_holds_upstreams_permissions_and_a_lifetime() {
        let upstream = headers(&[
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "GET"),
            ("access-control-max-age", "5"),
            ("vary", "Origin"),
            ("set-cookie", "__cf_bm=x"),
            ("date", "yesterday"),
        ]);
        let answer = Cors::new(&["*".to_owned()], Duration::from_secs(7200)).preflight(&upstream);
        let expected = headers(&[
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "GET"),
            ("vary", "Origin"),
            ("access-control-max-age", "7200"),
        ]);
        assert_eq!(answer, expected);
    }
}
