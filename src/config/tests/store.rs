//! `[store]` and the URLs in it.

use super::*;

fn redis(text: &str) -> RedisStore {
    let config = good(&format!("[store]\nkind = \"redis\"\n{text}\n"));
    match config.store.kind {
        StoreKind::Redis(redis) => *redis,
        StoreKind::Embedded => panic!("{text}: embedded"),
    }
}

fn address(host: &str, port: u16) -> HostPort {
    HostPort { host: host.into(), port }
}

fn url(topology: Topology, database: u32) -> StoreUrl {
    StoreUrl { topology, tls: false, username: None, password: None, database }
}

fn sentinel(sentinels: Vec<HostPort>) -> Topology {
    Topology::Sentinel { sentinels, master: "my-master".into() }
}

#[test]
fn the_defaults_of_redis() {
    let expected = RedisStore {
        url: url(Topology::Single(address("127.0.0.1", 6379)), 0),
        password: None,
        namespace: "sluice:abc.supabase.co".into(),
        ack: Ack::Fsync,
    };
    assert_eq!(redis(""), expected);
}

#[test]
fn values_are_read() {
    let store = redis(
        "url = \"redis://h/2\"\npassword = \"${NAME}\"\nnamespace = \"é:1\"\nack = \"replicated\"\nmemory = \"0\"",
    );
    let expected = RedisStore {
        url: url(Topology::Single(address("h", 6379)), 2),
        password: Some(Secret::new("hush-hush")),
        namespace: "é:1".into(),
        ack: Ack::Replicated,
    };
    assert_eq!(store, expected);
    assert_eq!(redis("ack = \"memory\"").ack, Ack::Memory);
    let longest = "n".repeat(128);
    assert_eq!(redis(&format!("namespace = \"{longest}\"")).namespace, longest);
}

#[test]
fn urls_lead_to_their_servers() {
    // The URL, what it leads to, how it is shown.
    for (text, expected, shown) in [
        ("redis://H", url(Topology::Single(address("h", 6379)), 0), "redis://h:6379/0"),
        ("Redis://h:1/", url(Topology::Single(address("h", 1)), 0), "redis://h:1/0"),
        (
            "redis://[FD00::1]/15",
            url(Topology::Single(address("fd00::1", 6379)), 15),
            "redis://[fd00::1]:6379/15",
        ),
        (
            "redis+sentinel://a,[::1]:1/my-master/3",
            url(sentinel(vec![address("a", 26379), address("::1", 1)]), 3),
            "redis+sentinel://a:26379,[::1]:1/my-master/3",
        ),
        (
            "redis+sentinel://a/my-master",
            url(sentinel(vec![address("a", 26379)]), 0),
            "redis+sentinel://a:26379/my-master/0",
        ),
        (
            "redis+cluster://a,b:7000/",
            url(Topology::Cluster(vec![address("a", 6379), address("b", 7000)]), 0),
            "redis+cluster://a:6379,b:7000",
        ),
    ] {
        assert_eq!(redis(&format!("url = \"{text}\"")).url, expected, "{text}");
        assert_eq!(expected.to_string(), shown);
        let with_tls =
            redis(&format!("url = \"{}\"", text.to_lowercase().replacen("redis", "rediss", 1))).url;
        assert_eq!(with_tls, StoreUrl { tls: true, ..expected }, "{text}");
        assert_eq!(with_tls.to_string(), shown.replacen("redis", "rediss", 1));
    }
}

#[test]
fn credentials_are_decoded_and_never_shown() {
    for (userinfo, username, password) in [
        (":pw-1", None, "pw-1"),
        ("user-1:pw-1", Some("user-1"), "pw-1"),
        ("us%3Aer-1:p%40w%2F%25-1:x", Some("us:er-1"), "p@w/%-1:x"),
    ] {
        for rest in ["h:1/1", "h:1,i:2/my-master", "h:1,i:2"] {
            let scheme = match rest.matches([',', '/']).count() {
                2 => "rediss+sentinel",
                _ if rest.contains(',') => "redis+cluster",
                _ => "redis",
            };
            let store = redis(&format!("url = \"{scheme}://{userinfo}@{rest}\""));
            assert_eq!(store.url.username.as_deref(), username);
            assert_eq!(store.url.password, Some(Secret::new(password)));
            let shown = format!("{} {store:?}", store.url);
            assert!(!shown.contains("-1"), "{shown}");
        }
    }
    let apart = redis("url = \"redis://user@h\"\npassword = \"hidden\"");
    assert_eq!(apart.url.username.as_deref(), Some("user"));
    assert!(!format!("{apart:?}").contains("hidden"));
}

#[test]
fn bad_urls_are_told_apart_and_masked() {
    for (url, problem, remedy) in [
        ("letmein", "is not a store's URL", "redis+sentinel://"),
        ("http://letmein", "is not a store's URL", "rediss instead of redis is with TLS"),
        ("redis+unix:///letmein", "is not a store's URL", "redis://127.0.0.1:6379/0"),
        ("redis://:letmein?x@h", "has a query or a fragment", "%3F"),
        ("redis://h/0#letmein", "has a query or a fragment", "%23"),
        ("redis://:let/mein@h", "has credentials that can't be read", "percent-encoded"),
        ("redis://:letmein%zz@h", "has credentials that can't be read", "store.password"),
        ("redis://:letmein%ff@h", "has credentials that can't be read", "percent-encoded"),
        ("redis://u:letmein@", "names no host", "name a host"),
        ("redis://u:letmein@:6379", "names no host", "name a host"),
        ("redis+cluster://letmein,,h", "names no host", "name a host"),
        ("redis://letmein:0", "has a host or a port that can't be read", "[fd00::1]:6379"),
        ("redis://letmein:99999", "has a host or a port that can't be read", "redis.internal:6379"),
        ("redis://[letmein]", "has a host or a port that can't be read", "[fd00::1]:6379"),
        ("redis://letmein,h", "names several hosts", "redis+cluster://"),
        ("redis+sentinel://letmein", "does not name the master", "/master/0"),
        ("redis+sentinel://letmein//0", "does not name the master", "/master/0"),
        ("redis+sentinel://letmein/a b", "has a master's name that sentinels can't know", "letters"),
        ("redis+sentinel://letmein/m/x", "has no such database number", "leave it out"),
        ("redis://letmein/-1", "has no such database number", "leave it out"),
        ("redis://letmein/1/2", "has no such database number", "leave it out"),
        ("redis://letmein/4294967296", "has no such database number", "leave it out"),
        ("redis+cluster://letmein/0", "has a database number, and a Cluster has none", "remove"),
    ] {
        let source = format!("store = {{ kind = \"redis\", url = \"{url}\" }}\n{UPSTREAM}");
        let error = Config::parse("t", &source, &environment()).expect_err(url);
        assert_eq!(error.problems().len(), 1, "{url}: {}", lines(&error));
        let found = &error.problems()[0];
        assert_eq!(found.to_string(), format!("`store.url` {problem}"), "{url}");
        assert!(found.remedy().unwrap().contains(remedy), "{url}: {:?}", found.remedy());
        assert!(!report(&error).contains("mein"), "{url}: {}", report(&error));
    }
}

#[test]
fn the_url_is_masked_where_something_else_is_wrong() {
    let source =
        format!("store = {{ url = \"redis://u:letmein@h\", ack = \"x\", kind = \"redis\" }}\n{UPSTREAM}");
    let report = report(&Config::parse("t", &source, &environment()).unwrap_err());
    assert!(report.contains("ack = \"x\"") && !report.contains("letmein"), "{report}");
}

#[test]
fn namespaces_that_no_key_can_begin_with() {
    let too_long = "n".repeat(129);
    for namespace in ["", " ", "a b", "a\\tb", "a\\u0000", "a\\u00a0b", "{a}", "a}", &too_long] {
        let problems = bad(&format!("[store]\nkind = \"redis\"\nnamespace = \"{namespace}\""));
        assert!(problems.starts_with("t:3:13: `store.namespace` is not a namespace (write "), "{problems}");
    }
}

fn report(error: &ConfigError) -> String {
    let mut report = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none());
    handler.render_report(&mut report, error).unwrap();
    report
}

proptest! {
    #[test]
    fn any_url_is_read_without_a_panic(
        text in "(rediss?(\\+sentinel|\\+cluster)?://)?([a-z%:@]{0,6}@)?[a-z0-9:,\\[\\]./?#%é]{0,16}"
    ) {
        if let Ok(url) = store_url::StoreUrl::parse(&text) {
            let shown = url.to_string();
            let again = store_url::StoreUrl::parse(&shown);
            let bare = StoreUrl { username: None, password: None, ..url };
            prop_assert_eq!(again, Ok(bare), "{}", shown);
        }
    }
}
