use bytes::Bytes;

use super::*;
use crate::store::journal::{EventId, RowId, State, TableId, WriteId};

const ANN: CallerId = CallerId([1; 16]);
const BOB: CallerId = CallerId([2; 16]);
const USERS: TagId = TagId(10);
const NOTES: TagId = TagId(11);

fn streams() -> Arc<Streams> {
    Arc::new(Streams::new(None, Arc::new(Changes::new())))
}

fn open(streams: &Arc<Streams>, caller: CallerId) -> Stream {
    streams.open(caller).unwrap_or_else(|crowded| panic!("{crowded:?}"))
}

fn event(number: u64, caller: CallerId) -> Event {
    Event {
        number: EventId(number),
        caller,
        id: WriteId(number.into()),
        table: TableId([0; 16]),
        row: RowId([0; 16]),
        state: State::Queued,
        reason: None,
        at: Micros(number as i64),
        label: Bytes::new(),
    }
}

/// What is in the inbox, in short.
fn told(stream: &mut Stream) -> Vec<String> {
    std::iter::from_fn(|| stream.ready())
        .map(|news| match news {
            News::Write(event) => format!("write {}", event.number.0),
            News::Change { table, .. } => format!("change {table}"),
        })
        .collect()
}

fn is_over(stream: &mut Stream) -> bool {
    while stream.ready().is_some() {}
    stream.inbox.is_closed()
}

#[test]
fn a_writer_is_told_of_his_own_writes_on_all_his_streams() {
    let streams = streams();
    let (mut one, mut other, mut bobs) = (open(&streams, ANN), open(&streams, ANN), open(&streams, BOB));
    streams.open.lock().tell(event(1, ANN));
    streams.open.lock().tell(event(2, BOB));
    assert_eq!(told(&mut one), ["write 1"]);
    assert_eq!(told(&mut other), ["write 1"]);
    assert_eq!(told(&mut bobs), ["write 2"]);
}

#[test]
fn a_stream_knows_the_last_event_before_its_own() {
    let streams = streams();
    assert_eq!(open(&streams, ANN).latest(), None);
    streams.open.lock().tell(event(7, BOB));
    let mut stream = open(&streams, ANN);
    assert_eq!(stream.latest(), Some(Position { number: EventId(7), at: Micros(7) }));
    streams.open.lock().tell(event(8, ANN));
    assert_eq!(told(&mut stream), ["write 8"]);
}

#[test]
fn changes_reach_those_who_asked_for_the_table_once_a_round() {
    let streams = streams();
    let (mut both, mut notes, mut none) = (open(&streams, ANN), open(&streams, BOB), open(&streams, BOB));
    both.watch(vec![vec![USERS, TagId(1)], vec![NOTES, TagId(1)]]);
    notes.watch(vec![vec![NOTES]]);
    let moved =
        |tags: &[TagId]| streams.open.lock().tell_of_changes(&tags.iter().copied().collect(), Micros(1));
    moved(&[USERS, TagId(1), NOTES]);
    assert_eq!(told(&mut both), ["change 0", "change 1"]);
    assert_eq!(told(&mut notes), ["change 0"]);
    moved(&[USERS]);
    assert_eq!((told(&mut both), told(&mut notes)), (vec!["change 0".to_owned()], Vec::new()));
    assert_eq!(told(&mut none), Vec::<String>::new());
}

#[test]
fn who_reads_too_slowly_is_ended_behind_what_he_has() {
    let streams = streams();
    let (mut slow, mut quick) = (open(&streams, ANN), open(&streams, ANN));
    for number in 1..=INBOX as u64 + 1 {
        streams.open.lock().tell(event(number, ANN));
        assert_eq!(told(&mut quick).len(), 1);
    }
    assert_eq!(told(&mut slow).len(), INBOX);
    assert!(is_over(&mut slow) && !is_over(&mut quick));
    drop(slow);
    assert_eq!(streams.open.lock().by_caller[&ANN].len(), 1);
}

#[test]
fn a_caller_has_so_many_streams_and_no_more() {
    let streams = streams();
    let mut held: Vec<Stream> = (0..MAX_PER_CALLER).map(|_| open(&streams, ANN)).collect();
    assert_eq!(streams.open(ANN).err(), Some(Crowded::Caller));
    let _bobs = open(&streams, BOB);
    held.pop();
    let _again = open(&streams, ANN);
}

#[test]
fn all_callers_together_have_so_many_streams_and_no_more() {
    let streams = streams();
    let caller = |number: usize| CallerId((number as u128).to_be_bytes());
    let mut held: Vec<Stream> = (0..MAX_STREAMS).map(|number| open(&streams, caller(number))).collect();
    assert_eq!(streams.open(caller(MAX_STREAMS)).err(), Some(Crowded::Everybody));
    held.pop();
    let _another = open(&streams, caller(MAX_STREAMS));
}

#[test]
fn a_stream_that_is_gone_leaves_nothing_behind() {
    let streams = streams();
    let stream = open(&streams, ANN);
    stream.watch(vec![vec![USERS], vec![USERS, NOTES]]);
    drop(stream);
    let open = streams.open.lock();
    assert!(open.streams.is_empty() && open.by_caller.is_empty() && open.by_tag.is_empty());
}

#[test]
fn a_stop_ends_all_and_opens_no_more() {
    let streams = streams();
    let mut stream = open(&streams, ANN);
    streams.open.lock().tell(event(1, ANN));
    streams.close();
    assert_eq!(told(&mut stream), ["write 1"]);
    assert!(is_over(&mut stream));
    assert_eq!(streams.open(ANN).err(), Some(Crowded::Everybody));
}

#[tokio::test]
async fn a_tables_changes_are_told_at_once_and_then_once_in_a_round() {
    let streams = streams();
    let mut stream = open(&streams, ANN);
    stream.watch(vec![vec![USERS]]);
    let delivery = tokio::spawn(streams.clone().deliver());
    tokio::task::yield_now().await;
    let begun = Instant::now();
    streams.changes.notify(&[USERS]);
    assert!(matches!(stream.next().await, Some(News::Change { table: 0, .. })));
    for _ in 0..5 {
        streams.changes.notify(&[USERS]);
        tokio::time::sleep(ROUND / 20).await;
    }
    assert!(stream.next().await.is_some());
    assert!(begun.elapsed() >= ROUND);
    tokio::time::sleep(ROUND * 2).await;
    assert_eq!(told(&mut stream), Vec::<String>::new(), "five in a round are one");
    delivery.abort();
}
