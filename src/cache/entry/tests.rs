use super::*;
use crate::cache::generation::{Generations, TagSet};
use crate::tag::TagId;
use proptest::prelude::*;

fn tags() -> Snapshot {
    let set: TagSet = [1, 2, 3].map(TagId).into_iter().collect();
    let generations = Generations::new();
    generations.advance(&[TagId(1)]);
    generations.read(&set, std::time::Instant::now())
}

fn lifetimes() -> Lifetimes {
    Lifetimes {
        received_at: Timestamp(1_795_341_600_000),
        initial_age: 1,
        lifetime: 2,
        stale_while_revalidate: 3,
        stale_if_error: u64::MAX,
        empty: true,
        reuse: Reuse::MustRevalidate,
    }
}

fn entry(headers: &[(&str, &str)], body: &[u8], head_only: bool) -> Entry {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    Entry::new(&EntryParts {
        status: StatusCode::PARTIAL_CONTENT,
        headers: &map,
        body,
        head_only,
        lifetimes: lifetimes(),
        tags: &tags(),
    })
    .unwrap()
}

#[test]
fn everything_comes_back() {
    let stored = entry(&[("content-type", "a/b"), ("vary", "a"), ("vary", "")], b"body", false);
    let read = Entry::decode(stored.as_bytes(), &tags()).unwrap();
    assert_eq!(read, stored);
    assert_eq!(read.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(read.lifetimes(), lifetimes());
    assert_eq!((read.body(), &read.shared_body()[..]), (&b"body"[..], &b"body"[..]));
    assert!(read.tags().eq(tags().iter()) && read.tags().len() == 3);
    assert_eq!(read.header(&http::header::CONTENT_TYPE), Some(&b"a/b"[..]));
    assert_eq!(read.headers().get_all("vary").iter().count(), 2);
    assert!(read.lines().map(|line| line.as_bytes()).eq([
        &b"content-type: a/b\r\n"[..],
        b"vary: a\r\n",
        b"vary: \r\n"
    ]));
    assert!(read.is_empty() && !read.is_head_only());
    assert_eq!(read.digest(), stored.digest());
}

#[test]
fn a_head_entry_has_no_body() {
    let stored = entry(&[], b"ignored", true);
    assert!(stored.body().is_empty());
    assert!(Entry::decode(stored.as_bytes(), &tags()).unwrap().is_head_only());
}

#[test]
fn digests_tell_representations_apart() {
    let base = entry(&[("content-range", "0-0/*")], b"[1]", false);
    for other in [
        entry(&[("content-range", "0-0/1")], b"[1]", false),
        entry(&[("content-range", "0-0/*")], b"[2]", false),
        entry(&[("content-type", "0-0/*")], b"[1]", false),
        entry(&[("content-range", "0-0/*"), ("preference-applied", "count=exact")], b"[1]", false),
    ] {
        assert_ne!(base.digest(), other.digest());
    }
    let same = entry(&[("content-range", "0-0/*"), ("date", "x")], b"[1]", false);
    assert_eq!(base.digest(), same.digest());
}

#[test]
fn damaged_bytes_are_refused() {
    let stored = entry(&[("etag", "\"a\"")], b"body", false);
    let bytes = stored.as_bytes().to_vec();
    for len in 0..bytes.len() {
        assert!(Entry::decode(&bytes[..len], &tags()).is_err(), "cut to {len}");
    }
    let damaged = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        Entry::decode(&bytes, &tags())
    };
    assert_eq!(damaged(0, 1), Err(DecodeError::Version(1)));
    assert_eq!(damaged(1, 0xff), Err(DecodeError::Malformed("flags")));
    assert_eq!(damaged(3, 0xff), Err(DecodeError::Malformed("status")));
    assert_eq!(damaged(4, 9), Err(DecodeError::Length));
    assert_eq!(damaged(FIXED, 9), Err(DecodeError::Malformed("header list")));
    assert_eq!(damaged(FIXED + 1, 0), Err(DecodeError::Malformed("header name")));
    assert_eq!(damaged(FIXED + 2, 9), Err(DecodeError::Malformed("header list")));
    assert_eq!(damaged(FIXED + 6, b'E'), Err(DecodeError::Malformed("header name")));
    let trailing = [&bytes[..], b"x"].concat();
    assert_eq!(Entry::decode(&trailing, &tags()), Err(DecodeError::Length));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_entry_comes_back(
        headers in proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,40}"), 0..8),
        body in proptest::collection::vec(any::<u8>(), 0..200),
        head_only: bool,
    ) {
        let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let stored = entry(&pairs, &body, head_only);
        let read = Entry::decode(stored.as_bytes(), &tags()).unwrap();
        prop_assert_eq!(&read, &stored);
        prop_assert_eq!(read.headers(), stored.headers());
        prop_assert_eq!(read.lines().count(), headers.len());
    }

    #[test]
    fn arbitrary_bytes_never_panic(noise in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..300, value: u8) {
        let _ = Entry::decode(&noise, &tags());
        let mut bytes = entry(&[("etag", "\"a\""), ("vary", "b")], b"body", false).as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(read) = Entry::decode(&bytes, &tags()) {
            let _ = (read.headers(), read.body().len(), read.tags().count());
        }
    }
}
