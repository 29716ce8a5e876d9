//! Tokens and API keys, as Supabase issues them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// The project's HS256 secret.
pub const JWT_SECRET: &str = "a-secret-of-the-tests-with-more-than-32-characters";
/// The public halves of the keys that sign RS256, ES256 and EdDSA tokens.
pub const JWKS: &str = include_str!("../../keys/jwks.json");
/// An opaque key that the gateway takes for an anonymous caller's.
pub const PUBLISHABLE_KEY: &str = "sb_publishable_tests";
/// An opaque key that the gateway takes for the service role's.
pub const SECRET_KEY: &str = "sb_secret_tests";

const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
const BOB: &str = "b0b00000-0000-4000-8000-000000000002";

/// The project's anon key: a JWT that lives for years.
pub fn anon_key() -> String {
    project_key("anon")
}

/// The project's service key.
pub fn service_key() -> String {
    project_key("service_role")
}

fn project_key(role: &str) -> String {
    let claims = json!({ "iss": "supabase", "ref": "tests", "role": role, "iat": 1_700_000_000, "exp": 4_000_000_000_u64 });
    sign(Algorithm::HS256, None, &claims, JWT_SECRET.as_bytes())
}

/// A token in the making.
#[derive(Clone)]
pub struct Token {
    claims: Value,
    algorithm: Algorithm,
    key_id: Option<String>,
    secret: Vec<u8>,
}

/// A user who owns rows of the fixture.
pub fn alice() -> Token {
    Token::of(ALICE)
}

/// Another one.
pub fn bob() -> Token {
    Token::of(BOB)
}

impl Token {
    /// An authenticated user's token, as a sign-in gives it: an hour to live, HS256.
    pub fn of(sub: &str) -> Self {
        let claims = json!({
            "iss": "http://localhost/auth/v1", "aud": "authenticated", "role": "authenticated", "sub": sub,
            "aal": "aal1", "session_id": format!("session-of-{sub}"), "iat": now(), "exp": now() + 3600,
        });
        Self { claims, algorithm: Algorithm::HS256, key_id: None, secret: JWT_SECRET.as_bytes().to_vec() }
    }

    /// With a claim set, or removed by `null`.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        match value.into() {
            Value::Null => self.claims.as_object_mut().unwrap().remove(name),
            value => self.claims.as_object_mut().unwrap().insert(name.to_owned(), value),
        };
        self
    }

    /// With `exp` so many seconds from now.
    pub fn expires_in(self, seconds: i64) -> Self {
        let time = now() as i64 + seconds;
        self.claim("exp", time)
    }

    /// The same session's next token: other times, another `jti`.
    pub fn refreshed(self) -> Self {
        let (issued, expires) = (now() + 1, now() + 4000);
        self.claim("iat", issued).claim("exp", expires).claim("jti", super::unique().to_string())
    }

    /// Signed with this algorithm and the key of the tests for it.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self.key_id = match algorithm {
            Algorithm::RS256 => Some("rs".into()),
            Algorithm::ES256 => Some("es".into()),
            Algorithm::EdDSA => Some("ed".into()),
            _ => None,
        };
        self
    }

    /// With another key id in its header.
    pub fn key_id(mut self, key_id: &str) -> Self {
        self.key_id = Some(key_id.to_owned());
        self
    }

    /// Signed with a secret that isn't the project's.
    pub fn secret(mut self, secret: &str) -> Self {
        self.secret = secret.as_bytes().to_vec();
        self
    }

    /// The user's id.
    pub fn sub(&self) -> &str {
        self.claims["sub"].as_str().expect("the token has a sub")
    }

    /// The token, signed.
    pub fn sign(&self) -> String {
        sign(self.algorithm, self.key_id.clone(), &self.claims, &self.secret)
    }

    /// The token without a signature, `alg` being `none`.
    pub fn unsigned(&self) -> String {
        let header = base64_url(br#"{"alg":"none","typ":"JWT"}"#);
        format!("{header}.{}.", base64_url(self.claims.to_string().as_bytes()))
    }
}

fn sign(algorithm: Algorithm, key_id: Option<String>, claims: &Value, secret: &[u8]) -> String {
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_der(include_bytes!("../../keys/rs256.der")),
        Algorithm::ES256 => EncodingKey::from_ec_der(include_bytes!("../../keys/es256.der")),
        Algorithm::EdDSA => EncodingKey::from_ed_der(include_bytes!("../../keys/ed25519.der")),
        _ => EncodingKey::from_secret(secret),
    };
    let mut header = Header::new(algorithm);
    header.kid = key_id;
    encode(&header, claims, &key).expect("the keys of the tests fit")
}

/// The HS256 secret, the three public keys, for PostgREST.
pub fn jwks_with_secret() -> String {
    let mut jwks: Value = serde_json::from_str(JWKS).expect("the key set is JSON");
    let secret = json!({ "kty": "oct", "alg": "HS256", "k": base64_url(JWT_SECRET.as_bytes()) });
    jwks["keys"].as_array_mut().expect("it has keys").push(secret);
    jwks.to_string()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

/// Base64 for URLs, without padding (RFC 4648, section 5).
pub fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(ALPHABET[(word >> (18 - 6 * digit)) as usize & 63] as char);
        }
    }
    text
}
