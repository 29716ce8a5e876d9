//! Nodes over one Redis share one cache and agree about what is true.

mod coherence;
mod contents;
mod isolation;
mod lost_writes;
mod membership;

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::http::Response;
use crate::support::sluice::{Setup, Sluice};
use crate::support::{backend, redis, unique};

/// Longest that a node may go on showing what a write through another has changed.
pub const AT_WORST: Duration = Duration::from_secs(1);

const ROUTE: &str = "GET /rest/v1/users";
const WRITE: &str = "PATCH /rest/v1/users";

/// In front of the backend that tests share, over the Redis that they share.
fn real() -> Setup {
    shared(&backend::shared().url())
}

/// In front of `upstream_url`, over the Redis that tests share.
pub fn shared(upstream_url: &str) -> Setup {
    Setup::new(upstream_url).redis(&redis::shared().url())
}

/// The point read of a user of one's own, whose name is `before`.
fn new_row() -> String {
    let id = unique();
    let row = format!("({id}, 'own{id}@x.org', 'before')");
    backend::shared().sql(&format!("insert into users (id, email, name) values {row}"));
    format!("/rest/v1/users?id=eq.{id}")
}

#[track_caller]
fn read(node: &Sluice, target: &str) -> Response {
    node.get(target).anonymous().send().expect(200)
}

/// The name in the row that `target` reads.
#[track_caller]
fn name(node: &Sluice, target: &str) -> String {
    read(node, target).json()[0]["name"].as_str().expect("the row has a name").to_owned()
}

#[track_caller]
fn rename(node: &Sluice, target: &str, name: &str) {
    node.request("PATCH", target).anonymous().json(&json!({ "name": name })).send().expect(204);
}

/// Asks until it is `right` and says how long that took. An answer that was
/// asked for later than `limit` from now must be.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut right: impl FnMut() -> bool) -> Duration {
    let since = Instant::now();
    loop {
        let asked = since.elapsed();
        if right() {
            return since.elapsed();
        }
        assert!(asked < limit, "{what}: not even after {asked:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
