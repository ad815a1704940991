//! `GET /containers/{id}/logs`: read by a thread of its own, as fast as disk and client go.

use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use ferry_api::stream::{StreamKind, frame_header};
use ferry_shim::log::{Entry, ReadOptions, Reader, Stream, Watch};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::sync::mpsc;

use super::{Container, Containers, defaults};
use crate::clock;
use crate::error::{Context, Error, ErrorKind, Result};

/// Bytes gathered before they are sent on.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a slow client.
const CHUNKS_WAITING: usize = 8;
/// How often a follower that sees nothing looks whether its client is still there.
const CLIENT_CHECK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

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
    /// NotFound; InvalidArgument without a stream, or for a driver that keeps nothing.
    pub async fn logs(&self, reference: &str, options: LogsOptions) -> Result<LogsSession> {
        let container = self.find(reference)?;
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream".to_owned()));
        }
        let (tty, driver) =
            container.with_record(|record| (record.config.tty, record.host_config.log_config.driver.clone()));
        if driver == "none" {
            let text = "configured logging driver does not support reading";
            return Err(Error::new(ErrorKind::NotImplemented, text));
        }
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        tokio::task::spawn_blocking(move || {
            let output = Output { sender, buffer: BytesMut::new(), tty, options };
            if let Err(error) = send_log(&container, output) {
                tracing::warn!(container = %container.name(), error = %error.text(), "log not read to its end");
            }
        });
        Ok(LogsSession { tty, chunks })
    }
}

fn send_log(container: &Arc<Container>, mut output: Output) -> Result<()> {
    // Watching begins before reading, so that nothing falls between.
    let watch = if output.options.follow {
        Some(Watch::new(container.folder()).context("cannot watch the log")?)
    } else {
        None
    };
    let options =
        ReadOptions { tail: output.options.tail, since_ns: output.options.since_ns, until_ns: output.options.until_ns };
    let name = defaults::log_file_name(&container.id);
    let mut reader = Reader::open(container.folder(), &name, options).context("cannot open the log")?;
    loop {
        let ended = !container.status().counts_as_running();
        loop {
            while let Some(entry) = reader.next_entry().context("cannot read the log")? {
                if output.push(&entry).is_err() {
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
        if output.sender.is_closed() {
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

/// Words entries as the client wants them.
struct Output {
    sender: mpsc::Sender<Bytes>,
    buffer: BytesMut,
    tty: bool,
    options: LogsOptions,
}

struct ClientGone;

impl Output {
    fn push(&mut self, entry: &Entry<'_>) -> Result<(), ClientGone> {
        let (kind, wanted) = match entry.stream {
            Stream::Stdout => (StreamKind::Stdout, self.options.stdout),
            Stream::Stderr => (StreamKind::Stderr, self.options.stderr),
        };
        if !wanted {
            return Ok(());
        }
        let mut prefix = String::new();
        if self.options.timestamps {
            prefix.push_str(&fixed_width_time(entry.time_ns));
            prefix.push(' ');
        }
        if self.options.details {
            let attributes: Vec<String> = entry.attrs().iter().map(|(key, value)| format!("{key}={value}")).collect();
            prefix.push_str(&attributes.join(","));
            prefix.push(' ');
        }
        let length = prefix.len() + entry.line.len();
        if !self.tty {
            let length = u32::try_from(length).expect("a log part has at most 16 KiB");
            self.buffer.put_slice(&frame_header(kind, length));
        }
        self.buffer.put_slice(prefix.as_bytes());
        self.buffer.put_slice(entry.line);
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ClientGone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(self.buffer.split().freeze()).map_err(|_| ClientGone)
    }
}

/// Nine digits always, so that columns line up, as Docker writes them.
fn fixed_width_time(time_ns: i64) -> String {
    let seconds = clock::rfc3339_seconds(time_ns.max(1));
    let nanoseconds = time_ns.rem_euclid(1_000_000_000);
    format!("{}.{nanoseconds:09}Z", seconds.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits() {
        assert_eq!(fixed_width_time(1_700_000_000_120_000_000), "2023-11-14T22:13:20.120000000Z");
    }
}
