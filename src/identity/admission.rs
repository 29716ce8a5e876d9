//! Admission: what is asked again on every hit, and about whom.

use std::time::SystemTime;

use super::api_key::{ApiKey, Company};
use super::jwks::KeyRing;
use super::token::{Fingerprint, Lifetime, VerifiedToken};
use super::{Authenticator, Caller, Identity, Refusal};

/// What a caller's admission rests on: as much of his credentials as has to be
/// looked at each time. His claims are not in it.
#[derive(Debug, Clone, Copy)]
pub struct Grounds {
    bearer: Option<Proof>,
    api_key: KeyProof,
    company: Company,
}

/// A bearer, or a key that is who asks.
#[derive(Debug, Clone, Copy)]
enum Proof {
    Signed(Signed),
    Unverifiable(Lifetime),
}

/// A token that a key here verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed {
    lifetime: Lifetime,
    key: Fingerprint,
}

/// An API key.
#[derive(Debug, Clone, Copy)]
pub(super) enum KeyProof {
    /// The request needs none.
    Unneeded,
    /// The request has none.
    Absent,
    /// A token that a key here verified.
    Signed(Signed),
    /// Anything else.
    Opaque {
        fingerprint: Fingerprint,
        /// Whether the configuration names it.
        is_listed: bool,
        /// What it says of itself, if it is a token.
        lifetime: Option<Lifetime>,
    },
}

impl Signed {
    fn of(token: &VerifiedToken) -> Self {
        Self { lifetime: token.lifetime, key: token.key }
    }
}

impl Caller {
    /// What his admission rests on.
    pub fn grounds(&self) -> Grounds {
        let bearer = match &self.identity {
            Identity::Token(token) => Some(Proof::Signed(Signed::of(token))),
            Identity::UnverifiableToken(token) => Some(Proof::Unverifiable(token.lifetime)),
            Identity::Key(_) | Identity::Anonymous => None,
        };
        let api_key = match &self.api_key {
            ApiKey::Unneeded => KeyProof::Unneeded,
            ApiKey::Absent => KeyProof::Absent,
            ApiKey::Verified(token) => KeyProof::Signed(Signed::of(token)),
            ApiKey::Opaque(key) => KeyProof::Opaque {
                fingerprint: key.fingerprint,
                is_listed: key.is_listed,
                lifetime: key.token.map(|token| token.lifetime),
            },
        };
        Grounds { bearer, api_key, company: self.company() }
    }

    /// Tells him from every other caller, and from himself with another token or key.
    pub fn fingerprint(&self) -> [u8; 32] {
        let identity: (&[u8], Option<Fingerprint>) = match &self.identity {
            Identity::Token(token) => (b"token", Some(token.fingerprint)),
            Identity::UnverifiableToken(token) => (b"unverifiable", Some(token.fingerprint)),
            Identity::Key(key) => (b"key", Some(*key)),
            Identity::Anonymous => (b"anonymous", None),
        };
        let key: (&[u8], Option<Fingerprint>) = match &self.api_key {
            ApiKey::Unneeded => (b"unneeded", None),
            ApiKey::Absent => (b"absent", None),
            ApiKey::Verified(token) => (b"verified", Some(token.fingerprint)),
            ApiKey::Opaque(key) => (b"opaque", Some(key.fingerprint)),
        };
        let bytes = |print: &Option<Fingerprint>| print.as_ref().map_or([0; 32], |print| *print.as_bytes());
        *Fingerprint::of_parts(&[identity.0, &bytes(&identity.1), key.0, &bytes(&key.1)]).as_bytes()
    }
}

impl Authenticator {
    /// Whether a caller with these grounds may be answered from the cache at
    /// `now`: his token holds, its key still counts, and his API key is good.
    /// Asked on every hit.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the request bypasses.
    pub fn admit(&self, grounds: &Grounds, now: SystemTime) -> Result<(), Refusal> {
        let keys = self.keys.load();
        match &grounds.bearer {
            Some(Proof::Signed(token)) => self.still_holds(&keys, token, now)?,
            Some(Proof::Unverifiable(lifetime)) if lifetime.has_ended(now) => {
                return Err(Refusal::ExpiredToken);
            }
            Some(Proof::Unverifiable(_)) | None => {}
        }
        if let KeyProof::Signed(key) = &grounds.api_key {
            self.still_holds(&keys, key, now).map_err(|_| Refusal::ApiKey)?;
        }
        if self.api_keys.is_good(&grounds.api_key, grounds.company, now) {
            Ok(())
        } else {
            Err(Refusal::ApiKey)
        }
    }

    fn still_holds(&self, keys: &KeyRing, token: &Signed, now: SystemTime) -> Result<(), Refusal> {
        token.lifetime.check(now, self.leeway)?;
        if keys.holds(&token.key, now) { Ok(()) } else { Err(Refusal::InvalidToken) }
    }
}
