//! What one or several writes set, and whether a row has it.

use std::collections::BTreeMap;

use crate::postgrest::object::Object;
use crate::postgrest::value::ColumnType;
use crate::write::record::{Base, Record};

/// The columns that are set, with their types; of each column the newest value.
/// `updated_at` is not among them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    values: Object,
    types: BTreeMap<String, ColumnType>,
}

impl Changes {
    /// What all these writes set together.
    pub(super) fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut changes = Self::default();
        for record in records {
            changes.add(record);
        }
        changes
    }

    /// What a later write sets as well.
    pub(super) fn add(&mut self, record: &Record) {
        for (name, value) in record.changes.iter() {
            self.values.set(name, value.to_owned());
            self.types.insert(name.to_owned(), record.column_type(name));
        }
    }

    /// The values by their columns.
    pub(super) fn values(&self) -> &Object {
        &self.values
    }

    /// Whether they make another row of what the writes were based on.
    pub(super) fn alter(&self, base: &Base) -> bool {
        match base {
            Base::Row(row) => !self.are_held_by(row),
            Base::Absent => true,
        }
    }

    /// Whether a row has exactly these values, by their declared types.
    pub(super) fn are_held_by(&self, row: &Object) -> bool {
        self.values.iter().all(|(name, value)| {
            let column_type = self.types.get(name).unwrap_or(&ColumnType::Unknown);
            row.get(name).is_some_and(|theirs| column_type.equal(value, theirs))
        })
    }
}
