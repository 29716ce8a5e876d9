//! A position in a `select` value, and the words that can stand there.

use super::SelectError;

/// What is left to read.
pub(super) struct Cursor<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    pub(super) fn malformed(&self) -> SelectError {
        SelectError::Malformed(self.position)
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn looking_at(&self, token: &str) -> bool {
        self.rest().starts_with(token)
    }

    /// Steps over `token` if it comes next.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        let found = self.looking_at(token);
        if found {
            self.position += token.len();
        }
        found
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<(), SelectError> {
        if self.eat(token) { Ok(()) } else { Err(self.malformed()) }
    }

    pub(super) fn skip_spaces(&mut self) {
        self.take_while(|character| character == ' ');
    }

    /// The name of a column, relation, alias or hint: quoted, or letters,
    /// digits, `_`, `$`, `-` and inner blanks. Blanks around it don't count.
    pub(super) fn name(&mut self) -> Result<String, SelectError> {
        self.skip_spaces();
        let name = if self.eat("\"") { self.quoted()? } else { self.bare_name() };
        self.skip_spaces();
        if name.is_empty() { Err(self.malformed()) } else { Ok(name) }
    }

    /// A type's name: like a column's, and `[]`.
    pub(super) fn type_name(&mut self) -> Result<String, SelectError> {
        let name =
            self.take_while(|character| is_name_character(character) || matches!(character, '[' | ']'));
        let name = name.trim_matches(' ').to_owned();
        if name.is_empty() { Err(self.malformed()) } else { Ok(name) }
    }

    /// A key or an index in a JSON path.
    pub(super) fn path_key(&mut self) -> Result<String, SelectError> {
        let key = self.take_dashed(|character| !"(-:.,>)".contains(character));
        if key.is_empty() { Err(self.malformed()) } else { Ok(key.to_owned()) }
    }

    fn bare_name(&mut self) -> String {
        self.take_dashed(is_name_character).trim_matches(' ').to_owned()
    }

    /// Up to the closing quote; a backslash makes the next character literal.
    fn quoted(&mut self) -> Result<String, SelectError> {
        let mut name = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.position += offset + 1;
                    return Ok(name);
                }
                '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => name.push(character),
            }
        }
        Err(self.malformed())
    }

    /// What `wanted` accepts and dashes that don't begin an arrow.
    fn take_dashed(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.position;
        loop {
            self.take_while(&wanted);
            if self.looking_at("->") || !self.eat("-") {
                return &self.text[start..self.position];
            }
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|character| !wanted(character)).unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }
}

fn is_name_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | ' ' | '$')
}
