use futures_util::FutureExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::store::error::StoreError;

const MASTER: &str = "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\
    master_replid:000000000000000000000000000000010123abcd\r\nmaster_repl_offset:0\r\n";
const REPLICA: &str = "role:slave\r\nmaster_replid:000000000000000000000000000000010123abcd\r\n";
const PATIENCE: Duration = Duration::from_secs(10);

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// The other end of a connection.
struct Server(BufReader<DuplexStream>);

impl Server {
    async fn start() -> (Self, Arc<CommandConnection>) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, near, config).await.unwrap();
        tokio::spawn(driver);
        (Self(BufReader::new(far)), Arc::new(CommandConnection::Single(connection)))
    }

    async fn number(&mut self, mark: char) -> usize {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.strip_prefix(mark).unwrap().trim_end().parse().unwrap()
    }

    async fn command(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        for _ in 0..self.number('*').await {
            let mut word = vec![0; self.number('$').await + 2];
            self.0.read_exact(&mut word).await.unwrap();
            word.truncate(word.len() - 2);
            words.push(String::from_utf8(word).unwrap());
        }
        words
    }

    /// The keys that are asked for, and what is asked after them.
    async fn asked(&mut self) -> Vec<String> {
        let mut keys = self.command().await;
        assert_eq!(keys.remove(0), "MGET");
        assert_eq!(self.command().await, ["INFO", "replication"]);
        keys
    }

    async fn say(&mut self, answer: &str) {
        self.0.write_all(answer.as_bytes()).await.unwrap();
    }

    /// An entry is its name `times` over, a generation the end of its name.
    async fn answer(&mut self, keys: &[String], times: usize) {
        let values = keys.iter().map(|key| match key.contains(":g:") {
            true => key[key.len() - 16..].to_owned(),
            false => key.repeat(times),
        });
        let values: String = values.map(|value| bulk(&value)).collect();
        self.say(&format!("*{}\r\n{values}{}", keys.len(), bulk(MASTER))).await;
    }
}

fn lookups() -> Arc<Lookups> {
    Lookups::new(Names::new("ns"))
}

fn key(number: u8) -> Key {
    Key::from([number; 16])
}

fn set(tags: &[u64]) -> TagSet {
    tags.iter().copied().map(TagId).collect()
}

fn entry(number: u8) -> String {
    String::from_utf8(Names::new("ns").entry(&key(number))).unwrap()
}

fn stamp_of(tag: u64) -> Option<Stamp> {
    Stamp::of(Some(format!("{tag:016x}").as_bytes()), ReplicationId(1))
}

/// A lookup that has joined by the time this returns.
async fn begin(
    lookups: &Arc<Lookups>,
    connection: &Arc<CommandConnection>,
    number: u8,
    tags: &[u64],
) -> impl Future<Output = RedisResult<Seen>> + use<> {
    let (lookups, connection, tags) = (lookups.clone(), connection.clone(), set(tags));
    let mut looking = Box::pin(async move { lookups.look(&connection, &key(number), &tags, PATIENCE).await });
    assert!(timeout(Duration::ZERO, &mut looking).await.is_err());
    looking
}

/// A lookup that joins with the next turn of the event loop.
fn spawn(
    lookups: &Arc<Lookups>,
    connection: &Arc<CommandConnection>,
    number: u8,
) -> JoinHandle<RedisResult<Seen>> {
    let (lookups, connection) = (lookups.clone(), connection.clone());
    tokio::spawn(async move { lookups.look(&connection, &key(number), &set(&[]), PATIENCE).await })
}

fn text(seen: RedisResult<Seen>) -> String {
    String::from_utf8(seen.unwrap().frame.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn lookups_of_one_turn_are_one_command_and_each_gets_its_own() {
    let (lookups, (mut server, connection)) = (lookups(), Server::start().await);
    let (tags, same) = ([set(&[1, 2]), set(&[2, 3])], [key(9), key(4), key(9)]);
    let looks = same.iter().zip(tags.iter().cycle());
    let looks: Vec<_> = looks
        .map(|(key, tags)| {
            let (lookups, connection, key, tags) = (lookups.clone(), connection.clone(), *key, tags.clone());
            tokio::spawn(async move { lookups.look(&connection, &key, &tags, PATIENCE).await })
        })
        .collect();
    let keys = server.asked().await;
    let generation = |tag: u64| String::from_utf8(lookups.names.generation(TagId(tag))).unwrap();
    assert_eq!(keys, [entry(4), entry(9), generation(1), generation(2), generation(3)]);
    server.answer(&keys, 1).await;
    for (look, number) in looks.into_iter().zip([9, 4, 9]) {
        let seen = look.await.unwrap();
        let moment = seen.as_ref().unwrap().moment.clone();
        assert_eq!(text(seen), entry(number));
        assert_eq!(moment.replication, ReplicationId(1));
        assert_eq!([1, 2, 3].map(|tag| moment.stamps.get(TagId(tag))), [1, 2, 3].map(stamp_of));
    }
}

#[tokio::test]
async fn what_is_absent_or_held_is_told_apart_from_what_is_there() {
    let (lookups, (mut server, connection)) = (lookups(), Server::start().await);
    let look = begin(&lookups, &connection, 1, &[1, 2, 3]).await;
    server.asked().await;
    let generation = "0123456789abcdef";
    let values = format!("$-1\r\n{}$-1\r\n{}", bulk(generation), bulk(""));
    // As it is said in RESP3.
    let info = format!("={}\r\ntxt:{MASTER}\r\n", MASTER.len() + 4);
    server.say(&format!("*4\r\n{values}{info}")).await;
    let Seen { frame, moment } = look.await.unwrap();
    assert_eq!(frame, None);
    let there = Stamp::of(Some(generation.as_bytes()), ReplicationId(1));
    assert_eq!([1, 2, 3].map(|tag| moment.stamps.get(TagId(tag))), [there, None, None]);
}

#[tokio::test]
async fn nobody_joins_what_has_left() {
    let (lookups, (mut server, connection)) = (lookups(), Server::start().await);
    let first = begin(&lookups, &connection, 1, &[1]).await;
    let first_keys = server.asked().await;
    let second = begin(&lookups, &connection, 1, &[1]).await;
    let second_keys = server.asked().await;
    assert_eq!(first_keys, second_keys);
    server.answer(&first_keys, 1).await;
    assert_eq!(text(first.await), entry(1));
    server.answer(&second_keys, 2).await;
    assert_eq!(text(second.await), entry(1).repeat(2));
}

#[tokio::test]
async fn who_goes_away_takes_nobodys_answer_along() {
    let (lookups, (mut server, connection)) = (lookups(), Server::start().await);
    let (gone, tags) = (key(1), set(&[]));
    let gone_before = lookups.look(&connection, &gone, &tags, PATIENCE);
    // Polled once, without a turn of the event loop.
    assert!(gone_before.now_or_never().is_none());
    let [kept, gone_after] = [2, 3].map(|number| spawn(&lookups, &connection, number));
    let keys = server.asked().await;
    assert_eq!(keys, [entry(2), entry(3)]);
    gone_after.abort();
    assert!(gone_after.await.is_err());
    server.answer(&keys, 1).await;
    assert_eq!(text(kept.await.unwrap()), entry(2));
}

#[tokio::test]
async fn who_gives_up_early_leaves_the_others_their_time() {
    let (lookups, (mut server, connection)) = (lookups(), Server::start().await);
    let patient = spawn(&lookups, &connection, 2);
    let (soon, first, tags) = (Duration::from_millis(20), key(1), set(&[]));
    let hasty = timeout(soon, lookups.look(&connection, &first, &tags, soon));
    let (hasty, keys) = tokio::join!(hasty, server.asked());
    assert!(hasty.is_err() && !patient.is_finished());
    assert_eq!(keys, [entry(1), entry(2)]);
    server.answer(&keys, 1).await;
    assert_eq!(text(patient.await.unwrap()), entry(2));
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_no_other_connection() {
    let (lookups, (mut hung, connection)) = (lookups(), Server::start().await);
    let waiting = begin(&lookups, &connection, 1, &[]).await;
    hung.asked().await;
    let (mut server, other) = Server::start().await;
    let look = spawn(&lookups, &other, 2);
    let keys = server.asked().await;
    server.answer(&keys, 1).await;
    assert_eq!(text(look.await.unwrap()), entry(2));
    assert!(timeout(Duration::from_millis(20), waiting).await.is_err());
}

#[tokio::test]
async fn after_a_batch_without_an_answer_fewer_are_asked_for_together() {
    let (lookups, (mut server, connection)) = (lookups(), Server::start().await);
    let (soon, tags) = (Duration::from_millis(20), set(&[]));
    let keys = [1, 2, 3, 4].map(key);
    let hasty = keys.each_ref().map(|key| timeout(2 * soon, lookups.look(&connection, key, &tags, soon)));
    let [one, two, three, four] = hasty;
    let (one, two, three, four, asked) = tokio::join!(one, two, three, four, server.asked());
    assert!([one, two, three, four].iter().all(Result::is_err));
    assert_eq!(asked.len(), 4);
    assert_eq!(lookups.together.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_connection_that_breaks_fails_all_who_wait_on_it() {
    let (lookups, (mut server, connection)) = (lookups(), Server::start().await);
    let first = begin(&lookups, &connection, 1, &[1]).await;
    server.asked().await;
    let others = [2, 3].map(|number| spawn(&lookups, &connection, number));
    server.asked().await;
    drop(server);
    let mut outcomes = vec![first.await];
    for other in others {
        outcomes.push(other.await.unwrap());
    }
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(error.is_unrecoverable_error() || error.is_io_error(), "{error:?}");
        assert!(matches!(StoreError::of(&error), StoreError::Broken(_)));
    }
}

#[tokio::test]
async fn an_error_is_everybodys() {
    let values = format!("*2\r\n{}{}", bulk("one"), bulk("two"));
    type Expected = fn(&StoreError) -> bool;
    let is_broken: Expected = |error| matches!(error, StoreError::Broken(_));
    let cases: [(String, Expected); 7] = [
        (format!("{values}{}", bulk(REPLICA)), |error| *error == StoreError::ReadOnly),
        (format!("-LOADING Redis is loading\r\n{}", bulk(MASTER)), |error| *error == StoreError::Unavailable),
        (format!("{values}-NOPERM no INFO\r\n"), |error| matches!(error, StoreError::Refused(_))),
        (format!("{values}{}", bulk("role:master\r\n")), is_broken),
        (format!("{values}+OK\r\n"), is_broken),
        (format!("*1\r\n$-1\r\n{}", bulk(MASTER)), is_broken),
        (format!("*2\r\n$-1\r\n:1\r\n{}", bulk(MASTER)), is_broken),
    ];
    for (answer, is_expected) in cases {
        let (lookups, (mut server, connection)) = (lookups(), Server::start().await);
        let looks = [1, 2].map(|number| spawn(&lookups, &connection, number));
        server.asked().await;
        server.say(&answer).await;
        for look in looks {
            let error = look.await.unwrap().unwrap_err();
            assert!(is_expected(&StoreError::of(&error)), "{answer:?}: {error:?}");
        }
    }
}

#[test]
fn that_a_server_is_no_master_is_told_by_the_code_that_it_would_use_itself() {
    let error = replication(&Value::BulkString(REPLICA.into())).unwrap_err();
    assert_eq!(error.code(), Some("READONLY"));
}

#[tokio::test]
async fn large_entries_are_asked_for_in_smaller_lots() {
    let (lookups, (mut server, connection)) = (lookups(), Server::start().await);
    let times = |bytes: usize| (bytes / entry(1).len()).max(1);
    for (bytes, lots) in [(1, 1), (MAX_BYTES / 2, 1), (MAX_BYTES, 2), (1, 4), (1, 1)] {
        let looks = [1, 2, 3, 4].map(|number| spawn(&lookups, &connection, number));
        for _ in 0..lots {
            let keys = server.asked().await;
            assert_eq!(keys.len(), 4 / lots);
            server.answer(&keys, times(bytes)).await;
        }
        for look in looks {
            assert!(look.await.unwrap().is_ok());
        }
    }
}

#[tokio::test]
async fn a_batch_has_one_connection_and_no_more_tags_than_one_may_ask_for() {
    let (one, other) = (Server::start().await.1, Server::start().await.1);
    let many: TagSet = (0..MAX_TAGS as u64 - 1).map(TagId).collect();
    let until = Instant::now();
    let lookup = |connection: &Arc<CommandConnection>, tags: &TagSet, later| {
        let (reply, answer) = oneshot::channel();
        let until = until + Duration::from_millis(later);
        let lookup = Lookup { connection: connection.clone(), key: key(1), tags: tags.clone(), until, reply };
        (lookup, answer)
    };
    let few = set(&[1]);
    let asked = [(&one, &many, 7), (&one, &few, 9), (&one, &few, 8), (&other, &few, 1), (&one, &few, 2)];
    let (waiting, _answers): (Vec<_>, Vec<_>) =
        asked.into_iter().map(|(connection, tags, later)| lookup(connection, tags, later)).unzip();
    let made = batches(waiting, MAX_TOGETHER);
    let lots: Vec<_> = made.iter().map(|batch| batch.lookups.len()).collect();
    assert_eq!(lots, [2, 1, 1, 1]);
    assert_eq!((made[0].keys.len(), made[0].tags.len()), (1, MAX_TAGS - 1));
    assert_eq!(made[0].until, until + Duration::from_millis(9));
}

#[test]
fn a_turn_that_is_cut_off_leaves_room_for_another() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lookups = lookups();
    let cut_off = runtime();
    cut_off.block_on(async {
        let (_server, connection) = Server::start().await;
        let (first, tags) = (key(1), set(&[]));
        let look = lookups.look(&connection, &first, &tags, PATIENCE);
        assert!(look.now_or_never().is_none());
    });
    drop(cut_off);
    runtime().block_on(async {
        let (mut server, connection) = Server::start().await;
        let look = begin(&lookups, &connection, 2, &[]).await;
        let keys = server.asked().await;
        assert_eq!(keys, [entry(2)]);
        server.answer(&keys, 1).await;
        assert_eq!(text(look.await), entry(2));
    });
}
