//! `freshness = "origin"`: RFC 9111 on upstream's own headers.

use crate::support::eventually;
use crate::support::faulty::{Answer, Faulty};
use crate::support::http::Response;
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::alice;

const TARGET: &str = "/storage/v1/object/public/b/o";

fn in_front(read: &str) -> (Faulty, Sluice) {
    let upstream = Faulty::start();
    let routes = format!(
        "[[route]]\nname = \"public\"\npath = '^/storage/v1/object/public/'\n[route.read]\nfreshness = \"origin\"\nscope = \"public\"\n{read}\n"
    );
    let sluice = Setup::new(&upstream.url()).routes(&routes).start();
    (upstream, sluice)
}

fn ask(sluice: &Sluice) -> Response {
    sluice.get(TARGET).send().expect(200)
}

#[test]
fn upstream_decides_what_is_stored_and_for_how_long() {
    let cases: [(&[(&str, &str)], bool); 14] = [
        (&[("Cache-Control", "max-age=60")], true),
        (&[("Cache-Control", "public, max-age=60")], true),
        (&[("Cache-Control", "max-age=0, s-maxage=60")], true),
        (&[("Cache-Control", "max-age=60, s-maxage=0")], false),
        (&[("Cache-Control", "no-store")], false),
        (&[("Cache-Control", "private, max-age=60")], false),
        (&[("Cache-Control", "no-cache, max-age=60")], false),
        (&[("Cache-Control", "max-age=60"), ("Age", "61")], false),
        (&[("Cache-Control", "max-age=60"), ("Age", "10")], true),
        (&[("Cache-Control", "max-age=60"), ("Vary", "*")], false),
        (&[("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")], false),
        (&[("Expires", "0")], false),
        (&[("Expires", "Fri, 01 Jan 2100 00:00:00 GMT")], true),
        (&[("Cache-Control", "max-age=60"), ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")], true),
    ];
    for (headers, hits) in cases {
        let (upstream, sluice) = in_front("ttl = \"0s\"");
        let answer =
            headers.iter().fold(Answer::new(200, "x"), |answer, (name, value)| answer.header(name, value));
        upstream.always(TARGET, answer.act());
        ask(&sluice).expect_no_hit();
        assert_eq!(ask(&sluice).is_hit(), hits, "{headers:?}");
    }
}

#[test]
fn the_routes_ttl_counts_where_upstream_says_nothing() {
    for (ttl, hits) in [("1h", true), ("0s", false)] {
        let (upstream, sluice) = in_front(&format!("ttl = \"{ttl}\""));
        upstream.always(TARGET, Answer::new(200, "x").act());
        ask(&sluice);
        assert_eq!(ask(&sluice).is_hit(), hits, "ttl = {ttl}");
    }
}

#[test]
fn an_expired_entry_is_validated_and_304_freshens_its_headers() {
    let (upstream, sluice) = in_front("");
    let first = Answer::new(200, "x")
        .header("Cache-Control", "max-age=1")
        .header("ETag", "\"v1\"")
        .header("X-Mark", "old");
    upstream.once(TARGET, first.act());
    let unchanged = Answer::new(304, "")
        .header("ETag", "\"v1\"")
        .header("Cache-Control", "max-age=3600")
        .header("X-Mark", "new");
    upstream.always(TARGET, unchanged.act());
    assert_eq!(ask(&sluice).header("etag"), Some("\"v1\""), "upstream's own ETag is kept");
    eventually("the entry is validated", || {
        upstream.count(TARGET) == 2 || {
            ask(&sluice);
            false
        }
    });
    assert_eq!(upstream.requests(TARGET)[1].header("if-none-match"), Some("\"v1\""));
    let hit = ask(&sluice).expect_hit();
    assert_eq!((hit.text().as_str(), hit.header("x-mark")), ("x", Some("new")));
    assert_eq!(upstream.count(TARGET), 2);
}

#[test]
fn last_modified_validates_too() {
    let (upstream, sluice) = in_front("");
    let date = "Fri, 01 Jan 2021 00:00:00 GMT";
    upstream.once(
        TARGET,
        Answer::new(200, "x").header("Cache-Control", "max-age=0").header("Last-Modified", date).act(),
    );
    upstream.always(TARGET, Answer::new(304, "").header("Cache-Control", "max-age=60").act());
    ask(&sluice);
    assert_eq!(ask(&sluice).text(), "x");
    assert_eq!(upstream.requests(TARGET)[1].header("if-modified-since"), Some(date));
    let conditional = sluice.get(TARGET).header("If-Modified-Since", date).send();
    conditional.expect(304).expect_hit();
}

#[test]
fn must_revalidate_forbids_stale_answers() {
    for (directive, status) in [("max-age=1", 200), ("max-age=1, must-revalidate", 502), ("s-maxage=1", 502)]
    {
        let (upstream, sluice) = in_front("stale_if_error = \"1h\"");
        upstream.always(TARGET, Answer::new(200, "x").header("Cache-Control", directive).act());
        ask(&sluice);
        upstream.go_down();
        eventually("the entry is past its time", || {
            let answer = sluice.get(TARGET).send();
            !answer.is_hit() && (answer.status == 502 || answer.cache_status().contains("stale-if-error"))
        });
        assert_eq!(sluice.get(TARGET).send().status, status, "{directive}");
    }
}

#[test]
fn stale_directives_of_rfc_5861_count() {
    let (upstream, sluice) = in_front("");
    let answer = |body: &str, control: &str| Answer::new(200, body).header("Cache-Control", control).act();
    upstream.once(TARGET, answer("old", "max-age=1, stale-while-revalidate=600"));
    upstream.always(TARGET, answer("new", "max-age=600"));
    ask(&sluice);
    let mut stale = None;
    eventually("it turns stale", || {
        let answer = ask(&sluice);
        if answer.cache_status().contains("revalidating") {
            stale = Some(answer);
        }
        stale.is_some()
    });
    assert_eq!(stale.unwrap().expect_hit().text(), "old");
    eventually("the refresh lands", || ask(&sluice).text() == "new");
}

#[test]
fn requests_directives_count_where_the_route_obeys_them() {
    for (obeyed, read) in [(true, "request_directives = \"obey\""), (false, "")] {
        let (upstream, sluice) = in_front(read);
        upstream.always(TARGET, Answer::new(200, "x").header("Cache-Control", "max-age=600").act());
        ask(&sluice);
        for directive in ["no-cache", "no-store", "max-age=0"] {
            let answer = sluice.get(TARGET).header("Cache-Control", directive).send().expect(200);
            assert_eq!(!answer.is_hit(), obeyed, "{directive}, obeyed: {obeyed}");
        }
        let cached = sluice.get(TARGET).header("Cache-Control", "only-if-cached").send();
        cached.expect(200).expect_hit();
        let missing =
            sluice.get("/storage/v1/object/public/b/other").header("Cache-Control", "only-if-cached").send();
        assert_eq!(missing.status == 504, obeyed, "only-if-cached on a miss gave {}", missing.status);
    }
}

#[test]
fn vary_of_upstream_counts() {
    let (upstream, sluice) = in_front("");
    let answer =
        |vary: &str| Answer::new(200, "x").header("Cache-Control", "max-age=600").header("Vary", vary).act();
    upstream.always(TARGET, answer("Accept-Encoding, Origin"));
    ask(&sluice);
    ask(&sluice).expect_hit();
    let (upstream, sluice) = in_front("");
    upstream.always(TARGET, answer("X-Unseen"));
    ask(&sluice);
    let other = sluice.get(TARGET).header("X-Unseen", "1").send();
    other.expect_no_hit();
}

#[test]
fn ranges_of_an_object_are_cut_from_the_entry() {
    let (upstream, sluice) = in_front("");
    upstream.always(
        TARGET,
        Answer::new(200, "0123456789").header("Cache-Control", "max-age=600").header("ETag", "\"v\"").act(),
    );
    ask(&sluice);
    let part = sluice.get(TARGET).header("Range", "bytes=2-4").send().expect(206).expect_hit();
    assert_eq!((part.text().as_str(), part.header("content-range")), ("234", Some("bytes 2-4/10")));
    let suffix = sluice.get(TARGET).header("Range", "bytes=-3").send().expect(206);
    assert_eq!(suffix.text(), "789");
    let beyond = sluice.get(TARGET).header("Range", "bytes=20-").send().expect(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    let changed = sluice.get(TARGET).header("Range", "bytes=2-4").header("If-Range", "\"other\"").send();
    assert_eq!(changed.expect(200).text(), "0123456789");
}

#[test]
fn public_objects_neither_need_nor_send_credentials() {
    let (upstream, sluice) = in_front("");
    upstream.always(TARGET, Answer::new(200, "x").header("Cache-Control", "max-age=600").act());
    sluice.get(TARGET).signed_in(alice().sign()).send().expect(200).expect_stored();
    assert_eq!(upstream.requests(TARGET)[0].header("authorization"), None);
    ask(&sluice).expect_hit();
    sluice.get(TARGET).bearer("forged").send().expect(200).expect_hit();
}

#[test]
fn an_answer_that_is_too_old_for_the_client_is_fetched_anew() {
    let (upstream, sluice) = in_front("request_directives = \"obey\"");
    upstream.always(TARGET, Answer::new(200, "x").header("Cache-Control", "max-age=60").act());
    ask(&sluice).expect_stored();
    eventually("it has an age", || ask(&sluice).header("age") != Some("0"));
    for directive in ["max-age=0", "min-fresh=1000"] {
        let before = upstream.count(TARGET);
        sluice.get(TARGET).header("Cache-Control", directive).send().expect(200).expect_no_hit();
        assert_eq!(upstream.count(TARGET), before + 1, "{directive}");
    }
}

#[test]
fn a_part_of_what_is_too_large_to_store_is_a_part() {
    let (upstream, sluice) = in_front("max_body = \"1KiB\"");
    let large = Answer::new(200, vec![b'x'; 10_000]).header("Cache-Control", "max-age=60");
    upstream.always(TARGET, large.act());
    ask(&sluice).expect_no_hit();
    let before = upstream.count(TARGET);
    ask(&sluice).expect_no_hit();
    assert_eq!(upstream.count(TARGET), before + 1, "a fill in vain");
    sluice.get(TARGET).header("Range", "bytes=0-9").send();
    assert_eq!(upstream.requests(TARGET).pop().unwrap().header("range"), Some("bytes=0-9"));
}

#[test]
fn an_unsafe_request_ends_what_its_path_gave() {
    let upstream = Faulty::start();
    let routes = "[[route]]\nname = \"f\"\npath = '^/functions/v1/'\n[route.read]\nfreshness = \"origin\"\n";
    let sluice = Setup::new(&upstream.url()).routes(routes).start();
    let target = "/functions/v1/settings?theme=1";
    upstream.always(
        "/functions/v1/settings",
        Answer::json("{}").header("Cache-Control", "public, max-age=60").act(),
    );
    upstream.always(
        "/functions/v1/other",
        Answer::json("{}").header("Cache-Control", "public, max-age=60").act(),
    );
    let ask = |target: &str| sluice.get(target).anonymous().send().expect(200);
    for path in [target, "/functions/v1/other"] {
        ask(path).expect_stored();
        ask(path).expect_hit();
    }
    sluice.request("PUT", "/functions/v1/settings").anonymous().body("{}").send().expect(200);
    ask(target).expect_stored();
    ask("/functions/v1/other").expect_hit();
}
