//! Reading the configuration again.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use pingora::listeners::tls::Acceptor;

use super::{FIRST_REFRESH, limits, refresh};
use crate::config::{Config, Secret};
use crate::proxy::gateway::{Gateway, Settings};
use crate::proxy::tls;
use crate::tag::Tag;

/// Puts a new configuration in the place of the old one, or refuses it.
pub(super) struct Reloader<L> {
    gateway: Arc<Gateway>,
    /// What the process was started with.
    started: Arc<Settings>,
    acceptor: Arc<ArcSwapOption<Acceptor>>,
    load: L,
}

impl<L: Fn() -> Result<Config, String>> Reloader<L> {
    pub(super) fn new(gateway: Arc<Gateway>, acceptor: Arc<ArcSwapOption<Acceptor>>, load: L) -> Self {
        Self { started: gateway.settings(), gateway, acceptor, load }
    }

    /// Reads file, secrets and certificates. If anything is wrong with them
    /// the log says so and nothing changes.
    pub(super) async fn reload(&self) {
        match self.try_reload().await {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::error!(error, "configuration not reloaded, the old one stays"),
        }
    }

    async fn try_reload(&self) -> Result<(), String> {
        let config = (self.load)()?;
        let acceptor =
            config.tls.as_ref().map(tls::acceptor).transpose().map_err(|error| error.to_string())?;
        let old = self.gateway.settings();
        if config.upstream.identity() != old.config.upstream.identity() {
            if self.gateway.shared.is_some() {
                return Err("Another upstream takes another store.namespace, and with it a restart.".into());
            }
            if self.gateway.queue.is_some() {
                // What is queued is for the old one.
                return Err("Another upstream takes another store.path, and with it a restart.".into());
            }
        }
        warn_of_restarts(&self.started.config, &config);
        let settings = Settings::new(config).map_err(|error| error.to_string())?;
        if settings.upstream_url == old.upstream_url {
            // Until they are fetched again what was known holds.
            settings.set_schemas((**old.schemas.load()).clone());
        }
        // As at the start: better late keys than late settings.
        let _ = tokio::time::timeout(FIRST_REFRESH, refresh::once(&settings)).await;
        let moved = settings.upstream_url != old.upstream_url
            || settings.config.upstream.host != old.config.upstream.host;
        match &self.gateway.queue {
            Some(queue) => queue.journal.set_limits(limits(&settings.config.queue)),
            None if settings.config.routes.iter().any(|route| route.write.is_some()) => {
                tracing::warn!(setting = "route.write", "the first route that defers takes a restart");
            }
            None => {}
        }
        self.acceptor.store(acceptor.map(Arc::new));
        self.gateway.replace(settings);
        if moved {
            // Another upstream's answers are nobody's here.
            self.gateway.generations.advance(&[Tag::All.id()]);
            self.gateway.preflights.clear();
        }
        Ok(())
    }
}

/// Some settings are only read at the start.
fn warn_of_restarts(old: &Config, new: &Config) {
    let fixed = [
        ("listen", old.listen != new.listen),
        ("admin_listen", old.admin_listen != new.admin_listen),
        ("workers", old.workers != new.workers),
        ("proxy_protocol", old.proxy_protocol != new.proxy_protocol),
        ("limits", old.limits != new.limits),
        ("log", (&old.log.level, old.log.format) != (&new.log.level, new.log.format)),
        ("store", old.store != new.store),
        ("secret", old.secret.as_ref().map(Secret::expose) != new.secret.as_ref().map(Secret::expose)),
    ];
    for (setting, _) in fixed.into_iter().filter(|(_, changed)| *changed) {
        tracing::warn!(setting, "changed setting takes a restart");
    }
}
