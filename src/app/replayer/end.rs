//! The ends of queued writes: what the journal keeps of them, what is counted and logged.

use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;

use super::Replayer;
use crate::postgrest::object::{Object, text_value};
use crate::route::OnReject;
use crate::store::journal::{EndState, Ended, Member};
use crate::telemetry::metrics::WriteState;
use crate::write::record::Record;
use crate::write::replay::{MemberEnd, Outcome, Reason};

/// The longest that is kept of a conflict, in bytes: what is ours is no longer than a request's body.
const MAX_CONFLICT: usize = 128 * 1024;

/// The end of a member as the journal keeps it.
pub(super) fn ended(member: &Member, record: &Record, end: &MemberEnd, attempts: u32) -> Ended {
    let (state, reason, detail) = match &end.outcome {
        Outcome::Applied => (EndState::Applied, None, Bytes::new()),
        Outcome::Superseded { theirs } => {
            let why = if theirs.is_some() { "newer" } else { "gone" };
            (EndState::Superseded, Some(why), conflict(member, record, theirs.as_ref()))
        }
        Outcome::Rejected { reason, status, body } => {
            let ours = ours(member, record);
            let detail = json!({ "ours": ours, "status": status, "body": body }).to_string();
            (EndState::Rejected, Some(reason.as_str()), Bytes::from(detail))
        }
    };
    Ended {
        seq: member.seq,
        state,
        reason: reason.map(str::to_owned),
        detail,
        echo: end.echo.clone(),
        attempts,
    }
}

/// An end that no answer of upstream brought about.
pub(super) fn given_up(reason: Reason) -> MemberEnd {
    let outcome = Outcome::Rejected { reason, status: None, body: String::new() };
    MemberEnd { outcome, echo: None }
}

fn conflict(member: &Member, record: &Record, theirs: Option<&Object>) -> Bytes {
    let ours = ours(member, record);
    let both = json!({ "ours": &ours, "theirs": theirs }).to_string();
    if both.len() <= MAX_CONFLICT {
        return both.into();
    }
    json!({ "ours": ours, "theirs": "too long to be kept" }).to_string().into()
}

/// What the write would have made of the row.
fn ours(member: &Member, record: &Record) -> Object {
    let mut ours = record.changes.clone();
    let time: Box<RawValue> = text_value(&member.updated_at.text(record.updated_at.kind));
    ours.set(&record.updated_at.column, time);
    ours
}

impl Replayer {
    /// Counts an end and, unless it was as it should be, says so in the log. Whether the lane is to wait for an operator.
    pub(super) fn note(&self, member: &Member, record: &Record, end: &Ended) -> bool {
        let state = match end.state {
            EndState::Applied => WriteState::Applied,
            EndState::Superseded => WriteState::Superseded,
            EndState::Rejected => WriteState::Rejected,
        };
        self.gateway.metrics.route(&record.route).write(state);
        let (id, table, reason) = (member.id, &record.relation, end.reason.as_deref());
        match end.state {
            EndState::Applied => tracing::debug!(%id, %table, "queued write applied"),
            EndState::Superseded => {
                tracing::warn!(%id, route = record.route, %table, reason, "queued write superseded: upstream's row stays");
            }
            EndState::Rejected => {
                tracing::warn!(%id, route = record.route, %table, reason, "queued write rejected, kept as a dead letter");
            }
        }
        end.state == EndState::Rejected && record.on_reject == OnReject::Park
    }
}
