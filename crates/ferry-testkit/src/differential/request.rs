//! A step that speaks the API itself, for what no command line says.
//!
//! ```text
//! @api GET /containers/a/json?size=1 => State.Status SizeRw:type     these fields; `:type` compares only their JSON type
//! @api GET /containers/json?all=1&filters={"name":["a"]}             the whole body
//! @api POST /containers/a/exec as exec < {"Cmd": ["true"]}           `$exec` is the `Id` of the answer from here on
//! @api PUT /containers/a/archive?path=/tmp < @tar name:content       an archive with one file; `\n` ends a line
//! @api POST /images/load < @file saved.tar                           a file of the folder that lines run in
//! @api POST /containers/a/attach?stdin=1&stream=1 < typed            typed once the connection is the container's
//! ```
//!
//! The exit code of such a step is the status, the first line of its output the type of the content.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::normalise::{self, Places};
use super::record::Answer;
use crate::api;
use crate::image::Layer;
use crate::strip::Strip;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    text: String,
    /// GET and so on.
    pub method: String,
    /// Path and query as the table has them.
    pub target: String,
    name: Option<String>,
    body: Option<String>,
    fields: Vec<String>,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Api {
    /// The daemon's socket, as this process reaches it.
    pub socket: std::path::PathBuf,
    /// `/v1.41` and the like.
    pub prefix: &'static str,
    /// Where lines run, as this process reaches it.
    pub folder: std::path::PathBuf,
}

impl Request {
    /// Reads a step.
    ///
    /// # Errors
    /// When it has no method and path.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("@api ").context("not an API step")?;
        let (rest, fields) = rest.rsplit_once(" => ").unwrap_or((rest, ""));
        let (head, body) = rest.split_once(" < ").map_or((rest, None), |(head, body)| (head, Some(body.to_owned())));
        let words: Vec<&str> = head.split_whitespace().collect();
        let (method, target, name) = match words[..] {
            [method, target] => (method, target, None),
            [method, target, "as", name] => (method, target, Some(name.to_owned())),
            _ => bail!("`@api METHOD PATH [as NAME] [< BODY] [=> FIELD...]`"),
        };
        let fields = fields.split_whitespace().map(str::to_owned).collect();
        Ok(Self { text: text.to_owned(), method: method.to_owned(), target: target.to_owned(), name, body, fields })
    }

    /// Returns the step as it is written in the table.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Sends it; what `strip` names is left out. Keeps the answer's `Id` in `ids` where it has a name.
    #[must_use]
    pub fn run(&self, api: &Api, ids: &mut BTreeMap<String, String>, strip: Option<&Strip>, places: &Places) -> Answer {
        match self.answer(api, ids, strip) {
            Ok(answer) => {
                if let (Some(name), Some(id)) = (&self.name, answer.json()["Id"].as_str()) {
                    ids.insert(name.clone(), id.to_owned());
                }
                self.shown(&answer, places)
            }
            Err(error) => Answer {
                step: self.text.clone(),
                code: -1,
                stdout: vec![],
                stderr: vec![format!("{error:#}")],
                fields: None,
            },
        }
    }

    /// Returns what a client sees of an engine that ignores the request: a page that is not found where it asks or
    /// is refused, and the recorded answer where it changes something.
    #[must_use]
    pub fn ignored(&self, recorded: Option<&Answer>) -> Answer {
        match recorded.filter(|recorded| !self.only_tells() && recorded.code < 400) {
            Some(recorded) => recorded.clone(),
            None => Answer {
                step: self.text.clone(),
                code: 404,
                stdout: vec!["application/json".to_owned()],
                stderr: vec![],
                fields: None,
            },
        }
    }

    fn answer(&self, api: &Api, ids: &BTreeMap<String, String>, strip: Option<&Strip>) -> Result<api::Answer> {
        let known =
            |text: &str| ids.iter().fold(text.to_owned(), |text, (name, id)| text.replace(&format!("${name}"), id));
        let target = strip.map_or_else(|| self.target.clone(), |strip| strip.target(&self.method, &self.target));
        let target = format!("{}{}", api.prefix, api::encode(&known(&target)));
        let body = self.body.as_deref().map(known).unwrap_or_default();
        if self.is_attach() {
            return hijack(&api.socket, &self.method, &target, "", body.as_bytes());
        }
        if self.target.contains("/exec/") && self.target.ends_with("/start") && !body.contains("\"Detach\": true") {
            return hijack(&api.socket, &self.method, &target, &body, b"");
        }
        let (kind, bytes) = content(body, &api.folder)?;
        let kind = if bytes.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let head = format!(
            "{} {target} HTTP/1.1\r\nHost: ferry\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
            self.method,
            bytes.len()
        );
        api::raw(&api.socket, &[head.as_bytes(), &bytes].concat())
    }

    /// Says whether the request changes nothing: all that it does is its answer.
    fn only_tells(&self) -> bool {
        let path = self.target.split('?').next().unwrap_or_default();
        matches!(self.method.as_str(), "GET" | "HEAD")
            || ["/wait", "/attach", "/auth"].iter().any(|end| path.ends_with(end))
    }

    fn is_attach(&self) -> bool {
        self.method == "POST" && self.target.split('?').next().is_some_and(|path| path.ends_with("/attach"))
    }

    fn shown(&self, answer: &api::Answer, places: &Places) -> Answer {
        let kind = answer.header("content-type").unwrap_or("-").to_owned();
        let mut stdout = vec![kind.clone()];
        if let Some(stat) = answer.header("x-docker-container-path-stat") {
            stdout.push(path_stat(stat));
        }
        let json = answer.json();
        let fields = (!self.fields.is_empty()).then(|| self.picked(&json, places));
        if fields.is_none() {
            stdout.extend(body_lines(&kind, &answer.body, places));
        }
        Answer { step: self.text.clone(), code: i32::from(answer.status), stdout, stderr: vec![], fields }
    }

    fn picked(&self, json: &Value, places: &Places) -> BTreeMap<String, Value> {
        let mut picked = BTreeMap::new();
        for field in &self.fields {
            let (path, only_type) = field.strip_suffix(":type").map_or((field.as_str(), false), |path| (path, true));
            match super::run::walk(json, path) {
                Some(value) if only_type => picked.insert(field.clone(), kind_of(value).into()),
                Some(value) => picked.insert(field.clone(), normalise::field(path, value, places)),
                None => None,
            };
        }
        picked
    }
}

/// What a value is, in the words of JSON and of Go.
#[must_use]
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Asks for a connection of its own and writes `typed` once it is there.
fn hijack(socket: &Path, method: &str, target: &str, body: &str, typed: &[u8]) -> Result<api::Answer> {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: ferry\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let typed = if typed.is_empty() { Vec::new() } else { [typed, b"\n"].concat() };
    api::upgraded(socket, head.as_bytes(), &typed)
}

/// Returns the type and the bytes of a body.
fn content(body: String, folder: &Path) -> Result<(&'static str, Vec<u8>)> {
    if let Some(file) = body.strip_prefix("@file ") {
        let bytes = std::fs::read(folder.join(file)).with_context(|| format!("read {file}"))?;
        return Ok(("application/x-tar", bytes));
    }
    match body.strip_prefix("@tar ").map(|file| file.split_once(':')) {
        Some(Some((name, content))) => Ok(("application/x-tar", archive(name, content))),
        Some(None) => bail!("`@tar NAME:CONTENT`"),
        None => Ok(("application/json", body.into_bytes())),
    }
}

fn archive(name: &str, content: &str) -> Vec<u8> {
    let (layer, content) = (Layer::default(), content.replace("\\n", "\n"));
    if name.ends_with('/') { layer.dir(name, 0o755) } else { layer.file(name, 0o644, content.as_bytes()) }.into_tar()
}

/// Decodes the header in which the archive endpoint describes a file; its time goes.
fn path_stat(header: &str) -> String {
    let decoded = base64(header);
    let mut stat: Value = serde_json::from_slice(&decoded).unwrap_or_default();
    if let Some(object) = stat.as_object_mut() {
        object.remove("mtime");
        // The size of a folder is the file system's business.
        if object.get("mode").and_then(Value::as_u64).is_some_and(|mode| mode & (1 << 31) != 0) {
            object.remove("size");
        }
    }
    stat.to_string()
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|&one| one == byte)
    };
    let mut out = Vec::new();
    let (mut bits, mut held) = (0_usize, 0);
    for value in text.bytes().filter_map(digit) {
        bits = (bits << 6) | value;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    out
}

fn body_lines(kind: &str, body: &[u8], places: &Places) -> Vec<String> {
    let normal = |text: &str| normalise::text(text, places).lines().map(str::to_owned).collect::<Vec<_>>();
    if kind == "application/x-tar" {
        return archive_lines(body);
    }
    if let Some(streams) = frames(body) {
        return streams
            .iter()
            .flat_map(|(stream, text)| normal(text).into_iter().map(move |line| format!("{stream}: {line}")))
            .collect();
    }
    let documents: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(body).into_iter().collect();
    match documents {
        Ok(documents) => documents
            .iter()
            .map(|document| normalise::json(document, places))
            .flat_map(|document| {
                let pretty = serde_json::to_string_pretty(&document).unwrap_or_default();
                pretty.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect(),
        Err(_) => normal(&String::from_utf8_lossy(body)),
    }
}

/// Takes the frames of the two outputs apart, where the body consists of nothing else; neighbours of one stream
/// are joined, since how a text is cut is not promised.
fn frames(mut body: &[u8]) -> Option<Vec<(u8, String)>> {
    let mut streams: Vec<(u8, String)> = Vec::new();
    while !body.is_empty() {
        let head = body.get(..8)?;
        if head[0] > 2 || head[1..4] != [0, 0, 0] {
            return None;
        }
        let size = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let text = String::from_utf8_lossy(body.get(8..8 + size)?).into_owned();
        match streams.last_mut() {
            Some((stream, joined)) if *stream == head[0] => joined.push_str(&text),
            _ => streams.push((head[0], text)),
        }
        body = &body[8 + size..];
    }
    Some(streams)
}

fn archive_lines(body: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(body);
    let mut lines = Vec::new();
    for entry in archive.entries().into_iter().flatten().flatten() {
        let header = entry.header();
        let (mode, owner, group) = (header.mode().unwrap_or(0), header.uid().unwrap_or(0), header.gid().unwrap_or(0));
        let path = entry.path().map(|path| path.display().to_string()).unwrap_or_default();
        lines.push(format!("{mode:o} {owner}:{group} {} {path}", entry.size()));
    }
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_a_name_a_body_and_fields() {
        let request = Request::parse(r#"@api POST /containers/a/exec?x=1 as e < {"Cmd": ["a"]} => Id:type"#).unwrap();
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/containers/a/exec?x=1"));
        assert_eq!((request.name.as_deref(), request.body.as_deref()), (Some("e"), Some(r#"{"Cmd": ["a"]}"#)));
        assert_eq!(request.fields, ["Id:type"]);
        assert!(Request::parse("@api GET").is_err());
    }

    #[test]
    fn frames_are_joined_by_stream() {
        let body =
            [&[1, 0, 0, 0, 0, 0, 0, 1][..], b"a", &[1, 0, 0, 0, 0, 0, 0, 2], b"b\n", &[2, 0, 0, 0, 0, 0, 0, 1], b"c"];
        assert_eq!(frames(&body.concat()), Some(vec![(1, "ab\n".to_owned()), (2, "c".to_owned())]));
        assert_eq!(frames(b"plain text of some length"), None);
    }

    #[test]
    fn archives_are_listed() {
        assert_eq!(body_lines("application/x-tar", &archive("a", "four"), &Places::default()), ["644 0:0 4 a"]);
    }

    #[test]
    fn the_description_of_a_file_is_decoded() {
        assert_eq!(path_stat("eyJuYW1lIjoiYSIsIm10aW1lIjoiMjAyNiJ9"), r#"{"name":"a"}"#);
    }
}
