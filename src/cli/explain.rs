//! `sluice explain`: what would be done with a request, and why.

use std::str::FromStr;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::{Failure, Source, block_on};
use crate::app::refresh;
use crate::plan::{self, Plan, ReadPlan, Why};
use crate::postgrest::footprint::WriteBody;
use crate::proxy::gateway::Settings;
use crate::request::RequestView;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The method, `GET` for instance.
    method: String,
    /// The URL, or its path and query.
    url: String,
    /// A header of the request; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The request's body.
    #[arg(short = 'd', long = "data", value_name = "BODY")]
    body: Option<String>,
    #[command(flatten)]
    source: Source,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let method = Method::from_str(&arguments.method)
        .map_err(|_| Failure::Usage(format!("{:?} is no method.", arguments.method)))?;
    let uri = Uri::from_str(&arguments.url)
        .map_err(|error| Failure::Usage(format!("{:?} is no URL: {error}.", arguments.url)))?;
    let headers = arguments.headers.iter().map(|line| header(line)).collect::<Result<HeaderMap, _>>()?;
    let config = arguments.source.load()?;
    let settings = Settings::new(config).map_err(|error| Failure::Usage(error.to_string()))?;
    // Keys and schemas decide what can be said; without them it is said all the same.
    block_on(refresh::once(&settings))?;
    let request = RequestView {
        method: &method,
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers: &headers,
    };
    let body = arguments.body.as_ref().map(|body| Bytes::from(body.clone()));
    settings.with_rules(|rules, now| {
        let plan = plan::plan(&request, body.as_deref(), rules, now);
        print_plan(&plan);
        let inspected = body.as_deref().map_or(WriteBody::Unknown, WriteBody::Whole);
        let touched = plan::touched(&request, inspected, rules);
        if !touched.is_empty() {
            println!("invalidates: {}", join(&touched));
        }
    });
    if settings.schemas.load().names().next().is_none() {
        println!(
            "note:        the schema is unknown, so tags are wider than they need be (upstream.schema_key)"
        );
    }
    Ok(())
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let malformed = || Failure::Usage(format!("{line:?} is no header: write \"name: value\"."));
    let (name, value) = line.split_once(':').ok_or_else(malformed)?;
    let name = HeaderName::from_str(name.trim()).map_err(|_| malformed())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| malformed())?;
    Ok((name, value))
}

fn print_plan(plan: &Plan) {
    match plan {
        Plan::Endpoint => println!("plan:        answered by Sluice itself"),
        Plan::Preflight => {
            println!("plan:        CORS preflight, kept by path, origin and both request headers")
        }
        Plan::Defer { route, relation } => {
            println!("plan:        deferred, if the caller, the body and the row allow it; else forwarded");
            println!("route:       {}", route.name);
            println!("table:       {relation}");
        }
        Plan::NeedsBody(route) => {
            println!("plan:        depends on the body: give it with -d");
            println!("route:       {}", route.name);
        }
        Plan::Forward { route, why } => {
            match why {
                Why::Method => println!("plan:        forwarded: the method is no read here"),
                Why::Bypass(detail) => println!("plan:        forwarded: bypass, {detail}"),
            }
            println!("route:       {}", route.as_ref().map_or("-", |route| &route.name));
        }
        Plan::Read(read) => print_read(read),
    }
}

fn print_read(read: &ReadPlan) {
    println!("plan:        answered from the cache, filled on a miss");
    if !read.admitted {
        println!(
            "note:        upstream has to accept the API key first; a running Sluice learns that it does"
        );
    }
    println!("route:       {}", read.route.name);
    println!("scope:       {:?}", read.policy.scope);
    println!("partition:   {}", read.partition);
    println!("key:         {}", read.key);
    println!("tags:        {}", join(&read.tags));
    if !read.if_empty.is_empty() {
        println!("if empty:    {}", join(&read.if_empty));
    }
}

fn join(tags: &[crate::tag::Tag]) -> String {
    tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
