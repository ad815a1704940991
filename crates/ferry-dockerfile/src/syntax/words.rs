//! Words of a line: flags, quoted words, plain words.

/// Splits at runs of spaces.
pub(super) fn split_whitespace(text: &str) -> Vec<String> {
    let is_space = |c: char| matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ');
    text.split(is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Takes the words that begin with `--` off the front; quotes and escapes in them are resolved. A `--` alone ends them.
pub(super) fn split_flags(line: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.trim_start();
        if !start.starts_with("--") {
            return (flags, start);
        }
        let (flag, after) = flag(start, escape);
        rest = after;
        if flag == "--" {
            return (flags, rest);
        }
        flags.push(flag);
    }
}

/// Reads one flag.
fn flag(text: &str, escape: char) -> (String, &str) {
    let mut flag = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((place, c)) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            return (flag, &text[place..]);
        }
        if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        } else if c == escape {
            // An escape at the very end escapes nothing.
            flag.extend(characters.next().map(|(_, escaped)| escaped));
        } else {
            flag.push(c);
        }
    }
    (flag, "")
}

/// Splits at spaces outside of quotes; quotes and escapes stay.
pub(super) fn words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        // Nothing can be escaped between single quotes.
        if c == escape && quote != Some('\'') {
            let Some(escaped) = characters.next() else { break };
            word.push(c);
            word.push(escaped);
            continue;
        }
        if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_taken_off_the_front() {
        let split = |line| split_flags(line, '\\');
        assert_eq!(split("--a --b=c rest --d"), (vec!["--a".to_owned(), "--b=c".to_owned()], "rest --d"));
        assert_eq!(split("rest"), (vec![], "rest"));
        assert_eq!(split("--a=\"x y\" z"), (vec!["--a=x y".to_owned()], "z"));
        assert_eq!(split("--a='x\"y' z"), (vec!["--a=x\"y".to_owned()], "z"));
        assert_eq!(split("--a=x\\ y z"), (vec!["--a=x y".to_owned()], "z"));
        assert_eq!(split("--a -- --b"), (vec!["--a".to_owned()], " --b"));
        assert_eq!(split("--a"), (vec!["--a".to_owned()], ""));
        assert_eq!(split("- x"), (vec![], "- x"));
    }

    #[test]
    fn quotes_hold_words_together_and_stay() {
        assert_eq!(words("a=\"b c\" d='e f' g\\ h", '\\'), ["a=\"b c\"", "d='e f'", "g\\ h"]);
        assert_eq!(words("  a  b ", '\\'), ["a", "b"]);
        assert_eq!(words("a=\"b\\\" c\" d", '\\'), ["a=\"b\\\" c\"", "d"]);
        assert_eq!(words("a='b\\' c", '\\'), ["a='b\\'", "c"]);
        assert_eq!(words("a\\", '\\'), ["a"]);
        assert_eq!(words("", '\\'), Vec::<String>::new());
    }
}
