use super::*;

/// A write and what its route states.
struct Write<'a> {
    method: &'a str,
    target: Target,
    query: &'a str,
    prefer: &'a str,
    body: Option<&'a str>,
    writes: Option<Vec<Relation>>,
    depends_on: Option<Vec<Relation>>,
    schemas: Schemas,
}

fn write<'a>(method: &'a str, name: &str, query: &'a str, body: &'a str) -> Write<'a> {
    Write {
        method,
        target: table(name),
        query,
        prefer: "",
        body: Some(body),
        writes: None,
        depends_on: None,
        schemas: known(),
    }
}

impl Write<'_> {
    fn moves(&self) -> Vec<String> {
        let method = Method::from_bytes(self.method.as_bytes()).unwrap();
        let query = Query::parse(self.query).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("prefer", self.prefer.parse().unwrap());
        let body = self.body.map_or(WriteBody::Unknown, |body| WriteBody::Whole(body.as_bytes()));
        let shape =
            WriteShape { method: &method, target: &self.target, query: &query, headers: &headers, body };
        print(&write_tags(&shape, &self.schemas, self.writes.as_deref(), self.depends_on.as_deref()))
    }
}

type Case<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [&'a str]);

/// Each case: method, table, query, body, the tags beside `schema:public`.
fn check_with(prefer: &str, cases: &[Case<'_>]) {
    for (method, name, query, body, expected) in cases {
        let mut moved = Write { prefer, ..write(method, name, query, body) }.moves();
        let before = moved.len();
        moved.retain(|tag| tag != "schema:public");
        assert_eq!(moved.len() + 1, before, "a write moves the schema: {method} {name}?{query} {body}");
        assert_eq!(moved, *expected, "{prefer} {method} {name}?{query} {body}");
    }
}

fn check(cases: &[Case<'_>]) {
    check_with("return=minimal", cases);
}

const ROW_5: &[&str] = &["list:teams", "row:teams:id=5"];
const MERGE: &str = "return=representation, resolution=merge-duplicates";

#[test]
fn a_keyed_patch_moves_its_row_and_the_lists() {
    check(&[
        ("PATCH", "teams", "id=eq.5", r#"{"name":"x"}"#, ROW_5),
        ("PATCH", "teams", "id=eq.05&name=eq.old&select=*", r#"{"name":"x"}"#, ROW_5),
        ("PATCH", "teams", "id=eq.5", r#"[{"name":"x"}]"#, ROW_5),
        ("PATCH", "teams", "id=eq.5", "{}", ROW_5),
        ("PATCH", "teams", "id=eq.5", r#"{"id":5,"name":"x"}"#, ROW_5),
        ("PATCH", "teams", "id=eq.5", r#"{"id":"05","name":"x"}"#, ROW_5),
        ("PATCH", "teams", "id=eq.5&columns=name", r#"{"id":6,"name":"x"}"#, ROW_5),
        ("PATCH", "posts", "a=eq.1&b=eq.x", r#"{"body":"y"}"#, &["list:posts", "row:posts:a=1:b=x"]),
    ]);
}

#[test]
fn any_other_patch_moves_the_table() {
    check(&[
        ("PATCH", "teams", "", r#"{"name":"x"}"#, &["table:teams"]),
        ("PATCH", "teams", "id=gt.5", r#"{"name":"x"}"#, &["table:teams"]),
        ("PATCH", "teams", "or=(id.eq.5)", r#"{"name":"x"}"#, &["table:teams"]),
        ("PATCH", "posts", "a=eq.1", r#"{"body":"y"}"#, &["table:posts"]),
        ("PATCH", "teams", "id=eq.0x5", r#"{"name":"x"}"#, &["table:teams"]),
    ]);
}

#[test]
fn a_changed_key_counts_for_the_tables_that_refer_to_it() {
    let weird = "weird 'Table";
    let cascades = &["table:quirk", "table:weird 'Table"][..];
    check(&[
        ("PATCH", weird, "the \"id=eq.5", r#"{"the \"id":6}"#, cascades),
        ("PATCH", weird, "the \"id=eq.5", r#"{"the \"id":null}"#, cascades),
        ("PATCH", weird, "", r#"{"the \"id":5}"#, cascades),
        ("PATCH", weird, "the \"id=eq.5", "not json", cascades),
        ("PATCH", weird, "the \"id=eq.5", r#"[{"x y":"a"},{"x y":"b"}]"#, cascades),
        ("PATCH", weird, "the \"id=eq.5&columns=\"the \\\"id\",\"x y\"", r#"{"x y":"a"}"#, cascades),
        ("PATCH", weird, "the \"id=eq.5&columns=\"x y\"&columns=\"the \\\"id\"", r#"{"x y":"a"}"#, cascades),
        (
            "PATCH",
            weird,
            "the \"id=eq.5",
            r#"{"x y":"a"}"#,
            &["list:weird 'Table", "row:weird 'Table:the \"id=5"],
        ),
        ("PATCH", "posts", "a=eq.1&b=eq.x", r#"{"a":2}"#, &["every", "table:posts"]),
        ("PATCH", "multi", "id=eq.5", r#"{"id":6}"#, &["table:multi"]),
    ]);
}

#[test]
fn a_changed_column_counts_for_the_tables_that_refer_to_it() {
    // users.email is what quirk refers to; likes, which also refers to users, has a composite key.
    let row = format!("row:users:id={ID}");
    let by_key = format!("id=eq.{ID}");
    check(&[
        ("PATCH", "users", &by_key, r#"{"email":"x"}"#, &["every", "list:users", &row]),
        ("PATCH", "users", &by_key, r#"{"team":1}"#, &["list:users", &row]),
        ("PUT", "users", &by_key, &format!(r#"{{"id":"{ID}","email":"x"}}"#), &["every", "list:users", &row]),
        ("PUT", "users", &by_key, "not json", &["every", "list:users", &row]),
        ("PUT", "users", &by_key, &format!(r#"{{"id":"{ID}","team":1}}"#), &["list:users", &row]),
    ]);
}

#[test]
fn a_delete_counts_for_the_tables_that_refer_to_it() {
    check(&[
        ("DELETE", "quirk", "id=eq.5", "", &["list:quirk", "row:quirk:id=5"]),
        ("DELETE", "quirk", "w=eq.5", "", &["table:quirk"]),
        (
            "DELETE",
            "weird 'Table",
            "the \"id=eq.5",
            "",
            &["table:quirk", "list:weird 'Table", "row:weird 'Table:the \"id=5"],
        ),
        // Through users to tables with composite keys, whose references nobody lists.
        ("DELETE", "teams", "id=eq.5", "", &["every", "list:teams", "row:teams:id=5"]),
        ("DELETE", "likes", "", "", &["every", "table:likes"]),
        // It refers to itself: other rows go too.
        ("DELETE", "multi", "id=eq.5", "", &["table:multi", "list:multi", "row:multi:id=5"]),
    ]);
}

#[test]
fn a_plain_insert_moves_the_lists_and_the_rows_it_names() {
    let cases: &[Case<'_>] = &[
        ("POST", "teams", "", r#"{"id":5,"name":"x"}"#, ROW_5),
        ("POST", "teams", "columns=\"id\",\"name\"&select=*", r#"[{"id":5,"name":"x"}]"#, ROW_5),
        ("POST", "teams", "", r#"{"name":"x"}"#, &["list:teams"]),
        ("POST", "teams", "", "[]", &["list:teams"]),
        (
            "POST",
            "teams",
            "",
            r#"[{"id":5},{"id":"06"},{"name":"x"}]"#,
            &["list:teams", "row:teams:id=5", "row:teams:id=6"],
        ),
        ("POST", "posts", "", r#"{"a":1}"#, &["list:posts"]),
        ("POST", "posts", "", r#"{"a":1,"b":"x"}"#, &["list:posts", "row:posts:a=1:b=x"]),
        ("POST", "posts", "", r#"{"a":1,"b":5}"#, &["list:posts", "row:posts:a=1:b=5"]),
        ("POST", "teams", "", r#"{"id":5.5}"#, &["table:teams"]),
        ("POST", "teams", "", r#"{"id":null}"#, &["table:teams"]),
        ("POST", "teams", "", "id,name\n5,x", &["table:teams"]),
        ("POST", "teams", "", r#"{"id":5,"id":6}"#, &["table:teams"]),
    ];
    check(cases);
    check_with("resolution=ignore-duplicates", cases);
    check(&[("POST", "teams", "on_conflict=name", r#"{"id":5}"#, ROW_5)]);
}

#[test]
fn very_many_rows_are_the_table() {
    let insert = |count: usize| {
        let rows: Vec<String> = (0..count).map(|id| format!("{{\"id\":{id}}}")).collect();
        write("POST", "teams", "", &format!("[{}]", rows.join(","))).moves().len()
    };
    assert_eq!(insert(256), 258);
    assert_eq!(insert(257), 2);
}

#[test]
fn an_upsert_by_the_key_is_a_keyed_write() {
    check_with(
        MERGE,
        &[
            ("POST", "teams", "", r#"{"id":5,"name":"x"}"#, ROW_5),
            ("POST", "teams", "on_conflict=id", r#"[{"id":5}]"#, ROW_5),
            ("POST", "teams", "on_conflict=\"id\"&columns=id,name", r#"{"id":5,"big":1}"#, ROW_5),
            ("POST", "posts", "on_conflict=b,a", r#"{"a":1,"b":"x"}"#, &["list:posts", "row:posts:a=1:b=x"]),
        ],
    );
}

#[test]
fn any_other_upsert_may_change_any_row() {
    check_with(
        MERGE,
        &[
            // Without the whole key, a default one may collide with a row that is there.
            ("POST", "teams", "", r#"{"name":"x"}"#, &["table:teams"]),
            ("POST", "teams", "", r#"[{"id":5},{"name":"x"}]"#, &["table:teams"]),
            ("POST", "teams", "columns=name", r#"{"id":5,"name":"x"}"#, &["table:teams"]),
            ("POST", "teams", "", "id,name\n5,x", &["table:teams"]),
            ("POST", "teams", "on_conflict=name", r#"{"name":"x","big":1}"#, &["table:teams"]),
            ("POST", "teams", "on_conflict=name&columns=name", r#"{"id":5,"name":"x"}"#, &["table:teams"]),
            // The row that collides gets the body's key.
            (
                "POST",
                "weird 'Table",
                "on_conflict=x y",
                r#"{"the \"id":5,"x y":"a"}"#,
                &["table:quirk", "table:weird 'Table"],
            ),
            ("POST", "weird 'Table", "on_conflict=x y", "not json", &["table:quirk", "table:weird 'Table"]),
            ("POST", "posts", "on_conflict=a", r#"{"a":1,"b":"x"}"#, &["every", "table:posts"]),
            ("POST", "teams", "on_conflict=id&on_conflict=name", r#"{"name":"x"}"#, &["table:teams"]),
            // A column that others refer to.
            (
                "POST",
                "users",
                "",
                &format!(r#"{{"id":"{ID}","email":"x"}}"#),
                &["every", "list:users", &format!("row:users:id={ID}")],
            ),
        ],
    );
}

#[test]
fn put_is_keyed_by_its_filters() {
    check(&[
        ("PUT", "teams", "id=eq.5", r#"{"id":5,"name":"x"}"#, ROW_5),
        ("PUT", "teams", "id=eq.5", "not json", ROW_5),
        ("PUT", "teams", "name=eq.x", r#"{"id":5,"name":"x"}"#, &["table:teams"]),
    ]);
}

#[test]
fn other_methods_may_do_anything() {
    check(&[("MERGE", "teams", "id=eq.5", "{}", &["every", "table:teams"])]);
    for method in ["GET", "HEAD", "OPTIONS"] {
        for target in [table("teams"), Target::Function(public("f")), Target::Rest] {
            assert_eq!(Write { target, ..write(method, "", "", "") }.moves(), Vec::<String>::new());
        }
    }
}

#[test]
fn a_body_that_was_not_seen_may_change_the_key() {
    let unseen = |method, name, query| Write { body: None, ..write(method, name, query, "") }.moves();
    assert_eq!(unseen("PATCH", "multi", "id=eq.5"), ["schema:public", "table:multi"]);
    assert_eq!(unseen("PATCH", "teams", "id=eq.5"), ["every", "schema:public", "table:teams"]);
    assert_eq!(unseen("POST", "teams", ""), ["schema:public", "table:teams"]);
    assert_eq!(unseen("DELETE", "quirk", "id=eq.5"), ["schema:public", "list:quirk", "row:quirk:id=5"]);
}

#[test]
fn a_write_to_what_may_be_a_view_is_one_to_the_tables_stated() {
    let on_view = |method, name, writes: Option<&[&str]>, depends_on: Option<&[&str]>| {
        let relations = |names: &[&str]| names.iter().map(|name| public(name)).collect();
        let writes = writes.map(relations);
        let depends_on = depends_on.map(relations);
        Write { writes, depends_on, ..write(method, name, "id=eq.1", r#"{"n":1}"#) }.moves()
    };
    for name in ["vusers", "nopk", "nobody"] {
        let own = format!("table:{name}");
        assert_eq!(on_view("POST", name, None, None), ["every", "schema:public", &own]);
        assert_eq!(on_view("PATCH", name, None, None), ["every", "schema:public", &own]);
        assert_eq!(on_view("PATCH", name, Some(&[]), Some(&["users"])), ["schema:public", &own]);
    }
    let stated = ["schema:public", "table:users", "table:vusers"];
    assert_eq!(on_view("POST", "vusers", Some(&["users"]), Some(&["teams"])), stated);
    assert_eq!(on_view("POST", "vusers", None, Some(&["users"])), stated);
    assert_eq!(
        on_view("PATCH", "vusers", Some(&["multi"]), None),
        ["schema:public", "table:multi", "table:vusers"]
    );
    // A PATCH may change a key behind the view, a DELETE deletes rows.
    for method in ["PATCH", "DELETE", "PUT"] {
        let moved = on_view(method, "vusers", Some(&["weird 'Table"]), None);
        assert_eq!(moved, ["schema:public", "table:quirk", "table:vusers", "table:weird 'Table"]);
        let moved = on_view(method, "vusers", Some(&["users"]), None);
        assert_eq!(moved, ["every", "schema:public", "table:users", "table:vusers"]);
    }
}

#[test]
fn in_an_unknown_schema_every_table_may_be_a_view() {
    let unknown = |method, prefer, writes: Option<Vec<Relation>>| {
        let schemas = Schemas::default();
        Write { schemas, writes, prefer, ..write(method, "teams", "id=eq.5", r#"{"name":"x"}"#) }.moves()
    };
    let every = ["every", "schema:public", "table:teams"];
    let teams = || Some(vec![public("teams")]);
    for method in ["PATCH", "POST", "DELETE", "PUT"] {
        assert_eq!(unknown(method, "", None), every, "{method}");
    }
    for method in ["PATCH", "DELETE", "PUT"] {
        assert_eq!(unknown(method, "", teams()), every, "{method}");
    }
    assert_eq!(unknown("POST", "", teams()), ["schema:public", "table:teams"]);
    assert_eq!(unknown("POST", MERGE, teams()), every);
}

#[test]
fn a_table_s_own_writes_do_not_widen_a_keyed_write() {
    let writes = Some(vec![public("teams"), public("multi")]);
    let moved = Write { writes, ..write("PATCH", "teams", "id=eq.5", r#"{"name":"x"}"#) }.moves();
    assert_eq!(moved, ["schema:public", "table:multi", "list:teams", "row:teams:id=5"]);
}

#[test]
fn functions_and_other_paths_write_what_is_stated() {
    let to = |target: Target, writes: Option<&[Relation]>| {
        Write { target, writes: writes.map(<[_]>::to_vec), ..write("POST", "", "", "{}") }.moves()
    };
    let function = || Target::Function(public("f"));
    let stated = [public("weird 'Table"), Relation::new("other", "o")];
    assert_eq!(to(function(), None), ["every", "schema:public"]);
    assert_eq!(to(Target::Rest, None), ["every"]);
    assert_eq!(to(Target::GraphQl, None), ["every"]);
    assert_eq!(to(Target::Other, None), Vec::<String>::new());
    let moved = ["schema:other", "schema:public", "table:other.o", "table:quirk", "table:weird 'Table"];
    for target in [function(), Target::Rest, Target::GraphQl, Target::Other, Target::Storage] {
        assert_eq!(to(target.clone(), Some(&stated)), moved, "{target:?}");
        assert_eq!(to(target.clone(), Some(&[])), Vec::<String>::new(), "{target:?}");
    }
    // Views of the function's own schema may show what it wrote elsewhere.
    assert_eq!(to(function(), Some(&stated[1..])), ["schema:other", "schema:public", "table:other.o"]);
}
