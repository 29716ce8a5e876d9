//! `X-Forwarded-*` of forwarded requests: believed and continued where the
//! peer is a trusted proxy, replaced where it is not.

use std::net::{IpAddr, SocketAddr};

use http::header::{AsHeaderName, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, uri::Authority};
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// More hops than this are not walked through.
const MAX_HOPS: usize = 32;

/// Whom a request comes from and what he called Sluice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// The right-most address that is no trusted proxy's; none where the peer has none (a Unix socket).
    pub client: Option<IpAddr>,
    /// The scheme that the client used.
    pub https: bool,
    /// The host, with its port, that the client used.
    pub host: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    believed: bool,
}

impl Forwarding {
    /// Reads the headers of a request that came from `peer` (`None`: a Unix
    /// socket, which only this machine's proxies can use and which is
    /// trusted), over TLS or not.
    pub fn of(headers: &HeaderMap, peer: Option<IpAddr>, trusted: &[IpNet], tls: bool) -> Self {
        let peer = peer.map(|peer| peer.to_canonical());
        let believed = is_believed(peer, trusted);
        let lines = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let hops = if believed { hops(lines) } else { Vec::new() };
        let client = first_untrusted(&hops, peer, trusted);
        let told = |name| if believed { only(headers, name) } else { None };
        let https = match told(FORWARDED_PROTO).and_then(|proto| proto.to_str().ok()) {
            Some(proto) if proto.eq_ignore_ascii_case("https") => true,
            Some(proto) if proto.eq_ignore_ascii_case("http") => false,
            _ => tls,
        };
        let host = told(FORWARDED_HOST).filter(is_host).or_else(|| only(headers, HOST).filter(is_host));
        Self { client, https, host: host.cloned(), forwarded_for: forwarded_for(&hops, peer), believed }
    }

    /// The scheme and host that the client used, as the beginning of a URL without a trailing slash.
    pub fn base_url(&self) -> Option<String> {
        let host = self.host.as_ref()?.to_str().ok()?;
        Some(format!("{}://{host}", self.scheme()))
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// The headers to set on the forwarded request, in the place of any of the same name.
    pub fn set(&self) -> impl Iterator<Item = (&'static str, HeaderValue)> {
        let (forwarded_for, host) = (self.forwarded_for.clone(), self.host.clone());
        let proto = Some(HeaderValue::from_static(self.scheme()));
        [(FORWARDED_FOR, forwarded_for), (FORWARDED_PROTO, proto), (FORWARDED_HOST, host)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }

    /// The headers to remove first: what a peer that isn't trusted says about others.
    pub fn unset<'a>(&self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a HeaderName> {
        let believed = self.believed;
        headers.keys().filter(move |name| {
            let name = name.as_str();
            !believed && (name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip")
        })
    }
}

/// Whom a request comes from, as [`Forwarding::client`] says it, where
/// `forwarded_for` are the values of its `X-Forwarded-For`.
pub fn client<'a>(
    forwarded_for: impl Iterator<Item = &'a str>,
    peer: Option<IpAddr>,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let peer = peer.map(|peer| peer.to_canonical());
    let hops = if is_believed(peer, trusted) { hops(forwarded_for) } else { Vec::new() };
    first_untrusted(&hops, peer, trusted)
}

/// Whether what a peer says about others counts.
fn is_believed(peer: Option<IpAddr>, trusted: &[IpNet]) -> bool {
    peer.is_none_or(|peer| trusted.iter().any(|net| net.contains(&peer)))
}

/// The right-most address that is no trusted proxy's, as far as there are addresses.
fn first_untrusted(hops: &[&str], peer: Option<IpAddr>, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut client = peer;
    for hop in hops.iter().rev().take(MAX_HOPS) {
        if !is_believed(client, trusted) {
            break;
        }
        match address(hop) {
            Some(ip) => client = Some(ip),
            None => break,
        }
    }
    client
}

/// The entries of `X-Forwarded-For`, from the client's side to ours.
fn hops<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|hop| !hop.is_empty()).collect()
}

/// An entry's address, which some proxies write with a port.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let parsed = bare.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|hop| hop.ip()));
    parsed.map(|ip| ip.to_canonical())
}

/// What `X-Forwarded-For` goes on with: the hops so far and the peer.
fn forwarded_for(hops: &[&str], peer: Option<IpAddr>) -> Option<HeaderValue> {
    let mut text = hops.join(", ");
    if let Some(peer) = peer {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&peer.to_string());
    }
    HeaderValue::try_from(text).ok().filter(|value| !value.is_empty())
}

/// Whether a value is a host, perhaps with a port.
fn is_host(value: &&HeaderValue) -> bool {
    let authority = value.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|host| !host.as_str().contains('@'))
}

/// The value of a header that occurs once.
fn only<N: AsHeaderName>(headers: &HeaderMap, name: N) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
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

    fn read(pairs: &[(&'static str, &'static str)], peer: &str, tls: bool) -> Forwarding {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        Forwarding::of(&headers(pairs), Some(peer.parse().unwrap()), &trusted, tls)
    }

    fn set(forwarding: &Forwarding) -> Vec<(String, String)> {
        let text = |(name, value): (&str, HeaderValue)| (name.to_owned(), value.to_str().unwrap().to_owned());
        forwarding.set().map(text).collect()
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_not_trusted() {
        for (forwarded_for, peer, client) in [
            ("1.1.1.1", "9.9.9.9", "9.9.9.9"),
            ("1.1.1.1", "10.0.0.1", "1.1.1.1"),
            ("1.1.1.1, 2.2.2.2", "10.0.0.1", "2.2.2.2"),
            ("1.1.1.1, 2.2.2.2, 10.0.0.2", "10.0.0.1", "2.2.2.2"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.1", "10.0.0.3"),
            ("1.1.1.1, unknown", "10.0.0.1", "10.0.0.1"),
            ("1.1.1.1, unknown, 10.0.0.2", "10.0.0.1", "10.0.0.2"),
            ("1.1.1.1:5555", "10.0.0.1", "1.1.1.1"),
            ("[2001:db8::1]:5555", "fd00::1", "2001:db8::1"),
            ("2001:db8::1", "::ffff:10.0.0.1", "2001:db8::1"),
            ("", "10.0.0.1", "10.0.0.1"),
        ] {
            let client: IpAddr = client.parse().unwrap();
            let read = read(&[("x-forwarded-for", forwarded_for)], peer, false);
            assert_eq!(read.client, Some(client), "{forwarded_for} from {peer}");
        }
    }

    const TOLD: [(&str, &str); 7] = [
        ("host", "inner"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example.com"),
        ("x-forwarded-port", "443"),
        ("forwarded", "for=1.1.1.1"),
    ];

    #[test]
    fn what_a_trusted_proxy_says_is_continued() {
        let forwarding = read(&TOLD, "10.0.0.1", false);
        let expected = [
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "api.example.com"),
        ];
        assert_eq!(set(&forwarding), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(forwarding.base_url().unwrap(), "https://api.example.com");
        assert_eq!(forwarding.unset(&headers(&TOLD)).count(), 0);
    }

    #[test]
    fn what_others_say_is_replaced() {
        let forwarding = read(&TOLD, "9.9.9.9", false);
        let expected =
            [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "inner")];
        assert_eq!(set(&forwarding), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let told = headers(&TOLD);
        let unset: Vec<_> = forwarding.unset(&told).map(HeaderName::as_str).collect();
        for name in
            ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"]
        {
            assert!(unset.contains(&name), "{name}");
        }
        assert!(!unset.contains(&"host"));
    }

    #[test]
    fn nonsense_is_not_believed_even_from_a_trusted_proxy() {
        let told = [("host", "inner"), ("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b")];
        let forwarding = read(&told, "10.0.0.1", true);
        assert_eq!(forwarding.base_url().unwrap(), "https://inner");
        let twice = [("x-forwarded-proto", "http"), ("x-forwarded-proto", "http")];
        assert!(read(&twice, "10.0.0.1", true).https);
    }

    #[test]
    fn a_unix_socket_is_trusted_and_has_no_address() {
        let told = headers(&[("x-forwarded-for", "1.1.1.1")]);
        let forwarding = Forwarding::of(&told, None, &[], false);
        assert_eq!(forwarding.client, Some("1.1.1.1".parse().unwrap()));
        assert_eq!(set(&forwarding)[0].1, "1.1.1.1");
        assert_eq!(Forwarding::of(&HeaderMap::new(), None, &[], false).client, None);
    }
}
