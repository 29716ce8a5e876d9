use super::*;

/// The tags of `GET /rest/v1/<name>?<query>` beside `all` and `every`.
fn tags(name: &str, query: &str) -> Vec<String> {
    tags_with(&table(name), query, &known(), None)
}

fn tags_with(
    target: &Target,
    query: &str,
    schemas: &Schemas,
    depends_on: Option<&[Relation]>,
) -> Vec<String> {
    let read = read_tags(target, &Query::parse(query).unwrap(), schemas, depends_on).unwrap();
    let tags = print(&read.tags);
    assert_eq!(tags[..2], ["all", "every"], "{target:?} {query}");
    tags[2..].to_vec()
}

fn check(cases: &[(&str, &str, &[&str])]) {
    for (name, query, expected) in cases {
        assert_eq!(tags(name, query), *expected, "{name}?{query}");
    }
}

#[test]
fn lists_carry_their_table_s_list() {
    check(&[
        ("teams", "", &["table:teams", "list:teams"]),
        ("teams", "select=*&order=id&limit=1", &["table:teams", "list:teams"]),
        ("teams", "select=name,alias:big::text", &["table:teams", "list:teams"]),
    ]);
}

#[test]
fn the_whole_key_by_eq_is_a_point_read() {
    let row = &["table:teams", "row:teams:id=5"][..];
    check(&[
        ("teams", "id=eq.5", row),
        ("teams", "id=eq.%2005", row),
        ("teams", "id=eq.5&select=id,name", row),
        ("teams", "id=eq.5&name=neq.x&or=(big.eq.1,sm.eq.2)", row),
        ("teams", "id=eq.5&limit=1&order=name&offset=0", row),
        ("teams", "id=gt.1&id=eq.5", row),
        ("teams", "id=eq.5&id=eq.5", row),
        (
            "users",
            "id=eq.00000000-0000-0000-0000-00000000000A",
            &["table:users", "row:users:id=00000000-0000-0000-0000-00000000000a"],
        ),
        ("posts", "b=eq.B&a=eq.1", &["table:posts", "row:posts:a=1:b=B"]),
    ]);
}

#[test]
fn anything_less_is_a_list() {
    for query in [
        "id=gt.5",
        "id=in.(5)",
        "id=not.eq.5",
        "id=eq(any).{5}",
        "id=eq",
        "id=eq.x",
        "id=eq.",
        "ID=eq.5",
        "or=(id.eq.5)",
        "and=(id.eq.5)",
        "name=eq.5",
        "teams.id=eq.5",
        "id->>x=eq.5",
    ] {
        assert_eq!(tags("teams", query), ["table:teams", "list:teams"], "{query}");
    }
    assert_eq!(tags("posts", "a=eq.1"), ["table:posts", "list:posts"]);
    assert_eq!(tags("nopk", "x=eq.1"), ["schema:public", "table:nopk", "list:nopk"]);
}

#[test]
fn an_answer_without_the_row_is_no_point_read() {
    let list = &["table:teams", "list:teams"][..];
    let list_and_schema = &["schema:public", "table:teams", "list:teams"][..];
    check(&[
        ("teams", "id=eq.5&select=count()", list),
        ("teams", "id=eq.5&select=big.sum()", list),
        ("teams", "id=eq.5&select=count", list_and_schema),
        (
            "teams",
            "id=eq.5&select=users(count)",
            &["schema:public", "table:teams", "table:users", "list:users", "row:teams:id=5"],
        ),
        (
            "users",
            &format!("id=eq.{ID}&select=...teams(id.sum())"),
            &["table:teams", "table:users", "list:teams", "list:users"],
        ),
    ]);
    let read = read_tags(&table("teams"), &Query::parse("id=eq.5").unwrap(), &known(), None).unwrap();
    assert_eq!(print(&read.if_empty), ["list:teams"]);
    let read = read_tags(&table("teams"), &Query::parse("").unwrap(), &known(), None).unwrap();
    assert_eq!(read.if_empty, []);
}

#[test]
fn embedded_tables_joined_by_one_foreign_key_are_known() {
    let both = &["table:teams", "table:users", "list:teams", "list:users"][..];
    check(&[
        ("users", "select=*,teams(*)", both),
        ("teams", "select=*,users(*)", both),
        ("users", "select=*,t:teams!inner(*)", both),
        ("users", "select=*,...teams(name)", both),
        ("users", "select=*,teams!team(*)", both),
        ("users", "select=teams()&teams.id=eq.1&teams.order=name", both),
        ("users", "select=id&select=teams(*)", both),
        ("users", "select=*,users(*)", &["table:users", "list:users"]),
        (
            "users",
            &format!("id=eq.{ID}&select=*,users!boss(*)"),
            &["table:users", "list:users", &format!("row:users:id={ID}")],
        ),
        (
            "users",
            &format!("id=eq.{ID}&select=*,teams(*)"),
            &["table:teams", "table:users", "list:teams", &format!("row:users:id={ID}")],
        ),
        (
            "posts",
            "select=users(teams(*))",
            &["table:posts", "table:teams", "table:users", "list:posts", "list:teams", "list:users"],
        ),
    ]);
}

#[test]
fn whatever_else_is_embedded_carries_the_schema() {
    for (name, select) in [
        ("users", "team(*)"),
        ("users", "users_team_fkey(*)"),
        ("users", "computed(*)"),
        ("users", "teams!users_team_fkey(*)"),
        ("users", "teams!junction(*)"),
        ("teams", "vusers(*)"),
        ("posts", "likes(*)"),
        ("posts", "teams(*)"),
        ("junction", "users!team(*)"),
        ("users", "full_name"),
        ("users", "teams(computed_column)"),
        ("users", "teams(users!junction(*))"),
        ("users", "computed.sum()"),
    ] {
        let tags = tags(name, &format!("select={select}"));
        assert_eq!(tags[0], "schema:public", "{name}?select={select}");
        let trusted = tags_with(&table(name), &format!("select={select}"), &known(), Some(&[]));
        assert_eq!(trusted, tags[1..], "{name}?select={select}");
    }
}

#[test]
fn views_carry_the_schema_and_no_row() {
    check(&[
        ("vusers", &format!("id=eq.{ID}"), &["schema:public", "table:vusers", "list:vusers"]),
        ("mv", "id=eq.1", &["schema:public", "table:mv", "list:mv"]),
        ("nobody", "id=eq.1", &["schema:public", "table:nobody", "list:nobody"]),
    ]);
    let users = [public("users")];
    assert_eq!(
        tags_with(&table("vusers"), "", &known(), Some(&users)),
        ["table:users", "table:vusers", "list:users", "list:vusers"]
    );
}

#[test]
fn an_unknown_schema_is_all_there_is_to_depend_on() {
    let other = Target::Table(Relation::new("other", "o"));
    let nothing = Schemas::default();
    assert_eq!(
        tags_with(&table("teams"), "id=eq.5&select=*,users(*)", &nothing, None),
        ["schema:public", "table:teams", "table:users", "list:teams", "list:users",]
    );
    assert_eq!(tags_with(&other, "", &known(), None), ["schema:other", "table:other.o", "list:other.o"]);
    let posts = [public("posts")];
    assert_eq!(
        tags_with(&table("teams"), "select=users(*)", &nothing, Some(&posts)),
        ["table:posts", "table:teams", "table:users", "list:posts", "list:teams", "list:users",]
    );
}

#[test]
fn functions_carry_the_schema_unless_their_tables_are_stated() {
    let function = Target::Function(public("f"));
    assert_eq!(tags_with(&function, "a=1", &known(), None), ["schema:public"]);
    let users = [public("users")];
    assert_eq!(
        tags_with(&function, "select=id,teams(*)", &known(), Some(&users)),
        ["table:teams", "table:users", "list:teams", "list:users",]
    );
}

#[test]
fn other_paths_depend_on_what_their_route_states() {
    let read = |target: &Target, depends_on: Option<&[Relation]>| {
        read_tags(target, &Query::default(), &known(), depends_on).map(|read| print(&read.tags))
    };
    let users = [public("users")];
    let stated = ["all", "every", "table:users", "list:users"].map(String::from).to_vec();
    for target in [Target::Rest, Target::GraphQl, Target::Other, Target::Storage] {
        assert_eq!(read(&target, Some(&users)), Ok(stated.clone()), "{target:?}");
    }
    assert_eq!(read(&Target::Rest, None), Ok(vec!["all".into(), "every".into()]));
    assert_eq!(read(&Target::GraphQl, None), Err(FootprintError::UnknownTables));
    assert_eq!(read(&Target::Other, None), Ok(vec!["all".into()]));
}

#[test]
fn a_select_that_was_not_understood_is_an_error() {
    for query in ["select=a(", "select=id&select=,", &format!("select={}", "a(".repeat(1000))] {
        for target in [table("teams"), Target::Function(public("f"))] {
            let read = read_tags(&target, &Query::parse(query).unwrap(), &known(), None);
            assert!(matches!(read, Err(FootprintError::Select(_))), "{query}");
        }
    }
}
