//! The newest token that was seen of each caller with queued writes.
//!
//! A write is replayed with the newest token whose holder has the rights that
//! the write came with, named by [`crate::identity::rights`]. Tokens of callers
//! without queued writes are not kept.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

/// What a token has to be equal in to be used for a write.
type Rights = [u8; 16];

/// How many rights are held at most, and how many bytes of tokens.
const MAX_RIGHTS: usize = 65_536;
const MAX_BYTES: usize = 64 << 20;
/// How many of the tokens that upstream refused are remembered for each.
const MAX_REFUSED: usize = 8;

/// Tokens by rights. Shared by all workers.
#[derive(Default)]
pub struct Wallet {
    slots: Mutex<Slots>,
    /// How many rights there are slots for.
    wanted: AtomicUsize,
}

/// A token that was verified when it was seen. `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SeenToken {
    text: Arc<str>,
    api_key: Option<Arc<str>>,
    expires: Option<SystemTime>,
}

#[derive(Default)]
struct Slots {
    by_rights: HashMap<Rights, Slot>,
    /// The same, the first to be dropped first.
    by_end: BTreeSet<(SystemTime, Rights)>,
    bytes: usize,
}

struct Slot {
    until: SystemTime,
    token: Option<SeenToken>,
    /// The hashes of tokens that upstream refused, the oldest first.
    refused: VecDeque<blake3::Hash>,
}

impl Slot {
    fn has_refused(&self, token: &str) -> bool {
        !self.refused.is_empty() && self.refused.contains(&blake3::hash(token.as_bytes()))
    }
}

impl SeenToken {
    /// A token, the API key that came beside it, and when the token expires (`None`: never).
    pub fn new(text: &str, api_key: Option<&str>, expires: Option<SystemTime>) -> Self {
        Self { text: text.into(), api_key: api_key.map(Arc::from), expires }
    }

    /// The API key that came beside it.
    pub fn api_key(&self) -> Option<&str> {
        self.api_key.as_deref()
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// When it expires. `None`: never.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.api_key.as_ref().map_or(0, |key| key.len())
    }

    fn holds(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }

    /// Whether it ends after `other`; one that never expires ends last.
    fn outlives(&self, other: &Self) -> bool {
        match (self.expires, other.expires) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(ours), Some(theirs)) => ours > theirs,
        }
    }
}

impl fmt::Debug for SeenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeenToken(..)")
    }
}

impl Wallet {
    /// Keeps tokens with these rights until `until`, or longer if that was said
    /// before: a write with them is queued.
    pub fn want(&self, rights: Rights, until: SystemTime, now: SystemTime) {
        let mut slots = self.slots.lock();
        slots.drop_ended(now);
        slots.want(rights, until);
        self.wanted.store(slots.by_rights.len(), Ordering::Relaxed);
    }

    /// Whether no token is wanted: then nobody's rights need be known.
    pub fn is_empty(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) == 0
    }

    /// Offers a token that is valid at `now`. Returns whether it was taken: such
    /// are wanted, none was there that holds as long, and upstream hasn't refused
    /// this one. Writes that wait for a token may then be tried again.
    pub fn offer(&self, rights: &Rights, seen: SeenToken, now: SystemTime) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut slots = self.slots.lock();
        let taken = slots.offer(rights, seen, now);
        self.wanted.store(slots.by_rights.len(), Ordering::Relaxed);
        taken
    }

    /// The newest token with these rights that is valid at `now`.
    pub fn newest(&self, rights: &Rights, now: SystemTime) -> Option<SeenToken> {
        let slots = self.slots.lock();
        slots.by_rights.get(rights)?.token.clone().filter(|token| token.holds(now))
    }

    /// Whether upstream refused this token, as far as that is remembered.
    pub fn was_refused(&self, rights: &Rights, token: &str) -> bool {
        self.slots.lock().by_rights.get(rights).is_some_and(|slot| slot.has_refused(token))
    }

    /// Forgets a token that upstream refused, and doesn't take it again as long as
    /// tokens with these rights are wanted.
    pub fn refuse(&self, rights: &Rights, token: &str) {
        self.slots.lock().refuse(rights, token);
    }
}

impl Slots {
    fn want(&mut self, rights: Rights, until: SystemTime) {
        if let Some(slot) = self.by_rights.get_mut(&rights) {
            if slot.until < until {
                self.by_end.remove(&(slot.until, rights));
                self.by_end.insert((until, rights));
                slot.until = until;
            }
            return;
        }
        if self.by_rights.len() >= MAX_RIGHTS {
            self.drop_first();
        }
        self.by_rights.insert(rights, Slot { until, token: None, refused: VecDeque::new() });
        self.by_end.insert((until, rights));
    }

    fn offer(&mut self, rights: &Rights, seen: SeenToken, now: SystemTime) -> bool {
        let Some(slot) = self.by_rights.get_mut(rights) else { return false };
        let is_newer = match slot.token.as_ref().filter(|held| held.holds(now)) {
            Some(held) => seen.outlives(held),
            None => true,
        };
        if !seen.holds(now) || !is_newer || slot.has_refused(&seen.text) {
            return false;
        }
        self.bytes += seen.bytes();
        self.bytes -= slot.token.replace(seen).map_or(0, |before| before.bytes());
        while self.bytes > MAX_BYTES && self.drop_first() {}
        self.by_rights.contains_key(rights)
    }

    fn refuse(&mut self, rights: &Rights, token: &str) {
        let Some(slot) = self.by_rights.get_mut(rights) else { return };
        let hash = blake3::hash(token.as_bytes());
        if !slot.refused.contains(&hash) {
            if slot.refused.len() >= MAX_REFUSED {
                slot.refused.pop_front();
            }
            slot.refused.push_back(hash);
        }
        if slot.token.as_ref().is_some_and(|held| *held.text == *token) {
            self.bytes -= slot.token.take().map_or(0, |held| held.bytes());
        }
    }

    /// Drops what nobody wants any longer.
    fn drop_ended(&mut self, now: SystemTime) {
        while self.by_end.first().is_some_and(|(until, _)| *until < now) {
            self.drop_first();
        }
    }

    /// Drops what is to be dropped first, if there is anything.
    fn drop_first(&mut self) -> bool {
        let Some((_, rights)) = self.by_end.pop_first() else { return false };
        let slot = self.by_rights.remove(&rights);
        self.bytes -= slot.and_then(|slot| slot.token).map_or(0, |token| token.bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn rights(number: usize) -> Rights {
        (number as u128).to_be_bytes()
    }

    fn newest(wallet: &Wallet, of: usize, now: u64) -> Option<String> {
        wallet.newest(&rights(of), at(now)).map(|token| token.expose().to_owned())
    }

    #[test]
    fn the_newest_of_the_wanted_is_kept() {
        let wallet = Wallet::default();
        assert!(wallet.is_empty());
        assert!(
            !wallet.offer(&rights(1), SeenToken::new("early", None, Some(at(500))), at(0)),
            "nobody wants it"
        );
        wallet.want(rights(1), at(1000), at(0));
        assert!(!wallet.is_empty());
        // The token, its end, the time, whether it is taken, and which is the newest then.
        for (token, expires, now, taken, kept) in [
            ("past", Some(10), 10, false, None),
            ("one", Some(100), 10, true, Some("one")),
            ("one", Some(100), 11, false, Some("one")),
            ("shorter", Some(90), 12, false, Some("one")),
            ("two", Some(200), 13, true, Some("two")),
            ("three", Some(150), 200, false, None),
            ("four", Some(201), 200, true, Some("four")),
            ("for-ever", None, 200, true, Some("for-ever")),
            ("later", Some(9999), 200, false, Some("for-ever")),
        ] {
            assert_eq!(
                wallet.offer(&rights(1), SeenToken::new(token, None, expires.map(at)), at(now)),
                taken,
                "{token} {now}"
            );
            assert_eq!(newest(&wallet, 1, now).as_deref(), kept, "{token} {now}");
        }
        assert!(!wallet.offer(&rights(2), SeenToken::new("another's", None, None), at(200)));
        assert_eq!(newest(&wallet, 2, 200), None);
        assert!(!format!("{:?}", wallet.newest(&rights(1), at(200))).contains("for-ever"));
    }

    #[test]
    fn a_refused_token_is_not_taken_again() {
        let wallet = Wallet::default();
        wallet.want(rights(1), at(1000), at(0));
        assert!(wallet.offer(&rights(1), SeenToken::new("bad", None, Some(at(500))), at(0)));
        wallet.refuse(&rights(1), "bad");
        assert_eq!(newest(&wallet, 1, 0), None);
        assert!(!wallet.offer(&rights(1), SeenToken::new("bad", None, Some(at(500))), at(0)));
        assert!(wallet.was_refused(&rights(1), "bad") && !wallet.was_refused(&rights(2), "bad"));
        assert!(!wallet.was_refused(&rights(1), "good"));
        assert!(
            wallet.offer(&rights(1), SeenToken::new("good", None, Some(at(400))), at(0)),
            "though it ends before the bad one"
        );
        wallet.refuse(&rights(1), "unseen");
        assert_eq!(newest(&wallet, 1, 0).as_deref(), Some("good"));
        (0..100).for_each(|number| wallet.refuse(&rights(1), &number.to_string()));
        assert_eq!(wallet.slots.lock().by_rights[&rights(1)].refused.len(), MAX_REFUSED);
    }

    #[test]
    fn what_nobody_wants_any_longer_is_dropped() {
        let wallet = Wallet::default();
        wallet.want(rights(1), at(100), at(0));
        wallet.want(rights(1), at(50), at(0));
        wallet.want(rights(2), at(60), at(0));
        assert!(
            wallet.offer(&rights(1), SeenToken::new("one", None, None), at(0))
                && wallet.offer(&rights(2), SeenToken::new("two", None, None), at(0))
        );
        wallet.want(rights(3), at(1000), at(70));
        assert_eq!((newest(&wallet, 1, 70).as_deref(), newest(&wallet, 2, 70)), (Some("one"), None));
        wallet.want(rights(3), at(1000), at(1001));
        let slots = wallet.slots.lock();
        assert_eq!((slots.by_rights.len(), slots.by_end.len(), slots.bytes), (1, 1, 0));
    }

    #[test]
    fn it_is_bounded() {
        let wallet = Wallet::default();
        for number in 0..MAX_RIGHTS + 10 {
            wallet.want(rights(number), at(1000 + number as u64), at(0));
        }
        assert_eq!(wallet.slots.lock().by_rights.len(), MAX_RIGHTS);
        let long = "t".repeat(1 << 20);
        for number in MAX_RIGHTS - 100..MAX_RIGHTS {
            wallet.offer(&rights(number), SeenToken::new(&long, None, None), at(0));
        }
        let slots = wallet.slots.lock();
        assert!(slots.bytes <= MAX_BYTES);
        let kept: usize =
            slots.by_rights.values().filter_map(|slot| slot.token.as_ref()).map(|t| t.text.len()).sum();
        assert_eq!((kept, slots.by_rights.len()), (slots.bytes, slots.by_end.len()));
    }
}
