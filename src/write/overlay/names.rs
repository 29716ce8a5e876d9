//! The columns that stand in filters, orders and conditions.
//!
//! Only the usual forms are read. Whatever has another, a quoted name say, is
//! not understood, and the read that holds it waits.

/// How deep conditions may nest.
const MAX_DEPTH: usize = 32;

/// What a parameter of the query is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    /// The embedded resources on the way to the one that it is about, outermost first.
    pub path: Vec<&'a str>,
    /// What it says.
    pub subject: Subject<'a>,
}

/// What a parameter says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    /// It filters by a column, or by an embedded resource of that name.
    Filter(&'a str),
    /// Its value is a condition, `and` or `or`.
    Condition,
    /// Its value is an order.
    Order,
    /// Its value is a `limit` or an `offset`.
    Window,
}

/// A term of an `order`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OrderTerm<'a> {
    /// The embedded resource whose column it is, where it isn't the own.
    pub embedded: Option<&'a str>,
    /// The column.
    pub column: &'a str,
}

/// Reads a parameter's decoded name.
pub(super) fn parameter(name: &str) -> Option<Parameter<'_>> {
    let (plain, is_path) = match name.split_once("->") {
        Some((plain, _)) => (plain, true),
        None => (name, false),
    };
    let mut path: Vec<&str> = plain.split('.').collect();
    if name.contains(['"', '\\']) || path.contains(&"") {
        return None;
    }
    let last = path.pop()?;
    let subject = match last {
        _ if is_path => Subject::Filter(last),
        "and" | "or" => {
            path.retain(|segment| *segment != "not");
            Subject::Condition
        }
        "order" => Subject::Order,
        "limit" | "offset" => Subject::Window,
        column => Subject::Filter(column),
    };
    Some(Parameter { path, subject })
}

/// Reads an `order`: `name.desc.nullslast,path->>step.asc,team(name)`.
pub(super) fn order(value: &str) -> Option<Vec<OrderTerm<'_>>> {
    value.split(',').map(order_term).collect()
}

fn order_term(term: &str) -> Option<OrderTerm<'_>> {
    let (field, rest) = match term.find([')', '.']) {
        Some(at) if term[at..].starts_with(')') => term.split_at(at + 1),
        Some(at) => term.split_at(at),
        None => (term, ""),
    };
    let words: Vec<&str> = rest.split('.').collect();
    // What stands before the first dot is empty.
    if !matches!(
        *words,
        [""] | ["", "asc" | "desc" | "nullsfirst" | "nullslast"]
            | ["", "asc" | "desc", "nullsfirst" | "nullslast"]
    ) {
        return None;
    }
    match field.strip_suffix(')') {
        Some(field) => {
            let (embedded, field) = field.split_once('(')?;
            Some(OrderTerm { embedded: Some(plain_name(embedded)?), column: column_of(field)? })
        }
        None => Some(OrderTerm { embedded: None, column: column_of(field)? }),
    }
}

/// The column before a JSON path, if there is any.
fn column_of(field: &str) -> Option<&str> {
    plain_name(field.split_once("->").map_or(field, |(column, _)| column))
}

fn plain_name(name: &str) -> Option<&str> {
    let is_plain = !name.is_empty() && name.chars().all(is_name_character);
    is_plain.then_some(name)
}

fn is_name_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '$')
}

/// The columns in a condition: `(a.eq.1,not.and(b.in.(1,2),c->>d.is.null))`.
pub(super) fn condition(value: &str) -> Option<Vec<&str>> {
    let mut rest = value.strip_prefix('(')?;
    let mut depth = 1_usize;
    let mut columns = Vec::new();
    while depth > 0 {
        while let Some(inner) = nested(rest) {
            rest = inner;
            depth += 1;
            if depth > MAX_DEPTH {
                return None;
            }
        }
        let (column, after) = comparison(rest)?;
        columns.push(column);
        rest = after;
        while let Some(after) = rest.strip_prefix(')') {
            rest = after;
            depth = depth.checked_sub(1)?;
        }
        match rest.strip_prefix(',') {
            Some(after) if depth > 0 => rest = after,
            None if depth == 0 && rest.is_empty() => break,
            _ => return None,
        }
    }
    Some(columns)
}

/// What follows `and(`, `or(`, `not.and(` or `not.or(`.
fn nested(text: &str) -> Option<&str> {
    let text = text.strip_prefix("not.").unwrap_or(text);
    text.strip_prefix("and(").or_else(|| text.strip_prefix("or("))
}

/// `column.operator.value`: the column and what follows.
fn comparison(text: &str) -> Option<(&str, &str)> {
    let length = text.find(|character| !is_name_character(character))?;
    let (column, rest) = text.split_at(length);
    let rest = if rest.starts_with("->") { &rest[rest.find('.')?..] } else { rest };
    let after = value(operator(rest.strip_prefix('.')?)?)?;
    (!column.is_empty()).then_some((column, after))
}

/// What an operator is followed by: a list, or one value.
enum Operand<'a> {
    List(&'a str),
    Value(&'a str),
}

/// `not.in.`, `eq(any).`, `fts(english).`: what follows.
fn operator(text: &str) -> Option<Operand<'_>> {
    let (word, rest) = text.strip_prefix("not.").unwrap_or(text).split_once('.')?;
    let (word, modifier) = match word.split_once('(') {
        Some((word, modifier)) => (word, modifier.strip_suffix(')')?),
        None => (word, ""),
    };
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    if !is_word || !modifier.chars().all(is_name_character) {
        return None;
    }
    Some(if word == "in" { Operand::List(rest.strip_prefix('(')?) } else { Operand::Value(rest) })
}

/// Steps over an operand.
fn value(operand: Operand<'_>) -> Option<&str> {
    match operand {
        Operand::Value(text) if text.starts_with('{') => {
            let end = text.find('}')?;
            let inner = &text[1..end];
            (!inner.contains(['"', '{'])).then_some(&text[end + 1..])
        }
        Operand::Value(text) => element(text),
        Operand::List(text) => {
            let mut rest = element(text)?;
            while let Some(after) = rest.strip_prefix(',') {
                rest = element(after)?;
            }
            rest.strip_prefix(')')
        }
    }
}

/// Steps over one value, quoted or bare.
fn element(text: &str) -> Option<&str> {
    match text.strip_prefix('"') {
        Some(quoted) => {
            let end = quoted.find(['"', '\\'])?;
            quoted[end..].strip_prefix('"')
        }
        None => {
            let end = text.find([',', ')'])?;
            (!text[..end].contains(['"', '(', '{', '}', '\\'])).then_some(&text[end..])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_parameters_are_about() {
        let cases: [(&str, &[&str], Subject<'_>); 11] = [
            ("name", &[], Subject::Filter("name")),
            ("settings->theme->>dark.mode", &[], Subject::Filter("settings")),
            ("team.name", &["team"], Subject::Filter("name")),
            ("team.city.order", &["team", "city"], Subject::Order),
            ("order", &[], Subject::Order),
            ("or", &[], Subject::Condition),
            ("not.and", &[], Subject::Condition),
            ("team.not.or", &["team"], Subject::Condition),
            ("team.or", &["team"], Subject::Condition),
            ("limit", &[], Subject::Window),
            ("team.offset", &["team"], Subject::Window),
        ];
        for (name, path, subject) in cases {
            assert_eq!(parameter(name), Some(Parameter { path: path.to_vec(), subject }), "{name}");
        }
        for name in ["", ".name", "team.", "\"name\"", "a\\b", "->>x"] {
            assert_eq!(parameter(name), None, "{name}");
        }
    }

    #[test]
    fn columns_of_an_order() {
        type Terms<'a> = &'a [(Option<&'a str>, &'a str)];
        let cases: [(&str, Terms<'_>); 5] = [
            ("name", &[(None, "name")]),
            ("name.desc.nullslast,id", &[(None, "name"), (None, "id")]),
            ("settings->>theme.asc", &[(None, "settings")]),
            ("team(name).desc,id.asc", &[(Some("team"), "name"), (None, "id")]),
            ("team(at->>x)", &[(Some("team"), "at")]),
        ];
        for (value, expected) in cases {
            let terms = order(value).unwrap();
            let terms: Vec<_> = terms.iter().map(|term| (term.embedded, term.column)).collect();
            assert_eq!(terms, expected, "{value}");
        }
        for value in [
            "",
            "a,",
            "a.asc.desc",
            "a.nullslast.asc",
            "a.up",
            "a desc",
            "\"a\"",
            "t(a",
            "t(a)b",
            "t(a.b)",
            "(a)",
            "a.",
            ".asc",
        ] {
            assert_eq!(order(value), None, "{value}");
        }
    }

    #[test]
    fn columns_of_a_condition() {
        let cases: [(&str, &[&str]); 8] = [
            ("(a.eq.1,b.not.is.null)", &["a", "b"]),
            ("(a.in.(1,\"2,)\",b),b.eq.\"x,c.eq.1\")", &["a", "b"]),
            ("(not.and(a.eq.1,or(b.gt.2,c.lt.3)),d.is.null)", &["a", "b", "c", "d"]),
            ("(and(a.eq.1))", &["a"]),
            ("(a->b->>c.eq.1,tags.cs.{x,y},n.eq(any).{1,2})", &["a", "tags", "n"]),
            ("(t.fts(english).fat)", &["t"]),
            ("(a.not.in.(1))", &["a"]),
            ("(a.eq.)", &["a"]),
        ];
        for (value, expected) in cases {
            assert_eq!(condition(value).as_deref(), Some(expected), "{value}");
        }
        for value in [
            "",
            "()",
            "a.eq.1",
            "(a.eq.1",
            "(a.eq.1))",
            "(a.eq.1),b.eq.2",
            "(a.eq.1,)",
            "(\"a\".eq.1)",
            "(a.eq.x\"y,b.eq.\"z)",
            "(a.eq.x(y),b.eq.1)",
            "(a.cs.{\"x}\"},b.eq.1)",
            "(a.eq.\"x\\\",b.eq.y\")",
            "(a.eq.\"x\"y,b.eq.1)",
            "( a.eq.1)",
        ] {
            assert_eq!(condition(value), None, "{value}");
        }
        let deep = format!("{}a.eq.1{}", "(and".repeat(40), ")".repeat(40));
        assert_eq!(condition(&deep), None);
        let deep = format!("({}a.eq.1{}", "and(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH + 1));
        assert_eq!(condition(&deep), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c(),.{}\"\\\\>é-]{0,16}", any in any::<String>()) {
            for text in [text, any] {
                let _ = (parameter(&text).is_some(), order(&text).is_some());
                let _ = (condition(&text).is_some(), condition(&format!("({text})")).is_some());
            }
        }
    }
}
