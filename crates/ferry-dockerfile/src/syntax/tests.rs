use super::*;

fn lines(source: &str) -> Vec<RawLine> {
    parse(source, &mut Checks::default()).unwrap().lines
}

fn error(source: &str) -> (String, Vec<Lines>) {
    let error = parse(source, &mut Checks::default()).unwrap_err();
    (error.to_string(), error.places)
}

fn sources(source: &str) -> Vec<String> {
    lines(source).into_iter().map(|line| line.source).collect()
}

#[test]
fn continuations_are_joined_and_comments_within_left_out() {
    assert_eq!(sources("FROM a\nRUN b \\\n  # no\n  c\\\n\td \\  \ne\n"), ["FROM a", "RUN b   c\td e"]);
    assert_eq!(sources("FROM a\r\nRUN b \\\r\n c\r\n"), ["FROM a", "RUN b  c"]);
    assert_eq!(sources("  FROM a\n\n \t# x\n\tRUN b"), ["FROM a", "RUN b"]);
    assert_eq!(sources("\u{feff}FROM a"), ["FROM a"]);
    assert_eq!(sources("# escape=`\nFROM a\nRUN b `\n c:\\"), ["FROM a", "RUN b  c:\\"]);
    assert_eq!(sources("RUN a \\\\\nRUN b \\\\\\\nRUN c\\"), ["RUN a \\\\", "RUN b \\\\\\", "RUN c"]);
    assert_eq!(lines("FROM a\nRUN b \\\n c\nRUN d")[1].lines, Lines::new(2, 3));
}

#[test]
fn empty_lines_in_continuations_warn() {
    let mut checks = Checks::default();
    let syntax = parse("FROM a\nRUN b \\\n\n c\n", &mut checks).unwrap();
    assert_eq!(syntax.lines[1].source, "RUN b  c");
    assert_eq!(checks.warnings()[0].short(), "NoEmptyContinuation: Empty continuation line (line 4)");
}

#[test]
fn comments_right_above_belong_to_the_instruction() {
    let found = lines("# syntax=x\n# one\n# two\nFROM a\n# three\n#\n# four\nRUN b\nRUN c");
    assert_eq!(found[0].comments, ["one", "two"]);
    assert_eq!(found[1].comments, ["four"]);
    assert_eq!(found[2].comments, Vec::<String>::new());
}

#[test]
fn json_lists_are_told_from_shell_lines() {
    let arguments = |line: &str| lines(line).remove(0).arguments;
    let exec = |words: &[&str]| Arguments::Exec(words.iter().map(|word| (*word).to_owned()).collect());
    let words = |words: &[&str]| Arguments::Words(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(arguments("RUN [\"a\", \"b c\"]"), exec(&["a", "b c"]));
    assert_eq!(arguments("RUN []"), exec(&[]));
    assert_eq!(arguments("RUN ['a']"), words(&["['a']"]));
    assert_eq!(arguments("RUN [ -x /a ]"), words(&["[ -x /a ]"]));
    assert_eq!(arguments("RUN"), words(&[]));
    assert_eq!(arguments("COPY [\"a b\", \"/c\"]"), exec(&["a b", "/c"]));
    assert_eq!(arguments("COPY a  b\t/c"), words(&["a", "b", "/c"]));
    assert_eq!(arguments("HEALTHCHECK CMD [\"a\"]"), exec(&["CMD", "a"]));
    assert_eq!(arguments("HEALTHCHECK  CMD  a b"), words(&["CMD", "a b"]));
    assert_eq!(arguments("HEALTHCHECK NONE"), words(&["NONE"]));
    assert_eq!(error("CMD [1]").0, "when using JSON array syntax, arrays must be comprised of strings only");
}

#[test]
fn pairs_in_both_forms() {
    let pairs = |line: &str| match lines(line).remove(0).arguments {
        Arguments::Pairs(pairs) => {
            pairs.into_iter().map(|pair| (pair.key, pair.value, pair.legacy)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let new = |key: &str, value: &str| (key.to_owned(), value.to_owned(), false);
    assert_eq!(pairs("ENV a=b c=\"d e\" f=g\\ h"), [new("a", "b"), new("c", "\"d e\""), new("f", "g\\ h")]);
    assert_eq!(pairs("LABEL a=b=c"), [new("a", "b=c")]);
    assert_eq!(pairs("ENV a  b c=d"), [("a".to_owned(), "b c=d".to_owned(), true)]);
    assert_eq!(error("ENV a").0, "ENV must have two arguments");
    assert_eq!(error("LABEL a").0, "LABEL must have two arguments");
    assert_eq!(error("ENV a=b c").0, "Syntax error - can't find = in \"c\". Must be of the form: name=value");
}

#[test]
fn heredocs_of_every_form() {
    let found =
        lines("RUN <<EOF\na\n  b\nEOF\nRUN cat <<'A' 3<<-\"B\" && x\n$1\nA\n\tc\n\tB\nCOPY <<c.txt /c\nc.txt\nRUN d");
    let heredocs: Vec<_> = found
        .iter()
        .flat_map(|line| &line.heredocs)
        .map(|doc| (doc.name.as_str(), doc.descriptor, doc.expand, doc.strip_tabs, doc.content.as_str()))
        .collect();
    assert_eq!(
        heredocs,
        [
            ("EOF", 0, true, false, "a\n  b\n"),
            ("A", 0, false, false, "$1\n"),
            ("B", 3, false, true, "\tc\n"),
            ("c.txt", 0, true, false, ""),
        ]
    );
    assert_eq!(found.last().unwrap().source, "RUN d");
    assert_eq!(found[0].lines, Lines::new(1, 4));
    assert_eq!(error("FROM a\nRUN <<EOF\nx").0, "unterminated heredoc");
    assert_eq!(error("FROM a\nRUN <<EOF\nx").1, [Lines::new(2, 3)]);
}

#[test]
fn what_is_no_heredoc() {
    for source in ["RUN echo \"<<EOF\"", "RUN echo 1 << 2 <<< x", "CMD <<EOF", "RUN [\"<<EOF\"]", "RUN a \\<<EOF"] {
        let expected = usize::from(source.contains("1 << 2"));
        // `1 << 2` begins a document named 2, in BuildKit too.
        let source = if expected == 1 { format!("{source}\n2") } else { source.to_owned() };
        assert_eq!(lines(&source)[0].heredocs.len(), expected, "{source}");
    }
}

#[test]
fn errors_say_where() {
    assert_eq!(error("# c\n\n"), ("file with no instructions".to_owned(), vec![Lines::single(2)]));
    assert_eq!(error("# escape=x\nFROM a").0, "invalid escape token 'x' does not match ` or \\");
    assert_eq!(error("# escape=`\n# escape=`\nFROM a").0, "only one escape parser directive can be used");
    let long = format!("FROM a\nRUN {}\n", "x".repeat(70_000));
    assert_eq!(error(&long).0, "dockerfile line greater than max allowed size of 65535");
}
