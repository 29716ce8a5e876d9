//! `[route.write]`: how a route's writes are deferred.

use std::time::Duration;

use super::routes::{Ground, check_claim};
use super::section::{Section, Text, Zero};
use crate::route::{
    CredentialMode, DeferMethods, Guard, MAX_WRITE_BODY, OnReject, OnWait, Owner, WritePolicy,
};

/// Names in PostgreSQL have at most 63 bytes; these get some slack.
const MAX_COLUMN: usize = 128;

/// The policy, if there is one and it can be had.
pub(super) fn read(section: &mut Section<'_>, is_table: bool, ground: &Ground<'_>) -> Option<WritePolicy> {
    section.item("write")?;
    if ground.is_shared {
        let problem = "is not available with store.kind = \"redis\" in this version";
        section.problem_with("write", problem, "remove it, or set `kind = \"embedded\"` under `[store]`");
    }
    if !is_table {
        let remedy = "remove it, or make this a route with `table`: nothing else is ever deferred";
        section.problem_with("write", "is only for tables", remedy);
    }
    Some(section.table("write", |write| policy(write, ground)))
}

fn policy(section: &mut Section<'_>, ground: &Ground<'_>) -> WritePolicy {
    let default = WritePolicy::default();
    let methods = methods(section);
    let updated_at = updated_at(section).unwrap_or(default.updated_at);
    let key = columns(section, "key", "leave it out: it is read from upstream's description then");
    refuse_column(section, "key", &key, &updated_at, "it says when a row was changed, not which one it is");
    let stated = columns(section, "columns", "leave it out for any column");
    refuse_column(section, "columns", &stated, &updated_at, "Sluice sets it with each write");
    let computed = computed(section);
    for column in key.iter().flatten().map(|text| &text.value) {
        let why = "a write that changes the key is never deferred";
        refuse_column(section, "columns", &stated, column, why);
        let why = "the key of a write has to be known";
        refuse_column(section, "computed", &computed, column, why);
    }
    WritePolicy {
        methods,
        columns: stated.map(sorted),
        computed: computed.map(sorted).unwrap_or_default(),
        key: key.map(sorted),
        updated_at,
        owner: owner(section),
        guard: section.choice(
            "guard",
            &[("not_newer", Guard::NotNewer), ("unchanged", Guard::Unchanged)],
            default.guard,
        ),
        credentials: credentials(section, ground),
        on_reject: section.choice(
            "on_reject",
            &[("skip", OnReject::Skip), ("park", OnReject::Park)],
            default.on_reject,
        ),
        on_wait: section.choice(
            "on_wait",
            &[("reject", OnWait::Reject), ("forward", OnWait::Forward)],
            default.on_wait,
        ),
        max_body: max_body(section),
    }
}

fn methods(section: &mut Section<'_>) -> DeferMethods {
    const WORDS: [&str; 3] = ["PATCH", "POST", "PUT"];
    let Some(texts) = section.texts("defer") else { return DeferMethods::default() };
    if texts.is_empty() {
        section.problem_with("defer", "is empty", "remove `[route.write]` if nothing is to be deferred");
    }
    let mut methods = DeferMethods { patch: false, post: false, put: false };
    for text in &texts {
        match text.value.as_str() {
            "PATCH" => methods.patch = true,
            "POST" => methods.post = true,
            "PUT" => methods.put = true,
            "DELETE" => {
                let remedy = "remove it: a DELETE is always forwarded and awaited";
                section.problem("defer", &text.place, "can't have \"DELETE\"", Some(remedy.into()));
            }
            _ => section.no_such_word("defer", text, &WORDS),
        }
    }
    methods
}

fn updated_at(section: &mut Section<'_>) -> Option<String> {
    let text = section.text("updated_at")?;
    is_column(section, "updated_at", &text).then_some(text.value)
}

/// Names of columns, each once; `if_empty` says what to do without any.
fn columns(section: &mut Section<'_>, key: &'static str, if_empty: &str) -> Option<Vec<Text>> {
    let texts = section.texts(key)?;
    if texts.is_empty() {
        section.problem_with(key, "is empty", if_empty);
        return None;
    }
    Some(distinct(section, key, texts))
}

/// The same, but there may be none.
fn computed(section: &mut Section<'_>) -> Option<Vec<Text>> {
    let texts = section.texts("computed")?;
    Some(distinct(section, "computed", texts))
}

fn distinct(section: &Section<'_>, key: &str, texts: Vec<Text>) -> Vec<Text> {
    let mut columns: Vec<Text> = Vec::with_capacity(texts.len());
    for text in texts {
        if !is_column(section, key, &text) {
            continue;
        }
        if columns.iter().any(|column| column.value == text.value) {
            section.problem(key, &text.place, "has this column twice", Some("remove one".into()));
            continue;
        }
        columns.push(text);
    }
    columns
}

/// Whether a text can be a column's name; that it can't is noted.
fn is_column(section: &Section<'_>, key: &str, text: &Text) -> bool {
    let can_be =
        !text.value.is_empty() && text.value.len() <= MAX_COLUMN && !text.value.contains(char::is_control);
    if !can_be {
        let remedy = "write the name of a column, as the table has it";
        section.problem(key, &text.place, "has no column's name", Some(remedy.into()));
    }
    can_be
}

/// Notes that `column` is among `columns`, where it can't be.
fn refuse_column(section: &Section<'_>, key: &str, columns: &Option<Vec<Text>>, column: &str, why: &str) {
    for text in columns.iter().flatten().filter(|text| text.value == column) {
        let problem = "has a column that can't be there";
        section.problem(key, &text.place, problem, Some(format!("remove it: {why}")));
    }
}

fn sorted(texts: Vec<Text>) -> Vec<String> {
    let mut columns: Vec<String> = texts.into_iter().map(|text| text.value).collect();
    columns.sort();
    columns
}

fn owner(section: &mut Section<'_>) -> Option<Owner> {
    const EXAMPLE: &str = "write `owner = { column = \"user_id\", claim = \"sub\" }`";
    section.item("owner")?;
    let (column, claim) = section.table("owner", |owner| {
        let column = owner.text("column").filter(|text| is_column(owner, "column", text));
        let claim = owner.text("claim").inspect(|text| check_claim(owner, "claim", text));
        (column, claim)
    });
    if let (Some(column), Some(claim)) = (&column, &claim) {
        return Some(Owner { column: column.value.clone(), claim: claim.value.clone() });
    }
    section.problem_with("owner", "needs a `column` and a `claim`", EXAMPLE);
    None
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Token,
    Remint,
}

fn credentials(section: &mut Section<'_>, ground: &Ground<'_>) -> CredentialMode {
    const DEFAULT_MAX: Duration = CredentialMode::DEFAULT_REMINT_MAX;
    let words = [("token", Word::Token), ("remint", Word::Remint)];
    let word = section.choice("credentials", &words, Word::Token);
    let max = section.duration("remint_max", DEFAULT_MAX, Zero::Allowed);
    if word == Word::Token {
        // What is in force by default may be said.
        if max != DEFAULT_MAX {
            let remedy = "set `credentials = \"remint\"` beside it, or remove it";
            section.problem_with("remint_max", "needs `credentials = \"remint\"`", remedy);
        }
        return CredentialMode::Token;
    }
    if !ground.signs_tokens {
        let remedy = "give `jwt_secret` under `[auth]`: the tokens are signed with it";
        section.problem_with("credentials", "needs `auth.jwt_secret`", remedy);
    }
    CredentialMode::Remint { max }
}

fn max_body(section: &mut Section<'_>) -> usize {
    let size = section.size("max_body", MAX_WRITE_BODY as u64, Zero::Refused);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > MAX_WRITE_BODY {
        section.problem_with(
            "max_body",
            "is too large",
            "give at most \"64KiB\"; larger bodies are forwarded",
        );
    }
    size.min(MAX_WRITE_BODY)
}
