//! What a single-threaded event loop waits for: signals as a descriptor, one-shot timers, out-of-memory notices.
//!
//! `epoll` itself is used through rustix, which has it whole and safe.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

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

/// A timer on the monotonic clock as a descriptor. Readable once it has run out.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// Makes a timer that is not running.
    ///
    /// # Errors
    /// What `timerfd_create` answers.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Starts it anew; `None` stops it.
    ///
    /// # Errors
    /// What `timerfd_settime` answers.
    pub fn set(&self, after: Option<Duration>) -> io::Result<()> {
        let value = match after {
            // All zero would stop the timer.
            Some(after) => Timespec {
                tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(after.subsec_nanos()).max(1),
            },
            None => Timespec { tv_sec: 0, tv_nsec: 0 },
        };
        let setting = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &setting)?;
        Ok(())
    }

    /// Takes the readable state away; says whether it had run out.
    pub fn clear(&self) -> bool {
        let mut count = [0_u8; 8];
        rustix::io::read(&self.0, &mut count).is_ok_and(|length| length == count.len())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Asks a cgroup v1 for notices about its memory running out: the descriptor becomes readable at each.
///
/// `folder` is the cgroup's folder in the memory hierarchy.
///
/// # Errors
/// What opening `memory.oom_control` and writing `cgroup.event_control` answer.
pub fn oom_notices_v1(folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, openat};
    let notices =
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK)?;
    let source = openat(folder, "memory.oom_control", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let control = openat(folder, "cgroup.event_control", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let line = format!("{} {}", notices.as_raw_fd(), source.as_raw_fd());
    rustix::io::write(&control, line.as_bytes())?;
    Ok(notices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

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

    #[test]
    fn a_timer_runs_out_once() {
        let timer = Timer::new().expect("timer");
        assert!(!timer.clear());
        timer.set(Some(Duration::ZERO)).expect("set");
        let mut wait = [PollFd::new(&timer, PollFlags::IN)];
        poll(&mut wait, None).expect("poll");
        assert!(timer.clear());
        assert!(!timer.clear());
    }
}
