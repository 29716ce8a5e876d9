//! What identity promises, with keys made for these tests alone.

mod admission;
mod credentials;
mod sharing;
mod verification;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

/// Test only: PKCS #1, base64.
const RSA_KEY: &str = "\
    MIIEpAIBAAKCAQEAsPSYpUqjJdDG5FDYphWtBWIcL1uKG0SV1vpFRUPYB0gGf1rkqN1tBiHVhFLxyconzr9i5OHT+kYdeCbM\
    1P2jx3ldjuA408tPHlyXBpGQba3s1Vgtl7Fbv+5t9zWhlPcOSw//fcG5qFAWFu/GCgKsTv1ZKUegoeg1do5S1AgptJl71FJo\
    3y7oJFCefxm42/hzj/1Hyafw30TzAp8sjP8d19PvxY32n0tw3NJLfWYrUTGAqzzDk2Vp2xfCVG8J6gfx//T7Y+bPsrRvTUfM\
    4Up729ECVoYZCL5EioXdep5VjKWqXHeFBOPfhH/Skgy4xSqp2AD7+C3VT1ZILd5IxIL4vwIDAQABAoIBACtH8CwBmOzvZy5B\
    3fOlepfF+unUZG+t805NEXNTGDwTsE8nDqWE3x0wWlaOqQf3k4v8gLZFzAC7dIrGRrRTw2LPOwRusEeRQy1EbUYUhXRmJXa7\
    Jg+juDK2IRxleDuEv/C5HX8HSp8x021RwSkCpV1+lvfDRrVDJAx23ChzRKwgtBaxy50dRD9Ksimj+rR5S3hpDubCvSwN6yYI\
    MyNXC8Tz6J4RCDh1dOjZ/b9akhBWiDDi/ZxXQUwMVKhU6xgbhxCj9DmFutx7Hn1WcNQEzJOXJ+VBTAynK/v543kXOm6jh+Ap\
    AleYw03St9841fN9puwisaZak7igc7trdHna0AkCgYEA3ZwhdC7lj1tPLxYmRIKZqCDnuVXGLgl+L+tUzFHLXiE8kZTgsp9w\
    O9usUEHqKLMR5cvKuqSLVUPZ/CSw/xuKNv2SLg5QVkEswv2148gKnPuA3I4+t+4ZsWr4tEhstg5Ezcqqbo12UOtJUUqqkdU+\
    Hu8cVzvamtD3S+htoQUUwwcCgYEAzGp7/xxgi9eUY5QRuJ2xPE1zI5CL+e/QoO5FyBplS7gY//LDu0qo1oii2oLcFyQrt9pK\
    w2p3UwXX5QwH7mDsVv20zhfi4ypJH/hjSCfwvChyx6tWTIbdIdmH0dBCWhBVd2SdQYNxsep+pBBMMqNubrmgXWT4dWnrAGTJ\
    ioI8FokCgYEAjYmHcE33ffzicP9jh4QmIVSKyzs2LPcRKgfSjAB9s+vkZFLCxDLCmuhtgIDozf+4oZzsKRKojtecJMdGaFit\
    iPug3lt0AfL0ZMFn50g/Rw32umb7NbwTmtXobDSJgilQ1mLnQV6GP55WoF3g3O1mFJnA7xIiR5jJKSkUw6+cGAcCgYEAw1Lk\
    lMnqvvUJh3UO0ddsaXCgGlWeSv6J3ZyP9Tqzm/yXdsnjmW0nk4cQBbeQ0lPvqkfdtIhg6GXm+6fZVEAs1JqsT1mnpOTc5r2T\
    MHlpoIEN3Bit54Xeet++1g8nt6Nv5xuu39DXrOeihuZDyQc9GHQq9dLrTlYdBU1I/x6eh/ECgYA4yGV8WuhrHEZZMEcHGqKE\
    247CrEdkkD2EQ3gFDAKD+YJsRyIiA4l7faMMbFjMdCg12Gnl0D4HDxPUQhqnWQNRVYBd2kOuqpGdz5i4cfNHrVBDp9CrL8Uz\
    /IPt4rIOIJp0J6GiPEXDHrGnawnqIZXSJEiM5vU048Ou938vx7FKLw==";

/// Test only: PKCS #8, base64.
const EC_KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVQQ2nQ0w4g55QVp3XltMDNFxjGfqrKg5O5jd0egjZ4ihRANC\
    AARekN5nmpkDL5km/ehoJhZr5zG95HIhNL2IFTLcFGYW0qPQPazDPW1Vdg8sZA4lGlDAk885lLDDpw4kZOAYx4kH";

/// Test only: PKCS #8, base64.
const OTHER_EC_KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtHkDEqG4hXbfmTSP5Nqy+Qx3udGRFwYmt3FhuERBbjehRANC\
    AASp6KI9+GKy9+OPdT+Jjuy77W9hyktQxwhXc2FGc6k2EMLEOI7/kRzV0Ln6nqVaCiW64XlQ0aoxmzz8dD+lW0k8";

/// Test only: PKCS #8, base64.
const ED_KEY: &str = "\
    MC4CAQAwBQYDK2VwBCIEIIvHR2gy5D/b38+pSQTh9MkJ+bfpB8Q08Q8bQE2RHrpk";

/// The public half of [`RSA_KEY`] as it is handed around, and misused as a secret.
const RSA_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAsPSYpUqjJdDG5FDYphWt\n\
BWIcL1uKG0SV1vpFRUPYB0gGf1rkqN1tBiHVhFLxyconzr9i5OHT+kYdeCbM1P2j\n\
x3ldjuA408tPHlyXBpGQba3s1Vgtl7Fbv+5t9zWhlPcOSw//fcG5qFAWFu/GCgKs\n\
Tv1ZKUegoeg1do5S1AgptJl71FJo3y7oJFCefxm42/hzj/1Hyafw30TzAp8sjP8d\n\
19PvxY32n0tw3NJLfWYrUTGAqzzDk2Vp2xfCVG8J6gfx//T7Y+bPsrRvTUfM4Up7\n\
29ECVoYZCL5EioXdep5VjKWqXHeFBOPfhH/Skgy4xSqp2AD7+C3VT1ZILd5IxIL4\n\
vwIDAQAB\n\
-----END PUBLIC KEY-----\n";

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";
const NOW: u64 = 1_800_000_000;
const SECOND: Duration = Duration::from_secs(1);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Somebody who signs tokens.
struct Issuer {
    key_id: Option<&'static str>,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Issuer {
    fn new(key_id: impl Into<Option<&'static str>>, algorithm: Algorithm, key: EncodingKey) -> Self {
        Self { key_id: key_id.into(), algorithm, key }
    }

    fn secret() -> Self {
        Self::new(None, Algorithm::HS256, EncodingKey::from_secret(SECRET))
    }

    fn ec() -> Self {
        Self::new("ec", Algorithm::ES256, EncodingKey::from_ec_der(&bytes(EC_KEY)))
    }

    fn other_ec() -> Self {
        Self::new("other-ec", Algorithm::ES256, EncodingKey::from_ec_der(&bytes(OTHER_EC_KEY)))
    }

    fn rsa() -> Self {
        Self::new("rsa", Algorithm::RS256, EncodingKey::from_rsa_der(&bytes(RSA_KEY)))
    }

    fn ed() -> Self {
        Self::new("ed", Algorithm::EdDSA, EncodingKey::from_ed_der(&bytes(ED_KEY)))
    }

    fn with_key_id(self, key_id: impl Into<Option<&'static str>>) -> Self {
        Self { key_id: key_id.into(), ..self }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: self.key_id.map(str::to_owned), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    fn jwk(&self) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        if let Some(key_id) = self.key_id {
            jwk["kid"] = key_id.into();
        }
        jwk
    }
}

fn bytes(base64: &str) -> Vec<u8> {
    DecodingKey::from_base64_secret(base64).unwrap().try_get_as_bytes().unwrap().to_vec()
}

/// The claims of a signed-in user whose token lives another hour.
fn user(sub: &str) -> Value {
    json!({
        "iss": "https://abc.supabase.co/auth/v1", "sub": sub, "role": "authenticated", "aal": "aal1",
        "session_id": "s1", "iat": NOW - 10, "exp": NOW + 3600,
    })
}

/// `claims` with one of them set, or taken away.
fn with(mut claims: Value, name: &str, value: impl Into<Option<Value>>) -> Value {
    match value.into() {
        Some(value) => claims[name] = value,
        None => {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    claims
}

fn key_set(issuers: &[&Issuer]) -> Vec<u8> {
    let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    serde_json::to_vec(&json!({ "keys": keys })).unwrap()
}

fn settings() -> AuthSettings {
    AuthSettings {
        jwt_secret: Some(SECRET.to_vec()),
        api_keys: vec![b"sb_publishable_listed".to_vec()],
        leeway: Duration::from_secs(30),
        jwks_sources: 1,
    }
}

/// Knows the secret and the three published keys.
fn authenticator() -> Authenticator {
    let authenticator = Authenticator::new(&settings());
    let keys = key_set(&[&Issuer::ec(), &Issuer::rsa(), &Issuer::ed()]);
    assert_eq!(authenticator.set_jwks(0, &keys, now()), Ok(3));
    authenticator
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn query(raw: &str) -> Query {
    Query::parse(raw).unwrap()
}

/// The headers of a request with a bearer and the listed API key.
fn bearer(token: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {token}")), ("apikey", "sb_publishable_listed")])
}

fn identify(authenticator: &Authenticator, headers: &HeaderMap) -> Result<Caller, Refusal> {
    authenticator.identify(headers, &query(""), now())
}

/// The caller who holds this token.
fn caller(authenticator: &Authenticator, token: &str) -> Caller {
    identify(authenticator, &bearer(token)).unwrap()
}
