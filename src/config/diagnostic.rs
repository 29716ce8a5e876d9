//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};

/// Everything that is wrong with a configuration.
///
/// As a [`Diagnostic`] each problem shows its line. Values of keys that hold
/// secrets are masked there, and what `${…}` stood for is never shown.
#[derive(Debug, thiserror::Error)]
#[error("The configuration has {}", errors(.problems.len()))]
pub struct ConfigError {
    problems: Vec<Problem>,
}

fn errors(count: usize) -> String {
    if count == 1 { "an error".into() } else { format!("{count} errors") }
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The problems, in the order of the file. Never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Diagnostic for ConfigError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// One thing that is wrong.
///
/// `Display` is the message alone; `{:#}` is `file:line:column: message (remedy)`,
/// for logs.
#[derive(Debug, Clone)]
pub struct Problem {
    message: String,
    remedy: Option<String>,
    location: Option<Location>,
}

/// Where something stands in a file.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) source: Arc<NamedSource<String>>,
    pub(super) span: SourceSpan,
}

impl Location {
    fn line_and_column(&self) -> (usize, usize) {
        line_and_column(self.source.inner(), self.span.offset())
    }
}

/// The line and the column of the byte at `offset`, both from 1; the column counts characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        write!(f, "{}:{line}:{column}", self.source.name())
    }
}

impl Problem {
    pub(super) fn new(message: String, remedy: Option<String>, location: Option<Location>) -> Self {
        Self { message, remedy, location }
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The line and the column where it is, both from 1. `None` where it isn't in a file.
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        self.location.as_ref().map(Location::line_and_column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return f.write_str(&self.message);
        }
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, " ({remedy})"))
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.remedy.as_ref().map(|remedy| Box::new(remedy) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.location.as_ref().map(|location| location.source.as_ref() as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let location = self.location.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(None, location.span))))
    }
}
