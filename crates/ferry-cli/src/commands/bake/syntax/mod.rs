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
use unicode_segmentation::UnicodeSegmentation as _;

use cursor::Cursor;

/// A line and a column, both from one; a column is what a reader takes for one character, however many code points that has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: u32,
    column: u32,
}

impl Place {
    /// The place behind a text that begins here.
    fn after(self, text: &str) -> Self {
        let mut place = self;
        for character in text.graphemes(true) {
            match character {
                "\n" | "\r\n" => place = Self { line: place.line + 1, column: 1 },
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
    let mut error = first.told(name, text);
    if faults.len() > 1 {
        error.text.push_str(&format!(", and {} other diagnostic(s)", faults.len() - 1));
    }
    Err(error)
}

/// Reads the bytes of a file as text.
pub(super) fn decoded(name: &str, bytes: Vec<u8>) -> Result<String, SyntaxError> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
        let start = Place { line: 1, column: 1 }.after(before.trim_start_matches('\u{feff}'));
        let end = Place { column: start.column + 1, ..start };
        let fault = Fault {
            summary: "Invalid character encoding".to_owned(),
            detail: "All input files must be UTF-8 encoded. Ensure that UTF-8 encoding is selected in your editor."
                .to_owned(),
            range: Range { start, end },
        };
        fault.told(name, &String::from_utf8_lossy(error.as_bytes()))
    })
}

impl Fault {
    /// What is told of it to whoever wrote the file.
    fn told(&self, name: &str, text: &str) -> SyntaxError {
        let Self { summary, detail, range } = self;
        let lines = Lines { first: range.start.line, last: range.end.line.max(range.start.line) };
        let excerpt = excerpt(name, text, &[lines]).unwrap_or_default();
        SyntaxError { excerpt, text: format!("{name}:{range}: {summary}; {detail}") }
    }
}

#[cfg(test)]
mod tests;
