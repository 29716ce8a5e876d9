//! `[[route]]`: from the tree to a [`RouteTable`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::file::{Item, Node, Place};
use super::route_headers::{ignore_headers, vary};
use super::section::{Section, Text, Zero};
use super::{route_facts, route_write};
use crate::route::{
    FreshnessSource, Invalidate, QueryCondition, ReadMethods, ReadPolicy, RelationPattern, Resource, Route,
    RouteTable, Scope, parse_relation,
};
use crate::tag::Relation;

/// What is served without a file.
pub(super) const WITHOUT_FILE: &str = r#"
[[route]]
name  = "rest"
table = "*"
[route.read]
ttl   = "10s"
scope = "session"

[[route]]
name = "storage-public"
path = '^/storage/v1/(object|object/info|render/image)/public/'
[route.read]
ttl       = "0s"
freshness = "origin"
scope     = "public"
"#;

/// Routes beyond these are an error: every request is compared with them.
const MAX_ROUTES: usize = 1000;
/// A compiled expression's size in bytes.
const MAX_REGEX: usize = 1 << 20;

/// What the rest of the file says that routes rest on.
pub(super) struct Ground<'a> {
    /// Where names belong that don't say otherwise.
    pub(super) default_schema: &'a str,
    /// Whether the store is shared with other processes.
    pub(super) is_shared: bool,
    /// Whether there is a secret to sign tokens with.
    pub(super) signs_tokens: bool,
}

/// All routes.
pub(super) fn table(root: &mut Section<'_>, ground: &Ground<'_>) -> RouteTable {
    let sections = root.tables("route");
    if sections.len() > MAX_ROUTES {
        root.problem_with("route", "has too many routes", &format!("write at most {MAX_ROUTES}"));
        return RouteTable::default();
    }
    let mut names = HashMap::new();
    let mut routes = Vec::with_capacity(sections.len());
    for (place, mut section) in sections {
        let name = name(&mut section, place, &mut names);
        let route = route(&mut section, place, name, ground);
        section.refuse_unknown();
        routes.extend(route.zip(section.written()));
    }
    let (routes, written): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
    let routes = RouteTable::new(routes);
    route_facts::check(root.context(), &routes, &written);
    routes
}

fn name(section: &mut Section<'_>, place: &Place, names: &mut HashMap<String, Place>) -> String {
    if section.item("name").is_none() {
        let remedy = "write `name = \"…\"`: it is the label on metrics";
        section.problem("name", place, "is missing", Some(remedy.into()));
    }
    let Some(text) = section.text("name") else { return String::new() };
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let first_is_plain = text.value.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !first_is_plain || text.value.len() > 64 || !text.value.bytes().all(of_a_name) {
        let remedy = "write up to 64 letters, digits, `-`, `_` and `.`, a letter or a digit first";
        section.problem("name", &text.place, "is not a route's name", Some(remedy.into()));
    } else if let Some(first) = names.get(&text.value) {
        let position = section.context().position(first);
        let remedy = "give each route a name of its own";
        let problem = format!("is the name of an earlier route, at {position}");
        section.problem("name", &text.place, &problem, Some(remedy.into()));
    } else {
        names.insert(text.value.clone(), text.place);
    }
    text.value
}

/// `None` where it isn't plain what the route matches, which has been noted.
fn route(section: &mut Section<'_>, place: &Place, name: String, ground: &Ground<'_>) -> Option<Route> {
    let default_schema = ground.default_schema;
    let resource = resource(section, place, default_schema);
    let query = query(section);
    let stated_writes = relations(section, "writes", default_schema);
    section.mode();
    let is_function = matches!(resource, Some(Resource::Functions(_)));
    let has_read = section.item("read").is_some();
    let policy = section.table("read", |read| read_policy(read, is_function, default_schema));
    let read = has_read.then(|| Arc::new(policy));
    // A function that is read by POST is no writer unless the file says so.
    let only_reads = read.as_ref().is_some_and(|read| read.methods.post);
    let writes = stated_writes.or_else(|| only_reads.then(Vec::new));
    let is_table = resource.as_ref().is_none_or(|resource| matches!(resource, Resource::Tables(_)));
    let write = route_write::read(section, is_table, ground).map(Arc::new);
    Some(Route::new(name, resource?, query, writes, read, write))
}

fn resource(section: &mut Section<'_>, place: &Place, default_schema: &str) -> Option<Resource> {
    const KINDS: [&str; 3] = ["table", "function", "path"];
    for key in KINDS {
        section.item(key);
    }
    let mut given = KINDS.into_iter().filter(|key| section.place_of(key).is_some());
    let (first, second) = (given.next(), given.next());
    if let (Some(first), Some(second)) = (first, second) {
        let remedy = "keep one of them, and write another route for the other";
        section.problem_with(second, &format!("is given beside `{first}`"), remedy);
        return None;
    }
    match first {
        Some("table") => patterns(section, "table", default_schema).map(Resource::Tables),
        Some("function") => patterns(section, "function", default_schema).map(Resource::Functions),
        Some(_) => {
            let text = section.text("path")?;
            regex(section, "path", &text).map(Resource::Path)
        }
        None => {
            let remedy = "give one of `table`, `function` and `path`";
            section.context().problem(
                place,
                "the route doesn't say what it matches".into(),
                Some(remedy.into()),
            );
            None
        }
    }
}

fn patterns(
    section: &mut Section<'_>,
    key: &'static str,
    default_schema: &str,
) -> Option<Vec<RelationPattern>> {
    let texts = section.text_or_texts(key)?;
    if texts.is_empty() {
        section.problem_with(key, "is empty", "name at least one, or \"*\" for all of the default schema");
    }
    let pattern = |text: &Text| match RelationPattern::parse(&text.value, default_schema) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let remedy = "write \"name\", \"schema.name\", or a glob with `*` and `?`";
            section.problem(key, &text.place, &error.to_string(), Some(remedy.into()));
            None
        }
    };
    Some(texts.iter().filter_map(pattern).collect())
}

fn relations(section: &mut Section<'_>, key: &'static str, default_schema: &str) -> Option<Vec<Relation>> {
    let texts = section.texts(key)?;
    let relation = |text: &Text| match parse_relation(&text.value, default_schema) {
        Ok(relation) => Some(relation),
        Err(error) => {
            let remedy = "write \"name\" or \"schema.name\", without wildcards";
            section.problem(key, &text.place, &error.to_string(), Some(remedy.into()));
            None
        }
    };
    let mut relations: Vec<Relation> = texts.iter().filter_map(relation).collect();
    relations.sort();
    relations.dedup();
    Some(relations)
}

fn query(section: &mut Section<'_>) -> Vec<QueryCondition> {
    let Some(item) = section.item("query") else { return Vec::new() };
    let Node::Table(table) = &item.node else {
        let remedy = "write `query = { status = '^eq\\.' }`";
        section.wrong_type("query", item, "a table", Some(remedy.into()));
        return Vec::new();
    };
    let condition = |(name, item): (&String, &Item)| {
        let text = section.text_of("query", item, "a table of strings")?;
        let pattern = regex(section, "query", &text)?;
        Some(QueryCondition { name: name.clone(), pattern })
    };
    table.0.iter().map(|(name, entry)| (name, &entry.item)).filter_map(condition).collect()
}

fn regex(section: &Section<'_>, key: &str, text: &Text) -> Option<Regex> {
    let error = match RegexBuilder::new(&text.value).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build() {
        Ok(regex) => return Some(regex),
        Err(error) => error,
    };
    let reason = match error {
        regex::Error::CompiledTooBig(_) => "is too large a regular expression".to_owned(),
        // The reason is the last line; those before it draw the expression, which may be secret.
        error => match error.to_string().lines().last().and_then(|line| line.strip_prefix("error: ")) {
            Some(reason) => format!("is not a regular expression: {reason}"),
            None => "is not a regular expression".to_owned(),
        },
    };
    let remedy = "write it in single quotes, in the syntax of https://docs.rs/regex; there is no look-around and no \
                  back-reference";
    section.problem(key, &text.place, &reason, Some(remedy.into()));
    None
}

fn read_policy(section: &mut Section<'_>, is_function: bool, default_schema: &str) -> ReadPolicy {
    let default = ReadPolicy::default();
    let ttl = section.duration("ttl", default.ttl, Zero::Allowed);
    let vary = vary(section);
    section.number_in_force("verify", 0.0, 1.0);
    ReadPolicy {
        methods: methods(section, is_function),
        ttl,
        stale_while_revalidate: section.duration("stale_while_revalidate", Duration::ZERO, Zero::Allowed),
        stale_if_error: section.duration("stale_if_error", Duration::ZERO, Zero::Allowed),
        empty_ttl: empty_ttl(section, ttl),
        scope: scope(section),
        freshness: section.choice(
            "freshness",
            &[("route", FreshnessSource::Route), ("origin", FreshnessSource::Origin)],
            default.freshness,
        ),
        obey_request_directives: section.choice(
            "request_directives",
            &[("ignore", false), ("obey", true)],
            false,
        ),
        invalidate: section.choice(
            "invalidate",
            &[("all", Invalidate::All), ("writer", Invalidate::Writer), ("none", Invalidate::None)],
            default.invalidate,
        ),
        ignore_headers: ignore_headers(section, &vary),
        vary,
        depends_on: relations(section, "depends_on", default_schema),
        max_body: section.size("max_body", default.max_body, Zero::Refused),
    }
}

fn methods(section: &mut Section<'_>, is_function: bool) -> ReadMethods {
    let Some(texts) = section.texts("methods") else { return ReadMethods::default() };
    if texts.is_empty() {
        section.problem_with("methods", "is empty", "leave it out for [\"GET\", \"HEAD\"]");
    }
    let mut methods = ReadMethods { get: false, head: false, post: false };
    for text in &texts {
        match text.value.as_str() {
            "GET" => methods.get = true,
            "HEAD" => methods.head = true,
            "POST" if is_function => methods.post = true,
            "POST" => {
                let remedy = "remove \"POST\", or make this a route with `function`";
                section.problem(
                    "methods",
                    &text.place,
                    "may have \"POST\" only for a function",
                    Some(remedy.into()),
                );
            }
            _ => section.no_such_word("methods", text, &["GET", "HEAD", "POST"]),
        }
    }
    methods
}

/// The default gives way to a shorter `ttl`; what is stated has to fit.
fn empty_ttl(section: &mut Section<'_>, ttl: Duration) -> Duration {
    let empty_ttl = section.duration("empty_ttl", ReadPolicy::default().empty_ttl.min(ttl), Zero::Allowed);
    if empty_ttl > ttl {
        section.problem_with("empty_ttl", "is longer than `ttl`", "lower it, or raise `ttl`");
    }
    empty_ttl.min(ttl)
}

fn scope(section: &mut Section<'_>) -> Scope {
    const WORDS: [&str; 4] = ["session", "user", "role", "public"];
    let Some(item) = section.item("scope") else { return Scope::Session };
    if let Node::Array(_) = item.node {
        return claims(section);
    }
    let Some(text) = section.text_of("scope", item, "a string or a list of claims") else {
        return Scope::Session;
    };
    match text.value.as_str() {
        "session" => Scope::Session,
        "user" => Scope::User,
        "role" => Scope::Role,
        "public" => Scope::Public,
        _ => {
            section.no_such_word("scope", &text, &WORDS);
            Scope::Session
        }
    }
}

fn claims(section: &mut Section<'_>) -> Scope {
    let texts = section.texts("scope").unwrap_or_default();
    if texts.is_empty() {
        let remedy = "name claims, such as [\"app_metadata.tenant_id\"], or write \"role\" or \"public\"";
        section.problem_with("scope", "has no claims", remedy);
    }
    let mut claims = Vec::with_capacity(texts.len());
    for text in texts {
        check_claim(section, "scope", &text);
        claims.push(text.value);
    }
    claims.sort();
    claims.dedup();
    Scope::Claims(claims)
}

/// Notes a text that is no claim's dotted path.
pub(super) fn check_claim(section: &Section<'_>, key: &str, text: &Text) {
    if text.value.split('.').any(str::is_empty) {
        let remedy = "write a claim, with dots for those inside of it: \"app_metadata.tenant_id\"";
        section.problem(key, &text.place, "has no such claim", Some(remedy.into()));
    }
}
