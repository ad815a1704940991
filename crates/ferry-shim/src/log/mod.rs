//! The logs on this host: Docker's json-file, one JSON object per line, and Docker's local, protobuf messages; rotated by size.
//!
//! ```text
//! <container>/<id>-json.log             json-file: the live file, only ever appended to
//! <container>/<id>-json.log.1           the newest rotated one, .2 before it, …; with `compress` each becomes `.1.gz` and so on
//! <container>/local-logs/container.log  local, likewise
//! <container>/container-cached.log      what a remote driver was given, likewise, in the form of local
//! ```
//! json-file: `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.678Z"}`, with `"attrs":{…}` before the time when there are any. A
//! line longer than 16 KiB is cut into parts of 16 KiB, of which only the last ends in a newline.
//!
//! Owns the format, the writer that the shim uses and the reader that the engine uses. Leaves out when to compress: the shim
//! runs [`compress`] in a process of its own, so that the loop which feeds the container's pipes is never held up.
//!
//! Invariants: the live file holds whole lines except while one is being written; a file that was rotated never changes;
//! a reader that had the live file open finds its successors by inode, compressed or not ([`compress`] notes the inode).

mod compress;
mod encode;
mod format;
mod local;
mod parse;
mod reader;
mod slots;
mod tail;
mod time;
mod watch;
mod writer;

pub use compress::compress;
pub use encode::PART_BYTES;
pub use format::Format;
pub use parse::{Entry, PartOf};
pub use reader::{ReadOptions, Reader};
pub use time::{format_time, parse_time};
pub use watch::Watch;
pub use writer::{CompressionJob, Writer, WriterOptions};

/// Which output of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, and everything of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As it stands in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// As it stands in the first byte of a multiplexed frame.
    #[must_use]
    pub fn frame_byte(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// One line on its way into a log, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Which output it came from.
    pub stream: Stream,
    /// The text without its newline.
    pub text: &'a [u8],
    /// The line ends here.
    pub whole: bool,
    /// Unix time in nanoseconds; of the first part in all parts of a line.
    pub time_ns: i64,
    /// Set when the line has more than one part, or ends without a newline.
    pub part: Option<Part<'a>>,
}

/// The place of a part in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Common to all parts of the line: 64 hex digits.
    pub id: &'a str,
    /// Counts the parts from 1.
    pub ordinal: u32,
}

/// Appends a line as log plugins of the engine read it: the message of the driver `local`, behind its length alone.
pub fn push_for_plugin(out: &mut Vec<u8>, line: &Line<'_>) {
    local::push_entry(out, line, &[]);
    out.truncate(out.len() - size_of::<u32>());
}

/// A line that a log plugin gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginLine {
    /// Unix time in nanoseconds.
    pub time_ns: i64,
    /// Of the error output.
    pub is_stderr: bool,
    /// As the plugin has it, with its newline or without.
    pub line: Vec<u8>,
}

/// Reads the message of a log plugin; `None` when it is none.
#[must_use]
pub fn read_from_plugin(message: &[u8]) -> Option<PluginLine> {
    local::plugin_line(message)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{Writer, WriterOptions};

    /// A folder of its own for a test, gone with it.
    pub(super) struct Folder {
        pub(super) path: PathBuf,
    }

    impl Folder {
        pub(super) fn new(name: &str) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("ferry-shim-log-{}-{number}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("folder");
            Self { path }
        }

        pub(super) fn writer(&self, options: WriterOptions) -> Writer {
            Writer::open(File::open(&self.path).expect("folder").into(), options).expect("writer")
        }

        pub(super) fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.path.join(name)).expect("read")
        }

        pub(super) fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&self.path).expect("folder");
            let mut names: Vec<String> =
                entries.map(|entry| entry.expect("entry").file_name().into_string().expect("text")).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
