//! The way of a container's lines to a remote log: a `ferry-logger` process, and what waits for it.
//!
//! The server may be slow, gone or hostile; the loop of this program never waits for it, with one exception: a start waits, for a bounded
//! time, until the logger says that the server is there, because Docker fails a start otherwise. A logger that dies is started again.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ferry_shim::forward::{Begin, PROGRAM, Report, encode_line};
use ferry_shim::framing::{self, FrameDecoder};
use ferry_shim::log::Line;
use ferry_shim::protocol::RemoteLog;
use ferry_sys::spawn::{Spawn, spawn};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::poller::{EventFlags, Poller, Registration, Token};

/// How long a start waits for the server. A removal by force waits for the start, and is to be done in two seconds.
const START: Duration = Duration::from_millis(1800);

/// How long what is queued may take after the end of the container before it is given up.
const END: Duration = Duration::from_secs(3);

/// Before a logger that died is started again.
const RESTART: Duration = Duration::from_secs(1);

/// The container is held up while more than this waits, unless lines may be dropped.
const FULL_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Forwarder {
    program: OwnedFd,
    remote: RemoteLog,
    logger: Option<Logger>,
    restart_at: Option<Instant>,
    queue: LineQueue,
    /// The container has ended; what waits may wait until then.
    until: Option<Instant>,
    troubles: Vec<String>,
}

/// A logger that runs.
#[derive(Debug)]
struct Logger {
    pid: i32,
    socket: UnixStream,
    reports: FrameDecoder,
    registration: Registration,
}

/// Frames that the socket has not taken yet.
#[derive(Debug, Default)]
struct LineQueue {
    bytes: VecDeque<u8>,
    /// Of each frame: its length, and that of its text.
    lengths: VecDeque<(usize, usize)>,
    /// Bytes of the first frame that are gone already.
    sent_of_first: usize,
    text_bytes: usize,
    dropped: u64,
}

impl Forwarder {
    /// Starts a logger and waits until it has reached its server; the error is what clients are told.
    pub(crate) fn start(program: OwnedFd, remote: RemoteLog) -> Result<Self, String> {
        let mut logger = Logger::spawn(&program, &remote, false).map_err(|error| error.to_string())?;
        match logger.wait_until_ready() {
            Ok(()) => Ok(Self {
                program,
                remote,
                logger: Some(logger),
                restart_at: None,
                queue: LineQueue::default(),
                until: None,
                troubles: Vec::new(),
            }),
            Err(why) => {
                logger.kill();
                Err(why)
            }
        }
    }

    /// Takes a line; never waits.
    pub(crate) fn push(&mut self, line: &Line<'_>) {
        self.queue.push(line, self.remote.drop_beyond_bytes);
    }

    /// Whether the container is to be held up.
    pub(crate) fn is_full(&self) -> bool {
        self.remote.drop_beyond_bytes.is_none() && self.queue.bytes.len() > FULL_BYTES
    }

    /// Sends what the socket takes, and starts a logger where there is none.
    pub(crate) fn flush(&mut self) {
        if self.logger.is_none() && self.restart_at.is_some_and(|at| at <= Instant::now()) && !self.is_done() {
            self.restart();
        }
        let Some(logger) = &self.logger else {
            return;
        };
        if self.queue.send(&logger.socket).is_err() {
            self.lose_logger();
        } else if self.until.is_some() && self.queue.bytes.is_empty() {
            // The logger reads to the end of the stream and has its own time for the rest.
            let _ = logger.socket.shutdown(Shutdown::Write);
        }
    }

    /// The logger has something to say, or is gone.
    pub(crate) fn on_report(&mut self) {
        let Some(logger) = &mut self.logger else {
            return;
        };
        match logger.receive() {
            Ok(reports) => self.troubles.extend(reports.into_iter().filter_map(|report| match report {
                Report::Ready => None,
                Report::Failed(why) | Report::Trouble(why) => Some(why),
            })),
            Err(_) => self.lose_logger(),
        }
    }

    /// What the engine is to be told.
    pub(crate) fn take_troubles(&mut self) -> Vec<String> {
        let dropped = std::mem::take(&mut self.queue.dropped);
        if dropped > 0 {
            self.troubles.push(format!("{dropped} log lines were dropped: the buffer of mode=non-blocking was full"));
        }
        std::mem::take(&mut self.troubles)
    }

    /// The container has ended: what waits gets a bounded time.
    pub(crate) fn end(&mut self) {
        self.until = Some(Instant::now() + END);
        self.flush();
    }

    /// Whether nothing more can be done for what waits.
    pub(crate) fn is_done(&self) -> bool {
        self.until.is_some_and(|until| self.queue.bytes.is_empty() || until <= Instant::now())
    }

    /// When [`Forwarder::flush`] has something to do though nothing happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.restart_at.filter(|_| self.logger.is_none()).into_iter().chain(self.until).min()
    }

    /// A child has ended; says whether it was the logger.
    pub(crate) fn reaped(&mut self, pid: i32) -> bool {
        if self.logger.as_ref().is_none_or(|logger| logger.pid != pid) {
            return false;
        }
        // Its last words are in the socket.
        self.on_report();
        self.lose_logger();
        true
    }

    /// The process, for its cgroup.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.logger.as_ref().map(|logger| logger.pid)
    }

    /// Waits for what it can use now.
    pub(crate) fn register(&mut self, poller: &Poller) -> io::Result<()> {
        let Some(logger) = &mut self.logger else {
            return Ok(());
        };
        let wanted = if self.queue.bytes.is_empty() { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
        logger.registration.set(poller, &logger.socket, Token::Logger, Some(wanted))
    }

    /// Gives memory back.
    pub(crate) fn settle(&mut self) {
        if self.queue.bytes.is_empty() {
            let dropped = self.queue.dropped;
            self.queue = LineQueue { dropped, ..LineQueue::default() };
        }
    }

    fn restart(&mut self) {
        self.restart_at = Some(Instant::now() + RESTART);
        match Logger::spawn(&self.program, &self.remote, true) {
            Ok(logger) => self.logger = Some(logger),
            Err(error) => self.troubles.push(format!("cannot start {PROGRAM}: {error}")),
        }
    }

    fn lose_logger(&mut self) {
        // Closing the socket takes it out of the poller: nobody else has it.
        self.logger = None;
        self.queue.forget_begun();
        if self.until.is_none() {
            self.restart_at = Some(Instant::now() + RESTART);
        }
    }
}

impl Logger {
    fn spawn(program: &OwnedFd, remote: &RemoteLog, resumed: bool) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let name = CString::new(PROGRAM).map_err(io::Error::from)?;
        let pid = spawn(&Spawn {
            program: program.as_fd(),
            arguments: &[name],
            fds: &[theirs.as_fd(), null.as_fd(), null.as_fd()],
        })?;
        // Fits the socket's buffer, which is empty.
        rustix::io::write(&socket, &framing::encode(&Begin { forward: remote.forward.clone(), resumed }))?;
        socket.set_nonblocking(true)?;
        Ok(Self { pid, socket, reports: FrameDecoder::new(), registration: Registration::default() })
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(0) => return Err("i/o timeout: the log server does not answer".to_owned()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(io::Error::from(errno).to_string()),
            }
            let reports = self.receive().map_err(|error| format!("{PROGRAM} has ended: {error}"))?;
            match reports.into_iter().next() {
                Some(Report::Ready) => return Ok(()),
                Some(Report::Failed(why) | Report::Trouble(why)) => return Err(why),
                None => {}
            }
        }
    }

    /// What has come; an error when the logger is gone.
    fn receive(&mut self) -> io::Result<Vec<Report>> {
        let mut reports = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) if reports.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((0, _)) | Err(Errno::AGAIN) => return Ok(reports),
                Ok((count, _)) => self.reports.push(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            while let Some(frame) = self.reports.next_frame().map_err(io::Error::other)? {
                reports.push(serde_json::from_slice(&frame)?);
            }
        }
    }

    /// Ends it now.
    fn kill(self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            // It may have ended by itself, and is reaped with the other children.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

impl LineQueue {
    fn push(&mut self, line: &Line<'_>, drop_beyond_bytes: Option<u64>) {
        let waits = (self.text_bytes + line.text.len()) as u64;
        // As Docker's ring: a line that is too large by itself is taken when nothing waits.
        if drop_beyond_bytes.is_some_and(|limit| waits > limit) && !self.lengths.is_empty() {
            self.dropped += 1;
            return;
        }
        let mut frame = Vec::with_capacity(line.text.len() + 96);
        encode_line(&mut frame, line);
        self.lengths.push_back((frame.len(), line.text.len()));
        self.text_bytes += line.text.len();
        self.bytes.extend(frame);
    }

    /// Sends as much as the socket takes.
    fn send(&mut self, socket: &UnixStream) -> io::Result<()> {
        while !self.bytes.is_empty() {
            let front = self.bytes.as_slices().0;
            match rustix::net::send(socket, front, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => self.take(count),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.sent_of_first += count;
        while let Some((frame, text)) = self.lengths.front().copied().filter(|(frame, _)| *frame <= self.sent_of_first)
        {
            self.sent_of_first -= frame;
            self.text_bytes -= text;
            self.lengths.pop_front();
        }
    }

    /// The reader of a frame that was begun is gone: its rest is of no use to the next one.
    fn forget_begun(&mut self) {
        if self.sent_of_first > 0
            && let Some((frame, _)) = self.lengths.front()
        {
            self.take(frame - self.sent_of_first);
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_shim::log::Stream;

    fn line(text: &[u8]) -> Line<'_> {
        Line { stream: Stream::Stdout, text, whole: true, time_ns: 0, part: None }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let mut queue = LineQueue::default();
        for text in [&[b'a'; 20][..], b"b", b"c"] {
            queue.push(&line(text), Some(10));
        }
        assert_eq!((queue.lengths.len(), queue.text_bytes, queue.dropped), (1, 20, 2), "one too large is taken alone");
        queue.take(queue.bytes.len());
        queue.push(&line(b"d"), Some(10));
        assert_eq!((queue.lengths.len(), queue.text_bytes, queue.dropped), (1, 1, 2));
        for _ in 0..100 {
            queue.push(&line(b"e"), None);
        }
        assert_eq!(queue.lengths.len(), 101);
    }

    #[test]
    fn a_frame_that_was_begun_is_not_sent_to_another_logger() {
        let mut queue = LineQueue::default();
        queue.push(&line(b"first"), None);
        queue.push(&line(b"second"), None);
        queue.take(7);
        queue.forget_begun();
        assert_eq!((queue.lengths.len(), queue.sent_of_first, queue.dropped), (1, 0, 1));
        let bytes: Vec<u8> = queue.bytes.iter().copied().collect();
        let decoded = ferry_shim::forward::decode_line(&bytes[4..]).expect("a line");
        assert_eq!(decoded.text, b"second");
    }
}
