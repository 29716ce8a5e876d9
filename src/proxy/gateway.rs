//! What all requests share: the settings of the moment, which a reload
//! replaces, and the cache, which outlives them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use http::HeaderMap;
use pingora::protocols::tls::CaType;
use tokio::sync::Semaphore;

use super::endpoint::streams::Streams;
use super::fill::Flights;
use super::front::index::Index;
use super::front::spelling::Speller;
use super::invalidate::Invalidator;
use super::preflight::Preflights;
use crate::cache::{Collapse, CollapseLimits, Entry, Generations, Key, Memory, TagPrints, VaryNames};
use crate::config::Config;
use crate::cors::Cors;
use crate::identity::{AuthSettings, Authenticator, JwksError, WriterId};
use crate::plan::{ReadPlan, Rules};
use crate::postgrest::schema::Schemas;
use crate::request::Dialect;
use crate::route::{ReadPolicy, RouteTable, Scope};
use crate::store::{Patience, Shared};
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Client, ClientSettings, Resolver, SettingsError, Trust, TrustError, clock_skew};
use crate::write::queue::Queue;

/// Fills at the same time. Beyond, requests are forwarded, each on its own connection.
const MAX_FILLS: usize = 1024;

/// One configuration, and what was made of it.
pub struct Settings {
    /// The configuration.
    pub config: Config,
    /// Who is who.
    pub authenticator: Authenticator,
    /// What is known of upstream's schemas; refreshed behind requests.
    pub schemas: ArcSwap<Schemas>,
    /// Upstream's addresses.
    pub resolver: Arc<Resolver>,
    /// Sends fills, refreshes and preflights.
    pub client: Client,
    /// Trust roots for forwarded requests, where they are not the machine's own.
    pub trusted_roots: Option<Arc<CaType>>,
    /// CORS on answers that Sluice makes itself.
    pub cors: Cors,
    /// `upstream.url` as `Location` headers begin.
    pub upstream_url: String,
    /// Spells requests for the front.
    pub speller: Speller,
    /// `Vary` by route's name, for each dialect.
    vary: HashMap<String, [Arc<VaryNames>; 3]>,
    edition: AtomicU64,
    /// Whether upstream's answers have named another default schema than the configured one.
    default_schema_is_wrong: AtomicBool,
}

/// Why a configuration that was checked can't be put to use.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFailure {
    /// The trust roots.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The upstream.
    #[error(transparent)]
    Client(#[from] SettingsError),
}

impl Settings {
    /// Makes of `config` what requests need. Reads the trust roots from disk.
    ///
    /// # Errors
    ///
    /// [`SettingsFailure`] where `upstream.ca_file` or `upstream.host` can't be used.
    pub fn new(config: Config) -> Result<Self, SettingsFailure> {
        let upstream = &config.upstream;
        let trust = Trust::load(upstream.ca_file.as_deref())?;
        let resolver = Resolver::new(&upstream.url.host, upstream.url.port, upstream.connect_timeout);
        let trusted_roots = trust.pingora_ca();
        let client = Client::new(
            ClientSettings {
                tls: upstream.url.tls,
                host: upstream.url.host.clone(),
                port: upstream.url.port,
                base_path: upstream.url.base_path.clone(),
                sni: upstream.sni().to_owned(),
                host_header: upstream.host_header(),
                connect_timeout: upstream.connect_timeout,
                response_timeout: upstream.response_timeout,
            },
            resolver.clone(),
            trust,
        )?;
        let auth = &config.auth;
        let authenticator = Authenticator::new(&AuthSettings {
            jwt_secret: auth.jwt_secret.as_ref().map(|secret| secret.expose().as_bytes().to_vec()),
            api_keys: auth.api_keys.iter().map(|key| key.expose().as_bytes().to_vec()).collect(),
            leeway: auth.leeway,
            jwks_sources: auth.jwks_urls.len(),
        });
        let cors = Cors::new(&config.cors.allow_origins, config.cors.max_age);
        Ok(Self {
            authenticator,
            schemas: ArcSwap::default(),
            resolver,
            client,
            trusted_roots,
            speller: speller(&config.routes),
            vary: vary(&config.routes, &cors),
            cors,
            upstream_url: upstream.url.to_string(),
            edition: AtomicU64::new(next_edition()),
            default_schema_is_wrong: AtomicBool::new(false),
            config,
        })
    }

    /// The edition of what requests are planned by. Once anything of it has
    /// changed it is another one, which no other settings ever had.
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::SeqCst)
    }

    /// Whether no answer of upstream has contradicted the configured default schema.
    pub fn default_schema_holds(&self) -> bool {
        !self.default_schema_is_wrong.load(Ordering::Relaxed)
    }

    /// Notes that an answer of upstream contradicts the configured default schema.
    pub fn contradict_default_schema(&self) {
        self.default_schema_is_wrong.store(true, Ordering::Relaxed);
    }

    /// Puts newly fetched descriptions in the place of the old.
    pub fn set_schemas(&self, described: Schemas) {
        if **self.schemas.load() != described {
            self.schemas.store(Arc::new(described));
            self.renew_edition();
        }
    }

    /// Puts a source's newly fetched key set in the place of its last one, as
    /// [`Authenticator::set_jwks`] does. How many keys of it can be used.
    ///
    /// # Errors
    ///
    /// [`JwksError`] if it is no key set; the last one stays.
    pub fn set_jwks(&self, source: usize, jwks: &[u8], now: SystemTime) -> Result<usize, JwksError> {
        let before = self.authenticator.keys_in_use(now);
        let usable = self.authenticator.set_jwks(source, jwks, now)?;
        if self.authenticator.keys_in_use(now) != before {
            self.renew_edition();
        }
        Ok(usable)
    }

    fn renew_edition(&self) {
        self.edition.store(next_edition(), Ordering::SeqCst);
    }

    /// The `Vary` of answers to `plan`.
    pub fn vary(&self, plan: &ReadPlan) -> Arc<VaryNames> {
        match self.vary.get(&plan.route.name) {
            Some(names) => names[plan.dialect as usize].clone(),
            None => Arc::new(vary_names(&plan.policy, plan.dialect, &self.cors)),
        }
    }

    /// Calls `decide` with the rules of the moment.
    pub fn with_rules<T>(&self, decide: impl FnOnce(Rules<'_>, SystemTime) -> T) -> T {
        let schemas = self.schemas.load();
        let rules = Rules {
            routes: &self.config.routes,
            default_schema: &self.config.upstream.default_schema,
            authenticator: &self.authenticator,
            schemas: &schemas,
        };
        decide(rules, SystemTime::now())
    }
}

/// Numbers that no settings had before.
fn next_edition() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::SeqCst) + 1
}

fn speller(routes: &RouteTable) -> Speller {
    let varied = routes.iter().filter_map(|route| route.read.as_ref()).flat_map(|policy| policy.vary.clone());
    // The standard library's hashers are keyed by the system's random numbers.
    let half = |place: u8| RandomState::new().hash_one(place).to_le_bytes();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&half(0));
    key[8..].copy_from_slice(&half(1));
    Speller::new(key, varied)
}

fn vary(routes: &RouteTable, cors: &Cors) -> HashMap<String, [Arc<VaryNames>; 3]> {
    let read = routes.iter().filter_map(|route| Some((&route.name, route.read.as_ref()?)));
    let names = |policy| Dialect::ALL.map(|dialect| Arc::new(vary_names(policy, dialect, cors)));
    read.map(|(name, policy)| (name.clone(), names(policy))).collect()
}

fn vary_names(policy: &ReadPolicy, dialect: Dialect, cors: &Cors) -> VaryNames {
    VaryNames::new(dialect, policy.scope != Scope::Public, &policy.vary, cors.varies())
}

/// Where answers are kept.
pub struct Stores {
    /// In this process.
    pub memory: Arc<Memory>,
    /// What is known of requests by their spelling.
    pub index: Index,
    /// What voids them.
    pub generations: Arc<Generations>,
    /// For all nodes. `None`: this process is alone.
    pub shared: Option<Arc<Shared>>,
    /// Deferred writes. `None`: no route defers any.
    pub queue: Option<Arc<Queue>>,
}

/// What all requests share.
pub struct Gateway {
    settings: ArcSwap<Settings>,
    /// The answers in memory.
    pub memory: Arc<Memory>,
    /// What the front knows of requests by their spelling.
    pub index: Index,
    /// The store that all nodes share. `None`: this process is alone.
    pub shared: Option<Arc<Shared>>,
    /// The generations of their tags.
    pub generations: Arc<Generations>,
    /// The fetches under way.
    pub flights: Flights,
    /// Places for fills: they outlive the requests that began them.
    pub fills: Arc<Semaphore>,
    /// Whether the process is stopping: answers then say `Connection: close`.
    pub stopping: Arc<AtomicBool>,
    /// Answers to CORS preflights.
    pub preflights: Preflights,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Deferred writes. `None`: no route defers any.
    pub queue: Option<Arc<Queue>>,
    /// The open streams of events.
    pub streams: Arc<Streams>,
    /// Whether upstream's clock was off when it was last looked at.
    is_skewed: AtomicBool,
}

impl Gateway {
    /// A gateway with nothing under way.
    pub fn new(settings: Settings, stores: Stores, metrics: Arc<Metrics>) -> Self {
        let Stores { memory, index, generations, shared, queue } = stores;
        Self {
            settings: ArcSwap::from_pointee(settings),
            memory,
            index,
            shared,
            flights: Collapse::new(CollapseLimits::default()),
            fills: Arc::new(Semaphore::new(MAX_FILLS)),
            stopping: Arc::new(AtomicBool::new(false)),
            preflights: Preflights::new(),
            metrics,
            streams: Arc::new(Streams::new(
                queue.as_ref().map(|queue| queue.journal.as_ref()),
                generations.changes().clone(),
            )),
            generations,
            queue,
            is_skewed: AtomicBool::new(false),
        }
    }

    /// Compares upstream's clock with this machine's, by the `Date` of an answer that has just come.
    pub fn note_clock(&self, headers: &HeaderMap) {
        let Some(skew) = clock_skew(headers, SystemTime::now()) else { return };
        self.metrics.set_clock_skew(skew);
        // `Date` has whole seconds: it is off by half of one either way.
        let is_skewed = skew.abs() > 1.5;
        if self.is_skewed.swap(is_skewed, Ordering::Relaxed) != is_skewed {
            if is_skewed {
                tracing::warn!(
                    seconds = skew,
                    "upstream's clock is off by more than a second: set this machine's by NTP"
                );
            } else {
                tracing::info!(seconds = skew, "upstream's clock agrees again");
            }
        }
    }

    /// Whether deferred writes of this person are queued.
    pub fn has_queued(&self, writer: WriterId) -> bool {
        self.queue.as_ref().is_some_and(|queue| !queue.is_idle(writer))
    }

    /// The answer to `plan` in this process, if it may still be used. `head`:
    /// the request is a HEAD.
    pub fn remembered(&self, plan: &ReadPlan, head: bool) -> Option<Entry> {
        self.recall(&plan.key, plan.entry_tags.prints(), head)
    }

    /// The answer under `key` in this process, if it carries these tags and
    /// may still be used.
    pub fn recall(&self, key: &Key, tags: TagPrints, head: bool) -> Option<Entry> {
        // First, since what is heard of meanwhile moves generations.
        if !self.is_in_touch() {
            return None;
        }
        self.memory.get(key, tags, head, &self.generations)
    }

    /// Whether this process hears of what others write.
    pub fn is_in_touch(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.is_in_touch())
    }

    /// Forgets the answer under `key`, on all nodes.
    pub async fn forget(&self, key: &Key) {
        self.memory.remove(key);
        if let Some(shared) = &self.shared {
            shared.remove(key, &Patience::new()).await;
        }
    }

    /// The settings of the moment, to be kept for one request.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The settings of the moment, for a glance.
    pub fn peek(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Puts new settings in the place of the old; requests under way keep theirs.
    pub fn replace(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Invalidates with the times of the settings of the moment.
    pub fn invalidator(&self, settings: &Settings) -> Invalidator {
        let upstream = &settings.config.upstream;
        Invalidator::new(
            self.generations.clone(),
            self.shared.clone(),
            self.metrics.clone(),
            upstream.settle,
            upstream.response_timeout,
        )
    }
}

#[cfg(test)]
pub(super) mod tests;
