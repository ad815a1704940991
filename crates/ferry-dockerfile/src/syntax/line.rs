//! One logical line: keyword, flags, words.

use super::SyntaxError;
use super::words::{split_flags, split_whitespace, words};
use crate::instruction::{Heredoc, KeyValue};
use crate::source::Lines;

/// A logical line before its instruction has a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawLine {
    /// The first word, as written.
    pub(crate) keyword: String,
    /// Words with `--` behind it.
    pub(crate) flags: Vec<String>,
    pub(crate) arguments: Arguments,
    pub(crate) heredocs: Vec<Heredoc>,
    /// The whole line, continuations joined.
    pub(crate) source: String,
    pub(crate) lines: Lines,
    /// What comments right above say.
    pub(crate) comments: Vec<String>,
}

/// What follows the keyword and the flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// Words, or one word for the whole rest.
    Words(Vec<String>),
    /// Texts of a JSON list; HEALTHCHECK has its type before them.
    Exec(Vec<String>),
    /// Names and values.
    Pairs(Vec<KeyValue>),
    /// The instruction after ONBUILD.
    Nested(Box<RawLine>),
}

impl RawLine {
    pub(super) fn parse(
        source: String,
        escape: char,
        comments: Vec<String>,
        lines: Lines,
    ) -> Result<Self, SyntaxError> {
        let (keyword, rest) = split_once_whitespace(source.trim());
        let (flags, rest) = split_flags(rest, escape);
        let keyword = keyword.to_owned();
        let arguments = Arguments::parse(&keyword.to_lowercase(), rest.trim(), escape, lines)?;
        Ok(Self { keyword, flags, arguments, heredocs: Vec::new(), source, lines, comments })
    }

    /// Tells whether here-documents may follow the line.
    pub(super) fn may_have_heredocs(&self) -> bool {
        let line = match &self.arguments {
            Arguments::Nested(nested) => nested,
            _ => self,
        };
        let takes_them = matches!(line.keyword.to_lowercase().as_str(), "add" | "copy" | "run");
        takes_them && !matches!(line.arguments, Arguments::Exec(_)) && self.source.contains("<<")
    }
}

impl Arguments {
    fn parse(keyword: &str, rest: &str, escape: char, lines: Lines) -> Result<Self, SyntaxError> {
        Ok(match keyword {
            "run" | "cmd" | "entrypoint" | "shell" => exec(rest)?.unwrap_or_else(|| whole(rest)),
            "add" | "copy" | "volume" => exec(rest)?.unwrap_or_else(|| Self::Words(split_whitespace(rest))),
            "expose" | "from" => Self::Words(split_whitespace(rest)),
            "maintainer" | "stopsignal" | "user" | "workdir" => whole(rest),
            "arg" => Self::Words(words(rest, escape)),
            "env" => Self::Pairs(pairs(rest, "ENV", escape)?),
            "label" => Self::Pairs(pairs(rest, "LABEL", escape)?),
            "healthcheck" => healthcheck(rest)?,
            "onbuild" if !rest.is_empty() => {
                Self::Nested(Box::new(RawLine::parse(rest.to_owned(), escape, Vec::new(), lines)?))
            }
            _ => Self::Words(Vec::new()),
        })
    }

    /// Returns the words, whatever form they have.
    pub(crate) fn words(&self) -> &[String] {
        match self {
            Self::Words(words) | Self::Exec(words) => words,
            Self::Pairs(_) | Self::Nested(_) => &[],
        }
    }

    /// Tells whether they were written as a JSON list.
    pub(crate) fn is_exec(&self) -> bool {
        matches!(self, Self::Exec(_))
    }
}

fn whole(rest: &str) -> Arguments {
    Arguments::Words(if rest.is_empty() { Vec::new() } else { vec![rest.to_owned()] })
}

/// Reads a JSON list of texts; `None` when it is no JSON list at all.
fn exec(rest: &str) -> Result<Option<Arguments>, SyntaxError> {
    if !rest.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else { return Ok(None) };
    let texts = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(SyntaxError::NotStrings),
    });
    Ok(Some(Arguments::Exec(texts.collect::<Result<_, _>>()?)))
}

fn healthcheck(rest: &str) -> Result<Arguments, SyntaxError> {
    let (kind, command) = match rest.find(char::is_whitespace) {
        Some(end) => (&rest[..end], rest[end..].trim_start()),
        None => (rest, ""),
    };
    if kind.is_empty() {
        return Ok(Arguments::Words(Vec::new()));
    }
    let mut words = vec![kind.to_owned()];
    if let Some(list) = exec(command)? {
        words.extend_from_slice(list.words());
        return Ok(Arguments::Exec(words));
    }
    if !command.is_empty() {
        words.push(command.to_owned());
    }
    Ok(Arguments::Words(words))
}

/// Reads `name=value …`, or the old form `name value`.
fn pairs(rest: &str, keyword: &'static str, escape: char) -> Result<Vec<KeyValue>, SyntaxError> {
    let words = words(rest, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let (key, value) = split_once_whitespace(rest);
        if key.len() == rest.len() {
            return Err(SyntaxError::NoValue(keyword));
        }
        return Ok(vec![KeyValue { key: key.to_owned(), value: value.to_owned(), legacy: true }]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((key, value)) => Ok(KeyValue { key: key.to_owned(), value: value.to_owned(), legacy: false }),
        None => Err(SyntaxError::NoEquals(word)),
    };
    words.into_iter().map(pair).collect()
}

/// Splits at the first run of spaces.
fn split_once_whitespace(text: &str) -> (&str, &str) {
    let is_space = |c: char| matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ');
    match text.find(is_space) {
        Some(end) => (&text[..end], text[end..].trim_start_matches(is_space)),
        None => (text, ""),
    }
}
