//! Places in a Dockerfile, and how they are shown.

use std::fmt::Write as _;

/// A run of lines of a source file, counted from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lines {
    /// The first line.
    pub first: u32,
    /// The last line; never before the first.
    pub last: u32,
}

impl Lines {
    /// Returns the lines from `first` to `last`; a `last` before `first` counts as `first`.
    #[must_use]
    pub fn new(first: u32, last: u32) -> Self {
        Self { first, last: last.max(first) }
    }

    /// Returns one line.
    #[must_use]
    pub fn single(line: u32) -> Self {
        Self::new(line, line)
    }

    /// Tells whether a line lies within.
    #[must_use]
    pub fn contains(self, line: u32) -> bool {
        (self.first..=self.last).contains(&line)
    }
}

/// Returns the part of a source around some lines, those marked with `>>>`, as BuildKit prints it before an error.
///
/// `None` when there is nothing to show: no lines given, or lines that the source does not have.
#[must_use]
pub fn excerpt(name: &str, source: &str, marked: &[Lines]) -> Option<String> {
    let lines: Vec<&str> = source.split('\n').collect();
    let total = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let first = marked.iter().map(|lines| lines.first).min()?;
    let last = marked.iter().map(|lines| lines.last).max()?.min(total);
    if first < 1 || first > total {
        return None;
    }
    let (from, to) = with_context(first, last, total);
    let mut text = format!("{name}:{first}\n--------------------\n");
    for number in from..=to {
        let mark = if marked.iter().any(|lines| lines.contains(number)) { ">>>" } else { "   " };
        let _ = writeln!(text, " {number:3} | {mark} {}", lines[number as usize - 1]);
    }
    text.push_str("--------------------\n");
    Some(text)
}

/// Widens a range by a few lines on both sides: more around a single line, as BuildKit does.
fn with_context(first: u32, last: u32, total: u32) -> (u32, u32) {
    let wanted = if first == last { 4 } else { 2 };
    let (mut from, mut to) = (first, last);
    let mut added = 0;
    while added < wanted {
        if from > 1 {
            from -= 1;
            added += 1;
        }
        if to != total {
            to += 1;
            added += 1;
        }
        // Counted once more in every round, so that a file with nothing around ends the loop too.
        added += 1;
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_marks_the_lines_and_shows_what_is_around() {
        let source = "FROM a\nRUN b\nFOO c\nRUN d\nRUN e\nRUN f";
        assert_eq!(
            excerpt("Dockerfile", source, &[Lines::single(3)]).unwrap(),
            "Dockerfile:3\n--------------------\n   1 |     FROM a\n   2 |     RUN b\n   3 | >>> FOO c\n   4 |     RUN d\n   5 |     RUN e\n--------------------\n"
        );
    }

    #[test]
    fn excerpt_of_lines_that_do_not_exist_is_none() {
        assert_eq!(excerpt("Dockerfile", "a", &[Lines::single(0)]), None);
        assert_eq!(excerpt("Dockerfile", "a", &[Lines::single(7)]), None);
        assert_eq!(excerpt("Dockerfile", "a", &[]), None);
    }

    #[test]
    fn excerpt_of_the_only_line() {
        let text = excerpt("Dockerfile", "FOO", &[Lines::single(1)]).unwrap();
        assert_eq!(text, "Dockerfile:1\n--------------------\n   1 | >>> FOO\n--------------------\n");
    }
}
