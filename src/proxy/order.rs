//! Requests that queued writes go before: a forwarded write waits for those that it could overtake.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pingora::http::RequestHeader;
use tokio::time::timeout_at;

use super::exchange::{Exchange, view};
use super::gateway::{Gateway, Settings};
use crate::identity::Caller;
use crate::plan::{Rules, touched};
use crate::postgrest::footprint::WriteBody;
use crate::postgrest::query::Query;
use crate::request::{DecodedPath, Target};
use crate::route::{OnWait, RouteTable};
use crate::store::journal::{CallerId, TableId, Wanted};
use crate::tag::Relation;
use crate::write::barrier::{Barrier, Blocking, Forwarded, Hold, Judgement, Names};
use crate::write::queue::{Queue, caller_of, row_id, table_id};
use crate::write::record::KeyPart;

/// How often it is looked at most whether what is waited for has ended.
const TICK: Duration = Duration::from_millis(2);
/// The same where many are waited for.
const SLOW_TICK: Duration = Duration::from_millis(20);
const MANY: usize = 100;

/// Waits until nothing that was queued before could be overtaken by `request`, which is about to be forwarded.
/// Whether it may be forwarded then; if not, it is to be refused.
pub async fn may_pass(gateway: &Arc<Gateway>, exchange: &Exchange, request: &RequestHeader) -> bool {
    let Some(queue) = gateway.queue.as_deref() else { return true };
    let settings = &exchange.settings;
    if view(request).is_safe() {
        return true;
    }
    if queue.journal.failure().is_some() && is_refused_without_journal(request, settings) {
        return false;
    }
    if queue.journal.depth().writes == 0 {
        return true;
    }
    let caller = caller(settings, request).as_ref().and_then(caller_of);
    let body = exchange.whole_body.as_deref().map_or(WriteBody::Unknown, WriteBody::Whole);
    let barrier = settings.with_rules(|rules, _| barrier(request, body, rules, caller));
    if barrier.is_empty() {
        return true;
    }
    let wanted = Wanted {
        rows: &barrier.rows,
        tables: &barrier.tables,
        caller: barrier.whole_caller,
        inserts_of: barrier.inserts_of,
    };
    let hold = barrier.hold(queue.journal.wanted(&wanted).iter());
    if hold.seqs().is_empty() {
        return true;
    }
    let seqs: Vec<_> = hold.seqs().iter().copied().collect();
    queue.journal.end_linger(&seqs);
    match wait(queue, &hold, settings.config.queue.drain_wait).await {
        None => true,
        Some(blocking) => {
            let said = on_wait(settings);
            blocking.on_wait(|table| said.get(&table).copied().flatten()) == OnWait::Forward
        }
    }
}

/// Whether the request writes to a table that defers, whose queue can't be read, and whose routes don't have it forwarded then.
fn is_refused_without_journal(request: &RequestHeader, settings: &Settings) -> bool {
    let request = view(request);
    let Ok(path) = DecodedPath::parse(request.path) else { return false };
    let target = Target::of(&request, &path, &settings.config.upstream.default_schema);
    let Target::Table(relation) = target else { return false };
    let routes = &settings.config.routes;
    let mut policies = routes.of_table(&relation).filter_map(|route| route.write.as_ref());
    policies.any(|policy| policy.on_wait == OnWait::Reject)
}

/// Who sends the request, if he may be believed.
pub fn caller(settings: &Settings, request: &RequestHeader) -> Option<Caller> {
    let query = Query::parse(request.uri.query().unwrap_or_default()).ok()?;
    settings.authenticator.identify(&request.headers, &query, SystemTime::now()).ok()
}

fn barrier(
    request: &RequestHeader,
    body: WriteBody<'_>,
    rules: Rules<'_>,
    caller: Option<CallerId>,
) -> Barrier {
    let request = view(request);
    let path = DecodedPath::parse(request.path).ok();
    let target = path.as_ref().map(|path| Target::of(&request, path, rules.default_schema));
    let target = target.filter(|target| !target.is_unclear(&request));
    let query = Query::parse(request.query).ok();
    let route = target.as_ref().zip(path.as_ref()).zip(query.as_ref());
    let route = route.and_then(|((target, path), query)| rules.routes.find(target, path, query));
    let tags = touched(&request, body, rules);
    let key = |pairs: &[(String, String)]| -> Vec<KeyPart> {
        let part =
            |(column, value): &(String, String)| KeyPart { column: column.clone(), value: value.clone() };
        pairs.iter().map(part).collect()
    };
    let forwarded = Forwarded {
        method: request.method,
        target: target.as_ref(),
        touched: &tags,
        writes: route.and_then(|route| route.writes.as_deref()),
        depends_on: route.and_then(|route| route.read.as_ref()?.depends_on.as_deref()),
        schemas: rules.schemas,
        caller,
    };
    let names = Names { table: &table_id, row: &|relation, pairs| row_id(relation, &key(pairs)) };
    Barrier::of(&forwarded, names)
}

/// Waits for what holds the request, for `patience` at most. What it still waits for then; `None`: nothing.
async fn wait(queue: &Queue, hold: &Hold, patience: Duration) -> Option<Blocking> {
    let deadline = tokio::time::Instant::from(Instant::now() + patience);
    let mut changed = queue.journal.changed();
    loop {
        changed.mark_unchanged();
        let queued = queue.journal.queued_among(hold.seqs());
        let blocking = match hold.judge(queued.iter()) {
            Judgement::Clear => return None,
            Judgement::OnWaitNow(blocking) => return Some(blocking),
            Judgement::WaitFor(blocking) => blocking,
        };
        match timeout_at(deadline, changed.changed()).await {
            Ok(Ok(())) => tokio::time::sleep(if blocking.seqs.len() > MANY { SLOW_TICK } else { TICK }).await,
            // The time is over, or the journal is closed.
            Ok(Err(_)) | Err(_) => return Some(blocking),
        }
    }
}

/// What the routes say about requests that can wait no longer for writes to their tables, as far as tables are
/// known; `None` where routes of one differ.
fn on_wait(settings: &Settings) -> HashMap<TableId, Option<OnWait>> {
    let schemas = settings.schemas.load();
    let tables = schemas.names().flat_map(|schema| {
        let known = schemas.get(schema).into_iter().flat_map(|known| known.tables());
        known.map(move |(name, _)| Relation::new(schema, name))
    });
    tables.map(|relation| (table_id(&relation), said(&settings.config.routes, &relation))).collect()
}

/// What the routes that defer writes to a table say. `None`: there are none, or they differ.
fn said(routes: &RouteTable, relation: &Relation) -> Option<OnWait> {
    let mut policies = routes.of_table(relation).filter_map(|route| route.write.as_ref());
    let first = policies.next()?.on_wait;
    policies.all(|policy| policy.on_wait == first).then_some(first)
}
