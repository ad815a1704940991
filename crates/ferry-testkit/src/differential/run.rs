//! Runs cases of a table with one client against one engine.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::normalise::{self, Places};
use super::record::Answer;
use super::table::{Case, Step};
use crate::Outcome;
use crate::command;

/// Takes away what earlier cases left; `docker` is the client under test.
const CLEAN: &str = "docker ps -aq | xargs -r docker rm -f -v >/dev/null 2>&1
docker volume ls -q 2>/dev/null | xargs -r docker volume rm -f >/dev/null 2>&1
docker images --format '{{.Repository}}:{{.Tag}}' | grep -v -e '^busybox:latest$' -e '^full:latest$' -e '<none>' |
    xargs -r docker rmi -f >/dev/null 2>&1
true";

/// How cases are run: gives a shell for a line, ready in every way but for `-c LINE`.
pub struct Runner<'a> {
    /// Makes the command that runs a shell line.
    pub shell: Box<dyn Fn() -> Command + 'a>,
    /// Defines `docker` as the client under test (a shell function).
    pub client: String,
    /// Whether the client under test is `ferry`, which names itself in hints.
    pub says_ferry: bool,
    /// Places of the engine.
    pub places: Places,
}

impl std::fmt::Debug for Runner<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Runner").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Runner<'_> {
    fn line(&self, line: &str) -> Outcome {
        let mut shell = (self.shell)();
        // A fixed descriptor 0 keeps a client from waiting for a terminal that is not there.
        shell.args(["-c", &format!("{}\n{line}", self.client)]);
        command::run(shell).unwrap_or_else(|error| Outcome {
            code: -1,
            stdout: Vec::new(),
            stderr: error.to_string().into_bytes(),
        })
    }

    /// Runs one case from a clean start.
    #[must_use]
    pub fn case(&self, case: &Case) -> Vec<Answer> {
        let _ = self.line(CLEAN);
        case.steps.iter().map(|step| self.step(step)).collect()
    }

    fn step(&self, step: &Step) -> Answer {
        match step {
            Step::Line(line) => {
                let outcome = self.line(line);
                Answer {
                    step: step.text(),
                    code: outcome.code,
                    stdout: self.lines(&outcome.out()),
                    stderr: self.lines(&outcome.err()),
                    fields: None,
                }
            }
            Step::Inspect { object, paths } => {
                let outcome = self.line(&format!("docker inspect {object}"));
                let parsed: Value = serde_json::from_slice(&outcome.stdout).unwrap_or_default();
                let fields = self.fields(&parsed[0], paths);
                Answer { step: step.text(), code: outcome.code, stdout: vec![], stderr: vec![], fields: Some(fields) }
            }
        }
    }

    fn lines(&self, raw: &str) -> Vec<String> {
        let text = normalise::text(raw, &self.places);
        let text = if self.says_ferry { docker_words(&text) } else { text };
        text.lines().map(str::to_owned).collect()
    }

    fn fields(&self, object: &Value, paths: &[String]) -> BTreeMap<String, Value> {
        let found = paths.iter().filter_map(|path| Some((path.clone(), walk(object, path)?)));
        // A path's last key decides about process ids, so it is normalised with its key.
        found
            .map(|(path, value)| {
                let key = path.rsplit('.').next().unwrap_or_default().to_owned();
                let normal = normalise::json(&serde_json::json!({ &key: value }), &self.places);
                (path, normal[&key].clone())
            })
            .collect()
    }
}

/// Follows a dotted path; array elements by number. None where a key is absent.
fn walk<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, key| match key.parse::<usize>() {
        Ok(index) if value.is_array() => value.get(index),
        _ => value.get(key),
    })
}

/// Puts `docker` where `ferry` names itself: hints such as "Run 'ferry run --help'".
fn docker_words(text: &str) -> String {
    text.replace("'ferry ", "'docker ")
        .replace(": ferry ", ": docker ")
        .replace("ferry: ", "docker: ")
        .replace("  ferry ", "  docker ")
        .replace(" ferry command", " docker command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_reach_into_objects_and_lists() {
        let value = serde_json::json!({"a": {"b": [{"c": 1}]}, "n": null});
        assert_eq!(walk(&value, "a.b.0.c"), Some(&Value::from(1)));
        assert_eq!(walk(&value, "a.x"), None);
        assert_eq!(walk(&value, "n"), Some(&Value::Null));
    }
}
