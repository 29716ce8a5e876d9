//! A write through the proxy leaves nothing behind that it may have changed.

use serde_json::json;

use crate::support::backend;
use crate::support::faulty::{Act, Answer, Faulty, Gate};
use crate::support::http::Response;
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{alice, bob};
use crate::support::{eventually, unique};

/// Sluice with the schema known, and two users of the test's own.
fn with_rows() -> (Sluice, u64, u64) {
    let sluice = Setup::new(&backend::shared().url()).with_schema().start();
    let (one, other) = (new_user(), new_user());
    schema_is_known(&sluice, one, other);
    (sluice, one, other)
}

fn new_user() -> u64 {
    let id = unique();
    backend::shared()
        .sql(&format!("insert into users (id, email, name) values ({id}, 'own{id}@x.org', 'before')"));
    id
}

/// Waits until a write to one row leaves the other row's entry alone.
fn schema_is_known(sluice: &Sluice, one: u64, other: u64) {
    eventually("the schema is known", || {
        read(sluice, &format!("/rest/v1/users?id=eq.{one}"));
        write(sluice, "PATCH", &format!("/rest/v1/users?id=eq.{other}"), &json!({ "name": "before" }));
        read(sluice, &format!("/rest/v1/users?id=eq.{one}")).is_hit()
    });
}

#[track_caller]
fn read(sluice: &Sluice, target: &str) -> Response {
    sluice.get(target).anonymous().send().expect(200)
}

#[track_caller]
fn write(sluice: &Sluice, method: &str, target: &str, body: &serde_json::Value) -> Response {
    let answer = sluice.request(method, target).anonymous().json(body).send();
    assert!(answer.status < 300, "{method} {target}: {}", answer.text());
    answer
}

/// Which of `targets` are still answered from the cache after `change`.
#[track_caller]
fn survivors<'a>(sluice: &Sluice, targets: &[&'a str], change: impl FnOnce()) -> Vec<&'a str> {
    for target in targets {
        read(sluice, target);
        read(sluice, target).expect_hit();
    }
    change();
    targets.iter().copied().filter(|target| read(sluice, target).is_hit()).collect()
}

#[test]
fn a_write_by_key_touches_the_row_and_the_lists() {
    let (sluice, one, other) = with_rows();
    let point = format!("/rest/v1/users?id=eq.{one}");
    let second = format!("/rest/v1/users?id=eq.{other}");
    let list = format!("/rest/v1/users?id=in.({one},{other})");
    let elsewhere = "/rest/v1/teams";
    let left = survivors(&sluice, &[&point, &second, &list, elsewhere], || {
        let changed = write(&sluice, "PATCH", &point, &json!({ "name": "after" }));
        assert!(changed.cache_status().starts_with("sluice; fwd=method"), "{}", changed.cache_status());
    });
    assert_eq!(left, [&second, elsewhere]);
    assert_eq!(read(&sluice, &point).expect_hit().json()[0]["name"], "after");
    assert!(read(&sluice, &list).text().contains("after"));
}

#[test]
fn an_insert_touches_lists_and_the_empty_point_read() {
    let (id, one) = (unique(), new_user());
    let (missing, known, list) = (
        format!("/rest/v1/users?id=eq.{id}"),
        format!("/rest/v1/users?id=eq.{one}"),
        "/rest/v1/users?limit=3",
    );
    let sluice =
        Setup::new(&backend::shared().url()).with_schema().read("ttl = \"1h\"\nempty_ttl = \"1h\"").start();
    schema_is_known(&sluice, one, new_user());
    let left = survivors(&sluice, &[&missing, &known, list], || {
        write(
            &sluice,
            "POST",
            "/rest/v1/users",
            &json!({ "id": id, "email": format!("n{id}@x.org"), "name": "new" }),
        );
    });
    assert_eq!(left, [&known]);
    assert_eq!(read(&sluice, &missing).json()[0]["name"], "new");
}

#[test]
fn a_write_that_names_no_row_touches_the_whole_table() {
    let (sluice, one, other) = with_rows();
    let (point, second) = (format!("/rest/v1/users?id=eq.{one}"), format!("/rest/v1/users?id=eq.{other}"));
    for target in [format!("/rest/v1/users?email=eq.own{one}@x.org"), format!("/rest/v1/users?id=in.({one})")]
    {
        let left = survivors(&sluice, &[&point, &second, "/rest/v1/teams"], || {
            write(&sluice, "PATCH", &target, &json!({ "name": "after" }));
        });
        assert_eq!(left, ["/rest/v1/teams"], "{target}");
    }
}

#[test]
fn other_spellings_of_a_key_are_the_same_row_or_an_unknown_one() {
    let (sluice, one, _) = with_rows();
    let point = format!("/rest/v1/users?id=eq.{one}");
    for (round, spelling) in
        [format!("0{one}"), format!("%20{one}"), format!("+{one}"), format!("{one}%20")].iter().enumerate()
    {
        let name = format!("round {round}");
        read(&sluice, &point);
        write(&sluice, "PATCH", &format!("/rest/v1/users?id=eq.{spelling}"), &json!({ "name": name }));
        assert_eq!(read(&sluice, &point).json()[0]["name"], name, "written as eq.{spelling}");
    }
}

#[test]
fn embedded_tables_count() {
    let (sluice, author, _) = with_rows();
    let post = unique();
    backend::shared().sql(&format!("insert into posts values ({post}, {author}, 'a post')"));
    let embedding = [
        format!("/rest/v1/posts?select=title,author:users(name)&id=eq.{post}"),
        format!("/rest/v1/posts?select=title,users!posts_author_id_fkey(name)&id=eq.{post}"),
        format!("/rest/v1/posts?select=title,...users(name)&id=eq.{post}"),
        format!("/rest/v1/posts?select=title,author_id(name)&id=eq.{post}"),
        format!("/rest/v1/comments?select=id,posts(title,users(name))&posts.id=eq.{post}"),
        format!("/rest/v1/teams?select=name,users(name)&users.id=eq.{author}"),
    ];
    for target in &embedding {
        let left = survivors(&sluice, &[target], || {
            write(&sluice, "PATCH", &format!("/rest/v1/users?id=eq.{author}"), &json!({ "name": "renamed" }));
        });
        assert!(left.is_empty(), "{target} is stale");
    }
}

#[test]
fn views_and_functions_follow_writes_of_their_schema() {
    let routes = "[[route]]\nname = \"f\"\nfunction = \"name_of\"\n[route.read]\nttl = \"1h\"\n\
        [[route]]\nname = \"rest\"\ntable = \"*\"\n[route.read]\nttl = \"1h\"\n";
    let sluice = Setup::new(&backend::shared().url()).with_schema().routes(routes).start();
    let id = new_user();
    let (view, function) =
        (format!("/rest/v1/user_names?id=eq.{id}"), format!("/rest/v1/rpc/name_of?wanted={id}"));
    let left = survivors(&sluice, &[&view, &function], || {
        write(&sluice, "PATCH", &format!("/rest/v1/users?id=eq.{id}"), &json!({ "name": "after" }));
    });
    assert!(left.is_empty(), "{left:?}");
    assert!(read(&sluice, &view).text().contains("after"));
}

#[test]
fn depends_on_narrows_what_a_view_follows() {
    let routes = "[[route]]\nname = \"v\"\ntable = \"user_names\"\n[route.read]\nttl = \"1h\"\ndepends_on = [\"users\"]\n\
        [[route]]\nname = \"rest\"\ntable = \"*\"\n[route.read]\nttl = \"1h\"\n";
    let sluice = Setup::new(&backend::shared().url()).with_schema().routes(routes).start();
    let id = new_user();
    let view = format!("/rest/v1/user_names?id=eq.{id}");
    let word = format!("w{}", unique());
    let left = survivors(&sluice, &[&view], || {
        write(&sluice, "POST", "/rest/v1/words", &json!({ "key": word }));
    });
    assert_eq!(left, [&view], "another table's write is nothing to it");
    let left = survivors(&sluice, &[&view], || {
        write(&sluice, "PATCH", &format!("/rest/v1/users?id=eq.{id}"), &json!({ "name": "after" }));
    });
    assert!(left.is_empty());
}

#[test]
fn an_undeclared_function_counts_as_a_write_to_everything() {
    let (sluice, one, _) = with_rows();
    let point = format!("/rest/v1/users?id=eq.{one}");
    let left = survivors(&sluice, &[&point, "/rest/v1/teams"], || {
        write(&sluice, "POST", "/rest/v1/rpc/rename", &json!({ "wanted": one, "new_name": "by function" }));
    });
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(read(&sluice, &point).json()[0]["name"], "by function");

    let routes = "[[route]]\nname = \"f\"\nfunction = \"rename\"\nwrites = [\"users\"]\n\
        [[route]]\nname = \"rest\"\ntable = \"*\"\n[route.read]\nttl = \"1h\"\n";
    let narrowed = Setup::new(&backend::shared().url()).with_schema().routes(routes).start();
    schema_is_known(&narrowed, one, new_user());
    let left = survivors(&narrowed, &[&point, "/rest/v1/teams"], || {
        write(&narrowed, "POST", "/rest/v1/rpc/rename", &json!({ "wanted": one, "new_name": "again" }));
    });
    assert_eq!(left, ["/rest/v1/teams"]);
}

#[test]
fn a_delete_reaches_the_tables_that_point_to_it() {
    let (sluice, user, _) = with_rows();
    let team = unique();
    backend::shared().sql(&format!(
        "insert into teams values ({team}, 'own'); insert into members values ({team}, {user})"
    ));
    let member = format!("/rest/v1/members?team_id=eq.{team}&user_id=eq.{user}");
    let left = survivors(&sluice, &[&member], || {
        sluice.request("DELETE", &format!("/rest/v1/teams?id=eq.{team}")).anonymous().send().expect(204);
    });
    assert!(left.is_empty(), "the cascade took it");
    assert_eq!(read(&sluice, &member).text(), "[]");
}

#[test]
fn a_write_that_fails_invalidates_all_the_same() {
    let (sluice, one, _) = with_rows();
    let point = format!("/rest/v1/users?id=eq.{one}");
    let left = survivors(&sluice, &[&point], || {
        sluice.request("PATCH", &point).anonymous().json(&json!({ "nothing": 1 })).send().expect(400);
    });
    assert!(left.is_empty(), "whatever its status");
}

#[test]
fn a_write_during_a_slow_fill_leaves_no_old_value_behind() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let id = new_user();
    let target = format!("/rest/v1/users?id=eq.{id}");
    for known in [true, false] {
        let setup = Setup::new(&upstream.url());
        let sluice = if known { setup.with_schema() } else { setup }.start();
        backend::shared().sql(&format!("update users set name = 'before' where id = {id}"));
        let gate = Gate::new();
        let before = upstream.count("GET /rest/v1/users");
        upstream.once("GET /rest/v1/users", Act::PassThenHold(gate.clone()));
        let slow = sluice.get(&target).anonymous().begin();
        upstream.wait_for("GET /rest/v1/users", before + 1);
        write(&sluice, "PATCH", &target, &json!({ "name": "after" }));
        assert_eq!(
            read(&sluice, &target).json()[0]["name"],
            "after",
            "a reader after the write, the old fill on its way"
        );
        gate.open();
        slow.finish().expect(200);
        for _ in 0..3 {
            assert_eq!(read(&sluice, &target).json()[0]["name"], "after", "the late fill was stored");
        }
    }
}

#[test]
fn a_waiter_that_came_after_the_write_sees_it() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice = Setup::new(&upstream.url()).start();
    let id = new_user();
    let target = format!("/rest/v1/users?id=eq.{id}");
    let gate = Gate::new();
    upstream.once("GET /rest/v1/users", Act::PassThenHold(gate.clone()));
    let slow = sluice.get(&target).anonymous().begin();
    upstream.wait_for("GET /rest/v1/users", 1);
    write(&sluice, "PATCH", &target, &json!({ "name": "after" }));
    let late = sluice.get(&target).anonymous().begin();
    upstream.wait_for("GET /rest/v1/users", 2);
    gate.open();
    assert!(late.finish().text().contains("after"), "it may not share the older fetch");
    slow.finish().expect(200);
}

#[test]
fn a_write_whose_answer_is_lost_is_seen() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice = Setup::new(&upstream.url()).start();
    let id = new_user();
    let target = format!("/rest/v1/users?id=eq.{id}");
    read(&sluice, &target);
    upstream.once("PATCH /rest/v1/users", Act::PassThenDrop);
    sluice.request("PATCH", &target).anonymous().json(&json!({ "name": "after" })).send().expect(502);
    assert_eq!(upstream.count("PATCH /rest/v1/users"), 1, "a write is never sent twice");
    assert_eq!(read(&sluice, &target).json()[0]["name"], "after");
}

#[test]
fn a_write_that_is_still_running_hides_what_was_cached_when_its_client_left() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let sluice = Setup::new(&upstream.url()).section("upstream", "response_timeout = \"2s\"").start();
    let id = new_user();
    let target = format!("/rest/v1/users?id=eq.{id}");
    let gate = Gate::new();
    upstream.once("PATCH /rest/v1/users", Act::Hold(gate.clone(), Box::new(Act::Pass)));
    let writing = sluice.request("PATCH", &target).anonymous().json(&json!({ "name": "after" })).begin();
    upstream.wait_for("PATCH /rest/v1/users", 1);
    drop(writing);
    read(&sluice, &target);
    gate.open();
    eventually("the write shows", || read(&sluice, &target).text().contains("after"));
}

#[test]
fn invalidation_can_be_narrowed_to_the_writer_or_turned_off() {
    let target = "/rest/v1/words?order=key&limit=1";
    for (who, alice_sees_old, bob_sees_old) in
        [("all", false, false), ("writer", false, true), ("none", true, true)]
    {
        let sluice = Setup::new(&backend::shared().url())
            .read(&format!("ttl = \"1h\"\ninvalidate = \"{who}\""))
            .start();
        let ask = |user: &str| sluice.get(target).signed_in(user).send().expect(200);
        let (alices, bobs) = (alice().sign(), bob().sign());
        for user in [&alices, &bobs] {
            ask(user);
            ask(user).expect_hit();
        }
        let word = format!("w{}", unique());
        let written =
            sluice.request("POST", "/rest/v1/words").signed_in(&alices).json(&json!({ "key": word })).send();
        written.expect(201);
        assert_eq!(ask(&alices).is_hit(), alice_sees_old, "invalidate = {who}, the writer");
        assert_eq!(ask(&bobs).is_hit(), bob_sees_old, "invalidate = {who}, another");
    }
}

#[test]
fn a_refresh_that_is_refused_removes_the_entry() {
    let upstream = Faulty::start();
    let rows = || Answer::json(r#"[{"id":1}]"#).header("Content-Range", "0-0/*").act();
    upstream.once("GET /rest/v1/users", rows());
    upstream.always("GET /rest/v1/users", Answer::new(404, "{}").act());
    let sluice = Setup::new(&upstream.url())
        .read("ttl = \"1s\"\nstale_while_revalidate = \"1h\"\nstale_if_error = \"1h\"")
        .start();
    let ask = || sluice.get("/rest/v1/users?id=eq.1").anonymous().send();
    ask().expect(200).expect_stored();
    eventually("the refresh is answered 404", || ask().status == 404);
    ask().expect(404).expect_no_hit();
}

#[test]
fn storage_uploads_touch_their_object() {
    let upstream = Faulty::start();
    let object = |name: &str| format!("/storage/v1/object/public/avatars/{name}");
    let image = |body: &str| {
        Answer::new(200, body)
            .header("Content-Type", "image/png")
            .header("Cache-Control", "public, max-age=3600")
    };
    for name in ["one.png", "two.png"] {
        upstream.always(&object(name), image("old").act());
    }
    for method in ["POST", "PUT"] {
        upstream.always(
            &format!("{method} /storage/v1/object/avatars/one.png"),
            Answer::json(r#"{"Key":"avatars/one.png"}"#).act(),
        );
    }
    let routes = "[[route]]\nname = \"public\"\npath = '^/storage/v1/object/public/'\n[route.read]\nfreshness = \"origin\"\nscope = \"public\"\n";
    let sluice = Setup::new(&upstream.url()).routes(routes).start();
    for method in ["POST", "PUT"] {
        for name in ["one.png", "two.png"] {
            sluice.get(&object(name)).send().expect(200);
            sluice.get(&object(name)).send().expect(200).expect_hit();
        }
        sluice
            .request(method, "/storage/v1/object/avatars/one.png")
            .signed_in(alice().sign())
            .body("new")
            .send()
            .expect(200);
        sluice.get(&object("one.png")).send().expect(200).expect_no_hit();
        sluice.get(&object("two.png")).send().expect(200).expect_hit();
    }
}

#[test]
fn a_write_behind_another_spelling_of_its_path_is_seen() {
    let sluice = Setup::new(&backend::shared().url()).with_schema().start();
    let id = new_user();
    let target = format!("/rest/v1/users?id=eq.{id}");
    for (round, path) in ["/rest%2Fv1%2Fusers", "/rest/v1//users", "/x/../rest/v1/users"].iter().enumerate() {
        read(&sluice, &target);
        let name = format!("renamed {round}");
        let spelled = format!("{path}?id=eq.{id}");
        write(&sluice, "PATCH", &spelled, &json!({ "name": name }));
        let direct = crate::support::http::Request::new(&backend::shared().address(), "GET", &target)
            .anonymous()
            .send();
        assert_eq!(read(&sluice, &target).json(), direct.json(), "{path}");
    }
}
