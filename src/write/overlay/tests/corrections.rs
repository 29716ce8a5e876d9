//! What corrected answers look like.

use super::*;

#[test]
fn values_are_put_in_and_all_else_is_left() {
    let pending = [
        patch(1, "users", "id=5", r#"{"name":"x","email":"e"}"#),
        patch(2, "users", "id=5", r#"{"name":null}"#),
        patch(3, "users", "id=6", r#"{"name":"ö\"\n"}"#),
        patch(4, "teams", "id=5", r#"{"title":"t"}"#),
    ];
    for (target, upstream, expected) in [
        (
            "users?select=id,name,score",
            "[{\"id\":5,\"name\":\"a\" , \"score\": 1.50}, \n {\"id\":6,\"name\":\"b\",\"score\":2}, \n {\"id\":7,\"name\":\"c\",\"score\":3}]",
            "[{\"id\":5,\"name\":null , \"score\": 1.50}, \n {\"id\":6,\"name\":\"ö\\\"\\n\",\"score\":2}, \n {\"id\":7,\"name\":\"c\",\"score\":3}]",
        ),
        (
            "users?select=score,updated_at,id,called:name,mail:email,mail2:email",
            r#"[{"score":1,"updated_at":"2020","id":5,"called":"a","mail":"m","mail2":"m"}]"#,
            r#"[{"score":1,"updated_at":"1970-01-01T00:00:02+00:00","id":5,"called":null,"mail":"e","mail2":"e"}]"#,
        ),
        (
            "users?select=id,name,teams(name:slug)",
            r#"[{"id":5,"name":"a","teams":{"name":"b","id":6}}]"#,
            r#"[{"id":5,"name":null,"teams":{"name":"b","id":6}}]"#,
        ),
        (
            "users?select=id,name:score,called:name",
            r#"[{"id":5,"name":1,"called":"a"}]"#,
            r#"[{"id":5,"name":1,"called":null}]"#,
        ),
        // The row is named, its key need not be answered.
        ("users?id=eq.6&select=name&score=gt.1", r#"[{"name":"b"}]"#, r#"[{"name":"ö\"\n"}]"#),
        ("users?id=eq.6&select=name&score=gt.1", "[]", "[]"),
        ("users?select=id,name", "[]", "[]"),
        ("users?select=id,name", " [ ] ", " [ ] "),
    ] {
        let list = Read::of(target).list(&pending);
        assert_eq!(corrected(&list, upstream).as_deref(), Some(expected), "{target}");
    }
    let one = Read::of("users?select=id,name").header("accept", "application/vnd.pgrst.object+json");
    assert_eq!(corrected(&one.list(&pending), r#"{"id":5,"name":"a"}"#).unwrap(), r#"{"id":5,"name":null}"#);
    let composite = [patch(1, "likes", "b=x&a=1", r#"{"note":"n"}"#)];
    let list = Read::of("likes?select=b,a,note").list(&composite);
    let upstream = r#"[{"b":"x","a":1,"note":"o"},{"b":"y","a":1,"note":"o"}]"#;
    assert_eq!(corrected(&list, upstream).unwrap(), upstream.replacen("\"o\"", "\"n\"", 1));
    let uuid = "abcdefab-0000-1111-2222-333344445555";
    let post = [patch(1, "posts", &format!("id={uuid}"), r#"{"body":"n"}"#)];
    let upstream = format!(r#"[{{"id":"{uuid}","body":"o"}}]"#);
    let list = Read::of("posts?select=id,body").list(&post);
    assert_eq!(corrected(&list, &upstream).unwrap(), upstream.replace("\"o\"", "\"n\""));
}

#[test]
fn what_looks_otherwise_is_not_corrected() {
    let pending = [patch(1, "users", "id=5", r#"{"name":"x"}"#)];
    let list = Read::of("users?select=id,name").list(&pending);
    for upstream in [
        "",
        "{}",
        "null",
        "[1]",
        "[[]]",
        r#"{"id":5,"name":"a"}"#,
        r#"[{"id":5}]"#,
        r#"[{"name":"a"}]"#,
        r#"[{"id":null,"name":"a"}]"#,
        r#"[{"id":"x","name":"a"}]"#,
        r#"[{"id":5,"name":"a","name":"b"}]"#,
        r#"[{"id":5,"\u0069d":6,"name":"b"}]"#,
        r#"[{"id":5,"name":"a"}"#,
        r#"[{"id":5,"name":"a"}]]"#,
    ] {
        assert_eq!(corrected(&list, upstream), None, "{upstream}");
    }
    assert_eq!(list.correct(&Bytes::from_static(b"[{\"id\":5,\"name\":\"\xff\"}]")), None);
    assert_eq!(corrected(&list, &"[".repeat(1_000_000)), None);
    let same = Bytes::from_static(br#"[{"id":6,"name":"a"}]"#);
    assert_eq!(list.correct(&same).unwrap().as_ptr(), same.as_ptr(), "nothing is copied");
}

#[test]
fn one_row_as_it_will_be() {
    let pending = [
        patch(1, "users", "id=5", r#"{"name":"x","score":7}"#),
        patch(2, "users", "id=6", r#"{"name":"other"}"#),
        patch(3, "users", "id=5", r#"{"name":"y"}"#),
    ];
    let base = object(
        r#"{"id":5,"name":"a","score":1,"team":null,"boss":1.0,"email":"e","updated_at":"2020-01-01T00:00:00+00:00"}"#,
    );
    for (target, expected) in [
        (
            "users?id=eq.5",
            r#"[{"id":5,"name":"y","score":7,"team":null,"boss":1.0,"email":"e","updated_at":"1970-01-01T00:00:03+00:00"}]"#,
        ),
        ("users?id=eq.5&select=score,called:name,boss", r#"[{"score":7,"called":"y","boss":1.0}]"#),
        ("users?id=eq.5&select=email", r#"[{"email":"e"}]"#),
    ] {
        let point = Read::of(target).point(&pending);
        assert_eq!(point.seqs(), [Seq(1), Seq(3)]);
        assert_eq!(body(point.answer(Some(&base))).as_deref(), Some(expected), "{target}");
        assert_eq!(point.answer(None), PointAnswer::Absent, "{target}");
        assert_eq!(point.answer(Some(&object(r#"{"id":5}"#))), PointAnswer::Incomplete, "{target}");
    }
    let read = Read::of("users?id=eq.5&select=name");
    let PointAnswer::Row(array) = read.point(&pending).answer(Some(&base)) else { panic!("no row") };
    assert_eq!((array.content_type, array.content_range), ("application/json; charset=utf-8", "0-0/*"));
    let read = read.header("accept", "application/vnd.pgrst.object+json");
    let PointAnswer::Row(one) = read.point(&pending).answer(Some(&base)) else { panic!("no row") };
    assert_eq!(one.content_type, "application/vnd.pgrst.object+json; charset=utf-8");
    assert_eq!((one.content_range, &one.body[..]), ("0-0/*", &br#"{"name":"y"}"#[..]));
}

#[test]
fn a_row_that_is_to_come() {
    let pending = [
        insert(1, "posts", "id=abcdefab-0000-1111-2222-333344445555", r#"{"mail":"m"}"#),
        patch(2, "posts", "id=abcdefab-0000-1111-2222-333344445555", r#"{"body":"b"}"#),
    ];
    let read = Read::of("posts?id=eq.ABCDEFAB-0000-1111-2222-333344445555");
    let point = read.point(&pending);
    let expected = r#"[{"id":"abcdefab-0000-1111-2222-333344445555","mail":"m","body":"b","updated_at":"1970-01-01T00:00:02+00:00"}]"#;
    assert_eq!(body(point.answer(None)).as_deref(), Some(expected), "in the table's order");
    // Upstream has taken the insert: its row counts, and what comes after.
    let taken =
        object(&expected[1..expected.len() - 1].replace("\"m\"", "\"trigger\"").replace("\"b\"", "null"));
    let laid = expected.replace("\"m\"", "\"trigger\"");
    assert_eq!(body(point.answer(Some(&taken))), Some(laid));
    // A row with an integer key, by an upsert.
    let made = [write(1, Action::Upsert, "users", "id=5", r#"{"name":"x"}"#, Base::Absent)];
    let point = Read::of("users?id=eq.5&select=name,id").point(&made);
    assert_eq!(body(point.answer(None)).as_deref(), Some(r#"[{"name":"x","id":5}]"#));
    let there = object(r#"{"id":5,"name":"theirs"}"#);
    assert_eq!(body(point.answer(Some(&there))).as_deref(), Some(r#"[{"name":"x","id":5}]"#));
}

#[test]
fn without_upstream_the_record_tells() {
    let base = object(r#"{"id":5,"name":"a","score":1}"#);
    let mut first = patch(1, "users", "id=5", r#"{"score":2}"#);
    Arc::make_mut(&mut first.record).base = Base::Row(base);
    let pending = [first, patch(2, "users", "id=5", r#"{"name":"x"}"#)];
    let read = Read::of("users?id=eq.5&select=id,name,score");
    let answer = read.point(&pending).answer_from_record();
    assert_eq!(body(answer).as_deref(), Some(r#"[{"id":5,"name":"x","score":2}]"#));
    let elsewhere = Read { same_session: false, ..read }.point(&pending);
    assert_eq!(elsewhere.answer_from_record(), PointAnswer::Incomplete);
    let made = [insert(1, "users", "id=5", r#"{"name":"x"}"#)];
    let answer = Read::of("users?id=eq.5&select=name").point(&made).answer_from_record();
    assert_eq!(body(answer).as_deref(), Some(r#"[{"name":"x"}]"#));
}

#[test]
fn merged_is_the_row_afterwards() {
    let schemas = schemas();
    let table = schemas.get("public").unwrap().table("users").unwrap();
    let base = object(r#"{"id":5,"name":"a"}"#);
    let change = patch(2, "users", "id=5", r#"{"name":"x"}"#);
    let made = insert(1, "users", "id=5", r#"{"score":1}"#);
    let of = |base, writes: &[PendingWrite]| merged(table, base, writes).map(|row| row.to_json());
    assert_eq!(of(Some(&base), &[]).unwrap(), base.to_json());
    assert_eq!(of(None, &[]), None);
    assert_eq!(of(None, std::slice::from_ref(&change)), None, "it has gone");
    assert_eq!(
        of(Some(&base), std::slice::from_ref(&change)).unwrap(),
        r#"{"id":5,"name":"x","updated_at":"1970-01-01T00:00:02+00:00"}"#
    );
    assert_eq!(of(Some(&base), std::slice::from_ref(&made)).unwrap(), base.to_json());
    assert_eq!(
        of(None, &[change.clone(), made, change]).unwrap(),
        r#"{"id":5,"name":"x","score":1,"updated_at":"1970-01-01T00:00:02+00:00"}"#
    );
}
