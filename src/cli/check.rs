//! `sluice check`: whether the configuration can be put to use.

mod deferral;

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use clap::Args;
use http::Request;

use super::{Failure, Source, block_on};
use crate::app::refresh;
use crate::config::{Config, RedisStore, StoreKind, Topology};
use crate::proxy::gateway::Settings;
use crate::proxy::tls;
use crate::store::connect::Connector;
use crate::store::inspect::{self, Finding};
use crate::store::names::Names;
use crate::store::{OpenError, StoreError};
use crate::upstream::clock_skew;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ask upstream and the store as well: whether they answer, upstream's keys,
    /// tables and clock, the store's settings.
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    source: Source,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.source.load()?;
    if let Some(files) = &config.tls {
        tls::acceptor(files).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    let settings = Settings::new(config).map_err(|error| Failure::Usage(error.to_string()))?;
    match arguments.source.file() {
        Some(path) => println!("ok: {}", path.display()),
        None => println!("ok: built-in routes"),
    }
    print_notes(&settings.config);
    if arguments.online { block_on(online(&settings))? } else { Ok(()) }
}

/// What is no error, but surprises.
fn print_notes(config: &Config) {
    println!("upstream: {}", config.upstream.url);
    if let StoreKind::Redis(store) = &config.store.kind {
        println!("store: {}, {}, namespace {}", store.url, topology(&store.url.topology), store.namespace);
    }
    for route in config.routes.iter() {
        println!("route: {}", deferral::route(route));
    }
    for (route, by) in config.routes.shadowed() {
        println!("warning: route {:?} is never reached: {:?} matches all it would", route.name, by.name);
    }
    if config.upstream.schema_key.is_none() {
        println!(
            "note: without upstream.schema_key a write invalidates all reads of /rest/v1/, but for routes with \
             `writes` or `depends_on`"
        );
    }
    if config.auth.jwt_secret.is_none() {
        println!("note: without auth.jwt_secret tokens signed with HS256 are told apart by the token itself");
    }
    for note in deferral::notes(config) {
        println!("{note}");
    }
    println!(
        "note: supabase-js names its session after the first label of the URL's host: give Sluice a host \
         whose first label is the project's ref, or set auth.storageKey in the client"
    );
    println!("note: auth limits count Sluice's address for all users: raise them in the project's settings");
    println!("note: S3 clients sign the host: they keep the project's own");
}

fn topology(topology: &Topology) -> &'static str {
    match topology {
        Topology::Single(_) => "one server",
        Topology::Sentinel { .. } => "a master named by Sentinel",
        Topology::Cluster(_) => "a Cluster",
    }
}

/// What upstream and the store say; that one fails doesn't keep the other from being asked.
async fn online(settings: &Settings) -> Result<(), Failure> {
    let upstream = upstream(settings).await;
    let store = match &settings.config.store.kind {
        StoreKind::Embedded => Ok(()),
        StoreKind::Redis(store) => ask_store(store, settings.config.upstream.identity()).await,
    };
    match (upstream, store) {
        (Err(Failure::Failed(one)), Err(Failure::Failed(other))) => {
            Err(Failure::Failed(format!("{one}\n{other}")))
        }
        (Err(failure), Ok(())) | (_, Err(failure)) => Err(failure),
        (Ok(()), Ok(())) => Ok(()),
    }
}

async fn upstream(settings: &Settings) -> Result<(), Failure> {
    let keys = refresh::once(settings).await;
    ask_upstream(settings).await?;
    match keys {
        0 => println!("keys: none published (asymmetric tokens can't be verified)"),
        keys => println!("keys: {keys}"),
    }
    print_tables(settings)
}

/// Whether the store can be used, how it is set, and whose the namespace is.
async fn ask_store(store: &RedisStore, upstream: String) -> Result<(), Failure> {
    let unreachable = |error| Failure::Failed(unreachable(store, &error));
    let connector = Connector::new(store);
    let masters = inspect::inspect(&connector).await.map_err(unreachable)?;
    let mut failures = Vec::new();
    for finding in inspect::findings(&masters, store.ack, &store.url.topology) {
        match finding {
            Finding::Failure(text) => failures.push(text),
            _ => println!("{finding}"),
        }
    }
    if !failures.is_empty() {
        return Err(Failure::Failed(failures.join("\n")));
    }
    let namespace = &store.namespace;
    let names = Names::new(namespace);
    inspect::attempt(&connector, &names).await.map_err(unreachable)?;
    match inspect::owner(&connector, &names).await.map_err(unreachable)? {
        None => println!("namespace: {namespace} is unused so far"),
        Some(owner) if owner == upstream => println!("namespace: {namespace} belongs to this upstream"),
        Some(owner) => {
            let foreign = OpenError::Foreign { namespace: namespace.clone(), owner, upstream };
            return Err(Failure::Usage(foreign.to_string()));
        }
    }
    Ok(())
}

fn unreachable(store: &RedisStore, error: &StoreError) -> String {
    let remedy = match error {
        StoreError::Refused(_) => "Check the user and the password, and what the user may do",
        _ if store.url.tls => {
            "Check store.url, and that the server is reachable from here and speaks TLS there"
        }
        _ => "Check store.url, and that the server runs and is reachable from here",
    };
    // A server's own words may end with a full stop.
    format!("{}: {}. {remedy}.", store.url, error.to_string().trim_end_matches('.'))
}

/// Whether upstream answers at all, and how far its clock is off.
async fn ask_upstream(settings: &Settings) -> Result<(), Failure> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = http::Uri::from_static("/rest/v1/");
    let begun = Instant::now();
    let answered = settings.client.send(request).await;
    let response = answered.map_err(|error| {
        Failure::Failed(format!("{} does not answer: {error}. Check upstream.url.", settings.upstream_url))
    })?;
    println!("answers: {} in {} ms", response.status(), begun.elapsed().as_millis());
    match clock_skew(response.headers(), SystemTime::now()) {
        Some(skew) if skew.abs() > 1.0 => {
            println!("warning: upstream's clock is {skew:+.1} s off this one's")
        }
        Some(_) => println!("clock: within 1 s of upstream's"),
        None => println!("clock: upstream sends no Date"),
    }
    Ok(())
}

fn print_tables(settings: &Settings) -> Result<(), Failure> {
    if settings.config.upstream.schema_key.is_none() {
        return Ok(());
    }
    let schemas = settings.schemas.load();
    let default = &settings.config.upstream.default_schema;
    let schema = schemas.get(default).ok_or_else(|| {
        Failure::Failed(format!(
            "The description of schema {default:?} can't be fetched. Check upstream.schema_key and \
             upstream.default_schema."
        ))
    })?;
    for (name, table) in schema.tables() {
        let key = if table.key().is_empty() { "none".to_owned() } else { table.key().join(", ") };
        let kind = if table.may_be_view() { "table or view" } else { "table" };
        println!("{kind}: {default}.{name}, key: {key}");
    }
    for obstacle in deferral::obstacles(&settings.config, &settings.schemas.load()) {
        println!("{obstacle}");
    }
    Ok(())
}
