//! Making and joining namespaces.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A set of namespace kinds, as `CLONE_NEW*` bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// Mounts.
    pub const MOUNT: Namespaces = Namespaces(libc::CLONE_NEWNS as u64);
    /// Process ids.
    pub const PID: Namespaces = Namespaces(libc::CLONE_NEWPID as u64);
    /// Network stack.
    pub const NETWORK: Namespaces = Namespaces(libc::CLONE_NEWNET as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Namespaces = Namespaces(libc::CLONE_NEWIPC as u64);
    /// Host and domain name.
    pub const UTS: Namespaces = Namespaces(libc::CLONE_NEWUTS as u64);
    /// User and group ids.
    pub const USER: Namespaces = Namespaces(libc::CLONE_NEWUSER as u64);
    /// cgroup root.
    pub const CGROUP: Namespaces = Namespaces(libc::CLONE_NEWCGROUP as u64);
    /// Boot and monotonic clocks.
    pub const TIME: Namespaces = Namespaces(0x80);

    /// None.
    pub const fn empty() -> Namespaces {
        Namespaces(0)
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 | other.0)
    }

    /// This set without the other.
    #[must_use]
    pub const fn without(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 & !other.0)
    }

    /// Whether all of the other set are in this one.
    pub const fn contains(self, other: Namespaces) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The `CLONE_NEW*` bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// Moves the calling thread into new namespaces.
///
/// # Errors
/// What `unshare` answers.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: only namespace bits can be in the set, so memory, descriptors and file system state stay shared as they are.
    if unsafe { libc::unshare(namespaces.0 as libc::c_int) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Moves the calling thread into the namespace that `fd` names, which must be of that kind; or, with a pidfd, into those of that
/// process. Joining a pid namespace takes effect for children alone.
///
/// # Errors
/// What `setns` answers.
pub fn join(fd: BorrowedFd<'_>, namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: takes a descriptor and a flag word.
    if unsafe { libc::setns(fd.as_raw_fd(), namespaces.0 as libc::c_int) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Makes a user namespace with these maps, lines of `inside outside count`, that nobody lives in.
///
/// # Errors
/// When there is no such namespace to be had, or the maps are not taken.
pub fn user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: a fork without a new stack; the child calls nothing but `pause`, which a signal handler may call too.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => loop {
            // SAFETY: takes nothing.
            unsafe { libc::pause() };
        },
        pid if pid < 0 => return Err(io::Error::last_os_error()),
        _ => {}
    }
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let made = fs::write(format!("/proc/{pid}/uid_map"), uid_map)
        .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), gid_map))
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // The child is ours alone: it is there until it is waited for.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
    made.map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_combine() {
        let both = Namespaces::PID.with(Namespaces::UTS);
        assert!(both.contains(Namespaces::PID) && !both.contains(Namespaces::IPC));
        assert_eq!(both.without(Namespaces::PID), Namespaces::UTS);
        assert!(Namespaces::empty().is_empty());
    }
}
