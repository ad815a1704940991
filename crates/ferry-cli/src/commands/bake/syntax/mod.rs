//! The syntax of bake files in HCL, looked at before they are read: what is wrong is told where it is, in the words of the parser that buildx
//! has, which finds more than the one that makes trees of them here.
//!
//! Text becomes tokens (`scan`), and those are followed by the grammar (`body`, `expression`, `template`) over one cursor (`cursor`). After a
//! fault the cursor goes on behind what was meant, so that as many faults are counted as there.

mod body;
mod cursor;
mod expression;
mod scan;
mod template;

use std::fmt;

use ferry_dockerfile::Lines;
use ferry_dockerfile::source::excerpt;

use cursor::Cursor;

/// A line and a column, both from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: u32,
    column: u32,
}

impl Place {
    /// The place behind a text that begins here.
    fn after(self, text: &str) -> Self {
        let mut place = self;
        for character in text.chars() {
            match character {
                '\n' => place = Self { line: place.line + 1, column: 1 },
                // One with the newline behind it.
                '\r' if text.contains("\r\n") => {}
                _ => place.column += 1,
            }
        }
        place
    }
}

/// From a place up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: Place,
    end: Place,
}

impl Range {
    fn to(self, last: Self) -> Self {
        Self { start: self.start, end: last.end }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end } = self;
        match start.line == end.line {
            true => write!(formatter, "{},{}-{}", start.line, start.column, end.column),
            false => write!(formatter, "{},{}-{},{}", start.line, start.column, end.line, end.column),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug)]
struct Fault {
    summary: String,
    detail: String,
    range: Range,
}

/// What is wrong with a file: the first thing in full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// The lines that it is about, drawn.
    pub(super) excerpt: String,
    /// In words.
    pub(super) text: String,
}

/// Looks whether a file is written as HCL is.
pub(super) fn check(name: &str, text: &str) -> Result<(), SyntaxError> {
    let mut cursor = Cursor::new(name, text);
    cursor.tokens_in_use();
    cursor.file();
    if !cursor.has_failed_since(0) {
        cursor.labels();
    }
    let faults = cursor.faults();
    let Some(first) = faults.first() else { return Ok(()) };
    let Fault { summary, detail, range } = first;
    let mut told = format!("{name}:{range}: {summary}; {detail}");
    if faults.len() > 1 {
        told.push_str(&format!(", and {} other diagnostic(s)", faults.len() - 1));
    }
    let lines = Lines { first: range.start.line, last: range.end.line.max(range.start.line) };
    Err(SyntaxError { excerpt: excerpt(name, text, &[lines]).unwrap_or_default(), text: told })
}

#[cfg(test)]
mod tests;
