//! Parser directives: `# syntax=`, `# escape=` and `# check=` at the top of a file.

/// A directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Name, in lower case.
    pub name: String,
    /// Value.
    pub value: String,
    /// Its line.
    pub line: u32,
}

/// The frontend that a file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxDirective {
    /// The image of the frontend.
    pub image: String,
    /// The whole value: the image, and what may follow it.
    pub command_line: String,
    /// Its line; 0 when it is in a JSON document.
    pub line: u32,
}

/// Why a directive is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectiveError {
    /// A second one of the same name.
    #[error("only one {0} parser directive can be used")]
    Twice(String),
    /// An escape character that is none.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    Escape(String),
}

const KNOWN: &[&str] = &["syntax", "escape", "check"];

/// Reads directives line by line, until the first line that is none.
#[derive(Debug)]
pub(crate) struct DirectiveReader<'a> {
    prefix: &'a str,
    line: u32,
    seen: Vec<String>,
    done: bool,
}

impl<'a> DirectiveReader<'a> {
    pub(crate) fn new(prefix: &'a str) -> Self {
        Self { prefix, line: 0, seen: Vec::new(), done: false }
    }

    /// Reads the next line; `None` when it is no directive, and so ends them.
    pub(crate) fn read(&mut self, line: &str) -> Result<Option<Directive>, DirectiveError> {
        self.line += 1;
        if self.done {
            return Ok(None);
        }
        let Some((name, value)) = line.strip_prefix(self.prefix).and_then(|text| split(text.trim_start())) else {
            self.done = true;
            return Ok(None);
        };
        if self.seen.contains(&name) {
            return Err(DirectiveError::Twice(name));
        }
        self.seen.push(name.clone());
        Ok(Some(Directive { name, value, line: self.line }))
    }
}

/// Splits `name = value`; `None` when it is not that, or not a name that is known.
fn split(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim_end_matches(is_space).to_lowercase();
    if !KNOWN.contains(&name.as_str()) {
        return None;
    }
    let trimmed = value.trim_matches(is_space);
    let value = if trimmed.is_empty() { value.chars().next_back()?.to_string() } else { trimmed.to_owned() };
    Some((name, value))
}

fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ')
}

/// Returns the first directive of a name.
#[must_use]
pub fn find(source: &str, name: &str) -> Option<Directive> {
    let (source, skipped) = without_preamble(source);
    find_with_prefix(source, name, "#", skipped)
}

/// Returns the frontend that a file asks for: by a directive, by one with `//`, or by a JSON document's `syntax`.
#[must_use]
pub fn syntax(source: &str) -> Option<SyntaxDirective> {
    let (source, skipped) = without_preamble(source);
    let directive =
        find_with_prefix(source, "syntax", "#", skipped).or_else(|| find_with_prefix(source, "syntax", "//", skipped));
    if let Some(Directive { value, line, .. }) = directive {
        let image = value.split(' ').next().unwrap_or_default().to_owned();
        return Some(SyntaxDirective { image, command_line: value, line });
    }
    let document: serde_json::Value = serde_json::from_str(source).ok()?;
    let value = document.as_object()?.get("syntax")?.as_str()?.to_owned();
    Some(SyntaxDirective { image: value.clone(), command_line: value, line: skipped })
}

/// Takes off a byte order mark and a `#!` line; returns how many lines that were.
fn without_preamble(source: &str) -> (&str, u32) {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    if source.starts_with("#!") {
        return (source.split_once('\n').map_or("", |(_, rest)| rest), 1);
    }
    (source, 0)
}

fn find_with_prefix(source: &str, name: &str, prefix: &str, skipped: u32) -> Option<Directive> {
    let mut reader = DirectiveReader::new(prefix);
    reader.line = skipped;
    source.lines().map_while(|line| reader.read(line).ok().flatten()).find(|directive| directive.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(source: &str) -> Option<String> {
        syntax(source).map(|syntax| syntax.image)
    }

    #[test]
    fn syntax_is_found_in_every_form() {
        assert_eq!(image("# syntax=docker/dockerfile:1\nFROM a").as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(image("#SYNTAX = a b c\nFROM a").as_deref(), Some("a"));
        assert_eq!(image("#!/usr/bin/env x\n# syntax=a").as_deref(), Some("a"));
        assert_eq!(image("\u{feff}# syntax=a\r\n").as_deref(), Some("a"));
        assert_eq!(image("// syntax=a").as_deref(), Some("a"));
        assert_eq!(image("{\"syntax\": \"a\"}").as_deref(), Some("a"));
        assert_eq!(syntax("# escape=`\n# syntax=a x").unwrap().line, 2);
        assert_eq!(syntax("# syntax=a x").unwrap().command_line, "a x");
    }

    #[test]
    fn directives_end_at_the_first_line_that_is_none() {
        for source in
            ["# comment\n# syntax=a", "\n# syntax=a", "# unknown=b\n# syntax=a", "FROM a\n# syntax=a", "# syntax="]
        {
            assert_eq!(image(source), None, "{source}");
        }
    }

    #[test]
    fn a_second_directive_of_a_name_is_refused() {
        let mut reader = DirectiveReader::new("#");
        assert!(reader.read("# escape=`").unwrap().is_some());
        assert_eq!(reader.read("# Escape=`"), Err(DirectiveError::Twice("escape".to_owned())));
    }
}
