//! Asking upstream whether a stored answer still holds (RFC 9111, section 4.3).

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::entry::{Entry, EntryParts};
use super::freshness::{Answer, NotStored, Policy, judge};
use super::generation::Snapshot;
use super::stored_headers::storable;

/// What a 304 says about itself or about a body that it doesn't have; Storage
/// sends `Content-Length: 0`.
static NOT_FRESHENED: [HeaderName; 4] = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_TYPE, CONTENT_RANGE];

/// The condition to send upstream with a request that may confirm `entry`.
/// `None` if upstream sent no validator. The date goes only where there is no
/// tag: Storage lets a later date win over a tag that doesn't match.
pub fn condition(entry: &Entry) -> Option<(HeaderName, HeaderValue)> {
    if entry.is_head_only() {
        return None;
    }
    let stored = |name| HeaderValue::from_bytes(entry.header(name)?).ok();
    let by_tag = stored(&ETAG).map(|tag| (IF_NONE_MATCH, tag));
    by_tag.or_else(|| stored(&LAST_MODIFIED).map(|date| (IF_MODIFIED_SINCE, date)))
}

/// The entry that a 304 makes of `entry`: its body under the 304's headers.
/// It keeps the generations that its body was fetched under, so that no 304
/// brings back an answer that a write has made unusable.
///
/// # Errors
///
/// [`NotStored::Mismatch`] if the 304 is about another representation: ask
/// again without a condition. Else why the freshened answer may not be stored.
pub fn freshen(entry: &Entry, policy: &Policy, not_modified: &Answer<'_>) -> Result<Entry, NotStored> {
    if let (Some(stored), Some(sent)) = (entry.header(&ETAG), not_modified.headers.get(ETAG))
        && !names_same(stored, sent.as_bytes())
    {
        return Err(NotStored::Mismatch);
    }
    freshened(entry, policy, not_modified)
}

/// What a 200 to HEAD says about the stored answer to GET (RFC 9111, section 4.3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadAnswer {
    /// It is about the stored representation: this takes its place.
    Confirms(Box<Entry>),
    /// It is about another one: the stored answer is to be removed.
    Contradicts,
    /// It has nothing to compare.
    Silent,
}

/// Compares the answer to a HEAD with the stored answer to a GET.
pub fn compare_head(entry: &Entry, policy: &Policy, head: &Answer<'_>) -> HeadAnswer {
    let same = |name: &HeaderName| Some(entry.header(name)? == head.headers.get(name)?.as_bytes());
    let same_length =
        head.headers.get(CONTENT_LENGTH).filter(|_| !entry.is_head_only()).map(|length| {
            length.to_str().ok().and_then(|text| text.parse().ok()) == Some(entry.body().len())
        });
    let comparisons =
        [same(&ETAG), same(&LAST_MODIFIED), same(&CONTENT_TYPE), same(&CONTENT_RANGE), same_length];
    if entry.status() != head.status || comparisons.contains(&Some(false)) {
        return HeadAnswer::Contradicts;
    }
    // A type and a range that agree tell nothing about the rows.
    if comparisons[0].or(comparisons[1]).is_none() {
        return HeadAnswer::Silent;
    }
    match freshened(entry, policy, head) {
        Ok(fresh) => HeadAnswer::Confirms(Box::new(fresh)),
        Err(_) => HeadAnswer::Contradicts,
    }
}

fn freshened(entry: &Entry, policy: &Policy, update: &Answer<'_>) -> Result<Entry, NotStored> {
    let mut headers = entry.headers();
    // Judged by everything that was sent, stored by what may be kept.
    let mut judged = headers.clone();
    replace(&mut judged, update.headers);
    replace(&mut headers, &storable(update.headers, false, update.received_at));
    let lifetimes = judge(policy, &Answer { status: entry.status(), headers: &judged, ..*update })?;
    Entry::new(&EntryParts {
        status: entry.status(),
        headers: &headers,
        body: entry.body(),
        head_only: entry.is_head_only(),
        lifetimes,
        tags: &Snapshot::carried(entry.tags()),
    })
    .map_err(|_| NotStored::Size)
}

/// Puts the values that `update` has in place of those that `headers` has.
fn replace(headers: &mut HeaderMap, update: &HeaderMap) {
    for name in update.keys().filter(|name| !NOT_FRESHENED.contains(name)) {
        headers.remove(name);
        for value in update.get_all(name) {
            headers.append(name, value.clone());
        }
    }
}

/// Whether two entity tags name the same representation by weak comparison: a
/// 304 may carry a tag in its weak form.
fn names_same(one: &[u8], other: &[u8]) -> bool {
    let opaque = |tag: &[u8]| tag.trim_ascii().strip_prefix(b"W/").unwrap_or(tag.trim_ascii()).to_vec();
    opaque(one) == opaque(other)
}

#[cfg(test)]
mod tests;
