//! What PostgREST says about a schema in its OpenAPI 2.0 description: tables,
//! columns, keys, and which table refers to which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::object::Members;
use super::row::KeyType;
use super::value::ColumnType;

/// One schema's tables, views and functions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    tables: BTreeMap<String, Table>,
    functions: BTreeSet<String>,
    /// Table -> the tables with a foreign key to it.
    referencing: BTreeMap<String, BTreeSet<String>>,
}

/// A table or a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    columns: BTreeMap<String, Column>,
    order: Vec<String>,
    key: Vec<String>,
}

/// A column of a table or a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The SQL type, `character varying` for instance.
    pub format: String,
    /// How its values are spelt canonically; `None` where that isn't known here.
    pub key_type: Option<KeyType>,
    /// Which values it takes, as far as the description tells.
    pub column_type: ColumnType,
    /// Whether it is declared `not null`.
    pub required: bool,
    /// Whether the description tells of a default. There may be one without:
    /// those of identities, sequences, generated columns and views and some
    /// others stand in no description.
    pub has_default: bool,
    /// The columns that its foreign keys refer to. PostgREST tells of one
    /// single-column key at most, inside the same schema.
    pub references: Vec<Reference>,
}

/// The column that a foreign key refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The table, in the same schema.
    pub table: String,
    /// The column in it.
    pub column: String,
}

/// The tables that a row's deletion, or another value of its key, may reach
/// through foreign keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependents<'a> {
    /// All that the description tells of, transitively.
    pub tables: BTreeSet<&'a str>,
    /// `false` where there may be more: foreign keys to a composite key stand
    /// in no description.
    pub complete: bool,
}

/// Why a description was not understood.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It is not JSON, or not of the expected shape.
    #[error("The schema's description is not an OpenAPI document: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is another version of OpenAPI.
    #[error("The schema's description is OpenAPI {0:?}, but PostgREST's is \"2.0\"")]
    Version(String),
}

#[derive(Deserialize)]
struct Document {
    swagger: String,
    definitions: BTreeMap<String, Definition>,
    paths: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct Definition {
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    properties: Members<Property>,
}

#[derive(Deserialize)]
struct Property {
    #[serde(default)]
    format: String,
    #[serde(default)]
    description: String,
    #[serde(rename = "maxLength")]
    max_length: Option<usize>,
    #[serde(rename = "enum")]
    variants: Option<Vec<String>>,
    #[serde(default, rename = "default", deserialize_with = "is_present")]
    has_default: bool,
}

/// Reads any value, `null` too.
fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl Schema {
    /// Reads PostgREST's answer to `GET /`.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] where it is no such description.
    pub fn from_openapi(json: &[u8]) -> Result<Self, SchemaError> {
        let document: Document = serde_json::from_slice(json)?;
        if document.swagger != "2.0" {
            return Err(SchemaError::Version(document.swagger));
        }
        let functions = document.paths.into_keys();
        let functions = functions.filter_map(|path| path.strip_prefix("/rpc/").map(str::to_owned)).collect();
        let tables = document.definitions.into_iter();
        let tables: BTreeMap<_, _> = tables.map(|(name, definition)| (name, table(definition))).collect();
        let mut referencing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, table) in &tables {
            for reference in table.columns.values().flat_map(|column| &column.references) {
                referencing.entry(reference.table.clone()).or_default().insert(name.clone());
            }
        }
        Ok(Self { tables, functions, referencing })
    }

    /// A table or a view by its name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// All tables and views, by name.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &Table)> {
        self.tables.iter().map(|(name, table)| (name.as_str(), table))
    }

    /// The functions that can be called, by name.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().map(String::as_str)
    }

    /// The foreign key columns by which two relations are joined directly, in
    /// either direction.
    pub fn joins(&self, one: &str, other: &str) -> Vec<&str> {
        let mut columns = self.references(one, other);
        if one != other {
            columns.extend(self.references(other, one));
        }
        columns
    }

    fn references(&self, from: &str, to: &str) -> Vec<&str> {
        let columns = self.tables.get(from).into_iter().flat_map(|table| &table.columns);
        columns
            .flat_map(|(name, column)| column.references.iter().map(move |reference| (name, reference)))
            .filter(|(_, reference)| reference.table == to)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Whether a foreign key refers to this column.
    pub fn is_referenced(&self, table: &str, column: &str) -> bool {
        self.referencing.get(table).into_iter().flatten().any(|from| {
            self.tables.get(from).is_some_and(|from| {
                let mut references = from.columns.values().flat_map(|column| &column.references);
                references.any(|reference| reference.table == table && reference.column == column)
            })
        })
    }

    /// The tables that refer to `table`, directly or through others.
    pub fn dependents(&self, table: &str) -> Dependents<'_> {
        let mut dependents = Dependents { tables: BTreeSet::new(), complete: true };
        let mut pending = vec![table];
        while let Some(name) = pending.pop() {
            dependents.complete &= self.tables.get(name).is_some_and(|table| !table.has_composite_key());
            for from in self.referencing.get(name).into_iter().flatten() {
                if dependents.tables.insert(from) {
                    pending.push(from);
                }
            }
        }
        dependents
    }
}

impl Table {
    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }

    /// All columns, by name.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Column)> {
        self.columns.iter().map(|(name, column)| (name.as_str(), column))
    }

    /// The names of all columns, in the table's order.
    pub fn order(&self) -> &[String] {
        &self.order
    }

    /// The primary key's columns, by name; empty without a key.
    pub fn key(&self) -> &[String] {
        &self.key
    }

    /// Whether this is no table with a primary key of its own. Views show the
    /// key of the table that they read, but none of their columns is `not null`.
    pub fn may_be_view(&self) -> bool {
        self.key.is_empty()
            || !self.key.iter().all(|name| self.column(name).is_some_and(|column| column.required))
    }

    /// Nothing refers to a view, whatever its columns say.
    fn has_composite_key(&self) -> bool {
        self.key.len() > 1 && !self.may_be_view()
    }
}

fn table(definition: Definition) -> Table {
    let required: BTreeSet<String> = definition.required.into_iter().collect();
    let mut columns = BTreeMap::new();
    let mut order = Vec::new();
    let mut key = BTreeSet::new();
    for (name, property) in definition.properties.0 {
        let Property { format, max_length, .. } = property;
        let notes = notes(&property.description);
        if notes.lines().any(|line| line.ends_with("<pk/>")) {
            key.insert(name.clone());
        }
        let column = Column {
            key_type: KeyType::declared(&format, max_length),
            column_type: ColumnType::declared(&format, max_length, property.variants.as_deref()),
            required: required.contains(&name),
            has_default: property.has_default,
            references: notes.lines().filter_map(reference).collect(),
            format,
        };
        if columns.insert(name.clone(), column).is_none() {
            order.push(name);
        }
    }
    Table { columns, order, key: key.into_iter().collect() }
}

/// What PostgREST itself says at the end of a column's description; the
/// column's comment, which may hold anything, comes before.
fn notes(description: &str) -> &str {
    const HEADING: &str = "Note:\n";
    description.rfind(HEADING).map_or("", |at| &description[at + HEADING.len()..])
}

/// The target in `… <fk table='teams' column='id'/>`. Names are not escaped.
fn reference(line: &str) -> Option<Reference> {
    let (_, attributes) = line.split_once("<fk table='")?;
    let (table, column) = attributes.strip_suffix("'/>")?.rsplit_once("' column='")?;
    Some(Reference { table: table.to_owned(), column: column.to_owned() })
}

/// The schemas that are known, by name. Cloning shares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schemas(Arc<BTreeMap<String, Schema>>);

impl Schemas {
    /// A schema's description; `None` while it is unknown.
    pub fn get(&self, schema: &str) -> Option<&Schema> {
        self.0.get(schema)
    }

    /// The names of the known schemas.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl FromIterator<(String, Schema)> for Schemas {
    fn from_iter<I: IntoIterator<Item = (String, Schema)>>(schemas: I) -> Self {
        Self(Arc::new(schemas.into_iter().collect()))
    }
}

#[cfg(test)]
pub(in crate::postgrest) mod tests;
