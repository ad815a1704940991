//! Ignore files, and the patterns in them.
//!
//! Patterns are those of Go's `filepath.Match` with `**` and, in lists, `!` for exceptions: a path is matched when the last pattern
//! that fits it, or a directory above it, is no exception. `*` and `?` never match a slash.

mod glob;
mod list;

pub use glob::{PatternError, has_wildcards, matches};
pub use list::{ParentMatches, Patterns};

use ferry_spec::path::clean;

/// Reads an ignore file: comments and empty lines are left out, the others cleaned and made relative to the root.
#[must_use]
pub fn read(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut patterns = Vec::new();
    for line in text.lines() {
        // A comment begins in the first column.
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let line = line.trim();
        let (exception, pattern) = match line.strip_prefix('!') {
            Some(pattern) => ("!", pattern.trim()),
            None => ("", line),
        };
        let mut pattern = if pattern.is_empty() { String::new() } else { clean(pattern) };
        if pattern.len() > 1 && pattern.starts_with('/') {
            pattern.remove(0);
        }
        patterns.push(format!("{exception}{pattern}"));
    }
    patterns
}

#[cfg(test)]
mod tests;
