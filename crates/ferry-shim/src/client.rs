//! The engine's end: starts shims, finds those that live, sends them requests.
//!
//! Knows no async runtime. Replies are read by the caller, who puts the stream in non-blocking mode if it likes and cuts it with
//! [`crate::framing::FrameDecoder`].

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use ferry_sys::spawn::{Spawn, spawn};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use serde::Serialize;

use crate::framing;
use crate::protocol::RequestFrame;

/// Name of the socket in a container's run-time folder.
pub const SOCKET_NAME: &str = "shim.sock";

/// The shim's program, held in sealed memory for the life of the daemon: an upgrade of the file on disk does not mix versions,
/// and a container cannot write to it.
#[derive(Debug)]
pub struct ShimProgram {
    program: OwnedFd,
    null: File,
}

/// A shim without a container yet. It ends when `socket` is closed.
#[derive(Debug)]
pub struct SpawnedShim {
    /// The control connection it was born with, in blocking mode.
    pub socket: UnixStream,
    /// Its pid.
    pub pid: u32,
    /// For reaping.
    pub child: ShimChild,
}

/// A shim as a child of this process. Dropping it does neither end nor reap it.
#[derive(Debug)]
pub struct ShimChild {
    pidfd: OwnedFd,
}

impl ShimProgram {
    /// Copies the program from a file.
    ///
    /// # Errors
    /// When the file cannot be read or memory files are not there.
    pub fn load(path: &Path) -> io::Result<Self> {
        let program = ferry_sys::memfd::seal_program("ferry-shim", &mut File::open(path)?)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        Ok(Self { program, null })
    }

    /// Starts a shim, at a price that does not depend on the size of this process.
    ///
    /// # Errors
    /// When no process or socket can be made.
    pub fn spawn(&self) -> io::Result<SpawnedShim> {
        let (socket, theirs) = UnixStream::pair()?;
        let pid = spawn(&Spawn {
            program: self.program.as_fd(),
            arguments: &[CString::from(c"ferry-shim")],
            // Nothing it opens may come to be its standard error, on which a panic would write.
            fds: &[theirs.as_fd(), self.null.as_fd(), self.null.as_fd()],
        })?;
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
        // Until it is reaped the pid cannot be another process.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        Ok(SpawnedShim::new(socket, pid, pidfd))
    }

    /// What becomes the standard streams of those who have none.
    pub(crate) fn null(&self) -> BorrowedFd<'_> {
        self.null.as_fd()
    }
}

impl AsFd for ShimProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl SpawnedShim {
    pub(crate) fn new(socket: UnixStream, pid: Pid, pidfd: OwnedFd) -> Self {
        Self { socket, pid: pid.as_raw_nonzero().get().unsigned_abs(), child: ShimChild { pidfd } }
    }
}

impl ShimChild {
    /// Reaps it if it has ended; says whether it had.
    ///
    /// # Errors
    /// What `waitid` answers; `ECHILD` when it is not our child (any more).
    pub fn try_wait(&self) -> io::Result<bool> {
        match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
        {
            Ok(status) => Ok(status.is_some()),
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until it has ended and reaps it.
    ///
    /// # Errors
    /// What `poll` and `waitid` answer.
    pub fn wait(&self) -> io::Result<()> {
        while !self.try_wait()? {
            wait_for(self.pidfd.as_fd(), PollFlags::IN)?;
        }
        Ok(())
    }
}

impl AsFd for ShimChild {
    /// The pidfd: readable once the shim has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Connects to the shim of a container that lives, in blocking mode.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when there is none.
pub fn connect(run_dir: &Path) -> io::Result<UnixStream> {
    let dir = File::open(run_dir)?;
    ferry_sys::socket::connect_at(dir.as_fd(), SOCKET_NAME)
}

/// Sends a request with its descriptors. Waits while the socket is full, also when it is in non-blocking mode.
///
/// # Errors
/// What `sendmsg` answers; `BrokenPipe` when the shim is gone.
pub fn send(socket: &UnixStream, frame: &RequestFrame, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_frame(socket, frame, fds)
}

/// As [`send`], for any frame.
///
/// # Errors
/// As [`send`].
pub fn send_frame(socket: &UnixStream, frame: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = framing::encode(frame);
    let mut fds = fds;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match ferry_sys::socket::send(socket, rest, fds) {
            Ok(sent) => {
                rest = &rest[sent..];
                fds = &[];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for(socket.as_fd(), PollFlags::OUT)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for(fd: BorrowedFd<'_>, what: PollFlags) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, what)], None))?;
    Ok(())
}
