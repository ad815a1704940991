//! Variables in words: `$name`, `${name}` and every form with a modifier, quotes and escapes.
//!
//! Behaves as BuildKit's lexer, which mimics a shell. Two ways to use it: as one text ([`Lexer::text`]), spaces and all, or split
//! into words ([`Lexer::words`]) after the variables have their values.

mod environment;
mod pattern;
mod scan;

pub use environment::Environment;

use std::collections::BTreeSet;

use crate::quote::quoted;
use scan::Scan;

/// Why a word cannot be expanded; texts as in BuildKit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The word that holds the error.
    #[error("failed to process {}: {cause}", quoted(.word))]
    Word {
        /// The whole word, as written.
        word: String,
        /// What is wrong in it.
        cause: Box<ExpandError>,
    },
    /// A `'` without its end.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// A `"` without its end.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// The end of the text within a modifier.
    #[error("unexpected end of statement while looking for matching {0}")]
    End(char),
    /// A `${` without its end.
    #[error("syntax error: missing '}}'")]
    Brace,
    /// A `${name/pattern` without its second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    Slash,
    /// No name after `${`.
    #[error("syntax error: bad substitution")]
    Substitution,
    /// A modifier that is none.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// A pattern with an escape that is none.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escape}'")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The character after the backslash.
        escape: char,
    },
    /// `${name?message}` of a variable without a value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message, or a default one.
        message: String,
    },
}

/// Where variables have their values.
pub trait Variables {
    /// Returns the value of a variable, if it is set.
    fn get(&self, name: &str) -> Option<String>;
}

/// No variables at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<String> {
        None
    }
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// How words are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lexer {
    /// The character that escapes the next one.
    pub escape: char,
    /// Quotes stay in the result.
    pub keep_quotes: bool,
    /// Escape characters stay in the result.
    pub keep_escapes: bool,
    /// Quotes are characters like others.
    pub ignore_quotes: bool,
    /// Variables without a value stay as they are written.
    pub keep_unset: bool,
}

/// A text, its variables expanded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// The variables that have a value.
    pub found: BTreeSet<String>,
    /// The variables that have none.
    pub missing: BTreeSet<String>,
}

impl Lexer {
    /// Returns a lexer that takes off quotes and escapes.
    #[must_use]
    pub fn new(escape: char) -> Self {
        Self { escape, keep_quotes: false, keep_escapes: false, ignore_quotes: false, keep_unset: false }
    }

    /// Expands a text.
    ///
    /// # Errors
    /// [`ExpandError`], after which the text is of no use; `found` and `missing` up to there are in its second part.
    pub fn text(&self, text: &str, variables: &dyn Variables) -> Result<Expanded, (ExpandError, Expanded)> {
        let mut scan = Scan::new(self, text, variables);
        let result = scan.run();
        let (found, missing) = scan.into_names();
        match result {
            Ok(part) => Ok(Expanded { text: part.text, found, missing }),
            Err(cause) => {
                let error = ExpandError::Word { word: text.to_owned(), cause: Box::new(cause) };
                Err((error, Expanded { text: String::new(), found, missing }))
            }
        }
    }

    /// Expands a text and splits it at spaces outside of quotes, also at those that came with a value.
    ///
    /// # Errors
    /// [`ExpandError`] as of [`Lexer::text`].
    pub fn words(&self, text: &str, variables: &dyn Variables) -> Result<Vec<String>, ExpandError> {
        let mut scan = Scan::new(self, text, variables);
        match scan.run() {
            Ok(part) => Ok(part.words),
            Err(cause) => Err(ExpandError::Word { word: text.to_owned(), cause: Box::new(cause) }),
        }
    }
}

#[cfg(test)]
mod tests;
