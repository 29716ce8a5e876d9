//! What several nodes, and a server that fails, make of the journal.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::super::scripts::{self, CLAIM};
use super::super::{InRedis, wire};
use super::server::{
    LIMITS, RedisServer, UPSTREAM, catches_up, cluster, follows, info, replicated_cluster, takes_over, until,
};
use crate::config::{Ack, HostPort, RedisStore, Topology};
use crate::postgrest::timestamp::Micros;
use crate::store::OpenError;
use crate::store::journal::model::{draft, end};
use crate::store::journal::{
    AppendError, CallerId, Claim, Draft, EndState, EventId, Journal, JournalError, LaneId, RowId, Seq,
    Settled, State, Wait, WriteId,
};

const LATER: Duration = Duration::from_secs(3600);

async fn claim_all(node: &InRedis) -> Vec<Claim> {
    node.claim(100, Instant::now()).await.unwrap()
}

async fn finish(node: &InRedis, claim: Claim, state: EndState) {
    let ends = claim.members.iter().map(|member| end(member.seq, state)).collect();
    assert_eq!(node.settle(&claim, ends, false).await, Ok(Settled::Done));
    node.release(claim, Wait::Now).await.unwrap();
}

#[tokio::test]
async fn a_write_is_found_from_its_append_until_after_its_end() {
    let server = RedisServer::start(&[]);
    let node = server.node("ns", LIMITS).await;
    assert_eq!(node.find(WriteId(1)).await, Ok(None));
    for (id, state) in [(1, EndState::Applied), (2, EndState::Superseded), (3, EndState::Rejected)] {
        let appended = node.append(draft(id, 1, 1)).await.unwrap();
        assert_eq!(node.append(draft(id, 1, 1)).await, Ok(appended), "an id is appended once");
        let queued = node.find(WriteId(id)).await.unwrap().unwrap();
        assert_eq!((queued.state, queued.ended, queued.seq), (State::Queued, None, appended.seq));
        assert_eq!(node.record(appended.seq).await.unwrap().unwrap(), format!("record {id}"));

        finish(&node, claim_all(&node).await.remove(0), state).await;
        let found = node.find(WriteId(id)).await.unwrap().unwrap();
        assert_eq!((found.state, found.seq, found.attempts), (State::Ended(state), appended.seq, 2));
        assert_eq!((found.updated_at, found.label), (appended.updated_at, queued.label));
        assert_eq!(found.reason.as_deref(), (state == EndState::Rejected).then_some("too_old"));
        assert_eq!(node.ended(state, EventId(0), 9).await.unwrap()[0].id, WriteId(id));
        assert_eq!(node.record(appended.seq).await, Ok(None));
        assert_eq!(node.append(draft(id, 1, 1)).await, Ok(appended), "nor after its end");
    }
    assert_eq!(node.rejected_record(WriteId(3)).await.unwrap().unwrap(), "record 3");
    assert_eq!(node.rejected_record(WriteId(1)).await, Ok(None));
    assert_eq!(node.depth().writes, 0);
    no_key_expires(&server);
}

fn no_key_expires(server: &RedisServer) {
    let mut client = server.client();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut client).unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        let ttl: i64 = redis::cmd("TTL").arg(&key).query(&mut client).unwrap();
        assert_eq!(ttl, -1, "{}", String::from_utf8_lossy(&key));
    }
}

#[tokio::test]
async fn what_a_node_appends_is_seen_by_all_and_told_to_all() {
    let server = RedisServer::start(&[]);
    let (one, two) = (server.node("ns", LIMITS).await, server.node("ns", LIMITS).await);
    let (mut heard_by_one, mut heard_by_two) = (one.subscribe(), two.subscribe());
    let appended = one.append(draft(1, 1, 1)).await.unwrap();
    assert_eq!(one.snapshot(CallerId([1; 16]))[0].seq, appended.seq, "at once");
    let event = timeout(Duration::from_secs(1), heard_by_two.recv()).await.unwrap().unwrap();
    assert_eq!(event, heard_by_one.recv().await.unwrap());
    assert_eq!((event.id, event.state, &*event.label), (WriteId(1), State::Queued, b"label 1".as_slice()));
    assert_eq!(two.snapshot(CallerId([1; 16])), one.snapshot(CallerId([1; 16])));
    assert!(two.row_is_pending(RowId([1; 16])) && !two.row_is_pending(RowId([2; 16])));

    finish(&two, claim_all(&two).await.remove(0), EndState::Applied).await;
    assert!(two.snapshot(CallerId([1; 16])).is_empty(), "at once");
    let event = timeout(Duration::from_secs(1), heard_by_one.recv()).await.unwrap().unwrap();
    assert_eq!(event.state, State::Ended(EndState::Applied));
    assert!(one.snapshot(CallerId([1; 16])).is_empty());
    let page = one.ended_since(CallerId([1; 16]), EventId(0), 9).await.unwrap();
    assert_eq!((page.events, page.next, page.more), (vec![event.clone()], event.number, false));
    assert!(one.ended_since(CallerId([2; 16]), EventId(0), 9).await.unwrap().events.is_empty());
}

#[tokio::test]
async fn what_a_dead_node_had_claimed_is_taken_over_within_five_seconds() {
    let server = RedisServer::start(&[]);
    let (one, two) = (server.node("ns", LIMITS).await, server.node("ns", LIMITS).await);
    one.append(draft(1, 1, 1)).await.unwrap();
    // Long enough that each could judge the other.
    sleep(Duration::from_secs(4)).await;
    let lost = claim_all(&one).await.remove(0);
    sleep(Duration::from_secs(1)).await;
    assert!(claim_all(&two).await.is_empty(), "its holder lives");
    drop(one);
    let died = Instant::now();
    let claim = loop {
        if let Some(claim) = claim_all(&two).await.pop() {
            break claim;
        }
        assert!(died.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(20)).await;
    };
    assert!(died.elapsed() > Duration::from_secs(3), "not before it is certain");
    assert_eq!(two.settle(&lost, vec![end(Seq(1), EndState::Applied)], false).await, Ok(Settled::Lost));
    finish(&two, claim, EndState::Applied).await;
}

#[tokio::test]
async fn a_write_that_was_noted_as_sent_is_left_alone_for_a_while() {
    let server = RedisServer::start(&[]);
    let (one, two) = (server.node("ns", LIMITS).await, server.node("ns", LIMITS).await);
    one.append(draft(1, 1, 1)).await.unwrap();
    let claim = claim_all(&one).await.remove(0);
    assert_eq!(one.note_sent(&claim, Duration::from_millis(800)).await, Ok(true));
    let noted = Instant::now();
    let dead = one.node;
    drop(one);
    takes_over(&two, dead, "ns", &mut server.client()).await;
    catches_up(&two).await;
    assert!(two.snapshot(CallerId([1; 16]))[0].lane_is_stuck);
    assert!(claim_all(&two).await.is_empty());
    assert_eq!(two.note_sent(&claim, LATER).await, Ok(false), "it is another's");
    sleep(Duration::from_millis(850).saturating_sub(noted.elapsed())).await;
    assert_eq!(claim_all(&two).await.len(), 1);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_back() {
    let server = RedisServer::start(&[]);
    let node = server.node("ns", LIMITS).await;
    node.append(draft(1, 1, 1)).await.unwrap();
    let arguments: [&[u8]; 6] = [&node.node, b"9", b"0", b"9", b"100", b"1000000"];
    node.server.run(&CLAIM, &arguments).await.unwrap();
    catches_up(&node).await;
    assert!(claim_all(&node).await.is_empty());
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(claim_all(&node).await.len(), 1);
}

#[tokio::test]
async fn a_node_that_leaves_gives_back_what_it_had() {
    let server = RedisServer::start(&[]);
    let (one, two) = (server.node("ns", LIMITS).await, server.node("ns", LIMITS).await);
    one.append(draft(1, 1, 1)).await.unwrap();
    assert_eq!(claim_all(&one).await.len(), 1);
    one.close().await;
    catches_up(&two).await;
    assert_eq!(claim_all(&two).await.len(), 1);
    assert_eq!(one.append(draft(2, 1, 2)).await, Err(AppendError::Closed));
    assert_eq!(one.claim(1, Instant::now()).await.err(), Some(JournalError::Closed));
}

#[tokio::test]
async fn an_append_in_doubt_is_found_or_can_no_longer_happen() {
    let server = RedisServer::start(&[]);
    let node = server.node("ns", LIMITS).await;
    node.append(draft(1, 1, 1)).await.unwrap();
    for id in [1, 2] {
        node.doubt(WriteId(id));
    }
    assert_eq!(node.find(WriteId(1)).await.unwrap().map(|status| status.seq), Some(Seq(1)));
    assert_eq!(node.find(WriteId(2)).await, Ok(None));
    let late = node.append(draft(2, 1, 2)).await;
    assert!(matches!(late, Err(AppendError::Unavailable(_))), "{late:?}");
    assert_eq!(node.find(WriteId(2)).await, Ok(None));
    assert!(node.append(draft(3, 1, 2)).await.is_ok());
}

#[tokio::test]
async fn timestamps_grow_over_rows_that_are_far_ahead() {
    let server = RedisServer::start(&[]);
    let node = server.node("ns", LIMITS).await;
    // The last microseconds of the year 9998: more than a double can count.
    let far = Micros(253_370_764_799_999_998);
    let floor = Some(far);
    let first = node.append(Draft { floor, ..draft(1, 1, 1) }).await.unwrap();
    let second = node.append(draft(2, 2, 1)).await.unwrap();
    let third = node.append(draft(3, 3, 1)).await.unwrap();
    let times = [first, second, third].map(|appended| appended.updated_at.0 - far.0);
    assert_eq!(times, [0, 1, 2]);
    let other = node.append(draft(4, 1, 2)).await.unwrap();
    assert_eq!(other.updated_at, other.accepted_at, "another row is not ahead");
    let past = node.append(Draft { floor: Some(Micros(-5)), ..draft(5, 1, 3) }).await.unwrap();
    assert_eq!(past.updated_at, past.accepted_at);
    assert_eq!(node.snapshot(CallerId([1; 16]))[0].updated_at, far);
}

#[tokio::test]
async fn what_ended_is_kept_a_day_and_dead_letters_longer() {
    let server = RedisServer::start(&[]);
    let node = server.node("ns", LIMITS).await;
    let states = [EndState::Applied, EndState::Superseded, EndState::Rejected];
    for (ids, day) in [([1, 2, 3], 25 * 3600), ([4, 5, 6], 0)] {
        for (id, state) in ids.into_iter().zip(states) {
            node.append(draft(id, 1, 1)).await.unwrap();
            finish(&node, claim_all(&node).await.remove(0), state).await;
        }
        super::model::turn_clock(&server, "ns", day * 1_000_000);
    }
    for (id, kept) in [(1, false), (2, false), (3, true), (4, true), (5, true), (6, true)] {
        assert_eq!(node.find(WriteId(id)).await.unwrap().is_some(), kept, "{id}");
    }
}

#[tokio::test]
async fn lanes_wait_for_what_they_were_told_to_on_all_nodes() {
    let server = RedisServer::start(&[]);
    let (one, two) = (server.node("ns", LIMITS).await, server.node("ns", LIMITS).await);
    let soon = Duration::from_millis(300);
    for (id, wait) in [
        (1, Wait::Until(Instant::now() + soon)),
        (2, Wait::Counted(Instant::now() + soon)),
        (3, Wait::Token { rights: [7; 16], until: Instant::now() + LATER }),
        (4, Wait::Parked),
    ] {
        one.append(draft(id, 1, id as u8)).await.unwrap();
        let claim = claim_all(&one).await.remove(0);
        one.release(claim, wait).await.unwrap();
    }
    catches_up(&two).await;
    assert!(two.snapshot(CallerId([1; 16])).iter().all(|write| write.lane_is_stuck));
    assert!(claim_all(&two).await.is_empty());
    let due = two.next_due().unwrap();
    assert!(due < Instant::now() + soon);
    sleep(soon + Duration::from_millis(30)).await;
    let claims = claim_all(&two).await;
    assert_eq!(claims.iter().map(|claim| claim.attempts).collect::<Vec<_>>(), [0, 1]);

    let mut changed = two.changed();
    changed.mark_unchanged();
    one.wake_token([7; 16]);
    timeout(Duration::from_secs(1), changed.changed()).await.unwrap().unwrap();
    assert_eq!(claim_all(&two).await.len(), 1);
    let lane = LaneId { row: RowId([4; 16]), caller: CallerId([1; 16]) };
    assert_eq!(two.unpark(lane).await, Ok(true));
    assert_eq!(claim_all(&two).await.len(), 1);
}

#[tokio::test]
async fn what_lingers_goes_on_when_somebody_waits_for_it() {
    let server = RedisServer::start(&[]);
    let node = server.node("ns", LIMITS).await;
    let seq = node.append(Draft { linger: LATER, ..draft(1, 1, 1) }).await.unwrap().seq;
    assert!(claim_all(&node).await.is_empty());
    assert!(!node.snapshot(CallerId([1; 16]))[0].lane_is_stuck);
    node.end_linger(&[seq]);
    let until = Instant::now() + Duration::from_secs(1);
    while claim_all(&node).await.is_empty() {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_the_server_and_nothing_is_believed_while_it_is_away() {
    let mut server = RedisServer::start(&[]);
    let node = server.node("ns", LIMITS).await;
    let caller = CallerId([1; 16]);
    for id in 1..=50 {
        node.append(Draft { after: (id > 1).then(|| Seq(id as u64 - 1)), ..draft(id, 1, 1) }).await.unwrap();
    }
    let before = node.snapshot(caller);
    server.kill();
    let until = Instant::now() + Duration::from_secs(2);
    while node.is_current() {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(5)).await;
    }
    assert!(node.snapshot_now(caller).await.is_err());
    let refused = node.append(draft(99, 2, 2)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Unavailable(_) | AppendError::Unknown), "{refused:?}");

    server.restart();
    follows(&node).await;
    assert_eq!(node.snapshot(caller), before);
    assert_eq!(node.snapshot_now(caller).await.unwrap(), before);
    let members: usize = claim_all(&node).await.iter().map(|claim| claim.members.len()).sum();
    assert_eq!(members, 50);
}

#[tokio::test]
async fn a_mirror_that_missed_something_is_loaded_anew_and_tells_late() {
    let server = RedisServer::start(&[]);
    let (one, two) = (server.node("ns", LIMITS).await, server.node("ns", LIMITS).await);
    one.append(draft(1, 1, 1)).await.unwrap();
    catches_up(&two).await;
    let mut events = two.subscribe();
    // Its channel is cut, and what happens meanwhile it can't hear.
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").exec(&mut server.client()).unwrap();
    finish(&one, claim_all(&one).await.remove(0), EndState::Applied).await;
    one.append(draft(2, 1, 1)).await.unwrap();
    let seen = two.snapshot_now(CallerId([1; 16])).await.unwrap();
    assert!(seen.iter().any(|write| write.id == WriteId(2)) || two.is_current(), "{seen:?}");
    sleep(Duration::from_millis(100)).await;
    follows(&two).await;
    catches_up(&two).await;
    assert_eq!(
        two.snapshot(CallerId([1; 16])).iter().map(|write| write.id).collect::<Vec<_>>(),
        [WriteId(2)]
    );
    let event = timeout(Duration::from_secs(1), events.recv()).await.unwrap().unwrap();
    assert_eq!((event.id, event.state), (WriteId(1), State::Ended(EndState::Applied)));
}

#[tokio::test]
async fn a_snapshot_asked_of_redis_is_what_the_mirror_has() {
    let server = RedisServer::start(&[]);
    let node = server.node("ns", LIMITS).await;
    for id in 1..=3 {
        node.append(draft(id, 1, id as u8)).await.unwrap();
    }
    let claim = claim_all(&node).await.remove(0);
    node.release(claim, Wait::Until(Instant::now() + LATER)).await.unwrap();
    let known = node.snapshot(CallerId([1; 16]));
    node.mirror.unlink();
    assert_eq!(node.snapshot_now(CallerId([1; 16])).await.unwrap(), known);
    assert!(known[0].lane_is_stuck && !known[1].lane_is_stuck);
}

#[tokio::test]
async fn a_server_that_cannot_keep_the_promise_defers_nothing() {
    for (extra, ack, works) in [
        (&["--appendfsync", "everysec"][..], Ack::Fsync, false),
        (&["--appendonly", "no"], Ack::Fsync, false),
        (&["--appendonly", "no"], Ack::Memory, true),
        (&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], Ack::Fsync, false),
        (&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"], Ack::Fsync, true),
        (&[], Ack::Replicated, false),
    ] {
        let server = RedisServer::start(extra);
        let mut store = server.store("ns");
        store.ack = ack;
        let node = InRedis::open(&store, UPSTREAM, LIMITS).await.unwrap();
        follows(&node).await;
        let appended = node.append(draft(1, 1, 1)).await;
        assert_eq!(appended.is_ok(), works, "{extra:?} {ack:?}: {appended:?}");
        assert_eq!(node.failure().is_none(), works);
        if !works {
            assert!(matches!(appended, Err(AppendError::Unavailable(_))));
        }
    }
}

#[tokio::test]
async fn replicated_means_that_a_replica_has_it() {
    let master = RedisServer::start(&["--min-replicas-to-write", "1", "--repl-diskless-sync-delay", "0"]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    until("the replica follows", || info(&master, "replication").contains("min_slaves_good_slaves:1"));
    let mut store = master.store("ns");
    store.ack = Ack::Replicated;
    let node = InRedis::open(&store, UPSTREAM, LIMITS).await.unwrap();
    follows(&node).await;
    node.append(draft(1, 1, 1)).await.unwrap();
    let on_replica: u64 =
        redis::cmd("HLEN").arg(&scripts::keys("ns")[1]).query(&mut replica.client()).unwrap();
    assert_eq!(on_replica, 1);
    drop(replica);
    let refused = node.append(draft(2, 1, 2)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Unavailable(_) | AppendError::Unknown), "{refused:?}");
}

fn in_cluster(servers: &[RedisServer], ack: Ack) -> RedisStore {
    let mut store = servers[0].store("ns");
    let address = |server: &RedisServer| HostPort { host: "127.0.0.1".into(), port: server.port };
    store.url.topology = Topology::Cluster(servers.iter().map(address).collect());
    store.ack = ack;
    store
}

#[tokio::test]
async fn a_cluster_holds_it_on_one_slot() {
    let servers = cluster();
    let store = in_cluster(&servers, Ack::Memory);
    let (one, two) = (
        InRedis::open(&store, UPSTREAM, LIMITS).await.unwrap(),
        InRedis::open(&store, UPSTREAM, LIMITS).await.unwrap(),
    );
    follows(&one).await;
    follows(&two).await;
    for id in 1..=20 {
        one.append(draft(id, id as u8, id as u8)).await.unwrap();
    }
    catches_up(&two).await;
    assert_eq!(two.depth().writes, 20);
    let claims = claim_all(&two).await;
    assert_eq!(claims.len(), 20);
    for claim in claims {
        finish(&two, claim, EndState::Applied).await;
    }
    catches_up(&one).await;
    assert_eq!(one.depth().writes, 0);
    let holders = servers.iter().filter(|server| {
        let keys: u64 = redis::cmd("DBSIZE").query(&mut server.client()).unwrap();
        keys > 0
    });
    assert_eq!(holders.count(), 1);
}

#[tokio::test]
async fn in_a_cluster_a_replica_is_waited_for() {
    let mut servers = replicated_cluster();
    let store = in_cluster(&servers, Ack::Replicated);
    let node = InRedis::open(&store, UPSTREAM, LIMITS).await.unwrap();
    follows(&node).await;
    node.append(draft(1, 1, 1)).await.unwrap();
    drop(servers.pop());
    let refused = node.append(draft(2, 1, 2)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Unavailable(_) | AppendError::Unknown), "{refused:?}");
}

#[tokio::test]
async fn a_full_server_takes_no_appends_and_goes_on_with_the_rest() {
    let server = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let node = server.node("ns", LIMITS).await;
    node.append(draft(1, 1, 1)).await.unwrap();
    node.append(draft(2, 2, 2)).await.unwrap();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1mb").exec(&mut server.client()).unwrap();
    let refused = node.append(draft(3, 3, 3)).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert_eq!(node.find(WriteId(3)).await, Ok(None));
    let mut claims = claim_all(&node).await;
    finish(&node, claims.remove(0), EndState::Rejected).await;
    node.release(claims.remove(0), Wait::Counted(Instant::now())).await.unwrap();
    assert_eq!(node.depth().writes, 1);
    assert!(node.is_current());
}

#[tokio::test]
async fn a_journal_of_another_upstream_is_refused() {
    let server = RedisServer::start(&[]);
    let node = server.node("ns", LIMITS).await;
    node.append(draft(1, 1, 1)).await.unwrap();
    let other = InRedis::open(&server.store("ns"), "https://other", LIMITS).await;
    assert!(matches!(other.err(), Some(OpenError::Foreign { owner, .. }) if owner == UPSTREAM));
}

#[tokio::test]
async fn without_a_server_nothing_is_appended_and_it_goes_on_when_there_is_one() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let node = InRedis::open(&server.store("ns"), UPSTREAM, LIMITS).await.unwrap();
    assert!(!node.is_current());
    assert!(matches!(node.append(draft(1, 1, 1)).await, Err(AppendError::Unavailable(_))));
    server.restart();
    follows(&node).await;
    node.append(draft(1, 1, 1)).await.unwrap();
}

#[test]
fn messages_are_read_to_their_end_or_not_at_all() {
    let mut bytes = b"0123456789abcdef0123456789abcdef".to_vec();
    bytes.extend(7u64.to_be_bytes());
    assert_eq!(wire::Message::read(&bytes).map(|message| message.change), Ok(7));
    bytes.push(b'L');
    bytes.extend([1; 32]);
    bytes.extend([9, b'B']);
    bytes.extend(5u64.to_be_bytes());
    assert_eq!(wire::Message::read(&bytes).map(|message| message.items.len()), Ok(1));
    for len in 41..bytes.len() {
        assert!(wire::Message::read(&bytes[..len]).is_err(), "{len} bytes");
    }
}
