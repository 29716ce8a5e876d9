//! A replay names exactly the row, does what the request would have done, and nothing else.

use serde_json::{Value, json};

use super::{Queued, Scene, held, new_id, point, row, sql, upstream, whole_card};
use crate::support::http::Request;
use crate::support::token::{alice, anon_key, service_key};
use crate::support::{backend, unique};

/// Percent-encodes everything but letters and digits.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

/// Texts that mean something to a parser that they should not reach.
fn awkward() -> Vec<String> {
    let own = unique();
    [
        "a,b",
        "a.b",
        "a\"b",
        "a(b",
        "(a,b)",
        "a+b",
        "a b",
        " a ",
        "a%41",
        "%",
        "100%25",
        "a&b=c",
        "a#b",
        "a?b",
        "a;b",
        "ä/ö",
        "日本",
        "😀",
        "eq.x",
        "not.is.null",
        "is.null",
        "in.(a)",
        "null",
        "{a}",
        "a\\b",
        "\\",
        "*",
        "a*",
        "'",
        "a:b",
        "\"quoted\"",
        "05",
        "-1",
        "true",
        "a\tb",
        "a\nb",
        "\u{a0}",
        "e\u{301}",
    ]
    .map(|text| format!("{text}{own}{text}"))
    .to_vec()
}

#[test]
fn text_keys_of_any_spelling_reach_their_row_and_no_other() {
    let scene = Scene::new();
    let keys = awkward();
    let rows: Vec<_> =
        keys.iter().map(|key| format!("('{}', 'before', '2026-01-01')", key.replace('\'', "''"))).collect();
    sql(&format!("insert into labels (name, colour, updated_at) values {}", rows.join(", ")));
    let held = |key: &str| upstream(&format!("/rest/v1/labels?name=eq.{}", encoded(key))).json();
    for (index, key) in keys.iter().enumerate() {
        let target = format!("/rest/v1/labels?name=eq.{}", encoded(key));
        let request = scene.write(&alice(), "PATCH", &target, &json!({ "colour": index.to_string() }));
        let queued = Queued::of(request.header("Prefer", "return=representation").send());
        assert_eq!(queued.answer.json()[0]["name"], *key);
        let status = scene.ended(&alice(), &queued);
        assert_eq!(status["state"], "applied", "{key:?}: {status}");
        let row = held(key)[0].clone();
        assert_eq!(
            (&row["colour"], &row["updated_at"]),
            (&json!(index.to_string()), &json!(queued.updated_at)),
            "{key:?}"
        );
        assert_eq!(scene.read(&alice(), &target).json()[0]["colour"], index.to_string(), "{key:?}");
    }
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(held(key)[0]["colour"], index.to_string(), "{key:?} was overwritten by another's write");
    }
    for key in awkward() {
        let queued = scene.insert(&alice(), "labels", &json!({ "name": key, "colour": "inserted" }));
        scene.applied(&alice(), &queued);
        assert_eq!(held(&key)[0]["colour"], "inserted", "{key:?}");
    }
}

#[test]
fn composite_keys_need_every_column() {
    let scene = Scene::new();
    let hall = format!("a,b.{}", unique());
    sql(&format!(
        "insert into seats (hall, number, guest, updated_at) select '{hall}', n, 'before', '2026-01-01' from generate_series(1, 3) n"
    ));
    let target = |rest: &str| format!("/rest/v1/seats?hall=eq.{}{rest}", encoded(&hall));
    let body = json!({ "guest": "after" });
    for filter in ["&number=eq.2", "&number=eq.3"] {
        let queued = Queued::of(scene.write(&alice(), "PATCH", &target(filter), &body).send());
        scene.applied(&alice(), &queued);
    }
    let guests = |target: &str| -> Vec<Value> {
        upstream(target).json().as_array().unwrap().iter().map(|seat| seat["guest"].clone()).collect()
    };
    assert_eq!(guests(&target("&order=number")), ["before", "after", "after"]);
    super::forwarded(
        &scene.write(&alice(), "PATCH", &target(""), &json!({ "guest": "all" })).send().expect(204),
    );
    assert_eq!(guests(&target("")), ["all", "all", "all"]);
    let new = json!({ "hall": hall, "number": 4, "guest": "new" });
    let queued = scene.insert(&alice(), "seats", &new);
    scene.applied(&alice(), &queued);
    let merge = scene.write(
        &alice(),
        "POST",
        "/rest/v1/seats?on_conflict=hall,number",
        &json!({ "hall": hall, "number": 4, "guest": "merged" }),
    );
    let queued = Queued::of(merge.header("Prefer", "resolution=merge-duplicates").send());
    scene.applied(&alice(), &queued);
    assert_eq!(guests(&target("&number=eq.4")), ["merged"]);
}

#[test]
fn a_content_profile_is_another_schema() {
    let scene = Scene::new();
    let id = row("cards", "title", "'public'");
    sql(&format!("insert into other.cards (id, title, updated_at) values ({id}, 'other', '2026-01-01')"));
    let body = json!({ "title": "after" });
    let request =
        scene.write(&alice(), "PATCH", &point("cards", id), &body).header("Content-Profile", "other");
    let queued = Queued::of(request.header("Prefer", "return=representation").send());
    assert_eq!(
        queued.answer.json(),
        json!([{ "id": id, "title": "after", "updated_at": queued.updated_at }])
    );
    scene.applied(&alice(), &queued);
    let others =
        Request::new(&backend::shared().address(), "GET", &point("cards", id)).signed_in(service_key());
    assert_eq!(others.header("Accept-Profile", "other").send().expect(200).json()[0]["title"], "after");
    assert_eq!(held("cards", id)["title"], "public");
    assert_eq!(scene.sees(&alice(), "cards", id, "title"), "public");

    let request =
        scene.write(&alice(), "PATCH", &point("cards", id), &body).header("Content-Profile", "public");
    let queued = Queued::of(request.send());
    scene.applied(&alice(), &queued);
    assert_eq!(held("cards", id)["title"], "after");
}

#[test]
fn the_key_and_one_plain_filter_are_all_that_is_asked() {
    let scene = Scene::new();
    let id = row("cards", "title", "'before'");
    let queued = scene.patch(&alice(), "cards", id, &json!({ "title": "after" }));
    scene.applied(&alice(), &queued);
    let sent = scene.upstream.requests("PATCH /rest/v1/cards").pop().unwrap();
    let query: Vec<_> = sent.target.split_once('?').unwrap().1.split('&').collect();
    let stamp = format!("updated_at=lte.{}", queued.updated_at.replace('+', "%2B"));
    let decoded: Vec<_> = query.iter().map(|part| part.replace("%3A", ":").replace("%2C", ",")).collect();
    assert!(decoded.contains(&format!("id=eq.{id}")) && decoded.contains(&stamp), "{query:?}");
    assert!(!sent.target.contains("or=") && !sent.target.contains("and="), "{}", sent.target);
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body, json!({ "title": "after", "updated_at": queued.updated_at }));
    assert_eq!(sent.all("apikey"), [anon_key()]);
    assert_eq!(sent.all("authorization"), [format!("Bearer {}", alice().sign())]);
    assert_eq!(sent.header("prefer"), Some("return=representation"));
}

#[test]
fn rights_that_end_at_some_columns_suffice() {
    let scene = Scene::new();
    let badge = row("badges", "name", "'before'");
    let queued = scene.patch(&alice(), "badges", badge, &json!({ "name": "after" }));
    scene.applied(&alice(), &queued);
    assert_eq!(held("badges", badge)["name"], "after", "without the time that he may not set");
    let refused = scene.patch(&alice(), "badges", badge, &json!({ "grade": 5 }));
    scene.rejected(&alice(), &refused);
    assert_eq!(held("badges", badge)["grade"], 0);

    let letter = new_id();
    let queued = scene.insert(&alice(), "letters", &json!({ "id": letter, "text": "sent" }));
    scene.applied(&alice(), &queued);
    assert_eq!(held("letters", letter)["text"], "sent", "though he may not read it");
}

#[test]
fn an_upsert_inserts_where_nothing_is_and_changes_only_what_it_names() {
    let scene = Scene::new();
    let (there, absent) = (row("cards", "title, rank", "'before', 7"), new_id());
    for (id, rank) in [(there, 7), (absent, 0)] {
        let request =
            scene.write(&alice(), "POST", "/rest/v1/cards", &json!({ "id": id, "title": "upserted" }));
        let queued = Queued::of(request.header("Prefer", "resolution=merge-duplicates").send());
        scene.applied(&alice(), &queued);
        let row = held("cards", id);
        assert_eq!((&row["title"], &row["rank"]), (&json!("upserted"), &json!(rank)));
    }
}

#[test]
fn writes_to_an_inserted_row_follow_the_insert() {
    let scene = Scene::new();
    let id = new_id();
    let gate = scene.hold("POST cards");
    let inserted = scene.insert(&alice(), "cards", &whole_card(id, "new"));
    let patched = scene.patch(&alice(), "cards", id, &json!({ "title": "patched" }));
    assert_eq!(scene.sees(&alice(), "cards", id, "title"), "patched");
    gate.open();
    scene.applied(&alice(), &inserted);
    scene.applied(&alice(), &patched);
    let row = held("cards", id);
    assert_eq!((&row["title"], &row["updated_at"]), (&json!("patched"), &json!(patched.updated_at)));
}

#[test]
fn a_routes_vary_headers_go_along() {
    let scene = Scene::with(|setup| {
        setup.write("table = \"cards\"", "ttl = \"1h\"\nscope = \"user\"\nvary = [\"X-Tenant\"]", "")
    });
    let id = row("cards", "title", "'before'");
    let request = scene.write(&alice(), "PATCH", &point("cards", id), &json!({ "title": "after" }));
    let queued = Queued::of(request.header("X-Tenant", "acme").header("X-Client-Info", "tests").send());
    scene.applied(&alice(), &queued);
    let sent = scene.upstream.requests("PATCH /rest/v1/cards").pop().unwrap();
    assert_eq!(sent.all("x-tenant"), ["acme"]);
}
