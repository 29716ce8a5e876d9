//! Adjacent PATCHes of one lane that go upstream as one.

use std::sync::Arc;

use super::changes::Changes;
use crate::postgrest::object::Object;
use crate::postgrest::timestamp::Micros;
use crate::write::record::{Action, Record};

/// A queued write of the lane, as far as merging looks at it.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) record: Arc<Record>,
    pub(super) updated_at: Micros,
}

/// How many members, from the first on, may go as one; at least 1 if there is one.
pub(super) fn run(members: &[Queued]) -> usize {
    members.windows(2).take_while(|pair| may_merge(&pair[0].record, &pair[1].record)).count()
        + usize::from(!members.is_empty())
}

/// Whether nothing but what is changed tells two writes of one lane apart for
/// upstream: PATCHes alone, since an insert's policy may not pass the changed row.
fn may_merge(one: &Record, next: &Record) -> bool {
    let is_patch = |record: &Record| record.action == Action::Patch;
    is_patch(one)
        && is_patch(next)
        && one.relation == next.relation
        && one.key == next.key
        && one.profile == next.profile
        && one.headers == next.headers
        && one.guard == next.guard
        && one.rights == next.rights
        && one.credentials == next.credentials
        && one.updated_at == next.updated_at
}

/// How many members, from the first on, are upstream already by the values of
/// `row`: those of an earlier try whose answer was lost. The others came later.
pub(super) fn applied_already(members: &[Queued], row: &Object) -> usize {
    let mut changes = Changes::default();
    let mut count = 0;
    for (place, member) in members.iter().enumerate() {
        changes.add(&member.record);
        if !changes.values().is_empty() && changes.are_held_by(row) {
            count = place + 1;
        }
    }
    count
}

/// Whether these members make another row of what the first one was based on.
pub(super) fn alter(members: &[Queued]) -> bool {
    let changes = Changes::of(members.iter().map(|member| &*member.record));
    members.first().is_some_and(|first| changes.alter(&first.record.base))
}

/// The first of the later members that sets every column of the first one.
pub(super) fn overwriting(members: &[Queued]) -> Option<usize> {
    let (first, later) = members.split_first()?;
    let sets_all =
        |record: &Record| first.record.changes.iter().all(|(name, _)| record.changes.get(name).is_some());
    later.iter().position(|member| sets_all(&member.record)).map(|place| place + 1)
}
