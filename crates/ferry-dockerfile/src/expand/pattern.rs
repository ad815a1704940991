//! The patterns of `${name#pattern}` and its kin: `*`, `?`, and characters.

use super::ExpandError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// Any number of characters, but no line end.
    Many,
    /// One character, but no line end.
    One,
    /// This one.
    Character(char),
}

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Reads a pattern; a backslash takes the meaning from `*`, `?`, itself, `}` and `/`.
    pub(super) fn parse(text: &str) -> Result<Self, ExpandError> {
        let mut tokens = Vec::new();
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            tokens.push(match c {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Character(escaped),
                    escape => {
                        let escape = escape.unwrap_or(char::REPLACEMENT_CHARACTER);
                        return Err(ExpandError::Pattern { pattern: text.to_owned(), escape });
                    }
                },
                c => Token::Character(c),
            });
        }
        Ok(Self { tokens })
    }

    /// Returns the value without what matches at its start.
    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let characters: Vec<char> = value.chars().collect();
        match Matching::new(&self.tokens, &characters, longest).end(0) {
            Some(end) => characters[end..].iter().collect(),
            None => value.to_owned(),
        }
    }

    /// Returns the value without what matches at its end.
    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let characters: Vec<char> = value.chars().rev().collect();
        match Matching::new(&tokens, &characters, longest).end(0) {
            Some(end) => characters[end..].iter().rev().collect(),
            None => value.to_owned(),
        }
    }

    /// Returns the value with its first match, or every one, replaced; matches are as long as they can be.
    pub(super) fn replace(&self, value: &str, replacement: &str, every: bool) -> String {
        let characters: Vec<char> = value.chars().collect();
        let mut matching = Matching::new(&self.tokens, &characters, true);
        let mut text = String::new();
        let mut position = 0;
        let mut last_end = None;
        let mut replaced = false;
        while position <= characters.len() {
            let found = if replaced && !every { None } else { matching.end(position) };
            match found {
                // An empty match right after another one is none.
                Some(end) if end > position || last_end != Some(position) => {
                    text.push_str(replacement);
                    replaced = true;
                    last_end = Some(end);
                    if end == position {
                        text.extend(characters.get(position));
                        position += 1;
                    } else {
                        position = end;
                    }
                }
                _ => {
                    text.extend(characters.get(position));
                    position += 1;
                }
            }
        }
        text
    }
}

/// Tokens against characters, with a memory of what did not match, so that no pattern takes long.
struct Matching<'a> {
    tokens: &'a [Token],
    characters: &'a [char],
    longest: bool,
    /// For each `*`: from this position on it is known to lead nowhere.
    dead_from: Vec<usize>,
}

impl<'a> Matching<'a> {
    fn new(tokens: &'a [Token], characters: &'a [char], longest: bool) -> Self {
        Self { tokens, characters, longest, dead_from: vec![usize::MAX; tokens.len()] }
    }

    /// Returns where a match that begins at a position ends.
    fn end(&mut self, position: usize) -> Option<usize> {
        self.from(0, position)
    }

    fn from(&mut self, mut token: usize, mut position: usize) -> Option<usize> {
        while let Some(next) = self.tokens.get(token) {
            let here = self.characters.get(position).copied();
            match *next {
                Token::Character(c) if here == Some(c) => position += 1,
                Token::One if here.is_some_and(|c| c != '\n') => position += 1,
                Token::Many => return self.many(token, position),
                Token::Character(_) | Token::One => return None,
            }
            token += 1;
        }
        Some(position)
    }

    fn many(&mut self, token: usize, position: usize) -> Option<usize> {
        let known = self.dead_from[token];
        if position >= known {
            return None;
        }
        let bound = known.min(self.characters.len());
        let line = self.characters[position..bound].iter().take_while(|c| **c != '\n').count();
        let last = (position + line).min(known - 1);
        for step in 0..=last - position {
            let next = if self.longest { last - step } else { position + step };
            if let Some(end) = self.from(token + 1, next) {
                return Some(end);
            }
        }
        // What lies beyond a line end was not tried.
        if position + line == bound {
            self.dead_from[token] = position;
        }
        None
    }
}
