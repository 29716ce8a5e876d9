//! Which headers matter, and to whom.
//!
//! A request header of a read is keyed (it reaches upstream and takes part in
//! the key), ignorable (neither), or unknown, and then the read bypasses the
//! cache: a policy may read any header that upstream sees. What an answer
//! from the cache was made without can't have changed it.

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use crate::request::{Dialect, profile_header};

mod forwarding;

pub use forwarding::{Forwarding, client};

/// Sluice's own `User-Agent`.
pub const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION")));

/// Headers of one connection, not of a message (RFC 9110, section 7.6.1);
/// those that `Connection` names come on top.
pub const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What upstream's edge says about itself: from another host it would send
/// browsers past Sluice, or bind Sluice's host to promises it never made.
pub const NOT_PASSED_ON: [&str; 4] = ["alt-svc", "nel", "report-to", "strict-transport-security"];

/// What PostgREST exposes to scripts of other origins where it is asked to.
pub const POSTGREST_EXPOSED: [&str; 9] = [
    "Content-Encoding",
    "Content-Location",
    "Content-Range",
    "Content-Type",
    "Date",
    "Location",
    "Server",
    "Transfer-Encoding",
    "Range-Unit",
];

/// What a request header means to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderClass {
    /// Part of the key or of the partition; reaches upstream.
    Keyed,
    /// Never reaches upstream with a fill.
    Ignorable,
    /// Might matter: the read bypasses the cache.
    Unknown,
}

/// A read, as far as its headers are concerned.
#[derive(Debug, Clone, Copy)]
pub struct ReadHeaders<'a> {
    /// GET, HEAD, or POST for a function that only reads.
    pub method: &'a Method,
    /// What kind of resource is read.
    pub dialect: Dialect,
    /// The route's additional keyed headers.
    pub vary: &'a [HeaderName],
}

impl ReadHeaders<'_> {
    /// What `name` means to this read.
    pub fn class(&self, name: &HeaderName, value: &HeaderValue) -> HeaderClass {
        if is_decisive(name.as_str()) {
            return HeaderClass::Unknown;
        }
        if self.is_keyed(name) {
            return HeaderClass::Keyed;
        }
        match name.as_str() {
            // These arrive on everything that is sent, but only these values mean nothing.
            "content-length" if self.has_body() || value.as_bytes() == b"0" => HeaderClass::Ignorable,
            "transfer-encoding" if self.has_body() => HeaderClass::Ignorable,
            "upgrade" if value.as_bytes().eq_ignore_ascii_case(b"h2c") => HeaderClass::Ignorable,
            "content-length" | "transfer-encoding" | "upgrade" => HeaderClass::Unknown,
            name if is_ignorable(name) => HeaderClass::Ignorable,
            _ => HeaderClass::Unknown,
        }
    }

    /// The first header that keeps this read from the cache, for the
    /// `Cache-Status` detail `header-<name>`. `ignored` says which more
    /// headers the route ignores.
    pub fn first_unknown<'h>(
        &self,
        headers: &'h HeaderMap,
        ignored: impl Fn(&HeaderName) -> bool,
    ) -> Option<&'h HeaderName> {
        let unknown = |name: &HeaderName, value| {
            self.class(name, value) == HeaderClass::Unknown && (is_decisive(name.as_str()) || !ignored(name))
        };
        headers.iter().find(|(name, value)| unknown(name, value)).map(|(name, _)| name)
    }

    /// The headers of a fill apart from its credentials and `Host`: what the
    /// key holds, `traceparent`, and Sluice's own `User-Agent` and `Accept-Encoding`.
    pub fn fill(&self, request: &HeaderMap, accept_encoding: HeaderValue) -> HeaderMap {
        let mut fill = HeaderMap::with_capacity(8 + self.vary.len());
        for (name, value) in request {
            let carried = name == "traceparent"
                || (self.is_keyed(name) && !is_credential(name) && name != header::HOST);
            if carried && !is_decisive(name.as_str()) {
                fill.append(name.clone(), value.clone());
            }
        }
        fill.insert(header::USER_AGENT, USER_AGENT);
        fill.insert(header::ACCEPT_ENCODING, accept_encoding);
        fill
    }

    /// Whether the header takes part in the key or the partition.
    pub fn is_keyed(&self, name: &HeaderName) -> bool {
        self.dialect.keyed_headers().contains(name)
            || *name == profile_header(self.method)
            || (self.has_body() && *name == header::CONTENT_TYPE)
            || is_credential(name)
            || *name == header::HOST
            || self.vary.contains(name)
    }

    fn has_body(&self) -> bool {
        *self.method == Method::POST
    }
}

/// Whether the header says who asks.
pub fn is_credential(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION || name == "apikey"
}

/// Copies the credentials of a request as they are.
pub fn copy_credentials(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from.iter().filter(|(name, _)| is_credential(name)) {
        to.append(name.clone(), value.clone());
    }
}

/// Headers that change what a request is; no setting makes them ignorable or keyed.
fn is_decisive(name: &str) -> bool {
    matches!(
        name,
        "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "if-match"
            | "if-unmodified-since"
            | "expect"
    )
}

/// The fixed list of headers that have no part in an answer.
fn is_ignorable(name: &str) -> bool {
    name == "sluice-debug"
        || is_browsers(name)
        || is_sdks(name)
        || is_tracing(name)
        || is_forwarding(name)
        || is_conditional(name)
}

/// Whether a header (its name in lower case) of a GET or HEAD changes neither
/// what is done with the request nor how an answer from the cache is given,
/// unless a route's `vary` names it.
pub fn is_immaterial(name: &str) -> bool {
    // Those that no list below has stand here since most requests have them: they are told soonest.
    let is_looked_at = matches!(
        name,
        "accept"
            | "accept-encoding"
            | "accept-profile"
            | "apikey"
            | "authorization"
            | "cache-control"
            | "connection"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "origin"
            | "pragma"
            | "prefer"
            | "proxy-connection"
            | "range"
            | "range-unit"
            | "sluice-debug"
            | "te"
    );
    !is_looked_at && !is_conditional(name) && is_ignorable(name)
}

/// What browsers and HTTP libraries send of their own accord.
fn is_browsers(name: &str) -> bool {
    match name {
        "accept"
        | "accept-charset"
        | "accept-encoding"
        | "accept-language"
        | "cache-control"
        | "connection"
        | "content-type"
        | "date"
        | "device-memory"
        | "dnt"
        | "downlink"
        | "dpr"
        | "ect"
        | "http2-settings"
        | "keep-alive"
        | "origin"
        | "pragma"
        | "priority"
        | "proxy-connection"
        | "purpose"
        | "range"
        | "range-unit"
        | "referer"
        | "rtt"
        | "save-data"
        | "te"
        | "upgrade-insecure-requests"
        | "user-agent"
        | "viewport-width"
        | "width"
        | "x-requested-with" => true,
        name => name.starts_with("sec-"),
    }
}

/// What Supabase's client libraries say about themselves.
fn is_sdks(name: &str) -> bool {
    matches!(name, "x-client-info" | "x-retry-count" | "x-supabase-api-version")
        || name.starts_with("x-supabase-client-")
}

/// Identifiers of requests and traces.
fn is_tracing(name: &str) -> bool {
    match name {
        "b3"
        | "baggage"
        | "correlation-context"
        | "elastic-apm-traceparent"
        | "grpc-trace-bin"
        | "newrelic"
        | "request-context"
        | "request-id"
        | "sentry-trace"
        | "traceparent"
        | "tracestate"
        | "uber-trace-id"
        | "x-amz-cf-id"
        | "x-amzn-trace-id"
        | "x-client-trace-id"
        | "x-cloud-trace-context"
        | "x-correlation-id"
        | "correlation-id"
        | "x-ot-span-context"
        | "x-request-id"
        | "x-request-start"
        | "x-trace-id" => true,
        name => ["x-b3-", "x-datadog-", "x-dynatrace", "x-instana-", "x-newrelic-", "uberctx-"]
            .iter()
            .any(|prefix| name.starts_with(prefix)),
    }
}

/// What proxies and edges on the way add. Cloudflare Access' own headers are credentials, not that.
fn is_forwarding(name: &str) -> bool {
    match name {
        "cdn-loop"
        | "client-ip"
        | "fastly-client-ip"
        | "forwarded"
        | "true-client-ip"
        | "via"
        | "x-arr-log-id"
        | "x-arr-ssl"
        | "x-azure-clientip"
        | "x-azure-ref"
        | "x-azure-socketip"
        | "x-client-ip"
        | "x-cluster-client-ip"
        | "x-country-code"
        | "x-envoy-external-address"
        | "x-forwarded"
        | "x-original-forwarded-for"
        | "x-real-ip"
        | "x-scheme"
        | "x-varnish" => true,
        name if name.starts_with("cf-") => !name.starts_with("cf-access-"),
        name => ["fly-", "x-appengine-", "x-envoy-", "x-forwarded-", "x-nf-", "x-vercel-"]
            .iter()
            .any(|prefix| name.starts_with(prefix)),
    }
}

/// Conditions that Sluice answers itself. Those on a state to be changed are decisive instead.
fn is_conditional(name: &str) -> bool {
    matches!(name, "if-none-match" | "if-modified-since" | "if-range")
}

/// Removes the headers of the connection, those that `Connection` names included.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in hop_by_hop(headers).collect::<Vec<_>>() {
        headers.remove(name);
    }
}

/// The headers of the connection that are there, those that `Connection` names
/// included; some come twice.
pub fn hop_by_hop(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let known = headers.keys().filter(|name| HOP_BY_HOP.contains(&name.as_str())).cloned();
    let named = connection_options(headers);
    // What nearly every `Connection` names is known already.
    let further = named.filter(|name| !name.eq_ignore_ascii_case("keep-alive"));
    let further = further.filter_map(|name| HeaderName::try_from(name).ok());
    known.chain(further.filter(|name| headers.contains_key(name)))
}

/// What upstream's edge says about itself, as far as it is there.
pub fn not_passed_on(headers: &HeaderMap) -> impl Iterator<Item = &HeaderName> {
    headers.keys().filter(|name| NOT_PASSED_ON.contains(&name.as_str()))
}

/// What the lines of `Connection` name, those aside that are no text.
pub fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Whether some line of `Connection` says that it is to be closed (RFC 9112, section 9.3).
pub fn asks_to_close(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    let mut options = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Removes what upstream's edge says about itself.
pub fn remove_not_passed_on(headers: &mut HeaderMap) {
    for name in NOT_PASSED_ON {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
