//! The log of a container whose driver is `journald`, read back by `journalctl`.
//!
//! Its output is JSON, an object a line. It is the host's own program, but what it prints was written by a container: each field is
//! looked at by name, and none is trusted to be text.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferry_shim::log::Stream;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Map, Value};

use super::Container;
use super::logging;
use super::logs::{Message, Output};
use crate::error::{Context, Error, Result};

/// Fields that are not labels or variables of the container.
const OWN_FIELDS: [&str; 21] = [
    "CODE_FILE",
    "CODE_FUNC",
    "CODE_LINE",
    "CONTAINER_ID",
    "CONTAINER_ID_FULL",
    "CONTAINER_LOG_EPOCH",
    "CONTAINER_LOG_ORDINAL",
    "CONTAINER_NAME",
    "CONTAINER_PARTIAL_ID",
    "CONTAINER_PARTIAL_LAST",
    "CONTAINER_PARTIAL_MESSAGE",
    "CONTAINER_PARTIAL_ORDINAL",
    "CONTAINER_TAG",
    "ERRNO",
    "IMAGE_NAME",
    "MESSAGE",
    "MESSAGE_ID",
    "PRIORITY",
    "SYSLOG_FACILITY",
    "SYSLOG_IDENTIFIER",
    "SYSLOG_TIMESTAMP",
];

/// How long lines of a container that has ended may still be on their way into the journal.
const AFTER_THE_END: Duration = Duration::from_millis(500);

/// How often a follower looks whether the container lives and the client is there.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// Sends what the journal has of a container.
pub(super) fn send(container: &Arc<Container>, mut output: Output) -> Result<()> {
    let program = logging::journalctl().ok_or_else(|| Error::internal("journalctl is not there any more"))?;
    let follow = output.options.follow && container.status().counts_as_running();
    let mut command = Command::new(program);
    command.args(["--output=json", "--no-pager", "--quiet", "--all"]);
    command.arg(format!("CONTAINER_ID_FULL={}", container.id));
    let lines = output.options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    command.arg(format!("--lines={lines}"));
    if let Some(until) = output.options.until_ns.filter(|_| !follow) {
        command.arg(format!(
            "--until=@{}.{:06}",
            until.div_euclid(1_000_000_000),
            until.rem_euclid(1_000_000_000) / 1000
        ));
    }
    if follow {
        command.arg("--follow");
    }
    command.env_clear().env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().context(format!("cannot run {}", program.display()))?;
    read(container, Ended(child), follow, &mut output)
}

/// A child that does not outlive its reader.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended by itself is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(container: &Container, mut child: Ended, follow: bool, output: &mut Output) -> Result<()> {
    let mut stdout = child.0.stdout.take().ok_or_else(|| Error::internal("journalctl has no output"))?;
    let (mut lines, mut buffer, mut ended_at) = (Vec::new(), vec![0; 64 * 1024], None);
    loop {
        if follow && !is_readable(&stdout) {
            let ended = !container.status().counts_as_running();
            let since = *ended_at.get_or_insert_with(Instant::now);
            if !ended {
                ended_at = None;
            }
            let is_over = ended && since.elapsed() > AFTER_THE_END;
            if output.flush().is_err() || is_over || output.is_closed() {
                return Ok(());
            }
            continue;
        }
        let count = stdout.read(&mut buffer).context("cannot read journalctl")?;
        if count == 0 {
            // A client that is gone is no failure.
            let _ = output.flush();
            return Ok(());
        }
        lines.extend_from_slice(&buffer[..count]);
        let whole = memchr_last(&lines);
        for line in lines[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match push(line, output) {
                Step::On => {}
                Step::Over => {
                    let _ = output.flush();
                    return Ok(());
                }
            }
        }
        lines.drain(..whole);
    }
}

fn is_readable(fd: &impl AsFd) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    rustix::event::poll(&mut polled, Some(&LOOK)).is_ok_and(|count| count > 0)
}

fn memchr_last(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

enum Step {
    On,
    Over,
}

fn push(line: &[u8], output: &mut Output) -> Step {
    let Ok(Value::Object(fields)) = serde_json::from_slice(line) else { return Step::On };
    let Some((stream, time_ns, text)) = entry(&fields) else { return Step::On };
    if output.options.since_ns.is_some_and(|since| time_ns < since) {
        return Step::On;
    }
    if output.options.until_ns.is_some_and(|until| time_ns > until) {
        return Step::Over;
    }
    let attributes = if output.options.details { attributes(&fields) } else { Vec::new() };
    match output.push(&Message { stream, time_ns, line: &text, part: None, attributes }) {
        Ok(()) => Step::On,
        Err(_) => Step::Over,
    }
}

fn entry(fields: &Map<String, Value>) -> Option<(Stream, i64, Vec<u8>)> {
    let mut text = bytes(fields.get("MESSAGE")?)?;
    let stream = match fields.get("PRIORITY").and_then(Value::as_str) {
        Some("3") => Stream::Stderr,
        Some("6") => Stream::Stdout,
        _ => return None,
    };
    let microseconds: i64 = fields.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
    if fields.get("CONTAINER_PARTIAL_MESSAGE").and_then(Value::as_str) != Some("true") {
        text.push(b'\n');
    }
    Some((stream, microseconds.checked_mul(1000)?, text))
}

/// What is not text is a list of numbers; a field that was given twice is a list of values, of which the first counts.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(items) if items.first().is_some_and(Value::is_number) => {
            items.iter().map(|item| item.as_u64().and_then(|number| u8::try_from(number).ok())).collect()
        }
        Value::Array(items) => bytes(items.first()?),
        _ => None,
    }
}

fn attributes(fields: &Map<String, Value>) -> Vec<(String, String)> {
    let own = |name: &str| name.starts_with('_') || OWN_FIELDS.contains(&name);
    let mut found: Vec<(String, String)> = fields
        .iter()
        .filter(|(name, _)| !own(name))
        .filter_map(|(name, value)| Some((name.clone(), String::from_utf8_lossy(&bytes(value)?).into_owned())))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_of_the_journal_are_read() {
        let fields = json!({
            "MESSAGE": [0xff, 0x61], "PRIORITY": "3", "__REALTIME_TIMESTAMP": "1500000", "_PID": "1",
            "CONTAINER_NAME": "web", "COM_X": "label", "TWICE": ["a", "b"]
        });
        let fields = fields.as_object().expect("an object");
        assert_eq!(entry(fields), Some((Stream::Stderr, 1_500_000_000, b"\xffa\n".to_vec())));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(attributes(fields), [pair("COM_X", "label"), pair("TWICE", "a")]);
        let part = json!({
            "MESSAGE": "a", "PRIORITY": "6", "__REALTIME_TIMESTAMP": "1", "CONTAINER_PARTIAL_MESSAGE": "true"
        });
        assert_eq!(entry(part.as_object().expect("an object")), Some((Stream::Stdout, 1000, b"a".to_vec())));
        assert_eq!(entry(json!({"MESSAGE": "x"}).as_object().expect("an object")), None);
    }
}
