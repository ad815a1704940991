//! Runs the program on recorded command lines and compares what a user and the daemon see.
//!
//! `tests/record-oracle.py` makes the records. The differences that are meant are those below and the `free` fields.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::fake::{Fake, Seen, answers};

struct Answer {
    out: String,
    err: String,
    code: i64,
    seen: Vec<Seen>,
}

/// Replays the cases of a file.
pub(crate) fn replay(name: &str, records: &str) {
    let file: Value = serde_json::from_str(records).unwrap();
    let mut wrong = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let table = case["answers"].as_str().map_or(&Value::Null, |table| &file["answers"][table]);
        let differences = replay_case(case, table);
        if !differences.is_empty() {
            wrong.push(format!("{}\n{}", case["args"], differences.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{name}: {} cases differ\n{}", wrong.len(), wrong.join("\n"));
}

/// The differences of one case. Ages are told in whole seconds: a case that fails when a second went by while it ran is run again.
fn replay_case(case: &Value, table: &Value) -> Vec<String> {
    const TRIES: usize = 20;
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let tells_ages = table.to_string().contains("@NOW-");
    for _ in 1..TRIES {
        let begin = second();
        let differences = compare(case, &run(case, table));
        if differences.is_empty() || !tells_ages || second() == begin {
            return differences;
        }
    }
    compare(case, &run(case, table))
}

fn run(case: &Value, table: &Value) -> Answer {
    let home = tempfile::tempdir().unwrap();
    let home_text = home.path().to_str().unwrap().to_owned();
    for (name, text) in case["files"].as_object().into_iter().flatten() {
        std::fs::write(home.path().join(name), text.as_str().unwrap()).unwrap();
    }
    let socket = home.path().join("d.sock");
    let fake = Fake::listen(&socket, answers(table));
    // The program speaks under the name it is called by.
    let program = home.path().join("docker");
    symlink(env!("CARGO_BIN_EXE_ferry"), &program).unwrap();
    let mut command = Command::new(program);
    command
        .args(case["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()))
        .env_clear()
        .env("HOME", &home_text)
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("TZ", "UTC")
        .env("FROM_CLIENT", "client")
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in case["env"].as_object().into_iter().flatten() {
        command.env(name, value.as_str().unwrap());
    }
    let mut child = command.spawn().unwrap();
    let stdin = case["stdin"].as_str().unwrap_or_default();
    // A program that does not read closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let clean = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&home_text, "@HOME@");
    let mut seen: Vec<Seen> =
        fake.seen().into_iter().map(|(method, path, body)| (method, path, clean(body.as_bytes()))).collect();
    if case["requests"] == "sorted" {
        seen.sort();
    }
    Answer {
        out: clean(&output.stdout),
        err: clean(&output.stderr),
        code: output.status.code().unwrap_or(-1).into(),
        seen,
    }
}

fn compare(case: &Value, got: &Answer) -> Vec<String> {
    let recorded = &case["recorded"];
    let is_free = |name: &str| case["free"].as_array().is_some_and(|free| free.iter().any(|item| item == name));
    let mut differences = Vec::new();
    let mut check = |name: &str, docker: String, ferry: String| {
        if docker != ferry && !is_free(name) {
            differences.push(format!("  {name}\n    docker: {docker:?}\n    ferry:  {ferry:?}"));
        }
    };
    let text = |name: &str| without_times(recorded[name].as_str().unwrap());
    check("rc", recorded["rc"].to_string(), got.code.to_string());
    check("out", text("out"), without_times(&got.out));
    check("err", text("err"), without_times(&without_near_words(&got.err)));
    let mut wanted: Vec<Seen> = recorded["seen"].as_array().unwrap().iter().map(request).collect();
    if case["requests"] == "sorted" {
        wanted.sort();
    }
    let shown = |requests: &[Seen]| {
        let lines = requests.iter().map(|(method, path, body)| format!("{method} {path} {}", meaning(body)));
        lines.collect::<Vec<_>>().join("\n")
    };
    check("seen", shown(&wanted), shown(&got.seen));
    differences
}

fn request(json: &Value) -> Seen {
    let text = |index: usize| json[index].as_str().unwrap().to_owned();
    (text(0), text(1), text(2))
}

/// Absent, null and empty mean the same in a request; the order of binds and variables from flags means nothing.
fn meaning(body: &str) -> String {
    let Ok(mut json) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
    for pointer in ["/Env", "/HostConfig/Binds"] {
        if let Some(Value::Array(items)) = json.pointer_mut(pointer) {
            items.sort_by_key(Value::to_string);
        }
    }
    prune(json).map_or_else(String::new, |json| json.to_string())
}

fn prune(json: Value) -> Option<Value> {
    match json {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => {
            Some(Value::Array(items.into_iter().map(|item| prune(item).unwrap_or(Value::Null)).collect()))
        }
        Value::Object(object) => {
            let mut entries: Vec<_> = object.into_iter().filter_map(|(key, item)| Some((key, prune(item)?))).collect();
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            (!entries.is_empty()).then(|| Value::Object(entries.into_iter().collect()))
        }
        other => Some(other),
    }
}

/// Near words are ferry's own addition.
fn without_near_words(text: &str) -> String {
    match text.find("\n\nDid you mean '") {
        Some(start) => {
            let end = text[start..].find("'?").map_or(text.len(), |end| start + end + 2);
            format!("{}{}", &text[..start], &text[end..])
        }
        None => text.to_owned(),
    }
}

/// Blanks out times of this century: they are those of the day.
fn without_times(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut at = 0;
    while at < text.len() {
        let is_time = bytes.len() >= at + 19
            && text.is_char_boundary(at + 19)
            && text[at..].starts_with("20")
            && bytes[at + 4] == b'-'
            && bytes[at + 13] == b':'
            && bytes[at + 16] == b':';
        if is_time {
            out.push_str("@TIME@");
            at += 19;
            continue;
        }
        let letter = text[at..].chars().next().unwrap();
        out.push(letter);
        at += letter.len_utf8();
    }
    out
}
