//! The configuration: TOML as written, checked once, then plain values.
//!
//! `file` reads TOML and remembers where everything stands, `value` knows
//! durations, sizes and `${…}`, `address` and `store_url` what is listened on and
//! connected to, `resolve`, `store`, `queue`, `routes` and the `route_…` make a [`Config`] of it,
//! `diagnostic` says what is wrong and where. All errors of a file are reported together.

mod address;
mod context;
mod diagnostic;
mod file;
mod queue;
mod resolve;
mod route_facts;
mod route_headers;
mod route_write;
mod routes;
mod section;
mod spelling;
mod store;
mod store_url;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use self::address::{ListenAddress, UpstreamUrl};
pub use self::diagnostic::{ConfigError, Problem};
pub use self::queue::Queue;
pub use self::store::{Ack, RedisStore, Store, StoreKind};
pub use self::store_url::{HostPort, StoreUrl, Topology};
pub use self::value::{Environment, ProcessEnvironment, Secret};
use crate::route::RouteTable;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect. Never empty.
    pub listen: Vec<ListenAddress>,
    /// Where operators connect.
    pub admin_listen: SocketAddr,
    /// What operators have to show; always there where `admin_listen` isn't loopback.
    pub admin_token: Option<Secret>,
    /// What seals tokens in the journal, at least 32 bytes. `None`: it is made beside the journal.
    pub secret: Option<Secret>,
    /// The base URL that clients use, without a slash at its end. `None`: the
    /// scheme and `Host` of each request.
    pub public_url: Option<String>,
    /// Networks whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections on `listen` begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Threads; 0 is one per core.
    pub workers: usize,
    /// How long `/readyz` says 503 before the listeners close.
    pub stop_delay: Duration,
    /// How long requests in flight may take after that.
    pub stop_timeout: Duration,
    /// TLS on `listen`. `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// What is logged, and how.
    pub log: Log,
    /// What one client may take.
    pub limits: Limits,
    /// The Supabase project.
    pub upstream: Upstream,
    /// How credentials are checked.
    pub auth: Auth,
    /// Where answers are kept.
    pub store: Store,
    /// How deferred writes are queued and replayed.
    pub queue: Queue,
    /// CORS headers on answers that Sluice makes itself.
    pub cors: Cors,
    /// What is cached and deferred.
    pub routes: RouteTable,
}

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level (`info`), or levels by target (`info,sluice::cache=debug`): what
    /// `tracing_subscriber`'s `EnvFilter` reads, less its span filters.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether each request gets a line.
    pub access: bool,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}

/// `[limits]`. None of them is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections from clients at the same time.
    pub connections: usize,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How long a body may pause.
    pub body_timeout: Duration,
    /// Header fields of a request, at most 256.
    pub max_headers: usize,
    /// Bytes of a request's head, at most 1 MiB.
    pub max_header_bytes: usize,
}

/// `[upstream]`
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where the project is.
    pub url: UpstreamUrl,
    /// `Host` and SNI where they differ from the URL's; may have a port.
    pub host: Option<String>,
    /// One more trust root, PEM.
    pub ca_file: Option<PathBuf>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Fills: from the end of the request to the head of the response.
    pub response_timeout: Duration,
    /// The same for forwarded requests. `None`: as long as it takes.
    pub forward_timeout: Option<Duration>,
    /// The key that reads the OpenAPI description.
    pub schema_key: Option<Secret>,
    /// The schema of requests that name none.
    pub default_schema: String,
    /// How long answers about a tag are not stored after its invalidation.
    pub settle: Duration,
}

/// `[auth]`
#[derive(Debug, Clone)]
pub struct Auth {
    /// The key of HS256 tokens.
    pub jwt_secret: Option<Secret>,
    /// Where the keys of other tokens are published.
    pub jwks_urls: Vec<String>,
    /// Whether the file names no `jwks_url`: then none need be there.
    pub jwks_derived: bool,
    /// Keys whose holders may be answered from the cache. Empty: learned.
    pub api_keys: Vec<Secret>,
    /// What is allowed on `exp` and `nbf`.
    pub leeway: Duration,
    /// How long a token has to live yet for a write with it to be deferred, where
    /// it is replayed with tokens that were seen.
    pub min_token_life: Duration,
    /// Whether auth requests carry the client's address; needs [`Upstream::schema_key`].
    pub forward_client_ip: bool,
}

/// `[cors]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// `*`, `null` or origins (`https://app.example.com`), lower case.
    pub allow_origins: Vec<String>,
    /// How long browsers may keep a preflight's answer.
    pub max_age: Duration,
}

impl Config {
    /// Reads a file, or all `*.toml` of a folder in the order of their names as
    /// if they were one: tables may be split across them, routes are appended,
    /// and a key that is there twice is an error.
    ///
    /// `upstream_override` takes the place of `upstream.url`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong.
    pub fn load(path: &Path, upstream_override: Option<&str>) -> Result<Self, ConfigError> {
        let sources = file::read(path)?;
        resolve::config(sources, upstream_override, &ProcessEnvironment)
    }

    /// What `--upstream` alone means: the tables of the default schema for 10
    /// seconds within a session, and public storage objects as long as upstream
    /// says.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] where `upstream_url` is not a URL that can be used.
    pub fn without_file(upstream_url: &str) -> Result<Self, ConfigError> {
        let source = file::Source::new("built-in routes", routes::WITHOUT_FILE);
        resolve::config(vec![source], Some(upstream_url), &ProcessEnvironment)
    }

    /// Reads one source, called `name` in errors, looking up `${…}` in `environment`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong.
    pub fn parse(name: &str, source: &str, environment: &dyn Environment) -> Result<Self, ConfigError> {
        resolve::config(vec![file::Source::new(name, source)], None, environment)
    }
}

impl Upstream {
    /// What requests to upstream carry as `Host`.
    pub fn host_header(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.url.authority())
    }

    /// Which project it is, however it is reached: its host and the path that it begins at.
    pub fn identity(&self) -> String {
        format!("{}{}", self.host_header(), self.url.base_path)
    }

    /// The name that upstream's certificate has to bear.
    pub fn sni(&self) -> &str {
        self.host.as_deref().map_or(&self.url.host, address::host_of_authority)
    }
}

#[cfg(test)]
mod tests;
