//! One pattern: reading it, and holding it against a path.

/// Why a pattern is none; Go's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A class without its end, or an escape of nothing.
    #[error("syntax error in pattern")]
    Syntax,
    /// An exception from nothing.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyException,
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    Character(char),
    /// Any character but a slash.
    One,
    /// Any number of characters but slashes.
    Many,
    /// One of a set of characters, or one that is not.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// Nothing, or anything that ends with a slash.
    Directories,
    /// Anything.
    Everything,
}

/// Reads a pattern; with `deep`, `**` stands for any number of directories.
pub(super) fn parse(pattern: &str, deep: bool) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(c) = next(&mut rest) {
        tokens.push(match c {
            '*' if deep && rest.starts_with('*') => {
                rest = &rest[1..];
                rest = rest.strip_prefix('/').unwrap_or(rest);
                if rest.is_empty() { Token::Everything } else { Token::Directories }
            }
            '*' => Token::Many,
            '?' => Token::One,
            '[' => class(&mut rest)?,
            '\\' => Token::Character(next(&mut rest).ok_or(PatternError::Syntax)?),
            c => Token::Character(c),
        });
    }
    Ok(tokens)
}

/// Reads the inside of `[…]`.
fn class(rest: &mut &str) -> Result<Token, PatternError> {
    let negated = rest.starts_with('^');
    if negated {
        *rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    while ranges.is_empty() || !rest.starts_with(']') {
        let low = class_character(rest)?;
        let high = match rest.strip_prefix('-') {
            Some(after) => {
                *rest = after;
                class_character(rest)?
            }
            None => low,
        };
        ranges.push((low, high));
    }
    *rest = &rest[1..];
    Ok(Token::Class { negated, ranges })
}

fn class_character(rest: &mut &str) -> Result<char, PatternError> {
    let c = match next(rest) {
        Some('\\') => next(rest),
        Some('-' | ']') => None,
        other => other,
    };
    match c {
        Some(c) if !rest.is_empty() => Ok(c),
        _ => Err(PatternError::Syntax),
    }
}

fn next(rest: &mut &str) -> Option<char> {
    let c = rest.chars().next()?;
    *rest = &rest[c.len_utf8()..];
    Some(c)
}

/// Tells whether tokens match a whole path.
pub(super) fn tokens_match(tokens: &[Token], path: &[char]) -> bool {
    // The states that are alive after each character, as in any small automaton: never slow, whatever the pattern.
    let mut alive = vec![false; tokens.len() + 1];
    activate(&mut alive, tokens, 0);
    for &c in path {
        let mut after = vec![false; tokens.len() + 1];
        for (state, token) in tokens.iter().enumerate().filter(|(state, _)| alive[*state]) {
            match token {
                Token::Everything => activate(&mut after, tokens, state),
                Token::Many if c != '/' => activate(&mut after, tokens, state),
                Token::Directories => {
                    // Inside a directory's name the only ways on are another character, or the slash behind it.
                    after[state] = true;
                    if c == '/' {
                        activate(&mut after, tokens, state + 1);
                    }
                }
                token if one_matches(token, c) => activate(&mut after, tokens, state + 1),
                _ => {}
            }
        }
        alive = after;
    }
    alive[tokens.len()]
}

/// Makes a state alive, and those reached from it without a character.
fn activate(alive: &mut [bool], tokens: &[Token], state: usize) {
    alive[state] = true;
    if let Some(Token::Many | Token::Directories | Token::Everything) = tokens.get(state) {
        activate(alive, tokens, state + 1);
    }
}

fn one_matches(token: &Token, c: char) -> bool {
    match token {
        Token::Character(wanted) => *wanted == c,
        Token::One => c != '/',
        Token::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        Token::Many | Token::Directories | Token::Everything => false,
    }
}

/// Tells whether a pattern of Go's `filepath.Match` matches a whole name.
///
/// # Errors
/// [`PatternError::Syntax`].
pub fn matches(pattern: &str, name: &str) -> Result<bool, PatternError> {
    let tokens = parse(pattern, false)?;
    // Here, unlike in lists, no class matches a slash.
    let slashes_fit = tokens.iter().all(|token| !matches!(token, Token::Class { .. })) || !name.contains('/');
    let characters: Vec<char> = name.chars().collect();
    if slashes_fit {
        return Ok(tokens_match(&tokens, &characters));
    }
    Ok(match_by_elements(&tokens, name))
}

/// Matches element by element, so that a class cannot reach over a slash.
fn match_by_elements(tokens: &[Token], name: &str) -> bool {
    let patterns = tokens.split(|token| *token == Token::Character('/'));
    let mut elements = name.split('/');
    for pattern in patterns {
        let Some(element) = elements.next() else { return false };
        if !tokens_match(pattern, &element.chars().collect::<Vec<_>>()) {
            return false;
        }
    }
    elements.next().is_none()
}

/// Tells whether a path has characters that make it a pattern.
#[must_use]
pub fn has_wildcards(path: &str) -> bool {
    let mut characters = path.chars();
    while let Some(c) = characters.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => {
                characters.next();
            }
            _ => {}
        }
    }
    false
}
