//! The keys that tokens are verified with: the shared secret and the key sets
//! that the issuers publish (RFC 7517).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;

use super::age;
use super::token::{Fingerprint, Token, TokenFault};

/// A key set older than this verifies nothing.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// A key set older than this is fetched again.
const REFRESH_AFTER: Duration = Duration::from_secs(10 * 60);
/// The time between two fetches, however many unknown keys are named.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// Longer key sets are refused.
const MAX_BYTES: usize = 256 * 1024;
/// Larger key sets are refused: a token that names no key is tried with each.
const MAX_KEYS: usize = 32;
/// RFC 7518, section 3.2: no shared secret is shorter than the hash.
const MIN_SECRET_BYTES: usize = 32;

/// Why a key set was not taken over. The one before stays in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is no JSON object with a list `keys`.
    #[error("The key set is not a JSON object with a list \"keys\"; check auth.jwks_url")]
    Malformed,
    /// It has more bytes than any key set needs.
    #[error("The key set has {0} bytes, {MAX_BYTES} are allowed; check auth.jwks_url")]
    TooLong(usize),
    /// It has more keys than a token may be tried with.
    #[error("The key set has {0} keys, {MAX_KEYS} are allowed; remove keys that are no longer used")]
    TooManyKeys(usize),
    /// No such source was configured.
    #[error("There is no key set source number {0}")]
    UnknownSource(usize),
}

/// What the keys say about a token's signature. Times are another matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The key with this fingerprint made it.
    Verified(Fingerprint),
    /// It can't have been made by the key that it names.
    Invalid(TokenFault),
    /// No key here can tell.
    Unverifiable {
        /// A newer key set may hold the key.
        unknown_key: bool,
    },
}

/// One key with the one algorithm that it is for.
pub(super) struct VerificationKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    fingerprint: Fingerprint,
}

impl VerificationKey {
    /// The project's shared secret, for HS256.
    pub(super) fn shared_secret(secret: &[u8]) -> Self {
        Self::new(None, Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    /// The fingerprint is of what verifies, so that a key that is published
    /// again with other remarks is the same.
    fn new(id: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Self {
        let name = id.as_deref().map(str::as_bytes);
        let is_named = [u8::from(name.is_some())];
        let algorithm_name = format!("{algorithm:?}");
        let material: [&[u8]; 2] = match key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => [bytes, b""],
            DecodingKeyKind::RsaModulusExponent { n, e } => [n, e],
        };
        let fingerprint = Fingerprint::of_parts(&[
            &is_named,
            name.unwrap_or_default(),
            algorithm_name.as_bytes(),
            material[0],
            material[1],
        ]);
        Self { id, algorithm, key, fingerprint }
    }

    /// A published key. `None` if it is of an unknown kind, for another
    /// purpose than signatures, or not well formed.
    fn from_jwk(jwk: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk.clone()).ok()?;
        let common = &jwk.common;
        let for_signatures = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature))
            && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let algorithm = algorithm_of(&jwk.algorithm)?;
        let as_declared =
            common.key_algorithm.is_none_or(|declared| declared == KeyAlgorithm::from(algorithm));
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (for_signatures && as_declared && is_well_formed(&key, algorithm))
            .then(|| Self::new(jwk.common.key_id.clone(), algorithm, key))
    }

    /// Whether this key made the token's signature.
    fn verifies(&self, token: &Token<'_>) -> bool {
        token.algorithm() == Some(self.algorithm)
            && matches!(
                jsonwebtoken::crypto::verify(
                    token.signature(),
                    token.signed().as_bytes(),
                    &self.key,
                    self.algorithm
                ),
                Ok(true)
            )
    }
}

/// A key is for one algorithm, by its kind and never by what a token says.
fn algorithm_of(parameters: &AlgorithmParameters) -> Option<Algorithm> {
    match parameters {
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Some(Algorithm::ES256),
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Some(Algorithm::EdDSA)
        }
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        // A shared secret that is published is nobody's secret.
        _ => None,
    }
}

/// jsonwebtoken takes key material of any length and slices it when it verifies.
fn is_well_formed(key: &DecodingKey, algorithm: Algorithm) -> bool {
    match (algorithm, key.try_get_as_bytes()) {
        (Algorithm::HS256, Ok(secret)) => secret.len() >= MIN_SECRET_BYTES,
        (Algorithm::ES256, Ok(point)) => point.len() == 65,
        (Algorithm::EdDSA, Ok(point)) => point.len() == 32,
        // An RSA key is two numbers; what is wrong with them is found when it verifies.
        (Algorithm::RS256, Err(_)) => true,
        _ => false,
    }
}

/// What one source published, and when it was fetched.
struct KeySet {
    keys: Vec<VerificationKey>,
    fetched: SystemTime,
}

impl KeySet {
    fn is_usable(&self, now: SystemTime) -> bool {
        age(self.fetched, now).is_some_and(|age| age <= MAX_AGE)
    }

    fn is_recent(&self, now: SystemTime) -> bool {
        age(self.fetched, now).is_some_and(|age| age < REFRESH_AFTER)
    }
}

/// Every key there is. A change makes a new ring.
#[derive(Clone)]
pub(super) struct KeyRing {
    secret: Option<Arc<VerificationKey>>,
    sources: Vec<Option<Arc<KeySet>>>,
}

impl KeyRing {
    /// The secret, if any, and room for so many key sets.
    pub(super) fn new(secret: Option<&[u8]>, sources: usize) -> Self {
        let secret = secret.filter(|secret| !secret.is_empty());
        Self {
            secret: secret.map(|secret| Arc::new(VerificationKey::shared_secret(secret))),
            sources: vec![None; sources],
        }
    }

    /// The ring with a newer key set of one source.
    pub(super) fn with_key_set(
        &self,
        source: usize,
        keys: Vec<VerificationKey>,
        now: SystemTime,
    ) -> Result<Self, JwksError> {
        let mut ring = self.clone();
        *ring.sources.get_mut(source).ok_or(JwksError::UnknownSource(source))? =
            Some(Arc::new(KeySet { keys, fetched: now }));
        Ok(ring)
    }

    /// The keys that count at `now`.
    fn keys(&self, now: SystemTime) -> impl Iterator<Item = &VerificationKey> {
        let published =
            self.sources.iter().flatten().filter(move |set| set.is_usable(now)).flat_map(|set| &set.keys);
        self.secret.as_deref().into_iter().chain(published)
    }

    /// The fingerprints of the keys that count at `now`.
    pub(super) fn in_use(&self, now: SystemTime) -> Vec<Fingerprint> {
        self.keys(now).map(|key| key.fingerprint).collect()
    }

    /// Whether the key with this fingerprint still counts.
    pub(super) fn holds(&self, key: &Fingerprint, now: SystemTime) -> bool {
        self.keys(now).any(|held| held.fingerprint == *key)
    }

    /// Whether some source has no recent key set.
    fn is_due(&self, now: SystemTime) -> bool {
        self.sources.iter().any(|set| !set.as_ref().is_some_and(|set| set.is_recent(now)))
    }

    /// Who made the token's signature.
    ///
    /// A token is tried with the keys that have its `kid`, or none; without a
    /// `kid`, with all. It is called invalid only where it is certain which
    /// key ought to have made it: the named one, or the shared secret where
    /// no key is named. In doubt it is unverifiable, which costs sharing.
    pub(super) fn judge(&self, token: &Token<'_>, now: SystemTime) -> Verdict {
        if token.is_unsigned() {
            return Verdict::Invalid(TokenFault::Algorithm);
        }
        let named = |key: &&VerificationKey| token.key_id().is_some_and(|id| key.id.as_deref() == Some(id));
        let candidate = |key: &&VerificationKey| token.key_id().is_none() || key.id.is_none() || named(key);
        if let Some(key) = self.keys(now).filter(candidate).find(|key| key.verifies(token)) {
            return Verdict::Verified(key.fingerprint);
        }
        let algorithm = token.algorithm();
        if self.keys(now).any(|key| named(&key)) {
            let is_for_it = self.keys(now).filter(named).any(|key| Some(key.algorithm) == algorithm);
            return Verdict::Invalid(if is_for_it { TokenFault::Signature } else { TokenFault::Algorithm });
        }
        let is_symmetric = algorithm == Some(Algorithm::HS256);
        if token.key_id().is_none() && is_symmetric && self.secret.is_some() {
            return Verdict::Invalid(TokenFault::Signature);
        }
        // Shared secrets are published by hardly anybody: no reason to ask again.
        let unknown_key = token.key_id().is_some() && algorithm.is_some() && !is_symmetric;
        Verdict::Unverifiable { unknown_key }
    }
}

/// Reads a key set. Keys that can't be used are left out. No bytes at all are
/// a set without keys, as a project without a key set has it.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<VerificationKey>, JwksError> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
    }
    if bytes.len() > MAX_BYTES {
        return Err(JwksError::TooLong(bytes.len()));
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let Document { keys } = serde_json::from_slice(bytes).map_err(|_| JwksError::Malformed)?;
    if keys.len() > MAX_KEYS {
        return Err(JwksError::TooManyKeys(keys.len()));
    }
    Ok(keys.iter().filter_map(VerificationKey::from_jwk).collect())
}

/// When the key sets were last asked for, and whether a key was missed since.
#[derive(Default)]
pub(super) struct RefreshClock {
    asked: Option<SystemTime>,
    missed_a_key: bool,
}

impl RefreshClock {
    /// A token named a key that no set has.
    pub(super) fn miss(&mut self) {
        self.missed_a_key = true;
    }

    /// Whether to fetch now; who is told so does it.
    pub(super) fn claim(&mut self, ring: &KeyRing, now: SystemTime) -> bool {
        let cooled_down = self.asked.and_then(|asked| age(asked, now)).is_none_or(|age| age >= COOL_DOWN);
        let due = !ring.sources.is_empty() && cooled_down && (self.missed_a_key || ring.is_due(now));
        if due {
            *self = Self { asked: Some(now), missed_a_key: false };
        }
        due
    }
}
