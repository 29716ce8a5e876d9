use super::wrapping::INLINE;
use super::*;
use crate::store::envelope;
use crate::store::stamp::{ReplicationId, Stamp};

const REPLICATION: &[u8] = b"000000000000000000000000000000010123abcd";

fn key() -> Key {
    Key::from([5; 16])
}

fn text(bytes: &[u8]) -> Value {
    Value::BulkString(bytes.to_vec())
}

fn set(tags: &[u64]) -> TagSet {
    tags.iter().copied().map(TagId).collect()
}

fn entry_tags() -> EntryTags {
    EntryTags::new(&[TagId(1), TagId(2)], &[TagId(3)])
}

fn stamps(of: &[(u64, u128)]) -> Stamps {
    of.iter().map(|(tag, stamp)| (TagId(*tag), Some(Stamp(*stamp)))).collect()
}

#[test]
fn a_cluster_is_asked_group_by_group() {
    let tags = set(&[1 << 48, (1 << 48) | 7, 2 << 48, 9]);
    let lots = |cluster| on_one_master(&tags, cluster).map(<[TagId]>::len).collect::<Vec<_>>();
    assert_eq!(lots(false), [4]);
    assert_eq!(lots(true), [1, 2, 1]);
    let shape = |cluster| {
        parts(&tags, cluster).iter().map(|part| (part.with_entry, part.tags.len())).collect::<Vec<_>>()
    };
    assert_eq!(shape(false), [(true, 4)]);
    assert_eq!(shape(true), [(true, 0), (false, 1), (false, 2), (false, 1)]);
}

#[test]
fn the_entry_is_read_even_without_tags() {
    for cluster in [false, true] {
        let none = set(&[]);
        let parts = parts(&none, cluster);
        assert_eq!(parts.len(), 1);
        assert!(parts[0].with_entry && parts[0].tags.is_empty());
    }
}

#[test]
fn no_script_gets_more_tags_than_it_may() {
    let tags: TagSet = (0..2500).map(TagId).collect();
    for cluster in [false, true] {
        let lots: Vec<usize> = on_one_master(&tags, cluster).map(<[TagId]>::len).collect();
        assert_eq!(lots, [1000, 1000, 500]);
    }
    let shape: Vec<bool> = parts(&tags, false).iter().map(|part| part.with_entry).collect();
    assert_eq!(shape, [true, false, false]);
}

#[test]
fn times_are_milliseconds_that_redis_takes() {
    let cases = [
        (Duration::ZERO, "1"),
        (Duration::from_micros(1), "1"),
        (Duration::from_millis(1500), "1500"),
        (Duration::MAX, "86400000000"),
    ];
    for (time, expected) in cases {
        assert_eq!(millis(time), expected.as_bytes(), "{time:?}");
    }
}

#[test]
fn answers_of_several_masters_are_put_together() {
    let mut reading = Reading::new();
    let other = b"00000000000000000000000000000002ffffffff";
    let first = vec![text(REPLICATION), Value::Int(2), text(b"frame")];
    let second = vec![text(other), Value::Int(0), text(&[0; 16]), text(b"")];
    let third = vec![text(other), Value::Int(0), Value::Nil];
    reading.add(first, true, true, &[]).unwrap();
    reading.add(second, true, false, &[TagId(1), TagId(2)]).unwrap();
    reading.add(third, true, false, &[TagId(3)]).unwrap();
    assert_eq!(reading.frame.as_deref(), Some(&b"frame"[..]));
    assert_eq!(reading.lease, LeaseState::Taken);
    assert_eq!(reading.replications[..], [ReplicationId(1), ReplicationId(2)]);
    let expected = [(TagId(1), Some(Stamp(2))), (TagId(2), None), (TagId(3), None)];
    assert_eq!(reading.stamps(), expected.into_iter().collect());
}

#[test]
fn malformed_answers_are_errors() {
    let cases: [(&str, Vec<Value>); 8] = [
        ("nothing", vec![]),
        ("no replication id", vec![Value::Nil, Value::Int(1), Value::Nil, Value::Nil]),
        ("no lease", vec![text(REPLICATION), text(b"1"), Value::Nil, Value::Nil]),
        ("unknown lease", vec![text(REPLICATION), Value::Int(4), Value::Nil, Value::Nil]),
        ("no string", vec![text(REPLICATION), Value::Int(1), Value::Int(1), Value::Nil]),
        ("a word for a replication id", vec![text(b"master"), Value::Int(1), Value::Nil, Value::Nil]),
        ("too short", vec![text(REPLICATION), Value::Int(1), Value::Nil]),
        ("too long", vec![text(REPLICATION), Value::Int(1), Value::Nil, Value::Nil, Value::Nil]),
    ];
    for (what, values) in cases {
        let outcome = Reading::new().add(values, true, true, &[TagId(1)]);
        assert!(matches!(outcome, Err(StoreError::Broken(_))), "{what}");
    }
}

#[tokio::test]
async fn only_an_entry_with_the_requests_tags_now_is_usable() {
    let now = stamps(&[(1, 10), (2, 20), (3, 30)]);
    let wrap = |of: &[(u64, u128)], empty| {
        Some(Bytes::from(envelope::seal(&key(), &stamps(of), empty, b"entry").unwrap()))
    };
    let found = |empty| Some(Found { entry: Bytes::from_static(b"entry"), empty });
    let cases = [
        ("with rows", wrap(&[(1, 10), (2, 20)], false), found(false)),
        ("empty", wrap(&[(1, 10), (2, 20), (3, 30)], true), found(true)),
        ("empty, with the tags of rows", wrap(&[(1, 10), (2, 20)], true), None),
        ("with rows, with the tags of an empty one", wrap(&[(1, 10), (2, 20), (3, 30)], false), None),
        ("moved", wrap(&[(1, 10), (2, 21)], false), None),
        ("malformed", Some(Bytes::from_static(b"?")), None),
        ("absent", None, None),
    ];
    for (what, frame, expected) in cases {
        assert_eq!(usable(&key(), &entry_tags(), &now, frame).await, expected, "{what}");
    }
}

#[tokio::test]
async fn an_entry_is_sealed_with_the_tags_of_its_answer() {
    let now = stamps(&[(1, 10), (2, 20), (3, 30)]);
    // The second one is sealed and opened off this thread.
    for entry in [Bytes::from_static(b"entry"), Bytes::from(vec![7; INLINE + 1])] {
        for empty in [false, true] {
            let (key, tags) = (key(), entry_tags());
            let ttl = Duration::from_secs(1);
            let filled = Filled { key: &key, entry: &entry, empty, tags: &tags, stamps: &now, ttl };
            let frame = sealed(&filled).await.unwrap();
            let found = usable(&key, &tags, &now, Some(frame.into())).await;
            assert_eq!(found, Some(Found { entry: entry.clone(), empty }));
        }
    }
}

#[tokio::test]
async fn an_entry_without_a_stamp_for_each_tag_is_not_sealed() {
    let (key, tags, entry) = (key(), entry_tags(), Bytes::from_static(b"entry"));
    for (of, empty, kept) in [(&[1, 2][..], false, true), (&[1, 2], true, false), (&[2, 3], false, false)] {
        let now = stamps(&of.iter().map(|tag| (*tag, 7)).collect::<Vec<_>>());
        let ttl = Duration::from_secs(1);
        let filled = Filled { key: &key, entry: &entry, empty, tags: &tags, stamps: &now, ttl };
        let expected = if kept { None } else { Some(SealError::Incomplete) };
        assert_eq!(sealed(&filled).await.err(), expected, "{of:?}");
    }
}

#[test]
fn leases_differ_and_hide_their_token() {
    let (one, other) = (Lease::new(key(), false).unwrap(), Lease::new(key(), false).unwrap());
    assert_ne!(one.token, other.token);
    let shown = format!("{one:?}");
    assert!(shown.contains("head: false") && !shown.contains("token"), "{shown}");
}
