//! Whatever a body holds: it ends as it would have without Sluice, and a 202 says what upstream holds later.

use serde_json::{Value, json};

use super::{Queued, Scene, card, forwarded, held, point, sql, upstream};
use crate::support::http::{Request, Response};
use crate::support::token::{alice, bob};
use crate::support::{backend, unique};

/// Sends `body` to one of two equal gadgets through Sluice, and to the other past it.
#[track_caller]
fn ends_as_without(scene: &Scene, body: &[u8], prefer: &str) {
    let named = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    let ids = [unique(), unique()].map(|number| format!("6ad6e700-0000-4000-8000-{number:012}"));
    let rows = ids.each_ref().map(|id| format!("('{id}', 'before', 'calm', '{{\"a\": 1}}', '2026-01-01')"));
    sql(&format!("insert into gadgets (id, name, mood, spec, updated_at) values {}", rows.join(", ")));
    let [through, past] = &ids;
    let send = |address: &str, id: &str| {
        let request =
            Request::new(address, "PATCH", &format!("/rest/v1/gadgets?id=eq.{id}")).signed_in(alice().sign());
        request.header("Content-Type", "application/json").header("Prefer", prefer).body(body).send()
    };
    let expected = send(&backend::shared().address(), past);
    let answer = send(scene.sluice.address(), through);
    let row = |id: &str| upstream(&format!("/rest/v1/gadgets?id=eq.{id}"));
    if answer.status == 202 {
        assert!(expected.status < 300, "{named}: upstream says {} {}", expected.status, expected.text());
        let queued = Queued::of(answer);
        scene.applied(&alice(), &queued);
        if prefer == "return=representation" {
            assert_eq!(queued.answer.text(), row(through).text(), "{named}: what the 202 said");
        }
    } else {
        forwarded(&answer);
        let text = |answer: &Response, id: &str| answer.text().replace(id, "{id}");
        assert_eq!(
            (answer.status, text(&answer, through)),
            (expected.status, text(&expected, past)),
            "{named}"
        );
    }
    let content = |id: &str| {
        let mut row = row(id).text().replace(id, "{id}");
        let time = row.rfind(",\"updated_at\":").unwrap_or(row.len());
        row.truncate(time);
        row
    };
    assert_eq!(content(through), content(past), "{named}");
    let kept = scene.read(&alice(), &format!("/rest/v1/gadgets?id=eq.{through}"));
    assert_eq!(kept.text(), row(through).text(), "{named}: what the writer reads");
}

#[track_caller]
fn all_end_as_without(column: &str, values: &[&str]) {
    let scene = Scene::new();
    for (index, value) in values.iter().enumerate() {
        let prefer = if index % 2 == 0 { "return=representation" } else { "return=minimal" };
        ends_as_without(&scene, format!("{{\"{column}\":{value}}}").as_bytes(), prefer);
    }
}

#[test]
fn integers_keep_every_digit_and_never_overflow() {
    all_end_as_without(
        "big",
        &[
            "9007199254740993",
            "-9223372036854775808",
            "9223372036854775807",
            "9223372036854775808",
            "1.0",
            "1e3",
            "1.5",
            "-0",
            "\"12\"",
            "\" 12 \"",
            "\"0x10\"",
            "\"\"",
            "null",
            "true",
            "[1]",
        ],
    );
    all_end_as_without("small", &["32767", "32768", "-32769", "1e2"]);
}

#[test]
fn other_numbers_are_answered_as_upstream_prints_them() {
    let values = [
        "0.10",
        "1e2",
        "1E-7",
        "12345678901234567890.123456789",
        "-0.0",
        "1e400",
        "\"NaN\"",
        "\"1.50\"",
        "null",
        "100",
        "\"Infinity\"",
    ];
    all_end_as_without("price", &values);
    all_end_as_without("fixed", &["1.005", "12.3", "99999999.99", "123456789.99", "1"]);
    all_end_as_without(
        "weight",
        &["0.1", "1e308", "1e309", "5e-324", "1e-400", "1e16", "100000000000000000000", "1.10", "-0.0"],
    );
    all_end_as_without("ratio", &["0.1", "16777217", "3.4e39", "1.5"]);
}

#[test]
fn texts_of_any_kind_survive_or_are_refused_alike() {
    let values = [
        "\"twelve chars\"",
        "\"thirteen char\"",
        "\"ten chars.      \"",
        "\"äöüäöüäöüäöü\"",
        "\"a\\u0000b\"",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"\\u00e4\\/\\b\\f\\n\\r\\t\"",
        "\"\\u007f\\u2028\"",
        "\"\"",
        "5",
        "true",
        "{\"a\":1}",
        "null",
    ];
    all_end_as_without("name", &values);
    all_end_as_without("mood", &["\"keen\"", "\"KEEN\"", "\"odd one\"", "\"\"", "null", "1"]);
    all_end_as_without("active", &["true", "\"t\"", "\"yes\"", "\"TRUE\"", "1", "0", "null", "\"\""]);
}

#[test]
fn times_are_answered_as_upstream_prints_them() {
    all_end_as_without(
        "made",
        &["\"2026-02-28\"", "\"2026-02-30\"", "\"20260228\"", "\"infinity\"", "\"2026-2-8\"", "null"],
    );
    let values = [
        "\"2026-02-01T10:00:00\"",
        "\"2026-02-01 10:00:00.1234567\"",
        "\"2026-02-01T10:00:00.100\"",
        "\"2026-02-01T10:00:00Z\"",
        "\"2026-02-01T10:00:00+02:00\"",
        "\"2026-02-01T24:00:00\"",
        "\"2026-02-01T23:59:60\"",
        "\"0044-03-15 BC\"",
        "\"epoch\"",
        "null",
    ];
    all_end_as_without("seen", &values);
}

#[test]
fn documents_and_arrays_are_answered_as_upstream_prints_them() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let values = [
        "{\"b\":1,\"a\":2}",
        "{\"a\":1,\"a\":2}",
        "{\"aa\":1,\"b\":2,\"\":3}",
        "1.10",
        "1e2",
        "\"text\"",
        "[]",
        "{}",
        "null",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":[1, 2,{\"ä\":null}]}",
        &deep,
    ];
    all_end_as_without("spec", &values);
    all_end_as_without("raw", &["{\"b\": 1,  \"a\":2}", "{\"a\":1,\"a\":2}", "[1.10]", "\"x\"", "null"]);
    let arrays = [
        "[\"a\",\"b\"]",
        "[]",
        "\"{a,b}\"",
        "[[\"a\"],[\"b\"]]",
        "[null,\"NULL\"]",
        "[\"a,b\",\"\\\"\",\"\\\\\"]",
        "[1]",
        "null",
        "\"a\"",
        "[\"\"]",
    ];
    all_end_as_without("tags", &arrays);
    all_end_as_without("counts", &["[1,2]", "[1,\"2\"]", "[1,\"x\"]", "[[1],[2]]", "[1.5]", "[]"]);
}

#[test]
fn bodies_that_are_no_object_are_answered_by_upstream() {
    let scene = Scene::new();
    let nested = format!("{}{}", "{\"spec\":".repeat(5000), "1".to_owned() + &"}".repeat(5000));
    let bodies: [&[u8]; 12] = [
        b"",
        b" ",
        b"nonsense",
        b"{",
        b"{}{}",
        b"{\"name\":}",
        b"{'name':'x'}",
        b"\"name\"",
        b"{\"name\":\"\xff\xfe\"}",
        b"\xef\xbb\xbf{\"name\":\"x\"}",
        b"{\"name\":\"x\",}",
        nested.as_bytes(),
    ];
    for body in bodies {
        ends_as_without(&scene, body, "return=representation");
    }
    for body in [
        "{\"name\":\"a\",\"n\\u0061me\":\"b\"}",
        "{\"NAME\":\"x\"}",
        "{\"\":1}",
        "{\"name\":\"x\",\"constructor\":1}",
    ] {
        ends_as_without(&scene, body.as_bytes(), "return=representation");
    }
    ends_as_without(&scene, format!("{{\"spec\":\"{}\"}}", "x".repeat(65_000)).as_bytes(), "return=minimal");
    ends_as_without(&scene, format!("{{\"spec\":\"{}\"}}", "x".repeat(65_536)).as_bytes(), "return=minimal");
}

#[test]
fn a_body_that_names_another_row_touches_neither_unasked() {
    let scene = Scene::new();
    let (mine, other) = (card("mine"), card("other"));
    let body = json!({ "id": other, "title": "taken" });
    let answer = scene.write(&alice(), "PATCH", &point("cards", mine), &body).send().expect(409);
    forwarded(&answer);
    assert_eq!(
        (&held("cards", mine)["title"], &held("cards", other)["title"]),
        (&json!("mine"), &json!("other"))
    );
    for id in [mine, other] {
        assert_ne!(scene.sees(&alice(), "cards", id, "title"), "taken");
    }
}

#[test]
fn another_spelling_of_a_key_is_the_same_row() {
    let scene = Scene::new();
    let id = card("0");
    for (round, spelling) in
        [format!("0{id}"), format!("%20{id}"), format!("{id}%20"), format!("%2B{id}")].iter().enumerate()
    {
        let title = (round + 1).to_string();
        let answer = scene
            .write(&alice(), "PATCH", &format!("/rest/v1/cards?id=eq.{spelling}"), &json!({ "title": title }))
            .send();
        assert!(matches!(answer.status, 202 | 204), "{spelling}: {}", answer.text());
        assert_eq!(scene.sees(&alice(), "cards", id, "title"), title, "written as eq.{spelling}");
        if answer.status == 202 {
            scene.applied(&alice(), &Queued::of(answer));
        }
        assert_eq!(held("cards", id)["title"], title, "written as eq.{spelling}");
        let queued = scene.patch(&alice(), "cards", id, &json!({ "body": title }));
        scene.applied(&alice(), &queued);
    }
}

#[test]
fn ids_that_are_no_write_of_the_callers_are_all_the_same_404() {
    let scene = Scene::new();
    let queued = scene.patch(&alice(), "cards", card("before"), &json!({ "title": "after" }));
    let nothing = scene.status(&bob(), "01990000-0000-7000-8000-000000000000").expect(404);
    let shape = |answer: &Response| (answer.status, answer.json()["code"].clone());
    let long = "a".repeat(5000);
    for id in [
        queued.id.as_str(),
        "",
        "x",
        "0",
        "%00",
        "..%2f..%2fetc",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "{01990000-0000-7000-8000-000000000000}",
        &queued.id.replace('-', ""),
        &queued.id[..35],
        &format!("{}0", queued.id),
        &format!("{}/", queued.id),
        &long,
    ] {
        let answer = scene.status(&bob(), id);
        assert_eq!(shape(&answer), shape(&nothing), "{id}: {}", answer.text());
    }
    let code: Value = nothing.json()["code"].clone();
    assert!(code.as_str().is_some_and(|code| code.starts_with("SLUICE")), "{code}");
    scene.applied(&alice(), &queued);
}
