//! Odd and oversized input: a clear error or plain forwarding, no panic, no hang, nothing cached.

use crate::support::backend;
use crate::support::faulty::{Answer, Faulty};
use crate::support::http::Connection;
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{alice, anon_key, bob};

const TARGET: &str = "/rest/v1/users?id=eq.1";

fn in_front() -> (Faulty, Sluice) {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice = Setup::new(&upstream.url()).start();
    (upstream, sluice)
}

fn still_works(sluice: &Sluice) {
    sluice.get(TARGET).anonymous().send().expect(200);
    sluice.get(TARGET).anonymous().send().expect(200).expect_hit();
}

#[test]
fn too_many_or_too_large_headers_are_431() {
    let (upstream, sluice) = in_front();
    let many = (0..300)
        .fold(sluice.get(TARGET).anonymous(), |request, n| request.header(&format!("X-Header-{n}"), "x"));
    let error = many.send().expect(431);
    assert!(error.json()["code"].as_str().unwrap().starts_with("SLUICE"), "{}", error.text());
    let large = sluice.get(TARGET).header("X-Large", "x".repeat(70_000)).send();
    assert_eq!(large.status, 431);
    assert_eq!(upstream.count(TARGET), 0, "it reached upstream");
    let allowed = (0..150)
        .fold(sluice.get(TARGET).anonymous(), |request, n| request.header(&format!("X-Header-{n}"), "x"));
    allowed.send().expect(200).expect_bypass("header-");
    still_works(&sluice);
}

#[test]
fn a_long_query_is_forwarded_or_refused() {
    let (upstream, sluice) = in_front();
    // PostgREST itself takes no more than 50 kB of headers.
    let ids = (0..6_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let answer =
        sluice.get(&format!("/rest/v1/users?id=in.({ids})&order=id&limit=50")).anonymous().send().expect(200);
    assert_eq!(answer.json().as_array().unwrap().len(), 50);
    let query = format!("name=eq.{}", "x".repeat(60_000));
    upstream.once(&format!("/rest/v1/users?{query}"), Answer::json("[]").act());
    sluice.get(&format!("/rest/v1/users?{query}")).send().expect(200);
    let refused = sluice.get(&format!("/rest/v1/users?name=eq.{}", "x".repeat(65_536))).anonymous().send();
    assert!(matches!(refused.status, 414 | 431), "{}", refused.status);
    still_works(&sluice);
}

#[test]
fn malformed_percent_encoding_is_forwarded_and_never_cached() {
    let (upstream, sluice) = in_front();
    for target in [
        "/rest/v1/users?id=eq.%zz",
        "/rest/v1/users?name=eq.%",
        "/rest/v1/us%2",
        "/rest/v1/users?name=eq.%ff%fe",
        "/rest/v1/%ff%00",
    ] {
        for _ in 0..2 {
            let answer = sluice.get(target).anonymous().send();
            assert!(!answer.is_hit(), "{target}: {}", answer.cache_status());
        }
    }
    assert!(upstream.count("GET /rest/v1/users") >= 2, "they are forwarded");
    still_works(&sluice);
}

#[test]
fn bytes_that_are_not_utf8_in_a_path_do_no_harm() {
    let (_upstream, sluice) = in_front();
    for path in [&b"/rest/v1/us\xffers"[..], b"/rest/v1/\xc3\x28", b"/\x80"] {
        let mut connection = Connection::open(sluice.address()).unwrap();
        connection.write(&[b"GET ", path, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat()).unwrap();
        if let Ok(answer) = connection.read("GET") {
            assert!(!answer.is_hit() && (400..600).contains(&answer.status), "{answer:?}");
        }
    }
    still_works(&sluice);
}

#[test]
fn paths_with_several_readings_are_never_cached() {
    let (_upstream, sluice) = in_front();
    for target in [
        "/rest/v1//users?id=eq.1",
        "/rest/v1/./users?id=eq.1",
        "/rest/v1/x/../users?id=eq.1",
        "/rest/v1/users/?id=eq.1",
        "/rest/v1/%2e%2e/v1/users",
    ] {
        for _ in 0..2 {
            let answer = sluice.get(target).anonymous().send();
            assert!(!answer.is_hit(), "{target}: {}", answer.cache_status());
        }
    }
    still_works(&sluice);
}

#[test]
fn repeated_credentials_are_nobodys() {
    let (_upstream, sluice) = in_front();
    let target = "/rest/v1/profiles";
    sluice.get(target).signed_in(alice().sign()).send().expect(200).expect_stored();
    let (alices, bobs) = (alice().sign(), bob().sign());
    for (first, second) in [(&alices, &bobs), (&bobs, &alices), (&alices, &alices)] {
        let answer = sluice.get(target).signed_in(first).bearer(second).send();
        assert!(!answer.is_hit(), "{}", answer.cache_status());
    }
    let answer = sluice.get(target).signed_in(&alices).apikey("another").send();
    assert!(!answer.is_hit(), "two apikeys: {}", answer.cache_status());
    let answer = sluice.get(&format!("{target}?apikey={}", bob().sign())).apikey(anon_key()).send();
    assert!(!answer.text().contains("of alice"));
    sluice.get(target).signed_in(alice().sign()).send().expect_hit();
}

#[test]
fn a_select_a_thousand_levels_deep_is_forwarded() {
    let (upstream, sluice) = in_front();
    let select = "posts(".repeat(1000) + "id" + &")".repeat(1000);
    for select in [select.as_str(), &"(".repeat(5000), "id,posts(", "))))", &"a:".repeat(3000)] {
        for _ in 0..2 {
            let answer = sluice.get(&format!("/rest/v1/users?select={select}")).anonymous().send();
            assert!(!answer.is_hit());
        }
    }
    assert!(upstream.count("GET /rest/v1/users") >= 10, "they are forwarded");
    still_works(&sluice);
}

#[test]
fn a_body_that_is_cut_off_writes_nothing_and_invalidates() {
    let sluice = Setup::new(&backend::shared().url()).start();
    still_works(&sluice);
    for head in
        ["Content-Length: 1000\r\n\r\n{\"name\":", "Transfer-Encoding: chunked\r\n\r\n8\r\n{\"name\":"]
    {
        let mut connection = Connection::open(sluice.address()).unwrap();
        let key = anon_key();
        let text = format!(
            "PATCH {TARGET} HTTP/1.1\r\nHost: x\r\napikey: {key}\r\nContent-Type: application/json\r\n{head}"
        );
        connection.write(text.as_bytes()).unwrap();
        connection.stream().shutdown(std::net::Shutdown::Write).unwrap();
        if let Ok(answer) = connection.read("PATCH") {
            assert!(answer.status >= 400, "{answer:?}");
        }
    }
    assert_eq!(sluice.get(TARGET).anonymous().send().expect(200).json()[0]["name"], "user 1");
    // Upstream can't carry out what it never saw the end of, so fills are kept at once.
    sluice.get(TARGET).anonymous().send().expect(200).expect_hit();
}

#[test]
fn a_slow_head_is_given_up() {
    let sluice = Setup::new(&backend::shared().url()).section("limits", "header_timeout = \"500ms\"").start();
    let mut connection = Connection::open(sluice.address()).unwrap();
    connection.write(b"GET /rest/v1/users HTTP/1.1\r\nHost:").unwrap();
    // 408 or a closed connection: what matters is that it doesn't wait for ever.
    let rest = connection.read_to_end().unwrap();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&rest));
    still_works(&sluice);
}

#[test]
fn random_bytes_do_no_harm() {
    let (_upstream, sluice) = in_front();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut random = crate::support::Random::new(seed);
    for _ in 0..200 {
        let mut bytes = sluice.get(TARGET).anonymous().encode();
        for _ in 0..=random.below(4) {
            let index = random.below(bytes.len() as u64) as usize;
            bytes[index] = random.next() as u8;
        }
        let mut connection = Connection::open(sluice.address()).unwrap();
        connection.write(&bytes).unwrap();
        connection.stream().shutdown(std::net::Shutdown::Write).unwrap();
        let _ = connection.read_to_end();
    }
    still_works(&sluice);
}

#[test]
fn a_target_is_taken_as_curl_sends_it() {
    let (upstream, sluice) = in_front();
    let answer = sluice.get("/rest/v1/users?name=in.(\"user 1\")").anonymous().try_send();
    // A space is never part of a target.
    assert!(answer.is_err() || answer.unwrap().status == 400);
    let answer = sluice.get("/rest/v1/users?name=in.(\"user%201\")").anonymous().send().expect(200);
    assert_eq!(answer.json()[0]["name"], "user 1");
    assert_eq!(
        upstream.requests("/rest/v1/users").pop().unwrap().target,
        "/rest/v1/users?name=in.(%22user%201%22)"
    );
}

#[test]
fn without_memory_nothing_is_called_stored() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice = Setup::new(&upstream.url()).section("store", "memory = \"0\"").start();
    for _ in 0..2 {
        let answer = sluice.get(TARGET).anonymous().send().expect(200);
        let status = answer.header("cache-status").unwrap_or_default().to_owned();
        assert!(status.starts_with("sluice; fwd=uri-miss") && !status.contains("stored"), "{status}");
    }
}

#[test]
fn connection_can_not_take_the_length_away() {
    let (upstream, sluice) = in_front();
    let refused = sluice.request("POST", "/rest/v1/rpc/addone").header("Connection", "content-length");
    let answer = refused.body("{\"n\": 1}").send();
    assert_eq!(answer.status, 400);
    assert_eq!(upstream.count("/rest/v1/rpc/addone"), 0, "it reached upstream without its body");
    still_works(&sluice);
}
