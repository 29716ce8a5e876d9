//! Which credentials are read, and which make a request bypass.

use proptest::prelude::*;

use super::*;

const LISTED: &str = "sb_publishable_listed";

fn subject(caller: &Caller) -> Option<&str> {
    match caller.identity() {
        Identity::Token(token) => token.subject(),
        _ => None,
    }
}

#[test]
fn requests_that_bypass_by_their_credentials() {
    let token = format!("Bearer {}", Issuer::secret().sign(&user("u1")));
    let long = format!("Bearer a.b.{}", "c".repeat(16 * 1024));
    type Pairs<'a> = &'a [(&'static str, &'a str)];
    let cases: &[(Pairs<'_>, &str, Refusal)] = &[
        (&[("authorization", &token), ("authorization", &token)], "", Refusal::Ambiguous),
        (&[("apikey", LISTED), ("apikey", LISTED)], "", Refusal::Ambiguous),
        (&[("apikey", LISTED)], "apikey=other", Refusal::Ambiguous),
        (&[], "apikey=a&apikey=a", Refusal::Ambiguous),
        (&[("authorization", "Basic dTpw")], "", Refusal::Scheme),
        (&[("authorization", "Bearer")], "", Refusal::Scheme),
        (&[("authorization", "Bearer a b")], "", Refusal::Scheme),
        (&[("authorization", "")], "", Refusal::Scheme),
        (&[("authorization", "Bearer opaque"), ("apikey", LISTED)], "", Refusal::ForeignBearer),
        (&[("authorization", "Bearer a.b.c.d.e"), ("apikey", LISTED)], "", Refusal::ForeignBearer),
        (&[("authorization", &long), ("apikey", LISTED)], "", Refusal::TooLong),
        (&[("authorization", "Bearer sb_secret_x")], "", Refusal::Privileged),
        (&[("authorization", &token), ("apikey", "sb_secret_x")], "", Refusal::Privileged),
        (&[("authorization", &token)], "apikey=sb_secret_x", Refusal::Privileged),
    ];
    for (pairs, raw, expected) in cases {
        let refusal = authenticator().identify(&headers(pairs), &query(raw), now()).err();
        assert_eq!(refusal, Some(*expected), "{pairs:?} {raw}");
    }
}

#[test]
fn service_role_bypasses_in_any_place_verified_or_not() {
    let authenticator = authenticator();
    let service = with(user("u1"), "role", json!("service_role"));
    let good = Issuer::secret().sign(&user("u1"));
    for issuer in [Issuer::secret(), Issuer::other_ec(), Issuer::other_ec().with_key_id("ec")] {
        let key = issuer.sign(&service);
        let requests = [
            headers(&[("authorization", &format!("Bearer {key}")), ("apikey", LISTED)]),
            headers(&[("authorization", &format!("Bearer {good}")), ("apikey", &key)]),
            headers(&[("authorization", &format!("Bearer {key}")), ("apikey", &key)]),
            headers(&[("apikey", &key)]),
        ];
        for request in requests {
            assert_eq!(identify(&authenticator, &request).err(), Some(Refusal::Privileged));
            assert_eq!(Caller::without_credentials(&request, &query("")).err(), Some(Refusal::Privileged));
        }
        let raw = query(&format!("apikey={key}"));
        assert_eq!(authenticator.identify(&HeaderMap::new(), &raw, now()).err(), Some(Refusal::Privileged));
        assert_eq!(Caller::without_credentials(&HeaderMap::new(), &raw).err(), Some(Refusal::Privileged));
    }
    // The configuration can't make it good.
    let key = Issuer::other_ec().sign(&service);
    let listed = Authenticator::new(&AuthSettings { api_keys: vec![key.clone().into()], ..settings() });
    assert_eq!(identify(&listed, &headers(&[("apikey", &key)])).err(), Some(Refusal::Privileged));
}

#[test]
fn the_bearer_scheme_is_read_in_any_case() {
    let token = Issuer::secret().sign(&user("u1"));
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
        let request = headers(&[("authorization", &format!("{scheme} {token}")), ("apikey", LISTED)]);
        let caller = identify(&authenticator(), &request).unwrap();
        assert_eq!(subject(&caller), Some("u1"), "{scheme}");
    }
}

#[test]
fn a_bearer_that_repeats_the_key_is_the_key() {
    let authenticator = authenticator();
    let plain = identify(&authenticator, &headers(&[("apikey", LISTED)])).unwrap();
    let spellings = [
        (headers(&[("authorization", "Bearer sb_publishable_listed"), ("apikey", LISTED)]), ""),
        (headers(&[("apikey", LISTED)]), "apikey=sb_publishable_listed"),
        (headers(&[("authorization", "Bearer sb_publishable_listed")]), "apikey=sb_publishable_listed"),
        (HeaderMap::new(), "apikey=sb_publishable_listed"),
    ];
    for (request, raw) in spellings {
        let caller = authenticator.identify(&request, &query(raw), now()).unwrap();
        assert!(matches!(caller.identity(), Identity::Key(_)));
        assert_eq!(partition(&Scope::Session, &caller), partition(&Scope::Session, &plain));
    }
}

#[test]
fn nothing_prints_a_credential() {
    let authenticator = authenticator();
    let token = Issuer::other_ec().sign(&user("u-4711"));
    let verified = Issuer::ec().sign(&user("u-4711"));
    for token in [&token, &verified] {
        let caller = caller(&authenticator, token);
        let fill = fill_credentials(&Scope::Public, &caller, &bearer(token), &query("")).unwrap();
        let printed = format!("{caller:?} {fill:?} {:?}", partition(&Scope::User, &caller));
        for hidden in [token.as_str(), "u-4711", "publishable"] {
            assert!(!printed.contains(hidden), "{printed}");
        }
    }
}

proptest! {
    #[test]
    fn identify_never_panics(
        authorization in prop::collection::vec(any::<u8>(), 0..80),
        key in prop::collection::vec(any::<u8>(), 0..80),
        as_bearer: bool,
        raw in "[a-z=&%.]{0,40}",
    ) {
        let mut request = HeaderMap::new();
        let prefix: &[u8] = if as_bearer { b"Bearer " } else { b"" };
        if let Ok(value) = HeaderValue::from_bytes(&[prefix, &authorization].concat()) {
            request.append("authorization", value);
        }
        if let Ok(value) = HeaderValue::from_bytes(&key) {
            request.append("apikey", value);
        }
        if let Ok(query) = Query::parse(&raw) {
            let _ = Authenticator::new(&settings()).identify(&request, &query, now());
            let _ = Caller::without_credentials(&request, &query);
        }
    }

    #[test]
    fn token_parts_never_panic(header in "\\PC{0,40}", payload in "\\PC{0,40}") {
        let encode = |text: &str| Jwk::from_encoding_key(&EncodingKey::from_secret(text.as_bytes()), Algorithm::HS256)
            .map(|jwk| serde_json::to_value(jwk).unwrap()["k"].as_str().unwrap().to_owned()).unwrap();
        let authenticator = Authenticator::new(&settings());
        for token in [
            format!("{}.{}.x", encode(&header), encode(&payload)),
            format!("{}.{}.x", encode(r#"{"alg":"HS256"}"#), encode(&payload)),
        ] {
            prop_assert!(identify(&authenticator, &bearer(&token)).is_err());
        }
    }
}
