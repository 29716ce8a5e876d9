//! Sluice: a transparent caching reverse proxy in front of Supabase.
//!
//! # The life of a read
//!
//! [`proxy::front`] takes a connection, checks the head of each request and
//! hands it to Pingora, whose phases are in [`proxy::phases`]. [`plan`] decides
//! in one place what is to be done: which route, whose partition, which key
//! and which tags, or why the cache is bypassed. [`cache`] looks the key up;
//! a miss is collapsed and fetched through [`upstream`]; what is storable is
//! stored with the generations that its tags had before the fetch.
//!
//! # The life of a write
//!
//! Writes are forwarded by Pingora. Before upstream's answer is passed on, the
//! generations of every tag that the write may have touched are moved:
//! [`proxy::invalidate`], by the rules in [`postgrest::footprint`] and
//! [`storage_api`].
//!
//! # Which module is which
//!
//! Arrows point down only: `main` → [`cli`] → [`app`] → {[`proxy`], [`admin`]}
//! → {[`plan`], [`cache`], [`upstream`], [`telemetry`]} → {[`route`],
//! [`postgrest`], [`storage_api`], [`identity`], [`config`], [`headers`],
//! [`cors`], [`request`], [`tag`]}. The bottom row is pure: no I/O, no clock
//! of its own, no Pingora.

pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod cors;
pub mod headers;
pub mod identity;
pub mod plan;
pub mod postgrest;
pub mod proxy;
pub mod request;
pub mod route;
pub mod storage_api;
pub mod store;
pub mod tag;
pub mod telemetry;
pub mod upstream;
pub mod write;
