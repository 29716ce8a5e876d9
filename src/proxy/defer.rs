//! A write that may be deferred: from its body to its 202, or to the reason why it is forwarded.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::exchange::Exchange;
use super::gateway::{Gateway, Settings};
use super::known::{self, Row};
use super::read::Served;
use super::respond;
use super::synth::Synthetic;
use crate::identity::{Caller, Identity, VerifiedToken, rights};
use crate::postgrest::query::Query;
use crate::postgrest::schema::Schemas;
use crate::postgrest::timestamp::Micros;
use crate::route::{OnWait, Route, WritePolicy};
use crate::store::journal::{AppendError, Appended, CallerId, Draft, Seq, State, WriteId};
use crate::tag::Relation;
use crate::telemetry::metrics::{Outcome, WriteState};
use crate::write::admission::{
    Admitted, Candidate, Case, Known, QueuedWrite, Reason, Standing, Writer, examine,
};
use crate::write::events::label;
use crate::write::queue::{Queue, caller_id, new_id, row_id, table_id};
use crate::write::record::{Base, CallerName, Record};
use crate::write::representation;
use crate::write::seal::Credential;

/// The header that says what became of a write.
pub const SLUICE_WRITE: HeaderName = HeaderName::from_static("sluice-write");
const CONTENT_PROFILE: &str = "content-profile";
const API_KEY: &str = "apikey";

/// How often a write is looked at again because others of its row came in meanwhile.
const ATTEMPTS: usize = 8;
/// How long it is asked what became of an append whose answer was lost.
const CONFIRMING: Duration = Duration::from_secs(5);
const BETWEEN_CONFIRMATIONS: Duration = Duration::from_millis(100);

/// A write on a route that defers such.
pub struct Deferral<'a> {
    gateway: &'a Arc<Gateway>,
    queue: &'a Queue,
    settings: Arc<Settings>,
    route: Arc<Route>,
    policy: Arc<WritePolicy>,
    relation: Relation,
}

/// What became of a write.
enum Verdict {
    /// It is durable.
    Queued(Box<Accepted>),
    /// It is forwarded and awaited.
    Forward(Reason),
    /// Nobody knows whether it is durable: it must not be sent as well.
    Unknown,
    /// The queue can't be used, and what can't wait is refused here.
    Refused,
}

struct Accepted {
    id: WriteId,
    admitted: Admitted,
    appended: Appended,
}

impl<'a> Deferral<'a> {
    /// A write to `relation`, which `route` matched. `None`: it doesn't defer any.
    pub fn of(
        gateway: &'a Arc<Gateway>,
        exchange: &Exchange,
        route: Arc<Route>,
        relation: Relation,
    ) -> Option<Self> {
        let queue = gateway.queue.as_deref()?;
        let policy = route.write.clone()?;
        Some(Self { gateway, queue, settings: exchange.settings.clone(), route, policy, relation })
    }

    /// Queues the write and answers it, or says why it is to be forwarded. `body` is all of it;
    /// `None`: it is longer than any that is deferred, or doesn't say how long it is.
    ///
    /// # Errors
    ///
    /// Pingora's, where the client is gone.
    pub async fn serve(
        self,
        session: &mut Session,
        exchange: &mut Exchange,
        body: Option<Bytes>,
    ) -> Result<Served> {
        let verdict = match body {
            Some(body) => self.judge(session, &body).await.unwrap_or_else(Verdict::Forward),
            None => Verdict::Forward(Reason::BodyTooLarge),
        };
        match verdict {
            Verdict::Queued(accepted) => {
                self.gateway.metrics.route(&self.route.name).write(WriteState::Queued);
                self.answer(session, exchange, *accepted).await?;
                Ok(Served::Answered)
            }
            Verdict::Forward(reason) => {
                let text = format!("forwarded; reason={}", reason.name());
                exchange.write_status = HeaderValue::from_str(&text).ok();
                Ok(Served::Forward)
            }
            Verdict::Unknown => {
                respond::synthetic(session, exchange, Synthetic::write_unknown()).await?;
                Ok(Served::Answered)
            }
            Verdict::Refused => {
                respond::synthetic(session, exchange, Synthetic::queue_unavailable()).await?;
                Ok(Served::Answered)
            }
        }
    }

    async fn judge(&self, session: &Session, body: &[u8]) -> Result<Verdict, Reason> {
        let request = session.req_header();
        let query = Query::parse(request.uri.query().unwrap_or_default()).map_err(|_| Reason::Parameter)?;
        let now = SystemTime::now();
        let authenticator = &self.settings.authenticator;
        let caller = authenticator.identify(&request.headers, &query, now).map_err(|_| Reason::Token)?;
        let is_admitted = authenticator.admit(&caller.grounds(), now).is_ok();
        let Identity::Token(token) = caller.identity() else { return Err(Reason::Token) };
        let author = Author::of(&caller, token, &request.headers).ok_or(Reason::Subject)?;
        let schemas = self.settings.schemas.load_full();
        for _ in 0..ATTEMPTS {
            let candidate =
                self.candidate(request, &query, body, Writer::of(&caller, is_admitted), &schemas, now)?;
            let (admitted, after) = self.admit(candidate, &author, &request.headers).await?;
            let (id, draft) = self.draft(&admitted, after, &author, &request.headers)?;
            match self.append(id, draft).await {
                Ok(appended) => {
                    let until = now + self.settings.config.queue.max_wait;
                    self.queue.wallet.want(self.rights(token), until, now);
                    return Ok(Verdict::Queued(Box::new(Accepted { id, admitted, appended })));
                }
                Err(AppendError::Moved) => continue,
                Err(error) => return self.refused(error),
            }
        }
        Err(Reason::RowMoved)
    }

    /// The write, as far as it can be judged without its row.
    fn candidate<'c>(
        &'c self,
        request: &'c RequestHeader,
        query: &'c Query,
        body: &'c [u8],
        writer: Option<Writer<'c>>,
        schemas: &'c Schemas,
        now: SystemTime,
    ) -> Result<Candidate<'c>, Reason> {
        let schema = schemas.get(&self.relation.schema);
        examine(&Case {
            method: &request.method,
            relation: &self.relation,
            default_schema_holds: self.settings.default_schema_holds(),
            query,
            headers: &request.headers,
            body,
            policy: &self.policy,
            vary: self.vary(),
            ignored: self.route.read.as_deref().map_or(&[], |read| &read.ignore_headers),
            table: schema.and_then(|schema| schema.table(&self.relation.name)),
            writer,
            now,
            min_token_life: self.settings.config.auth.min_token_life,
        })
    }

    fn vary(&self) -> &[HeaderName] {
        self.route.read.as_deref().map_or(&[], |read| &read.vary)
    }

    /// What an append that failed comes to.
    fn refused(&self, error: AppendError) -> Result<Verdict, Reason> {
        match error {
            AppendError::Full => Err(Reason::QueueFull),
            AppendError::CallerFull => Err(Reason::CallerQueueFull),
            AppendError::RowBusy => Err(Reason::RowPending),
            AppendError::Moved => Err(Reason::RowMoved),
            AppendError::TooLarge => Err(Reason::RecordTooLarge),
            AppendError::Unknown => Ok(Verdict::Unknown),
            // What is queued already can't be seen either: a forwarded write could overtake it.
            AppendError::Closed | AppendError::Unavailable(_) if self.policy.on_wait == OnWait::Reject => {
                Ok(Verdict::Refused)
            }
            AppendError::Closed | AppendError::Unavailable(_) => Err(Reason::Journal),
        }
    }

    /// Judges the write with its row, and says which queued write of the row was the last.
    async fn admit(
        &self,
        candidate: Candidate<'_>,
        author: &Author<'_>,
        headers: &HeaderMap,
    ) -> Result<(Admitted, Option<Seq>), Reason> {
        let key = candidate.key().to_vec();
        let row = row_id(&self.relation, &key);
        // Before the row is read: what ends meanwhile is in the row then.
        let queued = self.queue.writes_of(author.id, |pending| pending.row == row);
        let queued = self.queue.decoded(queued).await.map_err(|_| Reason::Journal)?;
        let asked = Row { table: &self.relation, key: &key, route: &self.route, headers, reads: false };
        let known = if candidate.needs_row() {
            Some(asked.look_up(self.gateway, &self.settings).await)
        } else {
            asked.remembered(self.gateway, &self.settings)
        };
        let known = match &known {
            Some(known::Known::Row(row)) => Known::Row(row),
            Some(known::Known::Absent) => Known::Absent,
            // As his own reads show it meanwhile.
            Some(known::Known::Unreachable(_)) => match queued.first().map(|write| &*write.record) {
                Some(record) if record.session == author.token.session_id() => match &record.base {
                    Base::Row(row) => Known::Row(row),
                    Base::Absent => Known::Absent,
                },
                _ => Known::Unknown,
            },
            Some(known::Known::Unclear) | None => Known::Unknown,
        };
        let laid: Vec<QueuedWrite<'_>> =
            queued.iter().map(|write| QueuedWrite::of(&write.record, write.updated_at)).collect();
        let is_pending = self.queue.journal.row_is_pending(row);
        let admitted = candidate.admit(&Standing { known, queued: &laid, is_pending })?;
        Ok((admitted, queued.last().map(|write| write.seq)))
    }

    fn draft(
        &self,
        admitted: &Admitted,
        after: Option<Seq>,
        author: &Author<'_>,
        headers: &HeaderMap,
    ) -> Result<(WriteId, Draft), Reason> {
        let id = new_id(SystemTime::now()).ok_or(Reason::Journal)?;
        let sealed =
            self.queue.sealer.seal(&author.credential, id, author.id).map_err(|_| Reason::Journal)?;
        let record = Record {
            route: self.route.name.clone(),
            relation: self.relation.clone(),
            profile: text(headers, CONTENT_PROFILE),
            headers: carried(headers, self.vary())?,
            key: admitted.key.clone(),
            action: admitted.action,
            changes: admitted.changes.clone(),
            base: admitted.base.clone(),
            updated_at: admitted.updated_at.clone(),
            types: admitted.types.clone(),
            guard: self.policy.guard,
            on_reject: self.policy.on_reject,
            credentials: self.policy.credentials,
            caller: author.name.clone(),
            session: author.token.session_id(),
            rights: self.rights(author.token),
            sealed,
        };
        let draft = Draft {
            id,
            caller: author.id,
            table: table_id(&self.relation),
            row: row_id(&self.relation, &admitted.key),
            is_insert: matches!(admitted.base, Base::Absent),
            floor: admitted.floor,
            after,
            alone: admitted.alone,
            linger: self.settings.config.queue.linger,
            label: label(&self.relation, &admitted.key),
            record: record.encode().map_err(|_| Reason::RecordTooLarge)?,
        };
        Ok((id, draft))
    }

    fn rights(&self, token: &VerifiedToken) -> [u8; 16] {
        rights(self.route.scope(), token)
    }

    /// Appends. An outcome that is unknown is asked for by id until it is known, or [`CONFIRMING`] is over.
    async fn append(&self, id: WriteId, draft: Draft) -> Result<Appended, AppendError> {
        let journal = &self.queue.journal;
        match journal.append(draft).await {
            Err(AppendError::Unknown) => {}
            decided => return decided,
        }
        let asking = async {
            loop {
                match journal.find(id).await {
                    Ok(Some(status)) => {
                        let (seq, updated_at) = (status.seq, status.updated_at);
                        return Ok(Appended { seq, updated_at, accepted_at: status.accepted_at });
                    }
                    Ok(None) => return Err(AppendError::Unavailable("the append was lost".into())),
                    Err(_) => tokio::time::sleep(BETWEEN_CONFIRMATIONS).await,
                }
            }
        };
        tokio::time::timeout(CONFIRMING, asking).await.unwrap_or(Err(AppendError::Unknown))
    }

    async fn answer(&self, session: &mut Session, exchange: &mut Exchange, accepted: Accepted) -> Result<()> {
        let Accepted { id, admitted, appended } = accepted;
        let mut headers = representation::headers(&admitted);
        let time = appended.updated_at.text(admitted.updated_at.kind);
        let state = State::Queued.as_str();
        let lines = [
            (SLUICE_WRITE, format!("{state}; id=\"{id}\"; updated_at=\"{time}\"")),
            (LOCATION, format!("/sluice/v1/writes/{id}")),
        ];
        for (name, line) in lines {
            // Made of digits and letters alone.
            if let Ok(value) = HeaderValue::from_str(&line) {
                headers.insert(name, value);
            }
        }
        exchange.outcome = Outcome::Queued;
        let body = representation::body(&admitted, appended.updated_at);
        respond::own(session, exchange, StatusCode::ACCEPTED, headers, body).await
    }
}

/// Who writes, and what he came with.
struct Author<'a> {
    id: CallerId,
    name: CallerName,
    token: &'a VerifiedToken,
    credential: Credential,
}

impl<'a> Author<'a> {
    fn of(caller: &Caller, token: &'a VerifiedToken, headers: &HeaderMap) -> Option<Self> {
        debug_assert!(matches!(caller.identity(), Identity::Token(_)));
        let bearer = text(headers, AUTHORIZATION.as_str())?;
        let (_, bearer) = bearer.split_once(' ')?;
        let credential = Credential {
            token: bearer.trim().to_owned(),
            api_key: text(headers, API_KEY),
            expires: token.expires().map(Micros::of),
        };
        Some(Self { id: caller_id(token.writer()?), name: CallerName::of(token)?, token, credential })
    }
}

/// The only value of a header, as text.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::to_owned),
        _ => None,
    }
}

/// The headers that the route varies by, as they were sent.
fn carried(headers: &HeaderMap, vary: &[HeaderName]) -> Result<Vec<(String, String)>, Reason> {
    let lines = vary.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
    let carried = |(name, value): (&HeaderName, &HeaderValue)| match value.to_str() {
        Ok(value) => Ok((name.to_string(), value.to_owned())),
        Err(_) => Err(Reason::Header(name.clone())),
    };
    lines.map(carried).collect()
}
