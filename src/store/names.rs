//! The names of all that is kept in Redis.
//!
//! A name's part in braces decides its hash slot in a Cluster: an entry and its
//! leases share one, and so do the generations of one group of tags.

use std::sync::Arc;

use crate::cache::key::Key;
use crate::tag::TagId;

/// Names within one namespace. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    namespace: Arc<str>,
    channel: Arc<str>,
}

impl Names {
    /// Names that begin with `namespace` and a colon. It must have no braces:
    /// they would decide the hash slot of everything.
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.into(), channel: format!("{namespace}:bus").into() }
    }

    /// The entry under `key`.
    pub fn entry(&self, key: &Key) -> Vec<u8> {
        self.of_key("e", key)
    }

    /// The lease of the fill of `key`, one for GET and one for HEAD: an answer
    /// to HEAD doesn't serve those who wait for a body.
    pub fn lease(&self, key: &Key, head: bool) -> Vec<u8> {
        self.of_key(if head { "h" } else { "l" }, key)
    }

    /// The generation of `tag`.
    pub fn generation(&self, tag: TagId) -> Vec<u8> {
        // By hand, since every lookup names some of them.
        let digits = hex(tag.0);
        let mut name = Vec::with_capacity(self.namespace.len() + 26);
        name.extend_from_slice(self.namespace.as_bytes());
        name.extend_from_slice(b":g:{");
        // The group is the tag's upper 16 bits.
        name.extend_from_slice(&digits[..4]);
        name.extend_from_slice(b"}:");
        name.extend_from_slice(&digits);
        name
    }

    /// The sorted set of nodes by their last beat.
    pub fn nodes(&self) -> Vec<u8> {
        format!("{}:n:{{nodes}}", self.namespace).into_bytes()
    }

    /// The writes that `node` has forwarded and not invalidated for yet.
    pub fn notes(&self, node: u64) -> Vec<u8> {
        format!("{}:w:{{nodes}}:{node:016x}", self.namespace).into_bytes()
    }

    /// The upstream that the namespace belongs to.
    pub fn upstream(&self) -> Vec<u8> {
        format!("{}:upstream", self.namespace).into_bytes()
    }

    /// The channel of the bus.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    fn of_key(&self, kind: &str, key: &Key) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.namespace.len() + 5 + 2 * key.as_bytes().len());
        name.extend_from_slice(self.namespace.as_bytes());
        name.push(b':');
        name.extend_from_slice(kind.as_bytes());
        name.extend_from_slice(b":{");
        // By hand as well.
        name.extend(key.as_bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
        name.push(b'}');
        name
    }
}

/// A number's 16 hexadecimal digits.
fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|index| digit(((number >> (60 - 4 * index)) & 15) as u8))
}

/// The digit of a number below 16.
fn digit(number: u8) -> u8 {
    b"0123456789abcdef"[usize::from(number & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: Vec<u8>) -> String {
        String::from_utf8(name).unwrap()
    }

    #[test]
    fn names_are_as_other_versions_know_them() {
        let names = Names::new("sluice:abc.supabase.co");
        let key = Key::from([0xab; 16]);
        let hex = "ab".repeat(16);
        let tag = TagId(0x0123_4567_89ab_cdef);
        let cases = [
            (names.entry(&key), format!("sluice:abc.supabase.co:e:{{{hex}}}")),
            (names.lease(&key, false), format!("sluice:abc.supabase.co:l:{{{hex}}}")),
            (names.lease(&key, true), format!("sluice:abc.supabase.co:h:{{{hex}}}")),
            (names.generation(tag), "sluice:abc.supabase.co:g:{0123}:0123456789abcdef".into()),
            (names.generation(TagId(1)), "sluice:abc.supabase.co:g:{0000}:0000000000000001".into()),
            (names.nodes(), "sluice:abc.supabase.co:n:{nodes}".into()),
            (names.notes(255), "sluice:abc.supabase.co:w:{nodes}:00000000000000ff".into()),
            (names.upstream(), "sluice:abc.supabase.co:upstream".into()),
            (names.channel().as_bytes().to_vec(), "sluice:abc.supabase.co:bus".into()),
        ];
        for (name, expected) in cases {
            assert_eq!(text(name), expected);
        }
    }

    #[test]
    fn an_entry_and_its_leases_share_a_slot() {
        let (names, key) = (Names::new("ns"), Key::from([1; 16]));
        let slot = |name| text(name).split(['{', '}']).nth(1).map(str::to_owned);
        assert_eq!(slot(names.entry(&key)), slot(names.lease(&key, false)));
        assert_eq!(slot(names.entry(&key)), slot(names.lease(&key, true)));
        assert_ne!(slot(names.entry(&key)), slot(names.entry(&Key::from([2; 16]))));
    }
}
