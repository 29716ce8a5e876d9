//! Request headers are keyed, ignorable, or make the request bypass; what upstream adds is filtered.

use crate::support::backend;
use crate::support::faulty::{Answer, Faulty};
use crate::support::sluice::Setup;
use crate::support::unique;

const TARGET: &str = "/rest/v1/users?id=eq.1";
const ROUTE: &str = "GET /rest/v1/users";

fn in_front() -> (Faulty, Setup) {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let setup = Setup::new(&upstream.url());
    (upstream, setup)
}

#[test]
fn an_unknown_header_bypasses_and_reaches_upstream() {
    let (upstream, setup) = in_front();
    let sluice = setup.start();
    sluice.get(TARGET).anonymous().send().expect_stored();
    for (name, value) in [("X-Tenant", "a"), ("Cookie", "session=1"), ("X-Anything", "")] {
        let answer = sluice.get(TARGET).anonymous().header(name, value).send().expect(200);
        answer.expect_bypass(&format!("header-{}", name.to_ascii_lowercase()));
        assert_eq!(upstream.requests(ROUTE).last().unwrap().header(name), Some(value));
    }
    sluice.get(TARGET).anonymous().send().expect_hit();
}

#[test]
fn ignorable_headers_hit_and_never_reach_a_fill() {
    let (upstream, setup) = in_front();
    let sluice = setup.start();
    let browser = [
        ("User-Agent", "Mozilla/5.0"),
        ("Referer", "https://app.example.com/"),
        ("Accept-Language", "de"),
        ("Sec-Fetch-Mode", "cors"),
        ("X-Client-Info", "supabase-js-web/2.78.0"),
        ("Origin", "https://app.example.com"),
        ("DNT", "1"),
    ];
    let dressed = || {
        browser
            .iter()
            .fold(sluice.get(TARGET).anonymous(), |request, (name, value)| request.header(name, *value))
    };
    dressed().send().expect(200).expect_stored();
    let fill = upstream.requests(ROUTE).pop().unwrap();
    for (name, value) in browser {
        assert!(!fill.all(name).contains(&value), "{name} went along with a fill");
    }
    sluice.get(TARGET).anonymous().send().expect(200).expect_hit();
    assert_eq!(upstream.count(ROUTE), 1);
}

#[test]
fn a_policy_that_reads_headers_sees_only_what_is_keyed() {
    let setup = Setup::new(&backend::shared().url())
        .routes("[[route]]\nname = \"f\"\nfunction = \"request_header\"\n[route.read]\nttl = \"1h\"\n");
    let sluice = setup.start();
    let ask = |name: &str, as_agent: &str| {
        let target = format!("/rest/v1/rpc/request_header?wanted={name}");
        sluice
            .get(&target)
            .anonymous()
            .header("User-Agent", as_agent)
            .header("X-Forwarded-For", "1.2.3.4")
            .send()
            .expect(200)
    };
    assert!(!ask("user-agent", "mine").text().contains("mine"));
    ask("user-agent", "yours").expect_hit();
    assert_eq!(ask("x-forwarded-for", "mine").text(), "null");
}

#[test]
fn headers_that_the_route_names_are_ignored_or_keyed() {
    let (upstream, setup) = in_front();
    let sluice = setup.read("ttl = \"1h\"\nvary = [\"x-tenant\"]\nignore_headers = [\"x-my-*\"]").start();
    let ask = |tenant: &str| {
        sluice.get(TARGET).anonymous().header("X-Tenant", tenant).header("X-My-Trace", unique().to_string())
    };
    ask("a").send().expect(200).expect_stored();
    ask("a").send().expect(200).expect_hit();
    ask("b").send().expect(200).expect_stored();
    let fills = upstream.requests(ROUTE);
    assert_eq!(fills.len(), 2);
    assert_eq!(fills[1].header("x-tenant"), Some("b"), "what is keyed reaches upstream");
    assert_eq!(fills[1].header("x-my-trace"), None, "what is ignored doesn't");
    let vary = ask("a").send().joined("vary").to_ascii_lowercase();
    assert!(vary.contains("x-tenant"), "Vary names what the key holds: {vary}");
}

#[test]
fn edge_cookies_do_not_stop_storing() {
    let upstream = Faulty::start();
    let answer = Answer::json("[]")
        .header("Content-Range", "0-0/*")
        .header("Set-Cookie", "__cf_bm=x; path=/; HttpOnly");
    upstream.always(ROUTE, answer.header("Set-Cookie", "AWSALBCORS=y").act());
    let sluice = Setup::new(&upstream.url()).start();
    let first = sluice.get(TARGET).anonymous().send().expect(200).expect_stored();
    assert_eq!(first.header("set-cookie"), None, "edge cookies are dropped from what is shared");
    let second = sluice.get(TARGET).anonymous().send().expect(200).expect_hit();
    assert_eq!(second.header("set-cookie"), None);
}

#[test]
fn other_cookies_stop_storing_and_are_passed_on() {
    let upstream = Faulty::start();
    let answer = Answer::json("[]")
        .header("Content-Range", "0-0/*")
        .header("Set-Cookie", "__cf_bm=x")
        .header("Set-Cookie", "session=1");
    upstream.always(ROUTE, answer.act());
    let sluice = Setup::new(&upstream.url()).start();
    for _ in 0..2 {
        let answer = sluice.get(TARGET).anonymous().send().expect(200).expect_no_hit();
        assert!(answer.joined("set-cookie").contains("session=1"));
    }
    assert_eq!(upstream.count(ROUTE), 2);
}

#[test]
fn an_entry_keeps_no_header_that_belongs_to_one_answer() {
    let upstream = Faulty::start();
    let one_time = [
        "CF-Ray",
        "cf-cache-status",
        "sb-request-id",
        "X-Request-Id",
        "Server-Timing",
        "Alt-Svc",
        "NEL",
        "Report-To",
    ];
    let answer = Answer::json("[]")
        .header("Content-Range", "0-0/*")
        .header("X-Kept", "1")
        .header("Strict-Transport-Security", "max-age=9");
    let answer = one_time.iter().fold(answer, |answer, name| answer.header(name, "1"));
    upstream.always(ROUTE, answer.act());
    let sluice = Setup::new(&upstream.url()).start();
    sluice.get(TARGET).anonymous().send().expect_stored();
    let hit = sluice.get(TARGET).anonymous().send().expect_hit();
    for name in one_time.iter().chain(&["Strict-Transport-Security"]) {
        assert_eq!(hit.header(name), None, "{name}");
    }
    assert_eq!(hit.header("x-kept"), Some("1"));
}
