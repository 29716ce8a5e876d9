use super::*;
use crate::cache::generation::{Generations, TagSet};
use crate::tag::TagId;

const PATIENCE: Duration = Duration::from_secs(5);

fn key() -> Key {
    Key::from([7; 16])
}

fn collapse() -> Arc<Collapse<u32>> {
    Collapse::new(CollapseLimits::default())
}

fn lead(turn: Turn<u32>) -> Leader<u32> {
    match turn {
        Turn::Lead(leader) => leader,
        Turn::Wait(_) => panic!("waits"),
        Turn::Alone => panic!("alone"),
    }
}

fn waiter(turn: Turn<u32>) -> Waiter<u32> {
    match turn {
        Turn::Wait(waiter) => waiter,
        Turn::Lead(_) => panic!("leads"),
        Turn::Alone => panic!("alone"),
    }
}

#[tokio::test]
async fn five_hundred_at_once_have_one_leader() {
    let collapse = collapse();
    let (tags, now) = (Snapshot::default(), Instant::now());
    let leader = lead(collapse.join(&key(), false, &tags, now));
    let tasks: Vec<_> = (0..499)
        .map(|_| tokio::spawn(waiter(collapse.join(&key(), false, &tags, now)).wait(PATIENCE)))
        .collect();
    assert_eq!(collapse.waiting(), 499);
    tokio::task::yield_now().await;
    leader.share(5);
    for task in tasks {
        assert_eq!(task.await.unwrap(), Waited::Shared(5));
    }
    assert_eq!(collapse.waiting(), 0);
    lead(collapse.join(&key(), false, &tags, now));
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_its_askers_alone() {
    let collapse = collapse();
    let (tags, now) = (Snapshot::default(), Instant::now());
    let leader = lead(collapse.join(&key(), false, &tags, now));
    let waiting = waiter(collapse.join(&key(), false, &tags, now));
    leader.keep(now);
    assert_eq!(waiting.wait(PATIENCE).await, Waited::Alone);
    assert!(matches!(collapse.join(&key(), false, &tags, now), Turn::Alone), "remembered");
    lead(collapse.join(&key(), false, &tags, now + Duration::from_secs(10)));
    collapse.stored(&key());
    lead(collapse.join(&key(), false, &tags, now));
}

#[tokio::test]
async fn a_leader_that_panics_frees_those_who_wait() {
    let collapse = collapse();
    let (tags, now) = (Snapshot::default(), Instant::now());
    let leader = lead(collapse.join(&key(), false, &tags, now));
    let waiting: Vec<_> = (0..3).map(|_| waiter(collapse.join(&key(), false, &tags, now))).collect();
    let fetch = tokio::spawn(async move {
        let _leader = leader;
        panic!("the fetch failed");
    });
    assert!(fetch.await.is_err());
    for waiter in waiting {
        assert_eq!(waiter.wait(PATIENCE).await, Waited::Abandoned);
    }
    let _next = lead(collapse.join(&key(), false, &tags, now));
    waiter(collapse.join(&key(), false, &tags, now));
}

#[tokio::test]
async fn a_write_starts_another_flight() {
    let (collapse, generations) = (collapse(), Generations::new());
    let now = Instant::now();
    let tags: TagSet = [TagId(1)].into_iter().collect();
    let before = generations.read(&tags, now);
    let leader = lead(collapse.join(&key(), false, &before, now));
    let waiting = waiter(collapse.join(&key(), false, &before, now));
    generations.advance(&[TagId(1)]);
    let after = generations.read(&tags, now);
    let later = lead(collapse.join(&key(), false, &after, now));
    leader.share(1);
    assert_eq!(waiting.wait(PATIENCE).await, Waited::Shared(1), "it had asked before the write");
    let waiting = waiter(collapse.join(&key(), false, &after, now));
    later.share(2);
    assert_eq!(waiting.wait(PATIENCE).await, Waited::Shared(2));
}

#[test]
fn head_and_get_do_not_wait_for_each_other() {
    let collapse = collapse();
    let (tags, now) = (Snapshot::default(), Instant::now());
    let _get = lead(collapse.join(&key(), false, &tags, now));
    let _head = lead(collapse.join(&key(), true, &tags, now));
}

#[tokio::test]
async fn waiting_has_an_end() {
    let collapse = collapse();
    let (tags, now) = (Snapshot::default(), Instant::now());
    let _leader = lead(collapse.join(&key(), false, &tags, now));
    let waiting = waiter(collapse.join(&key(), false, &tags, now));
    assert_eq!(waiting.wait(Duration::from_millis(20)).await, Waited::Alone);
    assert_eq!(collapse.waiting(), 0);
}

#[test]
fn waiters_are_bounded_each_flight_and_altogether() {
    let limits = CollapseLimits { waiters_per_flight: 2, waiters: 3, ..CollapseLimits::default() };
    let collapse: Arc<Collapse<u32>> = Collapse::new(limits);
    let (tags, now) = (Snapshot::default(), Instant::now());
    let other = Key::from([8; 16]);
    let _leaders = [&key(), &other].map(|key| lead(collapse.join(key, false, &tags, now)));
    let first = waiter(collapse.join(&key(), false, &tags, now));
    let _second = waiter(collapse.join(&key(), false, &tags, now));
    assert!(matches!(collapse.join(&key(), false, &tags, now), Turn::Alone));
    let _third = waiter(collapse.join(&other, false, &tags, now));
    assert!(matches!(collapse.join(&other, false, &tags, now), Turn::Alone));
    drop(first);
    waiter(collapse.join(&other, false, &tags, now));
}
