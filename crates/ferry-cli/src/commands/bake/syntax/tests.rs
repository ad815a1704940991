use serde_json::Value;

use super::*;

/// What buildx 0.29.1 said of files; nothing of those that are written as HCL is.
const CASES: &str = include_str!("../../../../tests/data/bake/syntax.json");

#[test]
fn faults_are_told_as_buildx_tells_them() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() > 100, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (file, expected) = (case["file"].as_str().unwrap(), case["error"].as_str().unwrap());
        let told = match check("docker-bake.hcl", file) {
            Ok(()) => String::new(),
            Err(error) => format!("{}ERROR: {}", error.excerpt, error.text),
        };
        if told != expected {
            wrong.push(format!("{file:?}\nexpected {expected}\nis       {told}\n"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn whatever_is_nested_without_end_is_refused() {
    let many = 20_000;
    for (before, within, after) in [
        ("a = ", "[", ""),
        ("a = ", "[", "]"),
        ("a = ", "(", ")"),
        ("a = ", "{ a = ", " }"),
        ("a = ", "f(", ")"),
        ("a = b", "[c", "]"),
        ("a = ", "!", ""),
        ("a = ", "-", "1"),
        ("a = ", "b ? c : ", ""),
        ("a = ", "b ? ", " : c"),
        ("a = ", "\"${", "}\""),
        ("a = ", "\"%{ if ", "}\""),
        ("a = ", "[for b in ", " : b]"),
        ("a = <<E\n", "${\n<<E\n", "\nE\n}\nE\n"),
        ("", "a {\n", "}\n"),
        ("", "a { b = ", "}\n"),
    ] {
        let text = format!("{before}{}{}\n", within.repeat(many), after.repeat(many));
        assert!(check("a.hcl", &text).is_err(), "{before}{within}");
    }
}

#[test]
fn what_is_long_is_read_in_one_go() {
    let many = 50_000;
    for (text, is_written_well) in [
        (format!("a = \"{}\"", "%{ if b }".repeat(many)), false),
        (format!("a = \"{}{}\"", "%{ if b }".repeat(many), "%{ endif }".repeat(many)), true),
        (format!("a = \"{}\"", "%{ endif }".repeat(many)), false),
        (format!("a = \"{}\"", "\r".repeat(many)), false),
        (format!("a = \"{}\"", "\\".repeat(many)), true),
        (format!("a = \"{}\"", "$".repeat(many)), true),
        (format!("a = \"{}\"", "\u{1f1e9}".repeat(many)), true),
        (format!("a = \"e{}\"", "\u{301}".repeat(many)), true),
        (format!("a = 1 {}", "/* ".repeat(many)), false),
        (format!("a = 1{}", " /**/".repeat(many)), true),
        (format!("a = [{}]", "# b\n".repeat(many)), true),
        (format!("a = {}", "1.".repeat(many)), false),
        (format!("a = {}1", "1 + ".repeat(many)), true),
        (format!("a = b{}", ".c".repeat(many)), true),
        (format!("a = b{}", "[c]".repeat(many)), true),
        (format!("a = [{}]", "1, ".repeat(many)), true),
        ((0..many).map(|number| format!("a{number} = 1\n")).collect(), true),
        ("a = 1\n".repeat(many), false),
        ("a {\n}\n".repeat(many), true),
        ("a = <<E\n".repeat(many), false),
        ("}\n".repeat(many), false),
        (format!("a = <<E{}", "\nE \n".repeat(many)), false),
        (format!("a = \"{}\"", "b".repeat(many * 10)), true),
    ] {
        let outcome = check("a.hcl", &text).map_err(|error| error.text);
        let shown: String = text.chars().take(40).collect();
        assert_eq!(outcome.is_ok(), is_written_well, "{shown}: {:.200}", outcome.unwrap_err());
    }
}

#[test]
fn bytes_that_are_no_text_are_told_by_their_place() {
    assert_eq!(decoded("a.hcl", "ä".into()).unwrap(), "ä");
    for (bytes, place) in [
        (&b"\xff"[..], "1,1-2"),
        (b"a = 1\r\nb = \"\xff\xfe\"\n", "2,6-7"),
        ("\u{feff}e\u{301} = ".as_bytes(), ""),
        (b"a = \"\xc3\xa4\xc3\"\n", "1,7-8"),
    ] {
        let told = decoded("a.hcl", bytes.to_vec()).map_err(|error| error.text);
        let expected = "Invalid character encoding; All input files must be UTF-8 encoded. Ensure that UTF-8 encoding is selected in your editor.";
        match place {
            "" => assert!(told.is_ok()),
            place => assert_eq!(told.unwrap_err(), format!("a.hcl:{place}: {expected}")),
        }
    }
}
