//! Real Redis servers: a single one, a Cluster of three masters, a master with
//! a replica under two Sentinels. `REDIS_SERVER` names another program, Valkey's say.

mod client;
mod cluster;
mod sentinels;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

pub use client::{Redis, Reply};
pub use cluster::RedisCluster;
pub use sentinels::Sentinels;

use super::process::{Process, directory, steady_port};

/// The server that tests share whose keys stay in a namespace of their own and
/// that leave the server alone.
pub fn shared() -> &'static RedisServer {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    SERVER.get_or_init(|| RedisServer::start(&[]))
}

/// A `redis-server` on 127.0.0.1, killed when dropped.
pub struct RedisServer {
    port: u16,
    arguments: Vec<String>,
    process: Mutex<Process>,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk, with more arguments (`"--maxmemory", "1mb"`),
    /// and waits until it answers.
    #[track_caller]
    pub fn start(extra_config: &[&str]) -> Self {
        Self::launch(|port, place| {
            let own = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", &place.to_string_lossy()]
                .map(str::to_owned);
            let fast = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
            own.into_iter().chain(fast.iter().chain(extra_config).map(|&text| text.to_owned())).collect()
        })
    }

    /// Starts one with the arguments that `arguments` makes from a port and a folder of its own.
    #[track_caller]
    fn launch(arguments: impl Fn(u16, &Path) -> Vec<String>) -> Self {
        for _ in 0..5 {
            let port = steady_port();
            let place = directory(&format!("redis-{port}"));
            let arguments = arguments(port, &place);
            let process = Mutex::new(spawn(&arguments));
            let server = Self { port, arguments, process };
            // Another process may have taken the port meanwhile.
            if server.answers_or_ends() {
                return server;
            }
            eprintln!("{}", server.log());
        }
        panic!("redis-server doesn't start");
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection of one's own.
    #[track_caller]
    pub fn client(&self) -> Redis {
        Redis::open(&self.address()).unwrap_or_else(|error| panic!("redis-server: {error}\n{}", self.log()))
    }

    /// `kill -9`; returns when it is gone. What it held in memory is lost.
    pub fn kill(&self) {
        let process = self.process.lock().unwrap();
        process.signal("KILL");
        process.wait();
    }

    /// Starts it again, on the same port and in the same folder, and waits until it answers.
    #[track_caller]
    pub fn restart(&self) {
        super::eventually("redis-server starts again", || {
            let mut process = self.process.lock().unwrap();
            if process.exited().is_some() {
                *process = spawn(&self.arguments);
            }
            drop(process);
            self.answers_or_ends()
        });
    }

    /// `SIGSTOP`: it keeps its connections and does nothing.
    pub fn freeze(&self) {
        self.process.lock().unwrap().signal("STOP");
    }

    /// `SIGCONT`: it goes on where it was.
    pub fn thaw(&self) {
        self.process.lock().unwrap().signal("CONT");
    }

    /// What it has printed since its last start.
    pub fn log(&self) -> String {
        self.process.lock().unwrap().lines().join("\n")
    }

    /// Waits until it answers PING (true) or has ended (false).
    #[track_caller]
    fn answers_or_ends(&self) -> bool {
        let answers = || {
            let pong = Redis::open(&self.address()).and_then(|mut redis| redis.try_command(&["PING"]));
            // A password may be wanted.
            pong.is_ok() || pong.is_err_and(|error| error.contains("NOAUTH"))
        };
        let ended = || self.process.lock().unwrap().exited().is_some();
        super::eventually("redis-server answers or ends", || ended() || answers());
        !ended()
    }
}

fn spawn(arguments: &[String]) -> Process {
    let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
    let mut command = Command::new(program);
    command.args(arguments);
    Process::start("redis-server", "KILL", None, &command)
}
