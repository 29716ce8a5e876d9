//! Nobody is ever given what was fetched for somebody else.

use serde_json::json;

use crate::support::backend;
use crate::support::http::Request;
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{PUBLISHABLE_KEY, SECRET_KEY, Token, alice, anon_key, bob, service_key};

fn with_scope(scope: &str) -> Sluice {
    Setup::new(&backend::shared().url()).read(&format!("ttl = \"1h\"\nscope = {scope}")).start()
}

fn tenant(token: Token, id: &str) -> Token {
    token.claim("app_metadata", json!({ "tenant_id": id }))
}

/// A way to dress a request as somebody's.
type Dress = Box<dyn Fn(Request) -> Request>;

/// Everybody that matters.
fn callers() -> Vec<(&'static str, Dress)> {
    let user = |token: Token| {
        let token = token.sign();
        Box::new(move |request: Request| request.signed_in(&token)) as Dress
    };
    vec![
        ("alice of acme", user(tenant(alice(), "acme"))),
        ("bob of globex", user(tenant(bob(), "globex"))),
        ("alice of globex", user(tenant(alice(), "globex"))),
        ("alice without a tenant", user(alice())),
        ("anon", Box::new(|request| request.anonymous())),
        ("an opaque key", Box::new(|request| request.apikey(PUBLISHABLE_KEY).bearer(PUBLISHABLE_KEY))),
        ("nobody", Box::new(|request| request)),
    ]
}

/// Asks for `target` as everybody, several times in turn: each answer is what
/// PostgREST gives to the same caller.
fn everybody_sees_his_own(scope: &str, target: &str) {
    let sluice = with_scope(scope);
    let upstream = backend::shared().address();
    for round in 0..3 {
        for (name, dress) in callers() {
            let expected = dress(Request::new(&upstream, "GET", target)).send();
            let answer = dress(sluice.get(target)).send();
            assert_eq!(answer.text(), expected.text(), "{name}, scope {scope}, round {round}");
            assert_eq!(answer.status, expected.status, "{name}, scope {scope}, round {round}");
            if round == 2 {
                answer.expect_hit();
            }
        }
    }
}

#[test]
fn session_scope_tells_users_apart() {
    everybody_sees_his_own("\"session\"", "/rest/v1/profiles");
    everybody_sees_his_own("\"session\"", "/rest/v1/invoices");
}

#[test]
fn user_scope_tells_users_apart() {
    everybody_sees_his_own("\"user\"", "/rest/v1/profiles");
}

#[test]
fn claims_scope_tells_tenants_apart() {
    everybody_sees_his_own("[\"app_metadata.tenant_id\"]", "/rest/v1/invoices");
}

#[test]
fn role_scope_tells_roles_apart() {
    everybody_sees_his_own("\"role\"", "/rest/v1/notices");
}

#[test]
fn users_share_an_entry_only_where_the_scope_says_so() {
    for (scope, shared) in
        [("\"session\"", false), ("\"user\"", false), ("\"role\"", true), ("\"public\"", true)]
    {
        let sluice = with_scope(scope);
        let target = "/rest/v1/users?id=eq.3";
        sluice.get(target).signed_in(alice().sign()).send().expect(200).expect_stored();
        let second = sluice.get(target).signed_in(bob().sign()).send().expect(200);
        assert_eq!(second.is_hit(), shared, "scope {scope}: {}", second.cache_status());
    }
}

#[test]
fn a_wrong_public_scope_shows_too_little() {
    let sluice = with_scope("\"public\"");
    for _ in 0..2 {
        for caller in [alice(), bob()] {
            let answer = sluice.get("/rest/v1/profiles").signed_in(caller.sign()).send().expect(200);
            assert_eq!(answer.text(), "[]", "a public entry holds what anonymous callers see");
        }
    }
    sluice.get("/rest/v1/profiles").signed_in(bob().sign()).send().expect_hit();
}

#[test]
fn the_service_role_neither_reads_nor_fills() {
    for scope in ["\"session\"", "\"user\"", "\"role\"", "\"public\""] {
        let sluice = with_scope(scope);
        let target = "/rest/v1/profiles?order=id";
        let privileged: [(&str, Request); 6] = [
            ("apikey alone", sluice.get(target).apikey(service_key())),
            ("both", sluice.get(target).signed_in(service_key())),
            ("bearer alone", sluice.get(target).bearer(service_key())),
            ("secret key", sluice.get(target).apikey(SECRET_KEY)),
            ("secret key as bearer", sluice.get(target).apikey(SECRET_KEY).bearer(SECRET_KEY)),
            (
                "secret key beside a publishable one",
                sluice.get(target).apikey(PUBLISHABLE_KEY).bearer(SECRET_KEY),
            ),
        ];
        let anonymous = || sluice.get(target).anonymous().send().expect(200);
        for (name, request) in &privileged {
            let answer = request.send().expect(200);
            assert_eq!(answer.json().as_array().unwrap().len(), 2, "{name}, scope {scope}");
            answer.expect_bypass("");
        }
        assert_eq!(anonymous().text(), "[]", "the service role has filled, scope {scope}");
        anonymous().expect_hit();
        for (name, request) in &privileged {
            let answer = request.send().expect(200);
            assert_eq!(answer.json().as_array().unwrap().len(), 2, "{name} has read, scope {scope}");
        }
        assert_eq!(anonymous().expect_hit().text(), "[]");
    }
}

#[test]
fn a_service_key_in_the_query_bypasses_too() {
    let sluice = with_scope("\"session\"");
    for key in [service_key(), SECRET_KEY.to_owned()] {
        for _ in 0..2 {
            sluice.get(&format!("/rest/v1/users?id=eq.1&apikey={key}")).send().expect_bypass("");
        }
    }
}

#[test]
fn the_anon_key_and_no_key_have_entries_of_their_own() {
    let sluice = with_scope("\"session\"");
    let target = "/rest/v1/notices";
    sluice.get(target).anonymous().send().expect_stored();
    sluice.get(target).anonymous().send().expect_hit();
    sluice.get(target).send().expect_no_hit();
    sluice.get(target).apikey(anon_key()).send().expect(200);
}

#[test]
fn schemas_and_accept_forms_have_entries_of_their_own() {
    let routes = "[[route]]\nname = \"rest\"\ntable = [\"*\", \"other.*\"]\n[route.read]\nttl = \"1h\"\n";
    let sluice = Setup::new(&backend::shared().url()).routes(routes).start();
    let target = "/rest/v1/users?id=eq.1";
    let upstream = backend::shared().address();
    let forms: [(&str, &str); 7] = [
        ("Accept-Profile", "public"),
        ("Accept-Profile", "other"),
        ("Accept", "application/vnd.pgrst.object+json"),
        ("Accept", "text/csv"),
        ("Prefer", "count=exact"),
        ("Prefer", "count=planned"),
        ("Range", "0-0"),
    ];
    for round in 0..2 {
        for (name, value) in forms {
            let expected = Request::new(&upstream, "GET", target).anonymous().header(name, value).send();
            let answer = sluice.get(target).anonymous().header(name, value).send();
            assert_eq!((answer.status, answer.text()), (expected.status, expected.text()), "{name}: {value}");
            for header in ["content-type", "content-range", "content-profile", "preference-applied"] {
                assert_eq!(answer.header(header), expected.header(header), "{header} with {name}: {value}");
            }
            if round == 1 {
                answer.expect_hit();
            }
        }
    }
}
