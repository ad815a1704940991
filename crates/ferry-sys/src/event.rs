//! Signals: arriving as a descriptor that an event loop waits for, and sent to exactly one process.
//!
//! `epoll` itself is used through rustix, which has it whole and safe.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Blocks the signals for this thread and gives a non-blocking descriptor that becomes readable when one is pending.
///
/// # Errors
/// What `sigprocmask` and `signalfd` answer.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = signal_set(signals);
    // SAFETY: `set` was initialised by `signal_set`, a null old set is allowed. rustix has no safe call for signal masks.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    // SAFETY: -1 asks for a new descriptor, `set` is initialised. rustix has no `signalfd`.
    let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next pending signal of a [`signal_fd`], `None` when there is none.
///
/// # Errors
/// What `read` answers.
pub fn next_signal(fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut info) {
        Ok(length) if length == info.len() => {
            // `ssi_signo` is the first field, a `u32`.
            let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            Ok(i32::try_from(number).ok())
        }
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the whole set and cannot fail on a valid pointer.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the call above.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: `set` is initialised; an unknown number is answered with an error and changes nothing.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}

/// Asks a cgroup v1 for notices about its memory running out: the descriptor becomes readable at each.
///
/// `folder` is the cgroup's folder in the memory hierarchy.
///
/// # Errors
/// What opening `memory.oom_control` and writing `cgroup.event_control` answer.
pub fn oom_notices_v1(folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{Mode, OFlags, openat};
    let notices = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let source = openat(folder, "memory.oom_control", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let control = openat(folder, "cgroup.event_control", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let line = format!("{} {}", notices.as_raw_fd(), source.as_raw_fd());
    rustix::io::write(&control, line.as_bytes())?;
    Ok(notices)
}

/// Sends any signal, real-time ones included, to the process of a pidfd. rustix takes the named ones only.
///
/// # Errors
/// What `pidfd_send_signal` answers: `ESRCH` when the process has ended, `EINVAL` when there is no such signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: a descriptor, a number, and no `siginfo`; a descriptor that is no pidfd and a bad number are answered with an error.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_blocked_signal_arrives_at_the_descriptor() {
        std::thread::spawn(|| {
            let fd = signal_fd(&[libc::SIGUSR2]).expect("signalfd");
            assert_eq!(next_signal(fd.as_fd()).expect("none yet"), None);
            // SAFETY: sends a signal that this very thread has blocked to this very thread.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
            assert_eq!(next_signal(fd.as_fd()).expect("pending"), Some(libc::SIGUSR2));
            assert_eq!(next_signal(fd.as_fd()).expect("taken"), None);
        })
        .join()
        .expect("thread");
    }
}
