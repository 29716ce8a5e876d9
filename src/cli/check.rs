//! `sluice check`: whether the configuration can be put to use.

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use clap::Args;
use http::Request;

use super::{Failure, Source, block_on};
use crate::app::refresh;
use crate::config::Config;
use crate::proxy::gateway::Settings;
use crate::proxy::tls;
use crate::upstream::clock_skew;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ask upstream as well: whether it answers, its keys, tables and clock.
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
    for route in config.routes.iter() {
        println!("route: {}", route.name);
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
    println!(
        "note: supabase-js names its session after the first label of the URL's host: give Sluice a host \
         whose first label is the project's ref, or set auth.storageKey in the client"
    );
    println!("note: auth limits count Sluice's address for all users: raise them in the project's settings");
    println!("note: S3 clients sign the host: they keep the project's own");
}

async fn online(settings: &Settings) -> Result<(), Failure> {
    let keys = refresh::once(settings).await;
    let upstream = ask_upstream(settings).await;
    let tables = print_tables(settings);
    match keys {
        0 => println!("keys: none published (asymmetric tokens can't be verified)"),
        keys => println!("keys: {keys}"),
    }
    match (upstream, tables) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    }
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
    Ok(())
}
