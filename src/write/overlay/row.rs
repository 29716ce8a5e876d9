//! One row with queued writes laid over it.

use serde_json::value::RawValue;

use super::PendingWrite;
use crate::postgrest::object::{Object, text_value};
use crate::postgrest::row::KeyType;
use crate::postgrest::schema::Table;
use crate::write::record::{Action, KeyPart};

/// The row that `base` becomes by `writes`, all of this one row and in the
/// order of their acceptance. `base` is the row as it is known, `None` where
/// it is known not to be there. `None`: there is no such row afterwards either.
///
/// A row that a queued insert makes has the columns of that insert and of what
/// comes after it, in the table's order; what upstream adds is unknown.
pub fn merged<'a>(
    table: &Table,
    base: Option<&Object>,
    writes: impl IntoIterator<Item = &'a PendingWrite>,
) -> Option<Object> {
    match base {
        Some(base) => Some(laid_over(base, writes)),
        None => made_by(table, writes),
    }
}

/// `base` as `writes` leave it.
pub(super) fn laid_over<'a>(base: &Object, writes: impl IntoIterator<Item = &'a PendingWrite>) -> Object {
    let mut row = base.clone();
    for write in writes {
        lay(&mut row, write);
    }
    row
}

/// The row that `writes` make where there is none.
pub(super) fn made_by<'a>(
    table: &Table,
    writes: impl IntoIterator<Item = &'a PendingWrite>,
) -> Option<Object> {
    let mut made: Option<Object> = None;
    for write in writes {
        match &mut made {
            Some(row) => lay(row, write),
            None if write.is_insert() => made = Some(inserted(table, write)),
            // A change of a row that has gone changes nothing.
            None => {}
        }
    }
    made.map(|row| in_order(table, &row))
}

/// A plain insert of a row that is there changes nothing: upstream has taken
/// it already, or will refuse it.
fn lay(row: &mut Object, write: &PendingWrite) {
    if write.record.action != Action::Insert {
        set_values(row, write);
    }
}

fn set_values(row: &mut Object, write: &PendingWrite) {
    for (column, value) in write.values() {
        row.set(column, value);
    }
}

fn inserted(table: &Table, write: &PendingWrite) -> Object {
    let mut row = Object::new();
    for part in &write.record.key {
        if let Some(value) = key_value(table, part) {
            row.set(&part.column, value);
        }
    }
    set_values(&mut row, write);
    row
}

/// A key column's value as upstream prints it.
fn key_value(table: &Table, part: &KeyPart) -> Option<Box<RawValue>> {
    match table.column(&part.column)?.key_type? {
        KeyType::Integer { .. } => RawValue::from_string(part.value.clone()).ok(),
        KeyType::Uuid | KeyType::Text { .. } => Some(text_value(&part.value)),
    }
}

fn in_order(table: &Table, row: &Object) -> Object {
    let mut ordered = Object::new();
    let known = table.order().iter().filter_map(|column| Some((column.as_str(), row.get(column)?)));
    for (column, value) in known.chain(row.iter()) {
        ordered.set(column, value.to_owned());
    }
    ordered
}

impl PendingWrite {
    /// What it sets, column by column; its timestamp last.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, Box<RawValue>)> {
        let stamp = &self.record.updated_at;
        let changes = self.record.changes.iter().map(|(column, value)| (column, value.to_owned()));
        changes.chain([(stamp.column.as_str(), text_value(&self.updated_at.text(stamp.kind)))])
    }
}
