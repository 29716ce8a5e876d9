//! Reading credentials from a request's head.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use super::Refusal;
use super::api_key::SECRET_PREFIX;
use super::token::{MAX_TOKEN_BYTES, Token, has_token_shape, is_privileged};
use crate::postgrest::query::Query;

/// The header, and the query parameter, that hold the API key.
const API_KEY: HeaderName = HeaderName::from_static("apikey");

/// The credentials of a request, as sent.
pub(super) struct Credentials<'a> {
    /// The bearer, unless it only repeats the API key.
    pub(super) bearer: Option<&'a [u8]>,
    /// The API key.
    pub(super) api_key: Option<&'a [u8]>,
}

impl<'a> Credentials<'a> {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// The request bypasses where it is unclear which credentials upstream
    /// would go by, where there is a secret key, and where there is a bearer
    /// that is neither a token nor the API key.
    pub(super) fn read(headers: &'a HeaderMap, query: &'a Query) -> Result<Self, Refusal> {
        let api_key = api_key(headers, query)?;
        let bearer = match only_header(headers, &AUTHORIZATION)? {
            Some(value) => Some(bearer(value).ok_or(Refusal::Scheme)?),
            None => None,
        };
        let bearer = bearer.filter(|bearer| Some(*bearer) != api_key);
        if [bearer, api_key].into_iter().flatten().any(|value| value.starts_with(SECRET_PREFIX)) {
            return Err(Refusal::Privileged);
        }
        if [bearer, api_key].into_iter().flatten().any(|value| value.len() > MAX_TOKEN_BYTES) {
            return Err(Refusal::TooLong);
        }
        if bearer.is_some_and(|bearer| !has_token_shape(bearer)) {
            return Err(Refusal::ForeignBearer);
        }
        Ok(Self { bearer, api_key })
    }
}

/// The API key of a request, wherever it is.
///
/// # Errors
///
/// [`Refusal::Ambiguous`] where several are sent that differ, or one header twice.
pub(super) fn api_key<'a>(headers: &'a HeaderMap, query: &'a Query) -> Result<Option<&'a [u8]>, Refusal> {
    let header = only_header(headers, &API_KEY)?;
    let mut parameters = query.all(API_KEY.as_str());
    let parameter = parameters.next().map(str::as_bytes);
    match (header, parameter, parameters.next()) {
        (_, _, Some(_)) => Err(Refusal::Ambiguous),
        (Some(header), Some(parameter), None) if header != parameter => Err(Refusal::Ambiguous),
        (header, parameter, None) => Ok(header.or(parameter)),
    }
}

fn only_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|value| value.as_bytes().trim_ascii())),
        (_, Some(_)) => Err(Refusal::Ambiguous),
    }
}

/// What follows `Bearer` (RFC 6750, section 2.1; the scheme's case doesn't
/// matter: RFC 9110, section 11.1). `None` for other schemes.
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(b"Bearer".len())?;
    let token = rest.strip_prefix(b" ")?.trim_ascii_start();
    let is_one_word = !token.is_empty() && !token.iter().any(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(b"Bearer") && is_one_word).then_some(token)
}

/// Whether anything in the places for credentials passes row level security,
/// or says that it does.
pub(super) fn any_is_privileged(headers: &HeaderMap, query: &Query) -> bool {
    let words = headers
        .get_all(AUTHORIZATION)
        .iter()
        .flat_map(|value| value.as_bytes().split(u8::is_ascii_whitespace));
    let keys = headers.get_all(API_KEY).iter().map(|value| value.as_bytes().trim_ascii());
    let parameters = query.all(API_KEY.as_str()).map(str::as_bytes);
    words.chain(keys).chain(parameters).any(says_privileged)
}

fn says_privileged(credential: &[u8]) -> bool {
    if credential.starts_with(SECRET_PREFIX) {
        return true;
    }
    // What is too long to look into may be anything.
    if credential.len() > MAX_TOKEN_BYTES {
        return true;
    }
    let Ok(text) = str::from_utf8(credential) else { return false };
    Token::parse(text).is_ok_and(|token| is_privileged(&token.claims))
}
