//! "Did you mean": the nearest of the words that would have been right.

/// Words further away than this are no suggestion.
const TOO_FAR: usize = 3;

/// Returns the option nearest to a word, or `None` when none is near or the word is itself an option.
///
/// Without `case_sensitive` the answer takes the case of the word.
#[must_use]
pub fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>, case_sensitive: bool) -> Option<String> {
    let wanted = if case_sensitive { word.to_owned() } else { word.to_lowercase() };
    let mut best: Option<((usize, bool), String)> = None;
    for option in options {
        let option = if case_sensitive { option.to_owned() } else { option.to_lowercase() };
        if option == wanted {
            return None;
        }
        // Of two options equally near, the one that begins like the word is meant.
        let rank = (distance(&wanted, &option), option.chars().next() != wanted.chars().next());
        if rank.0 < TOO_FAR && best.as_ref().is_none_or(|(least, _)| rank < *least) {
            best = Some((rank, option));
        }
    }
    let (_, option) = best?;
    Some(if case_sensitive { option } else { in_case_of(&option, word) })
}

/// Returns a message with the nearest option in parentheses, if there is one.
#[must_use]
pub fn with_suggestion<'a>(
    message: String,
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
    case_sensitive: bool,
) -> String {
    match nearest(word, options, case_sensitive) {
        Some(option) => format!("{message} (did you mean {option}?)"),
        None => message,
    }
}

fn in_case_of(option: &str, word: &str) -> String {
    if word == word.to_lowercase() {
        option.to_lowercase()
    } else if word == word.to_uppercase() {
        option.to_uppercase()
    } else {
        option.to_owned()
    }
}

/// The Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_in_the_case_of_the_wrong_one() {
        assert_eq!(nearest("FORM", ["FROM", "RUN"], false).as_deref(), Some("FROM"));
        assert_eq!(nearest("form", ["FROM", "RUN"], false).as_deref(), Some("from"));
        assert_eq!(nearest("chwn", ["chown", "chmod"], true).as_deref(), Some("chown"));
    }

    #[test]
    fn far_words_and_right_words_get_no_suggestion() {
        assert_eq!(nearest("ABCDEFG", ["FROM"], false), None);
        assert_eq!(nearest("from", ["FROM"], false), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
