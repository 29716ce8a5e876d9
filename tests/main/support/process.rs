//! Child processes that can't outlive the test process.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Instant;

use super::PATIENCE;

/// A running child and what it has printed.
pub struct Process {
    name: String,
    child: Mutex<Child>,
    log: Log,
}

impl Process {
    /// Starts `command` so that the kernel sends it `signal` when this process dies.
    pub fn start(name: &str, signal: &str, user: Option<&str>, command: &Command) -> Self {
        let mut wrapped = Command::new("setpriv");
        if let Some(user) = user {
            wrapped.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        wrapped.args(["--pdeathsig", signal, "--"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            wrapped.current_dir(directory);
        }
        wrapped.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(wrapped).unwrap_or_else(|error| panic!("can't start {name}: {error}"));
        let log = Log::default();
        log.follow(child.stdout.take().expect("stdout is piped"));
        log.follow(child.stderr.take().expect("stderr is piped"));
        Self { name: name.to_owned(), child: Mutex::new(child), log }
    }

    /// What it has printed, both streams, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }

    /// Waits for a line from which `find` makes something.
    ///
    /// # Errors
    ///
    /// What it has printed, if it ended or [`PATIENCE`] is over.
    pub fn wait_for<T>(&self, mut find: impl FnMut(&str) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            while seen < lines.len() {
                if let Some(found) = find(&lines[seen]) {
                    return Ok(found);
                }
                seen += 1;
            }
            if self.exited().is_some() || Instant::now() > deadline {
                return Err(format!("{} isn't ready; it printed:\n{}", self.name, lines.join("\n")));
            }
            lines = self.log.grown.wait_timeout(lines, std::time::Duration::from_millis(50)).unwrap().0;
        }
    }

    /// Sends a signal, `TERM` for instance.
    pub fn signal(&self, name: &str) {
        let pid = self.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), pid.as_str()]).status();
        assert!(status.is_ok_and(|status| status.success()), "can't signal {}", self.name);
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().ok().flatten()
    }

    /// Waits until it has ended.
    pub fn wait(&self) -> ExitStatus {
        let mut status = None;
        super::eventually(&format!("{} ends", self.name), || {
            status = self.exited();
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Resident memory, in bytes.
    pub fn resident_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS is there");
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Already gone is fine.
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    grown: Arc<Condvar>,
}

impl Log {
    fn follow(&self, stream: impl Read + Send + 'static) {
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                log.lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                log.grown.notify_all();
            }
        });
    }
}

/// Starts a child from a thread that lives as long as the process: the kernel
/// sends the death signal when the *thread* that made the child ends, and each
/// test has a thread of its own.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in taken {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = mpsc::channel();
    orders.send((command, reply)).expect("the spawning thread lives");
    child.recv().expect("the spawning thread answers")
}

/// A directory of this process, readable by the servers' users. What runs that
/// were killed have left is removed first.
pub fn directory(name: &str) -> PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let parent = std::env::temp_dir();
        for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("sluice-test-").and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        parent.join(format!("sluice-test-{}", std::process::id()))
    });
    let path = root.join(name);
    std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("can't make {}: {error}", path.display()));
    path
}

/// A port that nothing listens on; whoever takes it must be ready to lose it.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A port for what will be stopped and started again. No outgoing connection is
/// ever given it, and the port 10000 above is free too, as a Redis Cluster needs it.
pub fn steady_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..12_000 {
        let mine = std::process::id().wrapping_mul(7919).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (mine % 12_000) as u16;
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
    panic!("no port below 22000 is free");
}
