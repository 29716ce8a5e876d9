//! `Vary`: which request headers decided what an answer is.

use std::borrow::Cow;

use http::HeaderName;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, ORIGIN};

use crate::request::Dialect;

/// The request headers that answers on a route depend on, ready to be sent as `Vary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaryNames {
    names: Vec<HeaderName>,
    line: Vec<u8>,
    line_if_compressible: Vec<u8>,
}

impl VaryNames {
    /// Names what the key holds for `dialect` with the route's own `vary`
    /// headers; the credentials too where answers are `partitioned` by them,
    /// and `Origin` where the answer's CORS headers repeat it.
    pub fn new(dialect: Dialect, partitioned: bool, route: &[HeaderName], origin: bool) -> Self {
        let mut names = dialect.keyed_headers().to_vec();
        if dialect == Dialect::Rest {
            names.push(HeaderName::from_static("accept-profile"));
        }
        if partitioned {
            names.extend([AUTHORIZATION, HeaderName::from_static("apikey")]);
        }
        for name in route.iter().chain(origin.then_some(&ORIGIN)) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let line = join(&names);
        let line_if_compressible = join(&[&names[..], &[ACCEPT_ENCODING]].concat());
        Self { names, line, line_if_compressible }
    }

    /// The line for an answer for which upstream sent these. `None`: nothing
    /// decided.
    pub(super) fn line_for(&self, upstream: &[&[u8]], compressible: bool) -> Option<Cow<'_, [u8]>> {
        let own = if compressible { &self.line_if_compressible } else { &self.line };
        if upstream.is_empty() {
            return (!own.is_empty()).then_some(Cow::Borrowed(own));
        }
        let mut names = self.names.clone();
        let lines = upstream.iter().filter_map(|value| std::str::from_utf8(value).ok());
        let stated = lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse().ok());
        for name in stated.chain(compressible.then_some(ACCEPT_ENCODING)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| Cow::Owned(join(&names)))
    }
}

fn join(names: &[HeaderName]) -> Vec<u8> {
    names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ").into_bytes()
}
