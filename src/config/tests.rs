use std::collections::HashMap;
use std::io;

use proptest::prelude::*;

use super::*;
use crate::postgrest::query::Query;
use crate::request::{DecodedPath, Target};
use crate::route::{FreshnessSource, Invalidate, ReadPolicy, Route, Scope};
use crate::tag::Relation;

#[derive(Default)]
struct Fixed(HashMap<&'static str, &'static str>);

impl Environment for Fixed {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }

    fn first_line(&self, path: &Path) -> io::Result<String> {
        self.variable(path.to_str().unwrap()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn environment() -> Fixed {
    Fixed(HashMap::from([
        ("NAME", "hush-hush"),
        ("EMPTY", ""),
        ("/run/secret", "from-a-file"),
        ("NESTED", "${NAME}"),
    ]))
}

const UPSTREAM: &str = "[upstream]\nurl = \"https://abc.supabase.co\"\n";

/// `text` with an upstream after it.
fn good(text: &str) -> Config {
    let source = format!("{text}\n{UPSTREAM}");
    Config::parse("t", &source, &environment()).unwrap_or_else(|error| panic!("{text}: {}", lines(&error)))
}

fn lines(error: &ConfigError) -> String {
    error.problems().iter().map(|problem| format!("{problem:#}")).collect::<Vec<_>>().join("\n")
}

/// The problems of `text` with an upstream after it.
fn bad(text: &str) -> String {
    let source = format!("{text}\n{UPSTREAM}");
    lines(&Config::parse("t", &source, &environment()).expect_err(text))
}

fn only_route(config: &Config) -> &Route {
    config.routes.iter().next().unwrap()
}

fn read_of(text: &str) -> ReadPolicy {
    let config = good(&format!("[[route]]\nname = \"r\"\ntable = \"users\"\n[route.read]\n{text}"));
    only_route(&config).read.as_deref().cloned().unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_defaults() {
    let config = good("");
    assert_eq!(config.listen, [ListenAddress::Tcp("0.0.0.0:8000".parse().unwrap())]);
    assert_eq!(config.admin_listen, "127.0.0.1:8001".parse().unwrap());
    assert_eq!((config.admin_token, config.public_url, config.tls), (None, None, None));
    assert!(config.trusted_proxies.is_empty() && !config.proxy_protocol);
    assert_eq!(config.workers, 0);
    let store = Store { memory: 256 * 1024 * 1024, path: "sluice-data".into(), kind: StoreKind::Embedded };
    assert_eq!((config.store, config.secret), (store, None));
    assert_eq!((config.stop_delay, config.stop_timeout), (seconds(0), seconds(10)));
    assert_eq!(config.log, Log { level: "info".into(), format: LogFormat::Auto, access: false });
    let limits = Limits {
        connections: 10_000,
        header_timeout: seconds(10),
        idle_timeout: seconds(75),
        body_timeout: seconds(60),
        max_headers: 200,
        max_header_bytes: 64 * 1024,
    };
    assert_eq!(config.limits, limits);
    let upstream = config.upstream;
    assert_eq!(upstream.url.to_string(), "https://abc.supabase.co");
    assert_eq!((upstream.host, upstream.ca_file, upstream.schema_key), (None, None, None));
    assert_eq!((upstream.connect_timeout, upstream.response_timeout), (seconds(3), seconds(30)));
    assert_eq!((upstream.forward_timeout, upstream.settle), (None, seconds(0)));
    assert_eq!(upstream.default_schema, "public");
    assert_eq!(config.auth.jwks_urls, ["https://abc.supabase.co/auth/v1/.well-known/jwks.json"]);
    assert!(config.auth.jwks_derived && !config.auth.forward_client_ip);
    assert_eq!((config.auth.jwt_secret, config.auth.leeway), (None, seconds(30)));
    assert_eq!(config.auth.min_token_life, seconds(60));
    assert!(config.auth.api_keys.is_empty());
    assert_eq!(config.cors, Cors { allow_origins: vec!["*".into()], max_age: seconds(7200) });
    assert_eq!(config.routes.iter().len(), 0);
}

#[test]
fn the_defaults_of_a_route() {
    let read = read_of("");
    assert_eq!(read.methods, crate::route::ReadMethods { get: true, head: true, post: false });
    assert_eq!((read.ttl, read.empty_ttl), (seconds(300), seconds(2)));
    assert_eq!((read.stale_while_revalidate, read.stale_if_error), (seconds(0), seconds(0)));
    assert_eq!((read.scope, read.freshness), (Scope::Session, FreshnessSource::Route));
    assert_eq!((read.invalidate, read.obey_request_directives), (Invalidate::All, false));
    assert!(read.vary.is_empty() && read.ignore_headers.is_empty());
    assert_eq!((read.depends_on, read.max_body), (None, 1024 * 1024));
}

#[test]
fn values_are_read() {
    let config = good(
        r#"
        listen = ["[::]:8000", "unix:/run/s.sock", "fd:3"]
        admin_listen = "0.0.0.0:9000"
        admin_token = "${NAME}"
        public_url = "https://API.example.com/"
        trusted_proxies = ["10.1.2.3/8", "::1"]
        proxy_protocol = true
        workers = 4
        stop_delay = "200ms"
        mode = "on"
        tls = { cert_file = "c", key_file = "k" }
        log = { level = "info,sluice::cache=debug", format = "json", access = true }
        limits = { connections = 5, max_header_bytes = "32KiB", idle_timeout = "2m" }
        store = { memory = "0", kind = "embedded", ack = "fsync", path = "sluice-data", url = "redis://127.0.0.1" }
        cors = { allow_origins = ["https://App.example.com:3000", "null"], max_age = "1d" }
        [auth]
        jwt_secret = "${file:/run/secret}"
        jwks_url = ["https://a/jwks?x=1", "http://b/"]
        api_keys = ["a", "${NAME}"]
        leeway = "0s"
        min_token_life = "0s"
        "#,
    );
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["[::]:8000", "unix:/run/s.sock", "fd:3"]);
    assert_eq!(config.admin_token, Some(Secret::new("hush-hush")));
    assert_eq!(config.public_url.as_deref(), Some("https://api.example.com"));
    assert_eq!(config.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    assert!(config.proxy_protocol && config.log.access && !config.auth.jwks_derived);
    assert_eq!((config.workers, config.store.memory), (4, 0));
    assert_eq!((config.stop_delay, config.limits.idle_timeout), (Duration::from_millis(200), seconds(120)));
    assert_eq!(config.limits.max_header_bytes, 32768);
    assert_eq!(config.log.level, "info,sluice::cache=debug");
    assert_eq!(config.cors.allow_origins, ["https://app.example.com:3000", "null"]);
    assert_eq!(config.auth.jwt_secret, Some(Secret::new("from-a-file")));
    assert_eq!(config.auth.min_token_life, seconds(0));
    assert_eq!(config.auth.jwks_urls, ["https://a/jwks?x=1", "http://b/"]);
    assert_eq!(config.auth.api_keys, [Secret::new("a"), Secret::new("hush-hush")]);
    assert!(!format!("{config:?}").contains("hush"), "no secret in Debug");
}

#[test]
fn upstream_urls() {
    let upstream = |text: &str| {
        let source = format!("[upstream]\n{text}");
        Config::parse("t", &source, &environment()).map(|config| config.upstream)
    };
    for (text, shown, host_header, sni) in [
        ("url = 'https://ABC.supabase.co/'", "https://abc.supabase.co", "abc.supabase.co", "abc.supabase.co"),
        ("url = 'http://127.0.0.1:54321'", "http://127.0.0.1:54321", "127.0.0.1:54321", "127.0.0.1"),
        ("url = 'https://[::1]:443/base/'", "https://[::1]/base", "[::1]", "::1"),
        ("url = 'http://kong:8000'\nhost = 'A.b:9'", "http://kong:8000", "a.b:9", "a.b"),
    ] {
        let upstream = upstream(text).unwrap();
        assert_eq!(upstream.url.to_string(), shown);
        assert_eq!((upstream.host_header().as_str(), upstream.sni()), (host_header, sni), "{text}");
    }
    for url in [
        "abc.supabase.co",
        "ftp://a",
        "https://a?x",
        "https://a#x",
        "https://",
        "https://u:pw@a",
        "http://a:0",
        "http://a:99999",
        "",
        "https://a b",
    ] {
        let error = upstream(&format!("url = '{url}'")).expect_err(url);
        assert!(error.problems()[0].remedy().unwrap().contains("https://abc.supabase.co"), "{url}");
    }
}

#[test]
fn routes_are_read() {
    let config = good(
        r#"
        [[route]]
        name = "a"
        table = ["users", "private.*"]
        query = { status = '^eq\.' }
        writes = ["audit", "other.log", "audit"]
        mode = "on"
        [route.read]
        methods = ["GET"]
        ttl = "1s"
        scope = ["tenant", "app_metadata.org"]
        freshness = "origin"
        request_directives = "obey"
        invalidate = "writer"
        vary = ["X-B", "x-a", "cookie"]
        ignore_headers = ["X-Client-*"]
        depends_on = ["plans"]
        max_body = "2MB"
        verify = 0.0
        [[route]]
        name = "f"
        function = "search_*"
        [route.read]
        methods = ["POST"]
        "#,
    );
    let a = config.routes.get("a").unwrap();
    let read = a.read.as_ref().unwrap();
    assert_eq!(a.writes, Some(vec![Relation::new("other", "log"), Relation::new("public", "audit")]));
    assert_eq!(read.scope, Scope::Claims(vec!["app_metadata.org".into(), "tenant".into()]));
    assert_eq!(read.empty_ttl, seconds(1), "the default gives way to ttl");
    assert_eq!(read.vary, ["cookie", "x-a", "x-b"]);
    assert!(read.ignore_headers[0].matches(&http::HeaderName::from_static("x-client-info")));
    assert_eq!(read.depends_on, Some(vec![Relation::new("public", "plans")]));
    assert_eq!((read.max_body, read.obey_request_directives), (2_000_000, true));
    assert_eq!(config.routes.get("f").unwrap().writes, Some(vec![]), "a function that only reads");
    assert!(config.routes.get("g").is_none());
}

#[test]
fn without_a_file() {
    let config = Config::without_file("https://abc.supabase.co").unwrap();
    let names: Vec<&str> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["rest", "storage-public"]);
    let found = |target: Target, path: &str| {
        let path = DecodedPath::parse(path).unwrap();
        config.routes.find(&target, &path, &Query::parse("").unwrap()).map(|route| route.name.clone())
    };
    let table = |schema: &str| Target::Table(Relation::new(schema, "t"));
    assert_eq!(found(table("public"), "/rest/v1/t").as_deref(), Some("rest"));
    assert_eq!(found(table("other"), "/rest/v1/t"), None);
    for (path, is_public) in [
        ("/storage/v1/object/public/b/o", true),
        ("/storage/v1/object/info/public/b/o", true),
        ("/storage/v1/render/image/public/b/o", true),
        ("/storage/v1/object/authenticated/b/o", false),
        ("/storage/v1/object/b/public/o", false),
        ("/storage/v1/object/sign/b/o", false),
    ] {
        assert_eq!(found(Target::Storage, path).is_some(), is_public, "{path}");
    }
    let read = config.routes.get("rest").unwrap().read.as_deref().cloned().unwrap();
    assert_eq!((read.ttl, read.scope), (seconds(10), Scope::Session));
    let read = config.routes.get("storage-public").unwrap().read.as_deref().cloned().unwrap();
    assert_eq!((read.ttl, read.scope, read.freshness), (seconds(0), Scope::Public, FreshnessSource::Origin));
    let error = Config::without_file("abc.supabase.co").unwrap_err();
    assert_eq!(
        lines(&error),
        "the URL of --upstream does not begin with http:// or https:// (write it like https://abc.supabase.co)"
    );
}

#[test]
fn the_example_parses() {
    let source = include_str!("../../config/sluice.toml");
    let config = Config::parse("sluice.toml", source, &environment())
        .unwrap_or_else(|error| panic!("{}", lines(&error)));
    assert!(config.routes.iter().len() > 0 && config.routes.shadowed().is_empty());
}

#[test]
fn strings_are_interpolated() {
    for (text, expected) in [
        ("x${NAME}y${NAME}", "xhush-hushyhush-hush"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("a$b $ {}", "a$b $ {}"),
        ("${NESTED}", "${NAME}"),
        ("${file:/run/secret}", "from-a-file"),
    ] {
        let done = value::interpolate(text, &environment()).unwrap();
        assert_eq!(done.text, expected);
    }
}

#[test]
fn a_folder_is_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("10-base.toml", "[upstream]\nurl = \"https://a\"\n[[route]]\nname = \"one\"\ntable = \"t\"\n");
    write("20-more.toml", "[upstream]\nsettle = \"1s\"\n[[route]]\nname = \"two\"\npath = \"^/x\"\n");
    write("ignored.txt", "not toml");
    write(".hidden.toml", "not toml");
    let config = Config::load(folder.path(), None).unwrap();
    assert_eq!((config.upstream.url.host.as_str(), config.upstream.settle), ("a", seconds(1)));
    assert_eq!(config.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(
        Config::load(folder.path(), Some("http://b:1")).unwrap().upstream.url.to_string(),
        "http://b:1"
    );

    write("30-again.toml", "\n[upstream]\nurl = \"https://b\"\n[[route]]\nname = \"one\"\ntable = \"t\"\n");
    let error = lines(&Config::load(folder.path(), None).unwrap_err());
    let folder = folder.path().display();
    assert_eq!(
        error,
        format!(
            "{folder}/30-again.toml:3:1: `upstream.url` is given twice, the first time at \
             {folder}/10-base.toml:2:1 (remove one of them)\n\
             {folder}/30-again.toml:5:8: `route.name` is the name of an earlier route, at \
             {folder}/10-base.toml:4:8 (give each route a name of its own)"
        )
    );
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| Config::load(path, None).unwrap_err().problems()[0].to_string();
    assert!(message(folder.path()).ends_with("has no file whose name ends in .toml"));
    assert!(message(&folder.path().join("x.toml")).contains("x.toml can't be read: entity not found"));
}

#[test]
fn a_report_shows_the_line_and_masks_secrets() {
    let source = "admin_token = \"letmein\"\nadmin_tokn = \"letmein\"\n[auth]\njwt_secret = \"top ${NONE}\"\nleeway = \"1x\"\n[upstream]\nurl = \"https://me:letmein@a\"\n";
    let error = Config::parse("sluice.toml", source, &environment()).unwrap_err();
    let mut report = String::new();
    let theme = miette::GraphicalTheme::none();
    miette::GraphicalReportHandler::new_themed(theme).render_report(&mut report, &error).unwrap();
    assert!(!report.contains("letmein") && !report.contains("top"), "{report}");
    for shown in ["sluice.toml:2:1", "did you mean `admin_token`?", "sluice.toml:5:10", "leeway = \"1x\""] {
        assert!(report.contains(shown), "{shown} is missing in {report}");
    }
    let broken = "jwt_secret = \"letmein\nurl = \"redis://:letmein@a\"\napi_keys = [\n\"letmein\",\n";
    let error = Config::parse("sluice.toml", broken, &environment()).unwrap_err();
    let mut report = String::new();
    let theme = miette::GraphicalTheme::none();
    miette::GraphicalReportHandler::new_themed(theme).render_report(&mut report, &error).unwrap();
    assert!(!report.contains("letmein") && report.contains("jwt_secret ="), "{report}");
}

#[test]
fn looked_up_values_are_never_shown() {
    for key in ["listen", "admin_listen", "public_url", "mode", "stop_delay", "trusted_proxies"] {
        let value = if key == "trusted_proxies" { "[\"${NAME}\"]" } else { "\"${NAME}\"" };
        assert!(!bad(&format!("{key} = {value}")).contains("hush"), "{key}");
    }
    let problems = bad("[[route]]\nname = \"r\"\npath = \"(${NAME}\"\n");
    assert!(problems.contains("t:3:8") && !problems.contains("hush"), "{problems}");
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        let _ = Config::parse("t", &text, &environment());
    }

    #[test]
    fn any_likely_text_is_read_without_a_panic(
        lines in prop::collection::vec(
            ("(listen|mode|store|log|ttl|\\[route\\.read\\]\n|\\[route\\.write\\]\n|\\[queue\\]\n|key|owner|guard|columns|backoff|\\[\\[route\\]\\]\n|\\[auth\\]\n|name|table|scope|vary|api_keys|query|database)",
             "( = )?", "(\"[$a-z*.{}:é]{0,6}\"|\\[\"[a-z.]{0,3}\"\\]|-?[0-9]{1,20}|[0-9]\\.5|\\{a = \"\\(\"\\}|true|1979-05-27)?"),
            0..12)
    ) {
        let text: String = lines.iter().map(|(key, equals, value)| format!("{key}{equals}{value}\n")).collect();
        if let Err(error) = Config::parse("t", &text, &environment()) {
            prop_assert!(!error.problems().is_empty());
            let mut report = String::new();
            let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none());
            prop_assert!(handler.render_report(&mut report, &error).is_ok());
        }
    }
}

mod bad_files;
mod store;
mod write;
