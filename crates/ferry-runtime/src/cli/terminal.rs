//! Staying with a program in the foreground: signals go to it, its terminal is ours, its exit code becomes ours.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use ferry_runtime::Error;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::failed;

/// Sends a descriptor, such as the master of a terminal, to whoever listens on a socket, as runc does.
pub(crate) fn send(path: &Path, name: &[u8], fd: BorrowedFd<'_>) -> Result<(), Error> {
    let step = |error: std::io::Error| failed(&format!("send a descriptor to {}", path.display()), &error);
    let socket = UnixStream::connect(path).map_err(step)?;
    ferry_sys::socket::send(&socket, name, &[fd]).map(drop).map_err(step)
}

const FORWARDED: [i32; 8] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCHLD,
];

/// Waits for the program's end; passes on signals, and bytes when it has a terminal.
pub(crate) fn attend(pid: u32, console: Option<OwnedFd>) -> Result<ExitCode, Error> {
    let step = |error: std::io::Error| failed("attend the program", &error);
    let signals = ferry_sys::event::signal_fd(&FORWARDED).map_err(step)?;
    let raw = console.as_ref().map(|_| RawMode::enter()).transpose().map_err(step)?.flatten();
    if let Some(console) = &console {
        copy_size(console);
    }
    let status = serve(pid, console.as_ref(), signals.as_fd()).map_err(step)?;
    drop(raw);
    let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
    Ok(ExitCode::from(code as u8))
}

fn serve(pid: u32, console: Option<&OwnedFd>, signals: BorrowedFd<'_>) -> std::io::Result<i32> {
    let process = rustix::process::Pid::from_raw(pid as i32).ok_or(std::io::ErrorKind::InvalidInput)?;
    // It may have ended before anybody watched for the signal, so its pidfd is watched.
    let pidfd = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let mut reads_input = console.is_some();
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::from_borrowed_fd(signals, PollFlags::IN)];
        if let Some(console) = console {
            fds.push(PollFd::new(console, PollFlags::IN));
            if reads_input {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if let Some(console) = console {
            let mut buffer = [0u8; 16 * 1024];
            // EIO is how a terminal says that nobody has its other side open any more.
            let got = if ready[2] { rustix::io::read(console, &mut buffer).unwrap_or(0) } else { 0 };
            write_all(stdout.as_fd(), &buffer[..got])?;
            if ready.get(3) == Some(&true) {
                let got = rustix::io::read(&stdin, &mut buffer)?;
                reads_input = got != 0;
                write_all(console.as_fd(), &buffer[..got])?;
            }
            if got != 0 {
                continue;
            }
        }
        if ready[0] {
            return ferry_sys::process::wait(pid);
        }
        if ready[1] {
            forward(pid, console, signals)?;
        }
    }
}

fn forward(pid: u32, console: Option<&OwnedFd>, signals: BorrowedFd<'_>) -> std::io::Result<()> {
    while let Some(signal) = ferry_sys::event::next_signal(signals)? {
        match signal {
            libc::SIGCHLD => {}
            libc::SIGWINCH => {
                if let Some(console) = console {
                    copy_size(console);
                }
            }
            other => match ferry_sys::process::kill(pid, other) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => {}
            },
        }
    }
    Ok(())
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_size(console: &OwnedFd) {
    // Without a terminal of our own there is no size to copy.
    if let Ok(size) = tcgetwinsize(std::io::stdin()) {
        let _ = tcsetwinsize(console, size);
    }
}

/// The own terminal passes every byte on; as it was again on drop.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> std::io::Result<Option<RawMode>> {
        let Ok(before) = tcgetattr(std::io::stdin()) else { return Ok(None) };
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(RawMode(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
