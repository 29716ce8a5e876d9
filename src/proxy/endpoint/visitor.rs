//! Who asks one of Sluice's own endpoints.

use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::identity::{Authenticator, Identity, Refusal};
use crate::postgrest::query::Query;
use crate::store::journal::CallerId;
use crate::write::queue::caller_of;

/// The bearer of a request, and nothing else of it: which API key came along
/// says nothing about a user's own writes.
#[derive(Clone)]
pub struct Bearer(HeaderMap);

/// Somebody whose token holds.
pub struct Visitor {
    /// Whose writes he may ask for.
    pub caller: CallerId,
    /// When his token ends. `None`: never.
    pub expires: Option<SystemTime>,
}

impl Bearer {
    /// The bearer among `headers`.
    pub fn of_headers(headers: &HeaderMap) -> Self {
        let values = headers.get_all(AUTHORIZATION).iter();
        Self(values.map(|value| (AUTHORIZATION, value.clone())).collect())
    }

    /// The bearer among `headers`, or in the parameter `access_token`, since a
    /// browser's `EventSource` sends no headers of its own.
    ///
    /// # Errors
    ///
    /// [`Refusal::Ambiguous`] where there are several that differ.
    pub fn of_request(headers: &HeaderMap, query: &Query) -> Result<Self, Refusal> {
        let header = Self::of_headers(headers);
        let mut parameters = query.all("access_token");
        let (Some(token), None) = (parameters.next(), parameters.next()) else {
            let none = query.get("access_token").is_none();
            return if none { Ok(header) } else { Err(Refusal::Ambiguous) };
        };
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Refusal::InvalidToken)?;
        if header.0.is_empty() {
            value.set_sensitive(true);
            return Ok(Self(HeaderMap::from_iter([(AUTHORIZATION, value)])));
        }
        if header.0.get_all(AUTHORIZATION).iter().eq([&value]) { Ok(header) } else { Err(Refusal::Ambiguous) }
    }

    /// The header that he is known by upstream.
    pub fn header(&self) -> Option<&HeaderValue> {
        self.0.get(AUTHORIZATION)
    }

    /// Who he is, if he may be believed at `now`.
    ///
    /// # Errors
    ///
    /// `None` where there is no token of a signed-in user, else why it doesn't count.
    pub fn visitor(
        &self,
        authenticator: &Authenticator,
        now: SystemTime,
    ) -> Result<Visitor, Option<Refusal>> {
        let caller = authenticator.identify(&self.0, &Query::default(), now)?;
        match caller.identity() {
            Identity::Token(token) => {
                let caller = caller_of(&caller).ok_or(None)?;
                Ok(Visitor { caller, expires: token.expires() })
            }
            Identity::UnverifiableToken(_) => Err(Some(Refusal::InvalidToken)),
            Identity::Key(_) | Identity::Anonymous => Err(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::AuthSettings;

    const SECRET: &[u8] = b"an HS256 secret of the tests, long enough";
    const NOW: u64 = 1_769_904_000;

    fn authenticator() -> Authenticator {
        Authenticator::new(&AuthSettings { jwt_secret: Some(SECRET.to_vec()), ..AuthSettings::default() })
    }

    fn token(claims: &Value) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).unwrap()
    }

    fn user(sub: &str) -> String {
        token(&json!({"role": "authenticated", "sub": sub, "exp": NOW + 60}))
    }

    fn headers(authorization: &[&str]) -> HeaderMap {
        let value = |text: &&str| (AUTHORIZATION, HeaderValue::try_from(*text).unwrap());
        authorization.iter().map(value).collect()
    }

    fn visit(authorization: &[&str], query: &str) -> Result<Visitor, Option<Refusal>> {
        let bearer = Bearer::of_request(&headers(authorization), &Query::parse(query).unwrap())?;
        bearer.visitor(&authenticator(), UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[test]
    fn a_signed_in_user_is_known_by_header_and_by_parameter() {
        let token = user("ann");
        let by_header = visit(&[&format!("Bearer {token}")], "").unwrap_or_else(|_| panic!("the header"));
        let by_query =
            visit(&[], &format!("access_token={token}")).unwrap_or_else(|_| panic!("the parameter"));
        assert_eq!(by_header.caller, by_query.caller);
        assert_eq!(by_header.expires, Some(UNIX_EPOCH + Duration::from_secs(NOW + 60)));
        let other = visit(&[&format!("Bearer {}", user("bob"))], "").unwrap_or_else(|_| panic!("another"));
        assert_ne!(other.caller, by_header.caller);
        let both = visit(&[&format!("Bearer {token}")], &format!("access_token={token}"));
        assert!(both.is_ok(), "the same one twice");
    }

    #[test]
    fn nobody_else_is() {
        let (ann, bob) = (user("ann"), user("bob"));
        let expired = token(&json!({"role": "authenticated", "sub": "ann", "exp": NOW - 60}));
        let (anon, service) =
            (token(&json!({"role": "anon"})), token(&json!({"role": "service_role", "sub": "x"})));
        let forged = encode(
            &Header::new(Algorithm::HS256),
            &json!({"role": "authenticated", "sub": "ann"}),
            &EncodingKey::from_secret(b"another secret, which is nobody's here"),
        )
        .unwrap();
        let bearer = |token: &str| format!("Bearer {token}");
        let cases: [(&[&str], String, Option<Refusal>); 11] = [
            (&[], String::new(), None),
            (&[&bearer(&anon)], String::new(), None),
            (&[&bearer(&service)], String::new(), Some(Refusal::Privileged)),
            (&[&bearer(&expired)], String::new(), Some(Refusal::ExpiredToken)),
            (&[&bearer(&forged)], String::new(), Some(Refusal::InvalidToken)),
            (&["Bearer sb_publishable_x"], String::new(), Some(Refusal::ForeignBearer)),
            (&["Basic x"], String::new(), Some(Refusal::Scheme)),
            (&[&bearer(&ann), &bearer(&ann)], String::new(), Some(Refusal::Ambiguous)),
            (&[&bearer(&ann)], format!("access_token={bob}"), Some(Refusal::Ambiguous)),
            (&[], format!("access_token={ann}&access_token={ann}"), Some(Refusal::Ambiguous)),
            (&[], "access_token=%0A".to_owned(), Some(Refusal::InvalidToken)),
        ];
        for (authorization, query, expected) in cases {
            assert_eq!(visit(authorization, &query).err(), Some(expected), "{authorization:?} {query}");
        }
    }
}
