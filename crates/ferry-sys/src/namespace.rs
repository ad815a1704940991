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

/// Opens a namespace of the process that a pidfd means, `kind` being its name below `/proc/<pid>/ns`; never one of another process that
/// has got its number.
///
/// # Errors
/// `NotFound` when the process has ended, `PermissionDenied` without rights over it.
pub fn of_process(process: BorrowedFd<'_>, kind: &str) -> io::Result<OwnedFd> {
    let namespace = File::open(format!("/proc/{}/ns/{kind}", pid_of(process)?))?;
    // Still not reaped: nobody else can have had the number meanwhile.
    pid_of(process)?;
    Ok(namespace.into())
}

fn pid_of(process: BorrowedFd<'_>) -> io::Result<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid = pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the descriptor is no pidfd"))?;
    // -1 when it is reaped, 0 when it cannot be seen from here.
    match pid.trim().parse::<u32>() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended")),
    }
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
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_is_reaped_has_no_namespaces() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let inode = |fd: OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        let own = File::open("/proc/self/ns/uts").unwrap().into();
        assert_eq!(inode(of_process(process.as_fd(), "uts").unwrap()), inode(own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_process(process.as_fd(), "uts").unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = File::open("/proc/self/stat").unwrap();
        assert_eq!(of_process(file.as_fd(), "uts").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn sets_combine() {
        let both = Namespaces::PID.with(Namespaces::UTS);
        assert!(both.contains(Namespaces::PID) && !both.contains(Namespaces::IPC));
        assert_eq!(both.without(Namespaces::PID), Namespaces::UTS);
        assert!(Namespaces::empty().is_empty());
    }
}
