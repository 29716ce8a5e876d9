//! Forwarded requests: where they go, and what changes on the way there and back.

use std::net::IpAddr;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::gateway::Settings;
use crate::config::{Config, Secret};
use crate::cors;
use crate::headers::{self, Forwarding};
use crate::postgrest::query::Query;

/// Keep-alive connections to upstream are given up after so long without a request.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(60);
/// The operator's token for debug headers; never forwarded.
pub const DEBUG: HeaderName = HeaderName::from_static("sluice-debug");
const SB_FORWARDED_FOR: HeaderName = HeaderName::from_static("sb-forwarded-for");
const APIKEY: HeaderName = HeaderName::from_static("apikey");

/// The address to try in the `attempt`-th place, counted from 0.
///
/// # Errors
///
/// Pingora's, where upstream's name does not resolve.
pub async fn peer(settings: &Settings, attempt: usize, is_upgrade: bool) -> Result<Box<HttpPeer>> {
    let addresses = settings.resolver.addresses().await.map_err(|error| {
        let kind = if error.timed_out { ErrorType::ConnectTimedout } else { ErrorType::ConnectError };
        let mut wrapped = Error::because(kind, "resolving upstream", error);
        wrapped.as_up();
        wrapped
    })?;
    let upstream = &settings.config.upstream;
    let address = addresses[attempt % addresses.len()];
    let mut peer = HttpPeer::new(address, upstream.url.tls, upstream.sni().to_owned());
    peer.options.connection_timeout = Some(upstream.connect_timeout);
    peer.options.total_connection_timeout = Some(upstream.connect_timeout);
    peer.options.idle_timeout = Some(KEEP_ALIVE);
    peer.options.alpn = ALPN::H1;
    peer.options.ca = settings.trusted_roots.clone();
    if !is_upgrade {
        peer.options.read_timeout = upstream.forward_timeout;
    }
    Ok(Box::new(peer))
}

/// Who sent a request and under which name, as trusted proxies tell it.
pub fn forwarding(config: &Config, request: &RequestHeader, peer: Option<IpAddr>, tls: bool) -> Forwarding {
    Forwarding::of(&request.headers, peer, &config.trusted_proxies, tls)
}

/// Changes a request to what upstream is to see: its own host, who asked, and
/// nothing that was meant for Sluice.
///
/// # Errors
///
/// Pingora's, where a value can't be a header; none of these come from outside unchecked.
pub fn prepare_request(
    settings: &Settings,
    request: &mut RequestHeader,
    forwarding: &Forwarding,
) -> Result<()> {
    let config = &settings.config;
    prepare_headers(request, forwarding)?;
    request.insert_header(header::HOST, settings.client.host_header().clone())?;
    if let Some(key) = &config.upstream.schema_key
        && config.auth.forward_client_ip
    {
        name_client(request, forwarding, key)?;
    }
    let base_path = &config.upstream.url.base_path;
    if !base_path.is_empty() {
        let target = [base_path.as_bytes(), request.raw_path()].concat();
        request.set_raw_path(&target)?;
    }
    Ok(())
}

/// What upstream is told of the client, and what it is not.
///
/// # Errors
///
/// As [`prepare_request`].
pub fn prepare_headers(request: &mut RequestHeader, forwarding: &Forwarding) -> Result<()> {
    let unset: Vec<HeaderName> = forwarding.unset(&request.headers).cloned().collect();
    for name in unset {
        request.remove_header(&name);
    }
    for (name, value) in forwarding.set() {
        request.insert_header(name, value)?;
    }
    request.remove_header(&DEBUG);
    Ok(())
}

/// Auth limits sign-ins by address. It believes one from a holder of a secret
/// key alone, on requests whose API key it doesn't look at otherwise. The path
/// is compared as it is: nobody else's endpoint may ever see that key.
fn name_client(request: &mut RequestHeader, forwarding: &Forwarding, key: &Secret) -> Result<()> {
    const GRANTS: [&str; 3] = ["refresh_token", "pkce", "id_token"];
    if request.method != Method::POST || request.uri.path() != "/auth/v1/token" {
        return Ok(());
    }
    let query = Query::parse(request.uri.query().unwrap_or_default());
    let grant = query.as_ref().ok().and_then(|query| query.get("grant_type"));
    if let Some(client) = forwarding.client
        && grant.is_some_and(|grant| GRANTS.contains(&grant))
    {
        let mut value = HeaderValue::from_str(key.expose())
            .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "schema_key", error))?;
        value.set_sensitive(true);
        request.insert_header(APIKEY, value)?;
        request.insert_header(SB_FORWARDED_FOR, client.to_string())?;
    }
    Ok(())
}

/// Changes a forwarded answer to what clients of Sluice are to see.
///
/// # Errors
///
/// Pingora's, where a value can't be a header.
pub fn prepare_response(
    settings: &Settings,
    response: &mut ResponseHeader,
    forwarding: &Forwarding,
) -> Result<()> {
    let mut unwanted = connection_fields(&response.headers);
    unwanted.extend(headers::not_passed_on(&response.headers).cloned());
    for name in &unwanted {
        response.remove_header(name);
    }
    if let Some(location) = public_location(settings, &response.headers, forwarding) {
        response.insert_header(header::LOCATION, location)?;
    }
    let answers_another_origin = response.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    if answers_another_origin && let Some(exposed) = cors::exposed(&response.headers) {
        response.insert_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed)?;
    }
    Ok(())
}

/// What concerns one connection alone and is to be removed from a message: all
/// but the fields from which Pingora tells framing and upgrades.
pub fn connection_fields(headers: &HeaderMap) -> Vec<HeaderName> {
    const PINGORAS: [HeaderName; 3] = [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING];
    headers::hop_by_hop(headers).filter(|name| !PINGORAS.contains(name)).collect()
}

/// A `Location` on upstream, as the client reaches it. TUS uploads go on there.
pub fn public_location(settings: &Settings, response: &HeaderMap, forwarding: &Forwarding) -> Option<String> {
    let location = response.get(header::LOCATION)?.to_str().ok()?;
    let rest = location.strip_prefix(settings.upstream_url.as_str())?;
    // `https://abc.supabase.co.evil.example` begins with the URL as well.
    if !(rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
        return None;
    }
    let base = settings.config.public_url.clone().or_else(|| forwarding.base_url())?;
    Some(format!("{base}{rest}"))
}
