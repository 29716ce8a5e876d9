use super::*;
use crate::postgrest::timestamp::TimestampKind;

/// Recorded from PostgREST 12.0.2, shortened.
pub(crate) const DESCRIPTION: &str = include_str!("tests/description.json");

fn schema() -> Schema {
    Schema::from_openapi(DESCRIPTION.as_bytes()).unwrap()
}

#[test]
fn keys_types_and_references() {
    let schema = schema();
    let users = schema.table("users").unwrap();
    assert_eq!(users.key(), ["id"]);
    assert_eq!(users.column("id").unwrap().key_type, Some(KeyType::Uuid));
    assert_eq!(users.column("email").unwrap().key_type, Some(KeyType::Text { max_chars: Some(40) }));
    assert_eq!(users.column("m").unwrap().format, "public.mood");
    assert_eq!(users.column("m").unwrap().key_type, None);
    assert!(users.column("id").unwrap().required && !users.column("team").unwrap().required);
    let team = Reference { table: "teams".into(), column: "id".into() };
    assert_eq!(users.column("team").unwrap().references, [team]);
    assert_eq!(schema.table("likes").unwrap().key(), ["a", "b", "uid"]);
    assert_eq!(schema.functions().collect::<Vec<_>>(), ["addone", "vol"]);
    assert_eq!(schema.table("nobody"), None);
}

#[test]
fn columns_in_the_tables_order() {
    let schema = schema();
    let order = |table: &str| schema.table(table).unwrap().order().join(" ");
    assert_eq!(order("users"), "id email team boss m t arr js ch nu bo");
    assert_eq!(order("likes"), "uid a b");
    let repeated = r#"{"swagger":"2.0","paths":{},"definitions":{"t":{"properties":{
        "b":{"format":"text"},"a":{"format":"text"},"b":{"format":"uuid"}}}}}"#;
    let repeated = Schema::from_openapi(repeated.as_bytes()).unwrap();
    assert_eq!(repeated.table("t").unwrap().order(), ["b", "a"]);
}

#[test]
fn what_columns_take() {
    let schema = schema();
    let users = schema.table("users").unwrap();
    for (column, column_type) in [
        ("id", ColumnType::Uuid),
        ("email", ColumnType::Text { max_chars: Some(40) }),
        ("m", ColumnType::Enum(vec!["sad".into(), "ok".into()])),
        ("t", ColumnType::Timestamp(TimestampKind::WithZone)),
        ("arr", ColumnType::Array(Box::new(ColumnType::declared("integer", None, None)))),
        ("js", ColumnType::Jsonb),
        ("ch", ColumnType::Unknown),
    ] {
        assert_eq!(users.column(column).unwrap().column_type, column_type, "{column}");
    }
    let defaults = users.columns().filter(|(_, column)| column.has_default).map(|(name, _)| name);
    assert_eq!(defaults.collect::<Vec<_>>(), ["id", "t"]);
}

#[test]
fn a_default_counts_whatever_it_is() {
    let json = r#"{"swagger":"2.0","paths":{},"definitions":{"t":{"properties":{
        "a":{"default":null},"b":{"default":false},"c":{"default":0},"d":{}}}}}"#;
    let schema = Schema::from_openapi(json.as_bytes()).unwrap();
    let defaults = schema.table("t").unwrap().columns().map(|(_, column)| column.has_default);
    assert_eq!(defaults.collect::<Vec<_>>(), [true, true, true, false]);
}

#[test]
fn names_and_comments_hold_anything() {
    let schema = schema();
    let weird = schema.table("weird 'Table").unwrap();
    assert_eq!(weird.key(), ["the \"id"]);
    let quirk = schema.table("quirk").unwrap();
    assert_eq!(quirk.key(), ["id"], "a comment's <pk/> is not a key");
    let reference = Reference { table: "weird 'Table".into(), column: "the \"id".into() };
    assert_eq!(quirk.column("w").unwrap().references, [reference], "a comment's <fk/> is not a key");
}

#[test]
fn views_are_told_by_their_key() {
    let schema = schema();
    for (name, may_be_view) in
        [("users", false), ("likes", false), ("vusers", true), ("mv", true), ("nopk", true)]
    {
        assert_eq!(schema.table(name).unwrap().may_be_view(), may_be_view, "{name}");
    }
}

#[test]
fn direct_joins_in_either_direction() {
    let schema = schema();
    let cases: [(&str, &str, &[&str]); 6] = [
        ("users", "teams", &["team"]),
        ("teams", "users", &["team"]),
        ("users", "users", &["boss"]),
        ("likes", "posts", &[]),
        ("quirk", "users", &["email"]),
        ("users", "nobody", &[]),
    ];
    for (one, other, columns) in cases {
        assert_eq!(schema.joins(one, other), columns, "{one} {other}");
    }
}

#[test]
fn referenced_columns() {
    let schema = schema();
    for (table, column, referenced) in [
        ("users", "id", true),
        ("users", "email", true),
        ("users", "team", false),
        ("nopk", "x", false),
        ("nobody", "id", false),
    ] {
        assert_eq!(schema.is_referenced(table, column), referenced, "{table}.{column}");
    }
}

#[test]
fn dependents_are_transitive() {
    let schema = schema();
    let of = |table| {
        let dependents = schema.dependents(table);
        (dependents.tables.into_iter().collect::<Vec<_>>(), dependents.complete)
    };
    assert_eq!(of("weird 'Table"), (vec!["quirk"], true));
    assert_eq!(of("quirk"), (vec![], true));
    assert_eq!(of("multi"), (vec!["multi"], true), "a cycle ends");
    assert_eq!(of("posts"), (vec![], false), "a composite key's references are not listed");
    assert_eq!(of("nobody"), (vec![], false));
    let (tables, complete) = of("teams");
    assert_eq!(tables, ["junction", "likes", "posts", "quirk", "users", "vusers"]);
    assert!(!complete, "likes has a composite key");
}

#[test]
fn other_documents_are_refused() {
    for json in ["", "[]", "{}", r#"{"message":"Invalid API key"}"#, r#"{"swagger":"2.0"}"#] {
        assert!(matches!(Schema::from_openapi(json.as_bytes()), Err(SchemaError::Malformed(_))), "{json}");
    }
    let newer = r#"{"swagger":"3.1","definitions":{},"paths":{}}"#;
    assert!(matches!(Schema::from_openapi(newer.as_bytes()), Err(SchemaError::Version(_))));
}

#[test]
fn schemas_by_name() {
    let schemas: Schemas = [("public".to_owned(), schema())].into_iter().collect();
    assert!(schemas.get("public").is_some() && schemas.get("other").is_none());
    assert_eq!(schemas.clone().names().collect::<Vec<_>>(), ["public"]);
}
