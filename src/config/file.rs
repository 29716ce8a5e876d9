//! TOML as written: a tree in which every key and value knows where it stands.
//!
//! The tree is read by [`super::section::Section`] rather than by serde: wrong
//! types and unknown keys are then found all at once, and no message quotes a
//! value, which may have come from `${…}`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::context::Context;
use super::diagnostic::{ConfigError, Problem};
use super::value::reason;

/// One file.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// Where a key or a value stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) source: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

pub(super) struct Item {
    pub(super) place: Place,
    pub(super) node: Node,
}

pub(super) enum Node {
    String(String),
    /// `None`: not within 64 bits.
    Integer(Option<i64>),
    Float(f64),
    Boolean(bool),
    Datetime,
    Array(Vec<Item>),
    Table(Table),
}

/// A table, its entries by key.
#[derive(Default)]
pub(super) struct Table(pub(super) BTreeMap<String, Entry>);

pub(super) struct Entry {
    pub(super) key: Place,
    pub(super) item: Item,
}

impl Node {
    /// The type with its article, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Node::String(_) => "a string",
            Node::Integer(_) => "an integer",
            Node::Float(_) => "a float",
            Node::Boolean(_) => "a boolean",
            Node::Datetime => "a date or a time",
            Node::Array(_) => "a list",
            Node::Table(_) => "a table",
        }
    }
}

/// No configuration is larger, in bytes; nor are there more files in a folder.
const MAX_FILE: u64 = 4 << 20;
const MAX_FILES: usize = 1000;

impl Source {
    pub(super) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    fn open(path: &Path) -> Result<Self, ConfigError> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
        read.map_err(|error| unreadable(path, &error))?;
        if text.len() as u64 > MAX_FILE {
            return Err(failure(format!("{} is larger than 4 MiB", path.display()), "check the path"));
        }
        Ok(Self::new(path.display().to_string(), text))
    }
}

/// Reads a file, or all `*.toml` of a folder in the order of their names.
pub(super) fn read(path: &Path) -> Result<Vec<Source>, ConfigError> {
    if !path.is_dir() {
        return Ok(vec![Source::open(path)?]);
    }
    let files = toml_files(path).map_err(|error| unreadable(path, &error))?;
    if files.is_empty() {
        let message = format!("{} has no file whose name ends in .toml", path.display());
        return Err(failure(message, "give a file, or a folder with such files"));
    }
    files.iter().map(|file| Source::open(file)).collect()
}

/// Names that begin with a dot are left out: editors and Kubernetes keep copies under such names.
fn toml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(MAX_FILES) {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    let message = format!("{} can't be read: {}", path.display(), reason(error));
    failure(message, "check the path, and that the user that Sluice runs as may read it")
}

fn failure(message: String, remedy: &str) -> ConfigError {
    ConfigError::new(vec![Problem::new(message, Some(remedy.into()), None)])
}

/// Parses all sources and joins them. `None` where one isn't TOML.
pub(super) fn parse(context: &Context<'_>) -> Option<Table> {
    let mut joined = Table::default();
    let mut well_formed = true;
    for (index, source) in context.sources().iter().enumerate() {
        let (tree, errors) = DeTable::parse_recoverable(&source.text);
        well_formed &= errors.is_empty();
        for error in &errors {
            let place = place(index, error.span().unwrap_or(0..0));
            context.problem(&place, format!("not TOML: {}", error.message()), None);
        }
        if errors.is_empty() {
            join(&mut joined, table(index, tree.into_inner()), context);
        }
    }
    if !well_formed {
        context.mask_by_line();
        return None;
    }
    Some(joined)
}

fn place(source: usize, span: Range<usize>) -> Place {
    Place { source, start: span.start, end: span.end }
}

fn table(source: usize, table: DeTable<'_>) -> Table {
    let entry = |(key, value): (Spanned<_>, _)| {
        let key_place = place(source, key.span());
        let name: std::borrow::Cow<'_, str> = key.into_inner();
        (name.into_owned(), Entry { key: key_place, item: item(source, value) })
    };
    Table(table.into_iter().map(entry).collect())
}

/// As deep as the parser lets values nest, which is 80 levels.
fn item(source: usize, value: Spanned<DeValue<'_>>) -> Item {
    let place = place(source, value.span());
    let node = match value.into_inner() {
        DeValue::String(text) => Node::String(text.into_owned()),
        DeValue::Integer(number) => Node::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(number) => Node::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Node::Boolean(value),
        DeValue::Datetime(_) => Node::Datetime,
        DeValue::Array(items) => Node::Array(items.into_iter().map(|value| item(source, value)).collect()),
        DeValue::Table(entries) => Node::Table(table(source, entries)),
    };
    Item { place, node }
}

/// Adds a file to those before it: sections may be split across files, and
/// arrays of tables are appended.
fn join(joined: &mut Table, file: Table, context: &Context<'_>) {
    for (name, entry) in file.0 {
        let Some(earlier) = joined.0.get_mut(&name) else {
            joined.0.insert(name, entry);
            continue;
        };
        match (&mut earlier.item.node, entry.item.node) {
            (Node::Table(earlier), Node::Table(later)) => {
                for (key, entry) in later.0 {
                    if let Some(first) = earlier.0.get(&key) {
                        twice(&format!("{name}.{key}"), &entry, &first.key, context);
                    } else {
                        earlier.0.insert(key, entry);
                    }
                }
            }
            (Node::Array(earlier), Node::Array(later)) if is_tables(earlier) && is_tables(&later) => {
                earlier.extend(later);
            }
            (_, node) => {
                let entry = Entry { key: entry.key, item: Item { place: entry.item.place, node } };
                twice(&name, &entry, &earlier.key, context);
            }
        }
    }
}

fn is_tables(items: &[Item]) -> bool {
    items.iter().all(|item| matches!(item.node, Node::Table(_)))
}

fn twice(name: &str, entry: &Entry, first: &Place, context: &Context<'_>) {
    let message = format!("`{name}` is given twice, the first time at {}", context.position(first));
    context.mask(&entry.item);
    context.problem(&entry.key, message, Some("remove one of them".into()));
}
