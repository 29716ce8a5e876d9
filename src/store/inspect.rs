//! What the servers of the store say about themselves: their version, whether
//! they keep what they are given, and what they throw away.

mod findings;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, cmd};
use tokio::time::timeout;

pub use self::findings::{Finding, findings, lacking};
use super::bus;
use super::connect::{CommandConnection, Connector, Master};
use super::error::StoreError;
use super::names::Names;
use crate::config::HostPort;

/// For one question.
const ANSWER: Duration = Duration::from_secs(1);

/// The settings that are asked for; `INFO` has no `appendfsync` and no `save`.
const SETTINGS: [&str; 6] =
    ["appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy", "min-replicas-to-write"];

/// Does once what a node does all the time: subscribes to the bus, and runs a script.
///
/// # Errors
///
/// What keeps a node from using the store.
pub async fn attempt(connector: &Connector, names: &Names) -> Result<(), StoreError> {
    bus::attempt(connector, names).await
}

/// What one server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Which server it is.
    pub server: Server,
    /// Whether it takes writes.
    pub is_master: bool,
    /// What it writes to its disk.
    pub persistence: Persistence,
    /// What it throws away when it is full.
    pub eviction: Eviction,
    /// How many replicas are connected.
    pub replicas: u32,
    /// Whether it takes writes only while it has replicas (`min-replicas-to-write`).
    pub wants_replicas: bool,
}

/// A server by name and version. `Display` is `Valkey 8.0.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `Redis` where it says nothing else.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The version of Redis that it is compatible with: major, minor.
    pub compatible: (u32, u32),
}

/// What a server writes to its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Each write to an append-only file.
    Appends(Flush),
    /// Snapshots now and then.
    Snapshots,
    /// Nothing.
    Nothing,
    /// No append-only file; whether there are snapshots it doesn't say.
    NoAppends,
}

/// When an append-only file is on disk (`appendfsync`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Before the answer.
    Always,
    /// A second later at most.
    EverySecond,
    /// When the operating system likes.
    Never,
    /// The server doesn't say.
    Unknown,
}

/// What a server throws away when it is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// Bytes that it may take; 0 is no limit. `None`: the server doesn't say.
    pub limit: Option<u64>,
    /// `maxmemory-policy`. `None`: the server doesn't say.
    pub policy: Option<String>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl Inspection {
    /// Reads the answers to `INFO` and to `CONFIG GET`, which managed services
    /// and access control lists may refuse: `None` then.
    pub fn of(info: &str, settings: Option<&HashMap<String, String>>) -> Self {
        let info = fields(info);
        let number = |name: &str| info.get(name).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let setting = |name: &str| settings.and_then(|settings| settings.get(name)).map(String::as_str);
        let wanted = setting("min-replicas-to-write").is_some_and(|wanted| wanted != "0");
        let limit = setting("maxmemory").or(info.get("maxmemory").copied());
        let policy = setting("maxmemory-policy").or(info.get("maxmemory_policy").copied());
        Self {
            server: server(&info),
            is_master: info.get("role").is_none_or(|role| *role == "master"),
            persistence: persistence(info.get("aof_enabled").copied(), &setting),
            eviction: Eviction {
                limit: limit.and_then(|bytes| bytes.parse().ok()),
                policy: policy.map(str::to_owned),
            },
            replicas: number("connected_slaves"),
            // The field is there only where such a setting is in force.
            wants_replicas: wanted || info.contains_key("min_slaves_good_slaves"),
        }
    }
}

/// The lines `name:value` of an answer to `INFO`.
fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

/// Servers that took Redis's place name their own version beside the one that
/// they are compatible with.
fn server(info: &HashMap<&str, &str>) -> Server {
    let get = |name: &str| info.get(name).copied().unwrap_or_default();
    let compatible = get("redis_version");
    let own = [("Valkey", "valkey_version"), ("Dragonfly", "dragonfly_version")];
    let (name, version) = own
        .into_iter()
        .map(|(name, field)| (name, get(field).trim_start_matches("df-").trim_start_matches('v')))
        .find(|(_, version)| !version.is_empty())
        .unwrap_or(("Redis", compatible));
    let mut parts = compatible.split('.').map(|part| part.parse().unwrap_or(0));
    let shown: String = version.chars().filter(|c| !c.is_control()).take(32).collect();
    Server {
        name: name.to_owned(),
        version: if shown.is_empty() { "of an unknown version".to_owned() } else { shown },
        compatible: (parts.next().unwrap_or(0), parts.next().unwrap_or(0)),
    }
}

fn persistence<'a>(aof_enabled: Option<&str>, setting: &impl Fn(&str) -> Option<&'a str>) -> Persistence {
    let appends = setting("appendonly").map_or(aof_enabled == Some("1"), |value| value == "yes");
    if appends {
        return Persistence::Appends(match setting("appendfsync") {
            Some("always") => Flush::Always,
            Some("everysec") => Flush::EverySecond,
            Some("no") => Flush::Never,
            _ => Flush::Unknown,
        });
    }
    match setting("save") {
        Some("") => Persistence::Nothing,
        Some(_) => Persistence::Snapshots,
        None => Persistence::NoAppends,
    }
}

/// Asks all masters of the store.
///
/// # Errors
///
/// Why one of them can't be reached or doesn't answer. That it refuses to
/// tell its settings is no error.
pub async fn inspect(connector: &Connector) -> Result<Vec<(HostPort, Inspection)>, StoreError> {
    let mut inspections = Vec::new();
    for master in connector.masters().await? {
        let inspection = inspect_one(connector, &master).await?;
        inspections.push((master.address, inspection));
    }
    Ok(inspections)
}

async fn inspect_one(connector: &Connector, master: &Master) -> Result<Inspection, StoreError> {
    let mut connection = connector.plain(master).await?;
    let info: String = within(cmd("INFO").query_async(&mut connection)).await?;
    let mut question = Pipeline::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        question.cmd("CONFIG").arg("GET").arg(setting);
    }
    let asked = question.query_async::<Vec<HashMap<String, String>>>(&mut connection);
    let settings = match timeout(ANSWER, asked).await {
        Ok(Ok(settings)) => Some(settings.into_iter().flatten().collect()),
        Ok(Err(error)) if error.code().is_some() => None,
        Ok(Err(error)) => return Err(StoreError::of(&error)),
        Err(_) => return Err(StoreError::Timeout),
    };
    Ok(Inspection::of(&info, settings.as_ref()))
}

/// The upstream that the namespace belongs to, `None` where nobody has used it
/// yet. Writes nothing.
///
/// # Errors
///
/// Why the store can't be asked.
pub async fn owner(connector: &Connector, names: &Names) -> Result<Option<String>, StoreError> {
    let question = cmd("GET").arg(names.upstream()).to_owned();
    match connector.commands().await? {
        CommandConnection::Single(mut connection) => ask(&question, &mut connection).await,
        CommandConnection::Cluster(mut connection) => ask(&question, &mut connection).await,
    }
}

async fn ask(question: &Cmd, connection: &mut impl ConnectionLike) -> Result<Option<String>, StoreError> {
    within(question.query_async(connection)).await
}

async fn within<T>(answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, StoreError> {
    match timeout(ANSWER, answer).await {
        Ok(answered) => answered.map_err(|error| StoreError::of(&error)),
        Err(_) => Err(StoreError::Timeout),
    }
}

#[cfg(test)]
mod tests;
