//! The first pass: a file cut into logical lines, each with its keyword, flags and words.

mod heredoc;
mod line;
mod words;

pub(crate) use line::{Arguments, RawLine};

use crate::check::{Checks, NO_EMPTY_CONTINUATION};
use crate::directive::{DirectiveError, DirectiveReader};
use crate::error::ParseError;
use crate::instruction::Heredoc;
use crate::source::Lines;

pub(crate) use heredoc::heredoc_word;

/// The longest physical line that is read, in bytes, without its end.
const MAX_LINE_BYTES: usize = 65_535;

/// Why a file cannot be cut into instructions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// No instruction in it.
    #[error("file with no instructions")]
    NoInstructions,
    /// A line beyond all measure.
    #[error("dockerfile line greater than max allowed size of 65535")]
    LineTooLong,
    /// A here-document without its last line.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    /// A here-document's word that cannot be read.
    #[error(transparent)]
    HeredocWord(#[from] crate::expand::ExpandError),
    /// A JSON list with something else than texts.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    /// ENV or LABEL with a name alone.
    #[error("{0} must have two arguments")]
    NoValue(&'static str),
    /// ENV or LABEL with a word that is no pair.
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", crate::quote::quoted(.0))]
    NoEquals(String),
}

/// A file's logical lines.
#[derive(Debug)]
pub(crate) struct Syntax {
    pub(crate) escape: char,
    pub(crate) lines: Vec<RawLine>,
}

/// Cuts a file into logical lines.
pub(crate) fn parse(source: &str, checks: &mut Checks) -> Result<Syntax, ParseError> {
    Reader::new(source).read(checks)
}

struct Reader<'a> {
    lines: std::str::SplitInclusive<'a, char>,
    /// How many physical lines are read.
    line: u32,
    escape: char,
    directives: DirectiveReader<'a>,
    comments: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a str) -> Self {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        Self {
            lines: source.split_inclusive('\n'),
            line: 0,
            escape: '\\',
            directives: DirectiveReader::new("#"),
            comments: Vec::new(),
        }
    }

    fn read(mut self, checks: &mut Checks) -> Result<Syntax, ParseError> {
        let mut found: Vec<RawLine> = Vec::new();
        while let Some(line) = self.next_line(found.is_empty())? {
            self.remember_comment(line);
            let text = line.trim_end_matches(['\r', '\n']).trim_start();
            self.directive(text)?;
            self.line += 1;
            let first = self.line;
            let (text, mut more) = self.without_continuation(if text.starts_with('#') { "" } else { text });
            if text.is_empty() && !more {
                continue;
            }
            let mut logical = text.to_owned();
            let mut has_empty = false;
            while more {
                let Some(line) = self.next_line(found.is_empty())? else { break };
                self.line += 1;
                let text = line.trim_end_matches(['\r', '\n']);
                if text.trim_start().starts_with('#') {
                    continue;
                }
                if text.trim_start().is_empty() {
                    has_empty = true;
                    continue;
                }
                let (text, again) = self.without_continuation(text);
                logical.push_str(text);
                more = again;
            }
            if has_empty {
                let detail = "Empty continuation line".to_owned();
                checks.report(&NO_EMPTY_CONTINUATION, Lines::single(self.line), detail, &[]);
            }
            found.push(self.instruction(logical, first)?);
        }
        if found.is_empty() {
            return Err(ParseError::new(SyntaxError::NoInstructions, [Lines::single(self.line)]));
        }
        Ok(Syntax { escape: self.escape, lines: found })
    }

    fn next_line(&mut self, is_first: bool) -> Result<Option<&'a str>, ParseError> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        if line.strip_suffix('\n').unwrap_or(line).len() > MAX_LINE_BYTES {
            // A file that ends before its first instruction is told that first.
            let error = if is_first { SyntaxError::NoInstructions } else { SyntaxError::LineTooLong };
            return Err(ParseError::new(error, [Lines::single(self.line)]));
        }
        Ok(Some(line))
    }

    /// Keeps what a comment says for the instruction below; an empty comment drops what was said above.
    fn remember_comment(&mut self, line: &str) {
        if !line.trim_start().starts_with('#') {
            return;
        }
        let mut characters = line.chars();
        characters.next();
        let text = characters.as_str().trim();
        if text.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(text.to_owned());
        }
    }

    fn directive(&mut self, text: &str) -> Result<(), ParseError> {
        // BuildKit places the error on the line before.
        let here = [Lines::single(self.line)];
        let directive = self.directives.read(text).map_err(|error| ParseError::new(error, here))?;
        let Some(directive) = directive else { return Ok(()) };
        self.comments.pop();
        if directive.name == "escape" {
            self.escape = match directive.value.as_str() {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(ParseError::new(DirectiveError::Escape(directive.value), here)),
            };
        }
        Ok(())
    }

    /// Takes off the escape character at a line's end; the flag tells that there was one.
    fn without_continuation<'t>(&self, line: &'t str) -> (&'t str, bool) {
        let Some(rest) = line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) else { return (line, false) };
        // An escape that is itself escaped continues nothing.
        if rest.ends_with(self.escape) { (line, false) } else { (rest, true) }
    }

    fn instruction(&mut self, text: String, first: u32) -> Result<RawLine, ParseError> {
        let comments = std::mem::take(&mut self.comments);
        let lines = Lines::new(first, self.line);
        let mut raw =
            RawLine::parse(text, self.escape, comments, lines).map_err(|error| ParseError::new(error, [lines]))?;
        if raw.may_have_heredocs() {
            let mut heredocs = heredoc::in_line(&raw.source).map_err(|error| ParseError::new(error, [lines]))?;
            for heredoc in &mut heredocs {
                self.fill(heredoc, first)?;
            }
            raw.heredocs = heredocs;
            raw.lines = Lines::new(first, self.line);
        }
        Ok(raw)
    }

    /// Reads the lines of a here-document.
    fn fill(&mut self, heredoc: &mut Heredoc, first: u32) -> Result<(), ParseError> {
        while let Some(line) = self.next_line(false)? {
            self.line += 1;
            let text = line.trim_end_matches(['\r', '\n']);
            let text = if heredoc.strip_tabs { text.trim_start_matches('\t') } else { text };
            if text == heredoc.name {
                return Ok(());
            }
            heredoc.content.push_str(line);
        }
        Err(ParseError::new(SyntaxError::UnterminatedHeredoc, [Lines::new(first, self.line)]))
    }
}

#[cfg(test)]
mod tests;
