use super::*;

fn matched(patterns: &[&str], path: &str) -> bool {
    let patterns = Patterns::new(patterns.iter().copied()).unwrap();
    let whole = patterns.matches(path);
    // A walk from the root must say the same.
    let mut state = ParentMatches::default();
    let mut walked = false;
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    for end in ends {
        (walked, state) = patterns.matches_below(&path[..end], &state);
    }
    assert_eq!(whole, walked, "{path}");
    whole
}

#[test]
fn files_are_read() {
    let text = "\u{feff}# comment\n\n  a/b/ \n/c\n !/d\n #e\n./f/../g\r\n/\n.\n!\n";
    assert_eq!(read(text), ["a/b", "c", "!d", "#e", "g", "/", ".", "!"]);
}

#[test]
fn every_kind_of_pattern() {
    for (pattern, path, expected) in [
        ("a", "a", true),
        ("a", "b/a", false),
        ("a", "a/b/c", true),
        ("*", "a", true),
        ("*", "a/b", true),
        ("*.log", "x.log", true),
        ("*.log", "d/x.log", false),
        ("*/x", "d/x", true),
        ("*/x", "d/e/x", false),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("[^a-c]x", "dx", true),
        ("**", "a/b", true),
        ("**/x", "x", true),
        ("**/x", "a/b/x", true),
        ("**/x", "a/bx", false),
        ("**/*.go", "a/b/c.go", true),
        ("**/*.go", "c.go", true),
        ("a/**", "a/b", true),
        ("a/**", "a", false),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/xb", false),
        ("**/a/**", "x/a/y", true),
        ("**x", "abx", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("a.b", "axb", false),
        ("a+(b)|c$", "a+(b)|c$", true),
        (".", "a", false),
        ("é*", "éa", true),
        ("a/../b", "b", true),
    ] {
        assert_eq!(matched(&[pattern], path), expected, "{pattern} {path}");
    }
}

#[test]
fn the_last_pattern_that_fits_wins() {
    assert!(!matched(&["*.md", "!README.md"], "README.md"));
    assert!(matched(&["*.md", "!README*.md", "README-secret.md"], "README-secret.md"));
    assert!(matched(&["!README.md", "*.md"], "README.md"));
    assert!(!matched(&["d", "!d/keep"], "d/keep"));
    assert!(!matched(&["d", "!d/keep"], "d/keep/x"));
    assert!(matched(&["d", "!d/keep"], "d/other"));
    assert!(!matched(&["**", "!a"], "a/b"));
}

#[test]
fn malformed_patterns_are_refused() {
    for pattern in ["[", "[a", "[]a]", "[-x]", "[x-]", "a\\"] {
        assert_eq!(Patterns::new([pattern]).unwrap_err(), PatternError::Syntax, "{pattern}");
    }
    assert_eq!(Patterns::new(["!"]).unwrap_err().to_string(), "illegal exclusion pattern: \"!\"");
}

#[test]
fn directories_are_entered_only_for_exceptions() {
    let patterns = Patterns::new(["d", "!d/a/*.txt", "e", "!**/keep", "f"]).unwrap();
    assert!(patterns.has_exceptions());
    let without_deep = Patterns::new(["d", "!d/a/*.txt"]).unwrap();
    assert!(without_deep.may_reenter("d"));
    assert!(without_deep.may_reenter("d/a"));
    assert!(!without_deep.may_reenter("d/b"));
    assert!(!without_deep.may_reenter("e"));
    assert!(patterns.may_reenter("f"));
    let fixed = Patterns::new(["d", "!d/a/**/x"]).unwrap();
    assert!(fixed.may_reenter("d") && fixed.may_reenter("d/a/b"));
    assert!(!fixed.may_reenter("d/c"));
}

#[test]
fn single_patterns_match_as_go_does() {
    assert_eq!(matches("a[^b]c", "a/c"), Ok(false));
    assert_eq!(matches("*/[a-z]", "x/y"), Ok(true));
    assert_eq!(matches("**", "a/b"), Ok(false));
    assert_eq!(matches("", ""), Ok(true));
    assert_eq!(matches("[", "a"), Err(PatternError::Syntax));
    assert!(has_wildcards("a*") && has_wildcards("[a]") && !has_wildcards("a\\*"));
}

#[test]
fn no_pattern_is_slow() {
    let pattern = "*a".repeat(50);
    assert!(!matched(&[&pattern], &format!("{}b", "a".repeat(3_000))));
}
