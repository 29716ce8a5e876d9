//! What the settings of a store's servers mean.

use std::fmt;

use super::{Eviction, Flush, Inspection, Persistence};
use crate::config::{Ack, HostPort, Topology};

/// Something that an operator should know. `Display` is one line,
/// `eviction: none` or `warning: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// How it is.
    Fact(&'static str, String),
    /// What may surprise.
    Warning(String),
    /// Why the store can't be used.
    Failure(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fact(topic, text) => write!(f, "{topic}: {text}"),
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::Failure(text) => write!(f, "failure: {text}"),
        }
    }
}

/// What follows from the settings of all masters. Those that are set alike are
/// spoken of together.
pub fn findings(masters: &[(HostPort, Inspection)], ack: Ack, topology: &Topology) -> Vec<Finding> {
    let groups = groups(masters);
    let mut found = Vec::new();
    if groups.len() > 1 {
        found.push(Finding::Warning(
            "the store's masters are set differently: what holds for the weakest holds for all".into(),
        ));
    }
    for (addresses, inspection) in groups {
        let server = format!("{} at {addresses}", inspection.server);
        found.push(Finding::Fact("server", server));
        if let Some(failure) = unusable(&addresses, inspection) {
            found.push(failure);
            continue;
        }
        found.push(Finding::Fact("persistence", persistence(inspection.persistence).into()));
        found.extend(eviction(&inspection.eviction));
        found.push(Finding::Fact("ack", promise(inspection, ack, topology)));
    }
    found
}

/// Addresses of masters with the same settings, and those settings.
fn groups(masters: &[(HostPort, Inspection)]) -> Vec<(String, &Inspection)> {
    let mut groups: Vec<(String, &Inspection)> = Vec::new();
    for (address, inspection) in masters {
        match groups.iter_mut().find(|(_, other)| *other == inspection) {
            Some((addresses, _)) => *addresses = format!("{addresses}, {address}"),
            None => groups.push((address.to_string(), inspection)),
        }
    }
    groups
}

fn unusable(addresses: &str, inspection: &Inspection) -> Option<Finding> {
    if inspection.server.compatible < (6, 2) {
        let text = format!(
            "{} at {addresses} is too old: RESP3 and the scripts that invalidate need Redis 6.2 or Valkey. \
             Upgrade it.",
            inspection.server
        );
        return Some(Finding::Failure(text));
    }
    (!inspection.is_master).then(|| {
        Finding::Failure(format!(
            "{addresses} is a replica and takes no writes. Name its master in store.url, or the sentinels \
             (redis+sentinel://)."
        ))
    })
}

/// The cache itself asks for none of it: what was stored before a restart is
/// not used after it.
fn persistence(persistence: Persistence) -> &'static str {
    match persistence {
        Persistence::Appends(Flush::Always) => "append-only file, each write on disk before its answer",
        Persistence::Appends(Flush::EverySecond) => "append-only file, on disk within a second",
        Persistence::Appends(Flush::Never) => "append-only file, on disk when the system likes",
        Persistence::Appends(Flush::Unknown) => "append-only file; the server doesn't tell appendfsync",
        Persistence::Snapshots => "snapshots only, a crash loses what came after the last",
        Persistence::Nothing => "none",
        Persistence::NoAppends => "no append-only file; the server doesn't tell whether it makes snapshots",
    }
}

fn eviction(eviction: &Eviction) -> Vec<Finding> {
    let Some(policy) = eviction.policy.as_deref() else {
        return vec![Finding::Fact("eviction", "the server doesn't tell maxmemory-policy".into())];
    };
    let at = match eviction.limit {
        Some(0) => {
            let warning = "without maxmemory the store grows until the machine's memory ends";
            return vec![
                Finding::Fact("eviction", format!("none without maxmemory ({policy})")),
                Finding::Warning(warning.into()),
            ];
        }
        Some(bytes) => format!("at {} MiB", bytes.div_ceil(1 << 20)),
        None => "at a maxmemory that the server doesn't tell".into(),
    };
    let fact = |text: &str| Finding::Fact("eviction", format!("{policy} {at}: {text}"));
    match policy {
        "noeviction" => vec![fact("when full, nothing new is cached there")],
        "volatile-ttl" => vec![
            fact("what expires soonest makes room"),
            Finding::Warning(
                "volatile-ttl evicts first what holds back answers that a write under way may change: \
                 set maxmemory-policy volatile-lru"
                    .into(),
            ),
        ],
        _ if policy.starts_with("volatile-") => vec![fact("cached answers make room for new ones")],
        _ => vec![
            fact("any key makes room, cached answers and the notes of writes under way alike"),
            Finding::Warning(format!(
                "{policy} may evict the notes by which other nodes invalidate for one that died: \
                 set maxmemory-policy volatile-lru"
            )),
        ],
    }
}

/// Whether `ack` could be kept; nothing depends on it before writes are deferred.
fn promise(inspection: &Inspection, ack: Ack, topology: &Topology) -> String {
    let verdict = match lacking(inspection, ack, topology) {
        None => format!("the store can keep \"{ack}\""),
        Some(lack) => format!("the store can't keep \"{ack}\": {lack}"),
    };
    format!("{verdict}; it decides nothing yet, this version defers no writes")
}

/// Why a server can't keep `ack`, and what to do. `None`: it can.
pub fn lacking(inspection: &Inspection, ack: Ack, topology: &Topology) -> Option<&'static str> {
    if may_evict_all(&inspection.eviction) {
        return Some("it may evict keys without a TTL (set maxmemory-policy noeviction)");
    }
    match ack {
        Ack::Memory => None,
        Ack::Replicated if inspection.replicas == 0 => Some("no replica is connected"),
        Ack::Replicated if !inspection.wants_replicas => Some("min-replicas-to-write is 0 (set it to 1)"),
        Ack::Replicated => None,
        Ack::Fsync if !matches!(topology, Topology::Single(_)) => {
            Some("a fail-over goes to a replica (set store.ack to \"replicated\")")
        }
        Ack::Fsync => lacking_on_disk(inspection),
    }
}

fn lacking_on_disk(inspection: &Inspection) -> Option<&'static str> {
    // `WAITAOF` waits for the disk whatever `appendfsync` says.
    let can_wait = inspection.server.compatible >= (7, 2);
    match inspection.persistence {
        Persistence::Appends(Flush::Always) => None,
        Persistence::Appends(_) if can_wait => None,
        Persistence::Appends(Flush::Unknown) => Some("it doesn't tell appendfsync, which must be always"),
        Persistence::Appends(_) => Some("appendfsync isn't always, and it is older than Redis 7.2"),
        _ if can_wait => Some("it has no append-only file (set appendonly yes)"),
        _ => Some("it has no append-only file (set appendonly yes and appendfsync always)"),
    }
}

/// What the server doesn't tell is taken for the worse.
fn may_evict_all(eviction: &Eviction) -> bool {
    let is_harmless = |policy: &str| policy == "noeviction" || policy.starts_with("volatile-");
    eviction.limit != Some(0) && !eviction.policy.as_deref().is_some_and(is_harmless)
}
