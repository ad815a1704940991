//! `bake --list`: targets and variables, as buildx lists them.

use serde_json::{Map, Value, json};

use super::config::Config;
use super::file::Definitions;
use super::run::pretty;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote};
use crate::format::tabwriter::with_tabs;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    targets: bool,
    as_json: bool,
}

fn failed(text: impl std::fmt::Display) -> Failure {
    Failure::new(format!("ERROR: {text}"))
}

/// Reads the flags; `None` where nothing is to be listed.
pub(super) fn asked(parsed: &Parsed) -> Result<Option<Asked>> {
    match (parsed.text_or_empty("list"), parsed.on("list-targets"), parsed.on("list-variables")) {
        ("", false, false) => Ok(None),
        ("", true, _) => Ok(Some(Asked { targets: true, as_json: false })),
        ("", false, true) => Ok(Some(Asked { targets: false, as_json: false })),
        (text, ..) => Asked::read(text).map(Some),
    }
}

impl Asked {
    /// Reads `targets`, or `type=targets,format=json`.
    fn read(text: &str) -> Result<Self> {
        let fields = ferry_dockerfile::csv::fields(text).map_err(failed)?;
        let (mut kind, mut format) = (String::new(), String::new());
        if fields.len() == 1 && !text.starts_with("type=") {
            text.clone_into(&mut kind);
        } else {
            for field in &fields {
                let (key, value) = field.split_once('=').ok_or_else(|| failed(format!("invalid value {field}")))?;
                match key.trim().to_lowercase().as_str() {
                    "type" => value.clone_into(&mut kind),
                    "format" => value.clone_into(&mut format),
                    key => return Err(failed(format!("unexpected key '{key}' in '{field}'"))),
                }
            }
        }
        let targets = match kind.as_str() {
            "targets" => true,
            "variables" => false,
            other => return Err(failed(format!("invalid list type {}", go_quote(other)))),
        };
        let as_json = match format.as_str() {
            "" | "table" => false,
            "json" => true,
            other => return Err(failed(format!("invalid list format {}", go_quote(other)))),
        };
        Ok(Self { targets, as_json })
    }

    /// Prints what is asked for.
    pub(super) fn show(&self, config: &Config, definitions: &Definitions<'_>, context: &Context) -> Result<u8> {
        let (head, rows) = if self.targets { targets(config) } else { variables(definitions)? };
        if self.as_json {
            let all: Vec<Value> = rows.into_iter().map(|row| row.json).collect();
            context.printer.line(&pretty(&json!(all))?)?;
        } else {
            let rows = std::iter::once(head).chain(rows.into_iter().map(|row| row.cells)).collect::<Vec<_>>();
            context.printer.data(with_tabs(&rows))?;
        }
        Ok(0)
    }
}

/// One row, in both forms.
struct Row {
    cells: Vec<String>,
    json: Value,
}

impl Row {
    /// `fields` are left out of the JSON where they are empty.
    fn new(cells: Vec<String>, name: &str, fields: &[(&str, Value)]) -> Self {
        let told = fields.iter().filter(|(_, value)| !matches!(value, Value::Null) && value != &json!(""));
        let mut all = Map::from_iter([("name".to_owned(), json!(name))]);
        all.extend(told.map(|(name, value)| ((*name).to_owned(), value.clone())));
        Self { cells, json: Value::Object(all) }
    }
}

fn targets(config: &Config) -> (Vec<String>, Vec<Row>) {
    let mut all: Vec<(&str, String, bool)> = Vec::new();
    for (name, target) in &config.targets {
        let description = target.get("description").and_then(Value::as_str).unwrap_or_default();
        all.push((name, description.to_owned(), false));
    }
    for (name, group) in &config.groups {
        let mut members = group.targets.clone();
        members.sort();
        let members = members.join(", ");
        let description = match (group.description.as_str(), members.as_str()) {
            ("", members) => members.to_owned(),
            (description, "") => description.to_owned(),
            (description, members) => format!("{description} ({members})"),
        };
        all.push((name, description, true));
    }
    all.sort_by(|one, other| one.0.cmp(other.0));
    // By convention such a target is nobody's business.
    let shown = all.into_iter().filter(|(name, ..)| !name.starts_with('_'));
    let rows = shown.map(|(name, description, is_group)| {
        let fields = [("description", json!(description)), ("group", if is_group { json!(true) } else { Value::Null })];
        Row::new(vec![name.to_owned(), description.clone()], name, &fields)
    });
    (vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()], rows.collect())
}

fn variables(definitions: &Definitions<'_>) -> Result<(Vec<String>, Vec<Row>)> {
    let head = ["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"].map(str::to_owned).to_vec();
    let listed = definitions.listed_variables().map_err(failed)?;
    let rows = listed.into_iter().map(|variable| {
        let value = match variable.value {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        };
        let shown = value.clone().unwrap_or_else(|| "<null>".to_owned());
        let cells = vec![variable.name.clone(), variable.kind.clone(), shown, variable.description.clone()];
        let mut row = Row::new(
            cells,
            &variable.name,
            &[("description", json!(variable.description)), ("type", json!(variable.kind))],
        );
        // An empty value is told, unlike one that there is not.
        if let (Some(value), Some(fields)) = (value, row.json.as_object_mut()) {
            fields.insert("value".to_owned(), json!(value));
        }
        row
    });
    Ok((head, rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_listed_is_read_as_by_buildx() {
        let read = |text: &str| Asked::read(text).map_err(|failure| failure.message);
        assert_eq!(read("targets"), Ok(Asked { targets: true, as_json: false }));
        assert_eq!(read("type=variables,format=json"), Ok(Asked { targets: false, as_json: true }));
        for (text, error) in [
            ("x", "invalid list type \"x\""),
            ("type=x", "invalid list type \"x\""),
            ("format=json", "invalid list type \"format=json\""),
            ("type=targets,format=y", "invalid list format \"y\""),
            ("type=targets,a=b", "unexpected key 'a' in 'a=b'"),
        ] {
            assert_eq!(read(text), Err(format!("ERROR: {error}")));
        }
    }
}
