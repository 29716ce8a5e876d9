//! `Cache-Control`, as RFC 9111, section 5.2 and RFC 5861 define it, for a shared cache.

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

/// The longest delta-seconds; larger ones count as this (RFC 9111, section 1.2.2).
const MAX_SECONDS: u64 = 1 << 31;

/// What an answer's `Cache-Control` says. Numbers are seconds.
///
/// A number that is malformed, or given twice with different values, counts as
/// zero: such an answer is stale (section 4.2.1). `no-cache` and `private`
/// with field names count as without, which section 5.2.2 leaves to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseDirectives {
    /// `no-store`
    pub no_store: bool,
    /// `no-cache`
    pub no_cache: bool,
    /// `private`
    pub private: bool,
    /// `public`
    pub public: bool,
    /// `must-revalidate`
    pub must_revalidate: bool,
    /// `proxy-revalidate`
    pub proxy_revalidate: bool,
    /// `must-understand`
    pub must_understand: bool,
    /// `no-transform`
    pub no_transform: bool,
    /// `max-age`
    pub max_age: Option<u64>,
    /// `s-maxage`
    pub s_maxage: Option<u64>,
    /// `stale-while-revalidate`
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error`
    pub stale_if_error: Option<u64>,
}

impl ResponseDirectives {
    /// Reads all `Cache-Control` lines of an answer.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for_each_directive(headers, |name, argument| {
            let seconds = |slot: &mut Option<u64>| set_seconds(slot, argument);
            match name {
                "no-store" => found.no_store = true,
                "no-cache" => found.no_cache = true,
                "private" => found.private = true,
                "public" => found.public = true,
                "must-revalidate" => found.must_revalidate = true,
                "proxy-revalidate" => found.proxy_revalidate = true,
                "must-understand" => found.must_understand = true,
                "no-transform" => found.no_transform = true,
                "max-age" => seconds(&mut found.max_age),
                "s-maxage" => seconds(&mut found.s_maxage),
                "stale-while-revalidate" => seconds(&mut found.stale_while_revalidate),
                "stale-if-error" => seconds(&mut found.stale_if_error),
                _ => {}
            }
        });
        found
    }
}

/// What a client's `Cache-Control` asks for. Numbers are seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestDirectives {
    /// `no-cache`, or `Pragma: no-cache` where there is no `Cache-Control`
    pub no_cache: bool,
    /// `no-store`: neither answered from the cache nor stored
    pub no_store: bool,
    /// `only-if-cached`: 504 rather than asking upstream
    pub only_if_cached: bool,
    /// `max-age`
    pub max_age: Option<u64>,
    /// `min-fresh`
    pub min_fresh: Option<u64>,
    /// `max-stale`; without an argument, any staleness
    pub max_stale: Option<u64>,
}

impl RequestDirectives {
    /// Reads all `Cache-Control` lines of a request, or its `Pragma`.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            let pragmas = headers.get_all(PRAGMA).iter().filter_map(|value| value.to_str().ok());
            found.no_cache = pragmas
                .flat_map(|line| line.split(','))
                .any(|one| one.trim().eq_ignore_ascii_case("no-cache"));
            return found;
        }
        for_each_directive(headers, |name, argument| match name {
            "no-cache" => found.no_cache = true,
            "no-store" => found.no_store = true,
            "only-if-cached" => found.only_if_cached = true,
            "max-age" => set_seconds(&mut found.max_age, argument),
            "max-stale" if argument == Argument::None => found.max_stale = Some(MAX_SECONDS),
            "max-stale" => set_seconds(&mut found.max_stale, argument),
            // The strictest reading of a malformed one: nothing is fresh for so long.
            "min-fresh" => found.min_fresh = Some(argument.seconds().unwrap_or(MAX_SECONDS)),
            _ => {}
        });
        found
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument<'a> {
    None,
    Text(&'a str),
    /// Something stood there that the grammar doesn't allow.
    Malformed,
}

impl Argument<'_> {
    fn seconds(self) -> Option<u64> {
        match self {
            Argument::Text(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(text.parse().map_or(MAX_SECONDS, |seconds: u64| seconds.min(MAX_SECONDS)))
            }
            _ => None,
        }
    }
}

fn set_seconds(slot: &mut Option<u64>, argument: Argument<'_>) {
    let seconds = argument.seconds().unwrap_or(0);
    *slot = Some(match *slot {
        Some(earlier) if earlier != seconds => 0,
        _ => seconds,
    });
}

/// Calls `visit` with each directive's name in lower case and its argument.
fn for_each_directive(headers: &HeaderMap, mut visit: impl FnMut(&str, Argument<'_>)) {
    for value in headers.get_all(CACHE_CONTROL) {
        // A line that isn't ASCII may hide a restriction; each piece is read as far as it goes.
        let line = String::from_utf8_lossy(value.as_bytes());
        let mut rest: &str = &line;
        while !rest.is_empty() {
            let (piece, after) = split_at_comma(rest);
            rest = after;
            let (name, argument) = split_directive(piece);
            if !name.is_empty() {
                visit(&name.to_ascii_lowercase(), argument);
            }
        }
    }
}

/// Splits off the first list element; commas inside quotes don't separate.
fn split_at_comma(list: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut escaped = false;
    for (index, byte) in list.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (&list[..index], &list[index + 1..]),
            _ => {}
        }
    }
    if quoted {
        // An open quote must not swallow the restrictions after it.
        return list.split_once(',').unwrap_or((list, ""));
    }
    (list, "")
}

fn split_directive(piece: &str) -> (&str, Argument<'_>) {
    let piece = piece.trim_matches([' ', '\t']);
    let Some((name, argument)) = piece.split_once('=') else { return (piece, Argument::None) };
    let bare_name = name.trim_end_matches([' ', '\t']);
    if bare_name != name || argument.starts_with([' ', '\t']) {
        return (bare_name, Argument::Malformed);
    }
    match argument.strip_prefix('"') {
        None => (name, Argument::Text(argument)),
        Some(quoted) => match quoted.strip_suffix('"') {
            Some(text) => (name, Argument::Text(text)),
            None => (name, Argument::Malformed),
        },
    }
}

#[cfg(test)]
mod tests;
