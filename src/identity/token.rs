//! JSON Web Tokens: taking one apart, its life, and what is kept of a verified one.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use jsonwebtoken::dangerous::insecure_decode_claims;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::partition::{self, Partition};

/// The claims of a token, by name.
pub type Claims = Map<String, Value>;

/// Longer tokens are not looked into.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The hash of a token or a key. What it was made from can't be read back, and
/// is not shown either.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a credential as it was sent.
    pub(super) fn of(credential: &[u8]) -> Self {
        Self(*blake3::hash(credential).as_bytes())
    }

    /// The fingerprint of several parts, each with its length.
    pub(super) fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// Why a token is not valid, whatever upstream says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenFault {
    /// It has the shape of a token, its parts are not those of one.
    Malformed,
    /// It is not signed, or by an algorithm that its key isn't for.
    Algorithm,
    /// The key that it names did not sign it.
    Signature,
    /// Its `exp` has passed.
    Expired,
    /// Its `nbf` or `iat` lies ahead.
    NotYetValid,
}

/// Whether a credential is to be read as a token: three parts between dots
/// (RFC 7515, section 3.1).
pub(super) fn has_token_shape(credential: &[u8]) -> bool {
    credential.iter().filter(|byte| **byte == b'.').count() == 2
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

/// A token taken apart. Nothing of it is verified.
pub(super) struct Token<'a> {
    header: Header,
    signed: &'a str,
    signature: &'a str,
    fingerprint: Fingerprint,
    pub(super) claims: Claims,
    pub(super) lifetime: Lifetime,
}

impl<'a> Token<'a> {
    /// Takes `text` apart.
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenFault> {
        if !has_token_shape(text.as_bytes()) {
            return Err(TokenFault::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, _) = signed.split_once('.').ok_or(TokenFault::Malformed)?;
        // A header is read by jsonwebtoken only if it knows the algorithm, a
        // payload always: the header is read as one, to learn which it is.
        let header: Header =
            insecure_decode_claims(format!(".{header}.")).map_err(|_| TokenFault::Malformed)?;
        // RFC 7515, section 4.1.11: an extension that isn't understood makes a token invalid.
        if header.crit.is_some() {
            return Err(TokenFault::Malformed);
        }
        let claims: Claims = insecure_decode_claims(text).map_err(|_| TokenFault::Malformed)?;
        let lifetime = Lifetime::of(&claims)?;
        Ok(Self {
            header,
            signed,
            signature,
            fingerprint: Fingerprint::of(text.as_bytes()),
            claims,
            lifetime,
        })
    }

    /// The algorithm, if it is one that Sluice verifies.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        match self.header.alg.as_str() {
            "HS256" => Some(Algorithm::HS256),
            "ES256" => Some(Algorithm::ES256),
            "RS256" => Some(Algorithm::RS256),
            "EdDSA" => Some(Algorithm::EdDSA),
            _ => None,
        }
    }

    /// Whether the token says that nobody signed it.
    pub(super) fn is_unsigned(&self) -> bool {
        self.header.alg.eq_ignore_ascii_case("none") || self.signature.is_empty()
    }

    /// The name of the key that signed it.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// What is signed.
    pub(super) fn signed(&self) -> &'a str {
        self.signed
    }

    /// The signature, encoded.
    pub(super) fn signature(&self) -> &'a str {
        self.signature
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// When a token holds, in seconds since 1970, fractions included (RFC 7519,
/// section 2, "NumericDate").
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lifetime {
    expires: Option<f64>,
    not_before: Option<f64>,
    issued_at: Option<f64>,
}

impl Lifetime {
    /// The times among the claims. One that is no number makes the token malformed.
    fn of(claims: &Claims) -> Result<Self, TokenFault> {
        let date = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(TokenFault::Malformed),
        };
        Ok(Self { expires: date("exp")?, not_before: date("nbf")?, issued_at: date("iat")? })
    }

    /// Whether the token holds at `now`. As PostgREST does it: `exp`, `nbf`
    /// and `iat`, each if present, each with `leeway`.
    pub(super) fn check(&self, now: SystemTime, leeway: Duration) -> Result<(), TokenFault> {
        let now = seconds(now);
        let leeway = leeway.as_secs_f64();
        if self.expires.is_some_and(|expires| now >= expires + leeway) {
            return Err(TokenFault::Expired);
        }
        let ahead = |time: Option<f64>| time.is_some_and(|time| now < time - leeway);
        if ahead(self.not_before) || ahead(self.issued_at) {
            return Err(TokenFault::NotYetValid);
        }
        Ok(())
    }

    /// Whether `exp` has passed, without any leeway.
    pub(super) fn has_ended(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| seconds(now) >= expires)
    }

    /// `exp` as a time. `None` if there is none or it is out of range.
    pub(super) fn expires(&self) -> Option<SystemTime> {
        let since = Duration::try_from_secs_f64(self.expires?.max(0.0)).ok()?;
        UNIX_EPOCH.checked_add(since)
    }
}

fn seconds(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

/// Whether these are the claims of a caller who passes row level security.
pub(super) fn is_privileged(claims: &Claims) -> bool {
    claims.get("role").and_then(Value::as_str) == Some("service_role")
}

/// Whether these are the claims of a project's anonymous key: the role, and nobody's name.
pub(super) fn is_anonymous_key(claims: &Claims) -> bool {
    claims.get("role").and_then(Value::as_str) == Some("anon") && !names_somebody(claims)
}

/// Whether the claims are about one person: `sub` is there.
pub(super) fn names_somebody(claims: &Claims) -> bool {
    claims.get("sub").is_some_and(|sub| !sub.is_null())
}

/// What is kept of a token whose signature a known key made. Whether it holds
/// *now* is asked at each use.
pub struct VerifiedToken {
    claims: Claims,
    pub(super) lifetime: Lifetime,
    pub(super) key: Fingerprint,
    pub(super) fingerprint: Fingerprint,
    pub(super) session: Partition,
    pub(super) user: Partition,
    pub(super) role: Partition,
    writer: Option<WriterId>,
}

/// A person who writes: `iss`, `role` and `sub`, whatever a route's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriterId(pub [u8; 16]);

impl WriterId {
    /// Of these claims. `None` where they name nobody: `role` or `sub` is no text.
    fn of(claims: &Claims) -> Option<Self> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let (role, subject) = (text("role")?, text("sub")?);
        // Absent is an issuer of its own, as is one that is no text.
        let issuer = claims.get("iss").map(Value::to_string).unwrap_or_default();
        let digest =
            Fingerprint::of_parts(&[b"writer", issuer.as_bytes(), role.as_bytes(), subject.as_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&digest.0[..16]);
        Some(Self(id))
    }
}

impl VerifiedToken {
    pub(super) fn new(token: Token<'_>, key: Fingerprint) -> Self {
        let Token { claims, lifetime, fingerprint, .. } = token;
        Self {
            session: partition::of_session(&claims, &fingerprint),
            user: partition::of_user(&claims, &fingerprint),
            role: partition::of_role(&claims, &fingerprint),
            writer: WriterId::of(&claims),
            claims,
            lifetime,
            key,
            fingerprint,
        }
    }

    /// Tells its session's partition from others: all claims but those of its own life.
    pub fn session_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&self.session.as_bytes()[..16]);
        id
    }

    /// Who writes with it. `None` where it names nobody.
    pub fn writer(&self) -> Option<WriterId> {
        self.writer
    }

    /// All claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The `role` claim, if it is text.
    pub fn role(&self) -> Option<&str> {
        self.claims.get("role").and_then(Value::as_str)
    }

    /// The `sub` claim, if it is text.
    pub fn subject(&self) -> Option<&str> {
        self.claims.get("sub").and_then(Value::as_str)
    }

    /// When it expires, leeway left out. `None`: never.
    pub fn expires(&self) -> Option<SystemTime> {
        self.lifetime.expires()
    }

    /// About how many bytes it takes in memory.
    pub(super) fn size(&self) -> u64 {
        const FIXED: usize = size_of::<VerifiedToken>();
        (FIXED + size_of_claims(&self.claims)) as u64
    }
}

impl fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedToken").field("role", &self.role()).finish_non_exhaustive()
    }
}

/// serde_json reads no more than 128 levels, which bounds the recursion.
fn size_of_value(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size_of_value).sum(),
            Value::Object(fields) => size_of_claims(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

fn size_of_claims(claims: &Claims) -> usize {
    // A node of the map has room for eleven fields, in use or not; half are, as a rule.
    const FIELD: usize = 2 * size_of::<String>() + size_of::<Value>();
    claims.iter().map(|(name, value)| FIELD + name.len() + size_of_value(value)).sum()
}

/// What is known of a token that no key here can verify. Upstream decides about it.
#[derive(Debug, Clone, Copy)]
pub struct UnverifiableToken {
    pub(super) fingerprint: Fingerprint,
    pub(super) lifetime: Lifetime,
    pub(super) names_somebody: bool,
    pub(super) is_anonymous_key: bool,
}

impl UnverifiableToken {
    pub(super) fn new(token: &Token<'_>) -> Self {
        Self {
            fingerprint: token.fingerprint(),
            lifetime: token.lifetime,
            names_somebody: names_somebody(&token.claims),
            is_anonymous_key: is_anonymous_key(&token.claims),
        }
    }

    /// When it expires if what it says is true. `None`: never.
    pub fn expires(&self) -> Option<SystemTime> {
        self.lifetime.expires()
    }
}
