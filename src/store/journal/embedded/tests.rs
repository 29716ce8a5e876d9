use std::path::Path;
use std::time::Duration;

use super::*;
use crate::postgrest::timestamp::Micros;
use crate::store::journal::{State, TableId};

pub(super) const LIMITS: Limits =
    Limits { max_writes: 10_000, max_writes_per_caller: 10_000, concurrency: 16 };

pub(super) fn options(folder: &Path) -> Options {
    Options { folder: folder.to_owned(), upstream: "https://abc.supabase.co".to_owned(), limits: LIMITS }
}

pub(super) fn draft(id: u128, caller: u8, row: u8) -> Draft {
    Draft {
        id: WriteId(id),
        caller: CallerId([caller; 16]),
        table: TableId([7; 16]),
        row: RowId([row; 16]),
        is_insert: false,
        floor: None,
        after: None,
        alone: false,
        linger: Duration::ZERO,
        label: Bytes::from(format!("label {id}")),
        record: Bytes::from(format!("record {id}")),
    }
}

pub(super) fn end(seq: Seq, state: EndState) -> Ended {
    let reason = (state == EndState::Rejected).then(|| "too_old".to_owned());
    let detail = if state == EndState::Applied { Bytes::new() } else { Bytes::from_static(b"{}") };
    Ended { seq, state, reason, detail, echo: None, attempts: 2 }
}

async fn finish(journal: &Embedded, claim: Claim, state: EndState) {
    let ends = claim.members.iter().map(|member| end(member.seq, state)).collect();
    assert_eq!(journal.settle(&claim, ends, false).await, Ok(Settled::Done));
    journal.release(claim, Wait::Now).await.unwrap();
}

async fn claim_all(journal: &Embedded) -> Vec<Claim> {
    journal.claim(100, Instant::now()).await.unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_the_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Embedded::open(&options(folder.path())).unwrap();
    let first = journal.append(draft(1, 1, 1)).await.unwrap();
    let second = journal.append(draft(2, 2, 1)).await.unwrap();
    assert!(second.accepted_at > first.accepted_at);
    let before = journal.snapshot(CallerId([1; 16]));
    drop(journal);

    let journal = Embedded::open(&options(folder.path())).unwrap();
    assert_eq!(journal.snapshot(CallerId([1; 16])), before);
    assert!(journal.snapshot(CallerId([9; 16])).is_empty());
    assert!(journal.row_is_pending(RowId([1; 16])));
    assert_eq!(journal.depth(), Depth { writes: 2, oldest: Some(first.accepted_at) });
    let third = journal.append(draft(3, 3, 3)).await.unwrap();
    assert_eq!((first.seq, second.seq, third.seq), (Seq(1), Seq(2), Seq(3)));
    let claims = claim_all(&journal).await;
    let records: Vec<_> =
        claims.iter().flat_map(|claim| &claim.members).map(|member| &member.record).collect();
    assert_eq!(records, ["record 1", "record 2", "record 3"]);
}

#[tokio::test]
async fn a_write_is_found_from_its_append_until_after_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Embedded::open(&options(folder.path())).unwrap();
    assert_eq!(journal.find(WriteId(1)).await, Ok(None));
    for (id, state) in [(1, EndState::Applied), (2, EndState::Superseded), (3, EndState::Rejected)] {
        let appended = journal.append(draft(id, 1, 1)).await.unwrap();
        let queued = journal.find(WriteId(id)).await.unwrap().unwrap();
        assert_eq!((queued.state, queued.ended, queued.seq), (State::Queued, None, appended.seq));
        assert_eq!(journal.record(appended.seq).await.unwrap().unwrap(), format!("record {id}"));

        finish(&journal, claim_all(&journal).await.remove(0), state).await;
        let found = journal.find(WriteId(id)).await.unwrap().unwrap();
        assert_eq!((found.state, found.seq, found.attempts), (State::Ended(state), appended.seq, 2));
        assert_eq!((found.updated_at, found.label), (appended.updated_at, queued.label));
        assert_eq!(journal.ended(state, EventId(0), 9).await.unwrap()[0].id, WriteId(id));
        assert_eq!(journal.record(appended.seq).await, Ok(None));
    }
    assert_eq!(journal.rejected_record(WriteId(3)).await, Ok(Some(Bytes::from_static(b"record 3"))));
    assert_eq!(journal.rejected_record(WriteId(1)).await, Ok(None));
    assert_eq!(journal.depth(), Depth::default());
    assert!(!journal.row_is_pending(RowId([1; 16])));
}

#[tokio::test]
async fn what_ended_is_kept_a_day_and_dead_letters_longer() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH));
    let clock = now.clone();
    let journal =
        Embedded::open_with_clock(&options(folder.path()), Box::new(move || *clock.lock())).unwrap();
    let states = [EndState::Applied, EndState::Superseded, EndState::Rejected];
    for (day, ids) in [(0u32, [1, 2, 3]), (1, [4, 5, 6])] {
        *now.lock() = SystemTime::UNIX_EPOCH + Duration::from_secs(24 * 3601) * day;
        for (id, state) in ids.into_iter().zip(states) {
            journal.append(draft(id, 1, 1)).await.unwrap();
            finish(&journal, claim_all(&journal).await.remove(0), state).await;
        }
    }
    for (id, kept) in [(1, false), (2, false), (3, true), (4, true), (5, true), (6, true)] {
        assert_eq!(journal.find(WriteId(id)).await.unwrap().is_some(), kept, "{id}");
    }
}

#[tokio::test]
async fn events_come_in_order_and_missed_ones_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Embedded::open(&options(folder.path())).unwrap();
    let mut events = journal.subscribe();
    for id in 1..=6 {
        journal.append(draft(id, id as u8 % 2, id as u8)).await.unwrap();
    }
    let states = [EndState::Applied, EndState::Rejected, EndState::Superseded];
    for (claim, state) in claim_all(&journal).await.into_iter().zip(states.into_iter().cycle()) {
        finish(&journal, claim, state).await;
    }
    let mut heard = Vec::new();
    while let Ok(event) = events.try_recv() {
        heard.push(event);
    }
    let numbers: Vec<_> = heard.iter().map(|event| event.number.0).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    drop(journal);

    let journal = Embedded::open(&options(folder.path())).unwrap();
    let caller = CallerId([1; 16]);
    let of_caller: Vec<_> =
        heard.into_iter().filter(|event| event.caller == caller && event.state != State::Queued).collect();
    let mut read = Vec::new();
    let mut after = EventId(0);
    loop {
        let page = journal.ended_since(caller, after, 2).await.unwrap();
        after = page.next;
        read.extend(page.events);
        if !page.more {
            break;
        }
    }
    assert_eq!(read, of_caller);
    let page = journal.ended_since(caller, read[0].number, 9).await.unwrap();
    assert_eq!(page.events, of_caller[1..]);
}

#[tokio::test]
async fn attempts_and_parked_lanes_outlive_a_restart_and_claims_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Embedded::open(&options(folder.path())).unwrap();
    for id in 1..=4 {
        journal.append(draft(id, 1, id as u8)).await.unwrap();
    }
    let later = Instant::now() + Duration::from_secs(3600);
    let waits = [Wait::Counted(later), Wait::Parked, Wait::Until(later)];
    let mut claims = claim_all(&journal).await;
    let stale = claims.pop().unwrap();
    let parked = claims[1].lane;
    for (claim, wait) in claims.into_iter().zip(waits) {
        journal.release(claim, wait).await.unwrap();
    }
    drop(journal);

    let journal = Embedded::open(&options(folder.path())).unwrap();
    let lost = journal.settle(&stale, vec![end(Seq(4), EndState::Applied)], false).await;
    assert_eq!(lost, Ok(Settled::Lost));
    let claims = claim_all(&journal).await;
    let attempts: Vec<_> = claims.iter().map(|claim| (claim.members[0].seq.0, claim.attempts)).collect();
    assert_eq!(attempts, [(1, 1), (3, 0), (4, 0)]);
    assert_eq!(journal.unpark(parked).await, Ok(true));
    assert_eq!(claim_all(&journal).await[0].members[0].seq, Seq(2));
    drop(journal);
    let journal = Embedded::open(&options(folder.path())).unwrap();
    assert_eq!(claim_all(&journal).await.len(), 4, "parked no longer");
}

#[tokio::test]
async fn an_echo_outlives_a_restart_as_long_as_the_row_has_writes() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Embedded::open(&options(folder.path())).unwrap();
    journal.append(draft(1, 1, 1)).await.unwrap();
    journal.append(draft(2, 2, 1)).await.unwrap();
    let mut claims = claim_all(&journal).await;
    let ended = Ended { echo: Some("2026-01-01".to_owned()), ..end(Seq(1), EndState::Applied) };
    assert_eq!(journal.settle(&claims.remove(0), vec![ended], false).await, Ok(Settled::Done));
    drop(journal);
    let journal = Embedded::open(&options(folder.path())).unwrap();
    let claim = claim_all(&journal).await.remove(0);
    assert_eq!(claim.echo.as_deref(), Some("2026-01-01"));
    finish(&journal, claim, EndState::Applied).await;
    journal.append(draft(3, 1, 1)).await.unwrap();
    drop(journal);
    let journal = Embedded::open(&options(folder.path())).unwrap();
    assert_eq!(claim_all(&journal).await[0].echo, None);
}

#[tokio::test]
async fn a_closed_journal_refuses_and_can_be_opened_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Embedded::open(&options(folder.path())).unwrap());
    let appends: Vec<_> = (1..=64)
        .map(|id| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.append(draft(id, 1, id as u8)).await })
        })
        .collect();
    journal.append(draft(100, 1, 100)).await.unwrap();
    journal.close().await;
    let again = Embedded::open(&options(folder.path())).unwrap();
    let mut acknowledged = 1;
    for append in appends {
        match append.await.unwrap() {
            Ok(_) => acknowledged += 1,
            Err(error) => assert_eq!(error, AppendError::Closed),
        }
    }
    assert_eq!(again.depth().writes, acknowledged);
    assert_eq!(journal.append(draft(200, 1, 200)).await, Err(AppendError::Closed));
    assert_eq!(journal.find(WriteId(100)).await, Err(JournalError::Closed));
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_at_the_same_time_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Embedded::open(&options(folder.path())).unwrap());
    let changed = journal.changed();
    let tasks: Vec<_> = (0..64u8)
        .map(|task| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for n in 0..8u8 {
                    journal.append(draft(u128::from(task) << 8 | u128::from(n), task, n)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(journal.depth().writes, 512);
    let commits = *changed.borrow();
    assert!(commits <= 256, "{commits} commits of 512 appends");
}

#[tokio::test]
async fn a_claim_that_nobody_waits_for_any_longer_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Embedded::open(&options(folder.path())).unwrap();
    journal.append(draft(1, 1, 1)).await.unwrap();
    let mut claim = journal.claim(1, Instant::now());
    tokio::select! {
        biased;
        _ = &mut claim => panic!("reading takes a moment"),
        () = std::future::ready(()) => {}
    }
    drop(claim);
    let claimed = async {
        loop {
            match claim_all(&journal).await.pop() {
                Some(claim) => break claim,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let claim = tokio::time::timeout(Duration::from_secs(5), claimed).await.unwrap();
    assert_eq!(claim.members[0].seq, Seq(1));
}

#[tokio::test]
async fn a_claim_is_cut_where_its_records_are_large() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Embedded::open(&options(folder.path())).unwrap();
    let mut after = None;
    for id in 1..=6 {
        let record = Bytes::from(vec![0; 250 * 1024]);
        let draft = Draft { after, record, ..draft(id, 1, 1) };
        after = Some(journal.append(draft).await.unwrap().seq);
    }
    let claim = claim_all(&journal).await.remove(0);
    assert_eq!(claim.members.len(), 4);
    finish(&journal, claim, EndState::Applied).await;
    assert_eq!(claim_all(&journal).await[0].members.len(), 2);
}

#[tokio::test]
async fn a_row_stays_ahead_of_the_clock_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Embedded::open(&options(folder.path())).unwrap();
    let ahead = Micros::of(SystemTime::now() + Duration::from_secs(3600));
    let first = journal.append(Draft { floor: Some(ahead), ..draft(1, 1, 1) }).await.unwrap();
    assert_eq!(first.updated_at, ahead);
    finish(&journal, claim_all(&journal).await.remove(0), EndState::Applied).await;
    drop(journal);
    let journal = Embedded::open(&options(folder.path())).unwrap();
    let second = journal.append(draft(2, 2, 1)).await.unwrap();
    assert_eq!(second.updated_at, ahead.next());
    assert!(journal.append(draft(3, 2, 2)).await.unwrap().updated_at < ahead);
}
