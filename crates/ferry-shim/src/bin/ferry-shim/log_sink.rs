//! The container's log as the event loop sees it: lines go in, nothing ever fails or waits.
//!
//! Compression of rotated files runs in a child process, this program again, so that neither the loop waits for it nor its
//! memory stays.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use ferry_shim::log::{Format, Line, Stream, Writer, WriterOptions};
use ferry_shim::protocol::{LocalLog, LogOptions, ShimError, ShimErrorKind};
use ferry_sys::spawn::{Spawn, spawn};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use crate::container::{failure, internal};
use crate::forwarder::Forwarder;
use crate::lines::Piece;
use crate::poller::Poller;

/// First argument of this program when it is to compress its standard input to its standard output.
pub(crate) const COMPRESS_ARGUMENT: &str = "compress-log";

/// Where lines go.
#[derive(Debug)]
pub(crate) struct LogSink {
    writer: Option<Writer>,
    forwarder: Option<Forwarder>,
    compressor: Option<i32>,
}

impl LogSink {
    /// Opens the log that was asked for; a remote one needs the program of its logger, and waits until that has reached its server.
    pub(crate) fn open(
        options: LogOptions,
        container_dir: &OwnedFd,
        logger: Option<OwnedFd>,
    ) -> Result<Self, ShimError> {
        let (mut writer, mut forwarder) = (None, None);
        match options {
            LogOptions::None => {}
            LogOptions::JsonFile { file_name, max_size_bytes, max_files, compress, attrs } => {
                let format = Format::JsonFile;
                let options = WriterOptions { file_name, format, max_size_bytes, max_files, compress, attrs };
                writer = Some(open_writer(options, container_dir, None)?);
            }
            LogOptions::Local(local) => writer = Some(open_local(local, container_dir)?),
            LogOptions::Remote(mut remote) => {
                let program = logger
                    .ok_or_else(|| failure(ShimErrorKind::Invalid, "a remote log takes the program of its logger"))?;
                let cache = remote.cache.take();
                let started = Forwarder::start(program, *remote).map_err(|why| {
                    failure(ShimErrorKind::Internal, format!("failed to initialize logging driver: {why}"))
                });
                forwarder = Some(started?);
                writer = cache.map(|cache| open_local(cache, container_dir)).transpose()?;
            }
        }
        Ok(Self { writer, forwarder, compressor: None })
    }

    pub(crate) fn push(&mut self, stream: Stream, piece: &Piece<'_>) {
        let line = Line { stream, text: piece.text, whole: piece.whole, time_ns: piece.time_ns, part: piece.part };
        if let Some(writer) = &mut self.writer {
            writer.push_line(&line);
        }
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.push(&line);
        }
    }

    /// Whether the container's output is to be left in its pipes for now.
    pub(crate) fn is_full(&self) -> bool {
        self.forwarder.as_ref().is_some_and(Forwarder::is_full)
    }

    /// The logger of a remote log has something to say.
    pub(crate) fn on_logger(&mut self) {
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.on_report();
        }
    }

    /// What went wrong at a remote log since the last call.
    pub(crate) fn take_troubles(&mut self) -> Vec<String> {
        self.forwarder.as_mut().map(Forwarder::take_troubles).unwrap_or_default()
    }

    /// Waits for what can happen next.
    pub(crate) fn register(&mut self, poller: &Poller) {
        if let Some(forwarder) = &mut self.forwarder {
            // For want of kernel memory; the next round tries again.
            let _ = forwarder.register(poller);
        }
    }

    /// When [`LogSink::flush`] has something to do though nothing happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.forwarder.as_ref().filter(|forwarder| !forwarder.is_done()).and_then(Forwarder::deadline)
    }

    /// The logger's process, for its cgroup.
    pub(crate) fn logger_pid(&self) -> Option<i32> {
        self.forwarder.as_ref().and_then(Forwarder::pid)
    }

    /// The container has ended, and all its lines were pushed.
    pub(crate) fn end(&mut self) {
        self.settle();
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.end();
        }
    }

    /// Writes what was pushed, and has the next rotated file compressed.
    pub(crate) fn flush(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.flush();
        }
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.flush();
        }
        self.start_compressor();
    }

    /// For quiet times and for the end: also tells of lost lines, and holds no memory.
    pub(crate) fn settle(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.settle();
        }
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.settle();
        }
    }

    /// A child has ended; takes it if it was the compressor or the logger.
    pub(crate) fn reaped(&mut self, pid: i32, succeeded: bool) -> bool {
        if self.forwarder.as_mut().is_some_and(|forwarder| forwarder.reaped(pid)) {
            return true;
        }
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

    /// Whether it still has work to do after the end of the container.
    pub(crate) fn is_busy(&self) -> bool {
        self.compressor.is_some() || self.forwarder.as_ref().is_some_and(|forwarder| !forwarder.is_done())
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

fn open_local(local: LocalLog, container_dir: &OwnedFd) -> Result<Writer, ShimError> {
    let LocalLog { folder, file_name, max_size_bytes, max_files, compress, attrs } = local;
    let options = WriterOptions { file_name, format: Format::Local, max_size_bytes, max_files, compress, attrs };
    open_writer(options, container_dir, folder.as_deref())
}

fn open_writer(options: WriterOptions, container_dir: &OwnedFd, folder: Option<&str>) -> Result<Writer, ShimError> {
    for name in folder.into_iter().chain([options.file_name.as_str()]) {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(failure(ShimErrorKind::Invalid, format!("open log: `{name}` is no file name for a log")));
        }
    }
    let open = || {
        let dir = match folder {
            Some(folder) => open_folder(container_dir, folder)?,
            None => container_dir.try_clone()?,
        };
        Writer::open(dir, options)
    };
    open().map_err(|error| internal("open log", &error))
}

fn open_folder(container_dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(container_dir, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(container_dir, name, flags, Mode::empty())?)
}
