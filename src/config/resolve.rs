//! From the tree to a [`Config`]: defaults, checks, contradictions. The
//! defaults are written here, beside the keys.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::address::{self, ListenAddress, UpstreamUrl};
use super::context::Context;
use super::diagnostic::ConfigError;
use super::file::{self, Source, Table};
use super::section::{Section, Zero};
use super::value::{Environment, Secret};
use super::{Auth, Config, Cors, Limits, Log, LogFormat, StoreKind, Tls, Upstream, queue, routes, store};
use crate::route::parse_relation;

const SECOND: Duration = Duration::from_secs(1);
/// The fewest bytes of `secret`.
const MIN_SECRET: usize = 32;
const ANY_ADDRESS: &str = "write an address and a port (\"0.0.0.0:8000\", \"[::]:8000\"), \"unix:/run/sluice.sock\" \
                           or \"fd:3\" (3 or above)";

/// Reads all sources as one configuration.
pub(super) fn config(
    sources: Vec<Source>,
    upstream_override: Option<&str>,
    environment: &dyn Environment,
) -> Result<Config, ConfigError> {
    let context = Context::new(sources, environment);
    let Some(tree) = file::parse(&context) else { return Err(context.into_error()) };
    let config = read(&context, &tree, upstream_override);
    if context.has_problems() { Err(context.into_error()) } else { Ok(config) }
}

/// The values, with defaults in the place of those that are wrong or missing:
/// these have been noted.
fn read(context: &Context<'_>, tree: &Table, upstream_override: Option<&str>) -> Config {
    let mut root = Section::new(context, "", Some(tree));
    let root = &mut root;
    let listen = listen(root);
    let admin_token = header_secret(root, "admin_token");
    let upstream = root.table("upstream", |section| upstream(section, upstream_override));
    let auth = root.table("auth", |section| auth(section, &upstream));
    let store = root.table("store", |section| store::read(section, &upstream.url.host));
    let ground = routes::Ground {
        default_schema: &upstream.default_schema,
        is_shared: matches!(store.kind, StoreKind::Redis(_)),
        signs_tokens: auth.jwt_secret.is_some(),
    };
    let routes = routes::table(root, &ground);
    let config = Config {
        admin_listen: admin_listen(root, &listen, admin_token.is_some()),
        listen,
        admin_token,
        secret: sealing_secret(root),
        public_url: base_url(root, "public_url", "https://api.example.com").map(|url| url.to_string()),
        trusted_proxies: trusted_proxies(root),
        proxy_protocol: root.boolean("proxy_protocol", false),
        workers: root.integer("workers", 0, 0..=1024),
        stop_delay: root.duration("stop_delay", Duration::ZERO, Zero::Allowed),
        stop_timeout: root.duration("stop_timeout", 10 * SECOND, Zero::Allowed),
        tls: tls(root),
        log: root.table("log", log),
        limits: root.table("limits", limits),
        auth,
        store,
        queue: root.table("queue", queue::read),
        cors: root.table("cors", cors),
        routes,
        upstream,
    };
    root.mode();
    for key in ["hook_secret", "database", "upload"] {
        root.unavailable(key, "");
    }
    root.refuse_unknown();
    config
}

fn listen(root: &mut Section<'_>) -> Vec<ListenAddress> {
    let default = ListenAddress::Tcp(SocketAddr::from(([0, 0, 0, 0], 8000)));
    let Some(texts) = root.text_or_texts("listen") else { return vec![default] };
    let mut addresses: Vec<ListenAddress> = Vec::with_capacity(texts.len());
    for text in &texts {
        match ListenAddress::parse(&text.value) {
            Some(address) if addresses.contains(&address) => {
                root.problem("listen", &text.place, "has this address twice", Some("remove one".into()));
            }
            Some(address) => addresses.push(address),
            None => root.problem("listen", &text.place, "has no such address", Some(ANY_ADDRESS.into())),
        }
    }
    if texts.is_empty() {
        root.problem_with("listen", "is empty", "name at least one address");
    }
    addresses
}

fn admin_listen(root: &mut Section<'_>, listen: &[ListenAddress], has_token: bool) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], 8001));
    let Some(text) = root.text("admin_listen") else { return default };
    let Ok(address) = text.value.parse::<SocketAddr>() else {
        let remedy = "write an address and a port, such as \"127.0.0.1:8001\"";
        root.problem("admin_listen", &text.place, "is no such address", Some(remedy.into()));
        return default;
    };
    if !address.ip().is_loopback() && !has_token {
        let remedy = "give `admin_token`, or listen on 127.0.0.1";
        let problem = "is open to other machines, and there is no `admin_token`";
        root.problem("admin_listen", &text.place, problem, Some(remedy.into()));
    }
    if address.port() != 0 && listen.contains(&ListenAddress::Tcp(address)) {
        let remedy = "give it another port";
        root.problem("admin_listen", &text.place, "is the address of `listen`", Some(remedy.into()));
    }
    address
}

fn base_url(section: &mut Section<'_>, key: &'static str, example: &str) -> Option<UpstreamUrl> {
    let text = section.text(key)?;
    match UpstreamUrl::parse(&text.value) {
        Ok(url) => Some(url),
        Err(error) => {
            section.mask(key);
            let remedy = format!("write it like \"{example}\"");
            section.problem(key, &text.place, &error.to_string(), Some(remedy));
            None
        }
    }
}

fn trusted_proxies(root: &mut Section<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in root.texts("trusted_proxies").unwrap_or_default() {
        match address::parse_network(&text.value) {
            Some(network) => networks.push(network),
            None => {
                let remedy = "write \"10.0.0.0/8\", \"fd00::/8\" or one address";
                root.problem("trusted_proxies", &text.place, "has no such network", Some(remedy.into()));
            }
        }
    }
    networks
}

fn tls(root: &mut Section<'_>) -> Option<Tls> {
    let read = |section: &mut Section<'_>| {
        section.is_given().then(|| (section.path("cert_file"), section.path("key_file")))
    };
    let (cert_file, key_file) = root.table("tls", read)?;
    let missing = match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => return Some(Tls { cert_file, key_file }),
        (None, Some(_)) => "`cert_file`",
        (Some(_), None) => "`key_file`",
        (None, None) => "`cert_file` and `key_file`",
    };
    let remedy = format!("give {missing}, or remove `[tls]` to serve plain HTTP");
    root.problem_with("tls", &format!("lacks {missing}"), &remedy);
    None
}

fn log(section: &mut Section<'_>) -> Log {
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    Log {
        level: level(section),
        format: section.choice("format", &formats, LogFormat::Auto),
        access: section.boolean("access", false),
    }
}

/// `EnvFilter` takes a misspelt level for a target, so the levels are checked here.
fn level(section: &mut Section<'_>) -> String {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let default = || "info".to_owned();
    let Some(text) = section.text("level") else { return default() };
    let of_a_target = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-');
    for directive in text.value.split(',') {
        let (target, level) = directive.rsplit_once('=').unwrap_or(("all", directive));
        let level_is_known = LEVELS.contains(&level.trim().to_ascii_lowercase().as_str());
        let target = target.trim();
        if !level_is_known || target.is_empty() || !target.bytes().all(of_a_target) {
            section.no_such_word("level", &text, &LEVELS);
            return default();
        }
    }
    text.value
}

fn limits(section: &mut Section<'_>) -> Limits {
    let max_header_bytes = bounded_size(section, "max_header_bytes", 64 << 10, 1 << 20, "1MiB");
    Limits {
        connections: section.integer("connections", 10_000, 1..=10_000_000),
        header_timeout: section.duration("header_timeout", 10 * SECOND, Zero::Refused),
        idle_timeout: section.duration("idle_timeout", 75 * SECOND, Zero::Refused),
        body_timeout: section.duration("body_timeout", 60 * SECOND, Zero::Refused),
        max_headers: section.integer("max_headers", 200, 1..=256),
        max_header_bytes,
    }
}

fn bounded_size(section: &mut Section<'_>, key: &'static str, default: u64, most: u64, name: &str) -> usize {
    let size = section.size(key, default, Zero::Refused);
    if size > most {
        section.problem_with(key, "is too large", &format!("give at most \"{name}\""));
    }
    usize::try_from(size.min(most)).unwrap_or(usize::MAX)
}

fn upstream(section: &mut Section<'_>, upstream_override: Option<&str>) -> Upstream {
    let url = match upstream_override {
        Some(text) => upstream_argument(section, text),
        None => upstream_url(section),
    };
    let forward_timeout = section.duration("forward_timeout", Duration::ZERO, Zero::Allowed);
    // Where there is no URL, that has been noted and nobody will see this one.
    let nowhere = || UpstreamUrl { tls: true, host: String::new(), port: 443, base_path: String::new() };
    Upstream {
        url: url.unwrap_or_else(nowhere),
        host: host(section),
        ca_file: section.path("ca_file"),
        connect_timeout: section.duration("connect_timeout", 3 * SECOND, Zero::Refused),
        response_timeout: section.duration("response_timeout", 30 * SECOND, Zero::Refused),
        forward_timeout: (!forward_timeout.is_zero()).then_some(forward_timeout),
        schema_key: header_secret(section, "schema_key"),
        default_schema: default_schema(section),
        settle: section.duration("settle", Duration::ZERO, Zero::Allowed),
    }
}

const URL_EXAMPLE: &str = "https://abc.supabase.co";

fn upstream_url(section: &mut Section<'_>) -> Option<UpstreamUrl> {
    if section.item("url").is_some() {
        return base_url(section, "url", URL_EXAMPLE);
    }
    let remedy = format!("write `url = \"{URL_EXAMPLE}\"` under `[upstream]`, or start with --upstream");
    section.context().problem_elsewhere("`upstream.url` is missing".into(), remedy);
    None
}

/// The file's own URL is not looked at then.
fn upstream_argument(section: &mut Section<'_>, text: &str) -> Option<UpstreamUrl> {
    section.item("url");
    let note = |error| {
        let remedy = format!("write it like {URL_EXAMPLE}");
        section.context().problem_elsewhere(format!("the URL of --upstream {error}"), remedy);
    };
    UpstreamUrl::parse(text).map_err(note).ok()
}

fn host(section: &mut Section<'_>) -> Option<String> {
    let text = section.text("host")?;
    if address::split_authority(&text.value).is_none() {
        let remedy = "write a name, with a port if need be: \"abc.supabase.co\"";
        section.problem("host", &text.place, "is not a host", Some(remedy.into()));
    }
    Some(text.value.to_ascii_lowercase())
}

fn default_schema(section: &mut Section<'_>) -> String {
    let Some(text) = section.text("default_schema") else { return "public".into() };
    if text.value.contains('.') || parse_relation(&text.value, "public").is_err() {
        let remedy = "write the name of one schema, such as \"public\"";
        section.problem("default_schema", &text.place, "is not a schema's name", Some(remedy.into()));
        return "public".into();
    }
    text.value
}

/// A secret that is sent, or compared with what is sent, in a header.
fn header_secret(section: &mut Section<'_>, key: &'static str) -> Option<Secret> {
    let secret = section.secret(key)?;
    if !fits_a_header(&secret) {
        section.problem_with(key, "has a space or a character that isn't ASCII", NOT_A_TOKEN);
    }
    Some(secret)
}

const NOT_A_TOKEN: &str = "give the token alone, as it stands in a header";

fn fits_a_header(secret: &Secret) -> bool {
    secret.expose().bytes().all(|byte| byte.is_ascii_graphic())
}

/// A secret that others are derived from, so long that nobody guesses it.
fn sealing_secret(root: &mut Section<'_>) -> Option<Secret> {
    let secret = root.secret("secret")?;
    if secret.expose().len() < MIN_SECRET {
        let remedy = format!("give at least {MIN_SECRET} bytes, such as what `openssl rand -hex 32` prints");
        root.problem_with("secret", "is too short", &remedy);
    }
    Some(secret)
}

fn auth(section: &mut Section<'_>, upstream: &Upstream) -> Auth {
    let stated = jwks_urls(section);
    let jwks_derived = stated.is_none();
    let api_keys = section.secrets("api_keys").unwrap_or_default();
    if !api_keys.iter().all(fits_a_header) {
        section.problem_with(
            "api_keys",
            "has a key with a space or a character that isn't ASCII",
            NOT_A_TOKEN,
        );
    }
    let forward_client_ip = section.boolean("forward_client_ip", false);
    if forward_client_ip && upstream.schema_key.is_none() {
        let remedy =
            "give `schema_key` under `[upstream]`: Auth believes the address only beside a secret key";
        section.problem_with("forward_client_ip", "needs `upstream.schema_key`", remedy);
    }
    Auth {
        jwt_secret: section.secret("jwt_secret"),
        jwks_urls: stated.unwrap_or_else(|| vec![format!("{}/auth/v1/.well-known/jwks.json", upstream.url)]),
        jwks_derived,
        api_keys,
        leeway: section.duration("leeway", 30 * SECOND, Zero::Allowed),
        min_token_life: section.duration("min_token_life", 60 * SECOND, Zero::Allowed),
        forward_client_ip,
    }
}

/// Absolute URLs, with a query if need be.
fn jwks_urls(section: &mut Section<'_>) -> Option<Vec<String>> {
    let mut urls = Vec::new();
    for text in section.text_or_texts("jwks_url")? {
        match UpstreamUrl::parse(text.value.split('?').next().unwrap_or_default()) {
            Ok(_) => urls.push(text.value),
            Err(error) => {
                section.mask("jwks_url");
                let remedy = "write it like \"https://abc.supabase.co/auth/v1/.well-known/jwks.json\"";
                section.problem("jwks_url", &text.place, &error.to_string(), Some(remedy.into()));
            }
        }
    }
    Some(urls)
}

fn cors(section: &mut Section<'_>) -> Cors {
    let stated = section.texts("allow_origins");
    let mut allow_origins = Vec::new();
    for text in stated.iter().flatten() {
        match address::parse_origin(&text.value) {
            Some(origin) => allow_origins.push(origin),
            None => {
                let remedy = "write \"https://app.example.com\", without a path, \"null\" or \"*\"";
                section.problem("allow_origins", &text.place, "has no such origin", Some(remedy.into()));
            }
        }
    }
    if stated.is_none() {
        allow_origins.push("*".into());
    }
    Cors { allow_origins, max_age: section.duration("max_age", 7200 * SECOND, Zero::Allowed) }
}
