//! Which API keys are good, and what a fill carries.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn api_key(key: &str) -> HeaderMap {
    headers(&[("apikey", key)])
}

fn beside(token: &str, key: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {token}")), ("apikey", key)])
}

/// Whether the request would be answered from the cache.
fn admitted(authenticator: &Authenticator, request: &HeaderMap, at: SystemTime) -> Result<(), Refusal> {
    authenticator.admit(&authenticator.identify(request, &query(""), at)?.grounds(), at)
}

fn learn(authenticator: &Authenticator, request: &HeaderMap) {
    authenticator.learn(&identify(authenticator, request).unwrap(), now());
}

#[test]
fn listed_keys_are_good_alone_and_beside_a_bearer() {
    let authenticator = authenticator();
    let token = Issuer::secret().sign(&user("u1"));
    for request in [api_key("sb_publishable_listed"), beside(&token, "sb_publishable_listed")] {
        assert_eq!(admitted(&authenticator, &request, now()), Ok(()));
    }
}

#[test]
fn keys_are_good_for_five_minutes_in_the_company_they_were_learned_in() {
    let token = Issuer::secret().sign(&with(user("u1"), "exp", None));
    let unverifiable = Issuer::other_ec().sign(&with(user("u2"), "exp", None));
    let no_key = HeaderMap::new();
    let no_key_beside = headers(&[("authorization", &format!("Bearer {token}"))]);
    let alone = [api_key("k"), api_key("other"), no_key];
    let with_bearer =
        [beside(&token, "k"), beside(&unverifiable, "k"), beside(&token, "other"), no_key_beside];
    // What is learned, and which of the others are good then.
    let cases: &[(&HeaderMap, &[&HeaderMap])] = &[
        (&alone[0], &[&alone[0]]),
        (&alone[2], &[&alone[2]]),
        (&with_bearer[0], &[&with_bearer[0], &with_bearer[1]]),
        (&with_bearer[1], &[&with_bearer[0], &with_bearer[1]]),
        (&with_bearer[3], &[&with_bearer[3]]),
    ];
    for (number, (learned, good)) in cases.iter().enumerate() {
        let authenticator = authenticator();
        assert_eq!(admitted(&authenticator, learned, now()), Err(Refusal::ApiKey));
        learn(&authenticator, learned);
        for request in alone.iter().chain(&with_bearer) {
            let expected = good.contains(&request);
            assert_eq!(admitted(&authenticator, request, now()).is_ok(), expected, "case {number}");
        }
        assert_eq!(admitted(&authenticator, learned, now() + 5 * MINUTE - SECOND), Ok(()));
        assert_eq!(admitted(&authenticator, learned, now() + 5 * MINUTE), Err(Refusal::ApiKey));
    }
}

#[test]
fn an_empty_key_is_not_an_absent_one() {
    let authenticator = authenticator();
    learn(&authenticator, &HeaderMap::new());
    assert_eq!(admitted(&authenticator, &api_key(""), now()), Err(Refusal::ApiKey));
}

#[test]
fn a_clock_that_steps_back_a_little_forgets_nothing() {
    let authenticator = authenticator();
    learn(&authenticator, &api_key("k"));
    assert_eq!(admitted(&authenticator, &api_key("k"), now() - SECOND), Ok(()));
    assert_eq!(admitted(&authenticator, &api_key("k"), now() - 2 * MINUTE), Err(Refusal::ApiKey));
}

#[test]
fn learned_keys_are_bounded() {
    let authenticator = authenticator();
    for number in 0..5000 {
        learn(&authenticator, &api_key(&format!("key {number}")));
    }
    let good = (0..5000)
        .filter(|number| admitted(&authenticator, &api_key(&format!("key {number}")), now()).is_ok());
    assert!(good.count() <= 1100);
}

/// The claims of a legacy anonymous key.
fn anon() -> Value {
    json!({ "iss": "supabase", "ref": "abc", "role": "anon", "iat": NOW - 10, "exp": NOW + 3600 })
}

#[test]
fn keys_that_are_tokens() {
    let authenticator = authenticator();
    let token = Issuer::secret().sign(&user("u1"));
    let verified = Issuer::secret().sign(&anon());
    let unverifiable = Issuer::other_ec().sign(&with(anon(), "exp", json!(NOW + 60)));
    let expired = Issuer::secret().sign(&with(anon(), "exp", json!(NOW - 100)));
    let forged = Issuer::other_ec().with_key_id("ec").sign(&anon());
    let cases = [
        (api_key(&verified), Ok(())),
        (beside(&token, &verified), Ok(())),
        (api_key(&unverifiable), Err(Refusal::ApiKey)),
        (beside(&token, &unverifiable), Err(Refusal::ApiKey)),
        (api_key(&expired), Err(Refusal::ExpiredToken)),
        (beside(&token, &expired), Err(Refusal::ApiKey)),
        (api_key(&forged), Err(Refusal::InvalidToken)),
        (beside(&token, &forged), Err(Refusal::ApiKey)),
    ];
    for (number, (request, expected)) in cases.iter().enumerate() {
        assert_eq!(admitted(&authenticator, request, now()), *expected, "case {number}");
    }
    learn(&authenticator, &api_key(&unverifiable));
    assert_eq!(admitted(&authenticator, &api_key(&unverifiable), now()), Ok(()));
    let held = identify(&authenticator, &api_key(&unverifiable)).unwrap();
    assert_eq!(authenticator.admit(&held.grounds(), now() + 60 * SECOND), Err(Refusal::ApiKey));
}

#[test]
fn a_held_caller_is_refused_when_his_verified_key_expires() {
    let authenticator = authenticator();
    let key = Issuer::secret().sign(&with(anon(), "exp", json!(NOW + 5)));
    let held = identify(&authenticator, &beside(&Issuer::secret().sign(&user("u1")), &key)).unwrap();
    assert_eq!(authenticator.admit(&held.grounds(), now()), Ok(()));
    assert_eq!(authenticator.admit(&held.grounds(), now() + 60 * SECOND), Err(Refusal::ApiKey));
}

fn fill(
    authenticator: &Authenticator,
    scope: &Scope,
    request: &HeaderMap,
) -> Result<FillCredentials, Refusal> {
    let caller = identify(authenticator, request)?;
    fill_credentials(scope, &caller, request, &query(""))
}

fn anonymous(key: &str) -> Result<FillCredentials, Refusal> {
    Ok(FillCredentials::Anonymous { api_key: Some(HeaderValue::from_str(key).unwrap()) })
}

#[test]
fn fills_under_public_are_anonymous() {
    let anon_key = Issuer::secret().sign(&anon());
    let listed_user = Issuer::other_ec().sign(&user("u9"));
    let mut settings = settings();
    settings.api_keys.extend([b"plain".to_vec(), listed_user.clone().into()]);
    let authenticator = Authenticator::new(&settings);
    let token = Issuer::secret().sign(&user("u1"));
    let with_sub = Issuer::secret().sign(&with(anon(), "sub", json!("u1")));
    let unverifiable_anon = Issuer::other_ec().sign(&anon());
    let public = |request: &HeaderMap| fill(&authenticator, &Scope::Public, request);

    for key in ["sb_publishable_any", "plain", anon_key.as_str(), unverifiable_anon.as_str()] {
        assert_eq!(public(&beside(&token, key)), anonymous(key));
        assert_eq!(public(&api_key(key)), anonymous(key));
    }
    let no_key = Ok(FillCredentials::Anonymous { api_key: None });
    assert_eq!(public(&headers(&[("authorization", &format!("Bearer {token}"))])), no_key);
    assert_eq!(public(&HeaderMap::new()), no_key);
    for key in ["opaque", token.as_str(), with_sub.as_str(), listed_user.as_str()] {
        assert_eq!(public(&api_key(key)), Err(Refusal::NotAnonymous));
    }
    // A token that only upstream can judge has its own partition, and goes there.
    assert_eq!(public(&beside(&unverifiable_anon, "plain")), Ok(FillCredentials::AsSent));
    for scope in [Scope::Session, Scope::User, Scope::Claims(vec![]), Scope::Role] {
        assert_eq!(fill(&authenticator, &scope, &beside(&token, "opaque")), Ok(FillCredentials::AsSent));
    }
}

#[test]
fn a_key_in_the_query_is_sent_as_one() {
    let authenticator = authenticator();
    let raw = query("apikey=sb_publishable_x");
    let caller = authenticator.identify(&HeaderMap::new(), &raw, now()).unwrap();
    let fill = fill_credentials(&Scope::Public, &caller, &HeaderMap::new(), &raw);
    assert_eq!(fill, anonymous("sb_publishable_x"));
}

#[test]
fn public_objects_need_and_send_nothing() {
    let authenticator = authenticator();
    let request = bearer("whatever");
    let caller = Caller::without_credentials(&request, &query("apikey=other")).unwrap();
    assert_eq!(authenticator.admit(&caller.grounds(), now()), Ok(()));
    for scope in [Scope::Public, Scope::Session] {
        let fill = fill_credentials(&scope, &caller, &request, &query(""));
        assert_eq!(fill, Ok(FillCredentials::Anonymous { api_key: None }));
    }
    authenticator.learn(&caller, now());
    assert_eq!(admitted(&authenticator, &HeaderMap::new(), now()), Err(Refusal::ApiKey));
}
