//! One connection to one server.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisResult,
};
use tokio::time::timeout;

use crate::config::{HostPort, RedisStore, Secret};
use crate::store::error::StoreError;

/// For how long sent bytes may go unacknowledged before the connection counts as broken.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How servers are connected to, whichever they are.
pub(super) struct Dialer {
    tls: bool,
    username: Option<String>,
    password: Option<Secret>,
    database: u32,
}

/// What a server is told on connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Nothing at all: a sentinel, until it wants credentials.
    None,
    /// The credentials and no more: a sentinel that wants them.
    Credentials,
    /// The credentials, the protocol's version and the database.
    Full,
}

impl Dialer {
    pub(super) fn new(store: &RedisStore) -> Self {
        if store.url.tls {
            // The client library takes the process's provider. Where there is one already it stays.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Self {
            tls: store.url.tls,
            username: store.url.username.clone(),
            password: store.password.clone().or_else(|| store.url.password.clone()),
            database: store.url.database,
        }
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.password.is_some()
    }

    /// Connects within `limit`, TLS handshake and greeting included.
    pub(super) async fn open(
        &self,
        address: &HostPort,
        greeting: Greeting,
        limit: Duration,
    ) -> Result<MultiplexedConnection, StoreError> {
        self.open_with(address, greeting, limit, unlimited()).await
    }

    pub(super) async fn open_with(
        &self,
        address: &HostPort,
        greeting: Greeting,
        limit: Duration,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, StoreError> {
        let connecting = async {
            let client = Client::open(self.info(address, greeting)?)?;
            client.get_multiplexed_async_connection_with_config(&config).await
        };
        match timeout(limit, connecting).await {
            Ok(outcome) => outcome.map_err(|error| StoreError::of(&error)),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    pub(super) fn info(&self, address: &HostPort, greeting: Greeting) -> RedisResult<ConnectionInfo> {
        let HostPort { host, port } = address.clone();
        let target = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = target.into_connection_info()?;
        Ok(info.set_tcp_settings(tcp_settings()).set_redis_settings(self.greeting(greeting)))
    }

    fn greeting(&self, greeting: Greeting) -> RedisConnectionInfo {
        // Servers before 7.2 count the library's name as a failed command.
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if greeting == Greeting::None {
            return settings;
        }
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose());
        }
        if greeting == Greeting::Full {
            settings = settings.set_protocol(ProtocolVersion::RESP3).set_db(i64::from(self.database));
        }
        settings
    }
}

/// All deadlines are the caller's.
pub(super) fn unlimited() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

pub(super) fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED);
    settings
}

/// Names the server in an error's text.
pub(super) fn at(address: &HostPort, error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(text) => StoreError::Refused(format!("{address}: {text}")),
        StoreError::Broken(text) => StoreError::Broken(format!("{address}: {text}")),
        other => other,
    }
}
