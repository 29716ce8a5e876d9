//! Integration tests: the `sluice` binary against real servers, one module per promise.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

mod coding;
mod collapse;
mod config;
mod deferred;
mod deferred_crash;
mod delivery;
mod endpoints;
mod forwarding;
mod front_connections;
mod front_equality;
mod front_invalidation;
mod front_listeners;
mod front_records;
mod front_reload;
mod front_timeouts;
mod headers;
mod invalidation;
mod isolation;
mod lifecycle;
mod limits;
mod listening;
mod nodes;
mod nodes_collapse;
mod nodes_oracle;
mod origin;
mod replay;
mod smuggling;
mod store_chaos;
mod store_faults;
mod store_kinds;
mod supabase_js;
mod tokens;
mod transparency;
mod upstream_down;
mod values;
