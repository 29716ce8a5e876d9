//! Identity: who a caller is, whether that may be believed, and with whom he
//! shares entries.
//!
//! [`Authenticator::identify`] reads a request's credentials,
//! [`Authenticator::admit`] says whether they hold now, which is asked on
//! every hit, and [`partition`] names the callers who share an entry. A
//! [`Refusal`] is never an error for the client: his request bypasses the
//! cache, and upstream decides.

mod admission;
mod api_key;
mod credentials;
mod jwks;
mod partition;
mod token;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

pub use self::admission::Grounds;
use self::api_key::{ApiKey, Company, GoodKeys};
use self::credentials::Credentials;
pub use self::jwks::JwksError;
use self::jwks::{KeyRing, RefreshClock, Verdict};
pub use self::partition::{Partition, partition, rights};
pub use self::token::{Claims, Fingerprint, UnverifiableToken, VerifiedToken, WriterId};
use self::token::{Token, TokenFault, has_token_shape, is_anonymous_key, is_privileged};
use crate::postgrest::query::Query;
use crate::route::Scope;

/// How many verified tokens are remembered at most, and the least that one counts.
const MAX_TOKENS: usize = 65_536;
const MIN_TOKEN_WEIGHT: u64 = 1024;

/// How far a clock may step back before what was noted counts as unknown.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// What there is to know before the first request. Never printed: it has secrets.
#[derive(Clone, Default)]
pub struct AuthSettings {
    /// The secret of HS256, its bytes as they are.
    pub jwt_secret: Option<Vec<u8>>,
    /// Keys whose holders may be answered from the cache.
    pub api_keys: Vec<Vec<u8>>,
    /// What `exp`, `nbf` and `iat` are allowed to be off.
    pub leeway: Duration,
    /// How many key sets there are to fetch.
    pub jwks_sources: usize,
}

/// Why a request is not answered from the cache. It is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// A secret key or `service_role`: row level security does not apply.
    #[error("a credential passes row level security")]
    Privileged,
    /// A credential is there twice, or in two places that differ.
    #[error("it is unclear which credential counts")]
    Ambiguous,
    /// `Authorization` has another scheme than `Bearer`, or no token.
    #[error("the Authorization header holds no bearer token")]
    Scheme,
    /// A bearer that is neither a token nor the API key.
    #[error("the bearer is neither a JSON Web Token nor the API key")]
    ForeignBearer,
    /// A credential is too long to be looked into.
    #[error("a credential is too long")]
    TooLong,
    /// The token's time is over.
    #[error("the token has expired")]
    ExpiredToken,
    /// The token is malformed, not yet valid, or not signed by the key that it names.
    #[error("the token is not valid")]
    InvalidToken,
    /// The API key is neither listed nor lately accepted by upstream.
    #[error("the API key is not known to be good")]
    ApiKey,
    /// The API key has to be anybody's, since the route is public or nothing
    /// else tells who asks, and isn't known to be.
    #[error("the API key is not known to be anonymous")]
    NotAnonymous,
}

impl Refusal {
    /// The reason as `Cache-Status` gives it, in `detail`.
    pub fn detail(self) -> &'static str {
        match self {
            Refusal::Privileged => "privileged",
            Refusal::Ambiguous => "ambiguous-credentials",
            Refusal::Scheme => "authorization-scheme",
            Refusal::ForeignBearer => "opaque-token",
            Refusal::TooLong => "credentials-too-long",
            Refusal::ExpiredToken => "expired-token",
            Refusal::InvalidToken => "invalid-token",
            Refusal::ApiKey => "api-key",
            Refusal::NotAnonymous => "api-key-not-anonymous",
        }
    }
}

impl From<TokenFault> for Refusal {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Expired => Refusal::ExpiredToken,
            TokenFault::Malformed
            | TokenFault::Algorithm
            | TokenFault::Signature
            | TokenFault::NotYetValid => Refusal::InvalidToken,
        }
    }
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The holder of a token that a key here verified.
    Token(Arc<VerifiedToken>),
    /// The holder of a token that only upstream can judge.
    UnverifiableToken(UnverifiableToken),
    /// A holder of an API key that is not verified here.
    Key(Fingerprint),
    /// Somebody without credentials.
    Anonymous,
}

/// The sender of a request and the API key that came along.
#[derive(Debug, Clone)]
pub struct Caller {
    identity: Identity,
    api_key: ApiKey,
}

impl Caller {
    /// The caller of a resource that needs no credentials and is asked for
    /// without: public storage objects. He needs no admission, and is always granted it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Privileged`]: such callers bypass everywhere.
    pub fn without_credentials(headers: &HeaderMap, query: &Query) -> Result<Self, Refusal> {
        if credentials::any_is_privileged(headers, query) {
            return Err(Refusal::Privileged);
        }
        Ok(Self { identity: Identity::Anonymous, api_key: ApiKey::Unneeded })
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Who he is as a writer. `None`: his writes are never deferred.
    pub fn writer(&self) -> Option<WriterId> {
        match &self.identity {
            Identity::Token(token) => token.writer(),
            Identity::UnverifiableToken(_) | Identity::Key(_) | Identity::Anonymous => None,
        }
    }

    /// Tells the session's partition of a token that was verified here from others.
    pub fn session(&self) -> Option<[u8; 16]> {
        match &self.identity {
            Identity::Token(token) => Some(token.session_id()),
            Identity::UnverifiableToken(_) | Identity::Key(_) | Identity::Anonymous => None,
        }
    }

    /// How the API key was sent.
    fn company(&self) -> Company {
        match self.identity {
            Identity::Token(_) | Identity::UnverifiableToken(_) => Company::BesideBearer,
            Identity::Key(_) | Identity::Anonymous => Company::Alone,
        }
    }
}

/// What a fill carries to upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FillCredentials {
    /// The caller's own credentials, as he sent them.
    AsSent,
    /// No `Authorization`, and this `apikey` or none.
    Anonymous {
        /// A key that may be anybody's. It is also in the query where it came from there.
        api_key: Option<HeaderValue>,
    },
}

/// Knows the keys, the tokens verified with them, and the API keys that
/// upstream accepts. Shared by all workers; made anew on a reload.
pub struct Authenticator {
    leeway: Duration,
    keys: ArcSwap<KeyRing>,
    refresh: Mutex<RefreshClock>,
    tokens: Cache<Fingerprint, Arc<VerifiedToken>, TokenWeight>,
    api_keys: GoodKeys,
}

/// What a token turned out to be.
enum Judgement {
    Verified(Arc<VerifiedToken>),
    Unverifiable(UnverifiableToken),
    Invalid(TokenFault),
}

impl Authenticator {
    /// Has no key set yet; whoever fetches them gives them to [`Self::set_jwks`].
    pub fn new(settings: &AuthSettings) -> Self {
        Self {
            leeway: settings.leeway,
            keys: ArcSwap::from_pointee(KeyRing::new(settings.jwt_secret.as_deref(), settings.jwks_sources)),
            refresh: Mutex::default(),
            tokens: Cache::with_weighter(MAX_TOKENS, MAX_TOKENS as u64 * MIN_TOKEN_WEIGHT, TokenWeight),
            api_keys: GoodKeys::new(settings.api_keys.iter().map(Vec::as_slice)),
        }
    }

    /// Who sent a request with these headers and this query. The bearer if it
    /// is a token, else the API key. `now` is the wall clock's.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if he can't be answered from the cache whatever else is
    /// known; the request bypasses.
    pub fn identify(&self, headers: &HeaderMap, query: &Query, now: SystemTime) -> Result<Caller, Refusal> {
        let Credentials { bearer, api_key } = Credentials::read(headers, query)?;
        let bearer = bearer.map(|bearer| self.judge(bearer, now)).transpose()?;
        let api_key = match api_key {
            Some(key) => self.judge_key(key, now)?,
            None => Ok(ApiKey::Absent),
        };
        let (identity, api_key) = match (bearer, api_key) {
            (Some(Judgement::Invalid(fault)), _) | (None, Err(fault)) => return Err(fault.into()),
            (Some(_), Err(_)) => return Err(Refusal::ApiKey),
            (Some(Judgement::Verified(token)), Ok(key)) => (Identity::Token(token), key),
            (Some(Judgement::Unverifiable(token)), Ok(key)) => (Identity::UnverifiableToken(token), key),
            // Whose claims count upstream where a token comes as the key alone differs by gateway.
            (None, Ok(ApiKey::Verified(token))) if !is_anonymous_key(token.claims()) => {
                return Err(Refusal::NotAnonymous);
            }
            (None, Ok(key)) => (key.identity(), key),
        };
        Ok(Caller { identity, api_key })
    }

    /// Remembers that upstream answered a request of this caller, sent with
    /// his own credentials, with a 2xx. Only such answers of `/rest/v1/` count
    /// whose request upstream looks at credentials for: no `OPTIONS`.
    pub fn learn(&self, caller: &Caller, now: SystemTime) {
        self.api_keys.learn(&caller.api_key, caller.company(), now);
    }

    /// Puts a source's newly fetched key set in the place of its last one;
    /// `source` counts from 0. Keys that have gone are void, and so is every
    /// verification made with them. Empty `jwks` is a set without keys: give
    /// that for a 404. Returns how many keys can be used.
    ///
    /// # Errors
    ///
    /// [`JwksError`] if it is no key set; the last one stays, until it is too old.
    pub fn set_jwks(&self, source: usize, jwks: &[u8], now: SystemTime) -> Result<usize, JwksError> {
        let keys = jwks::parse(jwks)?;
        let count = keys.len();
        // Held so that two sources that arrive together don't undo each other.
        let _turn = self.refresh.lock();
        let ring = self.keys.load().with_key_set(source, keys, now)?;
        self.keys.store(Arc::new(ring));
        Ok(count)
    }

    /// The keys that verify tokens at `now`.
    pub fn keys_in_use(&self, now: SystemTime) -> Vec<Fingerprint> {
        self.keys.load().in_use(now)
    }

    /// Whether the key sets are to be fetched now: they are older than ten
    /// minutes, or a token named a key that none has. Who is told `true` does
    /// it; nobody else is told so for the next 10 seconds, however it ends.
    pub fn claim_jwks_refresh(&self, now: SystemTime) -> bool {
        self.refresh.lock().claim(&self.keys.load(), now)
    }

    /// Reads and verifies a token, or remembers that it was verified.
    fn judge(&self, token: &[u8], now: SystemTime) -> Result<Judgement, Refusal> {
        let fingerprint = Fingerprint::of(token);
        let keys = self.keys.load();
        if let Some(known) = self.tokens.get(&fingerprint)
            && keys.holds(&known.key, now)
        {
            return Ok(match known.lifetime.check(now, self.leeway) {
                Ok(()) => Judgement::Verified(known),
                Err(fault) => Judgement::Invalid(fault),
            });
        }
        let token = match str::from_utf8(token).map_err(|_| TokenFault::Malformed).and_then(Token::parse) {
            Ok(token) => token,
            Err(fault) => return Ok(Judgement::Invalid(fault)),
        };
        if is_privileged(&token.claims) {
            return Err(Refusal::Privileged);
        }
        if let Err(fault) = token.lifetime.check(now, self.leeway) {
            return Ok(Judgement::Invalid(fault));
        }
        Ok(match keys.judge(&token, now) {
            Verdict::Invalid(fault) => Judgement::Invalid(fault),
            Verdict::Unverifiable { unknown_key } => {
                if unknown_key {
                    self.refresh.lock().miss();
                }
                Judgement::Unverifiable(UnverifiableToken::new(&token))
            }
            Verdict::Verified(key) => {
                let verified = Arc::new(VerifiedToken::new(token, key));
                self.tokens.insert(fingerprint, verified.clone());
                Judgement::Verified(verified)
            }
        })
    }

    /// What an API key is; an error if it is a token that does not hold.
    fn judge_key(&self, key: &[u8], now: SystemTime) -> Result<Result<ApiKey, TokenFault>, Refusal> {
        if !has_token_shape(key) {
            return Ok(Ok(ApiKey::Opaque(self.api_keys.describe(key, None))));
        }
        Ok(match self.judge(key, now)? {
            Judgement::Verified(token) => Ok(ApiKey::Verified(token)),
            Judgement::Unverifiable(token) => Ok(ApiKey::Opaque(self.api_keys.describe(key, Some(token)))),
            Judgement::Invalid(fault) => Err(fault),
        })
    }
}

/// What a fill for `caller` carries on a route with this scope: his own
/// credentials, under `public` nobody's. `headers` and `query` are the
/// request's that he was identified by.
///
/// # Errors
///
/// [`Refusal::NotAnonymous`] under `public` if the request has an API key that
/// may be more than anonymous; the request bypasses.
pub fn fill_credentials(
    scope: &Scope,
    caller: &Caller,
    headers: &HeaderMap,
    query: &Query,
) -> Result<FillCredentials, Refusal> {
    if let ApiKey::Unneeded = caller.api_key {
        return Ok(FillCredentials::Anonymous { api_key: None });
    }
    if *scope != Scope::Public || matches!(caller.identity, Identity::UnverifiableToken(_)) {
        return Ok(FillCredentials::AsSent);
    }
    if !caller.api_key.is_anonymous() {
        return Err(Refusal::NotAnonymous);
    }
    let api_key = credentials::api_key(headers, query)?
        .map(|key| HeaderValue::from_bytes(key).map_err(|_| Refusal::NotAnonymous))
        .transpose()?
        .map(|mut key| {
            key.set_sensitive(true);
            key
        });
    Ok(FillCredentials::Anonymous { api_key })
}

/// How long ago `since` was. A clock that stepped back a little counts as no
/// time; `None` if it stepped back further.
fn age(since: SystemTime, now: SystemTime) -> Option<Duration> {
    match now.duration_since(since) {
        Ok(age) => Some(age),
        Err(ahead) => (ahead.duration() <= CLOCK_STEP).then_some(Duration::ZERO),
    }
}

#[derive(Clone)]
struct TokenWeight;

impl Weighter<Fingerprint, Arc<VerifiedToken>> for TokenWeight {
    fn weight(&self, _: &Fingerprint, token: &Arc<VerifiedToken>) -> u64 {
        token.size().max(MIN_TOKEN_WEIGHT)
    }
}
