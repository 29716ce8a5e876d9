//! The `sluice` binary as a child process.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::http::Request;
use super::process::{Process, directory};

/// A configuration in the making. Each part is TOML; keys that a part has
/// already must not be given again.
#[derive(Clone)]
pub struct Setup {
    upstream_url: String,
    top: String,
    sections: Vec<(&'static str, String)>,
    deferring: String,
    routes: String,
    namespace: String,
}

impl Setup {
    /// In front of `upstream_url`: every table cached for an hour, the
    /// project's HS256 secret known, free ports, log in JSON.
    pub fn new(upstream_url: &str) -> Self {
        let setup = Self {
            upstream_url: upstream_url.to_owned(),
            top: String::new(),
            sections: Vec::new(),
            deferring: String::new(),
            routes: "[[route]]\nname = \"rest\"\ntable = \"*\"\n[route.read]\nttl = \"1h\"\n".into(),
            namespace: String::new(),
        };
        setup.section("auth", &format!("jwt_secret = \"{}\"", super::token::JWT_SECRET))
    }

    /// With more keys before the first table.
    pub fn top(mut self, keys: &str) -> Self {
        self.top += &format!("{keys}\n");
        self
    }

    /// With more keys in a section, `upstream` for instance.
    pub fn section(mut self, name: &'static str, keys: &str) -> Self {
        match self.sections.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known += &format!("{keys}\n"),
            None => self.sections.push((name, format!("{keys}\n"))),
        }
        self
    }

    /// Without a section that [`Setup::new`] wrote.
    pub fn without(mut self, name: &str) -> Self {
        self.sections.retain(|(known, _)| *known != name);
        self
    }

    /// With these routes and no others.
    pub fn routes(mut self, routes: &str) -> Self {
        self.routes = routes.to_owned();
        self
    }

    /// With one route for every table, these keys in its `[route.read]`.
    pub fn read(self, keys: &str) -> Self {
        self.routes(&format!("[[route]]\nname = \"rest\"\ntable = \"*\"\n[route.read]\n{keys}\n"))
    }

    /// With one more route, before those of [`Setup::routes`], whose writes are
    /// deferred: `route` are more keys of itself, `read` and `write` those of its
    /// `[route.read]` (none if empty) and `[route.write]`. The journal is in a folder that what is
    /// started from this and from its clones shares: one after the other only.
    pub fn write(mut self, route: &str, read: &str, write: &str) -> Self {
        let name = self.deferring.matches("[[route]]").count();
        let read = if read.is_empty() { String::new() } else { format!("[route.read]\n{read}\n") };
        self.deferring +=
            &format!("[[route]]\nname = \"deferring-{name}\"\n{route}\n{read}[route.write]\n{write}\n");
        if name > 0 {
            return self;
        }
        let folder = directory("journals").join(super::unique().to_string());
        self.section("store", &format!("path = \"{}\"", folder.display()))
    }

    /// With more keys in `[queue]`.
    pub fn queue(self, keys: &str) -> Self {
        self.section("queue", keys)
    }

    /// With the database's description known: row tags, direct foreign keys.
    pub fn with_schema(self) -> Self {
        let key = format!("schema_key = \"{}\"", super::token::service_key());
        self.section("upstream", &key)
    }

    /// With the Redis at `url` as its store, in a namespace that no other call gives:
    /// what is started from this and from its clones shares one cache.
    pub fn redis(mut self, url: &str) -> Self {
        self.namespace = format!("tests:{}:{}", std::process::id(), super::unique());
        let keys = format!("kind = \"redis\"\nurl = \"{url}\"\nnamespace = \"{}\"", self.namespace);
        self.section("store", &keys)
    }

    /// With no memory of its own: every lookup goes to Redis.
    pub fn without_memory(self) -> Self {
        self.section("store", "memory = \"0\"")
    }

    /// What its keys in Redis begin with.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The file's text.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        if !self.top.contains("listen =") {
            text += "listen = \"127.0.0.1:0\"\n";
        }
        text += &format!("admin_listen = \"127.0.0.1:0\"\n{}", self.top);
        if !self.sections.iter().any(|(name, _)| *name == "log") {
            text += "[log]\nformat = \"json\"\n";
        }
        let own_upstream = self.sections.iter().find(|(name, _)| *name == "upstream");
        text += &format!("[upstream]\nurl = \"{}\"\n", self.upstream_url);
        text += own_upstream.map_or("", |(_, keys)| keys);
        for (name, keys) in self.sections.iter().filter(|(name, _)| *name != "upstream") {
            text += &format!("[{name}]\n{keys}");
        }
        text + &self.deferring + &self.routes
    }

    /// Starts it and waits until it accepts.
    #[track_caller]
    pub fn start(&self) -> Sluice {
        Sluice::start(&self.toml())
    }

    /// Starts so many of them and waits until each has its store.
    #[track_caller]
    pub fn nodes<const COUNT: usize>(&self) -> [Sluice; COUNT] {
        let nodes = [(); COUNT].map(|()| self.start());
        nodes.iter().for_each(Sluice::wait_for_store);
        nodes
    }
}

/// A running Sluice; killed when dropped.
pub struct Sluice {
    process: Process,
    file: PathBuf,
    address: String,
    admin: String,
}

impl Sluice {
    /// Starts it with this file's text and waits until it accepts.
    #[track_caller]
    pub fn start(toml: &str) -> Self {
        let file = write_file(toml);
        let mut command = Command::new(binary());
        command.args(["serve", "-c"]).arg(&file).env("RUST_BACKTRACE", "1");
        Self::run(&command, file)
    }

    /// Starts this command, which must listen on both addresses and log in JSON.
    #[track_caller]
    pub fn run(command: &Command, file: PathBuf) -> Self {
        let process = Process::start("sluice", "KILL", None, command);
        let mut proxy = None;
        let mut admin = None;
        let ready = process.wait_for(|line| {
            let (role, address) = listening(line)?;
            match role.as_str() {
                "proxy" => proxy = proxy.take().or(Some(address)),
                _ => admin = Some(address),
            }
            (proxy.is_some() && admin.is_some()).then_some(())
        });
        ready.unwrap_or_else(|log| panic!("{log}"));
        let (address, admin) = (proxy.expect("the proxy listens"), admin.expect("the admin port listens"));
        Self { process, file, address, admin }
    }

    /// The proxy's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The proxy's `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A request to the proxy.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(&self.address, method, target)
    }

    /// A GET to the proxy.
    pub fn get(&self, target: &str) -> Request {
        self.request("GET", target)
    }

    /// A request to the operator's port.
    pub fn admin(&self, method: &str, target: &str) -> Request {
        Request::new(&self.admin, method, target)
    }

    /// The value of a metric's line that begins with `series`; 0 if it isn't there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("GET", "/metrics").send().expect(200).text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    /// Waits until it says that its store is up.
    #[track_caller]
    pub fn wait_for_store(&self) {
        super::eventually("the store is up", || self.metric("sluice_store_up") == 1.0);
    }

    /// Whether a call of its store has failed; not known of one that has ended.
    fn has_missed_its_store(&self) -> bool {
        let Ok(metrics) = self.admin("GET", "/metrics").try_send() else { return false };
        let failed = |line: &str| {
            line.starts_with("sluice_store_operations_total{")
                && !line.contains("result=\"ok\"")
                && !line.ends_with(" 0")
        };
        metrics.text().lines().any(failed)
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.process.lines().join("\n")
    }

    /// Replaces the file's text; SIGHUP makes it count.
    pub fn rewrite(&self, toml: &str) {
        std::fs::write(&self.file, toml).unwrap();
    }

    /// Kills it as a crash would and waits until it is gone.
    #[track_caller]
    pub fn kill(self) {
        self.process.signal("KILL");
        self.process.wait();
    }

    /// Asks it to stop, waits, and gives back its exit code.
    #[track_caller]
    pub fn stop(self) -> Option<i32> {
        self.process.signal("TERM");
        self.process.wait().code()
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        let lines = self.process.lines();
        if std::thread::panicking() && self.has_missed_its_store() {
            MISSED_ITS_STORE.set(true);
        }
        let panic = lines.iter().find(|line| line.contains("panicked at"));
        if let Some(panic) = panic.filter(|_| !std::thread::panicking()) {
            panic!("sluice panicked: {panic}\n{}", lines.join("\n"));
        }
        if std::thread::panicking() {
            let last = lines.len().saturating_sub(40);
            eprintln!("--- the end of sluice's log\n{}\n---", lines[last..].join("\n"));
        }
    }
}

thread_local! {
    /// Whether a node of the scenario that failed has missed its store.
    static MISSED_ITS_STORE: Cell<bool> = const { Cell::new(false) };
}

/// Runs a scenario that is about hits. Where it fails and a node has missed its
/// store, as on a machine too busy for Redis to answer in time, it runs again:
/// reads were rightly forwarded.
#[track_caller]
pub fn undisturbed(scenario: impl Fn()) {
    for _ in 0..3 {
        MISSED_ITS_STORE.set(false);
        match catch_unwind(AssertUnwindSafe(&scenario)) {
            Ok(()) => return,
            Err(_) if MISSED_ITS_STORE.get() => eprintln!("a node has missed its store: once more"),
            Err(panic) => resume_unwind(panic),
        }
    }
    panic!("the nodes miss their store again and again");
}

/// Runs a command of the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("SLUICE_CONFIG").env_remove("RUST_LOG").output().expect("sluice runs")
}

/// Writes a configuration file of its own.
pub fn write_file(toml: &str) -> PathBuf {
    let path = directory("config").join(format!("{}.toml", super::unique()));
    std::fs::write(&path, toml).unwrap();
    path
}

fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_sluice")
}

fn listening(line: &str) -> Option<(String, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    let text = |name: &str| fields[name].as_str().map(str::to_owned);
    (text("message")? == "listening").then_some((text("role")?, text("address")?))
}
