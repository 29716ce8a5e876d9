use super::*;

fn tags(ids: &[u64]) -> Vec<TagId> {
    ids.iter().copied().map(TagId).collect()
}

fn set(ids: &[u64]) -> TagSet {
    ids.iter().copied().map(TagId).collect()
}

#[test]
fn an_entry_dies_with_any_of_its_tags() {
    let (generations, now) = (Generations::new(), Instant::now());
    let snapshot = generations.read(&set(&[1, 2, u64::MAX]), now);
    generations.advance(&tags(&[3]));
    assert!(generations.is_current(snapshot.iter()));
    generations.advance(&tags(&[u64::MAX]));
    assert!(!generations.is_current(snapshot.iter()));
    let later = generations.read(&set(&[1, 2, u64::MAX]), now);
    assert!(generations.is_current(later.iter()));
    generations.advance(&tags(&[2]));
    assert!(!generations.is_current(later.iter()));
    assert!(!generations.is_current(snapshot.iter()), "a generation came back");
}

#[test]
fn a_snapshot_holds_each_tag_once_and_in_order() {
    let generations = Generations::new();
    let snapshot = generations.read(&set(&[3, 1, 2, 1]), Instant::now());
    let named = |snapshot: &Snapshot| snapshot.iter().map(|(tag, _)| tag.0).collect::<Vec<_>>();
    assert_eq!(named(&snapshot), [1, 2, 3]);
    assert_eq!(named(&snapshot.narrowed_to(&set(&[1, 3, 9]))), [1, 3]);
    assert_eq!(named(&Snapshot::carried(snapshot.iter())), [1, 2, 3]);
}

#[test]
fn fingerprints_tell_sets_apart() {
    let sets = [&[][..], &[0], &[1], &[2], &[1, 2], &[2, 4], &[1, 2, 3], &[1, 3], &[u64::MAX]];
    let mut prints: Vec<u64> =
        sets.iter().map(|ids| fingerprint(set(ids).as_slice().iter().copied())).collect();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), sets.len());
}

#[test]
fn an_empty_answer_carries_more_tags() {
    let entry_tags = EntryTags::new(&tags(&[1]), &tags(&[2]));
    assert_eq!(entry_tags.of(false), &set(&[1]));
    assert_eq!(entry_tags.of(true), &set(&[1, 2]));
    assert_eq!(entry_tags.all(), &set(&[1, 2]));
}

#[test]
fn held_answers_are_not_kept_until_the_hold_is_over() {
    let (generations, start) = (Generations::new(), Instant::now());
    let second = Duration::from_secs(1);
    let before = generations.read(&set(&[1]), start);
    generations.hold(&tags(&[1]), start + 2 * second, start);
    generations.hold(&tags(&[1]), start + second, start);
    let meanwhile = generations.read(&set(&[1]), start + second);
    assert_eq!(generations.may_keep(&before, start + second), Err(NotKept::Held));
    assert_eq!(generations.may_keep(&before, start + 2 * second), Ok(()));
    assert_eq!(generations.may_keep(&meanwhile, start + 3 * second), Err(NotKept::Held), "asked while held");
    let other = generations.read(&set(&[2]), start);
    assert_eq!(generations.may_keep(&other, start), Ok(()));
    generations.advance(&tags(&[2]));
    assert_eq!(generations.may_keep(&other, start), Err(NotKept::Moved));
}

#[test]
fn too_many_holds_hold_everything() {
    let (generations, start) = (Generations::new(), Instant::now());
    let many: Vec<TagId> = (10..10 + MAX_HOLDS as u64).map(TagId).collect();
    let end = start + Duration::from_secs(5);
    generations.hold(&many, end, start);
    assert!(!generations.held(&set(&[1]), start));
    generations.hold(&tags(&[2]), start + Duration::from_secs(3), start);
    assert!(generations.held(&set(&[1]), start));
    assert!(
        generations.held(&set(&[1]), start + Duration::from_secs(4)),
        "an earlier end cut the hold short"
    );
    assert!(!generations.held(&set(&[1]), end));
}

#[test]
fn counters_lose_no_move_between_threads() {
    let (generations, now) = (Generations::new(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| generations.advance(&tags(&[7]))));
        }
    });
    assert_eq!(generations.read(&set(&[7]), now).iter().next(), Some((TagId(7), 4000)));
}
