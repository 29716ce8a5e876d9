//! What a write's body sets.

use super::layout::Layout;
use super::{Key, Reason};
use crate::postgrest::object::{Object, ObjectError};
use crate::route::WritePolicy;
use crate::write::record::KeyPart;

/// No table has more columns (PostgreSQL's limit).
const MAX_COLUMNS: usize = 1600;

/// The fields of a body, each by what it means.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    /// The key's columns that it has, canonical, in the key's order.
    pub key: Key,
    /// What it changes, canonical.
    pub changes: Object,
    /// What it may have as long as it is no change: columns that the route
    /// doesn't defer, and those that upstream computes. As they were sent.
    pub aside: Object,
}

/// The body's one object.
pub(super) fn parse(body: &[u8], max_bytes: usize) -> Result<Object, Reason> {
    if body.len() > max_bytes {
        return Err(Reason::BodyTooLarge);
    }
    let object = Object::parse(body).map_err(|error| match error {
        ObjectError::NotJson => Reason::NotJson,
        ObjectError::NotAnObject => Reason::NotAnObject,
        ObjectError::DuplicateKey(_) => Reason::RepeatedField,
    })?;
    if object.len() > MAX_COLUMNS { Err(Reason::UnknownColumn) } else { Ok(object) }
}

impl Fields {
    /// Sorts the fields of `body`. The client's `updated_at` is left out:
    /// Sluice sets it, whatever he sent.
    pub(super) fn of(
        body: &Object,
        key: &[String],
        policy: &WritePolicy,
        layout: &Layout<'_>,
    ) -> Result<Self, Reason> {
        let mut fields = Self { key: Vec::new(), changes: Object::new(), aside: Object::new() };
        for column in key {
            let Some(value) = body.get(column) else { continue };
            let value = layout.key_text(column, value).ok_or(Reason::Value)?;
            fields.key.push(KeyPart { column: column.clone(), value });
        }
        for (name, value) in body.iter().filter(|(name, _)| !key.iter().any(|column| column == name)) {
            if !layout.has(name) {
                return Err(Reason::UnknownColumn);
            }
            if name == policy.updated_at {
                continue;
            }
            if is_deferred(name, policy) {
                fields.changes.set(name, layout.canonical(name, value)?);
            } else {
                fields.aside.set(name, value.to_owned());
            }
        }
        Ok(fields)
    }

    /// Whether the body has this column.
    pub(super) fn has(&self, name: &str) -> bool {
        let is_in_key = self.key.iter().any(|part| part.column == name);
        is_in_key || self.changes.get(name).is_some() || self.aside.get(name).is_some()
    }
}

/// Whether a deferred write may change the column.
fn is_deferred(name: &str, policy: &WritePolicy) -> bool {
    let is_listed = policy.columns.as_ref().is_none_or(|columns| columns.iter().any(|column| column == name));
    is_listed && !policy.computed.iter().any(|column| column == name)
}
