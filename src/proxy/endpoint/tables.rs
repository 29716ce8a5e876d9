//! The tables whose changes a stream tells of, and whether the caller may read them.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::task::JoinSet;

use super::problem::Problem;
use super::visitor::Bearer;
use crate::headers;
use crate::plan::Rules;
use crate::postgrest::footprint;
use crate::postgrest::query::Query;
use crate::proxy::gateway::{Gateway, Settings};
use crate::request::{DecodedPath, Target};
use crate::route::parse_relation;
use crate::tag::{Relation, Tag, TagId};
use crate::upstream::{Client, FetchError, collect};
use crate::write::events::table_name;

/// The most tables that one stream tells of.
const MAX_TABLES: usize = 16;
/// Answers to `limit=0` are shorter, refusals too as a rule.
const MAX_BODY: u64 = 64 * 1024;

const ACCEPT_PROFILE: HeaderName = HeaderName::from_static("accept-profile");
const API_KEY: HeaderName = HeaderName::from_static("apikey");

/// A table that a client asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Which.
    pub relation: Relation,
    /// As clients name it.
    pub name: String,
}

/// The tables in the parameters `tables`, each once.
///
/// # Errors
///
/// [`Problem`] where one is no name of a table, or there are too many.
pub fn asked(query: &Query, default_schema: &str) -> Result<Vec<Watched>, Problem> {
    let mut tables: Vec<Watched> = Vec::new();
    for name in
        query.all("tables").flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty())
    {
        let relation = parse_relation(name, default_schema).map_err(|_| {
            Problem::malformed("tables is a list of tables: name or schema.name, with commas between.")
        })?;
        if tables.iter().any(|other| other.relation == relation) {
            continue;
        }
        if tables.len() == MAX_TABLES {
            return Err(Problem::malformed(format!("tables may name {MAX_TABLES} tables at most.")));
        }
        let name = table_name(&relation.to_string(), default_schema).to_owned();
        tables.push(Watched { relation, name });
    }
    Ok(tables)
}

impl Watched {
    /// The tags of which one moves whenever what a client has read of the
    /// table may be void: those of a cached list of it.
    pub fn tags(&self, rules: Rules<'_>) -> Vec<TagId> {
        let (target, none) = (Target::Table(self.relation.clone()), Query::default());
        let route =
            DecodedPath::parse(&self.path()).ok().and_then(|path| rules.routes.find(&target, &path, &none));
        let depends_on =
            route.and_then(|route| route.read.as_ref()).and_then(|policy| policy.depends_on.as_deref());
        let tags = match footprint::read_tags(&target, &none, rules.schemas, depends_on) {
            Ok(read) => read.tags,
            Err(_) => vec![Tag::All, Tag::Every, Tag::Schema(self.relation.schema.clone())],
        };
        tags.iter().map(Tag::id).collect()
    }

    fn path(&self) -> String {
        format!("/rest/v1/{}", utf8_percent_encode(&self.relation.name, NON_ALPHANUMERIC))
    }

    /// A read of nothing, which upstream answers as it would any of the caller's.
    fn probe(&self, credentials: &HeaderMap) -> Option<Request<Bytes>> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = Uri::try_from(format!("{}?limit=0", self.path())).ok()?;
        let mut headers = credentials.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_PROFILE, HeaderValue::try_from(&self.relation.schema).ok()?);
        headers.insert(USER_AGENT, headers::USER_AGENT);
        *request.headers_mut() = headers;
        Some(request)
    }
}

/// What the caller is known by upstream: his bearer, and the API key as it was sent.
pub fn credentials(bearer: &Bearer, request: &HeaderMap, query: &Query) -> HeaderMap {
    let mut credentials = HeaderMap::new();
    if let Some(bearer) = bearer.header() {
        credentials.insert(AUTHORIZATION, bearer.clone());
    }
    let parameter = || query.get(API_KEY.as_str()).and_then(|key| HeaderValue::try_from(key).ok());
    if let Some(mut key) = request.get(API_KEY).cloned().or_else(parameter) {
        key.set_sensitive(true);
        credentials.insert(API_KEY, key);
    }
    credentials
}

/// Asks upstream whether the caller may read all of `tables`, side by side.
///
/// # Errors
///
/// [`Problem`] where he may not, or upstream doesn't say.
pub async fn check(
    gateway: &Gateway,
    settings: &Settings,
    tables: &[Watched],
    credentials: &HeaderMap,
) -> Result<(), Problem> {
    let mut verdicts = JoinSet::new();
    for table in tables {
        let request =
            table.probe(credentials).ok_or_else(|| Problem::malformed("A table's name can't be sent."))?;
        let (client, metrics, relation) =
            (settings.client.clone(), gateway.metrics.clone(), table.relation.clone());
        let idle = settings.config.upstream.response_timeout;
        verdicts.spawn(async move {
            let answered = ask(&client, request, idle).await;
            metrics.upstream_request(answered.as_ref().ok().copied());
            verdict(&relation, answered)
        });
    }
    while let Some(verdict) = verdicts.join_next().await {
        verdict.unwrap_or_else(|_| {
            Err(Problem::unavailable("Whether a table may be read was not found out."))
        })?;
    }
    Ok(())
}

async fn ask(client: &Client, request: Request<Bytes>, idle: Duration) -> Result<StatusCode, FetchError> {
    let (head, body) = client.send(request).await?.into_parts();
    // Read to its end, so that the connection is kept; what is in it doesn't matter.
    let _ = collect(body, MAX_BODY, idle).await;
    Ok(head.status)
}

/// What upstream's answer says about a table.
fn verdict(table: &Relation, answered: Result<StatusCode, FetchError>) -> Result<(), Problem> {
    match answered {
        Ok(status) if status.is_success() => Ok(()),
        Ok(StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
            Err(Problem::upstream(StatusCode::SERVICE_UNAVAILABLE, table))
        }
        Ok(status) if status.is_client_error() => Err(Problem::not_readable(table, status)),
        Ok(_) => Err(Problem::upstream(StatusCode::SERVICE_UNAVAILABLE, table)),
        Err(error) => {
            tracing::warn!(%error, %table, "a table's permissions were not asked for");
            let status =
                if error.is_timeout() { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
            Err(Problem::upstream(status, table))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AuthSettings, Authenticator};
    use crate::postgrest::schema::Schemas;
    use crate::route::RouteTable;

    fn tables(query: &str) -> Result<Vec<String>, StatusCode> {
        let asked = asked(&Query::parse(query).unwrap(), "public").map_err(|problem| problem.status)?;
        Ok(asked.into_iter().map(|table| format!("{} {}", table.name, table.relation)).collect())
    }

    #[test]
    fn tables_are_named_as_in_the_configuration() {
        assert_eq!(tables(""), Ok(Vec::new()));
        assert_eq!(tables("tables="), Ok(Vec::new()));
        let named = ["users public.users", "app.notes app.notes", "a b public.a b"];
        let named: Vec<String> = named.map(str::to_owned).to_vec();
        assert_eq!(tables("tables=users,app.notes,%20a%20b&tables=public.users"), Ok(named));
        for query in ["tables=..", "tables=a.b.c", "tables=a*", "tables=a%2Fb", "tables=a%0Ab", "tables=.a"] {
            assert_eq!(tables(query), Err(StatusCode::BAD_REQUEST), "{query}");
        }
        let many = |count: usize| (0..count).map(|index| format!("t{index}")).collect::<Vec<_>>().join(",");
        assert_eq!(
            tables(&format!("tables={}", many(MAX_TABLES))).map(|tables| tables.len()),
            Ok(MAX_TABLES)
        );
        assert_eq!(tables(&format!("tables={}", many(MAX_TABLES + 1))), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_probe_is_the_callers_own_read_of_nothing() {
        let query = Query::parse("apikey=anon&access_token=x&tables=app.a%26b").unwrap();
        let bearer = Bearer::of_request(&HeaderMap::new(), &query).unwrap_or_else(|_| panic!("one bearer"));
        let table = &asked(&query, "public").unwrap_or_else(|_| panic!("one table"))[0];
        let probe = table.probe(&credentials(&bearer, &HeaderMap::new(), &query)).unwrap();
        assert_eq!(probe.uri(), "/rest/v1/a%26b?limit=0");
        let headers = probe.headers();
        assert_eq!(
            (&headers["authorization"], &headers["apikey"]),
            (&"Bearer x".parse().unwrap(), &"anon".parse().unwrap())
        );
        assert_eq!(headers["accept-profile"], "app");
        assert!(headers["authorization"].is_sensitive() && headers["apikey"].is_sensitive());
    }

    #[test]
    fn who_may_not_read_a_table_is_told_which() {
        let users = Relation::new("public", "users");
        let status = |answer| verdict(&users, answer).err().map(|problem| problem.status.as_u16());
        for (answered, expected) in [
            (200, None),
            (206, None),
            (401, Some(403)),
            (403, Some(403)),
            (404, Some(403)),
            (429, Some(503)),
            (500, Some(503)),
        ] {
            assert_eq!(
                status(StatusCode::from_u16(answered).map_err(|_| unreachable!())),
                expected,
                "{answered}"
            );
        }
        let refused = verdict(&users, Ok(StatusCode::FORBIDDEN)).unwrap_err();
        assert!(String::from_utf8_lossy(&refused.body()).contains("public.users"));
    }

    #[test]
    fn a_table_of_an_unknown_schema_changes_with_any_in_it() {
        let authenticator = Authenticator::new(&AuthSettings::default());
        let (routes, schemas) = (RouteTable::default(), Schemas::default());
        let rules = Rules {
            routes: &routes,
            default_schema: "public",
            authenticator: &authenticator,
            schemas: &schemas,
        };
        let relation = Relation::new("public", "users");
        let tags = Watched { relation: relation.clone(), name: "users".to_owned() }.tags(rules);
        for tag in [
            Tag::All,
            Tag::Every,
            Tag::Table(relation.clone()),
            Tag::List(relation),
            Tag::Schema("public".into()),
        ] {
            assert!(tags.contains(&tag.id()), "{tag}");
        }
    }
}
