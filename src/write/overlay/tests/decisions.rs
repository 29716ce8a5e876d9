//! Which reads are corrected, and which wait.

use super::*;

#[test]
fn reads_while_a_row_is_to_change() {
    let pending = [patch(1, "users", "id=5", r#"{"name":"x"}"#)];
    for (target, expected) in [
        // The row.
        ("users?id=eq.5", "point"),
        ("users?id=eq.05&select=*", "point"),
        ("users?id=eq.5&select=name,called:email&order=name.desc&limit=1&offset=0", "point"),
        ("users?id=eq.5&select=score", "point"),
        ("users?id=eq.5&limit=10&apikey=x", "point"),
        // The row, but not only by its key or not as it is.
        ("users?id=eq.5&limit=0", "list"),
        ("users?id=eq.5&limit=1&limit=2", "list"),
        ("users?id=eq.5&offset=1", "list"),
        ("users?id=eq.5&score=gt.1&select=name", "list"),
        ("users?id=eq.5&id=eq.6", "list"),
        ("users?id=eq.5&select=name,score::text", "list"),
        ("users?id=eq.5&select=name,name", "list"),
        ("users?id=eq.5&select=*,score", "list"),
        ("users?id=eq.5&select=", "list"),
        ("users?id=eq.5&name=eq.x", "wait"),
        ("users?id=eq.5&select=name::text", "wait"),
        ("users?id=eq.5&select=name->>a", "wait"),
        ("users?id=eq.5&select=id,full_name", "wait"),
        ("users?id=eq.5&order=full_name", "wait"),
        ("users?id=eq.5&full_name=eq.x", "wait"),
        ("users?id=eq.5&select=name&select=score", "wait"),
        // Another row.
        ("users?id=eq.6", "nothing"),
        ("users?id=eq.6&name=eq.x", "nothing"),
        ("users?id=eq.6&select=name::text", "nothing"),
        // Lists.
        ("users", "list"),
        ("users?select=id,name&order=score.desc,id&limit=10", "list"),
        ("users?select=id,called:name", "list"),
        ("users?select=id,updated_at", "list"),
        ("users?select=id,name,score::text,team->>a&or=(score.gt.1,and(email.eq.a,team.is.null))", "list"),
        ("users?select=id,score&order=email", "nothing"),
        ("users?select=score", "nothing"),
        ("users?select=team,score.sum()", "nothing"),
        ("users?select=count()", "nothing"),
        ("users?select=name", "wait"),
        ("users?select=key:id,name", "wait"),
        ("users?select=id::text,name", "wait"),
        ("users?select=id,name::text", "wait"),
        ("users?select=id,score&name=eq.x", "wait"),
        ("users?select=id,score&name->>a=eq.x", "wait"),
        ("users?select=id,score&updated_at=gt.2020-01-01", "wait"),
        ("users?select=id,score&order=name", "wait"),
        ("users?select=id,score&order=score,updated_at.desc.nullslast", "wait"),
        ("users?select=id,score&or=(score.gt.1,name.eq.x)", "wait"),
        ("users?select=id,score&not.and=(score.gt.1,or(id.eq.1,name.eq.x))", "wait"),
        ("users?select=id,score&or=(score.gt.1,\"name\".eq.x)", "wait"),
        ("users?select=id,score&or=(score.gt.1,full_name.eq.x)", "wait"),
        ("users?select=id,score&order=full_name", "wait"),
        ("users?select=id,score&full_name=eq.x", "wait"),
        ("users?select=name,count()", "wait"),
        ("users?select=count(),name.max()", "wait"),
        ("users?select=id,full_name", "wait"),
        ("users?select=id,(", "wait"),
        // Others.
        ("teams", "nothing"),
        ("teams?id=eq.5", "nothing"),
        ("shown", "wait"),
        ("shown?id=eq.5", "wait"),
        ("nobody", "wait"),
        ("rpc/f", "wait"),
        ("", "nothing"),
    ] {
        let target = target.replace('"', "%22");
        let read = Read::of(&target);
        let read = if target.is_empty() { Read { path: "/rest/v1".into(), ..read } } else { read };
        assert_eq!(read.decided(&pending), expected, "{target}");
    }
}

#[test]
fn reads_with_embedded_tables() {
    let user = patch(1, "users", "id=5", r#"{"name":"x"}"#);
    let team = patch(2, "teams", "id=7", r#"{"title":"x"}"#);
    let moved = patch(3, "users", "id=5", r#"{"team":3}"#);
    let email = patch(4, "users", "id=5", r#"{"email":"e"}"#);
    let new_team = insert(5, "teams", "id=8", r#"{"title":"y"}"#);
    for (target, write, expected) in [
        ("users?select=id,name,teams(title)", &user, "list"),
        ("users?select=id,name,t:teams!team!inner(title)&t.title=eq.a&order=teams(title)", &user, "list"),
        ("users?select=id,teams(title,users(id))", &user, "nothing"),
        ("users?select=id,teams(title,users(name))", &user, "wait"),
        ("users?select=id,score,teams(title)&name=eq.x", &user, "wait"),
        ("users?select=id,score,teams(slug)&teams.title=eq.x", &team, "wait"),
        ("users?select=id,score,teams(slug)&teams.or=(slug.eq.a,title.eq.b)", &team, "wait"),
        ("users?select=id,score,teams(slug)&teams.order=title", &team, "wait"),
        ("users?select=id,score,teams(slug)&order=teams(title)", &team, "wait"),
        ("users?select=id,score,teams(slug)&teams=not.is.null", &team, "nothing"),
        ("users?select=id,score,teams(slug)", &team, "nothing"),
        ("users?select=id,score,teams(title)", &team, "wait"),
        ("users?select=id,score,teams(*)", &team, "wait"),
        ("users?select=id,score,...teams(title)", &team, "wait"),
        ("users?select=id,score,teams(count())", &team, "nothing"),
        ("users?select=id,score,teams(slug)", &new_team, "wait"),
        ("users?select=id,score", &new_team, "nothing"),
        ("users?select=id,score,teams(slug)", &moved, "wait"),
        ("users?select=id,score", &moved, "nothing"),
        ("users?id=eq.5&select=id,teams(slug)", &moved, "wait"),
        ("users?id=eq.6&select=id,teams(slug)", &moved, "nothing"),
        ("users?id=eq.5&select=id,name,teams(slug)", &user, "list"),
        ("users?select=name,...teams(count())", &user, "wait"),
        ("posts?select=id,users(score)", &user, "nothing"),
        ("posts?select=id,users(score)", &email, "wait"),
        ("users?select=id,score,posts(id)", &email, "wait"),
        ("posts?select=id,users!mail(score)", &user, "nothing"),
        ("posts?select=id,users!other(score)", &user, "wait"),
        ("users?select=id,score,boss(name)", &user, "wait"),
        ("users?id=eq.6&select=id,users(name)", &user, "wait"),
        ("users?select=id,score,likes(note)", &user, "wait"),
        ("users?select=id,score,shown(id)", &user, "wait"),
        ("users?select=id,score,teams(full_title)", &user, "wait"),
        ("users?select=id,score,teams(slug)&other.title=eq.x", &user, "wait"),
    ] {
        let decided = Read::of(target).decided(std::slice::from_ref(write));
        assert_eq!(decided, expected, "{target} {:?}", write.seq);
    }
}

#[test]
fn reads_while_a_row_is_to_come() {
    let pending = [insert(1, "users", "id=5", r#"{"name":"x","score":1}"#)];
    for (target, expected) in [
        ("users?id=eq.5&select=id,name,score,updated_at", "point"),
        ("users?id=eq.5&select=name", "point"),
        ("users?id=eq.5&select=email", "wait"),
        ("users?id=eq.5", "wait"),
        ("users?id=eq.5&score=eq.1&select=name", "wait"),
        ("users?id=eq.6", "nothing"),
        ("users?select=id", "wait"),
        ("users?select=count()", "wait"),
        ("teams", "nothing"),
    ] {
        assert_eq!(Read::of(target).decided(&pending), expected, "{target}");
    }
    let read = Read::of("users?id=eq.5&select=name");
    assert_eq!(Read { same_session: false, ..read.clone() }.decided(&pending), "wait");
    assert_eq!(read.clone().head().decided(&pending), "point");
    let changed = patch(2, "users", "id=5", r#"{"email":"e"}"#);
    let all = [pending[0].clone(), changed.clone()];
    assert_eq!(Read::of("users?id=eq.5&select=email").decided(&all), "point");
    // Whose change it is doesn't matter: it is laid over what the reader sees.
    assert_eq!(Read { same_session: false, ..read }.decided(&[changed]), "point");
    for action in [Action::Upsert, Action::Put] {
        let made = [write(1, action, "users", "id=5", r#"{"name":"x"}"#, Base::Absent)];
        assert_eq!(Read::of("users?id=eq.5&select=name").decided(&made), "point", "{action:?}");
        assert_eq!(Read::of("users").decided(&made), "wait", "{action:?}");
        let changing = [write(1, action, "users", "id=5", r#"{"name":"x"}"#, Base::Row(Object::new()))];
        assert_eq!(Read::of("users").decided(&changing), "list", "{action:?}");
    }
}

#[test]
fn what_the_headers_ask_for() {
    let pending = [patch(1, "users", "id=5", r#"{"name":"x"}"#)];
    for (name, value, point, list) in [
        ("accept", "*/*", "point", "list"),
        ("accept", "application/json", "point", "list"),
        ("accept", "application/vnd.pgrst.object+json", "point", "list"),
        ("accept", "application/vnd.pgrst.object+json;nulls=stripped", "wait", "wait"),
        ("accept", "text/csv", "wait", "wait"),
        ("accept", "text/html, */*", "wait", "wait"),
        ("prefer", "count=exact", "list", "list"),
        ("prefer", "timezone=Asia/Tokyo", "wait", "wait"),
        ("prefer", "count=exact, timezone=Asia/Tokyo", "wait", "wait"),
        ("range", "0-0", "list", "list"),
    ] {
        let decided = |target| Read::of(target).header(name, value).decided(&pending);
        assert_eq!((decided("users?id=eq.5"), decided("users")), (point, list), "{name}: {value}");
        assert_eq!(decided("users?select=score"), "nothing", "{name}: {value}");
    }
}

#[test]
fn a_list_without_its_body_is_the_same() {
    let pending = [patch(1, "users", "id=5", r#"{"name":"x"}"#)];
    for (target, expected) in [
        ("users", "nothing"),
        ("users?select=name", "nothing"),
        ("users?name=eq.x", "wait"),
        ("users?select=name,count()", "wait"),
        ("users?id=eq.5", "point"),
    ] {
        let decided = Read::of(target).header("prefer", "count=exact").head().decided(&pending);
        assert_eq!(decided, if expected == "point" { "nothing" } else { expected }, "{target}, counted");
        assert_eq!(Read::of(target).head().decided(&pending), expected, "{target}");
    }
    assert_eq!(Read { method: Method::POST, ..Read::of("rpc/f") }.decided(&pending), "wait");
}

#[test]
fn what_a_route_says_counts() {
    let pending = [patch(1, "users", "id=5", r#"{"name":"x"}"#)];
    let depending = |target: &str, on: &[&str]| Read {
        depends_on: Some(on.iter().map(|name| Relation::new("public", *name)).collect()),
        ..Read::of(target)
    };
    for (read, expected) in [
        (depending("teams?id=eq.5", &["users"]), "wait"),
        (depending("teams", &[]), "nothing"),
        (depending("shown", &["users"]), "wait"),
        (depending("shown", &["teams"]), "nothing"),
        (depending("rpc/f", &["teams"]), "nothing"),
        (depending("rpc/f", &["users"]), "wait"),
        (depending("users", &["users"]), "list"),
        (depending("users?id=eq.5", &["users", "teams"]), "point"),
        (depending("users?select=id,full_name", &["teams"]), "wait"),
    ] {
        assert_eq!(read.decided(&pending), expected, "{} {}", read.path, read.query);
    }
    for (target, expected) in [
        ("users?id=eq.5&select=name", "point"),
        ("users?id=eq.5", "wait"),
        ("users?select=id,name", "list"),
        ("users", "wait"),
        ("users?select=id,score&email=eq.x", "wait"),
        ("users?id=eq.6", "nothing"),
    ] {
        let read = Read { computed: vec!["email".to_owned()], ..Read::of(target) };
        assert_eq!(read.decided(&pending), expected, "{target}");
    }
}

#[test]
fn what_rests_on_other_rules_waits() {
    let write = patch(1, "likes", "a=1&b=x", r#"{"note":"n"}"#);
    assert_eq!(Read::of("likes?a=eq.1&b=eq.x").decided(std::slice::from_ref(&write)), "point");
    assert_eq!(Read::of("likes?a=eq.1&b=eq.y").decided(std::slice::from_ref(&write)), "nothing");
    assert_eq!(Read::of("likes?select=a,note").decided(&[write]), "wait", "half a key");
    let other_key = [patch(1, "likes", "a=1", r#"{"note":"n"}"#)];
    for target in ["likes?a=eq.1&b=eq.x", "likes"] {
        assert_eq!(Read::of(target).decided(&other_key), "wait", "{target}");
    }
    let mut as_sent = patch(1, "users", "id=5", r#"{"name":"x"}"#);
    Arc::make_mut(&mut as_sent.record).types.clear();
    for (target, expected) in
        [("users?id=eq.5", "wait"), ("users", "wait"), ("users?select=score", "nothing")]
    {
        assert_eq!(Read::of(target).decided(std::slice::from_ref(&as_sent)), expected, "{target}");
    }
}

#[test]
fn waits_for_what_takes_part_alone() {
    let pending = [
        patch(1, "users", "id=5", r#"{"name":"x"}"#),
        patch(2, "teams", "id=5", r#"{"title":"x"}"#),
        insert(3, "users", "id=6", "{}"),
    ];
    let waits_for = |target| match Read::of(target).correction(&pending) {
        Correction::Wait(seqs) => seqs,
        other => panic!("{other:?}"),
    };
    assert_eq!(waits_for("users"), [Seq(1), Seq(3)]);
    assert_eq!(waits_for("users?select=id,(").len(), 3);
    assert_eq!(waits_for("rpc/f").len(), 3);
    assert_eq!(Read::of("users?id=eq.5").point(&pending).seqs(), [Seq(1)]);
    assert_eq!(Read::of("teams").list(&pending).seqs(), [Seq(2)]);
    assert!(matches!(Read::of("users").correction(&[]), Correction::Nothing));
}
