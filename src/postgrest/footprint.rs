//! Which tables and rows a request reads or changes, as tags.
//!
//! A read of `/rest/v1/` carries [`Tag::All`], [`Tag::Every`] and, for each
//! table it reads, [`Tag::Table`] and either [`Tag::List`] or [`Tag::Row`]. A
//! write whose rows are known moves their rows and the table's list; any other
//! write moves the table, which every answer about it carries.

mod body;
mod read;
mod write;

use std::collections::BTreeSet;

use http::{HeaderMap, Method};

use super::query::Query;
use super::select::SelectError;
use crate::request::Target;
use crate::tag::{Relation, Tag};

pub use read::read_tags;
pub use write::write_tags;

/// The tags of a read, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadTags {
    /// What every answer carries.
    pub tags: Vec<Tag>,
    /// What an answer without rows carries besides: any insert may fill it.
    pub if_empty: Vec<Tag>,
}

/// Why a read's tables can't be told. It is forwarded and not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FootprintError {
    /// Its `select` was not understood.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// It is a GraphQL query, and its route names no tables.
    #[error("The tables that a GraphQL query reads are not known: name them in the route's depends_on")]
    UnknownTables,
}

/// What is known of a write.
#[derive(Debug, Clone, Copy)]
pub struct WriteShape<'a> {
    /// The method.
    pub method: &'a Method,
    /// The resource that its path names.
    pub target: &'a Target,
    /// Its query.
    pub query: &'a Query,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: WriteBody<'a>,
}

/// A write's body, as far as it was looked at.
#[derive(Debug, Clone, Copy)]
pub enum WriteBody<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Too large, or not seen.
    Unknown,
}

/// Tags being collected.
#[derive(Debug, Default)]
struct Tags(BTreeSet<Tag>);

impl Tags {
    fn add(&mut self, tag: Tag) {
        self.0.insert(tag);
    }

    /// What every answer about `relation` carries that is not one row's alone.
    fn add_list(&mut self, relation: Relation) {
        self.add(Tag::List(relation.clone()));
        self.add(Tag::Table(relation));
    }

    /// A change of anything in `relation`.
    fn add_table(&mut self, relation: Relation) {
        self.add(Tag::Schema(relation.schema.clone()));
        self.add(Tag::Table(relation));
    }

    fn into_sorted(self) -> Vec<Tag> {
        self.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
