//! What a caller's queued writes change in the answers that he reads.
//!
//! A queued write is visible to its writer alone, as if upstream had taken it
//! already. A read of one row by its whole key is made from that row and the
//! writes laid over it. Any other read is upstream's answer, corrected where
//! that is provably exact. What is not has to wait until the writes have ended.

mod list;
mod names;
mod point;
mod row;
mod shape;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, Method};

pub use self::list::List;
pub use self::point::{Point, PointAnswer, RowAnswer};
pub use self::row::merged;
use self::shape::{Node, Shape};
use crate::postgrest::footprint::read_tags;
use crate::postgrest::query::Query;
use crate::postgrest::schema::{Schema, Schemas, Table};
use crate::postgrest::timestamp::Micros;
use crate::request::Target;
use crate::route::WritePolicy;
use crate::store::journal::Seq;
use crate::tag::{Relation, Tag};
use crate::write::record::{Action, Base, Record};

/// A queued write of the caller who reads.
#[derive(Debug, Clone)]
pub struct PendingWrite {
    /// Its place in the order of acceptance.
    pub seq: Seq,
    /// What is to be replayed.
    pub record: Arc<Record>,
    /// The timestamp that it was given.
    pub updated_at: Micros,
}

/// A read, and what its correction rests on.
#[derive(Clone, Copy)]
pub struct ReadShape<'a> {
    /// The method: `GET`, `HEAD`, or a function's `POST`.
    pub method: &'a Method,
    /// The resource that its path names.
    pub target: &'a Target,
    /// Its query.
    pub query: &'a Query,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// What is known of upstream's schemas.
    pub schemas: &'a Schemas,
    /// The `depends_on` of the route that it matches, if that states any.
    pub depends_on: Option<&'a [Relation]>,
    /// How writes to a table are deferred; `None` where they no longer are.
    pub policy_of: &'a dyn Fn(&Relation) -> Option<Arc<WritePolicy>>,
    /// Whether a write was made with a token of the reader's `session` partition.
    pub same_session: &'a dyn Fn(&Record) -> bool,
}

/// What is to be done about the caller's queued writes.
#[derive(Debug)]
pub enum Correction {
    /// The answer is the same with them and without. A `HEAD` of a list may be
    /// one, although the validators of the list's `GET` are not the same.
    Nothing,
    /// The answer is made here, from one row.
    Point(Box<Point>),
    /// Upstream's answer is corrected.
    List(Box<List>),
    /// Nothing exact can be said before these have ended.
    Wait(Vec<Seq>),
}

/// What is to be done about `pending`, the caller's queued writes in the order
/// of their acceptance, where he reads `read`.
pub fn correction(read: &ReadShape<'_>, pending: &[PendingWrite]) -> Correction {
    if pending.is_empty() {
        return Correction::Nothing;
    }
    // Which tables such a read reads is unknown: any.
    let Ok(tags) = read_tags(read.target, read.query, read.schemas, read.depends_on) else {
        return wait(pending.iter());
    };
    let takes_part = |relation: &Relation| {
        tags.tags.iter().any(|tag| match tag {
            Tag::Table(table) => table == relation,
            Tag::Schema(schema) => *schema == relation.schema,
            _ => false,
        })
    };
    let pending: Vec<&PendingWrite> =
        pending.iter().filter(|write| takes_part(&write.record.relation)).collect();
    if pending.is_empty() {
        return Correction::Nothing;
    }
    let exact = Reading::of(read, &tags.tags, &pending).and_then(Reading::exact);
    exact.unwrap_or_else(|| wait(pending.iter().copied()))
}

fn wait<'a>(pending: impl Iterator<Item = &'a PendingWrite>) -> Correction {
    Correction::Wait(seqs(pending))
}

fn seqs<'a>(pending: impl Iterator<Item = &'a PendingWrite>) -> Vec<Seq> {
    pending.map(|write| write.seq).collect()
}

/// A read of a table all of whose tables are known.
struct Reading<'a> {
    read: &'a ReadShape<'a>,
    schema: &'a Schema,
    relation: &'a Relation,
    table: &'a Table,
    /// The one row that the filters name: by key column, in the key's order.
    named: Option<&'a [(String, String)]>,
    /// The writes that take part.
    pending: &'a [&'a PendingWrite],
}

impl<'a> Reading<'a> {
    /// `None` where a pending table is read in a way that is not known.
    fn of(read: &'a ReadShape<'a>, tags: &'a [Tag], pending: &'a [&'a PendingWrite]) -> Option<Self> {
        let Target::Table(relation) = read.target else { return None };
        if !matches!(*read.method, Method::GET | Method::HEAD) {
            return None;
        }
        let hidden = |of: &Relation| {
            let behind = read.depends_on.is_some_and(|tables| of != relation && tables.contains(of));
            behind || tags.contains(&Tag::Schema(of.schema.clone()))
        };
        if pending.iter().any(|write| hidden(&write.record.relation)) {
            return None;
        }
        let schema = read.schemas.get(&relation.schema)?;
        let table = schema.table(&relation.name).filter(|table| !table.may_be_view())?;
        let named = tags.iter().find_map(|tag| match tag {
            Tag::Row(of, key) if of == relation => Some(key.as_slice()),
            _ => None,
        });
        Some(Self { read, schema, relation, table, named, pending })
    }

    /// `None` where nothing exact can be said.
    fn exact(self) -> Option<Correction> {
        if let Some(point) = self.named.and_then(|key| Point::of(&self, key)) {
            return Some(Correction::Point(Box::new(point)));
        }
        let shape = Shape::of(self.relation, self.table, self.schema, self.read.query)?;
        let mut shows = false;
        for (place, node) in shape.nodes().iter().enumerate() {
            let named = self.named.filter(|_| place == 0);
            let writes = self.writes_to(&node.relation, node.table, named)?;
            match self.part_of(node, &writes)? {
                Part::None => {}
                // Embedded rows are not told apart here.
                Part::Shown if place > 0 => return None,
                Part::Shown => shows = true,
            }
        }
        if !shows || *self.read.method == Method::HEAD {
            return Some(Correction::Nothing);
        }
        let writes = self.writes_to(self.relation, self.table, self.named)?;
        let root = shape.nodes().first()?;
        List::of(&self, root, &writes).map(|list| Correction::List(Box::new(list)))
    }

    /// The writes to a table, or to one row of it. `None`: they go by another
    /// key than the table's.
    fn writes_to(
        &self,
        relation: &Relation,
        table: &Table,
        named: Option<&[(String, String)]>,
    ) -> Option<Vec<&'a PendingWrite>> {
        let mut writes = Vec::new();
        for write in self.pending.iter().filter(|write| write.record.relation == *relation) {
            let key = write.key_in(table)?;
            if named.is_none_or(|named| named.iter().map(|(_, value)| value.as_str()).eq(key)) {
                writes.push(*write);
            }
        }
        Some(writes)
    }

    /// What part `writes` have in what is read of one table.
    fn part_of(&self, node: &Node<'_>, writes: &[&PendingWrite]) -> Option<Part> {
        if writes.is_empty() {
            return Some(Part::None);
        }
        if writes.iter().any(|write| write.is_insert()) {
            return None;
        }
        let computed = self.computed(&node.relation)?;
        if computed.iter().any(|column| node.uses(column) || node.shows(column)) {
            return None;
        }
        let changed: BTreeSet<&str> = writes.iter().flat_map(|write| write.columns()).collect();
        if changed.iter().any(|column| node.uses(column)) {
            return None;
        }
        let is_shown = changed.iter().any(|column| node.shows(column));
        Some(if is_shown { Part::Shown } else { Part::None })
    }

    /// The columns that upstream makes from others. `None` where that isn't known any more.
    fn computed(&self, relation: &Relation) -> Option<Vec<String>> {
        (self.read.policy_of)(relation).map(|policy| policy.computed.clone())
    }
}

/// The part that a table's queued writes have in a read.
enum Part {
    /// None: the same with them and without.
    None,
    /// Their columns are in the answer, as they are, and matter in no other way.
    Shown,
}

impl PendingWrite {
    /// Whether it makes a row that isn't there.
    fn is_insert(&self) -> bool {
        self.record.action == Action::Insert || matches!(self.record.base, Base::Absent)
    }

    /// Whether its values are known to be as upstream will print them: their
    /// types were, when it was accepted.
    fn is_canonical(&self) -> bool {
        self.record.changes.iter().all(|(column, _)| self.record.types.contains_key(column))
    }

    /// The columns that it changes.
    fn columns(&self) -> impl Iterator<Item = &str> {
        let changes = self.record.changes.iter().map(|(column, _)| column);
        changes.chain([self.record.updated_at.column.as_str()])
    }

    /// The row's key in the order of the table's; `None` if it has other columns.
    fn key_in(&self, table: &Table) -> Option<Vec<&str>> {
        let parts = &self.record.key;
        if parts.len() != table.key().len() {
            return None;
        }
        let value = |column: &String| parts.iter().find(|part| part.column == *column);
        table.key().iter().map(|column| Some(value(column)?.value.as_str())).collect()
    }
}

#[cfg(test)]
mod tests;
