//! Who writes, and whether a write can be kept for him.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::Reason;
use crate::identity::{Caller, Claims, Identity};
use crate::route::{CredentialMode, WritePolicy};

/// The holder of a token that a key here verified just now.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The token's claims.
    pub claims: &'a Claims,
    /// When the token expires, leeway left out. `None`: never.
    pub expires: Option<SystemTime>,
    /// Whether he may be answered from the cache: his token and his API key are good.
    pub is_admitted: bool,
}

impl<'a> Writer<'a> {
    /// The writer that `caller` is. `None`: nothing here verified who he is.
    pub fn of(caller: &'a Caller, is_admitted: bool) -> Option<Self> {
        match caller.identity() {
            Identity::Token(token) => {
                Some(Self { claims: token.claims(), expires: token.expires(), is_admitted })
            }
            Identity::UnverifiableToken(_) | Identity::Key(_) | Identity::Anonymous => None,
        }
    }

    /// Whether a write of his can be kept and replayed later.
    pub(super) fn check(
        &self,
        policy: &WritePolicy,
        now: SystemTime,
        min_token_life: Duration,
    ) -> Result<(), Reason> {
        if !self.is_admitted {
            return Err(Reason::ApiKey);
        }
        let text = |name: &str| self.claims.get(name).and_then(Value::as_str);
        let has_strange_issuer = self.claims.get("iss").is_some_and(|issuer| !issuer.is_string());
        if text("sub").is_none_or(str::is_empty) || has_strange_issuer {
            return Err(Reason::Subject);
        }
        if text("role").is_none_or(|role| matches!(role, "" | "anon" | "service_role")) {
            return Err(Reason::Role);
        }
        let lives = |until: SystemTime| until.duration_since(now).is_ok_and(|left| left >= min_token_life);
        match policy.credentials {
            CredentialMode::Token if !self.expires.is_none_or(lives) => Err(Reason::TokenLife),
            CredentialMode::Token | CredentialMode::Remint { .. } => Ok(()),
        }
    }
}

/// A column and the value that makes a row the caller's own.
#[derive(Debug, Clone)]
pub(super) struct Owned<'a> {
    pub column: &'a str,
    pub value: Box<RawValue>,
}

impl<'a> Owned<'a> {
    /// What makes a row the caller's own by this policy; `None`: every row is anybody's.
    pub(super) fn of(policy: &'a WritePolicy, claims: &Claims) -> Result<Option<Self>, Reason> {
        let Some(owner) = &policy.owner else { return Ok(None) };
        let value = claim(claims, &owner.claim).and_then(|claim| to_raw_value(claim).ok());
        Ok(Some(Self { column: &owner.column, value: value.ok_or(Reason::Owner)? }))
    }
}

/// The claim at a dotted path. The name of a claim may hold dots itself: where
/// both readings find something else, neither counts.
fn claim<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    let nested = path.split_once('.').and_then(|(first, rest)| {
        rest.split('.').try_fold(claims.get(first)?, |value, name| value.get(name))
    });
    match (claims.get(path), nested) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim_in(claims: &str, path: &str) -> Option<Value> {
        claim(&serde_json::from_str(claims).unwrap(), path).cloned()
    }

    #[test]
    fn claims_are_found_by_their_path() {
        let claims = r#"{"sub":"a","app":{"org":{"id":5}},"a.b":1,"x.y":1,"x":{"y":2}}"#;
        for (path, found) in [
            ("sub", Some(Value::from("a"))),
            ("app.org.id", Some(Value::from(5))),
            ("a.b", Some(Value::from(1))),
            ("x.y", None),
            ("app.org.name", None),
            ("sub.id", None),
            ("", None),
        ] {
            assert_eq!(claim_in(claims, path), found, "{path}");
        }
    }
}
