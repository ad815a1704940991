//! `events.log`: the last events as JSON lines, so that `--since` works over a restart of the daemon.
//!
//! Lies in the exec root, in memory: gone with a reboot, as in Docker. A half-written last line is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ferry_api::event::Message;

/// The file, opened for appending.
pub(super) struct EventLog {
    path: PathBuf,
    file: File,
    lines: usize,
    keep: usize,
}

impl EventLog {
    /// Opens the file and returns its last `keep` events.
    pub(super) fn open(path: &Path, keep: usize) -> io::Result<(Self, Vec<Message>)> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut events: Vec<Message> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let surplus = events.len().saturating_sub(keep);
        events.drain(..surplus);
        let mut log = Self { path: path.to_owned(), file: append_to(path)?, lines: 0, keep };
        log.rewrite(&events)?;
        Ok((log, events))
    }

    /// Appends one event; a failure costs the replay after a restart, not the event.
    pub(super) fn append(&mut self, event: &Message) {
        let mut line = serde_json::to_vec(event).expect("an event is plain data");
        line.push(b'\n');
        let mut written = self.file.write_all(&line);
        self.lines += 1;
        if written.is_ok() && self.lines >= 2 * self.keep {
            written = self.shorten();
        }
        if let Err(error) = written {
            tracing::debug!(%error, "event not kept for replay");
        }
    }

    fn shorten(&mut self) -> io::Result<()> {
        let text = fs::read(&self.path)?;
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let kept = lines[lines.len().saturating_sub(self.keep)..].concat();
        self.replace(&kept, self.keep)
    }

    fn rewrite(&mut self, events: &[Message]) -> io::Result<()> {
        let mut text = Vec::new();
        for event in events {
            serde_json::to_writer(&mut text, event)?;
            text.push(b'\n');
        }
        self.replace(&text, events.len())
    }

    fn replace(&mut self, text: &[u8], lines: usize) -> io::Result<()> {
        let new = self.path.with_extension("log.new");
        fs::write(&new, text)?;
        fs::rename(&new, &self.path)?;
        self.file = append_to(&self.path)?;
        self.lines = lines;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
