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
fn what_is_nested_without_end_is_refused() {
    for open in ["(", "[", "!", "{a=", "f(", "a["] {
        let text = format!("a = {}", open.repeat(5000));
        assert!(check("a.hcl", &text).is_err(), "{open}");
    }
}
