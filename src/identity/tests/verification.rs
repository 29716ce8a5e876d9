//! Which tokens are valid, invalid and unverifiable.

use super::*;

#[derive(Debug, PartialEq)]
enum Outcome {
    Valid,
    Unverifiable,
    Refused(Refusal),
}
use Outcome::{Refused, Unverifiable, Valid};

fn outcome_at(authenticator: &Authenticator, token: &str, now: SystemTime) -> Outcome {
    let caller = match authenticator.identify(&bearer(token), &query(""), now) {
        Ok(caller) => caller,
        Err(refusal) => return Refused(refusal),
    };
    match (authenticator.admit(&caller.grounds(), now), caller.identity()) {
        (Err(refusal), _) => Refused(refusal),
        (Ok(()), Identity::Token(_)) => Valid,
        (Ok(()), Identity::UnverifiableToken(_)) => Unverifiable,
        (Ok(()), other) => panic!("a bearer is no {other:?}"),
    }
}

fn outcome(authenticator: &Authenticator, token: &str) -> Outcome {
    outcome_at(authenticator, token, now())
}

const INVALID: Outcome = Refused(Refusal::InvalidToken);

#[test]
fn each_algorithm_verifies_with_its_key() {
    let authenticator = authenticator();
    for issuer in [Issuer::secret(), Issuer::ec(), Issuer::rsa(), Issuer::ed()] {
        let token = issuer.sign(&user("u1"));
        assert_eq!(outcome(&authenticator, &token), Valid, "{:?}", issuer.algorithm);
        assert_eq!(outcome(&authenticator, &token), Valid, "{:?} remembered", issuer.algorithm);
    }
}

#[test]
fn a_key_id_is_not_needed_and_one_on_hs256_does_no_harm() {
    let authenticator = authenticator();
    for issuer in [Issuer::ec().with_key_id(None), Issuer::secret().with_key_id("legacy")] {
        assert_eq!(outcome(&authenticator, &issuer.sign(&user("u1"))), Valid, "{:?}", issuer.algorithm);
    }
}

#[test]
fn signatures_of_others_are_invalid_only_if_the_key_is_known() {
    let authenticator = authenticator();
    let stranger = EncodingKey::from_secret(b"another secret of thirty-two bytes");
    let cases = [
        // The shared secret is the only key that a token without `kid` can be of.
        (Issuer::new(None, Algorithm::HS256, stranger.clone()), INVALID),
        (Issuer::new("standby", Algorithm::HS256, stranger), Unverifiable),
        (Issuer::other_ec(), Unverifiable),
        (Issuer::other_ec().with_key_id(None), Unverifiable),
        (Issuer::other_ec().with_key_id("ec"), INVALID),
        // A key of another algorithm.
        (Issuer::ec().with_key_id("rsa"), INVALID),
        (Issuer::ed().with_key_id("ec"), INVALID),
    ];
    for (issuer, expected) in cases {
        let token = issuer.sign(&user("u1"));
        assert_eq!(outcome(&authenticator, &token), expected, "{:?} {:?}", issuer.algorithm, issuer.key_id);
    }
}

#[test]
fn public_keys_are_no_shared_secrets() {
    let authenticator = authenticator();
    let n = Issuer::rsa().jwk()["n"].as_str().unwrap().to_owned();
    for secret in [RSA_PUBLIC_PEM.as_bytes(), RSA_PUBLIC_PEM.trim().as_bytes(), n.as_bytes()] {
        for key_id in [Some("rsa"), None] {
            let forger =
                Issuer { key_id, ..Issuer::new(None, Algorithm::HS256, EncodingKey::from_secret(secret)) };
            assert_eq!(outcome(&authenticator, &forger.sign(&user("u1"))), INVALID, "{key_id:?}");
        }
    }
}

#[test]
fn unsigned_tokens_are_invalid() {
    let authenticator = authenticator();
    let token = Issuer::ec().sign(&user("u1"));
    let payload = token.split('.').nth(1).unwrap();
    // {"alg":"none"}, {"alg":"NONE"}
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOT05FIn0"] {
        assert_eq!(outcome(&authenticator, &format!("{header}.{payload}.")), INVALID);
        assert_eq!(outcome(&authenticator, &format!("{header}.{payload}.c2ln")), INVALID);
    }
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(outcome(&authenticator, &format!("{signed}.")), INVALID);
}

#[test]
fn a_changed_payload_is_invalid() {
    let authenticator = authenticator();
    for issuer in [Issuer::secret(), Issuer::ec(), Issuer::rsa(), Issuer::ed()] {
        let (one, other) = (issuer.sign(&user("u1")), issuer.sign(&user("u2")));
        let (signed, _) = one.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        assert_eq!(
            outcome(&authenticator, &format!("{signed}.{signature}")),
            INVALID,
            "{:?}",
            issuer.algorithm
        );
    }
}

#[test]
fn malformed_tokens_are_invalid() {
    let authenticator = authenticator();
    for token in ["a.b.c", "..", "e30.e30.e30", "eyJhbGciOiJIUzI1NiJ9.W10.x", "eyJhbGciOiJIUzI1NiJ9.!.x"] {
        assert_eq!(outcome(&authenticator, token), INVALID, "{token}");
    }
    // {"alg":"HS256","crit":["b64"]}
    let (_, rest) = Issuer::secret()
        .sign(&user("u1"))
        .split_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let critical = format!("eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiYjY0Il19.{rest}");
    assert_eq!(outcome(&authenticator, &critical), INVALID);
}

#[test]
fn algorithms_beyond_ours_are_left_to_upstream() {
    let issuer = Issuer::new(None, Algorithm::HS512, EncodingKey::from_secret(SECRET));
    assert_eq!(outcome(&authenticator(), &issuer.sign(&user("u1"))), Unverifiable);
    let named = issuer.with_key_id("rsa");
    assert_eq!(outcome(&authenticator(), &named.sign(&user("u1"))), INVALID);
}

#[test]
fn times_are_those_of_postgrest() {
    let expired = Refused(Refusal::ExpiredToken);
    let cases = [
        ("exp", json!(NOW - 29), Valid),
        ("exp", json!(NOW - 30), expired),
        ("exp", json!(NOW as f64 - 29.5), Valid),
        ("exp", json!("2030"), INVALID),
        ("nbf", json!(NOW + 30), Valid),
        ("nbf", json!(NOW + 31), INVALID),
        ("iat", json!(NOW + 30), Valid),
        ("iat", json!(NOW + 31), INVALID),
    ];
    let authenticator = authenticator();
    for (name, value, expected) in cases {
        let token = Issuer::secret().sign(&with(user("u1"), name, value.clone()));
        assert_eq!(outcome(&authenticator, &token), expected, "{name} {value}");
    }
    let eternal = Issuer::secret().sign(&with(user("u1"), "exp", None));
    assert_eq!(outcome(&authenticator, &eternal), Valid);
}

#[test]
fn a_remembered_token_expires() {
    let authenticator = authenticator();
    let token = Issuer::ec().sign(&with(user("u1"), "exp", json!(NOW + 5)));
    let held = caller(&authenticator, &token);
    assert_eq!(authenticator.admit(&held.grounds(), now() + 34 * SECOND), Ok(()));
    assert_eq!(authenticator.admit(&held.grounds(), now() + 35 * SECOND), Err(Refusal::ExpiredToken));
    assert_eq!(outcome_at(&authenticator, &token, now() + 35 * SECOND), Refused(Refusal::ExpiredToken));
}

#[test]
fn an_unverifiable_token_ends_at_its_exp() {
    let authenticator = authenticator();
    let token = Issuer::other_ec().sign(&with(user("u1"), "exp", json!(NOW + 5)));
    let held = caller(&authenticator, &token);
    assert_eq!(authenticator.admit(&held.grounds(), now() + 4 * SECOND), Ok(()));
    assert_eq!(authenticator.admit(&held.grounds(), now() + 5 * SECOND), Err(Refusal::ExpiredToken));
}

#[test]
fn a_key_that_has_gone_is_void_with_what_it_verified() {
    let authenticator = authenticator();
    let token = Issuer::ec().sign(&user("u1"));
    let held = caller(&authenticator, &token);
    authenticator.set_jwks(0, &key_set(&[&Issuer::rsa()]), now()).unwrap();
    assert_eq!(authenticator.admit(&held.grounds(), now()), Err(Refusal::InvalidToken));
    assert_eq!(outcome(&authenticator, &token), Unverifiable);
    // The same key with another remark is still that key.
    let mut remarked = Issuer::ec().jwk();
    remarked["key_ops"] = json!(["verify"]);
    let keys = json!({ "keys": [remarked] }).to_string();
    authenticator.set_jwks(0, keys.as_bytes(), now()).unwrap();
    assert_eq!(authenticator.admit(&held.grounds(), now()), Ok(()));
    // The same name for another key makes the old signatures invalid.
    authenticator.set_jwks(0, &key_set(&[&Issuer::other_ec().with_key_id("ec")]), now()).unwrap();
    assert_eq!(outcome(&authenticator, &token), INVALID);
    // It is there again: so are its tokens.
    authenticator.set_jwks(0, &key_set(&[&Issuer::ec()]), now()).unwrap();
    assert_eq!(authenticator.admit(&held.grounds(), now()), Ok(()));
}

#[test]
fn an_old_key_set_verifies_nothing() {
    let authenticator = authenticator();
    let token = Issuer::ec().sign(&with(user("u1"), "exp", None));
    let by_secret = Issuer::secret().sign(&with(user("u1"), "exp", None));
    let held = caller(&authenticator, &token);
    let hour = Duration::from_secs(3600);
    assert_eq!(outcome_at(&authenticator, &token, now() + hour), Valid);
    let later = now() + hour + SECOND;
    assert_eq!(authenticator.admit(&held.grounds(), later), Err(Refusal::InvalidToken));
    assert_eq!(outcome_at(&authenticator, &token, later), Unverifiable);
    assert_eq!(outcome_at(&authenticator, &by_secret, later), Valid);
}

#[test]
fn several_key_sets_stand_side_by_side() {
    let authenticator = Authenticator::new(&AuthSettings { jwks_sources: 2, ..settings() });
    authenticator.set_jwks(0, &key_set(&[&Issuer::ec()]), now()).unwrap();
    authenticator.set_jwks(1, &key_set(&[&Issuer::rsa()]), now()).unwrap();
    authenticator.set_jwks(0, b"", now()).unwrap();
    assert_eq!(outcome(&authenticator, &Issuer::ec().sign(&user("u1"))), Unverifiable);
    assert_eq!(outcome(&authenticator, &Issuer::rsa().sign(&user("u1"))), Valid);
    assert_eq!(authenticator.set_jwks(2, b"", now()), Err(JwksError::UnknownSource(2)));
}

#[test]
fn key_sets_with_odd_keys() {
    let authenticator = authenticator();
    let ec = Issuer::ec().jwk();
    let secret =
        Issuer::new("oct", Algorithm::HS256, EncodingKey::from_secret(b"0123456789abcdef0123456789abcdef"));
    let keys = json!({ "keys": [
        ec, secret.jwk(),
        with(Issuer::rsa().jwk(), "use", json!("enc")),
        with(Issuer::rsa().jwk(), "key_ops", json!(["encrypt"])),
        with(Issuer::rsa().jwk(), "alg", json!("RS512")),
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}, 5,
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "short"},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "short"},
        {"kty": "oct", "k": "", "kid": "empty"},
    ]});
    assert_eq!(authenticator.set_jwks(0, &serde_json::to_vec(&keys).unwrap(), now()), Ok(1));
    assert_eq!(outcome(&authenticator, &secret.sign(&user("u1"))), Unverifiable, "a published secret");
    // Key material of a wrong length is sliced by jsonwebtoken where it verifies.
    let short = Issuer::ed().with_key_id("short");
    assert_eq!(outcome(&authenticator, &short.sign(&user("u1"))), Unverifiable);
}

#[test]
fn a_broken_key_set_leaves_the_last_one() {
    let authenticator = authenticator();
    let many = json!({ "keys": vec![json!({}); 33] }).to_string();
    let long = " ".repeat(300_000);
    for broken in ["<html>", "{}", "[]", &many, &long] {
        assert!(authenticator.set_jwks(0, broken.as_bytes(), now()).is_err());
    }
    assert_eq!(outcome(&authenticator, &Issuer::ec().sign(&user("u1"))), Valid);
    for empty in ["", " \n", r#"{"keys":[]}"#] {
        assert_eq!(authenticator.set_jwks(0, empty.as_bytes(), now()), Ok(0));
    }
}

#[test]
fn key_sets_are_fetched_when_old_and_on_unknown_keys() {
    let authenticator = Authenticator::new(&settings());
    assert!(authenticator.claim_jwks_refresh(now()), "there is none");
    assert!(!authenticator.claim_jwks_refresh(now() + 9 * SECOND), "somebody is at it");
    assert!(authenticator.claim_jwks_refresh(now() + 10 * SECOND), "it failed");
    let fetched = now() + 31 * SECOND;
    authenticator.set_jwks(0, &key_set(&[&Issuer::ec()]), fetched).unwrap();
    assert!(!authenticator.claim_jwks_refresh(fetched + 599 * SECOND), "it is recent");
    assert!(authenticator.claim_jwks_refresh(fetched + 600 * SECOND), "it is ten minutes old");

    let fetched = fetched + 601 * SECOND;
    authenticator.set_jwks(0, &key_set(&[&Issuer::ec()]), fetched).unwrap();
    let forged = Issuer::other_ec().sign(&user("u1"));
    let ask = |seconds: u32| {
        outcome(&authenticator, &forged);
        authenticator.claim_jwks_refresh(fetched + seconds * SECOND)
    };
    assert_eq!([ask(8), ask(9), ask(10), ask(18), ask(19)], [false, true, false, false, true]);
    assert!(!Authenticator::new(&AuthSettings { jwks_sources: 0, ..settings() }).claim_jwks_refresh(now()));
}

#[test]
fn unknown_keys_of_shared_secrets_cause_no_fetch() {
    let authenticator = authenticator();
    assert!(!authenticator.claim_jwks_refresh(now()));
    let stranger = EncodingKey::from_secret(b"another secret of thirty-two bytes");
    outcome(&authenticator, &Issuer::new("standby", Algorithm::HS256, stranger).sign(&user("u1")));
    assert!(!authenticator.claim_jwks_refresh(now()));
}

#[test]
fn only_verified_tokens_are_remembered() {
    let authenticator = authenticator();
    let forged = Issuer::other_ec();
    let expired = with(user("u1"), "exp", json!(NOW - 100));
    for token in [
        forged.sign(&user("u1")),
        Issuer::other_ec().with_key_id("ec").sign(&user("u1")),
        Issuer::ec().sign(&expired),
    ] {
        outcome(&authenticator, &token);
        assert_eq!(authenticator.tokens.len(), 0);
    }
    outcome(&authenticator, &Issuer::ec().sign(&user("u1")));
    assert_eq!(authenticator.tokens.len(), 1);
    assert!(authenticator.tokens.weight() >= MIN_TOKEN_WEIGHT);
}
