//! Which queued writes a forwarded request waits for: those accepted before it
//! that it could overtake.

use std::collections::BTreeSet;

use http::Method;

use crate::postgrest::schema::Schemas;
use crate::request::Target;
use crate::route::OnWait;
use crate::store::journal::{CallerId, Pending, RowId, Seq, TableId};
use crate::tag::{Relation, Tag};

/// A request that is about to be forwarded.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    /// The method.
    pub method: &'a Method,
    /// The resource that its path names; `None` where the path has several readings.
    pub target: Option<&'a Target>,
    /// The tags that it may move, as its invalidation has them.
    pub touched: &'a [Tag],
    /// The `writes` of its route, if that states any.
    pub writes: Option<&'a [Relation]>,
    /// The `depends_on` of its route, if that states any.
    pub depends_on: Option<&'a [Relation]>,
    /// What is known of upstream's schemas.
    pub schemas: &'a Schemas,
    /// Who sends it, where that is somebody who may have queued writes.
    pub caller: Option<CallerId>,
}

/// A column of a primary key and its canonical value.
pub type KeyPair = (String, String);

/// What the journal calls tables and rows.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// A table's name.
    pub table: &'a dyn Fn(&Relation) -> TableId,
    /// A row's name, by its canonical key in the order of the table's.
    pub row: &'a dyn Fn(&Relation, &[KeyPair]) -> RowId,
}

/// The queued writes that a request could overtake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Barrier {
    /// Everybody's writes to these rows.
    pub rows: Vec<RowId>,
    /// Everybody's writes to these tables.
    pub tables: Vec<TableId>,
    /// All writes of this caller.
    pub whole_caller: Option<CallerId>,
    /// The inserts of this caller, wherever: what is written may refer to them.
    pub inserts_of: Option<CallerId>,
    /// Whose request it is.
    pub caller: Option<CallerId>,
}

impl Barrier {
    /// What `request` waits for; nothing if it only reads.
    pub fn of(request: &Forwarded<'_>, names: Names<'_>) -> Self {
        let caller = request.caller;
        let mut barrier = Self { caller, ..Self::default() };
        if matches!(*request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return barrier;
        }
        let stated = match request.target {
            Some(Target::Table(relation)) => {
                barrier.inserts_of = caller;
                barrier.add_table(relation, request, names)
            }
            Some(Target::Storage | Target::Other) => Some(request.writes.unwrap_or_default()),
            Some(Target::Function(_) | Target::Rest | Target::GraphQl) | None => request.writes,
        };
        match stated {
            Some([]) => {}
            Some(relations) => {
                barrier.tables.extend(relations.iter().map(names.table));
                barrier.inserts_of = caller;
            }
            None => (barrier.whole_caller, barrier.inserts_of) = (caller, caller),
        }
        barrier
    }

    /// Adds a table that is written to, and returns the others that are; `None`
    /// where these may be any, behind a view that states none.
    fn add_table<'a>(
        &mut self,
        relation: &Relation,
        request: &Forwarded<'a>,
        names: Names<'_>,
    ) -> Option<&'a [Relation]> {
        let schema = request.schemas.get(&relation.schema);
        let is_table =
            schema.and_then(|schema| schema.table(&relation.name)).is_some_and(|table| !table.may_be_view());
        let whole = Tag::Table(relation.clone());
        if !is_table || request.touched.iter().any(|tag| *tag == whole || *tag == Tag::All) {
            self.tables.push((names.table)(relation));
        } else {
            self.rows.extend(request.touched.iter().filter_map(|tag| match tag {
                Tag::Row(of, key) if of == relation => Some((names.row)(relation, key)),
                _ => None,
            }));
        }
        if is_table {
            Some(request.writes.unwrap_or_default())
        } else {
            request.writes.or(request.depends_on)
        }
    }

    /// Whether it never holds anything.
    pub fn is_empty(&self) -> bool {
        let anywhere = self.whole_caller.or(self.inserts_of);
        self.rows.is_empty() && self.tables.is_empty() && anywhere.is_none()
    }

    /// Whether the request could overtake a write that was accepted before it.
    pub fn blocks(&self, write: &Pending) -> bool {
        self.rows.contains(&write.row)
            || self.tables.contains(&write.table)
            || self.whole_caller == Some(write.caller)
            || (write.is_insert && self.inserts_of == Some(write.caller))
    }

    /// What of `queued` holds the request, which has just come: what is
    /// accepted from now on doesn't.
    pub fn hold<'a>(&self, queued: impl IntoIterator<Item = &'a Pending>) -> Hold {
        let blocking = queued.into_iter().filter(|write| self.blocks(write));
        Hold { seqs: blocking.map(|write| write.seq).collect(), caller: self.caller }
    }
}

/// The queued writes that hold one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    seqs: BTreeSet<Seq>,
    caller: Option<CallerId>,
}

/// How things stand with a request that queued writes hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing holds it any longer.
    Clear,
    /// These do, and may soon have ended.
    WaitFor(Blocking),
    /// Writes of its own sender do that will not end soon: it is time for `on_wait`.
    OnWaitNow(Blocking),
}

/// Writes that are waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocking {
    /// Which, in the order of acceptance.
    pub seqs: BTreeSet<Seq>,
    /// The tables that they are to.
    pub tables: BTreeSet<TableId>,
}

impl Hold {
    /// The writes that hold the request, whether they are still queued or not.
    pub fn seqs(&self) -> &BTreeSet<Seq> {
        &self.seqs
    }

    /// How things stand, `queued` being what is queued now. To be asked
    /// whenever that changes: others' lanes that are stuck are passed over, but
    /// they may go on.
    pub fn judge<'a>(&self, queued: impl IntoIterator<Item = &'a Pending>) -> Judgement {
        let mut blocking = Blocking::default();
        let mut is_stuck = false;
        for write in queued.into_iter().filter(|write| self.seqs.contains(&write.seq)) {
            let is_own = self.caller == Some(write.caller);
            if write.lane_is_stuck && !is_own {
                continue;
            }
            is_stuck |= write.lane_is_stuck;
            blocking.seqs.insert(write.seq);
            blocking.tables.insert(write.table);
        }
        match (blocking.seqs.is_empty(), is_stuck) {
            (true, _) => Judgement::Clear,
            (false, false) => Judgement::WaitFor(blocking),
            (false, true) => Judgement::OnWaitNow(blocking),
        }
    }
}

impl Blocking {
    /// What becomes of the request if it waits no longer. `of` tells what the
    /// routes of a table say, `None` where they differ or none defers any more.
    pub fn on_wait(&self, of: impl Fn(TableId) -> Option<OnWait>) -> OnWait {
        let forwards = |table: &TableId| of(*table) == Some(OnWait::Forward);
        if self.tables.iter().all(forwards) { OnWait::Forward } else { OnWait::Reject }
    }
}

#[cfg(test)]
mod tests;
