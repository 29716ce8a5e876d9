//! The configuration file: a checked configuration that keeps its promises,
//! or an error that can be shown.

#![no_main]

use std::io;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sluice::config::{Config, Environment};

/// An environment that knows nothing.
struct Nothing;

impl Environment for Nothing {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn first_line(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fuzz_target!(|source: &str| {
    match Config::parse("sluice.toml", source, &Nothing) {
        Ok(config) => {
            assert!(!config.listen.is_empty());
            assert!(config.admin_listen.ip().is_loopback() || config.admin_token.is_some());
            assert!(config.limits.connections > 0 && config.limits.max_headers <= 256);
            assert!(!config.limits.header_timeout.is_zero() && config.limits.max_header_bytes <= 1 << 20);
            assert!(!config.upstream.url.host.is_empty());
        }
        Err(error) => {
            assert!(!error.problems().is_empty());
            // `Debug` of a report draws the lines around each place in the text.
            assert!(!format!("{:?}", miette::Report::new(error)).is_empty());
        }
    }
});
