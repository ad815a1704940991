use super::*;

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "HOME" => "/root",
        "EMPTY" => "",
        "FILE" => "a.tar.gz",
        "PATHS" => "/a/b/c",
        "SPACES" => "x  y",
        "1" => return None,
        _ => return None,
    };
    Some(value.to_owned())
}

fn text(word: &str) -> Result<String, String> {
    match Lexer::new('\\').text(word, &variables) {
        Ok(expanded) => Ok(expanded.text),
        Err((ExpandError::Word { cause, .. }, _)) => Err(cause.to_string()),
        Err((other, _)) => Err(other.to_string()),
    }
}

#[test]
fn every_form_of_expansion() {
    for (word, expected) in [
        ("plain", "plain"),
        ("$HOME", "/root"),
        ("${HOME}x", "/rootx"),
        ("a$HOME.b", "a/root.b"),
        ("$NONE", ""),
        ("a${NONE}b", "ab"),
        ("$.", "$."),
        ("a$", "a$"),
        ("$1x", "x"),
        ("$0", ""),
        ("$@@", "@"),
        ("${NONE:-w}", "w"),
        ("${NONE-w}", "w"),
        ("${EMPTY:-w}", "w"),
        ("${EMPTY-w}", ""),
        ("${HOME:-w}", "/root"),
        ("${HOME:+w}", "w"),
        ("${EMPTY:+w}", ""),
        ("${EMPTY+w}", "w"),
        ("${NONE+w}", ""),
        ("${NONE:-$HOME}", "/root"),
        ("${NONE:-${OTHER:-deep}}", "deep"),
        ("${NONE:-a b}", "a b"),
        ("${NONE:-\\${X}y}", "${Xy}"),
        ("${HOME?}", "/root"),
        ("${EMPTY?}", ""),
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "a.tar"),
        ("${FILE%%.*}", "a"),
        ("${FILE#?}", ".tar.gz"),
        ("${FILE#x}", "a.tar.gz"),
        ("${FILE%\\*}", "a.tar.gz"),
        ("${FILE%r.gz}", "a.ta"),
        ("${FILE/a/b}", "b.tar.gz"),
        ("${FILE//a/b}", "b.tbr.gz"),
        ("${FILE/./}", "atar.gz"),
        ("${FILE//t*r/X}", "a.X.gz"),
        ("${PATHS//\\//-}", "-a-b-c"),
        ("${FILE//?/x}", "xxxxxxxx"),
        ("${NONE/a/b}", ""),
        ("${NONE#a}", ""),
        ("\\$HOME", "$HOME"),
        ("\\\\$HOME", "\\/root"),
        ("'$HOME'", "$HOME"),
        ("\"$HOME\"", "/root"),
        ("\"a'b\"", "a'b"),
        ("\"a\\tb\"", "a\\tb"),
        ("\"a\\\"b\"", "a\"b"),
        ("a\\tb", "atb"),
        ("it's'", "its"),
        ("end\\", "end"),
        ("한${HOME}", "한/root"),
        ("a<b", "a<b"),
    ] {
        assert_eq!(text(word).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn every_error() {
    for (word, error) in [
        ("it's", "unexpected end of statement while looking for matching single-quote"),
        ("\"a", "unexpected end of statement while looking for matching double-quote"),
        ("${", "syntax error: missing '}'"),
        ("${A:-b", "syntax error: missing '}'"),
        ("${A:-'b}", "syntax error: missing '}'"),
        ("${A/b", "syntax error: missing '/' in ${}"),
        ("${A/b/c", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${{A}", "syntax error: bad substitution"),
        ("${:-a}", "syntax error: bad substitution"),
        ("${A", "unsupported modifier (\u{fffd}) in substitution"),
        ("${A:=b}", "unsupported modifier (:=) in substitution"),
        ("${A.b}", "unsupported modifier (.) in substitution"),
        ("${A:#b}", "unsupported modifier (:#) in substitution"),
        ("${A?}", "A: is not allowed to be unset"),
        ("${A:?}", "A: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${A?give it}", "A: give it"),
        ("${FILE#\\x}", "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
    ] {
        assert_eq!(text(word), Err(error.to_owned()), "{word}");
    }
    let (error, _) = Lexer::new('\\').text("a\"b", &variables).unwrap_err();
    let expected = "failed to process \"a\\\"b\": unexpected end of statement while looking for matching double-quote";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn words_are_split_after_expansion_unless_quoted() {
    for (text, expected) in [
        ("a  b", vec!["a", "b"]),
        ("a$SPACES", vec!["ax", "y"]),
        ("a\"$SPACES\"b", vec!["ax  yb"]),
        ("a\\ b", vec!["a b"]),
        ("'a b' c", vec!["a b", "c"]),
        ("80${NONE:-90}", vec!["8090"]),
        ("", vec![]),
    ] {
        assert_eq!(Lexer::new('\\').words(text, &variables).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_is_found_and_what_is_missing_is_told() {
    let expanded = Lexer::new('\\').text("$HOME ${A:-$B} $HOME", &variables).unwrap();
    assert_eq!(expanded.found, ["HOME".to_owned()].into());
    assert_eq!(expanded.missing, ["A".to_owned(), "B".to_owned()].into());
}

#[test]
fn raw_modes_keep_what_is_written() {
    let keep = Lexer { keep_quotes: true, keep_unset: true, ..Lexer::new('\\') };
    let text = keep.text("RUN \"$HOME\" '$X' $Y ${Z} ${A:-b}", &variables).unwrap().text;
    assert_eq!(text, "RUN \"/root\" '$X' $Y ${Z} ${A:-b}");
    let documents = Lexer { ignore_quotes: true, ..Lexer::new('\\') };
    assert_eq!(documents.text("it's \"$HOME\" \\$X", &variables).unwrap().text, "it's \"/root\" $X");
}

#[test]
fn the_escape_may_be_a_backtick() {
    let lexer = Lexer::new('`');
    assert_eq!(lexer.text("`$HOME c:\\$HOME", &variables).unwrap().text, "$HOME c:\\/root");
}

#[test]
fn long_patterns_end() {
    let value = "a".repeat(2_000);
    let variables = |_: &str| Some(value.clone());
    let pattern = "*a".repeat(200);
    let text = Lexer::new('\\').text(&format!("${{X##{pattern}b}}"), &variables).unwrap().text;
    assert_eq!(text, value);
}
