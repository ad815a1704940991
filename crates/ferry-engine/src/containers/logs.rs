//! `GET /containers/{id}/logs`: read by a thread of its own, as fast as disk and client go.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use ferry_api::stream::{StreamKind, frame_header};
use ferry_shim::log::{Entry, Format, PartOf, ReadOptions, Reader, Stream, Watch, format_time};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Serialize;
use tokio::sync::mpsc;

use super::logging::{self, Source};
use super::{Container, Containers, journal};
use crate::clock;
use crate::error::{Context, Error, ErrorKind, Result};

/// Bytes gathered before they are sent on.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a slow client.
const CHUNKS_WAITING: usize = 8;
/// How often a follower that sees nothing looks whether its client is still there.
const CLIENT_CHECK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Characters that Go's `QueryEscape` leaves alone besides letters and digits; a blank becomes a plus.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct LogsOptions {
    /// Send stdout.
    pub stdout: bool,
    /// Send stderr.
    pub stderr: bool,
    /// Go on with what is written until the container ends.
    pub follow: bool,
    /// From this time on, Unix nanoseconds.
    pub since_ns: Option<i64>,
    /// Up to this time.
    pub until_ns: Option<i64>,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Only that many lines from the end.
    pub tail: Option<u64>,
    /// Put the extra attributes before each line.
    pub details: bool,
    /// How lines are sent.
    pub form: LogsForm,
}

/// How lines are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogsForm {
    /// As they are, in Docker's frames when there is no terminal.
    #[default]
    Text,
    /// A JSON object each, on a line of its own.
    Json {
        /// Each object begins with a record separator (RFC 7464).
        separated: bool,
    },
}

/// A log being read.
pub struct LogsSession {
    /// The container has a terminal: chunks are raw. Otherwise they are Docker's multiplexed frames.
    pub tty: bool,
    /// Ends with the log, or with the container when following.
    pub chunks: mpsc::Receiver<Bytes>,
}

impl Containers {
    /// Reads a container's log.
    ///
    /// API: `GET /containers/{id}/logs`
    ///
    /// # Errors
    /// NotFound; InvalidArgument without a stream; NotImplemented for a driver that keeps nothing here.
    pub async fn logs(&self, reference: &str, options: LogsOptions) -> Result<LogsSession> {
        let container = self.find(reference)?;
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("You must choose at least one stream".to_owned()));
        }
        let (tty, source) =
            container.with_record(|record| (record.config.tty, logging::source(record, container.folder())));
        if source == Source::Nowhere {
            let text = "configured logging driver does not support reading";
            return Err(Error::new(ErrorKind::NotImplemented, text));
        }
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        if source == Source::Plugin {
            let containers = self.clone();
            let output = Output { sender, buffer: BytesMut::new(), tty, options };
            tokio::spawn(async move {
                if let Err(error) = containers.send_plugin_log(&container, output).await {
                    tracing::warn!(container = %container.name(), error = %error.text(), "log not read to its end");
                }
            });
            return Ok(LogsSession { tty, chunks });
        }
        tokio::task::spawn_blocking(move || {
            let output = Output { sender, buffer: BytesMut::new(), tty, options };
            let sent = match source {
                Source::JsonFile(name) => send_log(&container, Place::in_folder(&container, None, &name), output),
                Source::Local { folder, file_name } => {
                    let place = Place { format: Format::Local, ..Place::in_folder(&container, folder, file_name) };
                    send_log(&container, place, output)
                }
                Source::Journal => journal::send(&container, output),
                Source::Plugin | Source::Nowhere => Ok(()),
            };
            if let Err(error) = sent {
                tracing::warn!(container = %container.name(), error = %error.text(), "log not read to its end");
            }
        });
        Ok(LogsSession { tty, chunks })
    }
}

/// Files of a log.
struct Place {
    folder: PathBuf,
    file_name: String,
    format: Format,
}

impl Place {
    fn in_folder(container: &Container, folder: Option<&str>, file_name: &str) -> Self {
        let folder = folder.map_or_else(|| container.folder().clone(), |name| container.folder().join(name));
        Self { folder, file_name: file_name.to_owned(), format: Format::JsonFile }
    }

    /// Watches for more of the log, and for the end of the container.
    fn watch(&self, container: &Container) -> std::io::Result<Watch> {
        let watch = Watch::new(container.folder())?;
        if self.folder != *container.folder() {
            watch.add(&self.folder)?;
        }
        Ok(watch)
    }
}

fn send_log(container: &Arc<Container>, place: Place, mut output: Output) -> Result<()> {
    if !place.folder.exists() {
        // It was never started.
        return Ok(());
    }
    // Watching begins before reading, so that nothing falls between.
    let watch =
        if output.options.follow { Some(place.watch(container).context("cannot watch the log")?) } else { None };
    let options =
        ReadOptions { tail: output.options.tail, since_ns: output.options.since_ns, until_ns: output.options.until_ns };
    let mut reader =
        Reader::open(&place.folder, &place.file_name, place.format, options).context("cannot open the log")?;
    loop {
        let ended = !container.status().counts_as_running();
        loop {
            while let Some(entry) = reader.next_entry().context("cannot read the log")? {
                if output.push(&Message::of(&entry, output.options.details)).is_err() {
                    return Ok(());
                }
            }
            if !(output.options.follow && reader.poll_more().context("cannot read the log")?) {
                break;
            }
        }
        if output.flush().is_err() || reader.is_finished() {
            return Ok(());
        }
        let past_until = output.options.until_ns.is_some_and(|until| clock::now_ns() > until);
        match &watch {
            Some(watch) if !ended && !past_until => wait(watch).context("cannot watch the log")?,
            _ => return Ok(()),
        }
        if output.is_closed() {
            return Ok(());
        }
    }
}

/// Waits until something in the container's folder changes: the log grows or turns over, the exit is written.
fn wait(watch: &Watch) -> rustix::io::Result<()> {
    let mut polled = [PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)];
    match rustix::event::poll(&mut polled, Some(&CLIENT_CHECK)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => {}
        Ok(_) => watch.clear(),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// One entry of a log, wherever it was read.
pub(super) struct Message<'a> {
    pub(super) stream: Stream,
    pub(super) time_ns: i64,
    /// With its newline, unless it is a part of a longer line.
    pub(super) line: &'a [u8],
    pub(super) part: Option<&'a PartOf>,
    /// Sorted; empty unless `details` are asked for.
    pub(super) attributes: Vec<(String, String)>,
}

impl<'a> Message<'a> {
    fn of(entry: &Entry<'a>, details: bool) -> Self {
        let attributes = if details { entry.attrs() } else { Vec::new() };
        Self { stream: entry.stream, time_ns: entry.time_ns, line: entry.line, part: entry.part, attributes }
    }
}

/// What a client wants of a log, and how it gets it.
pub(super) struct Output {
    sender: mpsc::Sender<Bytes>,
    buffer: BytesMut,
    tty: bool,
    pub(super) options: LogsOptions,
}

/// The client is gone.
pub(super) struct ClientGone;

impl Output {
    pub(super) fn push(&mut self, message: &Message<'_>) -> Result<(), ClientGone> {
        self.add(message);
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    /// As [`Output::push`], at once and without a thread.
    pub(super) async fn push_and_send(&mut self, message: &Message<'_>) -> Result<(), ClientGone> {
        self.add(message);
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.sender.send(self.buffer.split().freeze()).await.map_err(|_| ClientGone)
    }

    /// Waits until the client is gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }

    fn add(&mut self, message: &Message<'_>) {
        let wanted = match message.stream {
            Stream::Stdout => self.options.stdout,
            Stream::Stderr => self.options.stderr,
        };
        if !wanted {
            return;
        }
        match self.options.form {
            LogsForm::Text => self.push_text(message),
            LogsForm::Json { separated } => self.push_json(message, separated),
        }
    }

    fn push_text(&mut self, message: &Message<'_>) {
        let mut prefix = String::new();
        if self.options.timestamps {
            prefix.push_str(&fixed_width_time(message.time_ns));
            prefix.push(' ');
        }
        if self.options.details {
            let pairs = message.attributes.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value)));
            prefix.push_str(&pairs.collect::<Vec<_>>().join(","));
            prefix.push(' ');
        }
        if !self.tty {
            let kind = match message.stream {
                Stream::Stdout => StreamKind::Stdout,
                Stream::Stderr => StreamKind::Stderr,
            };
            let length = u32::try_from(prefix.len() + message.line.len()).expect("a log part has at most 16 KiB");
            self.buffer.put_slice(&frame_header(kind, length));
        }
        self.buffer.put_slice(prefix.as_bytes());
        self.buffer.put_slice(message.line);
    }

    fn push_json(&mut self, message: &Message<'_>, separated: bool) {
        let attributes = message.attributes.iter().map(|(key, value)| JsonAttribute { key, value });
        let document = JsonMessage {
            line: String::from_utf8_lossy(message.line),
            source: message.stream.name(),
            timestamp: format_time(message.time_ns),
            attributes: attributes.collect(),
            part: message.part.map(|part| JsonPart { last: part.last, id: &part.id, ordinal: part.ordinal }),
        };
        if separated {
            self.buffer.put_u8(0x1e);
        }
        self.buffer.put_slice(&serde_json::to_vec(&document).expect("plain data"));
        self.buffer.put_u8(b'\n');
    }

    pub(super) fn flush(&mut self) -> Result<(), ClientGone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(self.buffer.split().freeze()).map_err(|_| ClientGone)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// A line as JSON, with Docker's names.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonMessage<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    line: std::borrow::Cow<'a, str>,
    source: &'a str,
    timestamp: String,
    #[serde(rename = "Attrs", skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<JsonAttribute<'a>>,
    #[serde(rename = "MetaData", skip_serializing_if = "Option::is_none")]
    part: Option<JsonPart<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonAttribute<'a> {
    key: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonPart<'a> {
    last: bool,
    #[serde(rename = "ID")]
    id: &'a str,
    ordinal: u32,
}

fn escape(text: &str) -> String {
    percent_encode(text.as_bytes(), QUERY).to_string().replace("%20", "+")
}

/// Nine digits always, so that columns line up, as Docker writes them.
fn fixed_width_time(time_ns: i64) -> String {
    let mut text = format_time(time_ns);
    text.truncate(19);
    let nanoseconds = time_ns.rem_euclid(1_000_000_000);
    format!("{text}.{nanoseconds:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits() {
        assert_eq!(fixed_width_time(1_700_000_000_120_000_000), "2023-11-14T22:13:20.120000000Z");
        assert_eq!(fixed_width_time(0), "1970-01-01T00:00:00.000000000Z");
    }

    fn sent(tty: bool, options: LogsOptions, message: &Message<'_>) -> Vec<u8> {
        let (sender, mut chunks) = mpsc::channel(1);
        let options = LogsOptions { stdout: true, ..options };
        let mut output = Output { sender, buffer: BytesMut::new(), tty, options };
        assert!(output.push(message).is_ok() && output.flush().is_ok());
        chunks.try_recv().map(|chunk| chunk.to_vec()).unwrap_or_default()
    }

    #[test]
    fn lines_are_sent_as_they_are_asked_for() {
        let part = PartOf { id: "feed".into(), ordinal: 2, last: true };
        let attributes = vec![("a b".to_owned(), "c&d".to_owned())];
        let stream = Stream::Stdout;
        let message = Message { stream, time_ns: 1_500_000_000, line: b"text\n", part: Some(&part), attributes };
        let details = LogsOptions { details: true, timestamps: true, ..LogsOptions::default() };
        let expected = b"1970-01-01T00:00:01.500000000Z a+b=c%26d text\n";
        assert_eq!(sent(true, details.clone(), &message), expected);
        assert_eq!(sent(false, details, &message)[..9], *b"\x01\0\0\0\0\0\0\x2e1");
        let json = LogsOptions { form: LogsForm::Json { separated: true }, ..LogsOptions::default() };
        let expected = concat!(
            "\u{1e}{\"Line\":\"text\\n\",\"Source\":\"stdout\",\"Timestamp\":\"1970-01-01T00:00:01.5Z\",",
            "\"Attrs\":[{\"Key\":\"a b\",\"Value\":\"c&d\"}],\"MetaData\":{\"Last\":true,\"ID\":\"feed\",\"Ordinal\":2}}\n"
        );
        assert_eq!(String::from_utf8(sent(false, json, &message)).expect("text"), expected);
        let stderr = Message { stream: Stream::Stderr, ..message };
        assert_eq!(sent(true, LogsOptions::default(), &stderr), b"");
    }
}
