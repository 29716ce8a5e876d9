//! What is listened on and connected to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use http::Uri;
use ipnet::IpNet;

/// Where clients connect. `Display` gives back the form that the file has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// `0.0.0.0:8000`
    Tcp(SocketAddr),
    /// `unix:/run/sluice.sock`
    Unix(PathBuf),
    /// `fd:3`, a listening socket that was handed over, 3 or above.
    Fd(i32),
}

impl ListenAddress {
    /// `None` where `text` has none of the three forms.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            (!path.is_empty() && !path.contains('\0')).then(|| Self::Unix(PathBuf::from(path)))
        } else if let Some(number) = text.strip_prefix("fd:") {
            number.parse().ok().filter(|number| *number >= 3).map(Self::Fd)
        } else {
            text.parse().ok().map(Self::Tcp)
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Fd(number) => write!(f, "fd:{number}"),
        }
    }
}

/// The base of all requests to upstream. `Display` leaves the scheme's own port out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// The name or address, lower case, without brackets around an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What stands before each path: empty, or `/x` without a slash at its end.
    pub base_path: String,
}

/// Why a text is no base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    #[error("is not a URL")]
    Malformed,
    #[error("does not begin with http:// or https://")]
    Scheme,
    #[error("has a user name or a password")]
    Credentials,
    #[error("has a query or a fragment")]
    Query,
}

impl UpstreamUrl {
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        if text.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let uri = text.parse::<Uri>().map_err(|_| UrlError::Malformed)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(UrlError::Scheme),
        };
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let (host, port) = split_authority(authority.as_str()).ok_or(UrlError::Malformed)?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        let base_path = uri.path().trim_end_matches('/').to_owned();
        if port == 0 || base_path.contains("//") {
            return Err(UrlError::Malformed);
        }
        Ok(Self { tls, host: host.to_ascii_lowercase(), port, base_path })
    }

    /// The host, and the port where it isn't the scheme's own: a `Host` header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default_port = if self.tls { 443 } else { 80 };
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base_path)
    }
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
pub(super) fn host_of_authority(authority: &str) -> &str {
    split_authority(authority).map_or(authority, |(host, _)| host)
}

/// The host and the port of `host[:port]`. `None` where it has another form.
pub(super) fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        match rest {
            "" => (host, None),
            _ => (host, Some(rest.strip_prefix(':')?)),
        }
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if host.is_empty() || !host.bytes().all(of_a_name) {
            return None;
        }
        (host, port)
    };
    match port {
        None => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        Some(_) => None,
    }
}

/// A network in CIDR form, or one address.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().map(|network| network.trunc());
    network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}

/// An origin as browsers send it, `*` or `null`; lower case.
pub(super) fn parse_origin(text: &str) -> Option<String> {
    if matches!(text, "*" | "null") {
        return Some(text.to_owned());
    }
    let (scheme, authority) = text.split_once("://")?;
    let of_a_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let scheme_is_plain =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(of_a_scheme);
    (scheme_is_plain && split_authority(authority).is_some()).then(|| text.to_ascii_lowercase())
}
