//! Who shares a partition with whom.

use super::*;

/// The partition of the holder of these claims.
fn of(scope: &Scope, claims: &Value) -> Partition {
    partition(scope, &caller(&authenticator(), &Issuer::secret().sign(claims)))
}

fn tenants() -> Scope {
    Scope::Claims(vec!["app_metadata.tenant_id".into()])
}

/// Asserts which of two callers' scopes share, in the order session, user,
/// tenant list, role, public.
fn assert_shared(one: &Value, other: &Value, expected: [bool; 5]) {
    let scopes = [Scope::Session, Scope::User, tenants(), Scope::Role, Scope::Public];
    let shared = scopes.map(|scope| of(&scope, one) == of(&scope, other));
    assert_eq!(shared, expected, "{one} and {other}");
}

#[test]
fn who_shares_what() {
    let u1 = user("u1");
    let refreshed =
        with(with(with(u1.clone(), "exp", json!(NOW + 7200)), "iat", json!(NOW)), "jti", json!("j"));
    assert_shared(&u1, &with(refreshed, "nbf", json!(NOW)), [true; 5]);
    assert_shared(&u1, &user("u2"), [false, false, true, true, true]);
    assert_shared(&u1, &with(u1.clone(), "aal", json!("aal2")), [false, false, true, true, true]);
    // Two issuers may give the same `sub` to different people.
    assert_shared(&u1, &with(u1.clone(), "iss", json!("https://clerk")), [false, false, true, true, true]);
    assert_shared(&u1, &with(u1.clone(), "session_id", json!("s2")), [false, true, true, true, true]);
    assert_shared(&u1, &with(u1.clone(), "role", json!("admin")), [false, false, false, false, true]);
    assert_shared(&u1, &with(u1.clone(), "role", None), [false, false, false, false, true]);
    let tenant = |value: Value| with(user("u1"), "app_metadata", json!({ "tenant_id": value }));
    assert_shared(&tenant(json!(1)), &tenant(json!(2)), [false, true, false, true, true]);
}

#[test]
fn values_that_look_alike_are_different() {
    let values: Vec<Value> = [
        "null",
        "\"null\"",
        "true",
        "\"true\"",
        "1",
        "\"1\"",
        "1.0",
        "[]",
        "{}",
        "\"\"",
        "[1]",
        "[[1]]",
        "[1,1]",
        "{\"a\":1}",
        "{\"a\":{}}",
        "[\"a\",1]",
        "-1",
    ]
    .iter()
    .map(|text| serde_json::from_str(text).unwrap())
    .collect();
    let mut holders: Vec<Value> = values
        .into_iter()
        .map(|value| with(user("u1"), "app_metadata", json!({ "tenant_id": value })))
        .collect();
    holders.push(with(user("u1"), "app_metadata", json!({})));
    for scope in [Scope::Session, tenants()] {
        let partitions: Vec<_> = holders.iter().map(|claims| of(&scope, claims)).collect();
        for (index, one) in partitions.iter().enumerate() {
            for (offset, other) in partitions[index + 1..].iter().enumerate() {
                assert_ne!(one, other, "{} and {}", holders[index], holders[index + 1 + offset]);
            }
        }
    }
}

#[test]
fn numbers_that_lose_digits_are_shared_with_nobody() {
    // Signed by hand: serde_json would write both as the same number.
    let authenticator = authenticator();
    let secret = EncodingKey::from_secret(SECRET);
    let encode = |text: &str| {
        let jwk =
            Jwk::from_encoding_key(&EncodingKey::from_secret(text.as_bytes()), Algorithm::HS256).unwrap();
        serde_json::to_value(jwk).unwrap()["k"].as_str().unwrap().to_owned()
    };
    let token = |tenant: &str| {
        let payload =
            format!(r#"{{"role":"authenticated","sub":"u1","app_metadata":{{"tenant_id":{tenant}}}}}"#);
        let signed = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(&payload));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &secret, Algorithm::HS256).unwrap();
        format!("{signed}.{signature}")
    };
    let holder = |tenant: &str| caller(&authenticator, &token(tenant));
    let (one, other) = (holder("18446744073709551617"), holder("18446744073709551618"));
    for scope in [Scope::Session, tenants()] {
        assert_ne!(partition(&scope, &one), partition(&scope, &other));
        assert_eq!(partition(&scope, &one), partition(&scope, &holder("18446744073709551617")));
    }
    assert_eq!(partition(&Scope::User, &one), partition(&Scope::User, &other));
}

#[test]
fn the_order_of_claims_does_not_matter() {
    let one: Value = serde_json::from_str(r#"{"sub":"u","role":"r","m":{"a":1,"b":2}}"#).unwrap();
    let other: Value = serde_json::from_str(r#"{"m":{"b":2,"a":1},"role":"r","sub":"u"}"#).unwrap();
    assert_shared(&one, &other, [true; 5]);
}

#[test]
fn claims_may_have_dots_in_their_names() {
    let scope = Scope::Claims(vec!["https://example.com/tenant".into()]);
    let named = |tenant: &str| with(user("u1"), "https://example.com/tenant", json!(tenant));
    assert_ne!(of(&scope, &named("a")), of(&scope, &named("b")));
    assert_ne!(of(&scope, &named("a")), of(&scope, &user("u1")));
}

#[test]
fn scopes_and_lists_share_nothing_with_each_other() {
    let anonymous = json!({});
    let list = |paths: &[&str]| Scope::Claims(paths.iter().map(|path| (*path).to_owned()).collect());
    let scopes =
        [Scope::Session, Scope::User, Scope::Role, Scope::Public, list(&[]), list(&["a"]), list(&["b"])];
    for (index, one) in scopes.iter().enumerate() {
        for other in &scopes[index + 1..] {
            assert_ne!(of(one, &anonymous), of(other, &anonymous), "{one:?} and {other:?}");
        }
    }
}

#[test]
fn keys_and_unverifiable_tokens_stand_for_themselves() {
    let authenticator = authenticator();
    let key = |key: &str| identify(&authenticator, &headers(&[("apikey", key)])).unwrap();
    let nobody = identify(&authenticator, &HeaderMap::new()).unwrap();
    let token = |claims: &Value| caller(&authenticator, &Issuer::other_ec().sign(claims));
    let verified = caller(&authenticator, &Issuer::ec().sign(&user("u1")));
    let (u1, later) = (token(&user("u1")), token(&with(user("u1"), "exp", json!(NOW + 9))));
    let callers = [&key("a"), &key("b"), &nobody, &u1, &later, &verified];
    for scope in [Scope::Session, Scope::User, tenants(), Scope::Role] {
        for (index, one) in callers.iter().enumerate() {
            for other in &callers[index + 1..] {
                assert_ne!(partition(&scope, one), partition(&scope, other), "{scope:?}");
            }
        }
    }
    let public = |caller: &Caller| partition(&Scope::Public, caller);
    for caller in [&key("a"), &nobody] {
        assert_eq!(public(caller), public(&verified));
    }
    for caller in [&u1, &later] {
        assert_ne!(public(caller), public(&verified));
        assert_eq!(public(caller), partition(&Scope::Session, caller));
    }
}

#[test]
fn private_answers_need_a_partition_of_one_user() {
    let scopes = [Scope::Session, Scope::User, tenants(), Scope::Role, Scope::Public];
    let one_users = |claims: &Value| scopes.clone().map(|scope| of(&scope, claims).is_one_users());
    assert_eq!(one_users(&user("u1")), [true, true, false, false, false]);
    for nobody in [with(user("u1"), "sub", None), with(user("u1"), "sub", Value::Null)] {
        assert_eq!(one_users(&nobody), [false; 5]);
    }
    let authenticator = authenticator();
    let unverifiable = |claims: &Value| caller(&authenticator, &Issuer::other_ec().sign(claims));
    assert!(partition(&Scope::Public, &unverifiable(&user("u1"))).is_one_users());
    // An anonymous key as bearer is held by every visitor.
    assert!(!partition(&Scope::Session, &unverifiable(&with(user("u1"), "sub", None))).is_one_users());
    let key = identify(&authenticator, &headers(&[("apikey", "k")])).unwrap();
    assert!(!partition(&Scope::Session, &key).is_one_users());
}

/// What the holder of these claims may do under a scope, named.
fn rights_of(scope: &Scope, claims: &Value) -> [u8; 16] {
    match caller(&authenticator(), &Issuer::secret().sign(claims)).identity() {
        Identity::Token(token) => partition::rights(scope, token),
        other => panic!("{other:?}"),
    }
}

#[test]
fn whose_token_stands_in_for_whose() {
    let scopes = [Scope::Session, Scope::User, tenants(), Scope::Role, Scope::Public];
    let u1 = user("u1");
    let tenant = |value: Value| with(u1.clone(), "app_metadata", json!({ "tenant_id": value, "x": value }));
    let signed_in_again = [
        ("exp", json!(NOW + 7200)),
        ("iat", json!(NOW)),
        ("session_id", json!("s2")),
        ("amr", json!(["otp"])),
    ]
    .into_iter()
    .fold(u1.clone(), |claims, (name, value)| with(claims, name, value));
    // Two holders, and whether one stands in for the other, by scope.
    for (one, other, expected) in [
        (&u1, &signed_in_again, [true; 5]),
        (&u1, &user("u2"), [false; 5]),
        (&u1, &with(u1.clone(), "aal", json!("aal2")), [false; 5]),
        (&u1, &with(u1.clone(), "iss", json!("https://clerk")), [false; 5]),
        (&u1, &with(u1.clone(), "role", json!("admin")), [false; 5]),
        (&u1, &with(u1.clone(), "email", json!("e@example.com")), [false, true, true, true, true]),
        (&tenant(json!(1)), &tenant(json!(2)), [false, true, false, true, true]),
    ] {
        let stands_in = scopes.each_ref().map(|scope| rights_of(scope, one) == rights_of(scope, other));
        assert_eq!(stands_in, expected, "{one} and {other}");
    }
    assert_ne!(rights_of(&Scope::Session, &u1), rights_of(&Scope::User, &u1));
}
