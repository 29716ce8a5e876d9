//! A replay has its writer's rights: never another's, never more, no longer than the configuration says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};

use super::{BY_USER, IMPATIENT, Queued, Scene, TABLES, card, held};
use crate::support::eventually;
use crate::support::faulty::{Answer, Recorded};
use crate::support::token::{JWT_SECRET, Token, alice, anon_key, bob, now};

/// Tokens of a few seconds are deferred, and are void to Sluice as soon as they
/// have expired. PostgREST goes on taking them for 30 s.
const BRIEF: &str = "min_token_life = \"0s\"\nleeway = \"0s\"";

fn brief(read: &str, write: &str, queue: &str) -> Scene {
    Scene::with(|setup| {
        setup.section("auth", BRIEF).write(TABLES, read, write).queue(&format!("{IMPATIENT}\n{queue}"))
    })
}

/// A write of alice's that is still queued when its token has expired.
struct Orphan {
    id: u64,
    queued: Queued,
    token: String,
}

fn orphan(scene: &Scene, writer: &Token) -> Orphan {
    let id = card("before");
    let writer = writer.clone().expires_in(4);
    scene.fail("PATCH cards", 503);
    let queued = scene.patch(&writer, "cards", id, &json!({ "title": "after" }));
    let token = writer.sign();
    let expiry = claims(&token)["exp"].as_u64().unwrap();
    eventually("the token has expired", || now() > expiry + 1);
    Orphan { id, queued, token }
}

fn claims(token: &str) -> Value {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_secret(JWT_SECRET.as_bytes());
    decode::<Value>(token, &key, &validation).expect("it is signed with the project's secret").claims
}

fn bearer(request: &Recorded) -> String {
    let all = request.all("authorization");
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].strip_prefix("Bearer ").unwrap().to_owned()
}

fn bearers(scene: &Scene) -> Vec<String> {
    scene.upstream.requests("PATCH /rest/v1/cards").iter().map(bearer).collect()
}

#[test]
fn a_write_whose_token_expired_waits_for_a_newer_one_of_the_same_claims() {
    let by_session = "ttl = \"1h\"\nscope = \"session\"";
    let tenant = |id: &str| alice().claim("app_metadata", json!({ "tenant_id": id }));
    for (read, writer, strangers, friend) in [
        (
            BY_USER,
            alice(),
            vec![
                bob(),
                alice().claim("aal", "aal2"),
                alice().claim("iss", "http://elsewhere/auth/v1"),
                alice().secret("another-secret-that-is-long-enough-for-hs256"),
                alice().expires_in(-20),
            ],
            alice().claim("session_id", "another").refreshed(),
        ),
        (
            by_session,
            tenant("acme"),
            vec![bob(), tenant("globex"), alice()],
            tenant("acme").claim("session_id", "another").refreshed(),
        ),
    ] {
        let scene = brief(read, "", "");
        let orphan = orphan(&scene, &writer);
        let sent = scene.count("PATCH cards");
        scene.pass("PATCH cards");
        for stranger in strangers {
            scene.sluice.get("/rest/v1/labels?limit=0").signed_in(stranger.sign()).send();
        }
        assert_eq!(scene.status(&friend, &orphan.queued.id).expect(200).json()["state"], "queued");
        scene.read(&friend, "/rest/v1/labels?limit=0");
        scene.applied(&friend, &orphan.queued);
        assert_eq!(held("cards", orphan.id)["title"], "after");
        let used = bearers(&scene).split_off(sent);
        assert!(!used.is_empty() && used.iter().all(|token| *token == friend.sign()), "not {used:?}");
        assert!(!used.contains(&orphan.token));
    }
}

#[test]
fn a_token_that_upstream_no_longer_takes_is_replaced() {
    let scene = Scene::new();
    let id = card("before");
    let refused = Answer::new(401, r#"{"code":"PGRST301","message":"JWT expired"}"#);
    scene.upstream.always("PATCH /rest/v1/cards", refused.act());
    let first = alice();
    let queued = scene.patch(&first, "cards", id, &json!({ "title": "after" }));
    scene.wait_for("PATCH cards", 1);
    scene.pass("PATCH cards");
    let newer = alice().refreshed();
    scene.read(&newer, "/rest/v1/labels?limit=0");
    scene.applied(&newer, &queued);
    assert_eq!(bearers(&scene).last(), Some(&newer.sign()));
    assert_eq!(held("cards", id)["title"], "after");
}

#[test]
fn the_newest_token_is_used() {
    let scene = Scene::new();
    scene.fail("PATCH cards", 503);
    let queued = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    let newer = alice().refreshed();
    scene.read(&newer, "/rest/v1/labels?limit=0");
    scene.pass("PATCH cards");
    scene.applied(&alice(), &queued);
    assert_eq!(bearers(&scene).last(), Some(&newer.sign()));
}

#[test]
fn without_a_newer_token_it_is_rejected_in_the_end() {
    let scene = brief(BY_USER, "", "max_wait = \"8s\"");
    let orphan = orphan(&scene, &alice());
    scene.pass("PATCH cards");
    // Asking with a token of hers would be what it waits for.
    eventually("it ends", || scene.sluice.metric("sluice_queue_depth") == 0.0);
    let status = scene.rejected(&alice(), &orphan.queued);
    assert_eq!(status["reason"], "auth_expired", "{status}");
    assert_eq!(held("cards", orphan.id)["title"], "before");
}

#[test]
fn remint_makes_a_token_with_the_same_claims() {
    let scene = brief(BY_USER, "credentials = \"remint\"", "");
    let writer = alice().claim("app_metadata", json!({ "tenant_id": "acme" }));
    let orphan = orphan(&scene, &writer);
    scene.pass("PATCH cards");
    eventually("it is applied", || held("cards", orphan.id)["title"] == "after");
    scene.applied(&alice(), &orphan.queued);
    let used = bearers(&scene).pop().unwrap();
    assert_ne!(used, orphan.token);
    let (mut minted, mut original) = (claims(&used), claims(&orphan.token));
    let left = minted["exp"].as_u64().unwrap().saturating_sub(now());
    assert!((1..=60).contains(&left), "it lives for {left} s more");
    for claims in [&mut minted, &mut original] {
        for name in ["exp", "iat", "nbf", "jti"] {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    assert_eq!(minted, original);
}

#[test]
fn remint_ends_some_time_after_the_expiry() {
    let write = "credentials = \"remint\"\nremint_max = \"1s\"";
    let scene = brief(BY_USER, write, "max_wait = \"10s\"");
    let orphan = orphan(&scene, &alice());
    scene.pass("PATCH cards");
    eventually("it ends", || scene.sluice.metric("sluice_queue_depth") == 0.0);
    let status = scene.rejected(&alice(), &orphan.queued);
    assert_eq!(status["reason"], "auth_expired", "{status}");
    assert_eq!(held("cards", orphan.id)["title"], "before");
}

#[test]
fn two_users_replays_never_swap_their_tokens() {
    let scene = Scene::new();
    let gate = scene.hold("PATCH cards");
    let users = [alice(), bob(), super::somebody(), super::somebody()];
    let id = card("before");
    let writes: Vec<_> = (0..20)
        .map(|n| {
            let user = &users[n % users.len()];
            (user, scene.patch(user, "cards", id, &json!({ "owner": user.sub(), "title": n.to_string() })))
        })
        .collect();
    gate.open();
    for (user, write) in &writes {
        let status = scene.ended(user, write);
        assert!(matches!(status["state"].as_str(), Some("applied" | "superseded")), "{status}");
    }
    for request in scene.upstream.requests("PATCH /rest/v1/cards") {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(claims(&bearer(&request))["sub"], body["owner"]);
    }
}

#[test]
fn no_token_stands_in_the_journal_or_in_the_log() {
    let scene = Scene::with(|setup| {
        setup.section("log", "format = \"json\"\nlevel = \"trace\"\naccess = true").write(TABLES, BY_USER, "")
    });
    scene.fail("PATCH cards", 503);
    let writer = alice().refreshed();
    let queued = scene.patch(&writer, "cards", card("before"), &json!({ "title": "after" }));
    scene.wait_for("PATCH cards", 1);
    let toml = scene.setup.toml();
    let folder = toml.lines().find_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"')).unwrap();
    let files = files(Path::new(folder));
    assert!(!files.is_empty(), "{folder} is empty");
    let (token, key) = (writer.sign(), anon_key());
    let secrets = [&token, &key].map(|secret| secret.rsplit('.').next().unwrap().to_owned());
    for file in &files {
        let bytes = fs::read(file).unwrap();
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a token", file.display());
        }
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is open to others: {mode:o}", file.display());
    }
    scene.pass("PATCH cards");
    scene.applied(&writer, &queued);
    let log = scene.sluice.log();
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "the log holds a token");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
