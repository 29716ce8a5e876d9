//! Seals tokens, so that a journal, or a copy of it, is of no use to who reads it.
//!
//! ChaCha20-Poly1305 (RFC 8439) under a key that is derived from the configured
//! secret. The write's id and its caller are authenticated along with the token:
//! a sealed token that is moved to another record doesn't open.

mod key_file;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::key_file::KeyFileError;
use crate::postgrest::timestamp::Micros;
use crate::store::journal::{CallerId, WriteId};

/// No secret is shorter, in bytes.
pub const MIN_SECRET: usize = 32;

/// Keeps keys that are made of one secret apart.
const KEY_CONTEXT: &str = "sluice journal token 1";
const KEY_ID_CONTEXT: &str = "sluice journal token key id 1";
const KEY_ID_LEN: usize = 8;

/// Makes sealed tokens, and opens those that it made.
pub struct Sealer {
    key: LessSafeKey,
    /// Says which key it is, and nothing about it.
    id: [u8; KEY_ID_LEN],
    random: SystemRandom,
}

/// What a write came with that upstream wants to see. `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The bearer token.
    pub token: String,
    /// The API key that was sent beside it.
    pub api_key: Option<String>,
    /// When the token expires. `None`: never.
    pub expires: Option<Micros>,
}

/// A credential that only its sealer can read: the key's id, the nonce, and the
/// ciphertext with its tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// Why a credential was not sealed, or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The secret is too short to keep anything.
    #[error("The secret that seals tokens has {0} bytes; give at least {MIN_SECRET}")]
    ShortSecret(usize),
    /// Another secret sealed it. The write waits for a newer token.
    #[error(
        "The token was sealed with another secret; configure the `secret` that it was sealed with, or wait for a \
         newer token of its caller"
    )]
    OtherKey,
    /// It was changed, or belongs to another write.
    #[error("The sealed token is damaged, or belongs to another write")]
    Damaged,
    /// There is no randomness to be had, or the library refuses the key.
    #[error("The machine gives no random numbers; nothing can be sealed")]
    Cryptography,
}

impl Sealer {
    /// The sealer of everybody who has this secret.
    ///
    /// # Errors
    ///
    /// [`SealError::ShortSecret`] with fewer than [`MIN_SECRET`] bytes.
    pub fn from_secret(secret: &[u8]) -> Result<Self, SealError> {
        if secret.len() < MIN_SECRET {
            return Err(SealError::ShortSecret(secret.len()));
        }
        let key = blake3::derive_key(KEY_CONTEXT, secret);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| SealError::Cryptography)?;
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&blake3::derive_key(KEY_ID_CONTEXT, secret)[..KEY_ID_LEN]);
        Ok(Self { key: LessSafeKey::new(key), id, random: SystemRandom::new() })
    }

    /// Seals the credential of a write and its caller.
    ///
    /// # Errors
    ///
    /// [`SealError::Cryptography`] where no nonce can be made.
    pub fn seal(
        &self,
        credential: &Credential,
        write: WriteId,
        caller: CallerId,
    ) -> Result<Sealed, SealError> {
        let mut text = serde_json::to_vec(credential).map_err(|_| SealError::Cryptography)?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Cryptography)?;
        let mut sealed =
            Vec::with_capacity(KEY_ID_LEN + NONCE_LEN + text.len() + CHACHA20_POLY1305.tag_len());
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        let nonce = Nonce::assume_unique_for_key(nonce);
        (self.key.seal_in_place_append_tag(nonce, Aad::from(associated(write, caller)), &mut text))
            .map_err(|_| SealError::Cryptography)?;
        sealed.extend_from_slice(&text);
        Ok(Sealed(sealed))
    }

    /// The credential that was sealed for this write and this caller.
    ///
    /// # Errors
    ///
    /// [`SealError::OtherKey`] where another secret sealed it;
    /// [`SealError::Damaged`] where it is not what was sealed for them.
    pub fn open(&self, sealed: &Sealed, write: WriteId, caller: CallerId) -> Result<Credential, SealError> {
        let (id, rest) = sealed.0.split_first_chunk::<KEY_ID_LEN>().ok_or(SealError::Damaged)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Damaged)?;
        if *id != self.id {
            return Err(SealError::OtherKey);
        }
        let mut text = ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(associated(write, caller)), &mut text);
        let text: &[u8] = opened.map_err(|_| SealError::Damaged)?;
        serde_json::from_slice(text).map_err(|_| SealError::Damaged)
    }
}

/// What a sealed token belongs to.
fn associated(write: WriteId, caller: CallerId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&write.0.to_be_bytes());
    bytes[16..].copy_from_slice(&caller.0);
    bytes
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

impl Serialize for Sealed {
    /// As base64.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD_NO_PAD.decode(text).map(Self).map_err(|_| D::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests;
