//! Lookups on one server: those that begin in the same turn of the event loop
//! are asked together, which costs Redis and this process little more than
//! one of them does.
//!
//! They are read by a command, since a script takes Redis several times as
//! long. What the server is it is asked *afterwards*, over the same connection:
//! it has a new replication id whenever it becomes a master, so that an entry
//! that matches the id was read from the master that the id is of.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::parts::MAX_TAGS;
use crate::cache::generation::TagSet;
use crate::cache::key::Key;
use crate::store::connect::CommandConnection;
use crate::store::names::Names;
use crate::store::stamp::{ReplicationId, Stamp, Stamps};
use crate::tag::TagId;

/// The most lookups that are asked together.
const MAX_TOGETHER: usize = 64;

/// How many bytes of entries are asked for together, about: Redis does nothing
/// else meanwhile, and nobody has his entry before all are there.
const MAX_BYTES: usize = 512 << 10;

/// What a lookup has read.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// What is under the entry's name, if there is anything.
    pub(super) frame: Option<Bytes>,
    /// When it was read, by what held then.
    pub(super) moment: Arc<Moment>,
}

/// What held at one time.
#[derive(Debug)]
pub(super) struct Moment {
    /// The stamps of all tags that were asked for, those of others as well.
    pub(super) stamps: Stamps,
    /// The master that was asked.
    pub(super) replication: ReplicationId,
}

/// Lookups that leave together.
pub(super) struct Lookups {
    names: Names,
    /// Those of this turn. While there are any a [`Turn`] is under way, which takes them along.
    waiting: Mutex<Vec<Lookup>>,
    /// How many to ask together, by the size of the last entries.
    together: AtomicUsize,
}

/// One that waits for its answer.
struct Lookup {
    connection: Arc<CommandConnection>,
    key: Key,
    tags: TagSet,
    until: Instant,
    reply: oneshot::Sender<RedisResult<Seen>>,
}

impl Lookups {
    pub(super) fn new(names: Names) -> Arc<Self> {
        let (waiting, together) = (Mutex::default(), AtomicUsize::new(MAX_TOGETHER));
        Arc::new(Self { names, waiting, together })
    }

    /// Reads the entry under `key` and the generations of `tags`, of which
    /// there may be [`MAX_TAGS`], at some time after this was called. May
    /// never end where there is no answer within `deadline`.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub(super) async fn look(
        self: &Arc<Self>,
        connection: &Arc<CommandConnection>,
        key: &Key,
        tags: &TagSet,
        deadline: Duration,
    ) -> RedisResult<Seen> {
        let (reply, answer) = oneshot::channel();
        let (connection, until) = (connection.clone(), Instant::now() + deadline);
        let is_first = {
            let mut waiting = self.waiting.lock();
            waiting.push(Lookup { connection, key: *key, tags: tags.clone(), until, reply });
            waiting.len() == 1
        };
        if is_first {
            tokio::spawn(Turn(Some(self.clone())).end());
        }
        match answer.await {
            Ok(answer) => answer,
            // Nobody answers any more.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Until it ends, lookups may join. Empty once it has.
struct Turn(Option<Arc<Lookups>>);

impl Turn {
    /// Lets all that is ready to run join, then asks for everybody.
    async fn end(mut self) {
        yield_now().await;
        let Some(lookups) = self.0.take() else { return };
        let waiting = mem::take(&mut *lookups.waiting.lock());
        let mut batches = batches(waiting, lookups.together.load(Ordering::Relaxed));
        let last = batches.pop();
        for batch in batches {
            tokio::spawn(ask(lookups.clone(), batch));
        }
        if let Some(batch) = last {
            ask(lookups, batch).await;
        }
    }
}

impl Drop for Turn {
    /// Cut off: whoever comes next has to begin another.
    fn drop(&mut self) {
        if let Some(lookups) = &self.0 {
            lookups.waiting.lock().clear();
        }
    }
}

/// Asks for a batch, and hands out the answers.
async fn ask(lookups: Arc<Lookups>, batch: Batch) {
    let mut questions = Pipeline::with_capacity(2);
    questions.cmd("MGET");
    for key in &batch.keys {
        questions.arg(lookups.names.entry(key));
    }
    for tag in &batch.tags {
        questions.arg(lookups.names.generation(*tag));
    }
    questions.cmd("INFO").arg("replication");
    // Past that nobody waits any more.
    let Ok(answers) = timeout_at(batch.until, batch.connection.ask(&questions)).await else {
        // Perhaps because it was too much at once.
        let fewer = (batch.lookups.len() / 2).max(1);
        return lookups.together.store(fewer, Ordering::Relaxed);
    };
    match answers.and_then(|answers| batch.read(answers)) {
        Ok((frames, moment)) => {
            let bytes: usize = frames.iter().flatten().map(Bytes::len).sum();
            let fitting = MAX_BYTES * frames.len() / bytes.max(1);
            let most = (2 * lookups.together.load(Ordering::Relaxed)).min(MAX_TOGETHER);
            lookups.together.store(fitting.clamp(1, most), Ordering::Relaxed);
            batch.answer(&frames, &Arc::new(moment));
        }
        Err(error) => batch.fail(&error),
    }
}

/// Lookups that are asked together.
struct Batch {
    connection: Arc<CommandConnection>,
    /// When the last of them gives up.
    until: Instant,
    /// Ascending, each once.
    keys: Vec<Key>,
    /// Ascending, each once.
    tags: Vec<TagId>,
    lookups: Vec<Lookup>,
}

/// All that still wait, in their order, at most `together` in each batch.
fn batches(waiting: Vec<Lookup>, together: usize) -> Vec<Batch> {
    let mut waiting = waiting.into_iter().filter(|lookup| !lookup.reply.is_closed()).peekable();
    let mut batches = Vec::new();
    while let Some(first) = waiting.next() {
        let mut tags = first.tags.as_slice().to_vec();
        let mut lookups = vec![first];
        while lookups.len() < together
            && let Some(next) = waiting.next_if(|next| {
                tags.len() + next.tags.as_slice().len() <= MAX_TAGS
                    && Arc::ptr_eq(&next.connection, &lookups[0].connection)
            })
        {
            tags.extend_from_slice(next.tags.as_slice());
            lookups.push(next);
        }
        batches.push(Batch::of(lookups, tags));
    }
    batches
}

impl Batch {
    /// `lookups` are over one connection, and never none; `tags` are theirs.
    fn of(lookups: Vec<Lookup>, mut tags: Vec<TagId>) -> Self {
        let first = &lookups[0];
        let (connection, begun) = (first.connection.clone(), first.until);
        let until = lookups.iter().fold(begun, |latest, lookup| latest.max(lookup.until));
        let mut keys: Vec<Key> = lookups.iter().map(|lookup| lookup.key).collect();
        keys.sort_unstable();
        keys.dedup();
        tags.sort_unstable();
        tags.dedup();
        Self { connection, until, keys, tags, lookups }
    }

    /// Reads the answers: what is under each key, and what held.
    fn read(&self, answers: Vec<Value>) -> RedisResult<(Vec<Option<Bytes>>, Moment)> {
        let Ok([Value::Array(values), info]) = <[Value; 2]>::try_from(answers) else {
            return Err(malformed());
        };
        if values.len() != self.keys.len() + self.tags.len() {
            return Err(malformed());
        }
        let replication = replication(&info)?;
        let mut values = values.into_iter().map(|value| match value {
            Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
            Value::Nil => Ok(None),
            _ => Err(malformed()),
        });
        let frames = values.by_ref().take(self.keys.len()).collect::<RedisResult<_>>()?;
        let stamps = self.tags.iter().zip(values);
        let stamps = stamps.map(|(tag, value)| Ok((*tag, Stamp::of(value?.as_deref(), replication))));
        Ok((frames, Moment { stamps: stamps.collect::<RedisResult<_>>()?, replication }))
    }

    fn answer(self, frames: &[Option<Bytes>], moment: &Arc<Moment>) {
        for lookup in self.lookups {
            let index = self.keys.binary_search(&lookup.key);
            let frame = index.ok().and_then(|index| frames.get(index).cloned().flatten());
            // Who is gone needs none.
            let _ = lookup.reply.send(Ok(Seen { frame, moment: moment.clone() }));
        }
    }

    fn fail(self, error: &RedisError) {
        for lookup in self.lookups {
            let _ = lookup.reply.send(Err(error.clone()));
        }
    }
}

/// Which master says so, if it is one.
fn replication(info: &Value) -> RedisResult<ReplicationId> {
    let info = match info {
        Value::VerbatimString { text, .. } => text,
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| malformed())?,
        _ => return Err(malformed()),
    };
    if !info.lines().any(|line| line == "role:master") {
        let code = ErrorKind::Server(ServerErrorKind::ReadOnly);
        return Err(RedisError::from((code, "This server is not a master")));
    }
    let stated = info.lines().find_map(|line| line.strip_prefix("master_replid:"));
    stated.and_then(|id| ReplicationId::parse(id.as_bytes())).ok_or_else(malformed)
}

fn malformed() -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "a lookup's answer has not the expected form"))
}

#[cfg(test)]
mod tests;
