//! What is gathered while a configuration is read: problems, and the parts of
//! the text that no problem may show.

use std::cell::RefCell;
use std::sync::Arc;

use miette::NamedSource;

use super::diagnostic::{ConfigError, Location, Problem, line_and_column};
use super::file::{Item, Node, Place, Source};
use super::value::Environment;

/// Problems beyond these are left out.
const MAX_PROBLEMS: usize = 100;

pub(super) struct Context<'a> {
    sources: Vec<Source>,
    environment: &'a dyn Environment,
    found: RefCell<Vec<Found>>,
    masked: RefCell<Vec<Place>>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    place: Option<Place>,
    message: String,
    remedy: Option<String>,
}

impl<'a> Context<'a> {
    pub(super) fn new(sources: Vec<Source>, environment: &'a dyn Environment) -> Self {
        Self { sources, environment, found: RefCell::default(), masked: RefCell::default() }
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(super) fn environment(&self) -> &dyn Environment {
        self.environment
    }

    /// Notes a problem at `place`.
    pub(super) fn problem(&self, place: &Place, message: String, remedy: Option<String>) {
        self.note(Found { place: Some(place.clone()), message, remedy });
    }

    /// Notes a problem that is in no file.
    pub(super) fn problem_elsewhere(&self, message: String, remedy: String) {
        self.note(Found { place: None, message, remedy: Some(remedy) });
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.found.borrow().is_empty()
    }

    fn note(&self, found: Found) {
        self.found.borrow_mut().push(found);
    }

    /// `file:line:column` of a place.
    pub(super) fn position(&self, place: &Place) -> String {
        let source = &self.sources[place.source];
        let (line, column) = line_and_column(&source.text, place.start);
        format!("{}:{line}:{column}", source.name)
    }

    /// Keeps the strings of a value from being shown.
    pub(super) fn mask(&self, item: &Item) {
        match &item.node {
            Node::Array(items) => items.iter().for_each(|item| self.mask(item)),
            Node::Table(table) => table.0.values().for_each(|entry| self.mask(&entry.item)),
            _ => self.masked.borrow_mut().push(item.place.clone()),
        }
    }

    /// Keeps from being shown what looks like a secret, where the text is no
    /// TOML and nobody can tell.
    pub(super) fn mask_by_line(&self) {
        for (index, source) in self.sources.iter().enumerate() {
            let mut start = 0;
            for line in source.text.split_inclusive('\n') {
                let end = start + line.trim_end().len();
                if let Some(at) = suspicious_part(line) {
                    let place = Place { source: index, start: start + at, end: end.max(start + at) };
                    self.masked.borrow_mut().push(place);
                }
                start += line.len();
            }
        }
    }

    /// The problems in the order of the text.
    pub(super) fn into_error(self) -> ConfigError {
        let mut found = self.found.into_inner();
        found.sort();
        found.dedup();
        found.truncate(MAX_PROBLEMS);
        let sources = shown(self.sources, &self.masked.into_inner());
        let problem = |found: Found| {
            let location = found.place.map(|place| Location {
                source: Arc::clone(&sources[place.source]),
                span: (place.start, place.end.saturating_sub(place.start)).into(),
            });
            Problem::new(found.message, found.remedy, location)
        };
        ConfigError::new(found.into_iter().map(problem).collect())
    }
}

/// The texts with what is masked replaced by as many asterisks as it has bytes.
fn shown(sources: Vec<Source>, masked: &[Place]) -> Vec<Arc<NamedSource<String>>> {
    let mask = |(index, source): (usize, Source)| {
        let mut bytes = source.text.into_bytes();
        for place in masked.iter().filter(|place| place.source == index) {
            for byte in bytes.get_mut(place.start..place.end).unwrap_or_default() {
                if *byte != b'\n' {
                    *byte = b'*';
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Arc::new(NamedSource::new(source.name, text).with_language("toml"))
    };
    sources.into_iter().enumerate().map(mask).collect()
}

/// Where the part of a line begins that may hold a secret: the value of a key
/// whose name says so or which has an `@`, as URLs with passwords do, or a
/// line without a key, which may be part of a list.
fn suspicious_part(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let Some(equals) = lower.find('=') else {
        return line.find(['"', '\'']);
    };
    let named = ["secret", "token", "password", "key"].iter().any(|word| lower[..equals].contains(word));
    (named || lower.contains('@')).then_some(equals + 1)
}
