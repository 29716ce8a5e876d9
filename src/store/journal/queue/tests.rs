mod wanted;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::store::journal::{EndState, Ended, Settled, Wait};

const LIMITS: Limits = Limits { max_writes: 20, max_writes_per_caller: 16, concurrency: 8 };
const SOON: Duration = Duration::from_secs(1);

/// A queue in which what is staged is accepted at once, on a clock that stands still.
struct Case {
    queue: Queue,
    start: Instant,
    next_id: u128,
}

fn caller(n: u8) -> CallerId {
    CallerId([n; 16])
}

fn row(n: u8) -> RowId {
    RowId([n; 16])
}

fn ended(seq: Seq, echo: Option<&str>) -> Ended {
    let (reason, detail, echo) = (None, Bytes::new(), echo.map(str::to_owned));
    Ended { seq, state: EndState::Applied, reason, detail, echo, attempts: 0 }
}

impl Case {
    fn new(limits: Limits) -> Self {
        Self { queue: Queue::new(limits, Micros(0), Seq(1), 1), start: Instant::now(), next_id: 1 }
    }

    fn draft(&mut self, of: u8, to: u8) -> Draft {
        self.next_id += 1;
        let last = self.queue.lanes.get(&LaneId { row: row(to), caller: caller(of) }).and_then(Lane::last);
        Draft {
            id: WriteId(self.next_id),
            caller: caller(of),
            table: TableId([0; 16]),
            row: row(to),
            is_insert: false,
            floor: None,
            after: last,
            alone: false,
            linger: Duration::ZERO,
            label: Bytes::new(),
            record: Bytes::from_static(b"record"),
        }
    }

    fn stage(&mut self, draft: &Draft) -> Result<Appended, AppendError> {
        match self.queue.stage(draft, Micros(1))? {
            Staged::New(appended, _) | Staged::Known(appended) => Ok(appended),
        }
    }

    fn accept(&mut self, draft: &Draft, appended: &Appended) -> Seq {
        let until = (!draft.linger.is_zero()).then(|| self.start + draft.linger);
        self.queue.accept(appended.seq, Entry::new(draft, appended), until);
        appended.seq
    }

    fn append(&mut self, of: u8, to: u8) -> Seq {
        let draft = self.draft(of, to);
        let appended = self.stage(&draft).unwrap();
        self.accept(&draft, &appended)
    }

    fn claim_at(&mut self, most: usize, after: Duration) -> Vec<Taken> {
        let now = self.start + after;
        self.queue.claim(most, now)
    }

    fn claim(&mut self, most: usize) -> Vec<Taken> {
        self.claim_at(most, Duration::ZERO)
    }

    fn one(&mut self) -> Taken {
        self.claim(1).pop().expect("something is ready")
    }

    fn release(&mut self, taken: &Taken, wait: Wait) -> Mark {
        self.queue.release(taken.lane, taken.number, wait, self.start)
    }

    fn end(&mut self, taken: &Taken, seqs: &[Seq]) -> Result<Vec<Gone>, Settled> {
        let ends: Vec<_> = seqs.iter().map(|seq| ended(*seq, None)).collect();
        self.settle(taken, &ends, false)
    }

    fn settle(&mut self, taken: &Taken, ends: &[Ended], final_only: bool) -> Result<Vec<Gone>, Settled> {
        let gone = self.queue.end(taken.lane, taken.number, ends, final_only)?;
        self.queue.forget(&gone);
        Ok(gone)
    }

    fn finish(&mut self, taken: &Taken) {
        let seqs = seqs(taken);
        self.end(taken, &seqs).unwrap();
        self.release(taken, Wait::Now);
    }

    /// Whether everything that is kept of what is gone is gone, too.
    fn is_bare(&mut self) -> bool {
        self.claim_at(100, SOON * 100);
        let queue = &self.queue;
        queue.admitted == 0
            && queue.entries.is_empty()
            && queue.ids.is_empty()
            && queue.lanes.is_empty()
            && queue.callers.is_empty()
            && queue.rows.is_empty()
            && queue.tables.is_empty()
            && queue.due.is_empty()
            && queue.tokens.is_empty()
            && queue.turns.is_empty()
    }
}

fn seqs(taken: &Taken) -> Vec<Seq> {
    taken.members.iter().map(|(seq, _)| *seq).collect()
}

fn rows(taken: &[Taken]) -> Vec<u8> {
    taken.iter().map(|taken| taken.lane.row.0[0]).collect()
}

#[test]
fn a_lane_is_claimed_once_with_its_writes_in_order() {
    let mut case = Case::new(LIMITS);
    let (first, other, second) = (case.append(1, 1), case.append(1, 2), case.append(1, 1));
    let taken = case.claim(9);
    assert_eq!(taken.iter().map(seqs).collect::<Vec<_>>(), [vec![first, second], vec![other]]);
    assert!(case.claim(9).is_empty());

    let third = case.append(1, 1);
    assert!(case.claim(9).is_empty(), "its holder goes first");
    assert!(case.end(&taken[0], &[second]).is_err(), "from the head on");
    case.end(&taken[0], &[first]).unwrap();
    case.release(&taken[0], Wait::Now);
    let again = case.one();
    assert_eq!(seqs(&again), [second, third]);
    case.finish(&again);
    case.finish(&taken[1]);
    assert!(case.is_bare());
}

#[test]
fn a_claim_that_was_released_settles_nothing() {
    let mut case = Case::new(LIMITS);
    let seq = case.append(1, 1);
    let stale = case.one();
    case.release(&stale, Wait::Now);
    assert_eq!(case.end(&stale, &[seq]).err(), Some(Settled::Lost));
    let taken = case.one();
    assert_eq!(case.end(&stale, &[seq]).err(), Some(Settled::Lost));
    case.release(&stale, Wait::Now);
    assert!(case.claim(1).is_empty(), "nor does it release another's");
    assert_eq!(case.end(&taken, &[seq, seq]).err(), Some(Settled::Lost));
    case.finish(&taken);
    assert!(case.is_bare());
}

#[test]
fn a_draft_that_must_not_be_appended_is_refused_and_leaves_no_trace() {
    let mut case = Case::new(LIMITS);
    let seq = case.append(1, 1);
    let refusal = |case: &mut Case, change: fn(&mut Draft), of, to| {
        let mut draft = case.draft(of, to);
        change(&mut draft);
        case.stage(&draft).err()
    };
    assert_eq!(refusal(&mut case, |draft| draft.after = None, 1, 1), Some(AppendError::Moved));
    assert_eq!(refusal(&mut case, |draft| draft.after = Some(Seq(9)), 1, 1), Some(AppendError::Moved));
    assert_eq!(refusal(&mut case, |draft| draft.alone = true, 2, 1), Some(AppendError::RowBusy));
    let too_large = |draft: &mut Draft| draft.record = Bytes::from(vec![0; MAX_RECORD + 1]);
    assert_eq!(refusal(&mut case, too_large, 1, 1), Some(AppendError::TooLarge));

    // Staged ones count: they are about to be durable.
    let mut alone = case.draft(2, 2);
    alone.alone = true;
    let staged = case.stage(&alone).unwrap();
    assert_eq!(refusal(&mut case, |draft| draft.alone = true, 3, 2), Some(AppendError::RowBusy));
    assert_eq!(refusal(&mut case, |draft| draft.after = None, 2, 2), Some(AppendError::Moved));
    case.accept(&alone, &staged);
    assert_eq!(case.stage(&alone), Ok(staged), "an id is appended once");

    // One that was known and has ended meanwhile may have been refused.
    let taken = case.claim(9);
    assert_eq!(taken.len(), 2);
    case.end(&taken[0], &[seq]).unwrap();
    assert_eq!(refusal(&mut case, |draft| draft.after = Some(Seq(1)), 1, 1), Some(AppendError::Moved));
}

#[test]
fn limits_hold_for_all_and_for_one() {
    let mut case = Case::new(LIMITS);
    for to in 0..16 {
        case.append(1, to);
    }
    let draft = case.draft(1, 99);
    assert_eq!(case.stage(&draft), Err(AppendError::CallerFull));
    for to in 0..4 {
        case.append(2, to);
    }
    let draft = case.draft(3, 99);
    assert_eq!(case.stage(&draft), Err(AppendError::Full));
    let taken = case.one();
    case.finish(&taken);
    assert!(case.stage(&draft).is_ok());
    let draft = case.draft(3, 98);
    assert_eq!(case.stage(&draft), Err(AppendError::Full), "a staged one counts");
}

#[test]
fn callers_take_turns_and_one_leaves_a_quarter_to_others() {
    let mut case = Case::new(LIMITS);
    for to in 0..10 {
        case.append(1, to);
    }
    case.append(2, 20);
    case.append(2, 21);
    case.append(3, 30);
    let first = case.claim(4);
    assert_eq!(rows(&first), [0, 20, 30, 1]);
    let more = case.claim(4);
    assert_eq!(rows(&more), [21, 2, 3, 4], "alone, nobody is held back");

    let mut case = Case::new(LIMITS);
    for to in 0..10 {
        case.append(1, to);
    }
    assert_eq!(case.claim(6).len(), 6);
    case.append(2, 20);
    case.append(2, 21);
    let rest = case.claim(2);
    assert_eq!(rows(&rest), [20, 21], "six of eight are the first one's share");
}

#[test]
fn what_lingers_waits_from_its_append_unless_somebody_waits_for_it() {
    let mut case = Case::new(LIMITS);
    let lingering = |case: &mut Case, to| {
        let mut draft = case.draft(1, to);
        draft.linger = SOON;
        let appended = case.stage(&draft).unwrap();
        case.accept(&draft, &appended)
    };
    let first = lingering(&mut case, 1);
    let second = lingering(&mut case, 2);
    case.append(1, 1);
    assert!(case.claim(9).is_empty());
    assert!(!case.queue.snapshot(caller(1))[0].lane_is_stuck);
    case.queue.end_linger(&[second]);
    let taken = case.one();
    assert_eq!(seqs(&taken), [second]);
    assert_eq!(case.queue.next_due(), Some(case.start + SOON));
    let held = case.claim_at(9, SOON);
    assert_eq!(seqs(&held[0])[0], first);

    // What comes while the lane is claimed lingers when it is released.
    lingering(&mut case, 2);
    case.finish(&taken);
    assert!(case.claim(9).is_empty());
    assert_eq!(case.claim_at(9, SOON).len(), 1);
}

#[test]
fn a_lane_goes_on_when_what_it_waits_for_has_come() {
    let rights = [5; 16];
    for (wait, stuck, after_a_while) in [
        (Wait::Now, false, true),
        (Wait::Until(Instant::now() + SOON), true, true),
        (Wait::Counted(Instant::now() + SOON), true, true),
        (Wait::Older, true, false),
        (Wait::Token { rights, until: Instant::now() + SOON }, true, true),
        (Wait::Parked, true, false),
    ] {
        let mut case = Case::new(LIMITS);
        let older = case.append(1, 9);
        let seq = case.append(1, 1);
        let mut taken = case.claim(2);
        let (waiting, held) = (taken.pop().unwrap(), taken.pop().unwrap());
        assert_eq!((seqs(&waiting), seqs(&held)), (vec![seq], vec![older]));
        case.release(&waiting, wait);
        assert_eq!(case.queue.snapshot(caller(1))[1].lane_is_stuck, stuck, "{wait:?}");
        assert_eq!(!case.claim(1).is_empty(), !stuck, "{wait:?}");
        assert_eq!(!case.claim_at(1, SOON * 9).is_empty(), stuck && after_a_while, "{wait:?}");
        assert_eq!(case.queue.next_due(), None, "{wait:?}");
    }
}

#[test]
fn a_lane_that_waits_for_older_ones_goes_on_when_its_head_is_the_oldest() {
    let mut case = Case::new(LIMITS);
    case.append(1, 1);
    case.append(1, 2);
    case.append(2, 3);
    let last = case.append(1, 3);
    let mut taken = case.claim(9);
    let at = taken.iter().position(|taken| seqs(taken) == [last]).unwrap();
    let waiting = taken.remove(at);
    let ends = [ended(last, None)];
    assert_eq!(case.settle(&waiting, &ends, true).err(), Some(Settled::NotOldest));
    case.release(&waiting, Wait::Older);
    for held in &taken {
        assert!(case.claim(9).is_empty());
        case.finish(held);
    }
    let again = case.one();
    assert!(case.settle(&again, &ends, true).is_ok());
    case.release(&again, Wait::Older);
    assert!(case.is_bare());
}

#[test]
fn several_refusals_are_final_only_if_nothing_older_than_the_last_is_queued() {
    let mut case = Case::new(LIMITS);
    let (first, between, second) = (case.append(1, 1), case.append(1, 2), case.append(1, 1));
    let taken = case.claim(9);
    let both = [ended(first, None), ended(second, None)];
    assert_eq!(case.settle(&taken[0], &both, true).err(), Some(Settled::NotOldest));
    assert!(case.settle(&taken[0], &both[..1], true).is_ok());
    case.end(&taken[1], &[between]).unwrap();
    assert!(case.settle(&taken[0], &both[1..], true).is_ok());
}

#[test]
fn a_token_wakes_those_that_wait_for_its_rights() {
    let mut case = Case::new(LIMITS);
    case.append(1, 1);
    case.append(1, 2);
    let taken = case.claim(9);
    let until = case.start + SOON;
    for (taken, rights) in taken.iter().zip([[1; 16], [2; 16]]) {
        case.release(taken, Wait::Token { rights, until });
    }
    case.queue.wake_token([2; 16]);
    let woken = case.claim(9);
    assert_eq!(rows(&woken), [2]);
    assert_eq!(rows(&case.claim_at(9, SOON)), [1], "time is up for the other");
    assert!(case.queue.tokens.is_empty());
}

#[test]
fn attempts_are_counted_for_the_head() {
    let mut case = Case::new(LIMITS);
    let seq = case.append(1, 1);
    case.append(1, 1);
    let until = case.start;
    let taken = case.one();
    assert_eq!(case.release(&taken, Wait::Until(until)), Mark::None);
    for attempts in 1..4 {
        let taken = case.one();
        assert_eq!(case.release(&taken, Wait::Counted(until)), Mark::Attempts(seq, attempts));
    }
    let members = case.one().members;
    assert_eq!(members.iter().map(|(_, entry)| entry.attempts).collect::<Vec<_>>(), [3, 0]);
}

#[test]
fn a_parked_lane_holds_later_writes_even_if_it_was_empty() {
    let mut case = Case::new(LIMITS);
    case.append(1, 1);
    let taken = case.one();
    let seqs = seqs(&taken);
    case.end(&taken, &seqs).unwrap();
    assert_eq!(case.release(&taken, Wait::Parked), Mark::Parked(taken.lane));
    case.append(1, 1);
    case.append(2, 1);
    assert_eq!(case.one().lane.caller, caller(2), "others aren't held up");
    assert!(case.claim(1).is_empty());

    // As after a restart.
    let mut case = Case::new(LIMITS);
    case.append(1, 1);
    case.queue.restore_parked(taken.lane);
    assert!(case.claim(1).is_empty());
    assert!(case.queue.unpark(taken.lane));
    assert!(!case.queue.unpark(taken.lane));
    let again = case.one();
    case.finish(&again);
    assert!(case.is_bare());
}

#[test]
fn an_echo_is_given_to_later_accepted_writes_of_the_row_alone() {
    let mut case = Case::new(LIMITS);
    let first = case.append(1, 1);
    let second = case.append(2, 1);
    let third = case.append(3, 1);
    let held = case.claim(9);
    assert!(held.iter().all(|taken| taken.echo.is_none()));
    let gone = case.settle(&held[1], &[ended(second, Some("p"))], false).unwrap();
    assert_eq!(gone[0].echo, EchoChange::Keep(Echo { seq: second, text: "p".to_owned() }));
    case.release(&held[0], Wait::Now);
    case.release(&held[2], Wait::Now);
    case.release(&held[1], Wait::Now);
    let again = case.claim(9);
    let echoes: Vec<_> = again.iter().map(|taken| (seqs(taken)[0], taken.echo.as_deref())).collect();
    assert_eq!(echoes, [(first, None), (third, Some("p"))]);
    case.end(&again[0], &[first]).unwrap();
    let last = case.end(&again[1], &[third]).unwrap();
    assert_eq!(last[0].echo, EchoChange::Drop);
}

#[test]
fn a_snapshot_has_the_callers_writes_in_order_and_is_made_once() {
    let mut case = Case::new(LIMITS);
    let writes = [case.append(1, 1), case.append(1, 2), case.append(1, 1)];
    case.append(2, 1);
    let snapshot = case.queue.snapshot(caller(1));
    assert_eq!(snapshot.iter().map(|pending| pending.seq).collect::<Vec<_>>(), writes);
    assert!(Arc::ptr_eq(&snapshot, &case.queue.snapshot(caller(1))));
    let draft = case.draft(1, 3);
    let appended = case.stage(&draft).unwrap();
    assert_eq!(case.queue.snapshot(caller(1)).len(), 3, "staged ones aren't durable yet");
    case.accept(&draft, &appended);
    assert_eq!(case.queue.snapshot(caller(1)).len(), 4);
    assert_eq!(case.queue.depth(), Depth { writes: 5, oldest: Some(Micros(1)) });
    assert!(case.queue.snapshot(caller(9)).is_empty());
}
