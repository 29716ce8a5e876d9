//! `[route.write]` and what belongs to it.

use super::*;
use crate::route::{CredentialMode, DeferMethods, Guard, OnReject, OnWait, Owner, WritePolicy};

const TABLE: &str = "[[route]]\nname = \"r\"\ntable = \"users\"\n";

fn write_of(text: &str) -> WritePolicy {
    let config = good(&format!("auth.jwt_secret = \"x\"\n{TABLE}[route.write]\n{text}"));
    only_route(&config).write.as_deref().cloned().unwrap()
}

/// What is said about `text` in the `[route.write]` of a table, its lines counted from 1.
fn bad_write(text: &str) -> String {
    bad(&format!("route = [{{ name = 'r', table = 't', write = {{\n{text}\n}} }}]"))
        .replace("`route.write.", "`")
}

#[test]
fn the_defaults_of_a_write() {
    let expected = WritePolicy {
        methods: DeferMethods { patch: true, post: true, put: true },
        columns: None,
        computed: Vec::new(),
        key: None,
        updated_at: "updated_at".into(),
        owner: None,
        guard: Guard::NotNewer,
        credentials: CredentialMode::Token,
        on_reject: OnReject::Skip,
        on_wait: OnWait::Reject,
        max_body: 65_536,
    };
    assert_eq!(write_of(""), expected);
    assert_eq!(write_of("remint_max = \"1h\"\nmax_body = \"64KiB\"\ncomputed = []"), expected);
    assert_eq!(only_route(&good(TABLE)).write, None);
}

#[test]
fn values_are_read() {
    let policy = write_of(
        r#"
        defer = ["PUT", "PATCH", "PUT"]
        columns = ["display_name", "Größe in cm"]
        computed = ["slug", "initials"]
        key = ["tenant", "id"]
        updated_at = "changed"
        owner = { column = "user_id", claim = "app_metadata.user.id" }
        guard = "unchanged"
        credentials = "remint"
        remint_max = "2h"
        on_reject = "park"
        on_wait = "forward"
        max_body = "1KiB"
        "#,
    );
    let expected = WritePolicy {
        methods: DeferMethods { patch: true, post: false, put: true },
        columns: Some(vec!["Größe in cm".into(), "display_name".into()]),
        computed: vec!["initials".into(), "slug".into()],
        key: Some(vec!["id".into(), "tenant".into()]),
        updated_at: "changed".into(),
        owner: Some(Owner { column: "user_id".into(), claim: "app_metadata.user.id".into() }),
        guard: Guard::Unchanged,
        credentials: CredentialMode::Remint { max: seconds(7200) },
        on_reject: OnReject::Park,
        on_wait: OnWait::Forward,
        max_body: 1024,
    };
    assert_eq!(policy, expected);
    let remint = CredentialMode::Remint { max: seconds(3600) };
    assert_eq!(write_of("credentials = \"remint\"").credentials, remint);
}

#[test]
fn the_queue() {
    let expected = Queue {
        max_writes: 100_000,
        max_writes_per_caller: 1000,
        max_wait: seconds(86_400),
        max_attempts: 12,
        linger: seconds(0),
        concurrency: 16,
        backoff_first: Duration::from_millis(200),
        backoff_max: seconds(60),
        drain_wait: seconds(2),
    };
    assert_eq!(good("").queue, expected);
    let queue = good(
        r#"
        [queue]
        max_writes = 500
        max_wait = "1h"
        max_attempts = 3
        linger = "50ms"
        concurrency = 1
        backoff = { first = "2m" }
        drain_wait = "0s"
        "#,
    )
    .queue;
    let expected = Queue {
        max_writes: 500,
        max_writes_per_caller: 500,
        max_wait: seconds(3600),
        max_attempts: 3,
        linger: Duration::from_millis(50),
        concurrency: 1,
        backoff_first: seconds(120),
        backoff_max: seconds(120),
        drain_wait: seconds(0),
    };
    assert_eq!(queue, expected, "defaults give way");
}

#[test]
fn what_the_journal_needs() {
    let config = good("secret = \"${NAME}-and-thirty-two-bytes-in-all\"\nstore.path = \"/var/lib/sluice\"");
    assert_eq!(config.secret, Some(Secret::new("hush-hush-and-thirty-two-bytes-in-all")));
    assert_eq!(config.store.path, Path::new("/var/lib/sluice"));
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn a_queue_that_contradicts_itself() {
    for (text, said) in [
        ("max_writes = 0", "t:2:14: `queue.max_writes` is out of range (give a number from 1 to 1000000)"),
        (
            "max_writes = 5\nmax_writes_per_caller = 6",
            "t:3:1: `queue.max_writes_per_caller` is larger than `max_writes` (lower it, or raise `max_writes`)",
        ),
        (
            "max_wait = \"1s\"\nlinger = \"1s\"",
            "t:3:1: `queue.linger` is not shorter than `max_wait` (lower it: a write would be too old before it is \
             replayed)",
        ),
        (
            "max_wait = \"0s\"",
            "t:2:12: `queue.max_wait` must not be zero (give a larger value, or leave the key out)",
        ),
        ("concurrency = 5000", "t:2:15: `queue.concurrency` is out of range (give a number from 1 to 1024)"),
        (
            "backoff = { first = \"2s\", max = \"1s\" }",
            "t:2:27: `queue.backoff.max` is shorter than `first` (raise it, or lower `first`)",
        ),
        ("backoff = \"1s\"", "t:2:11: `queue.backoff` must be a table, not a string"),
        (
            "backoff = { frst = \"1s\" }",
            "t:2:13: there is no key `queue.backoff.frst` (did you mean `first`?)",
        ),
        (
            "linger = 5",
            "t:2:10: `queue.linger` must be a string, not an integer (add a unit: \"5s\" or \"5ms\")",
        ),
    ] {
        assert_eq!(bad(&format!("[queue]\n{text}")), said);
    }
}

#[test]
fn a_write_that_contradicts_itself() {
    for (text, said) in [
        ("defer = []", "t:2:1: `defer` is empty (remove `[route.write]` if nothing is to be deferred)"),
        (
            "defer = [\"PATCH\", \"DELETE\"]",
            "t:2:19: `defer` can't have \"DELETE\" (remove it: a DELETE is always forwarded and awaited)",
        ),
        ("defer = [\"PATC\"]", "t:2:10: `defer` has no such value (did you mean \"PATCH\"?)"),
        ("columns = []", "t:2:1: `columns` is empty (leave it out for any column)"),
        ("key = []", "t:2:1: `key` is empty (leave it out: it is read from upstream's description then)"),
        ("key = \"id\"", "t:2:7: `key` must be a list of strings, not a string"),
        ("key = [\"a\", \"b\", \"a\"]", "t:2:18: `key` has this column twice (remove one)"),
        (
            "columns = [\"\", \"a\\n\"]",
            "t:2:12: `columns` has no column's name (write the name of a column, as the table has it)\n\
             t:2:16: `columns` has no column's name (write the name of a column, as the table has it)",
        ),
        (
            "key = [\"id\"],\ncolumns = [\"a\", \"id\"],\ncomputed = [\"id\"]",
            "t:3:17: `columns` has a column that can't be there (remove it: a write that changes the key is never \
             deferred)\n\
             t:4:13: `computed` has a column that can't be there (remove it: the key of a write has to be known)",
        ),
        (
            "updated_at = \"changed\",\ncolumns = [\"changed\"]",
            "t:3:12: `columns` has a column that can't be there (remove it: Sluice sets it with each write)",
        ),
        (
            "key = [\"updated_at\"]",
            "t:2:8: `key` has a column that can't be there (remove it: it says when a row was changed, not which one \
             it is)",
        ),
        (
            "updated_at = \"\"",
            "t:2:14: `updated_at` has no column's name (write the name of a column, as the table has it)",
        ),
        (
            "owner = { column = \"id\" }",
            "t:2:1: `owner` needs a `column` and a `claim` (write `owner = { column = \"user_id\", claim = \"sub\" }`)",
        ),
        (
            "owner = { column = \"id\", claim = \"a..b\" }",
            "t:2:34: `owner.claim` has no such claim (write a claim, with dots for those inside of it: \
             \"app_metadata.tenant_id\")",
        ),
        (
            "owner = { column = \"id\", claim = \"sub\", role = 1 }",
            "t:2:41: there is no key `route.write.owner.role` (the keys here are column, claim)",
        ),
        ("guard = \"unchangd\"", "t:2:9: `guard` has no such value (did you mean \"unchanged\"?)"),
        ("on_reject = \"stop\"", "t:2:13: `on_reject` has no such value (write one of \"skip\", \"park\")"),
        ("on_wait = \"503\"", "t:2:11: `on_wait` has no such value (write one of \"reject\", \"forward\")"),
        ("credentials = \"tokn\"", "t:2:15: `credentials` has no such value (did you mean \"token\"?)"),
        (
            "credentials = \"remint\"",
            "t:2:1: `credentials` needs `auth.jwt_secret` (give `jwt_secret` under `[auth]`: the tokens are signed \
             with it)",
        ),
        (
            "remint_max = \"2h\"",
            "t:2:1: `remint_max` needs `credentials = \"remint\"` (set `credentials = \"remint\"` beside it, or \
             remove it)",
        ),
        (
            "max_body = \"65KiB\"",
            "t:2:1: `max_body` is too large (give at most \"64KiB\"; larger bodies are forwarded)",
        ),
        (
            "max_body = \"0\"",
            "t:2:12: `max_body` must not be zero (give a larger value, or leave the key out)",
        ),
        ("comuted = []", "t:2:1: there is no key `comuted` (did you mean `computed`?)"),
    ] {
        assert_eq!(bad_write(text), said.replace("`route.write.", "`"), "{text}");
    }
}

#[test]
fn where_nothing_can_be_deferred() {
    for other in ["function = \"f\"", "path = \"^/x\""] {
        assert_eq!(
            bad(&format!("[[route]]\nname = \"r\"\n{other}\n[route.write]")),
            "t:4:8: `route.write` is only for tables (remove it, or make this a route with `table`: nothing else is \
             ever deferred)"
        );
    }
    assert_eq!(
        bad(&format!("store.kind = \"redis\"\n{TABLE}[route.write]\nguard = 1")),
        "t:5:8: `route.write` is not available with store.kind = \"redis\" in this version (remove it, or set `kind = \
         \"embedded\"` under `[store]`)\n\
         t:6:9: `route.write.guard` must be a string, not an integer"
    );
}

/// A route named `name` with these lines in it, and these in its `[route.write]`.
fn deferring(name: &str, lines: &str, write: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\n{lines}\n[route.write]\n{write}\n")
}

const PART: &str = "query = { status = '^eq' }";

#[test]
fn facts_about_a_table_are_the_same_everywhere() {
    let differs = |key: &str, second: &str, first: &str| {
        format!(
            "{second}: `route.write.{key}` is not that of an earlier route for the same table, at {first} (write the \
             same in both: it is a fact about the table)"
        )
    };
    let users = format!("table = \"users\"\n{PART}");
    let both = |first: &str, second: &str| {
        bad(&(deferring("1", &users, first) + &deferring("2", "table = \"u*\"", second)))
    };
    // The second route's `[route.write]` begins at line 10.
    for (first, second, said) in [
        ("guard = \"unchanged\"", "", differs("guard", "t:10:8", "t:6:1")),
        ("", "updated_at = \"changed\"", differs("updated_at", "t:11:1", "t:5:8")),
        ("key = [\"a\", \"b\"]", "key = [\"a\"]", differs("key", "t:11:1", "t:6:1")),
        (
            "owner = { column = \"id\", claim = \"sub\" }",
            "owner = { column = \"user_id\", claim = \"sub\" }",
            differs("owner", "t:11:1", "t:6:1"),
        ),
    ] {
        assert_eq!(both(first, second), said);
    }
    let said = both("guard = \"unchanged\"", "key = [\"a\"]");
    assert_eq!(said, [differs("guard", "t:10:8", "t:6:1"), differs("key", "t:11:1", "t:5:8")].join("\n"));
}

#[test]
fn routes_that_no_table_meets_may_differ() {
    let unchanged = "guard = \"unchanged\"";
    for (first, second) in [
        ("table = \"users\"", "table = \"posts\""),
        // The first takes all there is for the table.
        ("table = \"users\"", "table = \"*\""),
        (&format!("table = \"users\"\n{PART}"), "table = \"posts\""),
    ] {
        good(&(deferring("1", first, unchanged) + &deferring("2", second, "")));
    }
    let [ab, ba] = ["key = [\"a\", \"b\"]", "key = [\"b\", \"a\"]"];
    let part = format!("table = \"users\"\n{PART}");
    good(&(deferring("1", &part, ab) + &deferring("2", "table = \"users\"", ba)));
    let between = "[[route]]\nname = \"b\"\ntable = \"us*\"\n";
    let users = format!("table = \"users\"\n{PART}");
    good(&(deferring("1", &users, unchanged) + between + &deferring("2", "table = \"*\"", "")));
    // What isn't said twice needn't be the same: that is the route's own.
    good(
        &(deferring("1", &users, "on_wait = \"forward\"")
            + &deferring("2", "table = \"*\"", "max_body = \"1KiB\"")),
    );
    let reads_alone = format!("[[route]]\nname = \"1\"\n{users}\n[route.read]\n");
    good(&(reads_alone + &deferring("2", "table = \"*\"", unchanged)));
}

#[test]
fn a_table_that_defers_is_invalidated() {
    let read = "\n[route.read]\ninvalidate = \"none\"";
    let said = |read: &str, write: &str| {
        format!(
            "{read}: `route.read.invalidate` can't be \"none\" for a table that defers, at {write} (write \"all\" or \
             \"writer\", or remove `[route.write]`)"
        )
    };
    assert_eq!(bad(&deferring("1", &format!("table = \"users\"{read}"), "")), said("t:5:1", "t:6:8"));
    let reading = |name: &str, lines: &str| format!("[[route]]\nname = \"{name}\"\n{lines}{read}\n");
    let earlier = reading("1", &format!("table = \"users\"\n{PART}"));
    assert_eq!(bad(&(earlier.clone() + &deferring("2", "table = \"*\"", ""))), said("t:6:1", "t:10:8"));
    let later = deferring("1", &format!("table = \"users\"\n{PART}"), "") + &reading("2", "table = \"*\"");
    assert_eq!(bad(&later), said("t:11:1", "t:5:8"));
    good(&(earlier + &deferring("2", "table = \"posts\"", "")));
    good(&(deferring("1", "table = \"users\"", "") + &reading("2", "table = \"*\"")));
}
