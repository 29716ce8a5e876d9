//! Partitions: which callers share an entry.

use std::fmt;

use serde_json::{Map, Value};

use super::token::{Claims, Fingerprint, VerifiedToken, names_somebody};
use super::{Caller, Identity};
use crate::route::Scope;

/// Claims about the token's own life rather than its holder.
const TOKEN_CLAIMS: [&str; 4] = ["exp", "iat", "nbf", "jti"];

/// The claims that `auth.uid()` and `auth.role()` rest on.
const USER_CLAIMS: [&str; 4] = ["iss", "role", "sub", "aal"];

/// Claims that each sign-in and each second factor change, beside those of the token's own life.
const SESSION_CLAIMS: [&str; 2] = ["session_id", "amr"];

/// Keeps these hashes apart from others of the same bytes.
const DOMAIN: &[u8] = b"sluice partition";

/// Callers who may be given the same entry. Entries of different partitions
/// never meet: it takes part in the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Partition {
    digest: [u8; 32],
    one_users: bool,
}

impl Partition {
    /// Everybody's, under [`Scope::Public`].
    pub fn public() -> Self {
        of_parts(&[b"public"], false)
    }

    /// The bytes that take part in the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digest
    }

    /// Whether all its callers are the same person, so that an answer marked
    /// `private` may be stored in it.
    pub fn is_one_users(&self) -> bool {
        self.one_users
    }
}

impl fmt::Display for Partition {
    /// The first half of its bytes, hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest.iter().take(16).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({self})")
    }
}

/// The partition of `caller` on a route with this scope.
///
/// A token that nobody here can verify has its own partition under every
/// scope, an opaque key under every scope but `public`.
pub fn partition(scope: &Scope, caller: &Caller) -> Partition {
    match (caller.identity(), scope) {
        (Identity::UnverifiableToken(token), _) => {
            of_parts(&[b"unverifiable", token.fingerprint.as_bytes()], token.names_somebody)
        }
        (_, Scope::Public) => Partition::public(),
        (Identity::Anonymous, _) => of_parts(&[b"anonymous"], false),
        (Identity::Key(key), _) => of_parts(&[b"key", key.as_bytes()], false),
        (Identity::Token(token), Scope::Session) => token.session,
        (Identity::Token(token), Scope::User) => token.user,
        (Identity::Token(token), Scope::Role) => token.role,
        (Identity::Token(token), Scope::Claims(paths)) => of_paths(token.claims(), paths, &token.fingerprint),
    }
}

/// What a token has to be equal in to stand in for `token` on a route with this
/// scope: the claims of the scope, and at least those that name the user. Of all
/// claims, under [`Scope::Session`], those that change from sign-in to sign-in
/// are left out: rights don't hang on them.
pub fn rights(scope: &Scope, token: &VerifiedToken) -> [u8; 16] {
    let (claims, token) = (token.claims(), &token.fingerprint);
    let mut encoder = Encoder::new("rights", token);
    for name in USER_CLAIMS {
        encoder.optional(claims.get(name));
    }
    match scope {
        Scope::Session => {
            encoder.part(b"session");
            let is_kept = |name: &str| !TOKEN_CLAIMS.contains(&name) && !SESSION_CLAIMS.contains(&name);
            encoder.fields(claims.iter().filter(|(name, _)| is_kept(name)).collect());
        }
        Scope::Claims(paths) => {
            encoder.part(b"claims");
            encoder.paths(claims, paths);
        }
        Scope::User | Scope::Role | Scope::Public => encoder.part(b"user"),
    }
    let mut rights = [0; 16];
    rights.copy_from_slice(&encoder.finish(true).digest[..16]);
    rights
}

/// A partition that no claim takes part in.
fn of_parts(parts: &[&[u8]], one_users: bool) -> Partition {
    let mut hasher = blake3::Hasher::new();
    write_part(&mut hasher, DOMAIN);
    parts.iter().for_each(|part| write_part(&mut hasher, part));
    Partition { digest: *hasher.finalize().as_bytes(), one_users }
}

fn write_part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Every claim that says something about the holder.
pub(super) fn of_session(claims: &Claims, token: &Fingerprint) -> Partition {
    let mut encoder = Encoder::new("session", token);
    let kept: Vec<_> = claims.iter().filter(|(name, _)| !TOKEN_CLAIMS.contains(&name.as_str())).collect();
    encoder.fields(kept);
    encoder.finish(names_somebody(claims))
}

/// The claims that name the user.
pub(super) fn of_user(claims: &Claims, token: &Fingerprint) -> Partition {
    let mut encoder = Encoder::new("user", token);
    for name in USER_CLAIMS {
        encoder.optional(claims.get(name));
    }
    encoder.finish(names_somebody(claims))
}

/// The role alone.
pub(super) fn of_role(claims: &Claims, token: &Fingerprint) -> Partition {
    let mut encoder = Encoder::new("role", token);
    encoder.optional(claims.get("role"));
    encoder.finish(false)
}

/// The role and the claims at `paths`. The paths themselves take part: routes
/// with different lists share nothing.
fn of_paths(claims: &Claims, paths: &[String], token: &Fingerprint) -> Partition {
    let mut encoder = Encoder::new("claims", token);
    encoder.optional(claims.get("role"));
    encoder.paths(claims, paths);
    encoder.finish(false)
}

/// The value at a dotted path of at least two names.
fn descend<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, name| value.get(name))
}

/// Writes values so that different ones never look the same: each has its
/// kind, and its length or count, before it.
struct Encoder<'a> {
    hasher: blake3::Hasher,
    token: &'a Fingerprint,
}

impl<'a> Encoder<'a> {
    fn new(kind: &str, token: &'a Fingerprint) -> Self {
        let mut encoder = Self { hasher: blake3::Hasher::new(), token };
        encoder.part(DOMAIN);
        encoder.part(kind.as_bytes());
        encoder
    }

    fn finish(self, one_users: bool) -> Partition {
        Partition { digest: *self.hasher.finalize().as_bytes(), one_users }
    }

    fn count(&mut self, count: usize) {
        self.hasher.update(&(count as u64).to_le_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        write_part(&mut self.hasher, bytes);
    }

    /// A claim, being absent a value of its own.
    fn optional(&mut self, value: Option<&Value>) {
        match value {
            None => {
                self.hasher.update(b"-");
            }
            Some(value) => self.value(value),
        }
    }

    /// The paths and the claims at them.
    fn paths(&mut self, claims: &Claims, paths: &[String]) {
        self.count(paths.len());
        for path in paths {
            self.part(path.as_bytes());
            // The name of a claim may hold dots itself (`https://example.com/tenant`).
            // Which reading a policy has in mind is unknown, so both count.
            self.optional(claims.get(path));
            self.optional(descend(claims, path));
        }
    }

    /// serde_json reads no more than 128 levels, which bounds the recursion.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => {
                self.hasher.update(b"n");
            }
            Value::Bool(true) => {
                self.hasher.update(b"t");
            }
            Value::Bool(false) => {
                self.hasher.update(b"f");
            }
            Value::Number(number) if number.is_f64() => {
                // Several spellings, huge integers too, read as one such number
                // here and as several upstream: only this very token is sure.
                self.hasher.update(b"d");
                self.hasher.update(self.token.as_bytes());
            }
            Value::Number(number) => {
                self.hasher.update(b"i");
                self.part(number.to_string().as_bytes());
            }
            Value::String(text) => {
                self.hasher.update(b"s");
                self.part(text.as_bytes());
            }
            Value::Array(items) => {
                self.hasher.update(b"a");
                self.count(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(fields) => self.object(fields),
        }
    }

    fn object(&mut self, fields: &Map<String, Value>) {
        self.fields(fields.iter().collect());
    }

    fn fields(&mut self, mut fields: Vec<(&String, &Value)>) {
        // The map is sorted already unless some crate asks serde_json to keep the order.
        fields.sort_unstable_by_key(|(name, _)| *name);
        self.hasher.update(b"o");
        self.count(fields.len());
        for (name, value) in fields {
            self.part(name.as_bytes());
            self.value(value);
        }
    }
}
