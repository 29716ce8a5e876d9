//! The rules of invalidation, one table of cases each, against the description
//! that a real PostgREST gave of these tables: `teams(id)`, `users(id, team ->
//! teams, boss -> users, email)`, `posts(a, b, author -> users)`, `likes(uid ->
//! users, a, b)`, `junction(user_id -> users, team_id -> teams)`, `quirk(id, w
//! -> weird, email -> users.email)`, `multi(id, r1 -> multi)`, `nopk(x)` without
//! a key, and the views `vusers` and `mv`.

mod reads;
mod writes;

use super::*;
use crate::postgrest::schema::tests::DESCRIPTION;
use crate::postgrest::schema::{Schema, Schemas};

const ID: &str = "00000000-0000-0000-0000-00000000000a";

fn known() -> Schemas {
    [("public".to_owned(), Schema::from_openapi(DESCRIPTION.as_bytes()).unwrap())].into_iter().collect()
}

fn table(name: &str) -> Target {
    Target::Table(public(name))
}

fn public(name: &str) -> Relation {
    Relation::new("public", name)
}

/// Tags as text, `public.` left out.
fn print(tags: &[Tag]) -> Vec<String> {
    tags.iter().map(|tag| tag.to_string().replace("public.", "")).collect()
}

#[test]
fn a_keyed_write_reaches_exactly_the_answers_that_may_show_its_row() {
    let schemas = known();
    let carried = |name: &str, query: &str| {
        let read = read_tags(&table(name), &Query::parse(query).unwrap(), &schemas, None).unwrap();
        read.tags
    };
    let (method, headers) = (Method::PATCH, HeaderMap::new());
    let query = Query::parse("id=eq.5").unwrap();
    let target = table("teams");
    let write = WriteShape {
        method: &method,
        target: &target,
        query: &query,
        headers: &headers,
        body: WriteBody::Whole(br#"{"name":"x"}"#),
    };
    let moved = write_tags(&write, &schemas, None, None);
    for (name, query, reached) in [
        ("teams", "id=eq.5", true),
        ("teams", "id=eq.05&select=name", true),
        ("teams", "id=eq.6", false),
        ("teams", "", true),
        ("teams", "name=eq.x", true),
        ("users", "", false),
        ("users", "select=*,teams(*)", true),
        ("vusers", "", true),
        ("mv", "id=eq.6", true),
    ] {
        let carried = carried(name, query);
        assert_eq!(moved.iter().any(|tag| carried.contains(tag)), reached, "{name}?{query}");
    }
}
