//! Makes a token of an expired one: the same claims, a minute to live.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::value::RawValue;

use crate::postgrest::object::Object;

/// How long a made token lives, in seconds.
const LIFE: u64 = 60;

/// Why no token is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemintError {
    /// The token that the write came with expired too long ago.
    #[error("The token expired longer ago than `remint_max` allows")]
    TooLate,
    /// What the write came with is no token whose claims can be taken over.
    #[error("The token's claims can't be read")]
    Claims,
    /// The claims can't be signed.
    #[error("The token can't be signed; check auth.jwt_secret")]
    Signature,
}

/// Makes a token with the claims of `token`, signed with `jwt_secret` (HS256),
/// issued `now`, expiring 60 seconds later. `token` was verified when the write
/// came in, and has been sealed since: its signature isn't looked at.
///
/// # Errors
///
/// [`RemintError::TooLate`] once `max` has passed since the `exp` of `token`;
/// the others where its claims can't be read or signed.
pub fn remint(token: &str, jwt_secret: &[u8], now: SystemTime, max: Duration) -> Result<String, RemintError> {
    let mut claims = claims(token).ok_or(RemintError::Claims)?;
    let now = now.duration_since(UNIX_EPOCH).map_err(|_| RemintError::Claims)?;
    if let Some(expires) = claims.get("exp") {
        let expires: f64 = serde_json::from_str(expires.get()).map_err(|_| RemintError::Claims)?;
        if now.as_secs_f64() > expires + max.as_secs_f64() {
            return Err(RemintError::TooLate);
        }
    }
    let seconds = now.as_secs();
    for (name, time) in [("iat", seconds), ("exp", seconds.saturating_add(LIFE))] {
        claims.set(name, number(time)?);
    }
    let key = EncodingKey::from_secret(jwt_secret);
    encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|_| RemintError::Signature)
}

/// The claims, digit by digit: a policy may compare a number that no float holds.
fn claims(token: &str) -> Option<Object> {
    let mut parts = token.split('.');
    let payload = parts.nth(1)?;
    parts.next().filter(|_| parts.next().is_none())?;
    Object::parse(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn number(seconds: u64) -> Result<Box<RawValue>, RemintError> {
    serde_json::value::to_raw_value(&seconds).map_err(|_| RemintError::Claims)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"a-secret-of-the-tests-with-more-than-32-characters";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn token(payload: &str) -> String {
        format!("eyJhbGciOiJFUzI1NiIsImtpZCI6ImVzIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn payload(token: &str) -> String {
        let payload = token.split('.').nth(1).unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    #[test]
    fn the_claims_stay_and_the_times_are_new() {
        let original = token(
            r#"{"sub":"a","exp":1000,"big":12345678901234567890123,"exact":1.10,"app_metadata":{"t":"é","n":[1,null]},"iat":5.5,"nbf":5}"#,
        );
        let made = remint(&original, SECRET, at(2000), Duration::from_secs(1000)).unwrap();
        let expected = r#"{"sub":"a","exp":2060,"big":12345678901234567890123,"exact":1.10,"app_metadata":{"t":"é","n":[1,null]},"iat":2000,"nbf":5}"#;
        assert_eq!(payload(&made), expected);
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        let verified = decode::<Value>(&made, &DecodingKey::from_secret(SECRET), &validation).unwrap();
        assert_eq!(verified.claims["sub"], json!("a"));
        assert_eq!(verified.header.kid, None);
        assert!(decode::<Value>(&made, &DecodingKey::from_secret(b"another"), &validation).is_err());
    }

    #[test]
    fn not_for_ever() {
        let hour = Duration::from_secs(3600);
        for (payload, now, expected) in [
            (r#"{"exp":1000}"#, 4600, Ok(())),
            (r#"{"exp":1000}"#, 4601, Err(RemintError::TooLate)),
            (r#"{"exp":1000.5}"#, 4600, Ok(())),
            (r#"{"exp":9000}"#, 1, Ok(())),
            (r#"{"sub":"a"}"#, 9_999_999, Ok(())),
            (r#"{"exp":"1000"}"#, 1, Err(RemintError::Claims)),
            (r#"{"exp":1,"exp":9000}"#, 1, Err(RemintError::Claims)),
            ("[1]", 1, Err(RemintError::Claims)),
        ] {
            assert_eq!(
                remint(&token(payload), SECRET, at(now), hour).map(|_| ()),
                expected,
                "{payload} {now}"
            );
        }
        for text in ["", "a", "a.b", "..", "a.!.c", "a.e30.c.d"] {
            assert_eq!(remint(text, SECRET, at(1), hour), Err(RemintError::Claims), "{text}");
        }
    }
}
