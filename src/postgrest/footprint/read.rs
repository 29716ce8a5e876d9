//! The tags of a read.

use super::{FootprintError, ReadTags, Tags};
use crate::postgrest::filter::named_row;
use crate::postgrest::query::Query;
use crate::postgrest::schema::{Schema, Schemas, Table};
use crate::postgrest::select::{Embedding, Item, Select, SelectError};
use crate::request::Target;
use crate::tag::{Relation, Tag};

/// The tags of a read. `depends_on` is the route's, if it states any: the
/// tables of such a route are those in the path and in `select`, and these.
/// Without it, what is not certainly a table's carries [`Tag::Schema`].
///
/// # Errors
///
/// [`FootprintError`] where the tables can't be told; such a read must not be
/// answered from the cache.
pub fn read_tags(
    target: &Target,
    query: &Query,
    schemas: &Schemas,
    depends_on: Option<&[Relation]>,
) -> Result<ReadTags, FootprintError> {
    let mut tags = Tags::default();
    let mut if_empty = Tags::default();
    tags.add(Tag::All);
    for relation in depends_on.unwrap_or_default() {
        tags.add(Tag::Every);
        tags.add_list(relation.clone());
    }
    match target {
        Target::Table(relation) => {
            tags.add(Tag::Every);
            table_tags(relation, query, schemas, depends_on.is_some(), &mut tags, &mut if_empty)?;
        }
        // What a function reads is nobody's business: its tables are unknown.
        Target::Function(function) => {
            tags.add(Tag::Every);
            let mut walk =
                Walk { schema_name: &function.schema, schema: None, tags: &mut tags, seen: Seen::default() };
            walk.items(&selected(query)?, None, true);
            if depends_on.is_none() {
                tags.add(Tag::Schema(function.schema.clone()));
            }
        }
        Target::GraphQl if depends_on.is_none() => return Err(FootprintError::UnknownTables),
        Target::Rest | Target::GraphQl => tags.add(Tag::Every),
        Target::Storage | Target::Other => (),
    }
    Ok(ReadTags { tags: tags.into_sorted(), if_empty: if_empty.into_sorted() })
}

fn table_tags(
    relation: &Relation,
    query: &Query,
    schemas: &Schemas,
    trusted: bool,
    tags: &mut Tags,
    if_empty: &mut Tags,
) -> Result<(), FootprintError> {
    let schema = schemas.get(&relation.schema);
    let table = schema.and_then(|schema| schema.table(&relation.name)).filter(|table| !table.may_be_view());
    let parent = table.map(|table| (relation.name.as_str(), table));
    let mut walk = Walk { schema_name: &relation.schema, schema, tags, seen: Seen::default() };
    walk.items(&selected(query)?, parent, true);
    let seen = walk.seen;
    // A view's tables are unknown, and so are a computed column's.
    if (table.is_none() || seen.unknown) && !trusted {
        tags.add(Tag::Schema(relation.schema.clone()));
    }
    // An aggregate has an answer where there is no row, so it is no point read.
    match table.filter(|_| !seen.aggregate).and_then(|table| named_row(table, query)) {
        Some(row) => {
            tags.add(Tag::Table(relation.clone()));
            tags.add(Tag::Row(relation.clone(), row));
            if_empty.add(Tag::List(relation.clone()));
        }
        None => tags.add_list(relation.clone()),
    }
    Ok(())
}

/// The items of all `select` parameters: PostgREST obeys one of them.
fn selected(query: &Query) -> Result<Vec<Item>, SelectError> {
    let mut items = Vec::new();
    for text in query.all("select") {
        items.extend(Select::parse(text)?.items);
    }
    Ok(items)
}

/// What turned up in a `select`.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Something that may read tables which aren't known.
    unknown: bool,
    /// Something that may answer with a row where the filters find none.
    aggregate: bool,
}

struct Walk<'a> {
    schema_name: &'a str,
    schema: Option<&'a Schema>,
    tags: &'a mut Tags,
    seen: Seen,
}

impl<'a> Walk<'a> {
    /// `parent` is the table that the items are of, where that is certain;
    /// `outermost` says that they end up in the answer's own rows. The parser
    /// limits the depth.
    fn items(&mut self, items: &[Item], parent: Option<(&str, &'a Table)>, outermost: bool) {
        for item in items {
            match item {
                Item::Star => (),
                // A name that is no column is a function of the row, `count` even.
                Item::Column(column) => {
                    if parent.is_none_or(|(_, table)| table.column(&column.name).is_none()) {
                        self.seen.unknown = true;
                        self.seen.aggregate |= outermost;
                    }
                }
                Item::Aggregate(aggregate) => {
                    self.seen.aggregate |= outermost;
                    if let Some(column) = &aggregate.column {
                        let known = parent.is_some_and(|(_, table)| table.column(&column.name).is_some());
                        self.seen.unknown |= !known;
                    }
                }
                Item::Embedding(embedding) => {
                    self.tags.add_list(Relation::new(self.schema_name, &embedding.name));
                    let table = parent.and_then(|(name, _)| self.embedded_table(name, embedding));
                    self.seen.unknown |= table.is_none();
                    let embedded = table.map(|table| (embedding.name.as_str(), table));
                    // The aggregates of a spread resource are its parent's.
                    self.items(&embedding.items, embedded, outermost && embedding.spread);
                }
            }
        }
    }

    /// The embedded table, if its name is a table's and one direct foreign key
    /// joins it with the parent: the only one, or the one whose column the hint
    /// names. A junction, a constraint, a computed relationship or a view may
    /// read other tables.
    fn embedded_table(&self, parent: &str, embedding: &Embedding) -> Option<&'a Table> {
        let schema = self.schema?;
        let table = schema.table(&embedding.name).filter(|table| !table.may_be_view())?;
        let joins = schema.joins(parent, &embedding.name);
        let fitting =
            joins.iter().filter(|column| embedding.hint.as_ref().is_none_or(|hint| hint == *column));
        (fitting.count() == 1).then_some(table)
    }
}
