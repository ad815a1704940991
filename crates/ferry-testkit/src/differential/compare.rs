//! Compares answers with a recording and says where they differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::record::{Answer, Recording};
use super::table::{Case, Extent};

/// Begins the line about an exit code.
const EXIT_CODE: &str = "exit code ";

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All the same.
    Same,
    /// Differs, and was known to.
    Known,
    /// Agrees although it is marked as known to differ: the mark has to go.
    NoLongerKnown,
    /// Differs: one line each.
    Differs(Vec<String>),
}

/// Judges the answers to one case.
///
/// Where a `newer` recording says something else, that is as good: an engine can say only one of the two.
/// Marks of the case hold for the `replay` they name.
#[must_use]
pub fn judge(
    case: &Case,
    answers: &[Answer],
    recording: &Recording,
    newer: Option<&Recording>,
    replay: &str,
) -> Verdict {
    let Some(recorded) = recording.cases.get(&case.name) else {
        return Verdict::Differs(vec!["not recorded yet: run `make record-oracle`".to_owned()]);
    };
    let newer = newer.and_then(|newer| newer.cases.get(&case.name));
    let mut differences = Vec::new();
    if recorded.len() != answers.len() || recorded.iter().zip(&case.steps).any(|(old, step)| old.step != step.text()) {
        differences.push("the table has changed since: run `make record-oracle`".to_owned());
    }
    for (index, (old, new)) in recorded.iter().zip(answers).enumerate() {
        let other = newer.and_then(|answers| answers.get(index));
        for difference in step(old, new, other) {
            differences.push(format!("`{}`: {difference}", old.step));
        }
    }
    let extent = case.mark(replay).map(|mark| mark.extent);
    // No reason is good enough for another exit code, so only what is not built yet may have one.
    let codes = differences.iter().any(|difference| difference.contains(&format!("`: {EXIT_CODE}")));
    match (differences.is_empty(), extent) {
        (true, None) => Verdict::Same,
        (true, Some(_)) => Verdict::NoLongerKnown,
        (false, Some(Extent::Everything)) => Verdict::Known,
        (false, Some(Extent::Texts)) if !codes => Verdict::Known,
        (false, _) => Verdict::Differs(differences),
    }
}

fn step(old: &Answer, new: &Answer, newer: Option<&Answer>) -> Vec<String> {
    let mut differences = Vec::new();
    let agrees = |same: fn(&Answer, &Answer) -> bool| same(old, new) || newer.is_some_and(|newer| same(newer, new));
    if !agrees(|one, other| one.code == other.code) {
        differences.push(format!("{EXIT_CODE}{} instead of {}", new.code, old.code));
    }
    // The type of an answer to a request and its body are two facts, of which each may be either oracle's.
    if !(agrees(|one, other| split(one).0 == split(other).0) && agrees(|one, other| split(one).1 == split(other).1)) {
        lines("stdout", &old.stdout, &new.stdout, &mut differences);
    }
    if !agrees(|one, other| one.stderr == other.stderr) {
        lines("stderr", &old.stderr, &new.stderr, &mut differences);
    }
    let none = BTreeMap::new();
    let (recorded, got) = (old.fields.as_ref().unwrap_or(&none), new.fields.as_ref().unwrap_or(&none));
    let newest = newer.and_then(|newer| newer.fields.as_ref());
    let paths: BTreeSet<&String> = recorded.keys().chain(got.keys()).collect();
    for path in paths {
        if newest.is_some_and(|newest| newest.get(path) == got.get(path)) {
            continue;
        }
        match (recorded.get(path), got.get(path)) {
            (Some(value), Some(got)) => fields(path, value, got, &mut differences),
            (Some(value), None) => differences.push(format!("field {path} is missing (recorded: {value})")),
            (None, Some(value)) => differences.push(format!("field {path} is there ({value}), the recording has none")),
            (None, None) => {}
        }
    }
    differences
}

/// The type of the content apart from the content, where the step is a request.
fn split(answer: &Answer) -> (&[String], &[String]) {
    answer.stdout.split_at(usize::from(answer.step.starts_with("@api ")).min(answer.stdout.len()))
}

fn lines(stream: &str, old: &[String], new: &[String], differences: &mut Vec<String>) {
    if old != new {
        differences.push(format!(
            "{stream}\n      recorded: {}\n      now:      {}",
            old.join("\n                "),
            new.join("\n                ")
        ));
    }
}

fn fields(path: &str, old: &Value, new: &Value, differences: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                match new.get(key) {
                    None => differences.push(format!("field {path}.{key} is missing (recorded: {value})")),
                    Some(got) => fields(&format!("{path}.{key}"), value, got, differences),
                }
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                differences.push(format!("field {path}.{key} is there ({value}), the recording has none"));
            }
        }
        _ if old == new => {}
        _ => differences.push(format!("field {path} is {new}, recorded {old}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    fn case(text: &str) -> Case {
        table::parse(&format!("## case\n{text}")).unwrap().remove(0)
    }

    fn answer(step: &str, code: i32, stdout: &str, fields: Option<Value>) -> Answer {
        let fields = fields.map(|value| serde_json::from_value(value).unwrap());
        Answer { step: step.to_owned(), code, stdout: vec![stdout.to_owned()], stderr: vec![], fields }
    }

    fn recording(answers: Vec<Answer>) -> Recording {
        Recording { cases: [("case".to_owned(), answers)].into(), ..Recording::default() }
    }

    fn differences(old: Answer, new: Answer) -> String {
        let case = case(&old.step.clone());
        match judge(&case, &[new], &recording(vec![old]), None, "ferry") {
            Verdict::Differs(lines) => lines.join("\n"),
            verdict => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn a_planted_wrong_exit_code_is_caught() {
        let said = differences(answer("docker x", 125, "", None), answer("docker x", 1, "", None));
        assert_eq!(said, "`docker x`: exit code 1 instead of 125");
    }

    #[test]
    fn a_planted_missing_field_is_caught_at_any_depth() {
        let whole = serde_json::json!({"State": {"Pid": 0, "Error": ""}, "Name": "/a"});
        let deep = serde_json::json!({"State": {"Pid": 0}, "Name": "/a"});
        let shallow = serde_json::json!({"State": {"Pid": 0, "Error": ""}});
        let line = "@inspect a State Name";
        let said = differences(answer(line, 0, "", Some(whole.clone())), answer(line, 0, "", Some(deep.clone())));
        assert!(said.contains("field State.Error is missing"), "{said}");
        let said = differences(answer(line, 0, "", Some(whole.clone())), answer(line, 0, "", Some(shallow)));
        assert!(said.contains("field Name is missing"), "{said}");
        let said = differences(answer(line, 0, "", Some(deep)), answer(line, 0, "", Some(whole)));
        assert!(said.contains("field State.Error is there"), "{said}");
    }

    #[test]
    fn a_wrong_word_is_caught() {
        let said = differences(answer("docker ps", 0, "NAMES", None), answer("docker ps", 0, "NAME", None));
        assert!(said.contains("recorded: NAMES"), "{said}");
    }

    #[test]
    fn a_known_case_that_agrees_has_to_lose_its_mark() {
        let known = case("known: not built yet\ndocker ps");
        let same = answer("docker ps", 0, "", None);
        assert_eq!(
            judge(&known, std::slice::from_ref(&same), &recording(vec![same.clone()]), None, "ferry"),
            Verdict::NoLongerKnown
        );
        let other = answer("docker ps", 0, "other", None);
        assert_eq!(judge(&known, &[other], &recording(vec![same]), None, "ferry"), Verdict::Known);
    }

    #[test]
    fn another_exit_code_is_forgiven_only_to_what_is_not_built() {
        let (recorded, wrong) = (answer("docker ps", 0, "", None), answer("docker ps", 1, "", None));
        let verdict = |text: &str| {
            let recording = recording(vec![recorded.clone()]);
            judge(&case(text), std::slice::from_ref(&wrong), &recording, None, "older")
        };
        assert!(matches!(verdict("known: words\ndocker ps"), Verdict::Differs(_)));
        assert_eq!(verdict("missing: not built\ndocker ps"), Verdict::Known);
        assert!(matches!(verdict("missing ferry: elsewhere\ndocker ps"), Verdict::Differs(_)));
    }

    #[test]
    fn what_the_newer_oracle_says_is_as_good_but_nothing_third() {
        let (old, newer) = (answer("docker x", 1, "old words", None), answer("docker x", 1, "new words", None));
        let case = case("docker x");
        let verdict = judge(
            &case,
            std::slice::from_ref(&newer),
            &recording(vec![old.clone()]),
            Some(&recording(vec![newer.clone()])),
            "older",
        );
        assert_eq!(verdict, Verdict::Same);
        let third = answer("docker x", 1, "other words", None);
        let verdict = judge(&case, &[third], &recording(vec![old]), Some(&recording(vec![newer])), "older");
        assert!(matches!(verdict, Verdict::Differs(_)));
    }

    #[test]
    fn the_type_and_the_body_of_an_answer_may_be_of_either_oracle() {
        let said = |kind: &str, body: &str| Answer {
            stdout: vec![kind.to_owned(), body.to_owned()],
            ..answer("@api GET /x", 200, "", None)
        };
        let judged = |new: Answer| {
            let (old, newer) = (recording(vec![said("a", "old")]), recording(vec![said("b", "new")]));
            judge(&case("@api GET /x"), &[new], &old, Some(&newer), "older")
        };
        assert_eq!(judged(said("a", "new")), Verdict::Same);
        assert!(matches!(judged(said("a", "third")), Verdict::Differs(_)));
        assert!(matches!(judged(said("c", "new")), Verdict::Differs(_)));
    }

    #[test]
    fn a_changed_table_asks_for_a_new_recording() {
        let verdict = judge(
            &case("docker new"),
            &[answer("docker new", 0, "", None)],
            &recording(vec![answer("docker old", 0, "", None)]),
            None,
            "ferry",
        );
        assert!(matches!(verdict, Verdict::Differs(lines) if lines[0].contains("record-oracle")));
    }
}
