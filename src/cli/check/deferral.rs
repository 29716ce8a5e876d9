//! What `sluice check` says about deferred writes.

use crate::config::Config;
use crate::postgrest::schema::{Schemas, Table};
use crate::postgrest::value::ColumnType;
use crate::route::{Route, WritePolicy};
use crate::tag::Relation;

/// A route's name, and what it defers.
pub(super) fn route(route: &Route) -> String {
    let Some(policy) = &route.write else { return route.name.clone() };
    let methods = policy.methods;
    let words = [("PATCH", methods.patch), ("POST", methods.post), ("PUT", methods.put)];
    let deferred: Vec<&str> = words.into_iter().filter(|(_, is)| *is).map(|(word, _)| word).collect();
    format!("{}, defers {}", route.name, deferred.join(", "))
}

/// What is no error, but surprises; nothing where no route defers.
pub(super) fn notes(config: &Config) -> Vec<String> {
    let deferring: Vec<_> =
        config.routes.iter().filter_map(|route| Some((&route.name, route.write.as_deref()?))).collect();
    if deferring.is_empty() {
        return Vec::new();
    }
    let path = config.store.path.display();
    let mut notes = vec![format!("journal: {path}")];
    if config.upstream.schema_key.is_none() {
        let blind = deferring.iter().filter(|(_, policy)| !is_stated(policy));
        notes.extend(blind.map(|(name, _)| {
            format!(
                "warning: route {name:?} defers nothing: without upstream.schema_key it needs `key` and `columns`"
            )
        }));
    }
    if config.secret.is_none() {
        notes.push(format!(
            "note: without `secret` the key that seals tokens in the journal is {path}/secret.key: keep the two together, \
             and out of others' reach"
        ));
    }
    if config.auth.jwt_secret.is_none() {
        notes.push(
            "note: without auth.jwt_secret writes of callers whose tokens are HS256 aren't deferred".into(),
        );
    }
    notes
}

/// Where the description of upstream's tables contradicts the routes that defer writes to them.
pub(super) fn obstacles(config: &Config, schemas: &Schemas) -> Vec<String> {
    let described = schemas.names().filter_map(|name| Some((name, schemas.get(name)?)));
    let tables = described.flat_map(|(name, schema)| {
        schema.tables().map(move |(table, described)| (Relation::new(name, table), described))
    });
    let mut found = Vec::new();
    for (relation, table) in tables {
        for route in config.routes.of_table(&relation) {
            let (name, Some(policy)) = (&route.name, &route.write) else { continue };
            if let Some(why) = obstacle(policy, table) {
                found.push(format!("warning: route {name:?} defers nothing to {relation}: {why}"));
            }
            if let Some((key, column)) = misnamed(policy, table) {
                found.push(format!(
                    "warning: route {name:?} has a column {column:?} in `{key}` that {relation} doesn't have"
                ));
            }
        }
    }
    found
}

/// Whether the file says what the description would.
fn is_stated(policy: &WritePolicy) -> bool {
    policy.key.is_some() && policy.columns.is_some()
}

/// Why writes to `table` are never deferred, if so.
fn obstacle(policy: &WritePolicy, table: &Table) -> Option<String> {
    if table.may_be_view() && !is_stated(policy) {
        return Some("it may be a view; it needs `key` and `columns`".into());
    }
    let mut key = table.key().to_vec();
    key.sort();
    match &policy.key {
        Some(stated) if !table.may_be_view() && *stated != key => {
            return Some(format!("its key is {}, not what `key` says", key.join(", ")));
        }
        _ => {}
    }
    let is_time = |name: &str| {
        table.column(name).is_some_and(|column| matches!(column.column_type, ColumnType::Timestamp(_)))
    };
    if !is_time(&policy.updated_at) {
        return Some(format!("{:?} is no timestamp column of it; see `updated_at`", policy.updated_at));
    }
    let owner = policy.owner.as_ref().filter(|owner| table.column(&owner.column).is_none());
    owner.map(|owner| format!("it has no column {:?}; see `owner`", owner.column))
}

/// A key of the file with a column that the table doesn't have.
fn misnamed<'a>(policy: &'a WritePolicy, table: &Table) -> Option<(&'static str, &'a str)> {
    let columns = policy.columns.iter().flatten().map(|column| ("columns", column.as_str()));
    let computed = policy.computed.iter().map(|column| ("computed", column.as_str()));
    columns.chain(computed).find(|(_, column)| table.column(column).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProcessEnvironment;
    use crate::postgrest::schema::Schema;

    fn config(text: &str) -> Config {
        let source = format!("upstream.url = \"https://abc.supabase.co\"\n{text}");
        Config::parse("t", &source, &ProcessEnvironment)
            .unwrap_or_else(|error| panic!("{:?}", error.problems()))
    }

    fn with_write(table: &str, write: &str) -> Config {
        config(&format!("[[route]]\nname = \"r\"\ntable = \"{table}\"\n[route.write]\n{write}"))
    }

    #[test]
    fn nothing_is_said_where_nothing_is_deferred() {
        let config = config("[[route]]\nname = \"r\"\ntable = \"*\"\n[route.read]");
        assert_eq!(notes(&config), [""; 0]);
        assert_eq!(config.routes.iter().map(|one| route(one)).collect::<Vec<_>>(), ["r"]);
    }

    #[test]
    fn what_surprises_is_said() {
        let bare = with_write("users", "defer = [\"PUT\", \"PATCH\"]");
        assert_eq!(bare.routes.iter().map(|one| route(one)).collect::<Vec<_>>(), ["r, defers PATCH, PUT"]);
        let said = notes(&bare);
        assert_eq!(said.len(), 4, "{said:?}");
        assert_eq!(said[0], "journal: sluice-data");
        assert!(said[1].starts_with("warning: route \"r\" defers nothing: without upstream.schema_key"));
        assert!(
            said[2].contains("sluice-data/secret.key") && said[3].contains("auth.jwt_secret"),
            "{said:?}"
        );
        let whole = config(
            "secret = \"0123456789abcdef0123456789abcdef\"\nauth.jwt_secret = \"x\"\nstore.path = \"j\"\n[[route]]\n\
             name = \"r\"\ntable = \"users\"\nwrite = { key = [\"id\"], columns = [\"a\"] }",
        );
        assert_eq!(notes(&whole), ["journal: j"]);
    }

    #[test]
    fn what_stands_in_the_way() {
        let description = r#"{"swagger": "2.0", "paths": {}, "definitions": {
            "users": {"required": ["id"], "properties": {
                "id": {"format": "uuid", "description": "Note:\nThis is a Primary Key.<pk/>"},
                "name": {"format": "text"},
                "updated_at": {"format": "timestamp with time zone"}}},
            "seen": {"properties": {"id": {"format": "uuid"}, "updated_at": {"format": "timestamp with time zone"}}}}}"#;
        let schema = Schema::from_openapi(description.as_bytes()).unwrap();
        let schemas: Schemas = [("public".to_owned(), schema)].into_iter().collect();
        let nothing =
            |table: &str, why: &str| format!("warning: route \"r\" defers nothing to public.{table}: {why}");
        let odd = |column: &str, key: &str, table: &str| {
            format!(
                "warning: route \"r\" has a column {column:?} in `{key}` that public.{table} doesn't have"
            )
        };
        let owner = "owner = { column = \"user_id\", claim = \"sub\" }";
        for (table, write, expected) in [
            ("users", "", None),
            ("users", "key = [\"id\"]\ncolumns = [\"name\"]", None),
            ("u*", owner, Some(nothing("users", "it has no column \"user_id\"; see `owner`"))),
            ("users", "columns = [\"nam\"]", Some(odd("nam", "columns", "users"))),
            ("users", "computed = [\"slug\"]", Some(odd("slug", "computed", "users"))),
            ("users", "key = [\"name\"]", Some(nothing("users", "its key is id, not what `key` says"))),
            (
                "users",
                "updated_at = \"changed\"",
                Some(nothing("users", "\"changed\" is no timestamp column of it; see `updated_at`")),
            ),
            (
                "users",
                "updated_at = \"name\"",
                Some(nothing("users", "\"name\" is no timestamp column of it; see `updated_at`")),
            ),
            ("seen", "", Some(nothing("seen", "it may be a view; it needs `key` and `columns`"))),
            ("seen", "key = [\"id\"]\ncolumns = [\"id2\"]", Some(odd("id2", "columns", "seen"))),
            ("posts", "", None),
        ] {
            let found = obstacles(&with_write(table, write), &schemas);
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{write}");
        }
    }
}
