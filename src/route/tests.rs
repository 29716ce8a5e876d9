use proptest::prelude::*;

use super::*;

fn route(name: &str, resource: Resource, query: &[(&str, &str)]) -> Route {
    let condition = |(name, pattern): &(&str, &str)| QueryCondition {
        name: (*name).to_owned(),
        pattern: Regex::new(pattern).unwrap(),
    };
    let query = query.iter().map(condition).collect();
    Route::new(name.to_owned(), resource, query, None, None, None)
}

fn patterns(texts: &[&str]) -> Vec<RelationPattern> {
    texts.iter().map(|text| RelationPattern::parse(text, "public").unwrap()).collect()
}

fn tables(name: &str, texts: &[&str]) -> Route {
    route(name, Resource::Tables(patterns(texts)), &[])
}

fn path(name: &str, pattern: &str) -> Route {
    route(name, Resource::Path(Regex::new(pattern).unwrap()), &[])
}

fn found(table: &RouteTable, target: Target, path: &str, query: &str) -> String {
    let (path, query) = (DecodedPath::parse(path).unwrap(), Query::parse(query).unwrap());
    table.find(&target, &path, &query).map_or("-".to_owned(), |route| route.name.clone())
}

fn table_named(schema: &str, name: &str) -> Target {
    Target::Table(Relation::new(schema, name))
}

#[test]
fn the_first_match_decides() {
    let routes = RouteTable::new(vec![
        route("active", Resource::Tables(patterns(&["users"])), &[("status", r"^eq\.active$")]),
        tables("users", &["users", "audit.*"]),
        route("functions", Resource::Functions(patterns(&["search_?"])), &[]),
        path("by-path", "^/rest/v1/le ft$"),
        tables("rest", &["*"]),
        path("objects", "^/storage/v1/object/public/"),
    ]);
    for (target, path, query, expected) in [
        (table_named("public", "users"), "/rest/v1/users", "status=eq.active", "active"),
        (table_named("public", "users"), "/rest/v1/users", "status=eq.active&status=eq.active", "active"),
        (table_named("public", "users"), "/rest/v1/users", "status=eq.active&status=eq.gone", "users"),
        (table_named("public", "users"), "/rest/v1/users", "", "users"),
        (table_named("audit", "anything"), "/rest/v1/anything", "", "users"),
        (table_named("other", "users"), "/rest/v1/users", "", "-"),
        (table_named("public", "x"), "/rest/v1/le%20ft", "", "by-path"),
        (table_named("public", "x"), "/rest/v1/x", "", "rest"),
        (Target::Function(Relation::new("public", "search_a")), "/rest/v1/rpc/search_a", "", "functions"),
        (Target::Function(Relation::new("public", "search_ab")), "/rest/v1/rpc/search_ab", "", "-"),
        (Target::Storage, "/storage/v1/object/public/a/b", "", "objects"),
        (Target::Other, "/auth/v1/user", "", "-"),
    ] {
        let query_shown = query;
        assert_eq!(found(&routes, target, path, query), expected, "{path}?{query_shown}");
    }
}

#[test]
fn globs() {
    for (pattern, text, expected) in [
        ("users", "users", true),
        ("users", "Users", false),
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abcb", false),
        ("*a*b", "xaxbxb", true),
        ("?", "é", true),
        ("?", "", false),
        ("a?", "abc", false),
        ("**", "x", true),
        ("a.*", "a", false),
    ] {
        let pattern = format!("s*.{}", pattern.replace('.', "_"));
        let relation = Relation::new("schema", text.replace('.', "_"));
        let matched = RelationPattern::parse(&pattern, "public").unwrap().matches(&relation);
        assert_eq!(matched, expected, "{pattern} {text}");
    }
    let long = "*a".repeat(60);
    assert!(
        !RelationPattern::parse(&long, "public")
            .unwrap()
            .matches(&Relation::new("public", "a".repeat(5000) + "b"))
    );
}

#[test]
fn names_of_headers() {
    let glob = HeaderGlob::parse("X-Client-*").unwrap();
    assert!(glob.matches(&HeaderName::from_static("x-client-info")));
    assert!(!glob.matches(&HeaderName::from_static("x-clients")));
    assert_eq!(glob.as_name(), None);
    assert_eq!(HeaderGlob::parse("Cookie").unwrap().as_name(), Some(http::header::COOKIE));
    assert_eq!(HeaderGlob::parse("a b"), Err(PatternError::Character));
    assert_eq!(HeaderGlob::parse(""), Err(PatternError::Empty));
}

#[test]
fn names_of_tables() {
    assert_eq!(parse_relation("a.b", "public"), Ok(Relation::new("a", "b")));
    assert_eq!(parse_relation("b", "public"), Ok(Relation::new("public", "b")));
    for (text, error) in [
        ("", PatternError::Empty),
        ("a.", PatternError::Empty),
        ("a.b.c", PatternError::Dots),
        ("a*", PatternError::Character),
        ("a/b", PatternError::Character),
    ] {
        assert_eq!(parse_relation(text, "public"), Err(error), "{text}");
    }
}

#[test]
fn routes_that_are_never_reached() {
    let query = [("a", "x"), ("b", "y")];
    for (earlier, later, expected) in [
        (tables("1", &["*"]), tables("2", &["users", "a*"]), true),
        (tables("1", &["a*", "b*"]), tables("2", &["b?c", "ab"]), true),
        (tables("1", &["a*"]), tables("2", &["ab", "b"]), false),
        (tables("1", &["?"]), tables("2", &["*"]), false),
        (tables("1", &["*"]), tables("2", &["other.*"]), false),
        (tables("1", &["*.*"]), tables("2", &["other.*"]), true),
        (tables("1", &["*"]), route("2", Resource::Functions(patterns(&["f"])), &[]), false),
        (path("1", "^/a"), path("2", "^/a"), true),
        (path("1", "^/a"), path("2", "^/a/b"), false),
        (route("1", Resource::Tables(patterns(&["*"])), &query[..1]), tables("2", &["t"]), false),
        (
            route("1", Resource::Tables(patterns(&["*"])), &query[..1]),
            route("2", Resource::Tables(patterns(&["t"])), &query),
            true,
        ),
    ] {
        let shown = format!("{:?} {:?}", earlier.resource, later.resource);
        let table = RouteTable::new(vec![earlier, later]);
        let shadowed: Vec<_> =
            table.shadowed().iter().map(|(late, early)| (late.name.clone(), early.name.clone())).collect();
        let expected = if expected { vec![("2".to_owned(), "1".to_owned())] } else { Vec::new() };
        assert_eq!(shadowed, expected, "{shown}");
    }
}

#[test]
fn patterns_that_mean_the_same_table() {
    for (one, other, expected) in [
        ("users", "users", true),
        ("users", "posts", false),
        ("a.users", "users", false),
        ("*.users", "users", true),
        ("*", "users", true),
        ("a*", "*b", true),
        ("a*", "b*", false),
        ("a?", "?b", true),
        ("a?", "a", false),
        ("a?c", "a*d", false),
        ("*a*", "*b*", true),
        ("a**", "a", true),
    ] {
        let [one, other] = [one, other].map(|text| RelationPattern::parse(text, "public").unwrap());
        assert_eq!((one.overlaps(&other), other.overlaps(&one)), (expected, expected), "{one} {other}");
    }
}

#[test]
fn the_routes_that_may_decide_about_a_table() {
    let active = [("status", "^eq")];
    let routes = RouteTable::new(vec![
        route("active", Resource::Tables(patterns(&["u*"])), &active),
        route("by-path", Resource::Path(Regex::new("^/rest/v1/posts$").unwrap()), &[]),
        route("both", Resource::Tables(patterns(&["users", "posts", "tags"])), &active),
        tables("users", &["users"]),
        tables("rest", &["*"]),
    ]);
    let of = |name: &str| -> Vec<&str> {
        routes.of_table(&Relation::new("public", name)).map(|route| route.name.as_str()).collect()
    };
    assert_eq!(of("users"), ["active", "both", "users"]);
    assert_eq!(of("posts"), ["by-path"]);
    assert_eq!(of("tags"), ["both", "rest"]);
    assert_eq!(routes.of_table(&Relation::new("other", "tags")).count(), 0);
    // The routes by their places, and whether some table is left to both.
    for (earlier, later, expected) in [
        (0, 2, true),
        (0, 3, true),
        (0, 4, true),
        (2, 3, true),
        (2, 4, true),
        (3, 4, false),
        (1, 2, false),
        (2, 0, false),
        (0, 9, false),
    ] {
        assert_eq!(routes.share_a_table(earlier, later), expected, "{earlier} {later}");
    }
    let taken = RouteTable::new(vec![
        tables("1", &["users"]),
        route("2", Resource::Tables(patterns(&["u*"])), &active),
        tables("3", &["users"]),
    ]);
    assert!(!taken.share_a_table(1, 2), "the first takes all requests for users");
}

#[test]
fn methods_that_are_deferred_by_default() {
    let methods = WritePolicy::default().methods;
    for (method, expected) in
        [("PATCH", true), ("POST", true), ("PUT", true), ("DELETE", false), ("GET", false)]
    {
        assert_eq!(methods.contain(&Method::from_bytes(method.as_bytes()).unwrap()), expected, "{method}");
    }
}

#[test]
fn entries_outlive_another_write_policy() {
    let with = |write: Option<WritePolicy>| {
        let resource = Resource::Tables(patterns(&["users"]));
        Route::new("r".into(), resource, Vec::new(), None, None, write.map(Arc::new)).tag()
    };
    assert_eq!(with(None), with(Some(WritePolicy::default())));
}

proptest! {
    /// Two patterns overlap if a text matches both; of the shortest such, each character is
    /// one that a pattern asks for, so that none is longer than both together.
    #[test]
    fn patterns_overlap_where_a_text_matches_both(one in "[ab*?]{1,4}", other in "[ab*?]{1,4}") {
        let [first, second] = [&one, &other].map(|text| RelationPattern::parse(text, "public").unwrap());
        let matches_both = |text: &str| {
            let relation = Relation::new("public", text);
            first.matches(&relation) && second.matches(&relation)
        };
        let texts = (0..=8).flat_map(|length| (0..1 << length).map(move |bits: usize| -> String {
            (0..length).map(|at| if bits >> at & 1 == 0 { 'a' } else { 'b' }).collect()
        }));
        let found = texts.into_iter().any(|text| matches_both(&text));
        prop_assert_eq!(first.overlaps(&second), found, "{} {}", one, other);
    }
}
