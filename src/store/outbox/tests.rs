use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn tags(ids: impl IntoIterator<Item = u64>) -> Vec<TagId> {
    ids.into_iter().map(TagId).collect()
}

/// Takes and sends everything; what was sent, sorted.
fn drained(outbox: &Arc<Outbox>) -> Vec<(TagId, Duration)> {
    let mut sent = Vec::new();
    while let Some(batch) = outbox.take() {
        assert!(batch.tags().len() <= BATCH);
        sent.extend(batch.tags().iter().map(|tag| (*tag, batch.hold())));
        batch.sent();
    }
    sent.sort_unstable();
    sent
}

#[test]
fn each_tag_is_sent_once_with_its_longest_hold() {
    let outbox = Outbox::new();
    outbox.push(&tags([1, 2]), Duration::ZERO);
    outbox.push(&tags([2, 3]), SECOND);
    outbox.push(&tags([3]), Duration::ZERO);
    outbox.push(&[], SECOND);
    let expected = [(TagId(1), Duration::ZERO), (TagId(2), SECOND), (TagId(3), SECOND)];
    assert_eq!(drained(&outbox), expected);
    assert!(outbox.is_empty());
}

#[test]
fn what_is_on_its_way_is_not_sent_yet() {
    let outbox = Outbox::new();
    assert!(outbox.is_empty());
    outbox.push(&tags([1]), Duration::ZERO);
    assert!(!outbox.is_empty());
    let batch = outbox.take().unwrap();
    assert!(outbox.take().is_none());
    assert!(!outbox.is_empty(), "nobody knows whether Redis was told");
    batch.sent();
    assert!(outbox.is_empty());
}

#[test]
fn what_could_not_be_sent_is_back() {
    let outbox = Outbox::new();
    outbox.push(&tags([1]), Duration::ZERO);
    let batch = outbox.take().unwrap();
    outbox.push(&tags([1]), SECOND);
    outbox.push(&tags([2]), Duration::ZERO);
    drop(batch);
    assert!(!outbox.is_empty());
    assert_eq!(drained(&outbox), [(TagId(1), SECOND), (TagId(2), Duration::ZERO)]);
}

#[test]
fn many_tags_go_in_batches() {
    let outbox = Outbox::new();
    outbox.push(&tags(0..MAX_TAGS as u64), Duration::ZERO);
    outbox.push(&tags([5]), SECOND);
    let sent = drained(&outbox);
    assert_eq!(sent.len(), MAX_TAGS);
    assert_eq!(sent[5], (TagId(5), SECOND));
    assert!(outbox.is_empty());
}

#[test]
fn too_many_tags_are_everything_with_the_longest_hold() {
    let outbox = Outbox::new();
    let everything = Tag::All.id();
    outbox.push(&tags([7]), SECOND);
    outbox.push(&tags(100..100 + MAX_TAGS as u64), Duration::ZERO);
    outbox.push(&tags([8]), 2 * SECOND);
    let batch = outbox.take().unwrap();
    assert_eq!((batch.tags(), batch.hold()), (&[everything][..], 2 * SECOND));
    outbox.push(&tags([9]), 3 * SECOND);
    drop(batch);
    assert_eq!(drained(&outbox), {
        let mut both = [(everything, 2 * SECOND), (TagId(9), 3 * SECOND)];
        both.sort_unstable();
        both
    });
    assert!(outbox.is_empty());
}

#[test]
fn a_later_invalidation_is_due_at_its_time() {
    let (outbox, now) = (Outbox::new(), Instant::now());
    outbox.later(&tags([2]), SECOND, now + 2 * SECOND);
    outbox.later(&tags([1]), Duration::ZERO, now + SECOND);
    outbox.later(&tags([3]), Duration::ZERO, now + SECOND);
    outbox.later(&[], SECOND, now);
    assert!(outbox.is_empty(), "what is to come later keeps nobody from reading");
    assert_eq!(outbox.due(now), []);
    let due = |ids, hold| Invalidation { tags: tags(ids), hold };
    assert_eq!(outbox.due(now + SECOND), [due([1], Duration::ZERO), due([3], Duration::ZERO)]);
    assert_eq!(outbox.due(now + 5 * SECOND), [due([2], SECOND)]);
    assert_eq!(outbox.due(now + 9 * SECOND), []);
}

#[test]
fn too_many_later_ones_are_everything_until_the_last() {
    let (outbox, now) = (Outbox::new(), Instant::now());
    outbox.later(&tags(0..MAX_TAGS as u64), SECOND, now + SECOND);
    outbox.later(&tags([1]), Duration::ZERO, now + 2 * SECOND);
    outbox.later(&tags([2]), Duration::ZERO, now + SECOND * 7 / 2);
    assert_eq!(outbox.due(now), [], "not before the first one's time");
    let everything = [Invalidation { tags: vec![Tag::All.id()], hold: SECOND }];
    let mut times = Vec::new();
    for step in 1..=24 {
        let at = now + SECOND * step / 4;
        match outbox.due(at) {
            due if due.is_empty() => {}
            due => {
                assert_eq!(due, everything);
                times.push(step);
            }
        }
    }
    // Each of those it stands for, in quarters of a second, has one at most a second later.
    assert_eq!(times, [4, 8, 12, 14]);
    outbox.later(&tags([3]), Duration::ZERO, now);
    assert_eq!(outbox.due(now + 9 * SECOND).len(), 1, "there is room again");
}
