//! Which columns of which tables a read uses, and for what.

use std::collections::BTreeSet;

use super::names::{self, OrderTerm, Subject};
use crate::postgrest::query::Query;
use crate::postgrest::schema::{Schema, Table};
use crate::postgrest::select::{Column, Embedding, Item, Select};
use crate::tag::Relation;

/// Parameters of a read that no column takes part in, `select` aside. The
/// gateway takes the API key away.
const WITHOUT_COLUMNS: [&str; 4] = ["select", "columns", "on_conflict", "apikey"];

/// A read's tables: its own, then the embedded ones.
pub(super) struct Shape<'a> {
    schema: &'a Schema,
    nodes: Vec<Node<'a>>,
}

/// A table and what is read of it.
pub(super) struct Node<'a> {
    /// Its name.
    pub relation: Relation,
    /// Its description.
    pub table: &'a Table,
    /// Where it is embedded.
    parent: Option<usize>,
    /// What parameters call it there.
    names: Vec<String>,
    /// Columns that decide which rows are answered, in which order, or what is
    /// made of them.
    used: BTreeSet<String>,
    /// Columns that are answered as they are.
    shown: Vec<Shown>,
    /// Whether all stored columns are answered.
    has_star: bool,
    /// Whether rows are grouped by what is selected.
    has_aggregate: bool,
}

/// A column of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// What the answer calls it.
    pub name: String,
    /// What the table calls it.
    pub column: String,
}

impl<'a> Shape<'a> {
    /// The shape of a read of `table`. `None` where some part of it isn't
    /// understood, or may read what is not known.
    pub(super) fn of(
        relation: &Relation,
        table: &'a Table,
        schema: &'a Schema,
        query: &Query,
    ) -> Option<Self> {
        let mut selects = query.all("select");
        let items = match (selects.next(), selects.next()) {
            (None, _) => Vec::new(),
            (Some(select), None) => Select::parse(select).ok()?.items,
            // PostgREST obeys one of them.
            (Some(_), Some(_)) => return None,
        };
        let mut shape = Self { schema, nodes: Vec::new() };
        shape.add_node(Node::new(relation.clone(), table, None), &items)?;
        if items.is_empty() {
            shape.node(0)?.has_star = true;
        }
        for (name, value) in query.pairs() {
            shape.add_parameter(name, value)?;
        }
        shape.nodes.iter_mut().for_each(Node::settle);
        Some(shape)
    }

    /// The tables, the read's own first. One may be there several times.
    pub(super) fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    fn node(&mut self, place: usize) -> Option<&mut Node<'a>> {
        self.nodes.get_mut(place)
    }

    /// Adds a table and what is embedded in it. The parser limits the depth.
    fn add_node(&mut self, node: Node<'a>, items: &[Item]) -> Option<usize> {
        let place = self.nodes.len();
        self.nodes.push(node);
        for item in items {
            match item {
                Item::Star => self.node(place)?.has_star = true,
                Item::Column(column) => self.node(place)?.show(column)?,
                Item::Aggregate(aggregate) => {
                    let node = self.node(place)?;
                    node.has_aggregate = true;
                    if let Some(column) = &aggregate.column {
                        node.use_column(&column.name)?;
                    }
                }
                Item::Embedding(embedding) => self.embed(place, embedding)?,
            }
        }
        Some(place)
    }

    /// A table that is embedded by the one foreign key which joins the two, or
    /// by the one that the hint names. Anything else may read other tables.
    fn embed(&mut self, parent: usize, embedding: &Embedding) -> Option<()> {
        let table = self.schema.table(&embedding.name).filter(|table| !table.may_be_view())?;
        let outer = self.node(parent)?.relation.clone();
        let joins = self.schema.joins(&outer.name, &embedding.name);
        let fits = |column: &&&str| embedding.hint.as_ref().is_none_or(|hint| hint == **column);
        if joins.iter().filter(fits).count() != 1 {
            return None;
        }
        let mut node = Node::new(Relation::new(&outer.schema, &embedding.name), table, Some(parent));
        node.names =
            [Some(&embedding.name), embedding.alias.as_ref()].into_iter().flatten().cloned().collect();
        let (inner_columns, outer_columns) =
            (self.join(&node.relation, &outer), self.join(&outer, &node.relation));
        node.used.extend(inner_columns);
        self.node(parent)?.used.extend(outer_columns);
        let place = self.add_node(node, &embedding.items)?;
        // What a spread resource aggregates is grouped by the outer row's columns.
        let groups = embedding.spread && self.node(place)?.has_aggregate;
        self.node(parent)?.has_aggregate |= groups;
        Some(())
    }

    /// The columns of `one` that take part in any join with `other`.
    fn join(&self, one: &Relation, other: &Relation) -> Vec<String> {
        let keys = |from: &Relation, to: &Relation| -> Vec<(String, String)> {
            let columns = self.schema.table(&from.name).into_iter().flat_map(Table::columns);
            let references = columns
                .flat_map(|(name, column)| column.references.iter().map(move |reference| (name, reference)));
            let between = references.filter(|(_, reference)| reference.table == to.name);
            between.map(|(name, reference)| (name.to_owned(), reference.column.clone())).collect()
        };
        let referring = keys(one, other).into_iter().map(|(column, _)| column);
        let referred = keys(other, one).into_iter().map(|(_, column)| column);
        referring.chain(referred).collect()
    }

    fn add_parameter(&mut self, name: &str, value: &str) -> Option<()> {
        if WITHOUT_COLUMNS.contains(&name) {
            return Some(());
        }
        let parameter = names::parameter(name)?;
        for place in self.places(&parameter.path)? {
            match parameter.subject {
                Subject::Window => {}
                Subject::Filter(column) if self.nodes.get(place)?.table.column(column).is_some() => {
                    self.node(place)?.use_column(column)?;
                }
                // Rows that have such an embedded row, or have none.
                Subject::Filter(embedded) => {
                    self.embedded(place, embedded).next()?;
                }
                Subject::Condition => {
                    for column in names::condition(value)? {
                        self.node(place)?.use_column(column)?;
                    }
                }
                Subject::Order => names::order(value)?.iter().try_for_each(|term| self.order(place, term))?,
            }
        }
        Some(())
    }

    fn order(&mut self, place: usize, term: &OrderTerm<'_>) -> Option<()> {
        let Some(embedded) = term.embedded else { return self.node(place)?.use_column(term.column) };
        let places: Vec<usize> = self.embedded(place, embedded).collect();
        if places.is_empty() {
            return None;
        }
        places.into_iter().try_for_each(|place| self.node(place)?.use_column(term.column))
    }

    /// The tables that a path leads to: several, where two are called the same.
    fn places(&self, path: &[&str]) -> Option<Vec<usize>> {
        let mut places = vec![0];
        for name in path {
            places = places.iter().flat_map(|place| self.embedded(*place, name)).collect();
        }
        (!places.is_empty()).then_some(places)
    }

    /// The resources of this name that are embedded in that of `place`.
    fn embedded(&self, place: usize, name: &str) -> impl Iterator<Item = usize> {
        let is_meant =
            move |node: &Node<'_>| node.parent == Some(place) && node.names.iter().any(|other| other == name);
        (0..).zip(&self.nodes).filter(move |(_, node)| is_meant(node)).map(|(place, _)| place)
    }
}

impl<'a> Node<'a> {
    fn new(relation: Relation, table: &'a Table, parent: Option<usize>) -> Self {
        Self {
            relation,
            table,
            parent,
            names: Vec::new(),
            used: BTreeSet::new(),
            shown: Vec::new(),
            has_star: false,
            has_aggregate: false,
        }
    }

    /// Whether a column's value matters in another way than by being shown.
    pub(super) fn uses(&self, column: &str) -> bool {
        self.used.contains(column)
    }

    /// Whether a column is in the answer.
    pub(super) fn shows(&self, column: &str) -> bool {
        self.shown_as(column).next().is_some()
    }

    /// What the answer calls a column.
    pub(super) fn shown_as(&self, column: &str) -> impl Iterator<Item = String> {
        let starred = self.has_star.then(|| column.to_owned());
        let named = self.shown.iter().filter(move |shown| shown.column == column);
        let named: Vec<String> = named.map(|shown| shown.name.clone()).collect();
        starred.into_iter().chain(named)
    }

    /// A name that is no column may be a function, which reads anything.
    fn use_column(&mut self, column: &str) -> Option<()> {
        self.table.column(column)?;
        self.used.insert(column.to_owned());
        Some(())
    }

    fn show(&mut self, column: &Column) -> Option<()> {
        match Shown::of(column) {
            Some(shown) => {
                self.table.column(&shown.column)?;
                self.shown.push(shown);
                Some(())
            }
            None => self.use_column(&column.name),
        }
    }

    /// What is grouped by is not merely shown.
    fn settle(&mut self) {
        if self.has_aggregate {
            self.used.extend(self.shown.drain(..).map(|shown| shown.column));
            if self.has_star {
                self.used.extend(self.table.columns().map(|(column, _)| column.to_owned()));
            }
        }
    }
}

impl Shown {
    /// `None` where something is made of the column.
    pub(super) fn of(column: &Column) -> Option<Self> {
        let is_plain = column.path.is_empty() && column.cast.is_none();
        is_plain.then(|| Self {
            name: column.alias.as_ref().unwrap_or(&column.name).clone(),
            column: column.name.clone(),
        })
    }
}
