//! Here-documents: finding their words in a line.

use super::SyntaxError;
use crate::expand::{ExpandError, Lexer, NoVariables};
use crate::instruction::Heredoc;

/// Returns the here-documents that a line begins, without their content.
pub(super) fn in_line(line: &str) -> Result<Vec<Heredoc>, SyntaxError> {
    let lexer = Lexer { keep_quotes: true, keep_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    // A line with an open quote is the shell's business: it has no here-documents of ours.
    let words = lexer.words(line, &NoVariables).unwrap_or_default();
    let mut found = Vec::new();
    for word in words.iter().filter(|word| !has_modifier(word)) {
        found.extend(heredoc_word(word)?);
    }
    Ok(found)
}

/// Tells whether a variable with a modifier is in a word: then it is no here-document, but arithmetic such as `$((1 <<${n:-2}))`.
fn has_modifier(word: &str) -> bool {
    let starts = word.match_indices("${").filter(|(place, _)| !word[..*place].ends_with('\\'));
    starts.into_iter().any(|(place, _)| {
        let rest = word[place + 2..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        rest.starts_with([':', '+', '-', '?', '#', '%', '/'])
    })
}

/// Reads a word such as `3<<-"EOF"`; `None` when it begins no here-document.
pub(crate) fn heredoc_word(word: &str) -> Result<Option<Heredoc>, ExpandError> {
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (descriptor, rest) = word.split_at(digits);
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let plain = Lexer { keep_unset: true, ..Lexer::new('\\') };
    let names = plain.words(rest, &NoVariables)?;
    let [name] = &names[..] else { return Ok(None) };
    let raw = Lexer { keep_quotes: true, ..plain }.words(rest, &NoVariables)?;
    let quotes = |text: &str| text.chars().filter(|c| matches!(c, '\'' | '"')).count();
    Ok(Some(Heredoc {
        name: name.clone(),
        descriptor: descriptor.parse().unwrap_or(0),
        // Quotes that are gone from the name were around it.
        expand: quotes(name) == raw.iter().map(|word| quotes(word)).sum::<usize>(),
        strip_tabs,
        content: String::new(),
    }))
}
