//! One write as it is sent: a member of a job, or several as one.

use std::sync::Arc;

use super::changes::Changes;
use super::target::Filter;
use crate::postgrest::object::Object;
use crate::postgrest::timestamp::Micros;
use crate::route::Guard;
use crate::write::record::{Base, Record};

/// A write with what its guard compares.
#[derive(Debug)]
pub(super) struct Write {
    /// The oldest member's: its row, its guard and what it was based on.
    pub(super) record: Arc<Record>,
    /// What all members together change.
    pub(super) changes: Changes,
    /// The oldest member's `updated_at`: what upstream's may not be later than.
    pub(super) not_after: Micros,
    /// The newest member's `updated_at`: what upstream gets.
    pub(super) updated_at: Micros,
    /// The newest member's place in the job.
    pub(super) newest: usize,
    /// The `updated_at` that an earlier-accepted write of the row was answered.
    pub(super) echo: Option<String>,
    /// Whether a later write of the row is queued.
    pub(super) is_followed: bool,
    /// Whether no filter but that of the first try may be used.
    pub(super) is_dead_letter: bool,
}

/// What a row, as it was read, has for its `updated_at`.
enum Time<'a> {
    Null,
    At(&'a str),
    Unreadable,
}

impl Write {
    /// The column of the time.
    pub(super) fn time_column(&self) -> &str {
        &self.record.updated_at.column
    }

    /// The `updated_at` that upstream gets.
    pub(super) fn time(&self) -> String {
        self.updated_at.text(self.record.updated_at.kind)
    }

    /// The filter of the first try. `None`: there was no row, so no value that
    /// `unchanged` could mean.
    pub(super) fn first_filter(&self) -> Option<Filter> {
        match self.record.guard {
            Guard::NotNewer => Some(Filter::AtMost(self.not_after.text(self.record.updated_at.kind))),
            Guard::Unchanged => {
                let Base::Row(base) = &self.record.base else { return None };
                match self.time_of(base) {
                    Time::At(time) => Some(Filter::Equal(time.to_owned())),
                    Time::Null => Some(Filter::Null),
                    Time::Unreadable => None,
                }
            }
        }
    }

    /// The filter under which a row that was read may be changed; `None`: it
    /// was changed by somebody else.
    pub(super) fn filter_for(&self, row: &Object) -> Option<Filter> {
        let first = self.first_filter();
        match (self.time_of(row), self.record.guard) {
            (Time::At(time), _) if first.as_ref().is_some_and(|filter| self.passes(time, filter)) => first,
            (Time::Null, _) if first == Some(Filter::Null) => first,
            _ if self.is_dead_letter => None,
            (Time::At(time), _) if self.echo.as_deref().is_some_and(|echo| self.is_same_time(time, echo)) => {
                Some(Filter::Equal(time.to_owned()))
            }
            // Under `unchanged` a time that has become null is a change.
            (Time::Null, Guard::NotNewer) => Some(Filter::Null),
            _ => None,
        }
    }

    /// Whether a row has exactly the values that this write gives it.
    pub(super) fn is_held_by(&self, row: &Object) -> bool {
        self.changes.are_held_by(row)
    }

    /// The `updated_at` of a row that upstream answered, as it is spelt there.
    pub(super) fn echo_of(&self, row: &Object) -> Option<String> {
        match self.time_of(row) {
            Time::At(time) => Some(time.to_owned()),
            Time::Null | Time::Unreadable => None,
        }
    }

    fn passes(&self, time: &str, filter: &Filter) -> bool {
        match filter {
            Filter::AtMost(_) => {
                Micros::parse(time, self.record.updated_at.kind).is_some_and(|time| time <= self.not_after)
            }
            Filter::Equal(other) => self.is_same_time(time, other),
            Filter::Null => false,
        }
    }

    /// Two roles may have different time zones: one moment, two spellings.
    fn is_same_time(&self, one: &str, other: &str) -> bool {
        let parsed = |text| Micros::parse(text, self.record.updated_at.kind);
        one == other || parsed(one).is_some_and(|one| parsed(other) == Some(one))
    }

    fn time_of<'a>(&self, row: &'a Object) -> Time<'a> {
        match row.get(self.time_column()).map(|value| value.get()) {
            Some("null") => Time::Null,
            // PostgREST escapes nothing in a time.
            Some(text) => match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                Some(time) if !time.contains('\\') => Time::At(time),
                _ => Time::Unreadable,
            },
            None => Time::Unreadable,
        }
    }
}
