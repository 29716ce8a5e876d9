//! Scripts that run inside Redis.

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

/// What every script begins with: it runs on a master alone, and has its
/// replication id in `replid`.
const MASTER: &str = include_str!("redis/master.lua");

/// A Lua script, called by its digest once the server knows it.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    source: String,
    sha1: String,
}

impl Script {
    /// A script under the name that the log knows it by; `body` is what comes
    /// after the beginning that all have.
    pub fn new(name: &'static str, body: &str) -> Self {
        let source = format!("{MASTER}{body}");
        let sha1 = redis::Script::new(&source).get_hash().to_owned();
        Self { name, source, sha1 }
    }

    /// The name that the log knows it by.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it, and where the server doesn't know it runs it once more from
    /// its source, which makes it known.
    pub(super) async fn run_on(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &[Vec<u8>],
        arguments: &[&[u8]],
    ) -> RedisResult<Vec<Value>> {
        let known = call("EVALSHA", &self.sha1, keys, arguments);
        match answer(connection.req_packed_command(&known).await) {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let source = call("EVAL", &self.source, keys, arguments);
                answer(connection.req_packed_command(&source).await)
            }
            outcome => outcome,
        }
    }
}

fn call(command: &str, script: &str, keys: &[Vec<u8>], arguments: &[&[u8]]) -> Cmd {
    let mut call = redis::cmd(command);
    call.arg(script).arg(keys.len());
    for key in keys {
        call.arg(key.as_slice());
    }
    for argument in arguments {
        call.arg(*argument);
    }
    call
}

/// All scripts here answer with an array.
fn answer(outcome: RedisResult<Value>) -> RedisResult<Vec<Value>> {
    match outcome?.extract_error()? {
        Value::Array(values) => Ok(values),
        _ => {
            Err(RedisError::from((ErrorKind::UnexpectedReturnType, "a script did not answer with an array")))
        }
    }
}
