//! With which token a queued write is replayed.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, header};

use super::Replayer;
use crate::route::CredentialMode;
use crate::store::journal::WriteId;
use crate::write::record::Record;
use crate::write::remint::remint;
use crate::write::seal::Credential;

const API_KEY: &str = "apikey";

/// What a replay shows upstream.
pub(super) struct Shown {
    token: String,
    api_key: Option<String>,
}

impl Replayer {
    /// The newest token with the write's own rights that holds now and that upstream hasn't refused. `None`: there is none.
    pub(super) fn credential(&self, record: &Record, id: WriteId, now: SystemTime) -> Option<Shown> {
        let own = match record.credential(&self.queue.sealer, id) {
            Ok(own) => Some(own),
            Err(error) => {
                tracing::warn!(%id, %error, "the token of a queued write can't be opened");
                None
            }
        };
        let newer = self.queue.wallet.newest(&record.rights, now);
        let holds = |own: &&Credential| {
            own.expires.is_none_or(|expires| expires > crate::postgrest::timestamp::Micros::of(now))
                && !self.queue.wallet.was_refused(&record.rights, &own.token)
        };
        Some(match (newer, own.as_ref().filter(holds)) {
            (Some(newer), own) => {
                let beside = newer.api_key().or(own.and_then(|own| own.api_key.as_deref()));
                Shown { token: newer.expose().to_owned(), api_key: beside.map(str::to_owned) }
            }
            (None, Some(own)) => Shown { token: own.token.clone(), api_key: own.api_key.clone() },
            (None, None) => {
                let own = own?;
                Shown { token: self.reminted(record, &own, now)?, api_key: own.api_key }
            }
        })
    }

    /// A token with the claims of the one that the write came with.
    fn reminted(&self, record: &Record, own: &Credential, now: SystemTime) -> Option<String> {
        let CredentialMode::Remint { max } = record.credentials else { return None };
        let settings = self.gateway.settings();
        let secret = settings.config.auth.jwt_secret.as_ref()?;
        remint(&own.token, secret.expose().as_bytes(), now, max)
            .inspect_err(|error| tracing::debug!(%error, "no token made"))
            .ok()
    }
}

impl Shown {
    /// The token, to be refused by name.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Adds it to the headers of a request.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.token));
        let api_key = self.api_key.as_deref().map(HeaderValue::from_str);
        for (name, value) in
            [(header::AUTHORIZATION, Some(bearer)), (http::HeaderName::from_static(API_KEY), api_key)]
        {
            if let Some(Ok(mut value)) = value {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
    }
}
