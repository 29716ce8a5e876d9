//! Where the shared store is.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::address::split_authority;
use super::value::Secret;
use crate::request::percent_encoding_is_well_formed;

/// Where the servers of a shared store are, and who connects to them. Neither
/// `Display` nor `Debug` shows credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// Which servers there are, and how the one that takes writes is found.
    pub topology: Topology,
    /// Whether connections are encrypted (`rediss`).
    pub tls: bool,
    /// The user of the server's access control list. `None`: its default user.
    pub username: Option<String>,
    /// The password, where the URL has it.
    pub password: Option<Secret>,
    /// The number of the database; 0 in a Cluster, which has no other.
    pub database: u32,
}

/// Which servers there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single(HostPort),
    /// A master that sentinels know.
    Sentinel {
        /// The sentinels. Never empty.
        sentinels: Vec<HostPort>,
        /// The name that they know the master by.
        master: String,
    },
    /// Some nodes of a Cluster, which know the others. Never empty.
    Cluster(Vec<HostPort>),
}

/// A server's address. `Display` is `host:port`, or `[v6]:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The name or address, lower case, without brackets around an IPv6 address.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a text is no store's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreUrlError {
    #[error("is not a store's URL")]
    Scheme,
    #[error("has a query or a fragment")]
    Query,
    #[error("has credentials that can't be read")]
    Credentials,
    #[error("names no host")]
    NoHost,
    #[error("has a host or a port that can't be read")]
    Host,
    #[error("names several hosts")]
    SeveralHosts,
    #[error("does not name the master")]
    NoMaster,
    #[error("has a master's name that sentinels can't know")]
    Master,
    #[error("has no such database number")]
    Database,
    #[error("has a database number, and a Cluster has none")]
    DatabaseOfCluster,
}

impl StoreUrlError {
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Scheme => {
                "write \"redis://127.0.0.1:6379/0\", \"redis+sentinel://h1:26379,h2:26379/master/0\" or \
                 \"redis+cluster://h1:6379,h2:6379\"; rediss instead of redis is with TLS"
            }
            Self::Query => "remove it, or write `?` as %3F and `#` as %23 where they belong to a password",
            Self::Credentials => {
                "write them as user:password@ or :password@ with `%`, `/`, `@` and the like percent-encoded, or \
                 give the password as `store.password`"
            }
            Self::NoHost => "name a host, such as \"redis://127.0.0.1:6379/0\"",
            Self::Host => {
                "write each as a name or an address with a port: \"redis.internal:6379\", \"[fd00::1]:6379\""
            }
            Self::SeveralHosts => {
                "name one, or write redis+sentinel:// or redis+cluster:// if that is what they are"
            }
            Self::NoMaster => {
                "write the name that the sentinels know it by: \"redis+sentinel://h1:26379,h2:26379/master/0\""
            }
            Self::Master => "write letters, digits, `-`, `_` and `.`",
            Self::Database => "write the number of the database alone, such as \"/0\", or leave it out",
            Self::DatabaseOfCluster => "remove what stands after the hosts",
        }
    }
}

/// How the servers that a URL names belong together.
#[derive(Clone, Copy)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

impl StoreUrl {
    /// `redis://127.0.0.1:6379/0`
    pub(super) fn local() -> Self {
        let address = HostPort { host: "127.0.0.1".into(), port: 6379 };
        Self { topology: Topology::Single(address), tls: false, username: None, password: None, database: 0 }
    }

    pub(super) fn parse(text: &str) -> Result<Self, StoreUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(StoreUrlError::Scheme)?;
        let (tls, kind) = match scheme.to_ascii_lowercase().as_str() {
            "redis" => (false, Kind::Single),
            "rediss" => (true, Kind::Single),
            "redis+sentinel" => (false, Kind::Sentinel),
            "rediss+sentinel" => (true, Kind::Sentinel),
            "redis+cluster" => (false, Kind::Cluster),
            "rediss+cluster" => (true, Kind::Cluster),
            _ => return Err(StoreUrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(StoreUrlError::Query);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') {
            return Err(StoreUrlError::Credentials);
        }
        let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = credentials(userinfo)?;
        let (topology, database) = servers(kind, hosts, path)?;
        Ok(Self { topology, tls, username, password, database })
    }
}

/// The user and the password of `user[:password]`, either of which may be empty.
fn credentials(userinfo: &str) -> Result<(Option<String>, Option<Secret>), StoreUrlError> {
    let (username, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let username = decoded(username)?;
    let password = decoded(password)?;
    Ok(((!username.is_empty()).then_some(username), (!password.is_empty()).then(|| Secret::new(password))))
}

fn decoded(text: &str) -> Result<String, StoreUrlError> {
    let is_plain = percent_encoding_is_well_formed(text) && !text.contains(['@', ' ']);
    let decoded = percent_decode_str(text).decode_utf8().ok().filter(|_| is_plain);
    decoded.map(|text| text.into_owned()).ok_or(StoreUrlError::Credentials)
}

fn servers(kind: Kind, hosts: &str, path: &str) -> Result<(Topology, u32), StoreUrlError> {
    match kind {
        Kind::Single if hosts.contains(',') => Err(StoreUrlError::SeveralHosts),
        Kind::Single => Ok((Topology::Single(address(hosts, 6379)?), database(path)?)),
        Kind::Sentinel => {
            let sentinels = addresses(hosts, 26379)?;
            let (master, number) = path.split_once('/').unwrap_or((path, ""));
            let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if master.is_empty() {
                return Err(StoreUrlError::NoMaster);
            }
            if !master.bytes().all(of_a_name) {
                return Err(StoreUrlError::Master);
            }
            Ok((Topology::Sentinel { sentinels, master: master.to_owned() }, database(number)?))
        }
        Kind::Cluster if !path.is_empty() => Err(StoreUrlError::DatabaseOfCluster),
        Kind::Cluster => Ok((Topology::Cluster(addresses(hosts, 6379)?), 0)),
    }
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<HostPort>, StoreUrlError> {
    hosts.split(',').map(|host| address(host, default_port)).collect()
}

fn address(text: &str, default_port: u16) -> Result<HostPort, StoreUrlError> {
    if text.is_empty() || text.starts_with(':') {
        return Err(StoreUrlError::NoHost);
    }
    let (host, port) = split_authority(text).ok_or(StoreUrlError::Host)?;
    let port = port.unwrap_or(default_port);
    if port == 0 {
        return Err(StoreUrlError::Host);
    }
    Ok(HostPort { host: host.to_ascii_lowercase(), port })
}

fn database(text: &str) -> Result<u32, StoreUrlError> {
    if text.is_empty() {
        return Ok(0);
    }
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain).ok_or(StoreUrlError::Database)
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss" } else { "redis" })?;
        match &self.topology {
            Topology::Single(address) => write!(f, "://{address}/{}", self.database),
            Topology::Sentinel { sentinels, master } => {
                write!(f, "+sentinel://{}/{master}/{}", Joined(sentinels), self.database)
            }
            Topology::Cluster(nodes) => write!(f, "+cluster://{}", Joined(nodes)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// Addresses with commas between them.
struct Joined<'a>(&'a [HostPort]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}
