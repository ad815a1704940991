//! Requests to create a container with a value that does not fit, and what an engine answers to them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Daemon;

/// One request.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is wrong.
    pub name: String,
    /// Query of the request, without `?`.
    pub query: String,
    /// Its body.
    pub body: Value,
}

/// What an engine answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Status of the create.
    pub create: u16,
    /// Status of the start, where there was something to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u16>,
    /// Why it failed; empty when it did not.
    pub message: String,
}

/// A whole recording: answers by row.
pub type Answers = BTreeMap<String, Answer>;

/// Reads the rows of a folder.
///
/// # Errors
/// When a line has not three parts, or its body is no JSON.
pub fn read(folder: &Path) -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(folder.join("rows.txt")).context("read the rows")?;
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(row).collect()
}

fn row(line: &str) -> Result<Row> {
    let mut parts = line.splitn(3, " | ").map(str::trim);
    let mut part = || parts.next().with_context(|| format!("`{line}` has not three parts"));
    let (name, query, body) = (part()?.to_owned(), part()?.to_owned(), part()?);
    let mut body: Value = serde_json::from_str(body).with_context(|| format!("the body of {name}"))?;
    if let Some(fields) = body.as_object_mut() {
        for (key, value) in [("Image", json!("busybox")), ("Cmd", json!(["true"]))] {
            fields.entry(key).or_insert(value);
        }
    }
    Ok(Row { name, query, body })
}

/// Creates a container, and starts it when that succeeded; removes it again.
#[must_use]
pub fn ask(daemon: &Daemon, api: &str, row: &Row) -> Answer {
    let query = if row.query.is_empty() { String::new() } else { format!("?{}", row.query) };
    let created = daemon.api("POST", &format!("/v{api}/containers/create{query}"), Some(&row.body));
    let body = created.json();
    let message = |body: &Value| body["message"].as_str().unwrap_or_default().to_owned();
    let Some(id) = body["Id"].as_str() else {
        return Answer { create: created.status, start: None, message: plain(&message(&body), daemon) };
    };
    let started = daemon.api("POST", &format!("/v{api}/containers/{id}/start"), None);
    let removed = daemon.api("DELETE", &format!("/v{api}/containers/{id}?force=1&v=1"), None);
    assert_eq!(removed.status, 204, "{}: what was created can be removed", row.name);
    let text = message(&started.json()).replace(id, "<id>").replace(&id[..12], "<id12>");
    Answer { create: created.status, start: Some(started.status), message: plain(&text, daemon) }
}

/// Without ids and places, which are others each time.
fn plain(text: &str, daemon: &Daemon) -> String {
    let text = text.replace(&daemon.data_root().display().to_string(), "<root>");
    let is_id = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut out = String::new();
    let mut word = String::new();
    for letter in text.chars().chain(['\0']) {
        if letter.is_ascii_alphanumeric() {
            word.push(letter);
            continue;
        }
        out.push_str(if is_id(&word) { "<id>" } else { &word });
        word.clear();
        out.push(letter);
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_three_parts() {
        let row = row("a | name=b | {\"Cmd\": null}").unwrap();
        assert_eq!((row.name.as_str(), row.query.as_str()), ("a", "name=b"));
        assert_eq!(row.body, json!({"Cmd": null, "Image": "busybox"}));
        assert!(super::row("a | b").is_err() && super::row("a |  | {").is_err());
    }
}
