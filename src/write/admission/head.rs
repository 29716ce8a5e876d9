//! What a write's headers ask for.

use http::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{HeaderName, Method};

use super::{Case, Reason};
use crate::headers::ReadHeaders;
use crate::request::Dialect;

/// Headers that don't matter to a read that Sluice answers itself, and may to a write.
static ONLY_READS_HAVE: [HeaderName; 5] =
    [RANGE, HeaderName::from_static("range-unit"), IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE];

const CONTENT_PROFILE: &str = "content-profile";

/// What a write's headers ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    /// What is to be answered, if the client says so. PostgREST answers nothing otherwise.
    pub returns: Option<Returning>,
    /// Whether an insert may update the row that is there.
    pub merges: bool,
    /// Whether one object is wanted instead of an array.
    pub object: bool,
}

/// `Prefer: return=…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returning {
    /// No body.
    Minimal,
    /// The row.
    Representation,
}

/// Reads the headers, and makes sure that there are no others that matter.
pub(super) fn wishes(case: &Case<'_>) -> Result<Wishes, Reason> {
    check_names(case)?;
    check_content(case.headers)?;
    check_profile(case)?;
    let object = wants_object(case.headers)?;
    let (returns, merges) = preferences(case.headers)?;
    Ok(Wishes { returns, merges, object })
}

fn check_names(case: &Case<'_>) -> Result<(), Reason> {
    if let Some(name) = ONLY_READS_HAVE.iter().find(|name| case.headers.contains_key(*name)) {
        return Err(Reason::Header(name.clone()));
    }
    // A replay carries these on, as text.
    let is_text = |name: &&HeaderName| case.headers.get_all(*name).iter().all(|value| value.to_str().is_ok());
    if let Some(name) = case.vary.iter().find(|name| !is_text(name)) {
        return Err(Reason::Header(name.clone()));
    }
    // Bodies, and the headers about them, are as a function's that is read by POST.
    let known = ReadHeaders { method: &Method::POST, dialect: Dialect::Rest, vary: case.vary };
    let is_ignored = |name: &HeaderName| case.ignored.iter().any(|glob| glob.matches(name));
    let about_body = |name: &HeaderName| *name == CONTENT_ENCODING || is_ignored(name);
    match known.first_unknown(case.headers, about_body) {
        Some(name) => Err(Reason::Header(name.clone())),
        None => Ok(()),
    }
}

/// PostgREST takes a body without `Content-Type` for JSON; the names of media
/// types it compares letter by letter.
fn check_content(headers: &HeaderMap) -> Result<(), Reason> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Reason::ContentEncoding);
    }
    let Some(text) = only(headers, &CONTENT_TYPE, Reason::ContentType)? else { return Ok(()) };
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let parameters = parameters.trim();
    let is_utf8 = parameters.is_empty() || parameters.eq_ignore_ascii_case("charset=utf-8");
    if essence.trim() == "application/json" && is_utf8 { Ok(()) } else { Err(Reason::ContentType) }
}

fn check_profile(case: &Case<'_>) -> Result<(), Reason> {
    let name = HeaderName::from_static(CONTENT_PROFILE);
    match only(case.headers, &name, Reason::ContentProfile)? {
        Some(profile) if profile != case.relation.schema => Err(Reason::ContentProfile),
        None if !case.default_schema_holds => Err(Reason::DefaultSchema),
        _ => Ok(()),
    }
}

fn wants_object(headers: &HeaderMap) -> Result<bool, Reason> {
    match only(headers, &ACCEPT, Reason::Accept)?.unwrap_or("*/*") {
        "*/*" | "application/json" => Ok(false),
        "application/vnd.pgrst.object+json" => Ok(true),
        _ => Err(Reason::Accept),
    }
}

/// PostgREST knows preferences by their exact spelling, ignores others, and of
/// several takes the first.
fn preferences(headers: &HeaderMap) -> Result<(Option<Returning>, bool), Reason> {
    let (mut returns, mut merges) = (None, false);
    for line in headers.get_all("prefer") {
        let line = line.to_str().map_err(|_| Reason::Prefer)?;
        for preference in line.split(',').map(str::trim).filter(|preference| !preference.is_empty()) {
            let is_first = match preference {
                "return=minimal" => returns.replace(Returning::Minimal).is_none(),
                "return=representation" => returns.replace(Returning::Representation).is_none(),
                "resolution=merge-duplicates" => !std::mem::replace(&mut merges, true),
                _ => false,
            };
            if !is_first {
                return Err(Reason::Prefer);
            }
        }
    }
    Ok((returns, merges))
}

/// The only value of a header. An error if it is repeated or no plain text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName, reason: Reason) -> Result<Option<&'h str>, Reason> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| reason),
        (Some(_), Some(_)) => Err(reason),
    }
}
