//! Pipes or a terminal for a new process: the runtime gets one end of each, we keep the other in non-blocking mode.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ferry_runtime::Stdio;
use ferry_shim::log::Stream;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use crate::poller::{EventFlags, Poller, Registration, Token};

/// What we keep.
#[derive(Debug, Default)]
pub(crate) struct OurEnds {
    pub(crate) input: Option<OwnedFd>,
    pub(crate) outputs: Vec<OurOutput>,
    pub(crate) console: Option<OwnedFd>,
}

/// Where one stream is read.
#[derive(Debug)]
pub(crate) struct OurOutput {
    pub(crate) stream: Stream,
    pub(crate) fd: OwnedFd,
    pub(crate) registration: Registration,
}

impl OurOutput {
    fn new(stream: Stream, fd: OwnedFd) -> Self {
        Self { stream, fd, registration: Registration::default() }
    }
}

impl OurEnds {
    /// Waits for output from before the process runs: what it writes first to two streams is then heard in the order in which it came.
    pub(crate) fn watch(&mut self, poller: &Poller, process: u32) {
        for output in &mut self.outputs {
            // For want of kernel memory; it is tried again with every round.
            let token = Token::Output(process, output.stream);
            let _ = output.registration.set(poller, &output.fd, token, Some(EventFlags::IN));
        }
    }

    /// Forgets the outputs of a process that there is not.
    pub(crate) fn unwatch(&mut self, poller: &Poller, process: u32) {
        for output in &mut self.outputs {
            let token = Token::Output(process, output.stream);
            let _ = output.registration.set(poller, &output.fd, token, None);
        }
    }
}

/// Makes the streams of a process; of a terminal only the wish, since the runtime makes it inside the container.
pub(crate) fn prepare(terminal: bool, open_stdin: bool) -> io::Result<(Stdio, OurEnds)> {
    if terminal {
        return Ok((Stdio::Terminal, OurEnds::default()));
    }
    let (stdin, input) = if open_stdin {
        let (theirs, ours) = pipe()?;
        (theirs, Some(ours))
    } else {
        (rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
    };
    let (out, stdout) = pipe()?;
    let (err, stderr) = pipe()?;
    for ours in input.iter().chain([&out, &err]) {
        set_nonblocking(ours)?;
    }
    let outputs = vec![OurOutput::new(Stream::Stdout, out), OurOutput::new(Stream::Stderr, err)];
    Ok((Stdio::Fds { stdin, stdout, stderr }, OurEnds { input, outputs, console: None }))
}

/// Takes the terminal that the runtime has made.
pub(crate) fn adopt_console(ends: &mut OurEnds, console: OwnedFd, open_stdin: bool) -> io::Result<()> {
    set_nonblocking(&console)?;
    if open_stdin {
        ends.input = Some(rustix::io::fcntl_dupfd_cloexec(&console, 3)?);
    }
    ends.outputs = vec![OurOutput::new(Stream::Stdout, rustix::io::fcntl_dupfd_cloexec(&console, 3)?)];
    ends.console = Some(console);
    Ok(())
}

/// The reading and the writing end.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// For a description that nobody but us uses.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}
