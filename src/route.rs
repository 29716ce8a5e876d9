//! Routes: which requests are cached, and by which rules.
//!
//! A [`RouteTable`] is a list; the first route that matches a request decides
//! for its reads and its writes alike. A route without [`Route::read`] is an
//! exclusion.

mod pattern;
mod write;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use regex::Regex;

pub use self::pattern::{HeaderGlob, PatternError, RelationPattern, parse_relation};
pub use self::write::{
    CredentialMode, DeferMethods, Guard, MAX_WRITE_BODY, OnReject, OnWait, Owner, WritePolicy,
};
use crate::postgrest::query::Query;
use crate::request::{DecodedPath, Target};
use crate::tag::{Relation, Tag};

/// The routes in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
}

/// One `[[route]]`.
#[derive(Debug, Clone)]
pub struct Route {
    /// The unique name, the label on metrics.
    pub name: String,
    /// What it matches.
    pub resource: Resource,
    /// Query parameters that have to match as well.
    pub query: Vec<QueryCondition>,
    /// Tables that anything but GET, HEAD and OPTIONS may have changed. `None`
    /// where the file doesn't say; a function that is read by `POST` has none
    /// unless the file says otherwise.
    pub writes: Option<Vec<Relation>>,
    /// How reads are answered from the cache. `None`: never.
    pub read: Option<Arc<ReadPolicy>>,
    /// How writes are deferred; only where `resource` is tables. `None`: never.
    pub write: Option<Arc<WritePolicy>>,
    /// A fingerprint of all this but `write`, which doesn't change what an entry holds:
    /// what was filled by other rules is not served by these.
    pub rules: u64,
}

/// A parameter of the query and what its values must look like.
#[derive(Debug, Clone)]
pub struct QueryCondition {
    /// The parameter's decoded name.
    pub name: String,
    /// Searched for in each decoded value.
    pub pattern: Regex,
}

/// What a route matches.
#[derive(Debug, Clone)]
pub enum Resource {
    /// Tables and views, `/rest/v1/<name>`.
    Tables(Vec<RelationPattern>),
    /// Functions, `/rest/v1/rpc/<name>`.
    Functions(Vec<RelationPattern>),
    /// Any path, those under `/rest/v1/` too. The expression is searched for
    /// in the decoded path.
    Path(Regex),
}

impl Resource {
    /// The schemas whose tables or functions are meant, wildcards aside.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        let patterns = match self {
            Resource::Tables(patterns) | Resource::Functions(patterns) => patterns.as_slice(),
            Resource::Path(_) => &[],
        };
        patterns.iter().filter_map(RelationPattern::schema)
    }

    /// Whether requests for `target`, whose decoded path is `path`, are meant.
    fn takes(&self, target: &Target, path: &str) -> bool {
        match (self, target) {
            (Resource::Tables(patterns), Target::Table(relation))
            | (Resource::Functions(patterns), Target::Function(relation)) => {
                patterns.iter().any(|pattern| pattern.matches(relation))
            }
            (Resource::Path(regex), _) => regex.is_match(path),
            _ => false,
        }
    }
}

/// How a route's reads are answered from the cache.
#[derive(Debug, Clone)]
pub struct ReadPolicy {
    /// The methods that are reads.
    pub methods: ReadMethods,
    /// The freshness lifetime of a stored answer; with [`FreshnessSource::Origin`] only
    /// where upstream says nothing, zero being "don't store" there.
    pub ttl: Duration,
    /// How long past its lifetime an answer may be served while a new one is fetched.
    pub stale_while_revalidate: Duration,
    /// How long past its lifetime an answer may be served where upstream fails.
    pub stale_if_error: Duration,
    /// The lifetime of answers without rows, never above `ttl`.
    pub empty_ttl: Duration,
    /// Who shares an entry.
    pub scope: Scope,
    /// Whose word on freshness counts.
    pub freshness: FreshnessSource,
    /// Whether the client's `Cache-Control` counts.
    pub obey_request_directives: bool,
    /// Whose entries a write clears.
    pub invalidate: Invalidate,
    /// More request headers that reach upstream and take part in the key, sorted.
    pub vary: Vec<HeaderName>,
    /// More request headers that don't matter.
    pub ignore_headers: Vec<HeaderGlob>,
    /// More tables whose writes invalidate this. `None` where the file doesn't say.
    pub depends_on: Option<Vec<Relation>>,
    /// The largest body that is stored, in bytes.
    pub max_body: u64,
}

/// The methods that a route treats as reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMethods {
    /// `GET`.
    pub get: bool,
    /// `HEAD`.
    pub head: bool,
    /// `POST` of a function that only reads.
    pub post: bool,
}

/// Who shares an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Callers with the same claims, those about the token's own life aside.
    Session,
    /// Callers with the same `iss`, `role`, `sub` and `aal`.
    User,
    /// Callers with the same role and the same values at these dotted paths, sorted.
    Claims(Vec<String>),
    /// Callers with the same role.
    Role,
    /// Everybody.
    Public,
}

/// Where the freshness lifetime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreshnessSource {
    /// The route's `ttl`.
    Route,
    /// RFC 9111 on upstream's own headers.
    Origin,
}

/// Whose entries a write clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidate {
    /// Everybody's.
    All,
    /// Those of the partition that the writer reads.
    Writer,
    /// Nobody's: entries live out their lifetime.
    None,
}

impl ReadMethods {
    /// Whether `method` is a read.
    pub fn contain(&self, method: &Method) -> bool {
        match *method {
            Method::GET => self.get,
            Method::HEAD => self.head,
            Method::POST => self.post,
            _ => false,
        }
    }
}

impl Default for ReadMethods {
    /// `GET` and `HEAD`.
    fn default() -> Self {
        Self { get: true, head: true, post: false }
    }
}

impl Default for ReadPolicy {
    /// What `[route.read]` means where it says nothing.
    fn default() -> Self {
        Self {
            methods: ReadMethods::default(),
            ttl: Duration::from_secs(300),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            empty_ttl: Duration::from_secs(2),
            scope: Scope::Session,
            freshness: FreshnessSource::Route,
            obey_request_directives: false,
            invalidate: Invalidate::All,
            vary: Vec::new(),
            ignore_headers: Vec::new(),
            depends_on: None,
            max_body: 1 << 20,
        }
    }
}

impl RouteTable {
    /// A table of `routes`, in this order. Their names are taken to be unique.
    pub fn new(routes: Vec<Route>) -> Self {
        Self { routes: routes.into_iter().map(Arc::new).collect() }
    }

    /// The first route that matches a request.
    pub fn find(&self, target: &Target, path: &DecodedPath, query: &Query) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| {
            route.resource.takes(target, path.as_str())
                && route.query.iter().all(|condition| condition.matches(query))
        })
    }

    /// The routes that may decide about requests for a table, in order: those
    /// that match it, up to the first that does so whatever the query is.
    pub fn of_table(&self, relation: &Relation) -> impl Iterator<Item = &Arc<Route>> {
        let target = Target::Table(relation.clone());
        let path = format!("/rest/v1/{}", relation.name);
        let mut decided = false;
        self.routes.iter().filter(move |route| {
            let may_decide = !decided && route.resource.takes(&target, &path);
            decided |= may_decide && route.query.is_empty();
            may_decide
        })
    }

    /// All routes, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// The route of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.name == name)
    }

    /// Routes that are never reached, each with the earlier one that matches
    /// all that it matches. Says only what is provable from the patterns: two
    /// different regular expressions are never compared.
    pub fn shadowed(&self) -> Vec<(&Route, &Route)> {
        let reached_first = |index: usize, route: &Arc<Route>| {
            self.routes[..index].iter().find(|earlier| earlier.covers(route)).map(Arc::as_ref)
        };
        (self.routes.iter().enumerate())
            .filter_map(|(index, route)| Some((route.as_ref(), reached_first(index, route)?)))
            .collect()
    }

    /// Whether there may be a table about which either of two routes decides, given
    /// by their places in the order. Not where an earlier one takes all requests
    /// for it, whatever the query is: a later one never gets to see them.
    /// Routes with a path aren't looked at.
    pub fn share_a_table(&self, earlier: usize, later: usize) -> bool {
        let (Some(first), Some(second)) = (self.routes.get(earlier), self.routes.get(later)) else {
            return false;
        };
        let (Resource::Tables(firsts), Resource::Tables(seconds)) = (&first.resource, &second.resource)
        else {
            return false;
        };
        if earlier >= later || first.query.is_empty() {
            return false;
        }
        let is_taken_before = |one: &RelationPattern, other: &RelationPattern| {
            self.routes[..later].iter().filter(|route| route.query.is_empty()).any(|route| {
                let Resource::Tables(wide) = &route.resource else { return false };
                wide.iter().any(|wide| wide.covers(one) || wide.covers(other))
            })
        };
        firsts
            .iter()
            .any(|one| seconds.iter().any(|other| one.overlaps(other) && !is_taken_before(one, other)))
    }
}

impl Route {
    /// A route with these rules; the fields say what they are.
    pub fn new(
        name: String,
        resource: Resource,
        query: Vec<QueryCondition>,
        writes: Option<Vec<Relation>>,
        read: Option<Arc<ReadPolicy>>,
        write: Option<Arc<WritePolicy>>,
    ) -> Self {
        let stated = format!("{name:?} {resource:?} {query:?} {writes:?} {read:?}");
        let mut word = [0; 8];
        word.copy_from_slice(&blake3::hash(stated.as_bytes()).as_bytes()[..8]);
        Self { name, resource, query, writes, read, write, rules: u64::from_le_bytes(word) }
    }

    /// How the rows are kept that its deferred writes are about: whole, each in its reader's own partition.
    pub fn row_policy(&self) -> ReadPolicy {
        const WITHOUT_READS: Duration = Duration::from_secs(60);
        let Some(read) = self.read.as_deref() else {
            return ReadPolicy { ttl: WITHOUT_READS, ..ReadPolicy::default() };
        };
        match read.scope {
            // What clients read themselves is the same entry.
            Scope::Session | Scope::User => read.clone(),
            // Others' sessions may see other columns of it, or nothing.
            Scope::Claims(_) | Scope::Role | Scope::Public => {
                ReadPolicy { scope: Scope::Session, invalidate: Invalidate::All, ..read.clone() }
            }
        }
    }

    /// Whose claims count: the scope of its reads, that of a session where it has none.
    pub fn scope(&self) -> &Scope {
        self.read.as_ref().map_or(&Scope::Session, |read| &read.scope)
    }

    /// What everything carries that it filled.
    pub fn tag(&self) -> Tag {
        Tag::Route { name: self.name.clone(), rules: self.rules }
    }

    fn covers(&self, later: &Route) -> bool {
        let resource = match (&self.resource, &later.resource) {
            (Resource::Tables(wide), Resource::Tables(narrow))
            | (Resource::Functions(wide), Resource::Functions(narrow)) => {
                narrow.iter().all(|narrow| wide.iter().any(|wide| wide.covers(narrow)))
            }
            (Resource::Path(wide), Resource::Path(narrow)) => wide.as_str() == narrow.as_str(),
            _ => false,
        };
        resource && self.query.iter().all(|wide| later.query.iter().any(|narrow| wide.is(narrow)))
    }
}

impl QueryCondition {
    /// Whether the parameter is there and every one of its values matches: of
    /// a repeated parameter PostgREST heeds each.
    fn matches(&self, query: &Query) -> bool {
        let mut values = query.all(&self.name).peekable();
        values.peek().is_some() && values.all(|value| self.pattern.is_match(value))
    }

    fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.pattern.as_str() == other.pattern.as_str()
    }
}

#[cfg(test)]
mod tests;
