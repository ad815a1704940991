//! Runs cases of a table with one client against one engine.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::normalise::{self, Places};
use super::record::Answer;
use super::request::Api;
use super::table::{Case, Step};
use crate::Outcome;
use crate::command;
use crate::strip::Strip;

/// Takes away what earlier cases left; `docker` is the client under test.
const CLEAN: &str = "docker ps -aq | xargs -r docker rm -f -v >/dev/null 2>&1
docker volume ls -q 2>/dev/null | xargs -r docker volume rm -f >/dev/null 2>&1
images=$(docker images -a --format '{{.Repository}}:{{.Tag}}')
echo \"$images\" | grep -v -e '^busybox:latest$' -e '^full:latest$' -e '<none>' | xargs -r docker rmi -f >/dev/null 2>&1
case \"$images\" in *'<none>'*) docker images --digests --format '{{.Repository}}@{{.Digest}}' | grep sha256: |
    grep -v -e ^busybox@ -e ^full@ -e '<none>' | xargs -r docker rmi -f >/dev/null 2>&1; docker image prune -f >/dev/null 2>&1;; esac
true";

/// The same for networks, where a case speaks of any; those that hold a configuration go once nobody uses it.
const CLEAN_NETWORKS: &str = "for last in no yes; do
    docker network ls -q --filter type=custom | xargs -r docker network rm >/dev/null 2>&1
done
true";

/// How cases are run: gives a shell for a line, ready in every way but for `-c LINE`.
pub struct Runner<'a> {
    /// Makes the command that runs a shell line.
    pub shell: Box<dyn Fn() -> Command + 'a>,
    /// Defines `docker` as the client under test (a shell function).
    pub client: String,
    /// Takes away what earlier cases left; the client under test, whole, unless something is stripped.
    pub cleaner: String,
    /// Whether the client under test is `ferry`, which names itself in hints.
    pub says_ferry: bool,
    /// Places of the engine.
    pub places: Places,
    /// Where steps that speak the API go.
    pub api: Option<Api>,
    /// What is taken away from every step, to see whether the case notices.
    pub strip: Option<Strip>,
}

impl std::fmt::Debug for Runner<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Runner").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Runner<'_> {
    fn line(&self, client: &str, line: &str) -> Outcome {
        let mut shell = (self.shell)();
        // A fixed descriptor 0 keeps a client from waiting for a terminal that is not there.
        // What a line writes belongs to its engine: several of them run side by side.
        shell.args(["-c", &format!("cd \"${{HOME:-/}}\"\n{client}\n{line}")]);
        command::run(shell).unwrap_or_else(|error| Outcome {
            code: -1,
            stdout: Vec::new(),
            stderr: error.to_string().into_bytes(),
        })
    }

    /// Runs one case from a clean start.
    #[must_use]
    pub fn case(&self, case: &Case) -> Vec<Answer> {
        self.case_beside(case, &[])
    }

    /// Runs one case from a clean start. Where an endpoint is taken away that changes something, what was
    /// `recorded` of a request to it is believed.
    #[must_use]
    pub fn case_beside(&self, case: &Case, recorded: &[Answer]) -> Vec<Answer> {
        let _ = self.line(&self.cleaner, CLEAN);
        if case.steps.iter().any(|step| step.text().contains("network")) {
            let _ = self.line(&self.cleaner, CLEAN_NETWORKS);
        }
        let mut ids = BTreeMap::new();
        case.steps.iter().enumerate().map(|(at, step)| self.step(step, recorded.get(at), &mut ids)).collect()
    }

    fn step(&self, step: &Step, recorded: Option<&Answer>, ids: &mut BTreeMap<String, String>) -> Answer {
        match step {
            Step::Api(request) => {
                let ignored =
                    self.strip.as_ref().is_some_and(|strip| strip.is_endpoint(&request.method, &request.target));
                match (&self.api, recorded) {
                    (Some(_), recorded) if ignored => request.ignored(recorded),
                    (Some(api), _) => request.run(api, ids, self.strip.as_ref(), &self.places),
                    (None, _) => request.ignored(None),
                }
            }
            Step::Line(line) => {
                let outcome = self.line(&self.client, line);
                Answer {
                    step: step.text(),
                    code: outcome.code,
                    stdout: self.lines(&outcome.out()),
                    stderr: self.lines(&outcome.err()),
                    fields: None,
                }
            }
            Step::Inspect { object, paths } => {
                let outcome = self.line(&self.cleaner, &format!("docker inspect {object}"));
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
        found.map(|(path, value)| (path.clone(), normalise::field(&path, value, &self.places))).collect()
    }
}

/// Follows a dotted path; array elements by number. None where a key is absent.
pub(super) fn walk<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
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
