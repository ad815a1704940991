//! Words of an instruction, and the variables in them.

use crate::error::{Error, Result};

/// What becomes of quotes and backslashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// They stay, for [`expand`] to read.
    Raw,
    /// They are taken away.
    Plain,
}

/// Splits at blanks outside of quotes; a backslash takes the next character as it is.
pub(super) fn split(text: &str, words: Words) -> Vec<String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let mut keep = |kept: &str| {
            let word = word.get_or_insert_default();
            if words == Words::Raw {
                word.push_str(kept);
            }
        };
        match (character, quote) {
            ('\\', None | Some('"')) => {
                keep("\\");
                word.get_or_insert_default().extend(characters.next());
            }
            (c, Some(open)) if c == open => {
                keep(&c.to_string());
                quote = None;
            }
            ('"' | '\'', None) => {
                keep(&character.to_string());
                quote = Some(character);
            }
            (c, None) if c.is_whitespace() => found.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    found
}

/// Takes quotes away and puts the values of variables in, as Docker's shell lexer does.
pub(super) fn expand(text: &str, env: &[String]) -> Result<String> {
    let mut expanded = String::new();
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None) => expanded.extend(characters.next()),
            ('\\', Some('"')) => match characters.peek() {
                Some('"' | '$' | '\\') => expanded.extend(characters.next()),
                _ => expanded.push('\\'),
            },
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(character),
            ('$', None | Some('"')) => expanded.push_str(&variable(&mut characters, env)?),
            (c, _) => expanded.push(c),
        }
    }
    match quote {
        Some(_) => Err(Error::invalid("unexpected end of statement while looking for matching quote")),
        None => Ok(expanded),
    }
}

fn variable(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, env: &[String]) -> Result<String> {
    let braced = characters.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(character) = characters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(character);
    }
    let value = lookup(&name, env);
    if !braced {
        return Ok(if name.is_empty() { "$".to_owned() } else { value.unwrap_or_default().to_owned() });
    }
    let missing = || Error::invalid("unexpected end of statement while looking for matching }");
    let mut rest = String::new();
    let mut depth = 1;
    loop {
        match characters.next().ok_or_else(missing)? {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            c => {
                rest.push(c);
                continue;
            }
        }
        rest.push(if depth == 1 { '}' } else { '{' });
    }
    let set = value.is_some_and(|value| !value.is_empty());
    match (&rest[..], rest.get(..2)) {
        ("", _) => Ok(value.unwrap_or_default().to_owned()),
        (_, Some(":-")) => {
            if set {
                Ok(value.unwrap_or_default().to_owned())
            } else {
                expand(&rest[2..], env)
            }
        }
        (_, Some(":+")) => {
            if set {
                expand(&rest[2..], env)
            } else {
                Ok(String::new())
            }
        }
        (text, _) if text.starts_with('-') => {
            value.map_or_else(|| expand(&text[1..], env), |value| Ok(value.to_owned()))
        }
        (text, _) if text.starts_with('+') => value.map_or_else(|| Ok(String::new()), |_| expand(&text[1..], env)),
        _ => Err(Error::invalid(format!("unsupported modifier ({rest}) in substitution"))),
    }
}

fn lookup<'a>(name: &str, env: &'a [String]) -> Option<&'a str> {
    env.iter().rev().find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in() {
        let env = ["A=1".to_owned(), "E=".to_owned()];
        for (text, expected) in [
            ("$A${A}x", "11x"),
            ("'$A'\"$A\"", "$A1"),
            ("\\$A", "$A"),
            ("${B:-d}${A:-d}${E:-e}", "d1e"),
            ("${A:+y}${B:+y}${E-x}", "y"),
            ("$", "$"),
            ("${B:-${A}}", "1"),
        ] {
            assert_eq!(expand(text, &env).unwrap(), expected, "{text}");
        }
        for text in ["${A", "'x", "${A!x}"] {
            assert!(expand(text, &env).is_err(), "{text}");
        }
    }

    #[test]
    fn words_end_at_blanks_outside_of_quotes() {
        assert_eq!(split("a 'b c' d\\ e", Words::Plain), ["a", "b c", "d e"]);
        assert_eq!(split("k='v w' x", Words::Raw), ["k='v w'", "x"]);
    }
}
