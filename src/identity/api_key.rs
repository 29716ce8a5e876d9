//! API keys: what one is, and which are known to be good.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use super::admission::KeyProof;
use super::token::{Fingerprint, UnverifiableToken, VerifiedToken, is_anonymous_key};
use super::{Identity, age};

/// How long upstream's acceptance of a key counts.
const LEARNED_FOR: Duration = Duration::from_secs(5 * 60);
/// How many learned keys are remembered.
const MAX_LEARNED: usize = 1024;

/// The prefix of a key that passes row level security.
pub(super) const SECRET_PREFIX: &[u8] = b"sb_secret_";
/// The prefix of a key that may be public.
const PUBLISHABLE_PREFIX: &[u8] = b"sb_publishable_";

/// The API key of a request.
#[derive(Debug, Clone)]
pub(super) enum ApiKey {
    /// The request needs none, and none is sent on.
    Unneeded,
    /// The request has none.
    Absent,
    /// A token that a key here verified.
    Verified(Arc<VerifiedToken>),
    /// Anything else.
    Opaque(OpaqueKey),
}

impl ApiKey {
    /// Who a caller is that has this key and nothing else.
    pub(super) fn identity(&self) -> Identity {
        match self {
            ApiKey::Verified(token) => Identity::Token(token.clone()),
            ApiKey::Opaque(key) => Identity::Key(key.fingerprint),
            ApiKey::Absent | ApiKey::Unneeded => Identity::Anonymous,
        }
    }

    /// Whether it may be sent on behalf of anybody: no key, a project's
    /// anonymous or publishable one, or one that the configuration lists.
    pub(super) fn is_anonymous(&self) -> bool {
        match self {
            ApiKey::Unneeded | ApiKey::Absent => true,
            ApiKey::Verified(token) => is_anonymous_key(token.claims()),
            ApiKey::Opaque(key) => key.is_anonymous,
        }
    }
}

/// A key that only upstream can judge.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpaqueKey {
    pub(super) fingerprint: Fingerprint,
    /// Whether the configuration names it.
    pub(super) is_listed: bool,
    /// Whether it may be sent on behalf of anybody.
    pub(super) is_anonymous: bool,
    /// What it says of itself, if it is a token.
    pub(super) token: Option<UnverifiableToken>,
}

/// Whether a key was sent by itself or beside a bearer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Company {
    Alone,
    BesideBearer,
}

/// The keys known to be good: those of the configuration for ever, those that
/// upstream accepted for a while.
pub(super) struct GoodKeys {
    listed: HashSet<Fingerprint>,
    /// The key (`None`: no key at all), how it was sent, and when upstream took it.
    learned: Cache<(Option<Fingerprint>, Company), SystemTime>,
}

impl GoodKeys {
    /// Knows `listed` and has learned nothing.
    pub(super) fn new<'a>(listed: impl Iterator<Item = &'a [u8]>) -> Self {
        Self { listed: listed.map(Fingerprint::of).collect(), learned: Cache::new(MAX_LEARNED) }
    }

    /// What is to be known of a key that no key here verifies; `token` is what
    /// it says of itself.
    pub(super) fn describe(&self, key: &[u8], token: Option<UnverifiableToken>) -> OpaqueKey {
        let fingerprint = Fingerprint::of(key);
        let is_listed = self.listed.contains(&fingerprint);
        let is_anonymous = match token {
            Some(token) => token.is_anonymous_key,
            None => is_listed || key.starts_with(PUBLISHABLE_PREFIX),
        };
        OpaqueKey { fingerprint, is_listed, is_anonymous, token }
    }

    /// Whether a key that was sent like this may be answered from the cache. A
    /// verified key is good here; its own life is its owner's business.
    pub(super) fn is_good(&self, key: &KeyProof, company: Company, now: SystemTime) -> bool {
        match key {
            KeyProof::Unneeded | KeyProof::Signed(_) => true,
            KeyProof::Absent => self.was_learned(None, company, now),
            KeyProof::Opaque { fingerprint, is_listed, lifetime } => {
                !lifetime.is_some_and(|lifetime| lifetime.has_ended(now))
                    && (*is_listed || self.was_learned(Some(*fingerprint), company, now))
            }
        }
    }

    fn was_learned(&self, key: Option<Fingerprint>, company: Company, now: SystemTime) -> bool {
        let learned = self.learned.get(&(key, company));
        learned.and_then(|learned| age(learned, now)).is_some_and(|age| age < LEARNED_FOR)
    }

    /// Upstream took this key, sent like this.
    pub(super) fn learn(&self, key: &ApiKey, company: Company, now: SystemTime) {
        match key {
            ApiKey::Absent => self.learned.insert((None, company), now),
            ApiKey::Opaque(key) if !key.is_listed => {
                self.learned.insert((Some(key.fingerprint), company), now);
            }
            ApiKey::Unneeded | ApiKey::Verified(_) | ApiKey::Opaque(_) => {}
        }
    }
}
