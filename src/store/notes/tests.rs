use redis::Value;

use super::note::Noted;
use super::silent::{UNREADABLE, Union};
use super::*;
use crate::tag::Tag;

const SECOND: Duration = Duration::from_secs(1);

fn union(notes: &[Value]) -> Option<Noted> {
    let mut union = Union::default();
    notes.iter().for_each(|note| union.add(Some(note)));
    let mut noted = union.noted()?;
    noted.tags.sort_unstable();
    Some(noted)
}

fn note(tags: impl IntoIterator<Item = u64>, hold: Duration) -> Value {
    let tags: Vec<TagId> = tags.into_iter().map(TagId).collect();
    Value::BulkString(note::encode(&tags, hold))
}

#[test]
fn notes_are_taken_together_with_the_longest_hold() {
    assert_eq!(union(&[]), None);
    let tags = vec![TagId(1), TagId(2), TagId(3)];
    let both = union(&[note([3, 1], SECOND), note([2, 1], 2 * SECOND)]);
    assert_eq!(both, Some(Noted { tags, hold: 2 * SECOND }));
}

#[test]
fn a_note_that_cannot_be_read_is_everything() {
    let everything = |hold| Some(Noted { tags: vec![Tag::All.id()], hold });
    for odd in [Value::Nil, Value::BulkString(b"odd".to_vec())] {
        assert_eq!(union(&[note([1], SECOND), odd.clone()]), everything(UNREADABLE));
        assert_eq!(union(&[odd, note([1], 2 * UNREADABLE)]), everything(2 * UNREADABLE));
    }
}

#[test]
fn too_many_tags_are_everything() {
    let notes: Vec<Value> = (0..1_100).map(|start| note(start * 60..(start + 1) * 60, SECOND)).collect();
    assert_eq!(union(&notes[..1_000]).map(|all| all.tags.len()), Some(60_000));
    let all = union(&notes);
    assert_eq!(all, Some(Noted { tags: vec![Tag::All.id()], hold: SECOND }));
}

#[test]
fn an_id_is_used_once_and_counts_until_it_is_gone() {
    let mut ids = Ids::default();
    let opened: Vec<u64> = std::iter::from_fn(|| ids.open()).collect();
    assert_eq!(opened.len(), MAX_NOTES);
    assert!(opened.is_sorted_by(|one, next| one < next));
    ids.open -= 3;
    ids.closed.extend([1, 2, 3]);
    assert_eq!(ids.open(), None, "closed, but still in Redis");
    let leaving = ids.leave(2);
    assert_eq!((leaving.len(), ids.open()), (2, None));
    ids.left(&leaving, false);
    assert_eq!(ids.closed.len(), 3, "what could not be removed is tried again");
    let leaving = ids.leave(10);
    ids.left(&leaving, true);
    assert_eq!(ids.open(), Some(MAX_NOTES as u64 + 1));
}
