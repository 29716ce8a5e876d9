//! The `select` parser: what it reads stays within its limits, and reads the
//! same again once written out.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::postgrest::select::{Column, Embedding, Item, Join, MAX_DEPTH, MAX_ITEMS, Select, parse_names};

fuzz_target!(|text: &str| {
    if let Ok(select) = Select::parse(text) {
        assert!(count(&select.items, 0) <= MAX_ITEMS);
        let written = items(&select.items);
        assert_eq!(Select::parse(&written).as_ref(), Ok(&select), "{written}");
    }
    if let Ok(names) = parse_names(text) {
        let quoted: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        assert_eq!(parse_names(&quoted.join(",")), Ok(names));
    }
});

/// How many items there are, those of embeddings included.
fn count(items: &[Item], depth: usize) -> usize {
    assert!(depth <= MAX_DEPTH);
    let inner = items.iter().map(|item| match item {
        Item::Embedding(embedding) => count(&embedding.items, depth + 1),
        Item::Star | Item::Column(_) | Item::Aggregate(_) => 0,
    });
    items.len() + inner.sum::<usize>()
}

fn items(items: &[Item]) -> String {
    items.iter().map(item).collect::<Vec<_>>().join(",")
}

fn item(item: &Item) -> String {
    match item {
        Item::Star => "*".to_owned(),
        Item::Column(column) => self::column(column),
        Item::Embedding(embedding) => self::embedding(embedding),
        Item::Aggregate(aggregate) => {
            let cast = cast(aggregate.cast.as_deref());
            match &aggregate.column {
                None => format!("{}count(){cast}", alias(aggregate.alias.as_deref())),
                Some(of) => format!("{}.{}(){cast}", column(of), quoted(&aggregate.function)),
            }
        }
    }
}

fn column(column: &Column) -> String {
    let arrow = |as_text| if as_text { "->>" } else { "->" };
    let path: String =
        column.path.iter().map(|step| format!("{}{}", arrow(step.as_text), step.key)).collect();
    let name = quoted(&column.name);
    format!("{}{name}{path}{}", alias(column.alias.as_deref()), cast(column.cast.as_deref()))
}

fn embedding(embedding: &Embedding) -> String {
    let spread = if embedding.spread { "..." } else { "" };
    let join = match embedding.join {
        Some(Join::Inner) => "!inner",
        Some(Join::Left) => "!left",
        None => "",
    };
    // The join comes first: a hint may be called `inner` only after it.
    let hint = embedding.hint.as_deref().map(|hint| format!("!{}", quoted(hint))).unwrap_or_default();
    let (alias, name) = (alias(embedding.alias.as_deref()), quoted(&embedding.name));
    format!("{spread}{alias}{name}{join}{hint}({})", items(&embedding.items))
}

fn alias(alias: Option<&str>) -> String {
    alias.map(|alias| format!("{}:", quoted(alias))).unwrap_or_default()
}

fn cast(cast: Option<&str>) -> String {
    cast.map(|cast| format!("::{cast}")).unwrap_or_default()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', r"\\").replace('"', r#"\""#))
}
