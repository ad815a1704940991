//! Shows the progress stream of pulls, imports and loads.
//!
//! On a terminal each layer keeps its line, reached by cursor movements; elsewhere only whole steps are printed.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use ferry_api::stream::{JsonMessage, Progress};
use ferry_client::ByteStream;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Result};
use crate::format::human;

/// Splits a stream of JSON documents that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    buffer: Vec<u8>,
}

impl Documents {
    /// Takes bytes and returns the documents that are complete.
    pub(crate) fn feed<T: DeserializeOwned>(&mut self, bytes: &[u8]) -> Result<Vec<T>> {
        self.buffer.extend_from_slice(bytes);
        let mut documents = Vec::new();
        let mut stream = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<serde_json::Value>();
        let mut used = 0;
        while let Some(next) = stream.next() {
            match next {
                Ok(value) => {
                    used = stream.byte_offset();
                    let document =
                        ferry_api::json::from_value(value).map_err(|error| Failure::new(error.to_string()))?;
                    documents.push(document);
                }
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(Failure::new(error.to_string())),
            }
        }
        self.buffer.drain(..used);
        Ok(documents)
    }

    /// Whether a document is cut off.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.buffer.iter().any(|byte| !byte.is_ascii_whitespace())
    }
}

/// Where progress is shown.
pub(crate) struct Display<'a> {
    out: &'a mut dyn Write,
    /// Columns of the terminal, if it is one.
    terminal: Option<usize>,
    /// The ids that have a line, in order.
    lines: Vec<String>,
    paces: Paces,
}

impl<'a> Display<'a> {
    /// Shows on a terminal of that width, or plainly.
    pub(crate) fn new(out: &'a mut dyn Write, terminal: Option<usize>) -> Self {
        Self { out, terminal, lines: Vec::new(), paces: Paces::default() }
    }

    /// Shows a whole stream.
    ///
    /// # Errors
    /// The error that the stream reports, or its break.
    pub(crate) async fn show(&mut self, stream: ByteStream) -> Result<()> {
        self.show_with(stream, &mut |_| {}).await
    }

    /// As [`Display::show`]; messages for programs go to `aux` and are not shown.
    ///
    /// # Errors
    /// As [`Display::show`].
    pub(crate) async fn show_with(&mut self, mut stream: ByteStream, aux: &mut dyn FnMut(&JsonMessage)) -> Result<()> {
        let mut documents = Documents::default();
        while let Some(bytes) = stream.next().await? {
            for message in documents.feed::<JsonMessage>(&bytes)? {
                if message.aux.is_some() {
                    aux(&message);
                }
                self.message(&message)?;
            }
        }
        if documents.is_incomplete() {
            return Err(Failure::new("unexpected EOF"));
        }
        Ok(())
    }

    /// Shows one message.
    ///
    /// # Errors
    /// The error that the message reports.
    pub(crate) fn message(&mut self, message: &JsonMessage) -> Result<()> {
        if message.aux.is_some() {
            return Ok(());
        }
        let mut up = 0;
        if !message.id.is_empty() && (message.progress_detail.is_some() || !message.progress.is_empty()) {
            let line = match self.lines.iter().position(|id| *id == message.id) {
                Some(line) => line,
                None => {
                    self.lines.push(message.id.clone());
                    if self.terminal.is_some() {
                        writeln!(self.out)?;
                    }
                    self.lines.len() - 1
                }
            };
            up = self.lines.len() - line;
            if self.terminal.is_some() {
                write!(self.out, "\x1b[{up}A")?;
            }
        } else {
            // Lines above belong to something else now.
            self.lines.clear();
        }
        let shown = self.text(message);
        if !message.id.is_empty() && self.terminal.is_some() && up > 0 {
            write!(self.out, "\x1b[{up}B")?;
        }
        self.out.flush()?;
        shown
    }

    fn text(&mut self, message: &JsonMessage) -> Result<()> {
        if let Some(failure) = failure_of(message) {
            return Err(failure);
        }
        let bar = message.progress_detail.as_ref().map(|progress| bar(progress, self.terminal.unwrap_or(200)));
        let mut end = "";
        if self.terminal.is_some() && message.stream.is_empty() && bar.is_some() {
            end = "\r";
            write!(self.out, "\x1b[2K\r")?;
        } else if bar.as_ref().is_some_and(|bar| !bar.is_empty()) {
            return Ok(());
        }
        if !message.id.is_empty() {
            write!(self.out, "{}: ", message.id)?;
        }
        match bar.filter(|_| self.terminal.is_some()) {
            Some(bar) => {
                let left = self.paces.left(message, Instant::now()).map(|left| format!(" {} left", go_seconds(left)));
                write!(self.out, "{} {bar}{}{end}", message.status, left.unwrap_or_default())?;
            }
            None if !message.progress.is_empty() => write!(self.out, "{} {}{end}", message.status, message.progress)?,
            None if !message.stream.is_empty() => write!(self.out, "{}{end}", message.stream)?,
            None => writeln!(self.out, "{}{end}", message.status)?,
        }
        Ok(())
    }
}

/// A step must have run for so long before a guess is shown: quick ones look as they do in Docker.
const GUESS_AFTER: Duration = Duration::from_secs(1);

/// How fast each part moves in the step that it is in.
#[derive(Default)]
struct Paces(HashMap<String, Pace>);

struct Pace {
    step: String,
    since: Instant,
    at: i64,
}

impl Paces {
    /// Guesses how long a part still takes, once that can be told.
    fn left(&mut self, message: &JsonMessage, now: Instant) -> Option<Duration> {
        let progress = message.progress_detail.as_ref()?;
        let (current, total) = (progress.current, progress.total);
        if current <= 0 || current >= total || !progress.units.is_empty() {
            self.0.remove(&message.id);
            return None;
        }
        let begun = || Pace { step: message.status.clone(), since: now, at: current };
        let pace = self.0.entry(message.id.clone()).or_insert_with(begun);
        if pace.step != message.status || current < pace.at {
            *pace = begun();
        }
        let (elapsed, done) = (now.duration_since(pace.since), current - pace.at);
        if elapsed < GUESS_AFTER || done <= 0 {
            return None;
        }
        let seconds = elapsed.as_secs_f64() * (total - current) as f64 / done as f64;
        // Beyond a few days nobody believes it.
        (seconds < 1e6).then(|| Duration::from_secs_f64(seconds.max(1.0)))
    }
}

/// Whole seconds as Go writes a duration: `1h2m3s`.
fn go_seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn failure_of(message: &JsonMessage) -> Option<Failure> {
    if let Some(detail) = &message.error_detail {
        let text = if detail.code == 401 { "authentication is required" } else { &detail.message };
        return Some(Failure::new(text));
    }
    (!message.error.is_empty()).then(|| Failure::new(message.error.clone()))
}

/// A drawn bar with numbers; empty when nothing is known.
fn bar(progress: &Progress, width: usize) -> String {
    let (current, total) = (progress.current, progress.total);
    if current <= 0 && total <= 0 {
        return String::new();
    }
    if total <= 0 {
        return match progress.units.as_str() {
            "" => format!("{:>8}", human::size(current)),
            units => format!("{current} {units}"),
        };
    }
    let done = (current as f64 / total as f64 * 100.0) as usize / 2;
    let done = done.min(50);
    let drawing =
        if width > 110 { format!("[{}>{}] ", "=".repeat(done), " ".repeat(50 - done)) } else { String::new() };
    let numbers = match progress.units.as_str() {
        _ if progress.hidecounts => String::new(),
        "" if current > total => format!("{:>8}", human::size(current)),
        "" => format!("{:>8}/{}", human::size(current), human::size(total)),
        units if current > total => format!("{current} {units}"),
        units => format!("{current}/{total} {units}"),
    };
    format!("{drawing}{numbers}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(terminal: Option<usize>, lines: &[&str]) -> String {
        let mut out = Vec::new();
        let mut display = Display::new(&mut out, terminal);
        for line in lines {
            display.message(&serde_json::from_str(line).unwrap()).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    const PULL: &[&str] = &[
        r#"{"status":"Pulling from library/a","id":"latest"}"#,
        r#"{"status":"Pulling fs layer","progressDetail":{},"id":"aa"}"#,
        r#"{"status":"Pulling fs layer","progressDetail":{},"id":"bb"}"#,
        r#"{"status":"Downloading","progressDetail":{"current":512,"total":1024},"id":"aa"}"#,
        r#"{"status":"Pull complete","progressDetail":{},"id":"aa"}"#,
        r#"{"status":"Digest: sha256:1"}"#,
    ];

    #[test]
    fn plain_output_has_whole_steps_only() {
        assert_eq!(
            shown(None, PULL),
            "latest: Pulling from library/a\naa: Pulling fs layer\nbb: Pulling fs layer\naa: Pull complete\nDigest: sha256:1\n"
        );
    }

    #[test]
    fn a_terminal_gets_bars_in_place() {
        let text = shown(Some(120), &PULL[..4]);
        assert_eq!(
            text,
            format!(
                "latest: Pulling from library/a\n\n\x1b[1A\x1b[2K\raa: Pulling fs layer \r\x1b[1B\n\x1b[1A\x1b[2K\rbb: Pulling fs layer \
                 \r\x1b[1B\x1b[2A\x1b[2K\raa: Downloading [{}>{}]     512B/1.024kB\r\x1b[2B",
                "=".repeat(25),
                " ".repeat(25)
            )
        );
    }

    #[test]
    fn the_time_that_is_left_is_guessed_by_the_pace_of_the_step() {
        let message = |status: &str, current: i64| JsonMessage {
            id: "aa".to_owned(),
            status: status.to_owned(),
            progress_detail: Some(Progress { current, total: 1000, ..Progress::default() }),
            ..JsonMessage::default()
        };
        let (mut paces, start) = (Paces::default(), Instant::now());
        let mut left = |status: &str, current: i64, at_ms: u64| {
            paces.left(&message(status, current), start + Duration::from_millis(at_ms)).map(go_seconds)
        };
        assert_eq!(left("Downloading", 100, 0), None);
        assert_eq!(left("Downloading", 200, 500), None, "too early to tell");
        assert_eq!(left("Downloading", 200, 2000).unwrap(), "16s");
        assert_eq!(left("Downloading", 210, 10_000).unwrap(), "1m12s");
        assert_eq!(left("Extracting", 500, 11_000), None, "another step has its own pace");
        assert_eq!(left("Extracting", 990, 12_000).unwrap(), "1s");
        assert_eq!(left("Extracting", 1000, 13_000), None);
        assert_eq!(go_seconds(Duration::from_secs(3723)), "1h2m3s");
    }

    #[test]
    fn errors_end_the_stream() {
        let mut out = Vec::new();
        let message =
            serde_json::from_str(r#"{"errorDetail":{"message":"no such image"},"error":"no such image"}"#).unwrap();
        let error = Display::new(&mut out, None).message(&message).unwrap_err();
        assert_eq!(error.message, "no such image");
    }

    #[test]
    fn documents_come_in_pieces() {
        let mut documents = Documents::default();
        assert!(documents.feed::<JsonMessage>(br#"{"status":"a"#).unwrap().is_empty());
        assert!(documents.is_incomplete());
        let found = documents.feed::<JsonMessage>(b"b\"}\r\n{\"status\":\"c\"}\r\n").unwrap();
        assert_eq!(found.iter().map(|message| message.status.as_str()).collect::<Vec<_>>(), ["ab", "c"]);
    }
}
