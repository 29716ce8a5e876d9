//! The rules of the queue that the model leaves open: whose turn it is, what is told of a row.

use std::time::{Duration, Instant};

use super::super::InRedis;
use super::server::RedisServer;
use crate::store::journal::model::{draft, end};
use crate::store::journal::{Claim, Draft, EndState, Ended, Journal, LaneId, Limits, Seq, Settled, Wait};

const LIMITS: Limits = Limits { max_writes: 20, max_writes_per_caller: 16, concurrency: 8 };

struct Case {
    node: InRedis,
    _server: RedisServer,
    next_id: u128,
}

impl Case {
    async fn new() -> Self {
        let server = RedisServer::start(&[]);
        Self { node: server.node("ns", LIMITS).await, _server: server, next_id: 0 }
    }

    async fn append(&mut self, of: u8, to: u8) -> Seq {
        self.next_id += 1;
        let drafted = draft(self.next_id, of, to);
        let queued = self.node.snapshot(drafted.caller);
        let after = queued.iter().rev().find(|write| write.row == drafted.row).map(|write| write.seq);
        self.node.append(Draft { after, ..drafted }).await.unwrap().seq
    }

    async fn claim(&self, most: usize) -> Vec<Claim> {
        self.node.claim(most, Instant::now()).await.unwrap()
    }
}

fn rows(claims: &[Claim]) -> Vec<u8> {
    claims.iter().map(|claim| claim.lane.row.0[0]).collect()
}

fn applied(seq: Seq, echo: Option<&str>) -> Ended {
    Ended { echo: echo.map(str::to_owned), ..end(seq, EndState::Applied) }
}

#[tokio::test]
async fn callers_take_turns_and_one_leaves_a_quarter_to_others() {
    let mut case = Case::new().await;
    for to in 0..10 {
        case.append(1, to).await;
    }
    for (of, to) in [(2, 20), (2, 21), (3, 30)] {
        case.append(of, to).await;
    }
    assert_eq!(rows(&case.claim(4).await), [0, 20, 30, 1]);
    assert_eq!(rows(&case.claim(4).await), [21, 2, 3, 4], "alone, nobody is held back");

    let mut case = Case::new().await;
    for to in 0..10 {
        case.append(1, to).await;
    }
    assert_eq!(case.claim(6).await.len(), 6);
    case.append(2, 20).await;
    case.append(2, 21).await;
    assert_eq!(rows(&case.claim(2).await), [20, 21], "six of eight are the first one's share");
}

#[tokio::test]
async fn an_echo_is_given_to_later_accepted_writes_of_the_row_alone() {
    let mut case = Case::new().await;
    let (first, second, third) = (case.append(1, 1).await, case.append(2, 1).await, case.append(3, 1).await);
    let held = case.claim(9).await;
    assert!(held.iter().all(|claim| claim.echo.is_none()));
    let ended = vec![applied(second, Some("p"))];
    assert_eq!(case.node.settle(&held[1], ended, false).await, Ok(Settled::Done));
    for claim in held {
        case.node.release(claim, Wait::Now).await.unwrap();
    }
    let again = case.claim(9).await;
    let echoes: Vec<_> = again.iter().map(|claim| (claim.members[0].seq, claim.echo.as_deref())).collect();
    assert_eq!(echoes, [(first, None), (third, Some("p"))]);
}

#[tokio::test]
async fn refusals_are_final_only_if_nothing_older_is_queued_and_wait_for_that() {
    let mut case = Case::new().await;
    let (first, between, second) =
        (case.append(1, 1).await, case.append(1, 2).await, case.append(1, 1).await);
    let mut claims = case.claim(9).await;
    let (other, lane) = (claims.pop().unwrap(), claims.pop().unwrap());
    let both = vec![applied(first, None), applied(second, None)];
    assert_eq!(case.node.settle(&lane, both.clone(), true).await, Ok(Settled::NotOldest));
    assert_eq!(case.node.settle(&lane, both[..1].to_vec(), true).await, Ok(Settled::Done));
    assert_eq!(case.node.settle(&lane, both[1..].to_vec(), true).await, Ok(Settled::NotOldest));
    case.node.release(lane, Wait::Older).await.unwrap();
    assert!(case.claim(9).await.is_empty());
    assert_eq!(case.node.settle(&other, vec![applied(between, None)], true).await, Ok(Settled::Done));
    case.node.release(other, Wait::Now).await.unwrap();
    let again = case.claim(9).await;
    assert_eq!(again.len(), 1, "it is the oldest now");
    assert_eq!(case.node.settle(&again[0], both[1..].to_vec(), true).await, Ok(Settled::Done));
}

#[tokio::test]
async fn a_settlement_that_is_sent_twice_happened_once() {
    let mut case = Case::new().await;
    let (first, second) = (case.append(1, 1).await, case.append(1, 1).await);
    let claim = case.claim(1).await.remove(0);
    for _ in 0..2 {
        let ended = vec![applied(first, None)];
        assert_eq!(case.node.settle(&claim, ended, false).await, Ok(Settled::Done));
    }
    assert_eq!(case.node.depth().writes, 1);
    assert_eq!(case.node.settle(&claim, vec![applied(Seq(9), None)], false).await, Ok(Settled::Lost));
    let ended = vec![applied(second, None), applied(second, None)];
    assert_eq!(case.node.settle(&claim, ended, false).await, Ok(Settled::Lost));
}

#[tokio::test]
async fn a_parked_lane_holds_later_writes_even_if_it_was_empty() {
    let mut case = Case::new().await;
    let seq = case.append(1, 1).await;
    let claim = case.claim(1).await.remove(0);
    case.node.settle(&claim, vec![applied(seq, None)], false).await.unwrap();
    let lane: LaneId = claim.lane;
    case.node.release(claim, Wait::Parked).await.unwrap();
    case.append(1, 1).await;
    case.append(2, 1).await;
    let claims = case.claim(9).await;
    assert_eq!(claims.iter().map(|claim| claim.lane.caller.0[0]).collect::<Vec<_>>(), [2]);
    assert_eq!(case.node.unpark(lane).await, Ok(true));
    assert_eq!(case.node.unpark(lane).await, Ok(false));
    assert_eq!(case.claim(9).await.len(), 1);
}

#[tokio::test]
async fn what_comes_while_a_lane_is_claimed_lingers_when_it_is_released() {
    let mut case = Case::new().await;
    let seq = case.append(1, 1).await;
    let claim = case.claim(1).await.remove(0);
    let lingering = Draft { linger: Duration::from_millis(300), after: Some(seq), ..draft(90, 1, 1) };
    case.node.append(lingering).await.unwrap();
    case.node.settle(&claim, vec![applied(seq, None)], false).await.unwrap();
    case.node.release(claim, Wait::Now).await.unwrap();
    assert!(case.claim(1).await.is_empty());
    tokio::time::sleep(Duration::from_millis(320)).await;
    assert_eq!(case.claim(1).await.len(), 1);
}
