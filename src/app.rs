//! The running process: its parts, what goes on behind requests, and its end.

pub(crate) mod refresh;
mod reload;
mod replayer;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::replayer::Replayer;
use crate::admin::{Admin, Readiness};
use crate::cache::{EvictionReason, Generations, Memory};
use crate::config::{self, Config, ListenAddress, StoreKind};
use crate::postgrest::timestamp::Micros;
use crate::proxy::front::Front;
use crate::proxy::front::hit::Hits;
use crate::proxy::front::index::Index;
use crate::proxy::gateway::{Gateway, Settings, SettingsFailure, Stores};
use crate::proxy::listener::{BindError, Listener};
use crate::proxy::phases::Phases;
use crate::proxy::tls::{self, CertificateError};
use crate::store::journal::{self, Embedded, Journal, Limits, Options};
use crate::store::{Local, OpenError, Shared};
use crate::telemetry::metrics::Metrics;
use crate::write::queue::Queue;
use crate::write::seal::{KeyFileError, SealError, Sealer};
use crate::write::wallet::Wallet;

/// Connections to upstream that are kept for the next request.
const KEPT_CONNECTIONS: usize = 1024;
/// The key that seals tokens, beside the journal.
const KEY_FILE: &str = "secret.key";
/// One part in so many of the memory is the index'.
const INDEX_SHARE: u64 = 8;
/// How long the start waits for keys and schemas, so that the first requests
/// already find them. Without them Sluice starts as well.
const FIRST_REFRESH: Duration = Duration::from_secs(1);

/// Why Sluice does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration can't be put to use.
    #[error(transparent)]
    Settings(#[from] SettingsFailure),
    /// Certificate or key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The journal of deferred writes.
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    /// The key that seals tokens in the journal.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The secret that seals tokens in the journal.
    #[error(transparent)]
    Secret(#[from] SealError),
    /// The process can't be told to stop.
    #[error("Can't listen for signals: {0}.")]
    Signal(#[from] std::io::Error),
}

/// Serves until SIGTERM or SIGINT, then stops gracefully; a second signal
/// ends it at once. `load` reads the configuration again on SIGHUP.
///
/// # Errors
///
/// [`AppError`] if it can't start.
pub async fn serve(config: Config, load: impl Fn() -> Result<Config, String>) -> Result<(), AppError> {
    let mut signals = Signals::new()?;
    let metrics = Arc::new(Metrics::new());
    let settings = Settings::new(config.clone())?;
    let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let acceptor = Arc::new(ArcSwapOption::from(acceptor.map(Arc::new)));
    let stores = stores(&config, &metrics).await?;
    let queue = stores.queue.clone();
    let gateway = Arc::new(Gateway::new(settings, stores, metrics.clone()));
    let listeners = config.listen.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
    let admin_listener = Listener::bind(&ListenAddress::Tcp(config.admin_listen))?;

    // Keys that come later make a difference to nobody's safety, only to hits.
    let _ = tokio::time::timeout(FIRST_REFRESH, refresh::once(&gateway.settings())).await;
    tokio::spawn(refresh::forever(gateway.clone()));

    let (stop, stopped) = watch::channel(false);
    let (alive, mut last) = mpsc::channel(1);
    tokio::spawn(gateway.streams.clone().deliver());
    let replays =
        queue.clone().map(|queue| tokio::spawn(Replayer::new(gateway.clone(), queue).run(stopped.clone())));
    let proxy = proxy(&config, gateway.clone());
    let hits = Hits::new(gateway.clone());
    let front = Arc::new(Front::new(proxy.clone(), hits, &config, acceptor.clone(), metrics.clone()));
    let readiness = Readiness::new();
    // Listening sockets take connections from here on, and what they bring is served.
    readiness.set(true);
    let admin = Arc::new(Admin::new(metrics, readiness.clone(), sampler(gateway.clone())));
    tracing::info!(role = "admin", address = admin_listener.address(), "listening");
    if let Listener::Tcp(listener) = admin_listener {
        tokio::spawn(admin.serve(listener, stopped.clone()));
    }
    for listener in listeners {
        tracing::info!(role = "proxy", address = listener.address(), "listening");
        tokio::spawn(front.clone().serve(listener, stopped.clone(), alive.clone()));
    }
    drop(alive);

    let reloader = reload::Reloader::new(gateway.clone(), acceptor, load);
    signals.until_stop(|| reloader.reload()).await;

    readiness.set(false);
    gateway.stopping.store(true, Ordering::Relaxed);
    tracing::info!(delay = ?config.stop_delay, timeout = ?config.stop_timeout, "stopping");
    let drain = async {
        tokio::time::sleep(config.stop_delay).await;
        // Receivers that are gone have stopped already.
        let _ = stop.send(true);
        gateway.streams.close();
        proxy.http_cleanup().await;
        tokio::time::timeout(config.stop_timeout, last.recv()).await
    };
    tokio::select! {
        drained = drain => match drained {
            Ok(_) => tracing::info!("stopped"),
            Err(_) => tracing::warn!("stopped with requests under way: stop_timeout is over"),
        },
        () = signals.stop_signal() => tracing::warn!("stopped at once: told so twice"),
    }
    if let Some(replays) = replays {
        // What is in flight has its time; what is queued is durable, and goes on at the next start.
        let _ = tokio::time::timeout(config.stop_timeout, replays).await;
    }
    if let Some(queue) = queue {
        queue.journal.close().await;
    }
    if let Some(shared) = &gateway.shared {
        shared.leave(config.stop_timeout).await;
    }
    Ok(())
}

fn proxy(config: &Config, gateway: Arc<Gateway>) -> Arc<HttpProxy<Phases>> {
    let conf = ServerConf {
        threads: config.workers.max(1),
        upstream_keepalive_pool_size: KEPT_CONNECTIONS,
        ..ServerConf::default()
    };
    let mut proxy = pingora::proxy::http_proxy(&Arc::new(conf), Phases::new(gateway));
    let mut options = pingora::apps::HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(config.limits.idle_timeout);
    proxy.server_options = Some(options);
    let mut h2 = default_h2_options();
    h2.max_header_list_size(u32::try_from(config.limits.max_header_bytes).unwrap_or(u32::MAX));
    proxy.h2_options = Some(h2);
    Arc::new(proxy)
}

/// The cache in this process, and the one that all nodes share if there is one.
async fn stores(config: &Config, metrics: &Arc<Metrics>) -> Result<Stores, AppError> {
    let index = config.store.memory / INDEX_SHARE;
    let memory = Arc::new(Memory::new(config.store.memory - index));
    let generations = Arc::new(Generations::new());
    let shared = match &config.store.kind {
        StoreKind::Embedded => None,
        StoreKind::Redis(store) => {
            let local =
                Local { memory: memory.clone(), generations: generations.clone(), metrics: metrics.clone() };
            Some(Shared::open(store, &config.upstream, local).await?)
        }
    };
    Ok(Stores { memory, index: Index::new(index), generations, shared, queue: queue(config).await? })
}

/// Where deferred writes are queued. `None`: no route defers any.
async fn queue(config: &Config) -> Result<Option<Arc<Queue>>, AppError> {
    let folder = config.store.path.clone();
    let defers = config.routes.iter().any(|route| route.write.is_some());
    // What was queued goes on where nothing is deferred any longer, too.
    if let StoreKind::Redis(_) = config.store.kind {
        if Embedded::is_in(&folder) {
            tracing::warn!(folder = %folder.display(), "there is a journal that is not read: store.kind is redis");
        }
        return Ok(None);
    }
    if !(defers || Embedded::is_in(&folder)) {
        return Ok(None);
    }
    let options = Options {
        folder: folder.clone(),
        upstream: config.upstream.identity(),
        limits: limits(&config.queue),
    };
    let opened = tokio::task::spawn_blocking(move || Embedded::open(&options));
    let journal = opened.await.map_err(std::io::Error::other)??;
    let sealer = match &config.secret {
        Some(secret) => Sealer::from_secret(secret.expose().as_bytes())?,
        None => Sealer::generated(&folder.join(KEY_FILE))?,
    };
    let depth = journal.depth().writes;
    tracing::info!(folder = %folder.display(), writes = depth, "journal opened");
    Ok(Some(Arc::new(Queue { journal: Arc::new(journal), sealer, wallet: Wallet::default() })))
}

/// How much may be queued and in flight.
fn limits(queue: &config::Queue) -> Limits {
    Limits {
        max_writes: queue.max_writes,
        max_writes_per_caller: queue.max_writes_per_caller,
        concurrency: queue.concurrency,
    }
}

/// Sets the metrics that are looked up rather than counted.
fn sampler(gateway: Arc<Gateway>) -> impl Fn(&Metrics) + Send + Sync {
    move |metrics| {
        metrics.set_cache(gateway.memory.entries(), gateway.memory.bytes() + gateway.index.bytes());
        // The embedded store is this process.
        if let Some(queue) = &gateway.queue {
            let depth = queue.journal.depth();
            let now = Micros::of(SystemTime::now());
            let age = depth.oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0));
            metrics.set_queue(depth.writes, Duration::from_micros(u64::try_from(age).unwrap_or_default()));
        }
        let takes_writes = gateway.queue.as_ref().is_none_or(|queue| queue.journal.failure().is_none());
        metrics.set_store_up(takes_writes && gateway.shared.as_ref().is_none_or(|shared| shared.is_ready()));
        for reason in EvictionReason::ALL {
            metrics.set_evicted(reason.as_str(), gateway.memory.evictions(reason));
        }
    }
}

/// What operators tell a process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn stop_signal(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Calls `reload` on each SIGHUP, until a signal to stop.
    async fn until_stop<F: Future<Output = ()>>(&mut self, reload: impl Fn() -> F) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload().await,
            }
        }
    }
}
