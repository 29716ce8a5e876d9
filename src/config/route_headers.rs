//! The request headers that a route adds to the key, or declares not to matter.

use http::HeaderName;

use super::section::Section;
use crate::headers::HOP_BY_HOP;
use crate::route::HeaderGlob;

const OF_THE_MESSAGE: &str = "it belongs to the connection or the message";

/// Request headers that routes can't speak of, and why.
const SPOKEN_FOR: [(&str, &[&str]); 7] = [
    (
        "it is part of the key or of the partition anyway",
        &[
            "accept",
            "accept-profile",
            "apikey",
            "authorization",
            "content-profile",
            "content-type",
            "prefer",
            "range",
            "range-unit",
        ],
    ),
    (OF_THE_MESSAGE, &["content-encoding", "content-length", "expect", "host", "http2-settings"]),
    (OF_THE_MESSAGE, &HOP_BY_HOP),
    (
        "Sluice answers it itself",
        &[
            "accept-encoding",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "if-range",
            "if-unmodified-since",
            "origin",
        ],
    ),
    ("`request_directives` decides about it", &["cache-control", "pragma"]),
    ("it is meant for Sluice alone", &["sluice-debug"]),
    (
        "upstream is told who asks by Sluice, and a fill is nobody's",
        &["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"],
    ),
];

fn why_spoken_for(name: &HeaderName) -> Option<&'static str> {
    SPOKEN_FOR.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(why, _)| *why)
}

/// More headers of the key, sorted, each once.
pub(super) fn vary(section: &mut Section<'_>) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = Vec::new();
    for text in section.texts("vary").unwrap_or_default() {
        // An asterisk may be part of a header's name, but somebody who writes one means a glob.
        let name = HeaderName::from_bytes(text.value.as_bytes()).ok().filter(|_| !text.value.contains('*'));
        let Some(name) = name else {
            let remedy = "write it like \"x-client-version\", without wildcards";
            section.problem("vary", &text.place, "has no header's name", Some(remedy.into()));
            continue;
        };
        if let Some(why) = why_spoken_for(&name) {
            let remedy = format!("remove it: {why}");
            section.problem("vary", &text.place, "has a header that can't be there", Some(remedy));
        }
        names.push(name);
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    names
}

/// More headers that don't matter; none of them may be in `vary`.
pub(super) fn ignore_headers(section: &mut Section<'_>, vary: &[HeaderName]) -> Vec<HeaderGlob> {
    let mut globs = Vec::new();
    for text in section.texts("ignore_headers").unwrap_or_default() {
        let glob = match HeaderGlob::parse(&text.value) {
            Ok(glob) => glob,
            Err(error) => {
                let remedy = "write it like \"x-client-*\"";
                section.problem("ignore_headers", &text.place, &error.to_string(), Some(remedy.into()));
                continue;
            }
        };
        if let Some(why) = glob.as_name().as_ref().and_then(why_spoken_for) {
            let remedy = format!("remove it: {why}");
            section.problem("ignore_headers", &text.place, "has a header that can't be there", Some(remedy));
        } else if let Some(name) = vary.iter().find(|name| glob.matches(name)) {
            let remedy = format!("`vary` has \"{name}\": remove it from one of them");
            section.problem("ignore_headers", &text.place, "contradicts `vary`", Some(remedy));
        }
        globs.push(glob);
    }
    globs
}
