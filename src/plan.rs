//! What is to be done with a request, decided in one place and by no I/O.
//!
//! The proxy carries a [`Plan`] out, `sluice explain` prints it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderName, Method};

use crate::cache::{EntryTags, Key, KeyParts, freshness};
use crate::headers;
use crate::identity::{
    Authenticator, Caller, FillCredentials, Partition, Refusal, fill_credentials, partition,
};
use crate::postgrest::footprint::{self, WriteBody, WriteShape};
use crate::postgrest::query::Query;
use crate::postgrest::schema::Schemas;
use crate::request::{DecodedPath, Dialect, RequestView, Target};
use crate::route::{Invalidate, ReadPolicy, Resource, Route, RouteTable, Scope};
use crate::storage_api;
use crate::tag::{Relation, Tag, TagId};

/// What a plan is made from, beside the request.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The routes of the configuration.
    pub routes: &'a RouteTable,
    /// The schema of requests that name none.
    pub default_schema: &'a str,
    /// Who is who.
    pub authenticator: &'a Authenticator,
    /// What is known of upstream's schemas.
    pub schemas: &'a Schemas,
}

/// What is to be done.
#[derive(Debug)]
pub enum Plan {
    /// An endpoint of Sluice's own.
    Endpoint,
    /// A CORS preflight whose answer is kept.
    Preflight,
    /// Answered from the cache, filled on a miss.
    Read(Box<ReadPlan>),
    /// A write that is deferred if its body and its row are as they should be.
    Defer {
        /// The route that matched; it has a write policy.
        route: Arc<Route>,
        /// The table.
        relation: Relation,
    },
    /// A function read by `POST`: plan again with its body.
    NeedsBody(Arc<Route>),
    /// Forwarded unchanged.
    Forward {
        /// The route that matched.
        route: Option<Arc<Route>>,
        /// Why.
        why: Why,
    },
}

/// Why a request is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its method is no read here.
    Method,
    /// It is a read that the cache can't answer, for this reason.
    Bypass(Cow<'static, str>),
}

/// A read that the cache may answer.
#[derive(Debug)]
pub struct ReadPlan {
    /// The route that matched.
    pub route: Arc<Route>,
    /// Its policy.
    pub policy: Arc<ReadPolicy>,
    /// What shares an entry with it.
    pub key: Key,
    /// Who shares an entry with it.
    pub partition: Partition,
    /// What it depends on, by name: whatever the answer, and also if it is empty.
    pub tags: Vec<Tag>,
    /// Further tags of an empty answer.
    pub if_empty: Vec<Tag>,
    /// The same as an entry carries them.
    pub entry_tags: EntryTags,
    /// What a fill carries.
    pub credentials: FillCredentials,
    /// Who asked.
    pub caller: Caller,
    /// Whether he may be given what is stored. If not, upstream has yet to
    /// accept his API key; its answer to his own request may be stored.
    pub admitted: bool,
    /// Which headers upstream reads.
    pub dialect: Dialect,
}

/// Decides what is to be done with `request`. `body` is a function's, where
/// [`Plan::NeedsBody`] asked for it. `now` is the wall clock's.
pub fn plan(request: &RequestView<'_>, body: Option<&[u8]>, rules: Rules<'_>, now: SystemTime) -> Plan {
    let path = match DecodedPath::parse(request.path) {
        Ok(path) => path,
        Err(_) if request.path.starts_with("/sluice/v1/") => return Plan::Endpoint,
        Err(_) => return forward(None, request, "path"),
    };
    let mut segments = path.segments();
    let (first, second) = (segments.next(), segments.next());
    if (first, second) == (Some("sluice"), Some("v1")) {
        return Plan::Endpoint;
    }
    if is_preflight(request) && second == Some("v1") && matches!(first, Some("rest" | "storage" | "auth")) {
        return Plan::Preflight;
    }
    let Ok(query) = Query::parse(request.query) else { return forward(None, request, "query") };
    let target = Target::of(request, &path, rules.default_schema);
    if target.is_unclear(request) {
        return forward(None, request, "profile");
    }
    let Some(route) = rules.routes.find(&target, &path, &query) else {
        return forward(None, request, "no-route");
    };
    if let Target::Table(relation) = &target
        && route.write.as_ref().is_some_and(|policy| policy.methods.contain(request.method))
    {
        return Plan::Defer { route: route.clone(), relation: relation.clone() };
    }
    let Some(policy) = route.read.clone() else { return forward(Some(route), request, "no-read") };
    if !policy.methods.contain(request.method) {
        return Plan::Forward { route: Some(route.clone()), why: Why::Method };
    }
    if *request.method == Method::POST && body.is_none() {
        return Plan::NeedsBody(route.clone());
    }
    let draft =
        Draft { request, body, path: &path, query: &query, target: &target, route, policy, rules, now };
    match draft.read() {
        Ok(read) => Plan::Read(Box::new(read)),
        Err(why) => Plan::Forward { route: Some(route.clone()), why: Why::Bypass(why) },
    }
}

/// The plan of a read that Sluice makes on a caller's behalf: `request` carries his credentials, `route` is the one
/// that his own request matched, `policy` how the answer is kept. `None` where his request would bypass the cache.
pub fn plan_on_behalf(
    request: &RequestView<'_>,
    route: &Arc<Route>,
    policy: Arc<ReadPolicy>,
    rules: Rules<'_>,
    now: SystemTime,
) -> Option<ReadPlan> {
    let path = DecodedPath::parse(request.path).ok()?;
    let query = Query::parse(request.query).ok()?;
    let target = Target::of(request, &path, rules.default_schema);
    let draft =
        Draft { request, body: None, path: &path, query: &query, target: &target, route, policy, rules, now };
    draft.read().ok()
}

/// A preflight as browsers send it (Fetch, section 4.8).
fn is_preflight(request: &RequestView<'_>) -> bool {
    *request.method == Method::OPTIONS && request.headers.contains_key("access-control-request-method")
}

fn forward(route: Option<&Arc<Route>>, request: &RequestView<'_>, reason: &'static str) -> Plan {
    let why = if matches!(*request.method, Method::GET | Method::HEAD) {
        Why::Bypass(Cow::Borrowed(reason))
    } else {
        Why::Method
    };
    Plan::Forward { route: route.cloned(), why }
}

/// A read whose route is found, on its way to a [`ReadPlan`] or a reason to bypass.
struct Draft<'a> {
    request: &'a RequestView<'a>,
    body: Option<&'a [u8]>,
    path: &'a DecodedPath,
    query: &'a Query,
    target: &'a Target,
    route: &'a Arc<Route>,
    policy: Arc<ReadPolicy>,
    rules: Rules<'a>,
    now: SystemTime,
}

impl Draft<'_> {
    fn read(self) -> Result<ReadPlan, Cow<'static, str>> {
        let dialect = Dialect::of(self.path);
        self.check_headers(dialect)?;
        let (caller, credentials, admitted) =
            self.caller().map_err(|refusal| Cow::Borrowed(refusal.detail()))?;
        let partition = partition(&self.policy.scope, &caller);
        let (tags, if_empty) = self.tags()?;
        let key = Key::of(&KeyParts {
            method: self.request.method,
            path: self.path,
            query: self.query.pairs(),
            headers: self.request.headers,
            dialect,
            vary: &self.policy.vary,
            post_body: self.body,
            partition: partition.as_bytes(),
        });
        let entry_tags =
            EntryTags::new(&self.carried(&tags, &partition), &self.carried(&if_empty, &partition));
        Ok(ReadPlan {
            route: self.route.clone(),
            policy: self.policy,
            key,
            partition,
            tags,
            if_empty,
            entry_tags,
            credentials,
            caller,
            admitted,
            dialect,
        })
    }

    /// Keyed or unseen: whatever might matter to upstream and isn't in the key bypasses.
    fn check_headers(&self, dialect: Dialect) -> Result<(), Cow<'static, str>> {
        let method = self.request.method;
        if *method != Method::POST && has_body(self.request) {
            return Err(Cow::Borrowed("body"));
        }
        let reading = headers::ReadHeaders { method, dialect, vary: &self.policy.vary };
        let ignored = |name: &HeaderName| self.policy.ignore_headers.iter().any(|glob| glob.matches(name));
        if let Some(name) = reading.first_unknown(self.request.headers, ignored) {
            return Err(Cow::Owned(format!("header-{name}")));
        }
        if freshness::asks_for_plan(self.request.headers) { Err(Cow::Borrowed("plan")) } else { Ok(()) }
    }

    fn caller(&self) -> Result<(Caller, FillCredentials, bool), Refusal> {
        let (headers, authenticator) = (self.request.headers, self.rules.authenticator);
        let open =
            self.policy.scope == Scope::Public && storage_api::is_public_object_read(self.request, self.path);
        let caller = if open {
            Caller::without_credentials(headers, self.query)?
        } else {
            authenticator.identify(headers, self.query, self.now)?
        };
        let admission = authenticator.admit(&caller.grounds(), self.now);
        let credentials = fill_credentials(&self.policy.scope, &caller, headers, self.query)?;
        match admission {
            Ok(()) => Ok((caller, credentials, true)),
            // A fill with his own credentials is what tells whether the key is good.
            Err(Refusal::ApiKey) if credentials == FillCredentials::AsSent => {
                Ok((caller, credentials, false))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The tags of any answer, and those of an empty one.
    fn tags(&self) -> Result<(Vec<Tag>, Vec<Tag>), Cow<'static, str>> {
        let (mut tags, if_empty) = match self.target {
            Target::Storage => match storage_api::read_tags(self.request, self.path) {
                Some(tags) => (tags, Vec::new()),
                None => return Err(Cow::Borrowed("storage")),
            },
            _ => {
                let read = footprint::read_tags(
                    self.target,
                    self.query,
                    self.rules.schemas,
                    self.policy.depends_on.as_deref(),
                )
                .map_err(|_| Cow::Borrowed("select"))?;
                (read.tags, read.if_empty)
            }
        };
        if *self.target == Target::Other {
            tags.push(Tag::Path(self.path.to_string()));
        }
        tags.push(self.route.tag());
        Ok((tags, if_empty))
    }

    /// The fingerprints that the entry carries: `invalidate` decides whose
    /// writes can move them. A purge moves any.
    fn carried(&self, tags: &[Tag], partition: &Partition) -> Vec<TagId> {
        let purgeable = |tag: &&Tag| matches!(tag, Tag::All | Tag::Route { .. });
        match self.policy.invalidate {
            Invalidate::All => tags.iter().map(Tag::id).collect(),
            Invalidate::None => tags.iter().filter(purgeable).map(Tag::id).collect(),
            Invalidate::Writer => tags
                .iter()
                .map(|tag| if purgeable(&tag) { tag.id() } else { tag.id_within(partition.as_bytes()) })
                .collect(),
        }
    }
}

/// Whether the request's head announces a body.
pub fn has_body(request: &RequestView<'_>) -> bool {
    request.headers.contains_key(http::header::TRANSFER_ENCODING)
        || request.header("content-length").is_some_and(|length| length != "0")
}

/// The tags that a request which is forwarded may move: none for a safe
/// method, those of its target for any other. `body` is what is known of it.
pub fn touched(request: &RequestView<'_>, body: WriteBody<'_>, rules: Rules<'_>) -> Vec<Tag> {
    if request.is_safe() {
        return Vec::new();
    }
    // A path with several readings may lead anywhere.
    let Ok(path) = DecodedPath::parse(request.path) else { return vec![Tag::All] };
    let target = Target::of(request, &path, rules.default_schema);
    if target.is_unclear(request) {
        return vec![Tag::All];
    }
    let query = match Query::parse(request.query) {
        Ok(query) => query,
        Err(_) if target == Target::Other => return Vec::new(),
        Err(_) => return vec![Tag::All],
    };
    let route = rules.routes.find(&target, &path, &query);
    let writes = route.and_then(|route| route.writes.as_deref());
    let depends_on =
        route.and_then(|route| route.read.as_ref()).and_then(|policy| policy.depends_on.as_deref());
    match target {
        Target::Storage => storage_api::write_tags(request, &path, &query, body),
        _ => {
            let write = WriteShape {
                method: request.method,
                target: &target,
                query: &query,
                headers: request.headers,
                body,
            };
            let mut tags = footprint::write_tags(&write, rules.schemas, writes, depends_on);
            if reaches_other_schemas(&target, &tags, rules) {
                tags.push(Tag::Every);
            }
            if target == Target::Other && is_read(&path, rules) {
                tags.push(Tag::Path(path.to_string()));
            }
            tags
        }
    }
}

/// Whether a route caches what the path gives, whatever the query.
fn is_read(path: &DecodedPath, rules: Rules<'_>) -> bool {
    rules.routes.iter().any(|route| {
        let by_path = matches!(&route.resource, Resource::Path(pattern) if pattern.is_match(path.as_str()));
        route.read.is_some() && by_path
    })
}

/// Whether a foreign key from another schema that routes read may carry the
/// write on: descriptions do not tell of those. Writes of rows named by their
/// whole key, which they keep, are carried nowhere.
fn reaches_other_schemas(target: &Target, tags: &[Tag], rules: Rules<'_>) -> bool {
    let Target::Table(table) = target else { return false };
    let widely = tags.iter().any(|tag| matches!(tag, Tag::Table(_)));
    let mut schemas = rules.routes.iter().flat_map(|route| route.resource.schemas());
    widely && schemas.any(|schema| schema != table.schema)
}

/// The fingerprints that move with `tags`, which `request` touched: everybody's,
/// and the writer's own on routes whose writes clear the writer's entries alone.
pub fn moved(request: &RequestView<'_>, tags: &[Tag], rules: Rules<'_>, now: SystemTime) -> Vec<TagId> {
    let mut ids: Vec<TagId> = tags.iter().map(Tag::id).collect();
    if !tags.is_empty() {
        for partition in writer_partitions(request, rules, now) {
            ids.extend(tags.iter().map(|tag| tag.id_within(partition.as_bytes())));
        }
    }
    ids
}

/// The partitions that the writer reads on such routes.
fn writer_partitions(request: &RequestView<'_>, rules: Rules<'_>, now: SystemTime) -> Vec<Partition> {
    let mut scopes: Vec<&Scope> = Vec::new();
    for policy in rules.routes.iter().filter_map(|route| route.read.as_ref()) {
        if policy.invalidate == Invalidate::Writer && !scopes.contains(&&policy.scope) {
            scopes.push(&policy.scope);
        }
    }
    if scopes.is_empty() {
        return Vec::new();
    }
    let caller = Query::parse(request.query)
        .ok()
        .and_then(|query| rules.authenticator.identify(request.headers, &query, now).ok());
    // A writer whom nobody here can name reads nothing from the cache either.
    let mut partitions: Vec<Partition> =
        caller.map_or_else(Vec::new, |caller| scopes.iter().map(|scope| partition(scope, &caller)).collect());
    if scopes.contains(&&Scope::Public) {
        // Public entries are read without the credentials that the writer is known by.
        partitions.push(Partition::public());
    }
    partitions
}
