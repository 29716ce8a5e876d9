//! JavaScript clients: `tests/js/*.mjs`, run with Node.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The folder of the scripts and of their packages.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/js")
}

/// Runs a script with `input` as its only argument and returns the JSON that
/// it prints as its last line.
#[track_caller]
pub fn run(script: &str, input: &Value) -> Value {
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "node", "--no-warnings", script])
        .arg(input.to_string())
        .current_dir(folder())
        .output()
        .expect("node runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{printed}\n{complaints}", output.status);
    let last = printed.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{script} printed {printed:?}: {error}"))
}
