//! What a 202 says, and that upstream says the same later.

use serde_json::json;

use super::{BY_USER, Queued, Scene, TABLES, card, held, new_id, point, row, sql, upstream, whole_card};
use crate::support::backend;
use crate::support::http::{Request, Response};
use crate::support::token::{Token, alice};

fn preferences(answer: &Response) -> Vec<String> {
    let mut applied: Vec<_> =
        answer.joined("preference-applied").split(',').map(|text| text.trim().to_owned()).collect();
    applied.sort();
    applied
}

#[test]
fn it_says_where_to_ask_and_when_the_row_was_written() {
    let scene = Scene::new();
    let id = card("before");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    assert!(queued.answer.body.is_empty(), "{}", queued.answer.text());
    assert_eq!(queued.answer.header("location"), Some(format!("/sluice/v1/writes/{}", queued.id).as_str()));
    let groups: Vec<_> = queued.id.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12], "a UUID: {}", queued.id);
    assert!(queued.id.chars().nth(14) == Some('7'), "version 7: {}", queued.id);
    scene.applied(&alice(), &queued);
    let row = held("cards", id);
    assert_eq!((&row["title"], &row["updated_at"]), (&json!("after"), &json!(queued.updated_at)));
}

#[test]
fn a_representation_is_the_row_as_upstream_prints_it_later() {
    let scene = Scene::new();
    let object = "application/vnd.pgrst.object+json";
    for (select, accept) in [
        ("", "*/*"),
        ("&select=*", "application/json"),
        ("&select=title,id", "application/json"),
        ("&select=updated_at,rank,title", object),
        ("&select=*", object),
    ] {
        let id = card("bef\"öre");
        let target = format!("{}{select}", point("cards", id));
        let request = scene.write(
            &alice(),
            "PATCH",
            &target,
            &json!({ "rank": 7, "title": "ä\t\"\\ 😀", "body": null }),
        );
        let request = request.header("Accept", accept).header("Prefer", "return=representation");
        let queued = Queued::of(request.send());
        assert_eq!(preferences(&queued.answer), ["return=representation"], "{select}");
        scene.applied(&alice(), &queued);
        let later = Request::new(&backend::shared().address(), "GET", &target).signed_in(alice().sign());
        let later = later.header("Accept", accept).send().expect(200);
        assert_eq!(queued.answer.text(), later.text(), "{select}, {accept}");
        assert_eq!(queued.answer.header("content-type"), later.header("content-type"), "{select}, {accept}");
    }
}

#[test]
fn inserts_upserts_and_puts_are_answered_alike() {
    let scene = Scene::new();
    let (inserted, merged, fresh, put) = (new_id(), card("before"), new_id(), card("before"));
    let merge = "resolution=merge-duplicates, return=representation";
    for (method, target, prefer, id) in [
        ("POST", "/rest/v1/cards".to_owned(), "return=representation", inserted),
        ("POST", "/rest/v1/cards?select=*".to_owned(), merge, merged),
        ("POST", "/rest/v1/cards?on_conflict=id".to_owned(), merge, fresh),
        ("PUT", point("cards", put), "return=representation", put),
    ] {
        let request = scene.write(&alice(), method, &target, &whole_card(id, "after"));
        let queued = Queued::of(request.header("Prefer", prefer).send());
        scene.applied(&alice(), &queued);
        assert_eq!(queued.answer.text(), upstream(&point("cards", id)).text(), "{method} {target}");
        assert_eq!(held("cards", id)["title"], "after");
    }
}

#[test]
fn preferences_are_applied_as_upstream_says_it() {
    let scene = Scene::new();
    for (method, prefer) in [
        ("PATCH", "return=minimal"),
        ("PATCH", "return=representation"),
        ("POST", "return=minimal"),
        ("POST", "resolution=merge-duplicates"),
        ("POST", "resolution=merge-duplicates,return=representation"),
        ("POST", "return=minimal, resolution=merge-duplicates"),
    ] {
        let send = |address: &str| {
            let id = if method == "PATCH" { card("before") } else { new_id() };
            let target = if method == "PATCH" { point("cards", id) } else { "/rest/v1/cards".into() };
            let request = Request::new(address, method, &target).signed_in(alice().sign());
            request.header("Prefer", prefer).json(&whole_card(id, "after")).send()
        };
        let queued = Queued::of(send(scene.sluice.address()));
        let upstreams = send(&backend::shared().address());
        assert_eq!(preferences(&queued.answer), preferences(&upstreams), "{method}, {prefer}");
        assert_eq!(queued.answer.body.is_empty(), upstreams.body.is_empty(), "{method}, {prefer}");
        scene.applied(&alice(), &queued);
    }
}

#[test]
fn the_time_is_sluices_own_and_later_than_any_other_of_the_row() {
    let scene = Scene::new();
    let _gate = scene.hold("PATCH cards");
    let id = card("before");
    // Times as PostgREST prints them in UTC sort as text once the fraction has all its digits.
    let padded = |time: &str| {
        let time = time.strip_suffix("+00:00").unwrap_or_else(|| panic!("not UTC: {time}"));
        let (second, fraction) = time.split_once('.').unwrap_or((time, ""));
        assert!(!fraction.ends_with('0') && fraction.len() <= 6, "{time}");
        format!("{second}.{fraction:0<6}")
    };
    let mut last = padded(held("cards", id)["updated_at"].as_str().unwrap());
    for time in ["2099-01-01T00:00:00+00:00", "2001-01-01T00:00:00Z", "2026-01-01T00:00:00.123+05:30"] {
        let queued = scene.patch(&alice(), "cards", id, &json!({ "title": time, "updated_at": time }));
        let stamped = padded(&queued.updated_at);
        assert!(stamped > last && stamped.as_str() < "2099", "{stamped} after {last}");
        last = stamped;
    }

    let ahead = new_id();
    sql(&format!("insert into cards (id, updated_at) values ({ahead}, '2098-01-01T00:00:00.999999+00')"));
    for expected in ["2098-01-01T00:00:01+00:00", "2098-01-01T00:00:01.000001+00:00"] {
        let queued = scene.patch(&alice(), "cards", ahead, &json!({ "title": expected }));
        assert_eq!(queued.updated_at, expected);
    }
}

#[test]
fn a_time_without_a_zone_is_written_without_one() {
    let scene = Scene::new();
    let id = row("local_times", "name", "'before'");
    let queued = scene.patch(&alice(), "local_times", id, &json!({ "name": "after" }));
    assert!(!queued.updated_at.contains('+') && !queued.updated_at.contains('Z'), "{}", queued.updated_at);
    scene.applied(&alice(), &queued);
    assert_eq!(held("local_times", id)["updated_at"], queued.updated_at);
}

#[test]
fn scripts_of_other_origins_may_read_it() {
    let origin = "https://app.example.com";
    let narrow = format!("allow_origins = [\"{origin}\"]");
    for (scene, allowed) in [
        (Scene::new(), "*"),
        (Scene::with(|setup| setup.write(TABLES, BY_USER, "").section("cors", &narrow)), origin),
    ] {
        let id = card("before");
        let request = scene.write(&alice(), "PATCH", &point("cards", id), &json!({ "title": "after" }));
        let queued = Queued::of(request.header("Origin", origin).send());
        assert_eq!(queued.answer.header("access-control-allow-origin"), Some(allowed));
        let exposed = queued.answer.joined("access-control-expose-headers").to_ascii_lowercase();
        for name in ["sluice-write", "location", "preference-applied"] {
            assert!(exposed.contains(name), "{name}: {exposed}");
        }
        let status = scene.sluice.get(&format!("/sluice/v1/writes/{}", queued.id)).signed_in(alice().sign());
        let status = status.header("Origin", origin).send().expect(200);
        assert_eq!(status.header("access-control-allow-origin"), Some(allowed));
    }
}

#[test]
fn metrics_count_each_write_from_its_202_to_its_end() {
    let scene = Scene::new();
    let gate = scene.hold("PATCH cards");
    let writes: Vec<_> = (0..3)
        .map(|_| scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" })))
        .collect();
    let refused = scene.patch(&alice(), "cards", card("before"), &json!({ "rank": -1 }));
    let metric = |series: &str| scene.sluice.metric(series);
    assert_eq!(metric("sluice_queue_depth"), 4.0);
    let count = |state: &str| {
        let text = scene.sluice.admin("GET", "/metrics").send().expect(200).text();
        let wanted = [format!("state=\"{state}\""), "route=\"deferring-1\"".to_owned()];
        let lines = text.lines().filter(|line| {
            line.starts_with("sluice_writes_total{") && wanted.iter().all(|label| line.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    gate.open();
    writes.iter().for_each(|write| scene.applied(&alice(), write));
    scene.rejected(&alice(), &refused);
    assert_eq!((count("applied"), count("rejected"), metric("sluice_queue_depth")), (3.0, 1.0, 0.0));
    let text = scene.sluice.admin("GET", "/metrics").send().text();
    let queued = text.lines().filter(|line| line.starts_with("sluice_requests_total{"));
    assert_eq!(
        queued.filter(|line| line.contains("outcome=\"queued\"") && line.contains("deferring-1")).count(),
        1
    );
}

#[test]
fn a_refreshed_token_of_the_writer_may_ask_for_it() {
    let scene = Scene::new();
    let queued = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    let other_session = alice().refreshed().claim("session_id", "another");
    scene.applied(&other_session, &queued);
    let elsewhere: Token = alice().claim("iss", "http://elsewhere/auth/v1");
    scene.status(&elsewhere, &queued.id).expect(404);
}
