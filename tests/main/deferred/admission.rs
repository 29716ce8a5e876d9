//! What isn't provably safe to defer is forwarded unchanged, awaited, and told why.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{
    BY_USER, Queued, Scene, TABLES, card, forwarded, held, new_id, point, row, somebody, sql, told_to_wait,
    upstream,
};
use crate::support::http::{Request, Response};
use crate::support::token::{PUBLISHABLE_KEY, SECRET_KEY, Token, alice, anon_key, bob, service_key};
use crate::support::{backend, eventually};

/// A write; `{id}` in the target and in the body is the row's key.
struct Case<'a> {
    method: &'a str,
    target: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a str,
}

fn case<'a>(method: &'a str, target: &'a str, headers: &'a [(&'a str, &'a str)], body: &'a str) -> Case<'a> {
    Case { method, target, headers, body }
}

impl Case<'_> {
    fn send(&self, address: &str, who: &Token, id: u64) -> Response {
        let filled = |text: &str| text.replace("{id}", &id.to_string());
        let mut request = Request::new(address, self.method, &filled(self.target))
            .signed_in(who.sign())
            .body(filled(self.body));
        for (name, value) in self.headers {
            request = request.header(name, filled(value));
        }
        if !self.headers.iter().any(|(name, _)| *name == "Content-Type") {
            request = request.header("Content-Type", "application/json");
        }
        request.send()
    }

    /// Sends it through Sluice to one row and past it to a twin: all must be equal, and a reason given.
    #[track_caller]
    fn is_forwarded(&self, scene: &Scene, reason: &str) {
        let [through, past] = twins();
        let who = alice();
        let expected = self.send(&backend::shared().address(), &who, past);
        let answer = self.send(scene.sluice.address(), &who, through);
        let text = |answer: &Response, id: u64| answer.text().replace(&id.to_string(), "{id}");
        let name = format!("{} {} {:?} {:.80}", self.method, self.target, self.headers, self.body);
        assert_eq!(forwarded(&answer), reason, "{name}");
        assert_eq!(
            (answer.status, text(&answer, through)),
            (expected.status, text(&expected, past)),
            "{name}"
        );
        for header in ["content-type", "content-range", "preference-applied", "location"] {
            let shown = |answer: &Response, id: u64| answer.joined(header).replace(&id.to_string(), "{id}");
            assert_eq!(shown(&answer, through), shown(&expected, past), "{header}: {name}");
        }
        let [left, right] = [through, past].map(|id| upstream(&point("cards", id)).text());
        assert_eq!(
            left.replace(&through.to_string(), "{id}"),
            right.replace(&past.to_string(), "{id}"),
            "what upstream holds after {name}"
        );
    }
}

/// Two cards that differ in nothing but their keys.
fn twins() -> [u64; 2] {
    let ids = [new_id(), new_id()];
    for id in ids {
        sql(&format!(
            "insert into cards (id, deck, title, updated_at) values ({id}, {id}, 'before', '2026-01-02T03:04:05.678+00')"
        ));
    }
    ids
}

const CARD: &str = "/rest/v1/cards?id=eq.{id}";
const CARDS: &str = "/rest/v1/cards";
const TITLE: &str = r#"{"title":"after"}"#;
/// With its time, which upstream's default would make differ.
const DATED: &str = r#"{"title":"after","updated_at":"2026-01-01T00:00:00Z"}"#;
const REPRESENTATION: (&str, &str) = ("Prefer", "return=representation");

#[test]
fn a_filter_that_is_not_exactly_the_key_is_forwarded() {
    let scene = Scene::new();
    for (target, reason) in [
        ("/rest/v1/cards?deck=eq.{id}", "parameter"),
        ("/rest/v1/cards?id=in.({id})", "filter"),
        ("/rest/v1/cards?id=eq.{id}&rank=eq.0", "parameter"),
        ("/rest/v1/cards?id=eq.{id}&id=eq.{id}", "repeated-parameter"),
        ("/rest/v1/cards?id=eq.{id}&title=is.null", "parameter"),
        ("/rest/v1/cards?or=(id.eq.{id})", "parameter"),
        ("/rest/v1/cards?id=eq.{id}&and=(rank.gte.0)", "parameter"),
        ("/rest/v1/cards?id=eq.{id}&limit=1&order=id", "parameter"),
        ("/rest/v1/cards?id=eq.{id}&columns=title,body", "columns-parameter"),
        ("/rest/v1/cards?id=eq.{id}&on_conflict=id", "parameter"),
        ("/rest/v1/cards?id=gte.{id}&id=lte.{id}", "repeated-parameter"),
    ] {
        case("PATCH", target, &[], TITLE).is_forwarded(&scene, reason);
    }
}

#[test]
fn a_body_that_may_not_be_held_is_forwarded() {
    let scene = Scene::new();
    let too_long = format!(r#"{{"title":"{}"}}"#, "x".repeat(66_000));
    for (body, reason) in [
        (r#"[{"title":"after"}]"#, "not-an-object"),
        ("{}", "empty"),
        ("[]", "not-an-object"),
        ("null", "not-an-object"),
        ("", "not-json"),
        (r#"{"title":"after""#, "not-json"),
        (r#"{"title":"one","title":"two"}"#, "repeated-field"),
        (r#"{"nothing":1}"#, "unknown-column"),
        (r#"{"rank":"many"}"#, "value"),
        (r#"{"rank":3000000000}"#, "value"),
        (r#"{"rank":null}"#, "null"),
        (r#"{"id":1{id},"title":"after"}"#, "key-change"),
        (r#"{"id":null,"title":"after"}"#, "value"),
        (r#"{"title":"a\u0000b"}"#, "value"),
        (r#"{"owner":"nobody"}"#, "value"),
        (&too_long, "body-too-large"),
    ] {
        case("PATCH", CARD, &[], body).is_forwarded(&scene, reason);
    }
    let form = &[("Content-Type", "application/x-www-form-urlencoded")];
    case("PATCH", CARD, &[("Content-Type", "text/csv")], "title\nafter").is_forwarded(&scene, "content-type");
    case("PATCH", CARD, form, "title=after").is_forwarded(&scene, "content-type");
}

#[test]
fn a_preference_or_a_shape_that_only_upstream_can_give_is_forwarded() {
    let scene = Scene::new();
    for (headers, reason) in [
        (&[("Prefer", "tx=rollback")] as &[_], "prefer"),
        (&[("Prefer", "count=exact")], "prefer"),
        (&[("Prefer", "return=representation, count=exact")], "prefer"),
        (&[("Prefer", "handling=strict")], "prefer"),
        (&[("Prefer", "handling=strict, max-affected=1")], "prefer"),
        (&[("Prefer", "missing=default")], "prefer"),
        (&[("Prefer", "return=headers-only")], "prefer"),
        (&[("Prefer", "timezone=Asia/Tokyo")], "prefer"),
        (&[REPRESENTATION, ("Accept", "text/csv")], "accept"),
        (&[REPRESENTATION, ("Accept", "application/vnd.pgrst.object+json;nulls=stripped")], "accept"),
        (&[("X-Custom", "1")], "header-x-custom"),
        (&[("Cookie", "a=b")], "header-cookie"),
    ] {
        case("PATCH", CARD, headers, TITLE).is_forwarded(&scene, reason);
    }
    for select in ["id,rank::text", "name:title", "*,nothing(*)", "nothing", "title->a"] {
        let target = format!("/rest/v1/cards?id=eq.{{id}}&select={select}");
        case("PATCH", &target, &[REPRESENTATION], TITLE).is_forwarded(&scene, "select");
    }
}

#[test]
fn a_put_or_an_insert_that_leaves_something_open_is_forwarded() {
    let scene = Scene::new();
    let merge = [("Prefer", "resolution=merge-duplicates")];
    let other_key = r#"{"id":1{id},"deck":1,"owner":null,"title":"a","body":null,"rank":0,"slug":null,
        "updated_at":"2026-01-01T00:00:00Z"}"#;
    for (method, target, headers, body, reason) in [
        ("PUT", CARD, &[] as &[_], r#"{"id":{id},"title":"after"}"#, "missing-column"),
        ("PUT", CARD, &[], r#"{"title":"after"}"#, "key-missing"),
        ("PUT", CARD, &[], other_key, "key-change"),
        ("POST", CARDS, &[], DATED, "key-missing"),
        ("POST", CARDS, &[], r#"[{"id":{id},"title":"after"}]"#, "not-an-object"),
        (
            "POST",
            CARDS,
            &[("Prefer", "resolution=ignore-duplicates")],
            r#"{"id":{id},"title":"after"}"#,
            "prefer",
        ),
        ("POST", "/rest/v1/cards?on_conflict=slug", &merge, r#"{"id":{id},"slug":"s{id}"}"#, "on-conflict"),
        ("POST", "/rest/v1/cards?columns=id", &merge, r#"{"id":{id},"title":"after"}"#, "columns-parameter"),
        ("POST", CARDS, &merge, DATED, "key-missing"),
    ] {
        case(method, target, headers, body).is_forwarded(&scene, reason);
    }
    // What an insert's defaults will be isn't known.
    let id = new_id();
    let body = json!({ "id": id, "title": "new", "updated_at": "2026-01-01T00:00:00+00:00" });
    let answer = scene
        .write(&alice(), "POST", CARDS, &body)
        .header("Prefer", "return=representation")
        .send()
        .expect(201);
    assert_eq!(forwarded(&answer), "representation");
    assert_eq!(answer.json()[0]["rank"], 0);
    assert_eq!(held("cards", id)["updated_at"], "2026-01-01T00:00:00+00:00", "unchanged");
}

#[test]
fn only_a_user_whose_token_lasts_is_deferred() {
    let scene = Scene::new();
    let id = card("before");
    let anonymous = alice().claim("role", "anon");
    let callers: [(&str, String, String, u16, &str); 9] = [
        ("the anon key", anon_key(), anon_key(), 204, ""),
        ("an anonymous token", anon_key(), anonymous.sign(), 204, "role"),
        ("the service role", anon_key(), service_key(), 204, ""),
        ("a secret key", SECRET_KEY.into(), SECRET_KEY.into(), 204, ""),
        ("no sub", anon_key(), alice().claim("sub", ()).sign(), 204, "subject"),
        ("half a minute to live", anon_key(), alice().expires_in(30).sign(), 204, "token-life"),
        ("expired", anon_key(), alice().expires_in(-300).sign(), 401, "token"),
        (
            "forged",
            anon_key(),
            alice().secret("another-secret-that-is-long-enough-for-hs256").sign(),
            401,
            "token",
        ),
        (
            "a key that upstream has never taken",
            "sb_publishable_never_seen".into(),
            alice().sign(),
            204,
            "api-key",
        ),
    ];
    for (name, key, bearer, status, reason) in callers {
        let request = scene.sluice.request("PATCH", &point("cards", id)).apikey(key).bearer(bearer);
        let answer = request.json(&json!({ "title": name })).send().expect(status);
        let given = forwarded(&answer);
        assert!(reason.is_empty() || given == reason, "{name}: {given}");
        assert_eq!(held("cards", id)["title"] == name, status == 204, "{name}");
    }
    let known = scene.sluice.get("/rest/v1/labels?limit=0").apikey(PUBLISHABLE_KEY).bearer(alice().sign());
    known.send().expect(200);
    let request =
        scene.sluice.request("PATCH", &point("cards", id)).apikey(PUBLISHABLE_KEY).bearer(alice().sign());
    scene.applied(&alice(), &Queued::of(request.json(&json!({ "title": "deferred" })).send()));
}

#[test]
fn a_token_that_nobody_here_can_verify_is_forwarded() {
    // No secret here: only the key set's algorithms can be verified.
    let scene = Scene::unready(|setup| setup.with_schema().without("auth").write(TABLES, BY_USER, ""));
    let (id, body) = (card("before"), json!({ "title": "after" }));
    let verified = alice().algorithm(Algorithm::RS256);
    eventually("a token that can be verified is deferred", || {
        scene.write(&verified, "PATCH", &point("cards", id), &body).send().status == 202
    });
    let other = card("before");
    forwarded(&scene.write(&alice(), "PATCH", &point("cards", other), &body).send().expect(204));
    assert_eq!(held("cards", other)["title"], "after");
}

#[test]
fn a_row_that_the_writer_does_not_see_is_forwarded() {
    let scene = Scene::new();
    let bobs = row("diaries", "owner, entry", &format!("'{}', 'before'", bob().sub()));
    let body = json!({ "entry": "after" });
    for target in [point("diaries", bobs), point("diaries", new_id())] {
        let request =
            scene.write(&alice(), "PATCH", &target, &body).header("Prefer", "return=representation");
        let answer = request.send().expect(200);
        assert_eq!(forwarded(&answer), "row-not-visible");
        assert_eq!(answer.text(), "[]");
    }
    assert_eq!(held("diaries", bobs)["entry"], "before");
    let own = scene.patch(&bob(), "diaries", bobs, &body);
    scene.applied(&bob(), &own);
    assert_eq!(held("diaries", bobs)["entry"], "after");
}

#[test]
fn an_insert_of_a_row_that_is_known_or_pending_is_forwarded() {
    let scene = Scene::queueing("drain_wait = \"100ms\"");
    let known = card("before");
    scene.read(&alice(), &point("cards", known));
    let again = json!({ "id": known, "title": "again" });
    let answer = scene.write(&alice(), "POST", CARDS, &again).send().expect(409);
    assert_eq!(forwarded(&answer), "row-exists");
    assert_eq!(answer.json()["code"], "23505");

    let gate = scene.hold("POST cards");
    let id = new_id();
    let first = scene.insert(&alice(), "cards", &json!({ "id": id, "title": "first" }));
    for who in [alice(), bob()] {
        // It can't overtake the first, and isn't queued behind it.
        told_to_wait(scene.write(&who, "POST", CARDS, &json!({ "id": id, "title": "second" })).send());
    }
    gate.open();
    scene.applied(&alice(), &first);
    assert_eq!(held("cards", id)["title"], "first");
}

#[test]
fn a_route_can_name_methods_columns_and_owners() {
    let write = "defer = [\"PATCH\"]\ncolumns = [\"title\", \"body\"]\nowner = { column = \"owner\", claim = \"sub\" }";
    let scene = Scene::with(|setup| setup.write("table = \"cards\"", BY_USER, write));
    let me = somebody();
    let owned_by = |who: &Token| row("cards", "owner, title", &format!("'{}', 'before'", who.sub()));
    let patched = |id: u64, body: Value| scene.write(&me, "PATCH", &point("cards", id), &body).send();

    for (body, reason) in [
        (json!({ "rank": 1 }), "columns"),
        (json!({ "title": "a", "rank": 2 }), "columns"),
        (json!({ "owner": bob().sub() }), "owner"),
    ] {
        assert_eq!(forwarded(&patched(owned_by(&me), body).expect(204)), reason);
    }
    for id in [owned_by(&bob()), card("before")] {
        assert_eq!(forwarded(&patched(id, json!({ "title": "forwarded" })).expect(204)), "owner");
        assert_eq!(held("cards", id)["title"], "forwarded");
    }
    let insert = json!({ "id": new_id(), "owner": me.sub() });
    assert_eq!(forwarded(&scene.write(&me, "POST", CARDS, &insert).send().expect(201)), "method");

    let own = owned_by(&me);
    let same = json!({ "id": own, "owner": me.sub(), "title": "deferred", "body": "too", "rank": 0 });
    let queued = Queued::of(patched(own, same));
    scene.applied(&me, &queued);
    assert_eq!(held("cards", own)["title"], "deferred");
}

#[test]
fn a_representation_with_a_computed_column_is_forwarded() {
    let scene = Scene::with(|setup| setup.write("table = \"cards\"", BY_USER, "computed = [\"slug\"]"));
    let id = card("before");
    let target = |select: &str| format!("{}{select}", point("cards", id));
    let patched = |target: &str| {
        let request = scene.write(&alice(), "PATCH", target, &json!({ "title": "after" }));
        request.header("Prefer", "return=representation").send()
    };
    for select in ["", "&select=id,slug"] {
        assert_eq!(forwarded(&patched(&target(select)).expect(200)), "representation");
    }
    scene.applied(&alice(), &Queued::of(patched(&target("&select=id,title"))));
}

#[test]
fn while_the_schema_is_unknown_nothing_is_deferred() {
    let declared = "key = [\"id\"]\ncolumns = [\"title\"]";
    let scene = Scene::unready(|setup| {
        setup.write("table = \"drafts\"", BY_USER, "").write("table = \"cards\"", BY_USER, declared)
    });
    let (draft, card) = (row("drafts", "name", "'before'"), card("before"));
    for name in ["one", "two"] {
        let answer = scene.write(&alice(), "PATCH", &point("drafts", draft), &json!({ "name": name })).send();
        assert_eq!(forwarded(&answer.expect(204)), "schema");
        assert_eq!(held("drafts", draft)["name"], name);
    }
    // The file says all that is needed of the other table.
    let queued = scene.patch(&alice(), "cards", card, &json!({ "title": "after" }));
    scene.applied(&alice(), &queued);
    assert_eq!(held("cards", card)["title"], "after");
}
