//! What a frontend is asked besides a build, and its answers in BuildKit's form: JSON for programs, text for people.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_dockerfile::Lines;
use ferry_dockerfile::check::Warning;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Result};
use crate::plan::{self, Outline, OutlineSecret, Request};

/// Checks a Dockerfile.
pub(crate) const LINT: &str = "frontend.lint";
/// Shows a Dockerfile with everything resolved; ferry's own.
pub const EXPAND: &str = "ferry.expand";
const OUTLINE: &str = "frontend.outline";
const TARGETS: &str = "frontend.targets";
const DESCRIBE: &str = "frontend.subrequests.describe";
/// The version of all of them.
const VERSION: &str = "1.0.0";

/// An answer, by names.
type Answer = BTreeMap<String, Vec<u8>>;

/// Answers what needs no plan; `None` for what does, and for a build.
pub(crate) fn without_plan(request: &str, source: &str) -> Result<Option<Answer>> {
    match request {
        "" | LINT | OUTLINE | EXPAND => Ok(None),
        TARGETS => targets(source).map(Some),
        DESCRIBE => Ok(Some(describe())),
        other => Err(Failure::invalid(format!("unsupported request {other}"))),
    }
}

/// What a plan came to.
pub(crate) struct Planned<'a> {
    pub(crate) warnings: &'a [Warning],
    pub(crate) outline: Option<&'a Outline>,
    /// The Dockerfile with everything resolved.
    pub(crate) resolved: &'a str,
    pub(crate) planning: &'a Request,
    pub(crate) source: &'a str,
}

impl Planned<'_> {
    /// Answers what was asked.
    pub(crate) fn answer(&self) -> Answer {
        if self.planning.subrequest == EXPAND {
            return answer(&json!({ "dockerfile": self.resolved }), self.resolved.to_owned());
        }
        match self.outline {
            Some(outline) if self.planning.subrequest == OUTLINE => outline_answer(outline, self.source),
            _ => self.lint(),
        }
    }

    fn lint(&self) -> Answer {
        let mut sorted: Vec<&Warning> = self.warnings.iter().collect();
        sorted.sort_by_key(|warning| warning.lines.first);
        let warnings: Vec<Value> = sorted
            .into_iter()
            .map(|warning| {
                object([
                    ("ruleName", json!(warning.rule.name)),
                    ("description", text(warning.rule.description)),
                    ("url", text(warning.rule.url)),
                    ("detail", text(&warning.detail)),
                    ("location", location(warning.lines)),
                ])
            })
            .collect();
        let name = &self.planning.filename;
        let source = json!({ "filename": name, "data": STANDARD.encode(self.source), "language": "Dockerfile" });
        let status = if warnings.is_empty() { "0" } else { "1" };
        let document = json!({ "warnings": warnings, "sources": [source] });
        let shown = ferry_dockerfile::check::render(self.warnings, name, self.source);
        let mut answer = answer(&document, shown);
        answer.insert("result.statuscode".to_owned(), status.into());
        answer
    }
}

fn outline_answer(outline: &Outline, source: &str) -> Answer {
    let args: Vec<Value> = outline
        .args
        .iter()
        .map(|arg| {
            object([
                ("name", json!(arg.name)),
                ("description", text(arg.description.as_deref().unwrap_or_default())),
                ("value", text(&arg.value)),
                ("location", location(arg.lines)),
            ])
        })
        .collect();
    let wanted = |all: &[OutlineSecret]| -> Vec<Value> {
        all.iter()
            .map(|one| {
                let required = if one.required { json!(true) } else { Value::Null };
                object([("name", json!(one.name)), ("required", required), ("location", location(one.lines))])
            })
            .collect()
    };
    let document = object([
        ("name", text(&outline.name)),
        ("description", text(outline.description.as_deref().unwrap_or_default())),
        ("args", list(args)),
        ("secrets", list(wanted(&outline.secrets))),
        ("ssh", list(wanted(&outline.agents))),
        ("sources", json!([STANDARD.encode(source)])),
    ]);
    answer(&document, outline.render())
}

fn targets(source: &str) -> Result<Answer> {
    let targets = plan::targets(source).map_err(|error| Failure::invalid(error.to_string()))?;
    let shown: Vec<Value> = targets
        .iter()
        .map(|target| {
            object([
                ("name", text(&target.name)),
                ("default", if target.is_default { json!(true) } else { Value::Null }),
                ("description", text(target.description.as_deref().unwrap_or_default())),
                ("base", text(&target.base)),
                ("platform", text(&target.platform)),
                ("location", location(target.lines)),
            ])
        })
        .collect();
    let document = json!({ "targets": shown, "sources": [STANDARD.encode(source)] });
    Ok(answer(&document, plan::render_targets(&targets)))
}

fn describe() -> Answer {
    let named =
        |names: &[&str]| -> Value { names.iter().map(|name| json!({ "name": name, "description": "" })).collect() };
    let known = [
        (OUTLINE, "List all parameters current build target supports", true),
        (TARGETS, "List all targets current build supports", false),
        (DESCRIBE, "List available subrequest types", false),
    ];
    let shown: Vec<Value> = known
        .iter()
        .map(|(name, description, has_target)| {
            let options = match has_target {
                true => json!([{ "name": "target", "description": "Target build stage" }]),
                false => json!([]),
            };
            json!({
                "name": name,
                "version": VERSION,
                "type": "rpc",
                "description": description,
                "opts": options,
                "inputs": Value::Null,
                "metadata": named(&["result.json", "result.txt"]),
                "refs": Value::Null,
            })
        })
        .collect();
    let width = known.iter().map(|(name, ..)| short(name).len()).max().unwrap_or_default() + 1;
    let mut table = format!("{:width$}VERSION DESCRIPTION\n", "NAME");
    for (name, description, _) in known {
        table.push_str(&format!("{:width$}{VERSION}   {description}\n", short(name)));
    }
    answer(&Value::Array(shown), table)
}

fn short(name: &str) -> &str {
    name.strip_prefix("frontend.").unwrap_or(name)
}

fn answer(document: &Value, shown: String) -> Answer {
    // Go's encoder leaves nothing in it that HTML could take for a tag; they only stand within texts.
    let json = serde_json::to_string_pretty(document).unwrap_or_default();
    let json = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    BTreeMap::from([
        ("result.json".to_owned(), json.into_bytes()),
        ("result.txt".to_owned(), shown.into_bytes()),
        ("version".to_owned(), VERSION.into()),
    ])
}

/// An object without what is null.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let present = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(present.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn text(value: &str) -> Value {
    if value.is_empty() { Value::Null } else { json!(value) }
}

fn list(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Null } else { Value::Array(values) }
}

fn location(lines: Lines) -> Value {
    match lines.first {
        0 => json!({}),
        first => json!({ "ranges": [{ "start": { "line": first }, "end": { "line": lines.last } }] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_unknown_requests_need_no_plan() {
        let source = "FROM a AS one\nFROM scratch\n";
        let answer = without_plan(TARGETS, source).unwrap().unwrap();
        assert_eq!(answer["result.txt"], b"TARGET    DESCRIPTION\none       \n(default) \n");
        let document: Value = serde_json::from_slice(&answer["result.json"]).unwrap();
        let ranges = json!({ "ranges": [{ "start": { "line": 1 }, "end": { "line": 1 } }] });
        assert_eq!(document["targets"][0], json!({ "name": "one", "base": "a", "location": ranges }));
        assert_eq!(document["targets"][1]["default"], true);
        assert!(without_plan(LINT, source).unwrap().is_none());
        let failure = without_plan("frontend.other", source).unwrap_err();
        assert_eq!(failure.message, "unsupported request frontend.other");
        let text = String::from_utf8(without_plan(DESCRIBE, "").unwrap().unwrap()["result.txt"].clone()).unwrap();
        assert!(text.starts_with("NAME                 VERSION DESCRIPTION\noutline              1.0.0"), "{text}");
    }
}
