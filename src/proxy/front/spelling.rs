//! Spellings: what of a request's head could matter, as one number.
//!
//! Two heads with one spelling have the same bytes wherever bytes could make a
//! difference to the plan or to the answer, so that what was found out about
//! one holds for the other. What makes no difference, the identifiers of
//! traces and the client's remarks about itself, takes no part; conditions and
//! `Origin` don't either, since they are looked at each time.

use http::HeaderName;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use crate::cache::Conditions;
use crate::headers;
use crate::proxy::head::{Framing, Head};

/// Longer names are none that Sluice knows.
const MAX_KNOWN_NAME: usize = 64;

/// What of a head could matter: 128 bits under a key of this process, so that
/// nobody finds two heads with the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spelling(u128);

tokio::task_local! {
    /// The spelling of the request that Pingora is being given, if it may be
    /// entered into the index.
    pub static CURRENT: Option<Spelling>;
}

/// What the front reads of a head that may be in the index.
#[derive(Debug)]
pub struct Asked<'b> {
    /// What tells it from others.
    pub spelling: Spelling,
    /// The method is HEAD.
    pub head: bool,
    /// What the client has already.
    pub conditions: Conditions<'b>,
    /// The first `Origin`.
    pub origin: Option<&'b [u8]>,
}

/// Spells heads.
#[derive(Debug, Clone)]
pub struct Speller {
    key: [u8; 16],
    /// Headers that some route has in its keys.
    varied: Vec<HeaderName>,
}

/// What a field of a head means to its spelling.
enum Meaning {
    Material,
    Immaterial,
    Condition,
    Origin,
    Connection,
    /// The request is one for the proxy.
    Foreign,
}

impl Speller {
    /// Spells under `key`, which is secret. `varied` are the headers that
    /// routes have in their keys beside those that all have.
    pub fn new(key: [u8; 16], varied: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut varied: Vec<HeaderName> = varied.into_iter().collect();
        varied.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        varied.dedup();
        Self { key, varied }
    }

    /// Spells a head. `None`: the request is one for the proxy, whatever was
    /// answered to others.
    pub fn read<'b>(&self, head: &Head<'_, 'b>) -> Option<Asked<'b>> {
        let is_head = match head.method {
            "GET" => false,
            "HEAD" => true,
            _ => return None,
        };
        if !head.is_http_11 || head.framing != Framing::None {
            return None;
        }
        let mut hasher = SipHasher13::new_with_key(&self.key);
        let (mut conditions, mut origin, mut connections) = (Conditions::default(), None, 0);
        // Where the bytes begin that are yet to be hashed.
        let mut from = 0;
        for (index, field) in head.fields.iter().enumerate() {
            let mut room = [0; MAX_KNOWN_NAME];
            let (meaning, name) = self.meaning(field.name, &mut room);
            match meaning {
                Meaning::Material => continue,
                Meaning::Immaterial => {}
                Meaning::Condition => conditions.add(name, field.value),
                Meaning::Origin => origin = origin.or(Some(field.value)),
                Meaning::Connection if field.value.eq_ignore_ascii_case(b"keep-alive") => connections += 1,
                Meaning::Connection | Meaning::Foreign => return None,
            }
            hasher.write(head.raw.get(from..position(head.raw, field.name)?)?);
            from = match head.fields.get(index + 1) {
                Some(next) => position(head.raw, next.name)?,
                // The blank line, which is hashed in any case.
                None => head.raw.len() - if head.raw.ends_with(b"\r\n") { 2 } else { 1 },
            };
        }
        hasher.write(head.raw.get(from..)?);
        let spelling = Spelling(hasher.finish128().as_u128());
        (connections <= 1).then_some(Asked { spelling, head: is_head, conditions, origin })
    }

    fn meaning<'r>(&self, name: &str, room: &'r mut [u8; MAX_KNOWN_NAME]) -> (Meaning, &'r str) {
        let Some(lower) = room.get_mut(..name.len()) else { return (Meaning::Material, "") };
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        let lower = std::str::from_utf8(lower).unwrap_or_default();
        let meaning = match lower {
            "connection" => Meaning::Connection,
            "sluice-debug" | "upgrade" | "transfer-encoding" => Meaning::Foreign,
            _ if self.varied.iter().any(|varied| varied == lower) => match lower {
                // In a key and looked at each time as well: no index for those.
                "if-none-match" | "if-modified-since" | "origin" => Meaning::Foreign,
                _ => Meaning::Material,
            },
            "if-none-match" | "if-modified-since" => Meaning::Condition,
            "origin" => Meaning::Origin,
            _ if headers::is_immaterial(lower) => Meaning::Immaterial,
            _ => Meaning::Material,
        };
        (meaning, lower)
    }
}

/// Where `part`, a piece of `whole`, begins.
fn position(whole: &[u8], part: &str) -> Option<usize> {
    (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)
}

#[cfg(test)]
mod tests;
