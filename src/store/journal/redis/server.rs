//! Runs the journal's scripts, and waits until what they changed is kept as promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{RedisResult, Value, from_redis_value};
use tokio::sync::Mutex as AsyncMutex;

use super::promise::Confirmation;
use super::reply::Reply;
use super::scripts;
use super::wire::Malformed;
use crate::store::commands::Commands;
use crate::store::connect::CommandConnection;
use crate::store::error::StoreError;
use crate::store::script::Script;
use crate::store::stamp::ReplicationId;

/// For one script. Long enough for requests that are spared a slow server otherwise.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// For the copies of what was written, as the server counts it; less than [`DEADLINE`].
const COPIES: Duration = Duration::from_millis(1500);

/// Why a script didn't do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It has changed nothing, and never will.
    Refused(StoreError),
    /// It may have run, or may yet.
    InDoubt(StoreError),
}

impl Failure {
    pub fn reason(&self) -> &StoreError {
        match self {
            Self::Refused(reason) | Self::InDoubt(reason) => reason,
        }
    }

    /// What a server's error says of a script: those that forbid a script's first change forbid all of them.
    fn of(reason: StoreError) -> Self {
        match reason {
            StoreError::Unavailable | StoreError::Full | StoreError::ReadOnly => Self::Refused(reason),
            StoreError::Timeout | StoreError::Refused(_) | StoreError::Broken(_) => Self::InDoubt(reason),
        }
    }
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        Self::InDoubt(StoreError::Broken(error.to_string()))
    }
}

/// The server, or servers, that hold a journal.
pub struct Server {
    commands: Arc<Commands>,
    keys: Vec<Vec<u8>>,
    touch: Vec<u8>,
    channel: String,
    /// Whether the journal is ours and the server keeps what it promises; else why not.
    standing: Mutex<Result<Confirmation, String>>,
    /// Changes that asked to be kept, so far.
    tickets: AtomicU64,
    /// The last of them that is, and on which master.
    kept: AsyncMutex<Option<(ReplicationId, u64)>>,
}

impl Server {
    pub fn new(commands: Arc<Commands>, namespace: &str) -> Self {
        Self {
            commands,
            keys: scripts::keys(namespace),
            touch: scripts::touch(namespace),
            channel: scripts::channel(namespace),
            standing: Mutex::new(Err("Redis has not been reached yet".to_owned())),
            tickets: AtomicU64::new(0),
            kept: AsyncMutex::new(None),
        }
    }

    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Says how the server stands. Whether that is news.
    pub fn set_standing(&self, standing: Result<Confirmation, String>) -> bool {
        let mut known = self.standing.lock();
        let is_news = *known != standing;
        *known = standing;
        is_news
    }

    /// Whether writes may be deferred.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn standing(&self) -> Result<Confirmation, String> {
        self.standing.lock().clone()
    }

    /// Why nothing can be appended now, if so.
    pub fn failure(&self) -> Option<String> {
        let unreachable = || (!self.commands.is_available()).then(|| StoreError::Unavailable.to_string());
        self.standing().err().or_else(unreachable)
    }

    /// Another connection is to be made: this one leads elsewhere than the channel's.
    pub fn reconnect(&self) {
        self.commands.reconnect();
    }

    /// Runs a script. `arguments` are what comes after the channel.
    ///
    /// # Errors
    ///
    /// [`Failure`] tells whether it may have run.
    pub async fn run(&self, script: &Script, arguments: &[&[u8]]) -> Result<Reply, Failure> {
        let admission = self.commands.admit(DEADLINE).map_err(Failure::Refused)?;
        let mut all = Vec::with_capacity(1 + arguments.len());
        all.push(self.channel.as_bytes());
        all.extend_from_slice(arguments);
        let answer = admission.connection.run(script, &self.keys, &all);
        let answer = self.commands.within(&admission, script.name(), answer).await;
        Ok(Reply::new(answer.map_err(Failure::of)?)?)
    }

    /// Waits until what a script changed on a master, and all before it, is kept as promised.
    ///
    /// # Errors
    ///
    /// [`Failure::InDoubt`] if it may not be.
    pub async fn confirm(&self, replication: ReplicationId) -> Result<(), Failure> {
        let confirmation = self.standing().unwrap_or(Confirmation::None);
        if confirmation == Confirmation::None {
            return Ok(());
        }
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mut kept = self.kept.lock().await;
        if kept.is_some_and(|(on, upto)| on == replication && upto >= ticket) {
            return Ok(());
        }
        // One wait for all that has been changed by now.
        let upto = self.tickets.load(Ordering::SeqCst);
        let master = self.await_copies(confirmation).await.map_err(Failure::InDoubt)?;
        if master != replication {
            return Err(Failure::InDoubt(StoreError::Broken("another server took over".into())));
        }
        *kept = Some((master, upto));
        Ok(())
    }

    async fn await_copies(&self, confirmation: Confirmation) -> Result<ReplicationId, StoreError> {
        let admission = self.commands.admit(DEADLINE)?;
        let answer = copies(&admission.connection, &self.touch, confirmation);
        let answers = self.commands.within(&admission, "journal_wait", answer).await?;
        let unexpected = || StoreError::Broken("no number of copies".into());
        let [_, info, copies] = <[Value; 3]>::try_from(answers).map_err(|_| unexpected())?;
        let info: String = from_redis_value(info).map_err(|_| unexpected())?;
        let id = info.lines().find_map(|line| line.strip_prefix("master_replid:"));
        let master = id.and_then(|id| ReplicationId::parse(id.trim().as_bytes())).ok_or_else(unexpected)?;
        let copies = match copies {
            Value::Array(counts) => counts.into_iter().next().unwrap_or(Value::Nil),
            count => count,
        };
        match copies {
            Value::Int(count) if count > 0 => Ok(master),
            Value::Int(_) => Err(StoreError::Timeout),
            _ => Err(unexpected()),
        }
    }
}

/// A change, so that there is something to wait for on this very connection, and the wait.
async fn copies(
    connection: &CommandConnection,
    touch: &[u8],
    confirmation: Confirmation,
) -> RedisResult<Vec<Value>> {
    let mut questions = redis::pipe();
    questions.cmd("SET").arg(touch).arg("");
    questions.cmd("INFO").arg("replication");
    let limit = COPIES.as_millis() as u64;
    match confirmation {
        Confirmation::Disk => questions.cmd("WAITAOF").arg(1).arg(0).arg(limit),
        _ => questions.cmd("WAIT").arg(1).arg(limit),
    };
    connection.ask(&questions).await
}
