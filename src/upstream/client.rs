//! The client for fills, refreshes and documents: HTTP/1.1 over kept
//! connections, no redirects, nothing sent twice but what may be.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::body::{Collected, collect};
use super::connect::{Connector, Seasoned};
use super::error::{DocumentError, Failure, FetchError, Phase};
use super::resolver::Resolver;
use super::tls::Trust;

/// For how long an idle connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// How many idle connections are kept.
const POOL_SIZE: usize = 256;
/// More headers than this make a response malformed.
const MAX_RESPONSE_HEADERS: usize = 256;
/// The largest document that [`Client::fetch_url`] takes.
const MAX_DOCUMENT: u64 = 1 << 20;
/// How long [`Client::fetch_url`] may take in all.
const DOCUMENT_DEADLINE: Duration = Duration::from_secs(10);

/// Where and how to reach upstream.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Whether upstream speaks TLS.
    pub tls: bool,
    /// The host to connect to; an IPv6 address may stand in brackets.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// What the paths of all requests are put behind: empty, or `/x` without a trailing slash.
    pub base_path: String,
    /// The name that the certificate must be for.
    pub sni: String,
    /// The `Host` of all requests.
    pub host_header: String,
    /// For each address, TLS handshake included.
    pub connect_timeout: Duration,
    /// From the connection's being there to the response's head.
    pub response_timeout: Duration,
}

/// A setting that no request can be made with.
#[derive(Debug, thiserror::Error)]
#[error("{what} {value:?} can't be used in a request to upstream. Correct it in the configuration.")]
pub struct SettingsError {
    what: &'static str,
    value: String,
}

/// One upstream. Cheap to clone; the clones share the connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    pool: Pool<Connector, Full<Bytes>>,
    trust: Trust,
    scheme: Scheme,
    authority: Authority,
    base_path: String,
    host_header: HeaderValue,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Client {
    /// A client of the upstream at `settings`, whose addresses `resolver` knows.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] where a host or path is none.
    pub fn new(
        settings: ClientSettings,
        resolver: Arc<Resolver>,
        trust: Trust,
    ) -> Result<Self, SettingsError> {
        let invalid = |what, value: &str| SettingsError { what, value: value.to_owned() };
        let bare = unbracketed(&settings.host);
        let authority = if bare.contains(':') {
            format!("[{bare}]:{}", settings.port)
        } else {
            format!("{bare}:{}", settings.port)
        };
        let connector = Connector {
            resolver,
            tls: trust.client_config(),
            server_name: ServerName::try_from(unbracketed(&settings.sni).to_owned())
                .map_err(|_| invalid("The host name", &settings.sni))?,
            limit: settings.connect_timeout,
        };
        let base_path = settings.base_path;
        if !base_path.is_empty()
            && (!base_path.starts_with('/') || base_path.parse::<PathAndQuery>().is_err())
        {
            return Err(invalid("The path", &base_path));
        }
        Ok(Self(Arc::new(Inner {
            pool: pool(connector),
            trust,
            scheme: if settings.tls { Scheme::HTTPS } else { Scheme::HTTP },
            authority: authority.parse().map_err(|_| invalid("The host", &settings.host))?,
            base_path,
            host_header: HeaderValue::try_from(&settings.host_header)
                .map_err(|_| invalid("The Host header", &settings.host_header))?,
            connect_timeout: settings.connect_timeout,
            response_timeout: settings.response_timeout,
        })))
    }

    /// What requests to upstream carry as `Host`.
    pub fn host_header(&self) -> &HeaderValue {
        &self.0.host_header
    }

    /// Sends `request`, whose URI is a path and query, to upstream and waits
    /// for the response's head. The base path and `Host` are added here.
    ///
    /// A GET or HEAD whose kept connection turns out dead before anything of
    /// a response came is sent once more; nothing else ever is.
    ///
    /// # Errors
    ///
    /// [`FetchError`] where there is no response; any status is one.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Incoming>, FetchError> {
        let request = self.addressed(request)?;
        let repeatable = matches!(*request.method(), Method::GET | Method::HEAD);
        let spare = repeatable.then(|| request.clone());
        match (self.exchange(request).await, spare) {
            (Err(Failure { idle_death: true, .. }), Some(request)) => {
                tracing::debug!("a kept connection to upstream was dead, the request is sent once more");
                self.exchange(request).await.map_err(|failure| failure.error)
            }
            (outcome, _) => outcome.map_err(|failure| failure.error),
        }
    }

    /// Fetches a small document, a JWKS for instance, from any `http` or
    /// `https` URL: 1 MiB and 10 s at most, no redirects. One on upstream's
    /// own host goes the way of all requests to it.
    ///
    /// # Errors
    ///
    /// [`DocumentError`] where it can't be had whole with status 200.
    pub async fn fetch_url(&self, url: &str) -> Result<Bytes, DocumentError> {
        let uri: Uri = url.parse().map_err(|_| DocumentError::Url)?;
        timeout(DOCUMENT_DEADLINE, self.fetch_document(&uri))
            .await
            .unwrap_or(Err(DocumentError::Fetch(FetchError::TimedOut(Phase::Body))))
    }

    async fn fetch_document(&self, uri: &Uri) -> Result<Bytes, DocumentError> {
        let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or(DocumentError::Url)?;
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default_port);
        let own = *scheme == self.0.scheme
            && Some(port) == self.0.authority.port_u16()
            && authority.host().eq_ignore_ascii_case(self.0.authority.host());
        let (client, path) = match path.strip_prefix(self.0.base_path.as_str()) {
            Some(path) if own && path.starts_with('/') => (self.clone(), path),
            _ => (self.elsewhere(scheme, authority, port)?, path),
        };
        let request = Request::builder()
            .uri(path)
            .header("accept", "application/json")
            .header("user-agent", crate::headers::USER_AGENT)
            .body(Bytes::new())
            .map_err(|_| DocumentError::Url)?;
        let response = client.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(DocumentError::Status(response.status()));
        }
        match collect(response.into_body(), MAX_DOCUMENT, DOCUMENT_DEADLINE).await? {
            Collected::Whole(document) => Ok(document),
            Collected::TooLarge { .. } => Err(DocumentError::TooLarge),
        }
    }

    /// A client of another host, with this one's trust and deadlines.
    fn elsewhere(&self, scheme: &Scheme, authority: &Authority, port: u16) -> Result<Self, DocumentError> {
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return Err(DocumentError::Url);
        }
        let host = authority.host();
        let settings = ClientSettings {
            tls: *scheme == Scheme::HTTPS,
            host: host.to_owned(),
            port,
            base_path: String::new(),
            sni: host.to_owned(),
            // Without the user and password that an authority may hold.
            host_header: authority.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            connect_timeout: self.0.connect_timeout,
            response_timeout: DOCUMENT_DEADLINE,
        };
        let resolver = Resolver::new(host, port, self.0.connect_timeout);
        Client::new(settings, resolver, self.0.trust.clone()).map_err(|_| DocumentError::Url)
    }

    fn addressed(&self, mut request: Request<Bytes>) -> Result<Request<Full<Bytes>>, FetchError> {
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = Uri::builder()
            .scheme(self.0.scheme.clone())
            .authority(self.0.authority.clone())
            .path_and_query(format!("{}{path}", self.0.base_path))
            .build()
            .map_err(|error| FetchError::Broken(error.into()))?;
        *request.uri_mut() = uri;
        request.headers_mut().insert(HOST, self.0.host_header.clone());
        Ok(request.map(Full::new))
    }

    /// Sends once. Connecting has its own deadlines; the response's begins
    /// when there is a connection, a matter of microseconds from the end of the request.
    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let mut connection = capture_connection(&mut request);
        let response = self.0.pool.request(request);
        tokio::pin!(response);
        let early = tokio::select! {
            biased;
            outcome = &mut response => Some(outcome),
            _ = async { connection.wait_for_connection_metadata().await.is_some() } => None,
        };
        let outcome = match early {
            Some(outcome) => outcome,
            None => match timeout(self.0.response_timeout, response).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(Failure::of(FetchError::TimedOut(Phase::Head))),
            },
        };
        let response = outcome.map_err(Failure::from)?;
        if let Some(seasoned) = response.extensions().get::<Seasoned>() {
            seasoned.set();
        }
        Ok(response)
    }
}

fn pool(connector: Connector) -> Pool<Connector, Full<Bytes>> {
    Pool::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_SIZE)
        .http1_max_headers(MAX_RESPONSE_HEADERS)
        .retry_canceled_requests(false)
        .set_host(false)
        .build(connector)
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests;
