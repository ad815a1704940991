//! The container's log as the event loop sees it: lines go in, nothing ever fails or waits.
//!
//! Compression of rotated files runs in a child process, this program again, so that neither the loop waits for it nor its
//! memory stays.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ferry_shim::log::{Stream, Writer, WriterOptions};
use ferry_shim::protocol::LogOptions;
use ferry_sys::spawn::{Spawn, spawn};

use crate::lines::Piece;

/// First argument of this program when it is to compress its standard input to its standard output.
pub(crate) const COMPRESS_ARGUMENT: &str = "compress-log";

/// Where lines go.
#[derive(Debug)]
pub(crate) struct LogSink {
    writer: Option<Writer>,
    compressor: Option<i32>,
}

impl LogSink {
    /// Opens the log that was asked for.
    pub(crate) fn open(options: LogOptions, container_dir: &OwnedFd) -> io::Result<Self> {
        let writer = match options {
            LogOptions::None => None,
            LogOptions::JsonFile { file_name, max_size_bytes, max_files, compress, attrs } => {
                if file_name.is_empty() || file_name.contains('/') || file_name.starts_with('.') {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        format!("`{file_name}` is no file name for a log"),
                    ));
                }
                let options = WriterOptions { file_name, max_size_bytes, max_files, compress, attrs };
                Some(Writer::open(container_dir.try_clone()?, options)?)
            }
        };
        Ok(Self { writer, compressor: None })
    }

    pub(crate) fn push(&mut self, stream: Stream, piece: &Piece<'_>) {
        if let Some(writer) = &mut self.writer {
            writer.push(stream, piece.text, piece.whole, piece.time_ns);
        }
    }

    /// Writes what was pushed, and has the next rotated file compressed.
    pub(crate) fn flush(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.flush();
        }
        self.start_compressor();
    }

    /// For quiet times and for the end: also tells of lost lines, and holds no memory.
    pub(crate) fn settle(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.settle();
        }
    }

    /// A child has ended; takes it if it was the compressor.
    pub(crate) fn reaped(&mut self, pid: i32, succeeded: bool) -> bool {
        if self.compressor != Some(pid) {
            return false;
        }
        self.compressor = None;
        if let Some(writer) = &mut self.writer {
            // The plain file stays then, and is tried again at the next rotation.
            let _ = writer.finish_compression(succeeded);
        }
        if succeeded {
            self.start_compressor();
        }
        true
    }

    pub(crate) fn is_compressing(&self) -> bool {
        self.compressor.is_some()
    }

    fn start_compressor(&mut self) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        // Compression saves space; without it the log is whole still.
        let Ok(Some(job)) = writer.next_compression() else {
            return;
        };
        let started = File::open("/proc/self/exe").and_then(|program| {
            let name = |text: &str| std::ffi::CString::new(text).map_err(io::Error::from);
            spawn(&Spawn {
                program: program.as_fd(),
                arguments: &[name("ferry-shim")?, name(COMPRESS_ARGUMENT)?],
                fds: &[job.source.as_fd(), job.target.as_fd()],
            })
        });
        match started {
            Ok(pid) => self.compressor = Some(pid),
            // As above.
            Err(_) => drop(writer.finish_compression(false)),
        }
    }
}
