//! Servers of a test's own, which it may kill and freeze.

use std::fs;
use std::sync::{Mutex, MutexGuard};

use rustix::process::{Pid, Signal, kill_process};

use super::{Cluster, Stack, postgres};
use crate::support::process::Process;

/// What was committed outlives a crash of PostgreSQL, though not of the machine.
const DURABLE: &[&str] = &["fsync=off"];

/// A PostgreSQL with one database, a PostgREST and a gateway.
pub struct Mortal {
    cluster: Cluster,
    stack: Stack,
}

impl Mortal {
    /// Starts all three, with a file of `tests/sql`.
    pub fn start(name: &str, file: &str) -> Self {
        let cluster = Cluster::start(&format!("postgres-{name}"), DURABLE);
        let stack = cluster.stack(name, &["roles.sql", "base.sql", file], "public");
        Self { cluster, stack }
    }

    /// The gateway's URL.
    pub fn url(&self) -> String {
        self.stack.url()
    }

    /// The gateway's `host:port`.
    pub fn address(&self) -> String {
        self.stack.address()
    }

    /// Kills PostgreSQL with everything that it has started.
    pub fn kill_postgres(&self) {
        let postgres = locked(&self.cluster.postgres);
        // Frozen it starts no more of them.
        send(postgres.id(), Signal::STOP);
        children(postgres.id()).into_iter().for_each(|child| send(child, Signal::KILL));
        send(postgres.id(), Signal::KILL);
        postgres.wait();
    }

    /// Starts PostgreSQL again, which recovers what was committed.
    pub fn restart_postgres(&self) {
        let cluster = &self.cluster;
        *locked(&cluster.postgres) = postgres(&cluster.binaries, &cluster.socket, cluster.settings);
    }

    /// PostgreSQL does nothing more, its connections stay.
    pub fn freeze_postgres(&self) {
        let postgres = locked(&self.cluster.postgres).id();
        send(postgres, Signal::STOP);
        children(postgres).into_iter().for_each(|child| send(child, Signal::STOP));
    }

    /// PostgreSQL goes on.
    pub fn thaw_postgres(&self) {
        let postgres = locked(&self.cluster.postgres).id();
        children(postgres).into_iter().for_each(|child| send(child, Signal::CONT));
        send(postgres, Signal::CONT);
    }

    /// Kills PostgREST.
    pub fn kill_postgrest(&self) {
        let postgrest = locked(&self.stack.postgrest);
        send(postgrest.id(), Signal::KILL);
        postgrest.wait();
    }

    /// Kills PostgREST if it runs, starts it, and waits until it knows the database.
    pub fn restart_postgrest(&self) {
        let (cluster, stack) = (&self.cluster, &self.stack);
        if locked(&stack.postgrest).exited().is_none() {
            self.kill_postgrest();
        }
        *locked(&stack.postgrest) = cluster.postgrest(&stack.database, &stack.schemas, &stack.socket);
    }

    /// PostgREST does nothing more, its connections stay.
    pub fn freeze_postgrest(&self) {
        send(locked(&self.stack.postgrest).id(), Signal::STOP);
    }

    /// PostgREST goes on.
    pub fn thaw_postgrest(&self) {
        send(locked(&self.stack.postgrest).id(), Signal::CONT);
    }
}

impl Drop for Mortal {
    /// PostgreSQL takes its shared memory along only where it isn't killed.
    fn drop(&mut self) {
        self.thaw_postgres();
        let postgres = locked(&self.cluster.postgres);
        if postgres.exited().is_none() {
            send(postgres.id(), Signal::QUIT);
            postgres.wait();
        }
    }
}

fn locked(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A process that is gone already is fine.
fn send(process: u32, signal: Signal) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, signal);
    }
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|process| parent_of(*process) == Some(parent)).collect()
}

fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may contain anything, a parenthesis too.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
