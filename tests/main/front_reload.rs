//! A reload counts for the next request, however well the front knows its spelling.

use crate::support::backend;
use crate::support::eventually;
use crate::support::faulty::{Answer, Faulty};
use crate::support::front::{Answer as Seen, Client, indexed, never_the_fronts};
use crate::support::http::Request;
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{PUBLISHABLE_KEY, alice};

const OWN: &str = "/rest/v1/profiles?order=id";

fn real() -> Setup {
    Setup::new(&backend::shared().url())
}

fn with(read: &str) -> Setup {
    real().read(&format!("ttl = \"1h\"\n{read}"))
}

fn own(sluice: &Sluice) -> Request {
    sluice.get(OWN).signed_in(alice().claim("iat", 1_700_000_000).claim("exp", 4_000_000_000_u64).sign())
}

/// Indexes `request`, reloads, and gives the answer to the very next one back;
/// asked past the front, the request has an answer that is the same.
#[track_caller]
fn after_reload(before: &Setup, after: &Setup, request: impl Fn(&Sluice) -> Request) -> Seen {
    let sluice = before.start();
    let mut client = Client::open(sluice.address());
    let request = request(&sluice);
    if String::from_utf8_lossy(&request.encode()).contains("Sluice-Debug") {
        // An operator's request may be left to the proxy.
        (0..3).for_each(|_| drop(client.get(&request).expect(200)));
    } else {
        indexed(&sluice, &mut client, &request);
    }
    sluice.rewrite(&after.toml());
    sluice.process().signal("HUP");
    eventually("it has reloaded", || sluice.log().contains("configuration reloaded"));
    let answer = client.get(&request);
    let again = client.get(&request);
    assert_eq!(again.seen(), client.get(&never_the_fronts(&request)).seen());
    answer
}

#[test]
fn a_route_that_no_longer_reads() {
    let after = real().routes("[[route]]\nname = \"rest\"\ntable = \"*\"\n");
    let answer = after_reload(&real(), &after, own);
    assert!(answer.joined("cache-status").contains("fwd=bypass"), "{:?}", answer.fields);
}

#[test]
fn a_route_that_is_gone() {
    let after = real().routes("[[route]]\nname = \"teams\"\ntable = \"teams\"\n[route.read]\nttl = \"1h\"\n");
    let answer = after_reload(&real(), &after, own);
    assert!(!answer.is_hit() && answer.text().contains("of alice"), "{:?}", answer.fields);
}

#[test]
fn another_scope() {
    let answer = after_reload(&with("scope = \"user\""), &with("scope = \"public\""), own);
    assert_eq!(answer.expect(200).text(), "[]", "a public answer is what nobody in particular may see");
    let answer = after_reload(&with("scope = \"public\""), &with("scope = \"user\""), own);
    assert!(answer.expect(200).text().contains("of alice"), "his own rows");
}

#[test]
fn a_header_that_is_keyed_now() {
    let tenant = |sluice: &Sluice| own(sluice).header("X-Tenant", "a");
    let answer =
        after_reload(&with("ignore_headers = [\"x-tenant\"]"), &with("vary = [\"x-tenant\"]"), tenant);
    assert!(!answer.is_hit(), "it was made without the header");
}

#[test]
fn a_header_that_matters_now() {
    let tenant = |sluice: &Sluice| own(sluice).header("X-Tenant", "a");
    let answer = after_reload(&with("ignore_headers = [\"x-tenant\"]"), &with(""), tenant);
    assert!(answer.joined("cache-status").contains("header-x-tenant"), "{:?}", answer.fields);
}

#[test]
fn directives_that_are_obeyed_now() {
    let demanding = |sluice: &Sluice| own(sluice).header("Cache-Control", "no-cache");
    let answer = after_reload(&with(""), &with("request_directives = \"obey\""), demanding);
    assert!(answer.joined("cache-status").contains("fwd=request"), "{:?}", answer.fields);
}

#[test]
fn a_secret_that_is_another() {
    let secret = "jwt_secret = \"another-secret-of-the-tests-with-more-than-32-characters\"";
    let after = real().without("auth").section("auth", secret);
    let answer = after_reload(&real(), &after, own);
    assert!(!answer.is_hit(), "the token can't be verified now: {:?}", answer.fields);
}

#[test]
fn a_key_that_is_no_longer_listed() {
    let with_key = |key: &str| real().section("auth", &format!("api_keys = [\"{key}\"]"));
    let keyed = |sluice: &Sluice| sluice.get("/rest/v1/teams?id=eq.1").apikey(PUBLISHABLE_KEY);
    let answer = after_reload(&with_key(PUBLISHABLE_KEY), &with_key("sb_publishable_other"), keyed);
    assert!(!answer.is_hit(), "{:?}", answer.fields);
}

#[test]
fn origins_that_are_listed_now() {
    let from = |sluice: &Sluice| own(sluice).header("Origin", "https://evil.example");
    let after = real().section("cors", "allow_origins = [\"https://app.example.com\"]");
    let answer = after_reload(&real(), &after, from).expect(200);
    assert_eq!(answer.joined("access-control-allow-origin"), "");
    assert!(answer.joined("vary").to_ascii_lowercase().contains("origin"));
}

#[test]
fn an_operators_token() {
    let token = |token: &str| real().top(&format!("admin_token = \"{token}\""));
    let shown = |sluice: &Sluice| own(sluice).header("Sluice-Debug", "the-second-token-of-the-operator");
    let (first, second) = ("the-first-token-of-the-operator", "the-second-token-of-the-operator");
    let answer = after_reload(&token(first), &token(second), shown).expect(200);
    assert_eq!(answer.joined("sluice-route"), "rest", "the token is right now");
    let answer = after_reload(&token(second), &token(first), shown).expect(200);
    assert_eq!(answer.joined("sluice-route"), "", "the token is wrong now");
}

#[test]
fn another_ttl() {
    // Entries keep the lifetime that they were stored with; what matters is that both paths say so.
    after_reload(&with(""), &real().read("ttl = \"2h\"\nstale_while_revalidate = \"1h\""), own).expect(200);
}

#[test]
fn another_upstream() {
    let [first, second] = ["first", "second"].map(|name| {
        let upstream = Faulty::start();
        let row = Answer::json(&format!("[{{\"upstream\":\"{name}\"}}]")).header("Content-Range", "0-0/*");
        upstream.always("/rest/v1/teams", row.act());
        upstream
    });
    let ask = |sluice: &Sluice| sluice.get("/rest/v1/teams").anonymous();
    let answer = after_reload(&Setup::new(&first.url()), &Setup::new(&second.url()), ask);
    assert!(answer.text().contains("second"), "{}", answer.text());
}
