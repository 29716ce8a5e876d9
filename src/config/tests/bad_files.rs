//! What is said about files that are wrong, to the letter.

use super::bad;

/// Each file with an upstream after it, and what is said about it.
const FILES: &[(&str, &str)] = &[
    ("listen = ", "t:1:10: not TOML: string values must be quoted, expected literal string"),
    (r#"listn = "0.0.0.0:1""#, "t:1:1: there is no key `listn` (did you mean `listen`?)"),
    ("frobnicate = 1", "t:1:1: there is no key `frobnicate` (the keys here are listen, admin_token, upstream, auth, store, route, admin_listen, secret, public_url, trusted_proxies, proxy_protocol, workers, stop_delay, stop_timeout, tls, log, limits, queue, cors, mode, hook_secret, database, upload)"),
    (r#"[log]
levl = "info"
[nolog]
x = 1"#, "t:2:1: there is no key `log.levl` (did you mean `level`?)
t:3:2: there is no key `nolog` (the keys here are listen, admin_token, upstream, auth, store, route, admin_listen, secret, public_url, trusted_proxies, proxy_protocol, workers, stop_delay, stop_timeout, tls, log, limits, queue, cors, mode, hook_secret, database, upload)"),
    ("listen = 8000", "t:1:10: `listen` must be a string or a list of strings, not an integer"),
    (r#"listen = ["localhost:8000", 5, "fd:2", "unix:"]"#, r#"t:1:11: `listen` has no such address (write an address and a port ("0.0.0.0:8000", "[::]:8000"), "unix:/run/sluice.sock" or "fd:3" (3 or above))
t:1:29: `listen` must be a string or a list of strings, not an integer
t:1:32: `listen` has no such address (write an address and a port ("0.0.0.0:8000", "[::]:8000"), "unix:/run/sluice.sock" or "fd:3" (3 or above))
t:1:40: `listen` has no such address (write an address and a port ("0.0.0.0:8000", "[::]:8000"), "unix:/run/sluice.sock" or "fd:3" (3 or above))"#),
    ("listen = []", "t:1:1: `listen` is empty (name at least one address)"),
    (r#"listen = ["[::]:1", "[::]:1"]"#, "t:1:21: `listen` has this address twice (remove one)"),
    (r#"admin_listen = "0.0.0.0:8001""#, "t:1:16: `admin_listen` is open to other machines, and there is no `admin_token` (give `admin_token`, or listen on 127.0.0.1)"),
    (r#"listen = "127.0.0.1:1"
admin_listen = "127.0.0.1:1""#, "t:2:16: `admin_listen` is the address of `listen` (give it another port)"),
    (r#"admin_token = ""
public_url = "https://a?b""#, r#"t:1:15: `admin_token` is empty (give a value, or leave the key out)
t:2:14: `public_url` has a query or a fragment (write it like "https://api.example.com")"#),
    (r#"admin_token = "${NOWHERE}"
trusted_proxies = ["10.0.0.0/33", "${file:/nowhere}", "${", "${a-b}"]"#, r#"t:1:15: `admin_token` has no value: the environment variable `NOWHERE` is not set (set `NOWHERE` where Sluice is started, or write `$${` for a literal `${`)
t:2:20: `trusted_proxies` has no such network (write "10.0.0.0/8", "fd00::/8" or one address)
t:2:35: `trusted_proxies` has no value: the file /nowhere can't be read: entity not found (make the file readable for the user that Sluice runs as)
t:2:55: `trusted_proxies` has no value: `${` is not closed (write `$${` for a literal `${`)
t:2:61: `trusted_proxies` has no value: `${a-b}` is not the name of an environment variable (write `${NAME}`, `${file:/path}`, or `$${` for a literal `${`)"#),
    (r#"admin_token = "a b""#, "t:1:1: `admin_token` has a space or a character that isn't ASCII (give the token alone, as it stands in a header)"),
    (r#"workers = -1
proxy_protocol = "yes"
stop_delay = 5
stop_timeout = "5""#, r#"t:1:11: `workers` is out of range (give a number from 0 to 1024)
t:2:18: `proxy_protocol` must be `true` or `false`, not a string
t:3:14: `stop_delay` must be a string, not an integer (add a unit: "5s" or "5ms")
t:4:16: `stop_timeout` is not a duration (write a whole number with a unit of ms, s, m, h or d, such as "200ms", "30s", "5m" or "0s", up to "3650d")"#),
    (r#"mode = "observe""#, "t:1:8: `mode` has a value that is not available in this version (remove it; `on` is what is in force)"),
    (r#"mode = "of""#, r#"t:1:8: `mode` has no such value (did you mean "off"?)"#),
    (r#"secret = "x"
hook_secret = "y""#, "t:1:1: `secret` is too short (give at least 32 bytes, such as what `openssl rand -hex 32` prints)
t:2:1: `hook_secret` is not available in this version (remove it)"),
    (r#"tls = "x"
log = { level = "infoo", format = "xml" }"#, r#"t:1:7: `tls` must be a table, not a string
t:2:17: `log.level` has no such value (did you mean "info"?)
t:2:35: `log.format` has no such value (write one of "auto", "text", "json")"#),
    (r#"[tls]
cert_file = "c""#, "t:1:2: `tls` lacks `key_file` (give `key_file`, or remove `[tls]` to serve plain HTTP)"),
    (r#"log = { level = "${NAME}" }"#, r#"t:1:17: `log.level` has no such value (write one of "off", "error", "warn", "info", "debug", "trace")"#),
    (r#"[limits]
connections = 0
max_headers = 257
idle_timeout = "0s"
max_header_bytes = "2MiB"
header_timeout = "4000d""#, r#"t:2:15: `limits.connections` is out of range (give a number from 1 to 10000000)
t:3:15: `limits.max_headers` is out of range (give a number from 1 to 256)
t:4:16: `limits.idle_timeout` must not be zero (give a larger value, or leave the key out)
t:5:1: `limits.max_header_bytes` is too large (give at most "1MiB")
t:6:18: `limits.header_timeout` is not a duration (write a whole number with a unit of ms, s, m, h or d, such as "200ms", "30s", "5m" or "0s", up to "3650d")"#),
    (r#"[auth]
forward_client_ip = true
min_token_life = 5
jwks_url = "x"
api_keys = ["", "a b"]"#, r#"t:2:1: `auth.forward_client_ip` needs `upstream.schema_key` (give `schema_key` under `[upstream]`: Auth believes the address only beside a secret key)
t:3:18: `auth.min_token_life` must be a string, not an integer (add a unit: "5s" or "5ms")
t:4:12: `auth.jwks_url` does not begin with http:// or https:// (write it like "https://abc.supabase.co/auth/v1/.well-known/jwks.json")
t:5:1: `auth.api_keys` has a key with a space or a character that isn't ASCII (give the token alone, as it stands in a header)
t:5:13: `auth.api_keys` is empty (give a value, or leave the key out)"#),
    (r#"[store]
kind = "redis"
url = "redis://:pw@h"
memory = "lots"
password = "x"
ack = "fsink"
path = "journal"
journal_url = "redis://h"
objects = { path = "x" }"#, r#"t:4:10: `store.memory` is not a size (write a whole number of bytes, or one with a unit of KiB, MiB, GiB, TiB, KB, MB, GB or TB, such as "64KiB", "256MiB" or "0")
t:5:1: `store.password` is given beside a password in `store.url` (keep one of the two)
t:6:7: `store.ack` has no such value (write one of "fsync", "replicated", "memory")
t:7:1: `store.path` needs the embedded store (set `kind = "embedded"` beside it, or remove it)
t:8:1: `store.journal_url` is not available in this version (remove it)
t:9:1: `store.objects` is not available in this version (remove it)"#),
    (r#"[store]
kind = "embedded"
url = "redis://h"
password = "x"
namespace = "n"
path = ""
ack = "replicated""#, r#"t:3:1: `store.url` needs the Redis store (set `kind = "redis"` beside it, or remove it)
t:4:1: `store.password` needs the Redis store (set `kind = "redis"` beside it, or remove it)
t:5:1: `store.namespace` needs the Redis store (set `kind = "redis"` beside it, or remove it)
t:6:8: `store.path` is empty (give a path, or leave the key out)
t:7:1: `store.ack` needs the Redis store (set `kind = "redis"` beside it, or remove it)"#),
    (r#"store = { ack = "memory" }"#, r#"t:1:11: `store.ack` promises nothing where the store is embedded (remove it: `fsync` is what is in force; or set `kind = "redis"` beside it)"#),
    (r#"[store]
kind = "reddis"
url = "redis://h"
namespace = "a b""#, r#"t:2:8: `store.kind` has no such value (did you mean "redis"?)
t:4:13: `store.namespace` is not a namespace (write up to 128 bytes without spaces, `{` and `}`)"#),
    (r#"[store]
kind = "redis"
url = ["redis://h"]
password = """#, r#"t:3:7: `store.url` must be a string, not a list
t:4:12: `store.password` is empty (give a value, or leave the key out)"#),
    (r#"[store]
kind = "redis"
url = "redis://user@h"
namespace = """#, r#"t:3:1: `store.url` has a user name, and there is no password (give `store.password`, or write `:` before what is a password: "redis://:password@host")
t:4:13: `store.namespace` is not a namespace (write up to 128 bytes without spaces, `{` and `}`)"#),
    (r#"[database]
url = "x"
[[upload]]
bucket = "b""#, "t:1:2: `database` is not available in this version (remove it)
t:3:3: `upload` is not available in this version (remove it)"),
    (r#"[cors]
allow_origins = ["https://a/", "x"]
max_age = "-1s""#, r#"t:2:18: `cors.allow_origins` has no such origin (write "https://app.example.com", without a path, "null" or "*")
t:2:32: `cors.allow_origins` has no such origin (write "https://app.example.com", without a path, "null" or "*")
t:3:11: `cors.max_age` is not a duration (write a whole number with a unit of ms, s, m, h or d, such as "200ms", "30s", "5m" or "0s", up to "3650d")"#),
    ("route = 5", "t:1:9: `route` must be a list of tables, not an integer (write `[[route]]`)"),
    (r#"[route]
name = "x""#, "t:1:1: `route` must be a list of tables, not a table (write `[[route]]`)"),
    (r#"[[route]]
table = "t""#, r#"t:1:1: `route.name` is missing (write `name = "…"`: it is the label on metrics)"#),
    (r#"[[route]]
name = "a b"
table = "t"
[[route]]
name = "x"
table = "t"
[[route]]
name = "x"
table = "t""#, "t:2:8: `route.name` is not a route's name (write up to 64 letters, digits, `-`, `_` and `.`, a letter or a digit first)
t:8:8: `route.name` is the name of an earlier route, at t:5:8 (give each route a name of its own)"),
    (r#"[[route]]
name = "r""#, "t:1:1: the route doesn't say what it matches (give one of `table`, `function` and `path`)"),
    (r#"[[route]]
name = "r"
table = "t"
path = "^/""#, "t:4:1: `route.path` is given beside `table` (keep one of them, and write another route for the other)"),
    (r#"[[route]]
name = "r"
table = ["a.b.c", ""]
writes = ["a*"]"#, r#"t:3:10: `route.table` has more than one dot (write "name", "schema.name", or a glob with `*` and `?`)
t:3:19: `route.table` is empty or has an empty part (write "name", "schema.name", or a glob with `*` and `?`)
t:4:11: `route.writes` has a character that no such name has (write "name" or "schema.name", without wildcards)"#),
    (r#"[[route]]
name = "r"
table = []"#, r#"t:3:1: `route.table` is empty (name at least one, or "*" for all of the default schema)"#),
    (r#"[[route]]
name = "r"
path = '^/(a'
query = { a = '(?=x)', b = 5 }"#, "t:3:8: `route.path` is not a regular expression: unclosed group (write it in single quotes, in the syntax of https://docs.rs/regex; there is no look-around and no back-reference)
t:4:15: `route.query` is not a regular expression: look-around, including look-ahead and look-behind, is not supported (write it in single quotes, in the syntax of https://docs.rs/regex; there is no look-around and no back-reference)
t:4:28: `route.query` must be a table of strings, not an integer"),
    (r#"[[route]]
name = "r"
path = 'a{1000}{1000}'
query = 'x'"#, r#"t:3:8: `route.path` is too large a regular expression (write it in single quotes, in the syntax of https://docs.rs/regex; there is no look-around and no back-reference)
t:4:9: `route.query` must be a table, not a string (write `query = { status = '^eq\.' }`)"#),
    (r#"[[route]]
name = "r"
table = "t"
mode = "off"
ttl = "5m""#, "t:4:8: `route.mode` has a value that is not available in this version (remove it; `on` is what is in force)
t:5:1: there is no key `route.ttl` (the keys here are name, table, function, path, query, writes, mode, read, write)"),
    (r#"[[route]]
name = "r"
table = "t"
[route.read]
ttl = "1s"
empty_ttl = "2s"
verify = 0.5
max_body = "0""#, "t:6:1: `route.read.empty_ttl` is longer than `ttl` (lower it, or raise `ttl`)
t:7:10: `route.read.verify` has a value that is not available in this version (remove it; `0.0` is what is in force)
t:8:12: `route.read.max_body` must not be zero (give a larger value, or leave the key out)"),
    (r#"[[route]]
name = "r"
table = "t"
[route.read]
methods = ["POST", "get"]
scope = "sub"
invalidate = "nobody"
freshness = 1
request_directives = "obay""#, r#"t:5:12: `route.read.methods` may have "POST" only for a function (remove "POST", or make this a route with `function`)
t:5:20: `route.read.methods` has no such value (did you mean "GET"?)
t:6:9: `route.read.scope` has no such value (write one of "session", "user", "role", "public")
t:7:14: `route.read.invalidate` has no such value (write one of "all", "writer", "none")
t:8:13: `route.read.freshness` must be a string, not an integer
t:9:22: `route.read.request_directives` has no such value (did you mean "obey"?)"#),
    (r#"[[route]]
name = "r"
table = "t"
[route.read]
methods = []
scope = []
verify = 2"#, r#"t:5:1: `route.read.methods` is empty (leave it out for ["GET", "HEAD"])
t:6:1: `route.read.scope` has no claims (name claims, such as ["app_metadata.tenant_id"], or write "role" or "public")
t:7:10: `route.read.verify` is out of range (give a number from 0 to 1)"#),
    (r#"[[route]]
name = "r"
table = "t"
[route.read]
scope = ["a..b"]
depends_on = "t"
stale_if_error = "1w""#, r#"t:5:10: `route.read.scope` has no such claim (write a claim, with dots for those inside of it: "app_metadata.tenant_id")
t:6:14: `route.read.depends_on` must be a list of strings, not a string
t:7:18: `route.read.stale_if_error` is not a duration (write a whole number with a unit of ms, s, m, h or d, such as "200ms", "30s", "5m" or "0s", up to "3650d")"#),
    (r#"[[route]]
name = "r"
table = "t"
[route.read]
vary = ["Authorization", "Host", "x *", "x-*", "If-None-Match", "Cache-Control"]"#, r#"t:5:9: `route.read.vary` has a header that can't be there (remove it: it is part of the key or of the partition anyway)
t:5:26: `route.read.vary` has a header that can't be there (remove it: it belongs to the connection or the message)
t:5:34: `route.read.vary` has no header's name (write it like "x-client-version", without wildcards)
t:5:41: `route.read.vary` has no header's name (write it like "x-client-version", without wildcards)
t:5:48: `route.read.vary` has a header that can't be there (remove it: Sluice answers it itself)
t:5:65: `route.read.vary` has a header that can't be there (remove it: `request_directives` decides about it)"#),
    (r#"[[route]]
name = "r"
table = "t"
[route.read]
vary = ["x-a"]
ignore_headers = ["X-*", "apikey", "a b"]"#, r#"t:6:19: `route.read.ignore_headers` contradicts `vary` (`vary` has "x-a": remove it from one of them)
t:6:26: `route.read.ignore_headers` has a header that can't be there (remove it: it is part of the key or of the partition anyway)
t:6:36: `route.read.ignore_headers` has a character that no such name has (write it like "x-client-*")"#),
];

#[test]
fn every_problem_has_its_place_and_its_remedy() {
    for (file, said) in FILES {
        assert_eq!(bad(file), *said, "{file}");
    }
}

#[test]
fn a_missing_upstream() {
    let error = super::Config::parse("t", "[upstream]\nsettle = '1s'\n", &super::environment()).unwrap_err();
    let said = "`upstream.url` is missing (write `url = \"https://abc.supabase.co\"` under `[upstream]`, or start with \
                --upstream)";
    assert_eq!(super::lines(&error), said);
}
