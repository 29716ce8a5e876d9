//! Reading a table key by key. The keys that are asked for are the ones that
//! exist; what is left over is unknown.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::context::Context;
use super::file::{Entry, Item, Node, Place, Table};
use super::spelling::nearest;
use super::value::{self, DURATION_FORMS, SIZE_FORMS, Secret};

/// One table. A value that is wrong is noted, and read as if it were absent.
pub(super) struct Section<'a> {
    context: &'a Context<'a>,
    /// What stands before a key in messages: empty, or `upstream.`.
    prefix: String,
    table: Option<&'a Table>,
    known: Vec<&'static str>,
}

/// A string with `${…}` replaced.
pub(super) struct Text {
    pub(super) value: String,
    pub(super) place: Place,
    /// Whether a part of it was looked up: then no message may quote it.
    pub(super) looked_up: bool,
}

/// Whether zero is a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

impl<'a> Section<'a> {
    pub(super) fn new(context: &'a Context<'a>, prefix: &str, table: Option<&'a Table>) -> Self {
        Self { context, prefix: prefix.to_owned(), table, known: Vec::new() }
    }

    pub(super) fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// Reads `[key]` inside of this table with `read`, then refuses what `read`
    /// didn't ask for. An absent table is read like an empty one.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let item = self.item(key);
        let table = item.and_then(|item| match &item.node {
            Node::Table(table) => Some(table),
            _ => {
                self.wrong_type(key, item, "a table", None);
                None
            }
        });
        let mut section = Section::new(self.context, &format!("{}{key}.", self.prefix), table);
        let result = read(&mut section);
        section.refuse_unknown();
        result
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<(&'a Place, Section<'a>)> {
        let mut sections = Vec::new();
        let Some(item) = self.item(key) else { return sections };
        let Node::Array(items) = &item.node else {
            self.wrong_type(key, item, "a list of tables", Some(format!("write `[[{key}]]`")));
            return sections;
        };
        for item in items {
            if let Node::Table(table) = &item.node {
                let prefix = format!("{}{key}.", self.prefix);
                sections.push((&item.place, Section::new(self.context, &prefix, Some(table))));
            } else {
                self.wrong_type(key, item, "a list of tables", Some(format!("write `[[{key}]]`")));
            }
        }
        sections
    }

    /// The table as it stands in the file.
    pub(super) fn written(&self) -> Option<&'a Table> {
        self.table
    }

    /// Whether the table is there.
    pub(super) fn is_given(&self) -> bool {
        self.table.is_some()
    }

    /// Where a key stands, if it does.
    pub(super) fn place_of(&self, key: &str) -> Option<&'a Place> {
        self.table?.0.get(key).map(|entry| &entry.key)
    }

    /// A string.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Text> {
        let item = self.item(key)?;
        self.text_of(key, item, "a string")
    }

    /// A list of strings.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Text>> {
        let item = self.item(key)?;
        let Node::Array(items) = &item.node else {
            self.wrong_type(key, item, "a list of strings", None);
            return None;
        };
        Some(items.iter().filter_map(|item| self.text_of(key, item, "a list of strings")).collect())
    }

    /// A string or a list of strings.
    pub(super) fn text_or_texts(&mut self, key: &'static str) -> Option<Vec<Text>> {
        let item = self.item(key)?;
        let expected = "a string or a list of strings";
        match &item.node {
            Node::Array(items) => {
                let texts = items.iter().filter_map(|item| self.text_of(key, item, expected));
                Some(texts.collect())
            }
            _ => Some(vec![self.text_of(key, item, expected)?]),
        }
    }

    /// The path of a file. It is not opened here: it may have to be, again and again.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        if text.value.is_empty() {
            self.problem(key, &text.place, "is empty", Some("give a path, or leave the key out".into()));
        }
        Some(PathBuf::from(text.value))
    }

    /// A secret: neither empty nor shown in any message.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let item = self.item(key)?;
        self.context.mask(item);
        let text = self.text_of(key, item, "a string")?;
        self.secret_of(key, text)
    }

    /// A list of secrets.
    pub(super) fn secrets(&mut self, key: &'static str) -> Option<Vec<Secret>> {
        self.context.mask(self.item(key)?);
        let texts = self.texts(key)?;
        Some(texts.into_iter().filter_map(|text| self.secret_of(key, text)).collect())
    }

    fn secret_of(&self, key: &str, text: Text) -> Option<Secret> {
        if !text.value.trim().is_empty() {
            return Some(Secret::new(text.value));
        }
        self.problem(key, &text.place, "is empty", Some("give a value, or leave the key out".into()));
        None
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(item) = self.item(key) else { return default };
        if let Node::Boolean(value) = item.node {
            return value;
        }
        self.wrong_type(key, item, "`true` or `false`", None);
        default
    }

    /// A whole number within `range`.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> usize {
        let Some(item) = self.item(key) else { return default };
        let Node::Integer(number) = item.node else {
            self.wrong_type(key, item, "an integer", None);
            return default;
        };
        let value =
            number.and_then(|number| usize::try_from(number).ok()).filter(|value| range.contains(value));
        if value.is_none() {
            let remedy = format!("give a number from {} to {}", range.start(), range.end());
            self.problem(key, &item.place, "is out of range", Some(remedy));
        }
        value.unwrap_or(default)
    }

    /// A duration.
    pub(super) fn duration(&mut self, key: &'static str, default: Duration, zero: Zero) -> Duration {
        let Some(item) = self.item(key) else { return default };
        if let Node::Integer(Some(number)) = item.node {
            let remedy = format!("add a unit: \"{number}s\" or \"{number}ms\"");
            self.wrong_type(key, item, "a string", Some(remedy));
            return default;
        }
        let Some(text) = self.text_of(key, item, "a string") else { return default };
        match value::parse_duration(&text.value) {
            Some(Duration::ZERO) if zero == Zero::Refused => self.is_zero(key, &text.place),
            Some(duration) => return duration,
            None => {
                self.problem(key, &text.place, "is not a duration", Some(format!("write {DURATION_FORMS}")))
            }
        }
        default
    }

    /// A size in bytes.
    pub(super) fn size(&mut self, key: &'static str, default: u64, zero: Zero) -> u64 {
        let Some(item) = self.item(key) else { return default };
        if let Node::Integer(Some(number)) = item.node {
            self.wrong_type(key, item, "a string", Some(format!("write \"{number}\" for so many bytes")));
            return default;
        }
        let Some(text) = self.text_of(key, item, "a string") else { return default };
        match value::parse_size(&text.value) {
            Some(0) if zero == Zero::Refused => self.is_zero(key, &text.place),
            Some(size) => return size,
            None => self.problem(key, &text.place, "is not a size", Some(format!("write {SIZE_FORMS}"))),
        }
        default
    }

    fn is_zero(&self, key: &str, place: &Place) {
        self.problem(
            key,
            place,
            "must not be zero",
            Some("give a larger value, or leave the key out".into()),
        );
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(key) else { return default };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return *value;
        }
        self.no_such_word(key, &text, &words.iter().map(|(word, _)| *word).collect::<Vec<_>>());
        default
    }

    /// Notes that a text is none of `words`.
    pub(super) fn no_such_word(&self, key: &str, text: &Text, words: &[&str]) {
        let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let remedy = match nearest(&text.value, words) {
            Some(word) if !text.looked_up => format!("did you mean \"{word}\"?"),
            _ => format!("write one of {}", quoted.join(", ")),
        };
        self.problem(key, &text.place, "has no such value", Some(remedy));
    }

    /// A key of a feature that this version doesn't have. What is in force
    /// anyway may be said.
    pub(super) fn unavailable(&mut self, key: &'static str, in_force: &str) {
        let Some(item) = self.item(key) else { return };
        let said = match &item.node {
            Node::String(text) => text == in_force,
            _ => false,
        };
        if !said {
            self.context.mask(item);
            let remedy = match in_force {
                "" => "remove it".to_owned(),
                _ => format!("remove it, or leave it at \"{in_force}\""),
            };
            self.problem_with(key, "is not available in this version", &remedy);
        }
    }

    /// A key of which this version has one value, `in_force`, and later ones `others`.
    pub(super) fn word_in_force(
        &mut self,
        key: &'static str,
        in_force: &'static str,
        others: &[&'static str],
    ) {
        let Some(text) = self.text(key) else { return };
        if others.contains(&text.value.as_str()) {
            let remedy = format!("remove it; `{in_force}` is what is in force");
            self.problem(key, &text.place, "has a value that is not available in this version", Some(remedy));
        } else if text.value != in_force {
            self.no_such_word(key, &text, &[&[in_force], others].concat());
        }
    }

    /// A share of which this version has `in_force` alone.
    pub(super) fn number_in_force(&mut self, key: &'static str, in_force: f64, most: f64) {
        let Some(item) = self.item(key) else { return };
        let number = match item.node {
            Node::Float(number) => number,
            Node::Integer(Some(number)) => number as f64,
            _ => return self.wrong_type(key, item, "a number", None),
        };
        if !(0.0..=most).contains(&number) {
            let remedy = format!("give a number from 0 to {most}");
            self.problem(key, &item.place, "is out of range", Some(remedy));
        } else if number != in_force {
            let remedy = format!("remove it; `{in_force:?}` is what is in force");
            self.problem(key, &item.place, "has a value that is not available in this version", Some(remedy));
        }
    }

    /// `mode`, of the file or of a route.
    pub(super) fn mode(&mut self) {
        self.word_in_force("mode", "on", &["observe", "off"]);
    }

    /// Notes that a value has another type than `expected`.
    pub(super) fn wrong_type(&self, key: &str, item: &Item, expected: &str, remedy: Option<String>) {
        let text = format!("must be {expected}, not {}", item.node.kind());
        self.problem(key, &item.place, &text, remedy);
    }

    /// Notes a problem with a key: "`section.key` text".
    pub(super) fn problem(&self, key: &str, place: &Place, text: &str, remedy: Option<String>) {
        self.context.problem(place, format!("`{}{key}` {text}", self.prefix), remedy);
    }

    /// Notes a problem with a key at its place, if it is there.
    pub(super) fn problem_with(&self, key: &str, text: &str, remedy: &str) {
        if let Some(place) = self.place_of(key) {
            self.problem(key, place, text, Some(remedy.into()));
        }
    }

    /// Keeps a value from being shown.
    pub(super) fn mask(&self, key: &str) {
        if let Some(entry) = self.table.and_then(|table| table.0.get(key)) {
            self.context.mask(&entry.item);
        }
    }

    /// The value of a key, which exists from now on.
    pub(super) fn item(&mut self, key: &'static str) -> Option<&'a Item> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.0.get(key).map(|entry| &entry.item)
    }

    /// The string that an item is, `expected` being what the key takes.
    pub(super) fn text_of(&self, key: &str, item: &Item, expected: &str) -> Option<Text> {
        let Node::String(raw) = &item.node else {
            self.wrong_type(key, item, expected, None);
            return None;
        };
        match value::interpolate(raw, self.context.environment()) {
            Ok(done) => Some(Text { value: done.text, place: item.place.clone(), looked_up: done.looked_up }),
            Err(error) => {
                self.problem(key, &item.place, &format!("has no value: {error}"), Some(error.remedy()));
                None
            }
        }
    }

    /// Notes each key that was never asked for.
    pub(super) fn refuse_unknown(&self) {
        let Some(table) = self.table else { return };
        for (name, Entry { key, item }) in &table.0 {
            if self.known.contains(&name.as_str()) {
                continue;
            }
            self.context.mask(item);
            let remedy = match nearest(name, &self.known) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            self.context.problem(key, format!("there is no key `{}{name}`", self.prefix), Some(remedy));
        }
    }
}
