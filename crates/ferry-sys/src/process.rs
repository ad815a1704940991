//! Making processes with `clone3` and turning them into programs.
//!
//! rustix has neither a fork nor an exec that is safe to call; here both are shaped so that safe code cannot misuse them: the child runs a
//! closure and can only end or exec.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::namespace::Namespaces;

/// Exit code of a child whose closure panicked.
pub const PANICKED: i32 = 101;

/// A child of the calling process, not yet waited for.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's namespace.
    pub pid: u32,
    /// Its pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Waits for its end and returns the raw wait status.
    ///
    /// # Errors
    /// What `waitpid` answers.
    pub fn wait(&self) -> io::Result<i32> {
        wait(self.pid)
    }
}

/// Waits for the end of a child and returns the raw wait status.
///
/// # Errors
/// What `waitpid` answers, such as ECHILD when it was waited for already.
pub fn wait(pid: u32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: waitpid writes one int; std has no wait for a bare pid.
        if unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) } >= 0 {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Makes a child with its own new namespaces, on v2 right in a cgroup, and runs `child` in it; its result is the exit code.
///
/// In a process with threads the child is made by way of a `fork`, after which the allocator's locks are sound; it is a
/// direct child either way.
///
/// # Errors
/// What `fork` and `clone3` answer.
pub fn clone_child(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<Child> {
    if thread_count()? == 1 {
        return clone3(namespaces.bits(), 0, cgroup, child);
    }
    clone_by_intermediate(|| Ok(()), namespaces, cgroup, child)
}

/// Forks an intermediate process which runs `prepare` (such as joining namespaces) and then makes `child` beside itself: a direct child
/// of the caller that never had what the intermediate has left behind. With a cgroup v2 folder both are in that cgroup.
///
/// # Errors
/// What `fork` and `clone3` answer; the error of `prepare` as it is when it has an errno.
pub fn clone_by_intermediate(
    prepare: impl FnOnce() -> io::Result<()>,
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<Child> {
    // Shared memory carries the answer: a pipe's end would be seen in the child.
    let answer = SharedWords::new()?;
    let threads = thread_count()?;
    let intermediate = || {
        let joined = match cgroup.filter(|_| threads > 1) {
            Some(cgroup) => join_cgroup(cgroup),
            None => Ok(()),
        };
        let made = joined.and_then(|()| prepare()).and_then(|()| clone_sibling(namespaces, child));
        match made {
            Ok(pid) => answer.set(MADE, pid),
            Err(error) => answer.set(FAILED, error.raw_os_error().unwrap_or(libc::EIO) as u32),
        }
        0
    };
    let intermediate = if threads > 1 { fork(intermediate)? } else { clone3(0, 0, cgroup, intermediate)?.pid };
    wait(intermediate)?;
    match answer.get() {
        (MADE, pid) => {
            let process = rustix::process::Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidData)?;
            // The pid cannot have been taken by another: it is our child and nobody has waited for it.
            let pidfd = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
            Ok(Child { pid, pidfd })
        }
        (FAILED, errno) => Err(io::Error::from_raw_os_error(errno as i32)),
        _ => Err(io::Error::other("the process in between ended without an answer")),
    }
}

/// Makes a child of the caller's parent, by the older call where no namespaces are asked for: filters of system calls let it through more
/// often, since they can read its flags.
fn clone_sibling(namespaces: Namespaces, child: impl FnOnce() -> i32) -> io::Result<u32> {
    if !namespaces.is_empty() {
        return Ok(clone3(namespaces.bits(), libc::CLONE_PARENT as u64, None, child)?.pid);
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and of the stack; this process has one thread.
    match unsafe { libc::syscall(libc::SYS_clone, SIBLING_FLAGS, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => run_and_exit(child),
        pid => Ok(pid as u32),
    }
}

/// The flags of `clone` by which [`clone_by_intermediate`] makes a child without namespaces.
pub const SIBLING_FLAGS: u64 = libc::CLONE_PARENT as u64;

const MADE: u32 = 1;
const FAILED: u32 = 2;

fn join_cgroup(folder: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, openat};
    let file = openat(folder, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, b"0")?;
    Ok(())
}

/// Two words that a child shares with its parent.
struct SharedWords(std::ptr::NonNull<[std::sync::atomic::AtomicU32; 2]>);

impl SharedWords {
    fn new() -> io::Result<SharedWords> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<[u32; 2]>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(SharedWords(std::ptr::NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?))
    }

    fn words(&self) -> &[std::sync::atomic::AtomicU32; 2] {
        // SAFETY: the mapping is page aligned, zeroed, large enough, and lives as long as `self`; atomics may be shared.
        unsafe { self.0.as_ref() }
    }

    fn set(&self, kind: u32, value: u32) {
        use std::sync::atomic::Ordering::Release;
        self.words()[1].store(value, Release);
        self.words()[0].store(kind, Release);
    }

    fn get(&self) -> (u32, u32) {
        use std::sync::atomic::Ordering::Acquire;
        (self.words()[0].load(Acquire), self.words()[1].load(Acquire))
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and nothing borrows from it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<[u32; 2]>()) };
    }
}

/// Sends any signal, the real-time ones included.
///
/// # Errors
/// What `kill` answers; `InvalidInput` for a pid that would mean more than one process.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(pid, signal) })
}

/// Number of threads of the calling process.
///
/// # Errors
/// `/proc` is not there.
pub fn thread_count() -> io::Result<u64> {
    // A folder has one link for each of its folders, beside its own two.
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

fn fork(child: impl FnOnce() -> i32) -> io::Result<u32> {
    // SAFETY: glibc's fork leaves the allocator usable in the child, which runs the closure and ends without unwinding out.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => run_and_exit(child),
        pid => Ok(pid as u32),
    }
}

/// libc holds it in a type too small for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args`, as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn clone3(
    namespaces: u64,
    extra_flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let mut pidfd: libc::c_int = -1;
    let mut arguments = CloneArgs {
        flags: namespaces | extra_flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        // A sibling is reported to the parent by the signal of the process that makes it.
        exit_signal: if extra_flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and of the stack; `arguments` outlives the call. The caller has one
    // thread (see `clone_child`) or is a fork's child, so no lock can be held by a thread that does not exist in the child.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => run_and_exit(child),
        pid => {
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so this is a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: pid as u32, pidfd })
        }
    }
}

fn run_and_exit(child: impl FnOnce() -> i32) -> ! {
    let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(PANICKED);
    exit_now(code)
}

/// Ends the process at once: no destructors, no exit handlers of the parent's that a child has inherited.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any int and does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces the program; returns only the error.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both vectors hold valid C strings that outlive the call and end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Sets close-on-exec on every descriptor from `first` on.
///
/// # Errors
/// What `close_range` answers.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_uint)
}

/// Closes every descriptor from `first` on that is not in `keep`. For a new process, before it opens any of its own: no owner of a
/// descriptor outside `keep` may use it, or drop it, afterwards.
///
/// # Errors
/// What `close_range` answers.
pub fn close_from(first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).filter(|&fd| fd >= first).collect();
    kept.sort_unstable();
    let mut next = first;
    for fd in kept {
        if fd > next {
            close_range(next, fd - 1, 0)?;
        }
        next = fd + 1;
    }
    close_range(next, u32::MAX, 0)
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: takes numbers only; closing is asked for by `close_from`, whose contract covers the owners.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Makes `fd` the descriptor `number`, without close-on-exec.
///
/// # Errors
/// What `dup2` answers.
pub fn place_fd(fd: impl AsFd, number: i32) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    if fd == number {
        // SAFETY: F_SETFD takes a flag word.
        return check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) });
    }
    // SAFETY: dup2 replaces the descriptor `number`; callers place the standard streams of a child.
    check(unsafe { libc::dup2(fd, number) })
}

/// Gives every signal its default action and blocks none, as a new program expects; Rust ignores SIGPIPE and the caller may block some.
///
/// # Errors
/// What `sigprocmask` answers.
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is a valid disposition; SIGKILL, SIGSTOP and libc's own two answer EINVAL, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a zeroed set is valid to pass to sigemptyset, and sigprocmask reads it.
    check(unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    })
}

/// Sets the I/O priority of the calling process: class 1 (real time), 2 (best effort) or 3 (idle) and level 0..=7.
///
/// # Errors
/// What `ioprio_set` answers.
pub fn set_io_priority(class: u32, level: u32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let value = (class << 13 | level) as libc::c_int;
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) } as libc::c_int)
}

/// Scheduling of a process, for [`set_scheduler`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedulerAttributes {
    size: u32,
    /// `SCHED_*` number.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// Sets the scheduling of the calling process.
///
/// # Errors
/// What `sched_setattr` answers.
pub fn set_scheduler(mut attributes: SchedulerAttributes) -> io::Result<()> {
    attributes.size = size_of::<SchedulerAttributes>() as u32;
    // SAFETY: the struct is `struct sched_attr` of its first version (48 bytes), and its size says so.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } as libc::c_int)
}

/// Sets the execution domain, such as `PER_LINUX32`.
///
/// # Errors
/// What `personality` answers.
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: takes a number only.
    check(unsafe { libc::personality(libc::c_ulong::from(domain)) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_of_a_threaded_process_is_a_direct_child() {
        // The test harness has threads, so this goes by way of a fork.
        let child = clone_child(Namespaces::empty(), None, || 7).unwrap();
        assert_eq!(libc::WEXITSTATUS(child.wait().unwrap()), 7);
    }

    #[test]
    fn panic_in_a_child_stays_there() {
        let child = clone_child(Namespaces::empty(), None, || panic!("on purpose")).unwrap();
        assert_eq!(libc::WEXITSTATUS(child.wait().unwrap()), PANICKED);
    }

    #[test]
    fn failed_preparation_is_told() {
        let error =
            clone_by_intermediate(|| Err(io::Error::from_raw_os_error(libc::ESRCH)), Namespaces::empty(), None, || 0)
                .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn exec_of_nothing_returns_the_error() {
        assert_eq!(execve(c"/nonexistent/program", &[], &[]).raw_os_error(), Some(libc::ENOENT));
    }
}
