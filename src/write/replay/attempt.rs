//! One write against upstream, from its first request to its end.

use super::answer::{Answer, Meaning, Refusal};
use super::target::Filter;
use super::write::Write;
use super::{Ask, MemberEnd, Outcome, Reason, Retry, Wait};
use crate::postgrest::object::Object;
use crate::write::record::{Action, Base};

/// What comes after an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// Upstream is asked something more.
    Ask(Ask),
    /// The write has ended.
    End(MemberEnd),
    /// The write is begun anew later.
    Wait(Wait),
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The write.
    pub(super) write: Write,
    stage: Stage,
    /// Whether `updated_at` is sent along; not if that is what the caller lacks the right to.
    is_stamped: bool,
    /// The filter of the last PATCH.
    filter: Option<Filter>,
    /// Whether the PATCH was tried again after a read.
    is_second: bool,
    /// Whether making the row met one that nobody shows.
    was_in_the_way: bool,
}

/// What was asked last.
#[derive(Debug)]
enum Stage {
    Patch,
    Read,
    InsertIfAbsent,
    Insert,
    /// The row that may be in the insert's way, after upstream's word about that.
    ReadDuplicate(Refusal),
    /// The row just inserted, since its `updated_at` has to be known.
    ReadInserted,
}

impl Attempt {
    /// Begins: with a PATCH or, for a plain insert, a POST.
    pub(super) fn new(write: Write) -> (Self, Ask) {
        let mut attempt = Self {
            write,
            stage: Stage::Insert,
            is_stamped: true,
            filter: None,
            is_second: false,
            was_in_the_way: false,
        };
        let ask = match attempt.write.record.action {
            Action::Insert => attempt.write.insert(true),
            Action::Patch | Action::Put | Action::Upsert => attempt.first_patch(),
        };
        (attempt, ask)
    }

    /// Goes on with upstream's answer.
    pub(super) fn answered(&mut self, answer: &Answer) -> Next {
        match answer.meaning() {
            Meaning::Taken => self.taken(answer),
            Meaning::Refused(refusal) => self.refused(refusal),
            Meaning::Later(wait) => self.put_off(wait),
        }
    }

    /// Goes on without an answer, whatever became of the request.
    pub(super) fn put_off(&self, wait: Wait) -> Next {
        match (&self.stage, &wait) {
            // The insert is known to be done: repeating it is worth it only for what passes by itself.
            (Stage::ReadInserted, Wait::Retry(Retry::Counted { .. }) | Wait::NewToken) => applied(None),
            _ => Next::Wait(wait),
        }
    }

    fn taken(&mut self, answer: &Answer) -> Next {
        // `return=minimal`: nothing is said about the row.
        let rows = if matches!(self.stage, Stage::Insert) { Some(Vec::new()) } else { answer.rows() };
        let Some(mut rows) = rows else { return self.misunderstood() };
        match &self.stage {
            Stage::Insert => self.inserted(),
            Stage::Patch | Stage::InsertIfAbsent => match rows.first() {
                Some(row) => applied(self.write.echo_of(row)),
                None if matches!(self.stage, Stage::Patch) => self.ask_for_row(),
                None => {
                    self.was_in_the_way = true;
                    self.is_second = false;
                    Next::Ask(self.first_patch())
                }
            },
            // A key that names several rows is none.
            _ if rows.len() > 1 => self.misunderstood(),
            Stage::Read => match rows.pop() {
                Some(row) => self.found(row),
                None => self.found_nothing(),
            },
            Stage::ReadDuplicate(refusal) => match self.held_row(&rows) {
                Some(row) => applied(self.write.echo_of(row)),
                None => ended(refusal.clone().outcome()),
            },
            Stage::ReadInserted => applied(self.held_row(&rows).and_then(|row| self.write.echo_of(row))),
        }
    }

    fn refused(&mut self, refusal: Refusal) -> Next {
        let has_time_only = self.write.changes.values().is_empty() && matches!(self.stage, Stage::Patch);
        let may_go_without_time = refusal.is_missing_right() && self.is_stamped && !has_time_only;
        match &self.stage {
            Stage::Patch | Stage::InsertIfAbsent | Stage::Insert if may_go_without_time => {
                self.is_stamped = false;
                Next::Ask(self.repeated())
            }
            Stage::Insert if refusal.is_duplicate() => {
                self.stage = Stage::ReadDuplicate(refusal);
                Next::Ask(self.write.read_own_columns())
            }
            Stage::ReadDuplicate(duplicate) => ended(duplicate.clone().outcome()),
            Stage::ReadInserted => applied(None),
            _ => ended(refusal.outcome()),
        }
    }

    /// The last request once more, now without `updated_at`.
    fn repeated(&self) -> Ask {
        match (&self.stage, &self.filter) {
            (Stage::Patch, Some(filter)) => self.write.patch(filter, self.is_stamped),
            (Stage::InsertIfAbsent, _) => self.write.insert_if_absent(self.is_stamped),
            _ => self.write.insert(self.is_stamped),
        }
    }

    fn first_patch(&mut self) -> Ask {
        match self.write.first_filter() {
            Some(filter) => self.patch(filter),
            None => {
                self.stage = Stage::Read;
                self.write.read()
            }
        }
    }

    fn patch(&mut self, filter: Filter) -> Ask {
        let ask = self.write.patch(&filter, self.is_stamped);
        self.stage = Stage::Patch;
        self.filter = Some(filter);
        ask
    }

    fn ask_for_row(&mut self) -> Next {
        self.stage = Stage::Read;
        Next::Ask(self.write.read())
    }

    fn inserted(&mut self) -> Next {
        if !self.write.is_followed {
            return applied(None);
        }
        self.stage = Stage::ReadInserted;
        Next::Ask(self.write.read_own_columns())
    }

    /// The PATCH found no row, but there is one.
    fn found(&mut self, row: Object) -> Next {
        let filter = self.write.filter_for(&row);
        if let (Some(filter), false) = (&filter, self.is_second) {
            self.is_second = true;
            return Next::Ask(self.patch(filter.clone()));
        }
        // Any row has the values of a write without any: then the time alone tells.
        let is_held =
            self.write.is_held_by(&row) && !(self.write.changes.values().is_empty() && filter.is_some());
        if is_held {
            // A row that had the values before says nothing about who gave it its time.
            let is_ours = self.write.changes.alter(&self.write.record.base);
            applied(self.write.echo_of(&row).filter(|_| is_ours))
        } else if filter.is_some() && filter == self.filter {
            ended(Outcome::Rejected { reason: Reason::Denied, status: None, body: String::new() })
        } else {
            ended(Outcome::Superseded { theirs: Some(row) })
        }
    }

    /// The PATCH found no row, and there is none to be seen.
    fn found_nothing(&mut self) -> Next {
        if self.write.record.action != Action::Upsert || self.write.record.base != Base::Absent {
            return ended(Outcome::Superseded { theirs: None });
        }
        if self.was_in_the_way {
            return ended(Outcome::Rejected {
                reason: Reason::NotVisible,
                status: None,
                body: String::new(),
            });
        }
        self.stage = Stage::InsertIfAbsent;
        Next::Ask(self.write.insert_if_absent(self.is_stamped))
    }

    /// The only row, if it has exactly the values that were inserted.
    fn held_row<'a>(&self, rows: &'a [Object]) -> Option<&'a Object> {
        rows.first().filter(|row| self.write.is_held_by(row))
    }

    /// A success that says something else than what was asked.
    fn misunderstood(&self) -> Next {
        self.put_off(Wait::Retry(Retry::Counted { after: None }))
    }
}

fn applied(echo: Option<String>) -> Next {
    Next::End(MemberEnd { outcome: Outcome::Applied, echo })
}

fn ended(outcome: Outcome) -> Next {
    Next::End(MemberEnd { outcome, echo: None })
}
