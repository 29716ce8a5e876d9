use std::fmt::Write;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Vec<Item> {
    Select::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).items
}

fn column(name: &str) -> Column {
    Column { alias: None, name: name.into(), path: vec![], cast: None }
}

fn embedding(name: &str, items: Vec<Item>) -> Embedding {
    Embedding { alias: None, spread: false, name: name.into(), hint: None, join: None, items }
}

#[test]
fn columns() {
    let step = |as_text, key: &str| PathStep { as_text, key: key.into() };
    let cases = [
        ("id", column("id")),
        (" id ", column("id")),
        ("full name", column("full name")),
        ("\"a,(b) \\\"c\\\"\"", column("a,(b) \"c\"")),
        ("created-at", column("created-at")),
        ("count", column("count")),
        ("a:id::text", Column { alias: Some("a".into()), cast: Some("text".into()), ..column("id") }),
        ("id::int[]", Column { cast: Some("int[]".into()), ..column("id") }),
        ("d->a-b->>0", Column { path: vec![step(false, "a-b"), step(true, "0")], ..column("d") }),
        ("d->-1", Column { path: vec![step(false, "-1")], ..column("d") }),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text), [Item::Column(expected)], "{text}");
    }
    assert_eq!(parse(""), []);
    assert_eq!(parse("*, id"), [Item::Star, Item::Column(column("id"))]);
}

#[test]
fn aggregates_are_no_embeddings() {
    let aggregate = |text: &str| match &parse(text)[..] {
        [Item::Aggregate(aggregate)] => aggregate.clone(),
        items => panic!("{text}: {items:?}"),
    };
    let count = Aggregate { column: None, alias: None, function: "count".into(), cast: None };
    assert_eq!(aggregate("count()"), count);
    assert_eq!(aggregate("n:count()::text").alias.as_deref(), Some("n"));
    let sum = aggregate("total:amount::int.sum()::text");
    assert_eq!((sum.function.as_str(), sum.cast.as_deref()), ("sum", Some("text")));
    assert_eq!(sum.column.unwrap().name, "amount");
}

#[test]
fn embeddings() {
    let inner = vec![Item::Column(column("name"))];
    let plain = embedding("teams", inner.clone());
    let cases = [
        ("teams(name)", plain.clone()),
        ("teams ( name )", plain.clone()),
        ("teams()", embedding("teams", vec![])),
        ("t:teams(name)", Embedding { alias: Some("t".into()), ..plain.clone() }),
        ("...teams(name)", Embedding { spread: true, ..plain.clone() }),
        ("teams!fk(name)", Embedding { hint: Some("fk".into()), ..plain.clone() }),
        ("teams!inner(name)", Embedding { join: Some(Join::Inner), ..plain.clone() }),
        (
            "teams!left!fk(name)",
            Embedding { hint: Some("fk".into()), join: Some(Join::Left), ..plain.clone() },
        ),
        ("teams!fk!inner(name)", Embedding { hint: Some("fk".into()), join: Some(Join::Inner), ..plain }),
        ("rel(count)", embedding("rel", vec![Item::Column(column("count"))])),
        ("a(b(name))", embedding("a", vec![Item::Embedding(embedding("b", inner))])),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text), [Item::Embedding(expected)], "{text}");
    }
}

#[test]
fn malformed() {
    for text in [
        " ",
        ",",
        "a,",
        ",a",
        "a,,b",
        "a(",
        "a)",
        "a(b",
        "a(b))",
        "a((b))",
        "(a)",
        "a!(b)",
        "a!b",
        "a!b!c(d)",
        "a!inner!inner!left(b)",
        "\"a",
        "\"\"",
        "a:",
        ":a",
        "a:b:c",
        "a::",
        "a->",
        "a->>",
        "a.sum",
        "a.sum(b)",
        "count(id)",
        "a.b(c)",
        "*a",
        "a:*",
        "...a",
        "....a(b)",
        "a\tb",
        "a;b",
        "a::b(c)",
        "a\"b\"",
    ] {
        assert!(matches!(Select::parse(text), Err(SelectError::Malformed(_))), "{text:?}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |levels: usize| format!("{}a{}", "a(".repeat(levels), ")".repeat(levels));
    assert!(Select::parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(Select::parse(&nested(MAX_DEPTH + 1)), Err(SelectError::TooDeep));
    assert_eq!(Select::parse(&nested(1000)), Err(SelectError::TooDeep));
    assert_eq!(Select::parse(&"a(".repeat(1_000_000)), Err(SelectError::TooDeep));
    assert!(Select::parse(&vec!["a"; MAX_ITEMS].join(",")).is_ok());
    assert_eq!(Select::parse(&vec!["a"; MAX_ITEMS + 1].join(",")), Err(SelectError::TooManyItems));
}

#[test]
fn lists_of_names() {
    assert_eq!(parse_names("\"id\",\"v w\", x").unwrap(), ["id", "v w", "x"]);
    for text in ["", "a,", "a b,,c", "a(b)", "\"a\"b"] {
        assert!(parse_names(text).is_err(), "{text}");
    }
}

fn print_items(items: &[Item], out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        match item {
            Item::Star => out.push('*'),
            Item::Column(column) => print_column(column, out),
            Item::Aggregate(aggregate) => print_aggregate(aggregate, out),
            Item::Embedding(embedding) => print_embedding(embedding, out),
        }
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn print_alias(alias: Option<&String>, out: &mut String) {
    alias.iter().for_each(|alias| write!(out, "{}:", quote(alias)).unwrap());
}

fn print_column(column: &Column, out: &mut String) {
    print_alias(column.alias.as_ref(), out);
    out.push_str(&quote(&column.name));
    for step in &column.path {
        write!(out, "->{}{}", if step.as_text { ">" } else { "" }, step.key).unwrap();
    }
    column.cast.iter().for_each(|cast| write!(out, "::{cast}").unwrap());
}

fn print_aggregate(aggregate: &Aggregate, out: &mut String) {
    print_alias(aggregate.alias.as_ref(), out);
    if let Some(column) = &aggregate.column {
        print_column(column, out);
        out.push('.');
    }
    write!(out, "{}()", aggregate.function).unwrap();
    aggregate.cast.iter().for_each(|cast| write!(out, "::{cast}").unwrap());
}

fn print_embedding(embedding: &Embedding, out: &mut String) {
    print_alias(embedding.alias.as_ref(), out);
    write!(out, "{}{}", if embedding.spread { "..." } else { "" }, quote(&embedding.name)).unwrap();
    embedding.hint.iter().for_each(|hint| write!(out, "!{}", quote(hint)).unwrap());
    match embedding.join {
        Some(Join::Inner) => out.push_str("!inner"),
        Some(Join::Left) => out.push_str("!left"),
        None => (),
    }
    out.push('(');
    print_items(&embedding.items, out);
    out.push(')');
}

fn name() -> impl Strategy<Value = String> {
    "[a-zé0-9_$ ,():!.\"\\\\>-]{1,8}"
        .prop_filter("a word of the grammar", |name| !matches!(name.as_str(), "inner" | "left" | "count"))
}

fn any_column() -> impl Strategy<Value = Column> {
    let step =
        (any::<bool>(), "[a-z0-9_]{1,3}(-[a-z]{1,2})?").prop_map(|(as_text, key)| PathStep { as_text, key });
    (
        prop::option::of(name()),
        name(),
        prop::collection::vec(step, 0..3),
        prop::option::of("[a-z]{1,5}".prop_map(String::from)),
    )
        .prop_map(|(alias, name, path, cast)| Column { alias, name, path, cast })
}

fn any_item() -> impl Strategy<Value = Item> {
    let cast = || prop::option::of("[a-z]{1,4}".prop_map(String::from));
    let leaf = prop_oneof![
        Just(Item::Star),
        any_column().prop_map(Item::Column),
        (any_column(), cast()).prop_map(|(column, cast)| Item::Aggregate(Aggregate {
            column: Some(column),
            alias: None,
            function: "max".into(),
            cast
        })),
        (prop::option::of(name()), cast()).prop_map(|(alias, cast)| Item::Aggregate(Aggregate {
            column: None,
            alias,
            function: "count".into(),
            cast
        })),
    ];
    leaf.prop_recursive(4, 24, 4, |item| {
        (
            prop::option::of(name()),
            name(),
            prop::option::of(name()),
            prop::option::of(prop_oneof![Just(Join::Inner), Just(Join::Left)]),
            prop::collection::vec(item, 0..4),
            any::<bool>(),
        )
            .prop_map(|(alias, name, hint, join, items, spread)| {
                let alias = if spread { None } else { alias };
                Item::Embedding(Embedding { alias, spread, name, hint, join, items })
            })
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_back(items in prop::collection::vec(any_item(), 0..5)) {
        let mut text = String::new();
        print_items(&items, &mut text);
        prop_assert_eq!(Select::parse(&text), Ok(Select { items }), "{}", text);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = Select::parse(&text);
    }

    #[test]
    fn no_text_of_the_grammar_s_characters_panics(text in "[a*\"\\\\(),.:!> é-]{0,40}") {
        let _ = Select::parse(&text);
    }
}
