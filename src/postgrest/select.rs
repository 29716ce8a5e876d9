//! The grammar of PostgREST's `select` parameter.
//!
//! The parser takes every form that PostgREST 12 takes and is a little more
//! liberal (array types in casts): what PostgREST refuses, it answers itself.

mod cursor;

use cursor::Cursor;

/// How deep embeddings may nest.
pub const MAX_DEPTH: usize = 32;
/// The most items that a `select` may have, those of embeddings included.
pub const MAX_ITEMS: usize = 1000;

/// A parsed `select` parameter. Without items it asks for all columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Select {
    /// What the rows consist of, in order.
    pub items: Vec<Item>,
}

/// One comma-separated part of a `select`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// `*`: all stored columns.
    Star,
    /// A column, stored or computed.
    Column(Column),
    /// `count()`, `amount.sum()`.
    Aggregate(Aggregate),
    /// An embedded resource.
    Embedding(Embedding),
}

/// `alias:name->path::cast`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name in the answer where the client chose one.
    pub alias: Option<String>,
    /// The column's name.
    pub name: String,
    /// The JSON path's steps, empty without one.
    pub path: Vec<PathStep>,
    /// The type cast to.
    pub cast: Option<String>,
}

/// A step of a JSON path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStep {
    /// `->>` instead of `->`.
    pub as_text: bool,
    /// The object's key or the array's index.
    pub key: String,
}

/// `alias:name->path::cast.function()::cast`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// What is aggregated; `None` for `count()`.
    pub column: Option<Column>,
    /// The name in the answer where the client chose one and there is no column.
    pub alias: Option<String>,
    /// The function's name, `sum` for instance.
    pub function: String,
    /// The type that the result is cast to.
    pub cast: Option<String>,
}

/// `alias:name!hint!inner(items)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    /// The name in the answer where the client chose one.
    pub alias: Option<String>,
    /// Whether `...` spreads its columns into the parent's.
    pub spread: bool,
    /// A relation, a foreign key column, a constraint or a computed relationship.
    pub name: String,
    /// What tells several relationships apart.
    pub hint: Option<String>,
    /// The kind of join where the client chose one.
    pub join: Option<Join>,
    /// What is selected of the embedded rows.
    pub items: Vec<Item>,
}

/// How an embedded resource is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// `!inner`
    Inner,
    /// `!left`
    Left,
}

/// Why a `select` was not understood. Such reads are forwarded unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// It follows no form that is known here.
    #[error("The select parameter is malformed at byte {0}")]
    Malformed(usize),
    /// Embeddings nest deeper than [`MAX_DEPTH`].
    #[error("The select parameter nests more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// It has more than [`MAX_ITEMS`] items.
    #[error("The select parameter has more than {MAX_ITEMS} items")]
    TooManyItems,
}

impl Select {
    /// Parses a decoded `select` value.
    ///
    /// # Errors
    ///
    /// [`SelectError`] where it is malformed, too deep or too long.
    pub fn parse(text: &str) -> Result<Self, SelectError> {
        let mut parser = Parser { cursor: Cursor::new(text), items_left: MAX_ITEMS };
        if text.is_empty() {
            return Ok(Self::default());
        }
        let items = parser.items(0)?;
        if parser.cursor.at_end() { Ok(Self { items }) } else { Err(parser.cursor.malformed()) }
    }
}

/// Parses a comma-separated list of column names, as `columns` and
/// `on_conflict` hold.
///
/// # Errors
///
/// [`SelectError::Malformed`] where a name is missing or has a character that
/// needs quotes.
pub fn parse_names(text: &str) -> Result<Vec<String>, SelectError> {
    let mut cursor = Cursor::new(text);
    let mut names = Vec::new();
    loop {
        names.push(cursor.name()?);
        if cursor.at_end() {
            return Ok(names);
        }
        cursor.expect(",")?;
    }
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    items_left: usize,
}

impl Parser<'_> {
    fn items(&mut self, depth: usize) -> Result<Vec<Item>, SelectError> {
        if depth > MAX_DEPTH {
            return Err(SelectError::TooDeep);
        }
        let mut items = Vec::new();
        loop {
            self.items_left = self.items_left.checked_sub(1).ok_or(SelectError::TooManyItems)?;
            items.push(self.item(depth)?);
            self.cursor.skip_spaces();
            if !self.cursor.eat(",") {
                return Ok(items);
            }
        }
    }

    fn item(&mut self, depth: usize) -> Result<Item, SelectError> {
        self.cursor.skip_spaces();
        if self.cursor.eat("...") {
            let name = self.cursor.name()?;
            return self.embedding(None, true, name, depth);
        }
        if self.cursor.eat("*") {
            return Ok(Item::Star);
        }
        let first = self.cursor.name()?;
        let (alias, name) = if self.cursor.looking_at(":") && !self.cursor.looking_at("::") {
            self.cursor.expect(":")?;
            (Some(first), self.cursor.name()?)
        } else {
            (None, first)
        };
        // A relation can't be called `count`: that is always the function.
        if name == "count" && self.cursor.looking_at("(") {
            self.cursor.expect("()")?;
            let cast = self.cast()?;
            return Ok(Item::Aggregate(Aggregate { column: None, alias, function: name, cast }));
        }
        if self.cursor.looking_at("!") || self.cursor.looking_at("(") {
            return self.embedding(alias, false, name, depth);
        }
        self.column(alias, name)
    }

    fn embedding(
        &mut self,
        alias: Option<String>,
        spread: bool,
        name: String,
        depth: usize,
    ) -> Result<Item, SelectError> {
        let (mut hint, mut join) = (None, None);
        while self.cursor.eat("!") {
            match self.cursor.name()? {
                word if word == "inner" && join.is_none() => join = Some(Join::Inner),
                word if word == "left" && join.is_none() => join = Some(Join::Left),
                word if hint.is_none() => hint = Some(word),
                _ => return Err(self.cursor.malformed()),
            }
        }
        self.cursor.expect("(")?;
        self.cursor.skip_spaces();
        let items = if self.cursor.looking_at(")") { Vec::new() } else { self.items(depth + 1)? };
        self.cursor.expect(")")?;
        Ok(Item::Embedding(Embedding { alias, spread, name, hint, join, items }))
    }

    fn column(&mut self, alias: Option<String>, name: String) -> Result<Item, SelectError> {
        let mut path = Vec::new();
        while self.cursor.eat("->") {
            let as_text = self.cursor.eat(">");
            path.push(PathStep { as_text, key: self.cursor.path_key()? });
        }
        let column = Column { alias, name, path, cast: self.cast()? };
        if !self.cursor.eat(".") {
            return Ok(Item::Column(column));
        }
        let function = self.cursor.name()?;
        self.cursor.expect("()")?;
        let cast = self.cast()?;
        Ok(Item::Aggregate(Aggregate { column: Some(column), alias: None, function, cast }))
    }

    fn cast(&mut self) -> Result<Option<String>, SelectError> {
        if self.cursor.eat("::") { self.cursor.type_name().map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests;
