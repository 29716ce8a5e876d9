//! A write that can be deferred if its row is as it should be.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use super::body::Fields;
use super::head::{Returning, Wishes};
use super::layout::{Layout, timestamp_kind};
use super::parameters::Selection;
use super::writer::Owned;
use super::{Key, Reason};
use crate::postgrest::object::{Object, text_value};
use crate::postgrest::timestamp::{Micros, TimestampKind};
use crate::route::WritePolicy;
use crate::write::record::{Action, Base, KeyPart, Record, UpdatedAt};

/// A write that can be deferred if its row is as it should be.
pub struct Candidate<'a> {
    pub(super) policy: &'a WritePolicy,
    pub(super) layout: Layout<'a>,
    pub(super) action: Action,
    pub(super) key: Key,
    pub(super) fields: Fields,
    /// The type of `updated_at`, where the table's description tells it.
    pub(super) timestamp: Option<TimestampKind>,
    pub(super) owned: Option<Owned<'a>>,
    pub(super) wishes: Wishes,
    pub(super) selection: Selection,
}

/// What is known of the row in the caller's own partition.
#[derive(Clone, Copy)]
pub enum Known<'a> {
    /// The row with all of its columns, as upstream prints it.
    Row(&'a Object),
    /// The caller sees no such row.
    Absent,
    /// It could not be read, or nobody asked.
    Unknown,
}

/// How things stand with the row.
#[derive(Clone, Copy)]
pub struct Standing<'a> {
    /// The row without the caller's queued writes.
    pub known: Known<'a>,
    /// The caller's own queued writes of the row, in the order accepted.
    pub queued: &'a [QueuedWrite<'a>],
    /// Whether a write of the row is queued, whoever's.
    pub is_pending: bool,
}

/// A queued write of the row.
#[derive(Clone, Copy)]
pub struct QueuedWrite<'a> {
    /// Whether there was no row when it was accepted, so that it makes one.
    pub creates: bool,
    /// What it changes.
    pub changes: &'a Object,
    /// The time that it was given.
    pub updated_at: Micros,
}

impl<'a> QueuedWrite<'a> {
    /// The queued write with this record, which was given this time.
    pub fn of(record: &'a Record, updated_at: Micros) -> Self {
        Self { creates: record.base == Base::Absent, changes: &record.changes, updated_at }
    }
}

/// A write that is deferred once the journal takes it.
#[derive(Clone)]
pub struct Admitted {
    /// What is to be done to the row.
    pub action: Action,
    /// The whole primary key, canonical, sorted by column.
    pub key: Vec<KeyPart>,
    /// The columns that are set, canonical; without the key's and `updated_at`.
    pub changes: Object,
    /// The row that was known, the caller's queued writes laid over it. Of a
    /// row that one of these makes, only the columns that it sets.
    pub base: Base,
    /// The column of the time, and its type.
    pub updated_at: UpdatedAt,
    /// The SQL types of the columns in `key` and `changes`, as far as they are known.
    pub types: BTreeMap<String, String>,
    /// The earliest time that the write may get.
    pub floor: Option<Micros>,
    /// Whether it is to be queued only if no other write of the row is, whoever's.
    pub alone: bool,
    /// The row to be answered; `None`: none.
    pub returns: Option<Returns>,
    /// `Preference-Applied`, as PostgREST would say it.
    pub preference_applied: Option<&'static str>,
}

/// The row to be answered.
#[derive(Clone)]
pub struct Returns {
    /// The selected columns in the order asked for; `updated_at`, if it is one
    /// of them, is yet to be given.
    pub row: Object,
    /// Whether one object is wanted instead of an array.
    pub object: bool,
}

impl fmt::Debug for Candidate<'_> {
    /// Without anything of the row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("action", &self.action).finish_non_exhaustive()
    }
}

impl fmt::Debug for Admitted {
    /// Without anything of the row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted")
            .field("action", &self.action)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Candidate<'_> {
    /// The row's whole primary key, canonical, sorted by column.
    pub fn key(&self) -> &[KeyPart] {
        &self.key
    }

    /// Whether [`Self::admit`] has to know the row or its absence. A plain
    /// insert has no row yet: whatever happens to be known will do.
    pub fn needs_row(&self) -> bool {
        self.action != Action::Insert
    }

    /// Whether the write can be deferred, its row being so.
    ///
    /// # Errors
    ///
    /// The first [`Reason`] why not.
    pub fn admit(self, standing: &Standing<'_>) -> Result<Admitted, Reason> {
        let base = self.base(standing)?;
        let kind = self.kind(base.as_ref())?;
        if let Some(row) = &base {
            self.check_owner(row)?;
            self.check_whole(row)?;
        }
        let changes = self.changes(base.as_ref())?;
        let floor = base.as_ref().map(|row| self.floor(row, kind)).transpose()?.flatten();
        let returns = self.returns(base.as_ref(), &changes)?;
        Ok(Admitted {
            types: self.types(&changes),
            preference_applied: self.preference_applied(),
            action: self.action,
            key: self.key,
            changes,
            base: base.map_or(Base::Absent, Base::Row),
            updated_at: UpdatedAt { column: self.policy.updated_at.clone(), kind },
            floor,
            alone: self.action == Action::Insert,
            returns,
        })
    }

    /// What has to hold for the body alone.
    pub(super) fn check_body(&self) -> Result<(), Reason> {
        let has = |name: &str| self.is_exempt(name) || self.fields.has(name);
        let described = self.layout.table();
        let is_complete = match self.action {
            Action::Patch => true,
            Action::Put => described.is_none_or(|table| table.order().iter().all(|name| has(name))),
            Action::Insert | Action::Upsert => self.layout.demanded().all(has),
        };
        if !is_complete {
            return Err(Reason::MissingColumn);
        }
        let owned = self.owned.as_ref();
        if owned.is_some_and(|owned| self.fields.has(owned.column) && !self.is_owned_by_body(owned)) {
            return Err(Reason::Owner);
        }
        if self.action == Action::Insert {
            // Nothing that may come to be known of the row changes this.
            return self.changes(None).map(drop);
        }
        Ok(())
    }

    /// Whether the column is none that a client has to send: Sluice or upstream sets it.
    fn is_exempt(&self, name: &str) -> bool {
        name == self.policy.updated_at || self.is_computed(name)
    }

    fn is_computed(&self, name: &str) -> bool {
        self.policy.computed.iter().any(|column| column == name)
    }

    /// Whether the body makes the row the caller's own.
    fn is_owned_by_body(&self, owned: &Owned<'_>) -> bool {
        let in_key = self.fields.key.iter().find(|part| part.column == owned.column);
        let sent = || self.fields.changes.get(owned.column).or_else(|| self.fields.aside.get(owned.column));
        let text = match in_key {
            Some(part) => Some(part.value.clone()),
            None => sent().and_then(|value| self.layout.key_text(owned.column, value)),
        };
        text.is_some() && text == self.layout.key_text(owned.column, &owned.value)
    }

    fn check_owner(&self, row: &Object) -> Result<(), Reason> {
        let Some(owned) = &self.owned else { return Ok(()) };
        let text = row.get(owned.column).and_then(|value| self.layout.key_text(owned.column, value));
        let holds = text.is_some() && text == self.layout.key_text(owned.column, &owned.value);
        if holds { Ok(()) } else { Err(Reason::Owner) }
    }

    /// `PUT` gives all columns: those of the row where no description names them.
    fn check_whole(&self, row: &Object) -> Result<(), Reason> {
        let is_whole = |(name, _): (&str, &RawValue)| self.is_exempt(name) || self.fields.has(name);
        if self.action == Action::Put && !row.iter().all(is_whole) {
            return Err(Reason::MissingColumn);
        }
        Ok(())
    }

    /// The row that the write is based on: as it is known, then as the caller's
    /// queued writes leave it. `None`: there is none.
    fn base(&self, standing: &Standing<'_>) -> Result<Option<Object>, Reason> {
        if self.action == Action::Insert {
            return match standing.known {
                Known::Row(_) => Err(Reason::RowExists),
                _ if standing.is_pending || !standing.queued.is_empty() => Err(Reason::RowPending),
                Known::Absent | Known::Unknown => Ok(None),
            };
        }
        let known = match standing.known {
            Known::Row(row) => Some(self.checked(row)?.clone()),
            Known::Absent => None,
            Known::Unknown => return Err(Reason::RowUnknown),
        };
        let row = match standing.queued {
            [] => known,
            queued => self.laid_over(known, queued)?,
        };
        if row.is_none() && self.action != Action::Upsert { Err(Reason::RowNotVisible) } else { Ok(row) }
    }

    /// A known row, if it has the key that the write names, spelt so.
    fn checked<'r>(&self, row: &'r Object) -> Result<&'r Object, Reason> {
        let has = |part: &KeyPart| {
            let value = row.get(&part.column);
            value
                .and_then(|value| self.layout.key_text(&part.column, value))
                .is_some_and(|text| text == part.value)
        };
        if self.key.iter().all(has) { Ok(row) } else { Err(Reason::RowKey) }
    }

    fn laid_over(&self, known: Option<Object>, queued: &[QueuedWrite<'_>]) -> Result<Option<Object>, Reason> {
        let kind = self.kind(known.as_ref())?;
        let mut row = known;
        for write in queued {
            if row.is_none() && write.creates {
                row = Some(self.key_values());
            }
            if let Some(row) = &mut row {
                write.changes.iter().for_each(|(name, value)| row.set(name, value.to_owned()));
                row.set(&self.policy.updated_at, text_value(&write.updated_at.text(kind)));
            }
        }
        Ok(row)
    }

    fn key_values(&self) -> Object {
        let mut row = Object::new();
        for part in &self.key {
            row.set(&part.column, self.layout.key_value(&part.column, &part.value));
        }
        row
    }

    /// The type of `updated_at`: as described, else as the row prints it.
    fn kind(&self, row: Option<&Object>) -> Result<TimestampKind, Reason> {
        match (self.timestamp, row) {
            (Some(kind), _) => Ok(kind),
            (None, Some(row)) => {
                row.get(&self.policy.updated_at).and_then(timestamp_kind).ok_or(Reason::UpdatedAtColumn)
            }
            (None, None) => Err(Reason::Schema),
        }
    }

    /// What the write changes in the end. What it may not change doesn't count
    /// if it is what the row has already, and then it isn't replayed either.
    fn changes(&self, row: Option<&Object>) -> Result<Object, Reason> {
        let mut changes = self.fields.changes.clone();
        let owner = self.owned.as_ref().map(|owned| owned.column);
        for (name, value) in self.fields.aside.iter() {
            let known = row.and_then(|row| row.get(name));
            match known {
                _ if owner == Some(name) => {
                    // That it is the caller's own is checked, in the row as well if there is one.
                    if row.is_none() {
                        changes.set(name, self.layout.canonical(name, value)?);
                    }
                }
                Some(known) if self.layout.same(name, known, value) => {}
                _ if self.is_computed(name) => return Err(Reason::Computed),
                _ => return Err(Reason::Columns),
            }
        }
        if row.is_none() && self.owned.as_ref().is_some_and(|owned| !self.fields.has(owned.column)) {
            return Err(Reason::Owner);
        }
        if changes.is_empty() && self.action != Action::Insert { Err(Reason::Empty) } else { Ok(changes) }
    }

    /// One microsecond later than the row, if it has a time.
    fn floor(&self, row: &Object, kind: TimestampKind) -> Result<Option<Micros>, Reason> {
        let value = row.get(&self.policy.updated_at).ok_or(Reason::UpdatedAtValue)?;
        let text: Option<String> = serde_json::from_str(value.get()).map_err(|_| Reason::UpdatedAtValue)?;
        let time = text.map(|text| Micros::parse(&text, kind).ok_or(Reason::UpdatedAtValue)).transpose()?;
        Ok(time.map(Micros::next))
    }

    /// The row to be answered, where one is asked for and all of it is known.
    fn returns(&self, base: Option<&Object>, changes: &Object) -> Result<Option<Returns>, Reason> {
        if self.wishes.returns != Some(Returning::Representation) {
            return Ok(None);
        }
        let key = self.key_values();
        let mut row = Object::new();
        for name in self.selected(base)? {
            let value =
                match (changes.get(name), base.and_then(|row| row.get(name)).or_else(|| key.get(name))) {
                    _ if self.is_computed(name) => None,
                    _ if name == self.policy.updated_at => Some(RawValue::NULL),
                    (Some(_), _) if !self.layout.prints_as_sent() => None,
                    (changed, known) => changed.or(known),
                };
            row.set(name, value.ok_or(Reason::Representation)?.to_owned());
        }
        Ok(Some(Returns { row, object: self.wishes.object }))
    }

    /// The names of the columns to be answered, in order.
    fn selected<'s>(&'s self, base: Option<&'s Object>) -> Result<Vec<&'s str>, Reason> {
        match (&self.selection, self.layout.table(), base) {
            (Selection::These(names), ..) => Ok(names.iter().map(String::as_str).collect()),
            (Selection::All, Some(table), row) => {
                let is_described = |(name, _): (&str, &RawValue)| table.column(name).is_some();
                if row.is_some_and(|row| !row.iter().all(is_described)) {
                    return Err(Reason::Representation);
                }
                Ok(table.order().iter().map(String::as_str).collect())
            }
            (Selection::All, None, Some(row)) => Ok(row.iter().map(|(name, _)| name).collect()),
            (Selection::All, None, None) => Err(Reason::Representation),
        }
    }

    fn types(&self, changes: &Object) -> BTreeMap<String, String> {
        let Some(table) = self.layout.table() else { return BTreeMap::new() };
        let key = self.key.iter().map(|part| part.column.as_str());
        let names = key.chain(changes.iter().map(|(name, _)| name));
        names.filter_map(|name| Some((name.to_owned(), table.column(name)?.format.clone()))).collect()
    }

    /// Only an insert resolves duplicates; elsewhere PostgREST passes that over.
    fn preference_applied(&self) -> Option<&'static str> {
        match (self.action == Action::Upsert, self.wishes.returns) {
            (true, None) => Some("resolution=merge-duplicates"),
            (true, Some(Returning::Minimal)) => Some("resolution=merge-duplicates, return=minimal"),
            (true, Some(Returning::Representation)) => {
                Some("resolution=merge-duplicates, return=representation")
            }
            (false, Some(Returning::Minimal)) => Some("return=minimal"),
            (false, Some(Returning::Representation)) => Some("return=representation"),
            (false, None) => None,
        }
    }
}
