//! The journal's scripts, and the keys that all of them have.

use std::sync::LazyLock;

use crate::store::script::Script;

/// What the journal is made of, in the order in which scripts know it.
const PARTS: [&str; 21] = [
    "marks",
    "entries",
    "records",
    "ids",
    "order",
    "callers",
    "lanes",
    "ready",
    "turns",
    "due",
    "tokens",
    "claims",
    "nodes",
    "attempts",
    "echoes",
    "ahead",
    "applied",
    "superseded",
    "rejected",
    "doubt",
    "meta",
];

/// The names of all that a journal is made of, on one slot of a Cluster.
pub fn keys(namespace: &str) -> Vec<Vec<u8>> {
    PARTS.map(|part| format!("{namespace}:j:{{journal}}:{part}").into_bytes()).to_vec()
}

/// The name of what is written so that waiting for its copies means waiting for all before it.
pub fn touch(namespace: &str) -> Vec<u8> {
    format!("{namespace}:j:{{journal}}:touch").into_bytes()
}

/// The channel on which changes are told.
pub fn channel(namespace: &str) -> String {
    format!("{namespace}:journal")
}

const COMMON: &str = include_str!("../../redis/journal.lua");

/// What an append, which has to be quick, does without.
const LANES: &str = include_str!("../../redis/journal_lanes.lua");

pub static APPEND: LazyLock<Script> = LazyLock::new(|| {
    let body = include_str!("../../redis/journal_append.lua");
    Script::new("journal_append", &format!("{COMMON}{body}"))
});

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub static $name: LazyLock<Script> = LazyLock::new(|| {
            let body = include_str!(concat!("../../redis/journal_", $file, ".lua"));
            Script::new(concat!("journal_", $file), &format!("{COMMON}{LANES}{body}"))
        });)*
    };
}

scripts! {
    OPEN = "open";
    CLAIM = "claim";
    SETTLE = "settle";
    RELEASE = "release";
    NOTE = "note";
    WAKE = "wake";
    BEAT = "beat";
    DISOWN = "disown";
    FIND = "find";
    RECORDS = "records";
    LOAD = "load";
    SNAPSHOT = "snapshot";
    ENDED = "ended";
    MISSED = "missed";
}
