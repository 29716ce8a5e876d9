//! Credentials are checked on every hit.

use jsonwebtoken::Algorithm;

use crate::support::backend;
use crate::support::eventually;
use crate::support::faulty::{Act, Answer, Faulty};
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{JWKS, PUBLISHABLE_KEY, Token, alice, anon_key, bob};

const TARGET: &str = "/rest/v1/profiles";

fn filled_by_alice(setup: &Setup) -> Sluice {
    let sluice = setup.start();
    sluice.get(TARGET).signed_in(alice().sign()).send().expect(200).expect_stored();
    sluice.get(TARGET).signed_in(alice().sign()).send().expect(200).expect_hit();
    sluice
}

fn real() -> Setup {
    Setup::new(&backend::shared().url())
}

#[test]
fn a_token_that_does_not_hold_never_gets_a_hit() {
    let sluice = filled_by_alice(&real());
    let public_key = "xubfpendNb3SNoZQI5RfBA1TLPEUySmcOb";
    let cases: [(&str, String); 7] = [
        ("expired", alice().expires_in(-120).sign()),
        ("forged", alice().secret("another-secret-that-is-long-enough-for-hs256").sign()),
        ("alg none", alice().unsigned()),
        ("HS256 under the key id of an RSA key", alice().key_id("rs").secret(public_key).sign()),
        ("signature cut off", alice().sign().rsplit_once('.').unwrap().0.to_owned() + "."),
        ("no token at all", "abc".to_owned()),
        ("not yet valid", alice().claim("nbf", crate::support::token::now() + 600).sign()),
    ];
    for (name, token) in cases {
        for _ in 0..2 {
            let answer = sluice.get(TARGET).signed_in(&token).send();
            assert_eq!(
                answer.status,
                401,
                "{name}: upstream's own error is what the client gets: {}",
                answer.text()
            );
            assert!(!answer.is_hit(), "{name}: {}", answer.cache_status());
        }
    }
    sluice.get(TARGET).signed_in(alice().sign()).send().expect_hit();
}

#[test]
fn a_token_stops_hitting_when_it_expires() {
    // PostgREST goes on accepting it for 30 s; Sluice is told to allow none.
    let sluice = filled_by_alice(&real().section("auth", "leeway = \"0s\""));
    let token = alice().expires_in(2).sign();
    sluice.get(TARGET).signed_in(&token).send().expect(200).expect_hit();
    eventually("the token expires", || !sluice.get(TARGET).signed_in(&token).send().is_hit());
}

#[test]
fn a_refreshed_token_of_the_same_user_hits() {
    for scope in ["user", "session"] {
        let sluice = filled_by_alice(&real().read(&format!("ttl = \"1h\"\nscope = \"{scope}\"")));
        sluice.get(TARGET).signed_in(alice().refreshed().sign()).send().expect(200).expect_hit();
        sluice.get(TARGET).signed_in(bob().refreshed().sign()).send().expect(200).expect_no_hit();
    }
}

#[test]
fn another_session_or_assurance_level_is_another_partition() {
    let sluice = filled_by_alice(&real());
    sluice.get(TARGET).signed_in(alice().claim("session_id", "x").sign()).send().expect_no_hit();
    let by_user = filled_by_alice(&real().read("ttl = \"1h\"\nscope = \"user\""));
    by_user.get(TARGET).signed_in(alice().claim("session_id", "x").sign()).send().expect_hit();
    by_user.get(TARGET).signed_in(alice().claim("aal", "aal2").sign()).send().expect_no_hit();
    by_user.get(TARGET).signed_in(alice().claim("iss", "http://elsewhere").sign()).send().expect_no_hit();
}

#[test]
fn every_algorithm_verifies() {
    let sluice = real().start();
    for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let user = alice().algorithm(algorithm).claim("session_id", format!("{algorithm:?}"));
        // The key set may still be on its way; each token is new, so only a verified one can hit.
        eventually(&format!("{algorithm:?} verifies"), || {
            let answer = sluice.get(TARGET).signed_in(user.clone().refreshed().sign()).send().expect(200);
            assert!(answer.text().contains("Alice"));
            answer.is_hit()
        });
    }
}

#[test]
fn a_removed_key_stops_hits() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let keys = "/auth/v1/.well-known/jwks.json";
    upstream.always(keys, Answer::json(JWKS).act());
    let sluice = Setup::new(&upstream.url()).start();
    let user = alice().algorithm(Algorithm::RS256);
    let hits = |user: &Token| {
        sluice.get(TARGET).signed_in(user.clone().refreshed().sign()).send().expect(200).is_hit()
    };
    eventually("the key verifies", || hits(&user));

    let mut left: serde_json::Value = serde_json::from_str(JWKS).unwrap();
    left["keys"].as_array_mut().unwrap().retain(|key| key["kid"] != "rs");
    upstream.always(keys, Answer::json(&left.to_string()).act());
    let fetched = upstream.count(keys);
    // An unknown key id asks for the set again, once the cool-down is over.
    eventually("the set is fetched again", || {
        sluice.get(TARGET).signed_in(alice().algorithm(Algorithm::ES256).key_id("new").sign()).send();
        upstream.count(keys) > fetched
    });
    eventually("the removed key verifies nothing", || !hits(&user));
    assert!(!hits(&user), "it stays void");
}

#[test]
fn a_token_that_nobody_can_verify_is_a_partition_of_its_own() {
    // No secret, no key set: PostgREST knows the keys, Sluice doesn't.
    let upstream = Faulty::in_front_of(&backend::shared().url());
    upstream.always("/auth/v1/.well-known/jwks.json", Answer::new(404, "{}").act());
    let sluice = Setup::new(&upstream.url()).without("auth").read("ttl = \"1h\"\nscope = \"role\"").start();
    let (first, second) = (alice().sign(), alice().refreshed().sign());
    sluice.get(TARGET).signed_in(&first).send().expect(200);
    sluice.get(TARGET).signed_in(&first).send().expect(200);
    assert!(sluice.get(TARGET).signed_in(&first).send().expect(200).text().contains("Alice"));
    sluice.get(TARGET).signed_in(&second).send().expect(200).expect_no_hit();
    let forged = alice().secret("another-secret-that-is-long-enough-for-hs256").sign();
    sluice.get(TARGET).signed_in(&forged).send().expect(401).expect_no_hit();
}

#[test]
fn opaque_keys_hit_once_upstream_took_them() {
    let sluice = real().start();
    let target = "/rest/v1/users?id=eq.2";
    for dress in [true, false] {
        let ask = |key: &str| {
            let request = sluice.get(target).apikey(key);
            if dress { request.bearer(key).send() } else { request.send() }
        };
        let key = format!("{PUBLISHABLE_KEY}_{dress}");
        ask(&key).expect(200).expect_stored();
        ask(&key).expect(200).expect_hit();
        ask(&format!("sb_publishable_never_seen_{dress}")).expect_no_hit();
        sluice.get(target).apikey(format!("sb_other_{dress}")).send().expect_no_hit();
    }
}

#[test]
fn a_key_is_good_where_it_was_accepted() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice = Setup::new(&upstream.url()).start();
    let alices = alice().sign();
    sluice.get(TARGET).signed_in(&alices).send().expect(200).expect_stored();
    // A key that upstream has never taken gets nothing from the cache, with whatever token.
    upstream.once(&format!("GET {TARGET}"), Answer::new(401, r#"{"message":"Invalid API key"}"#).act());
    sluice.get(TARGET).apikey("sb_publishable_unknown").bearer(&alices).send().expect(401).expect_no_hit();
    // Learned beside a valid bearer is not learned alone.
    sluice.get(TARGET).apikey("sb_publishable_b").bearer(&alices).send().expect(200).expect_no_hit();
    sluice.get(TARGET).apikey("sb_publishable_b").bearer(&alices).send().expect(200).expect_hit();
    sluice.get(TARGET).apikey("sb_publishable_b").send().expect(200).expect_no_hit();
}

#[test]
fn a_listed_key_needs_no_learning() {
    let keys = format!("api_keys = [\"{PUBLISHABLE_KEY}\"]");
    let sluice = real().section("auth", &keys).start();
    let target = "/rest/v1/users?id=eq.2";
    sluice.get(target).apikey(PUBLISHABLE_KEY).send().expect(200).expect_stored();
    sluice.get(target).apikey(PUBLISHABLE_KEY).send().expect(200).expect_hit();
    sluice.get(TARGET).apikey(PUBLISHABLE_KEY).bearer(alice().sign()).send().expect(200).expect_stored();
}

#[test]
fn no_secret_and_no_token_is_ever_logged() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    upstream.once("GET /rest/v1/teams", Act::Drop);
    let setup = Setup::new(&upstream.url())
        .with_schema()
        .section("log", "format = \"json\"\nlevel = \"trace\"\naccess = true");
    let sluice = setup.start();
    let token = alice().sign();
    let forged = bob().secret("another-secret-that-is-long-enough-for-hs256").sign();
    for target in ["/rest/v1/users", "/rest/v1/teams", "/auth/v1/verify?token=TOPSECRET&type=signup"] {
        sluice.get(target).signed_in(&token).send();
        sluice.get(target).signed_in(&forged).send();
        let separator = if target.contains('?') { '&' } else { '?' };
        sluice.get(&format!("{target}{separator}apikey={}&access_token={token}", anon_key())).send();
    }
    let log = sluice.log();
    let secrets = [token.as_str(), &forged, &anon_key(), crate::support::token::JWT_SECRET, "TOPSECRET"];
    for secret in secrets.iter().chain(&[crate::support::token::service_key().as_str()]) {
        let signature = secret.rsplit('.').next().unwrap();
        assert!(
            !log.contains(signature),
            "the log holds a secret:\n{}",
            log.lines().find(|line| line.contains(signature)).unwrap()
        );
    }
    assert!(log.contains("/rest/v1/users"), "the access log is on");
}

#[test]
fn a_key_is_learned_from_answers_of_postgrest_alone() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice = Setup::new(&upstream.url()).start();
    let junk = "sb_publishable_junk";
    sluice.get(TARGET).anonymous().send().expect(200);
    for target in ["/functions/v1/open", "/rest/v1/../../functions/v1/open", "/rest/v1//open"] {
        upstream.always(target, Answer::json("{}").act());
        sluice.get(target).apikey(junk).bearer(alice().sign()).send().expect(200);
    }
    upstream.always(TARGET, Answer::new(401, r#"{"message":"Invalid API key"}"#).act());
    sluice.get(TARGET).apikey(junk).bearer(alice().sign()).send().expect(401).expect_no_hit();
}

#[test]
fn a_token_that_comes_as_the_key_alone_is_answered_by_upstream() {
    let sluice = real().start();
    for _ in 0..2 {
        sluice.get(TARGET).apikey(alice().sign().to_string()).send().expect_bypass("api-key-not-anonymous");
    }
}
