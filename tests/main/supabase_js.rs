//! An unmodified supabase-js works, and reads through the cache.

use serde_json::{Value, json};

use crate::support::faulty::{Answer, Faulty};
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{PUBLISHABLE_KEY, alice, anon_key, bob};
use crate::support::{backend, script, unique};

fn run(sluice: &Sluice, key: &str) -> Vec<Value> {
    let input = json!({ "url": sluice.url(), "key": key, "alice": alice().sign(), "bob": bob().sign(), "id": unique() });
    script::run("reads-and-writes.mjs", &input).as_array().unwrap().clone()
}

fn step<'a>(steps: &'a [Value], name: &str) -> &'a Value {
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("there is no step {name:?}"))
}

fn reads_and_writes(key: &str) {
    for setup in [Setup::new(&backend::shared().url()), Setup::new(&backend::shared().url()).with_schema()] {
        let sluice = setup.start();
        let steps = run(&sluice, key);
        let value = |name: &str| step(&steps, name)["data"].clone();
        let is_hit = |name: &str| {
            step(&steps, name)["cacheStatus"].as_str().is_some_and(|status| status.starts_with("sluice; hit"))
        };

        assert_eq!(value("alice reads"), json!([{ "display_name": "Alice" }]));
        assert_eq!(value("alice reads again"), json!([{ "display_name": "Alice" }]));
        assert_eq!(value("bob reads"), json!([{ "display_name": "Bob" }]));
        assert_eq!(value("anon reads"), json!([]));
        assert!(is_hit("alice reads again") && is_hit("bob reads again"), "{steps:#?}");
        assert!(!is_hit("alice reads") && !is_hit("bob reads") && !is_hit("anon reads"), "{steps:#?}");

        assert_eq!(step(&steps, "single, missing")["error"]["code"], "PGRST116");
        for (name, expected) in [
            ("inserted", "inserted"),
            ("cached", "inserted"),
            ("updated", "updated"),
            ("upserted", "upserted"),
            ("renamed", "renamed"),
        ] {
            assert_eq!(value(&format!("single, {name}"))["name"], expected, "{steps:#?}");
        }
        assert_eq!(value("update")[0]["name"], "updated");
        assert_eq!(step(&steps, "single, deleted")["error"]["code"], "PGRST116");

        for name in ["count", "count, cached", "head count", "head count, cached"] {
            assert_eq!(step(&steps, name)["count"], 50, "{name}");
        }
        assert_eq!(value("count, cached").as_array().unwrap().len(), 5);
        assert_eq!(value("embedding")["author"]["name"], "user 2");
        assert_eq!(value("rpc by GET"), "user 1");
        assert!(value("csv").as_str().unwrap().starts_with("id,name\n1,red"));
        assert_eq!(value("other schema")[0]["name"], "another one");
        assert_eq!(step(&steps, "error")["error"]["code"], "42703");
        for name in ["single, cached", "count, cached", "head count, cached", "embedding, cached"] {
            assert!(is_hit(name), "{name}: {}", step(&steps, name)["cacheStatus"]);
        }
    }
}

#[test]
fn an_application_with_the_anon_key() {
    reads_and_writes(&anon_key());
}

#[test]
fn an_application_with_a_publishable_key() {
    reads_and_writes(PUBLISHABLE_KEY);
}

#[test]
fn an_error_of_sluice_is_an_error_of_supabase_js() {
    let upstream = Faulty::start();
    upstream
        .always("/rest/v1/users", Answer::new(400, r#"{"code":"22P02","message":"from upstream"}"#).act());
    let sluice = Setup::new(&upstream.url()).start();
    upstream.go_down();
    let input = json!({ "url": sluice.url(), "key": anon_key() });
    let error = script::run("one-error.mjs", &input);
    assert_eq!(error["status"], 502);
    assert_eq!(error["error"]["code"], "SLUICE502");
    assert!(!error["error"]["message"].as_str().unwrap().is_empty());
}
