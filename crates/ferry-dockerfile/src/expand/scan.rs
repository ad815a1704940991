//! The recursive descent over one text.

use std::collections::BTreeSet;

use super::pattern::Pattern;
use super::{ExpandError, Lexer, Variables};

/// What one level of the descent gives.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) text: String,
    pub(super) words: Vec<String>,
}

pub(super) struct Scan<'a> {
    lexer: &'a Lexer,
    rest: &'a str,
    variables: &'a dyn Variables,
    keep_escapes: bool,
    found: BTreeSet<String>,
    missing: BTreeSet<String>,
}

/// Collects words; spaces end one unless they are quoted.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn character(&mut self, c: char) {
        if !c.is_whitespace() {
            self.current.push(c);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(lexer: &'a Lexer, text: &'a str, variables: &'a dyn Variables) -> Self {
        Self {
            lexer,
            rest: text,
            variables,
            keep_escapes: lexer.keep_escapes,
            found: BTreeSet::new(),
            missing: BTreeSet::new(),
        }
    }

    pub(super) fn run(&mut self) -> Result<Part, ExpandError> {
        self.until(None, self.keep_escapes)
    }

    /// Returns the names of the variables that have a value, and of those that have none.
    pub(super) fn into_names(self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.found, self.missing)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Reads up to a character, which is taken too, or to the end of the text.
    fn until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<Part, ExpandError> {
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let result = self.until_inner(stop);
        self.keep_escapes = outer;
        result
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<Part, ExpandError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok(Part { text, words: words.finish() });
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.character(c));
                    text.push_str(&value);
                }
                '<' => self.push_raw(Self::less_than, &mut text, &mut words)?,
                '\'' if !self.lexer.ignore_quotes => self.push_raw(Self::single_quoted, &mut text, &mut words)?,
                '"' if !self.lexer.ignore_quotes => self.push_raw(Self::double_quoted, &mut text, &mut words)?,
                _ => self.plain(&mut text, &mut words),
            }
        }
        match stop {
            Some(stop) => Err(ExpandError::End(stop)),
            None => Ok(Part { text, words: words.finish() }),
        }
    }

    /// Adds what a reader returns to the current word, spaces too.
    fn push_raw(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<String, ExpandError>,
        text: &mut String,
        words: &mut Words,
    ) -> Result<(), ExpandError> {
        let part = read(self)?;
        text.push_str(&part);
        words.current.push_str(&part);
        Ok(())
    }

    /// Reads one character, or an escaped one.
    fn plain(&mut self, text: &mut String, words: &mut Words) {
        let Some(c) = self.next() else { return };
        if c != self.lexer.escape {
            words.character(c);
            text.push(c);
            return;
        }
        if self.keep_escapes {
            words.current.push(c);
            text.push(c);
        }
        // An escape at the very end escapes nothing.
        if let Some(escaped) = self.next() {
            words.current.push(escaped);
            text.push(escaped);
        }
    }

    /// `<<` with the spaces behind it, so that a here-document's word is not cut off.
    fn less_than(&mut self) -> Result<String, ExpandError> {
        self.next();
        let mut text = "<".to_owned();
        if self.peek() == Some('<') {
            self.next();
            text.push('<');
            while let Some(space @ ('\t' | '\r' | ' ')) = self.peek() {
                self.next();
                text.push(space);
            }
        }
        Ok(text)
    }

    /// Everything up to the next `'`.
    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        self.next();
        // Without an end everything is quoted.
        let Some((inner, rest)) = self.rest.split_once('\'') else {
            self.rest = "";
            return Err(ExpandError::SingleQuote);
        };
        self.rest = rest;
        Ok(if self.lexer.keep_quotes { format!("'{inner}'") } else { inner.to_owned() })
    }

    /// Up to the next `"`, with variables; only `"`, `$` and the escape itself can be escaped.
    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        self.next();
        let quote = if self.lexer.keep_quotes { "\"" } else { "" };
        let mut text = quote.to_owned();
        loop {
            match self.peek() {
                None => return Err(ExpandError::DoubleQuote),
                Some('"') => {
                    self.next();
                    text.push_str(quote);
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.lexer.escape => {
                    self.next();
                    if self.keep_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.lexer.escape => {
                            self.next();
                            text.push(escaped);
                        }
                        Some(_) => text.push(c),
                    }
                }
                Some(c) => {
                    self.next();
                    text.push(c);
                }
            }
        }
    }

    /// A variable.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.next();
        if self.peek() == Some('{') {
            self.next();
            return self.braces();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match self.value(&name) {
            Some(value) => value,
            None if self.lexer.keep_unset => format!("${name}"),
            None => String::new(),
        })
    }

    /// The inside of `${…}`.
    fn braces(&mut self) -> Result<String, ExpandError> {
        match self.peek() {
            None => return Err(ExpandError::Brace),
            Some('{' | '}' | ':') => return Err(ExpandError::Substitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.value(&name) {
                Some(value) => value,
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some(':') => {
                let modifier = self.next();
                if let Some('#' | '%') = modifier {
                    return Err(unsupported(true, modifier));
                }
                self.modified(&name, true, modifier)
            }
            modifier @ Some('+' | '-' | '?' | '#' | '%') => self.modified(&name, false, modifier),
            Some('/') => self.replaced(&name),
            modifier => Err(unsupported(false, modifier)),
        }
    }

    /// `${name` with `-`, `+`, `?`, `#` or `%` behind it; after a colon an empty value counts as none.
    fn modified(&mut self, name: &str, colon: bool, modifier: Option<char>) -> Result<String, ExpandError> {
        let word = self.inner('}', matches!(modifier, Some('#' | '%')), ExpandError::Brace)?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            let colon = if colon { ":" } else { "" };
            let modifier = modifier.map_or_else(String::new, String::from);
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let usable = value.clone().filter(|value| !colon || !value.is_empty());
        match modifier {
            Some('-') => Ok(usable.unwrap_or(word)),
            Some('+') => Ok(usable.map(|_| word).unwrap_or_default()),
            Some('?') => usable.ok_or_else(|| {
                let state = if value.is_some() { "empty" } else { "unset" };
                let message = if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                ExpandError::Required { name: name.to_owned(), message }
            }),
            Some(end @ ('#' | '%')) => {
                let (pattern, longest) = match word.strip_prefix(end) {
                    Some(pattern) => (pattern, true),
                    None => (word.as_str(), false),
                };
                let value = value.unwrap_or_default();
                let pattern = Pattern::parse(pattern)?;
                Ok(if end == '#' {
                    pattern.without_prefix(&value, longest)
                } else {
                    pattern.without_suffix(&value, longest)
                })
            }
            _ => Err(unsupported(colon, modifier)),
        }
    }

    /// `${name/pattern/text}` and `${name//pattern/text}`.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let every = self.peek() == Some('/');
        if every {
            self.next();
        }
        let pattern = self.inner('/', true, ExpandError::Slash)?;
        let replacement = self.inner('}', true, ExpandError::Brace)?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        Ok(Pattern::parse(&pattern)?.replace(&value.unwrap_or_default(), &replacement, every))
    }

    /// Reads up to a character within braces; the end of the text is the given error.
    fn inner(&mut self, stop: char, keep_escapes: bool, at_end: ExpandError) -> Result<String, ExpandError> {
        match self.until(Some(stop), keep_escapes) {
            Ok(part) => Ok(part.text),
            Err(_) if self.rest.is_empty() => Err(at_end),
            Err(error) => Err(error),
        }
    }

    /// A name, a number, or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let first = self.peek();
        let length = match first {
            Some(c) if c.is_ascii_digit() => self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len()),
        };
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        name.to_owned()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name);
        let names = if value.is_some() { &mut self.found } else { &mut self.missing };
        names.insert(name.to_owned());
        value
    }
}

fn unsupported(colon: bool, modifier: Option<char>) -> ExpandError {
    let colon = if colon { ":" } else { "" };
    ExpandError::Modifier(format!("{colon}{}", modifier.unwrap_or(char::REPLACEMENT_CHARACTER)))
}
