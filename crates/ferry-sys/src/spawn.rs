//! Starting a program from a descriptor without copying the caller's memory.
//!
//! `posix_spawn` shares the address space until `execve` (`CLONE_VM | CLONE_VFORK`), so its price does not grow with the caller:
//! about 10 µs where `fork` from a large process takes milliseconds.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// What a spawned program is given. It has no environment, the root folder as its working folder, no signal blocked or ignored,
/// a session of its own, and no other descriptor than those named here.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program, as a descriptor.
    pub program: BorrowedFd<'a>,
    /// Arguments, the name of the program included.
    pub arguments: &'a [CString],
    /// Become descriptors 0, 1, 2, ….
    pub fds: &'a [BorrowedFd<'a>],
}

/// Starts the program and returns its pid. It is a child of the caller, who must reap it.
///
/// The program finds its own executable as the descriptor after the last of `fds` and should close it.
///
/// # Errors
/// What `posix_spawn` answers, the failure of `execve` included.
pub fn spawn(what: &Spawn<'_>) -> io::Result<i32> {
    // Descriptors are moved out of the way first, so that filling slot 0 cannot overwrite one that is wanted in slot 1.
    let clear = RawFd::try_from(what.fds.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut held = Vec::with_capacity(what.fds.len() + 1);
    for fd in what.fds.iter().chain([&what.program]) {
        held.push(rustix::io::fcntl_dupfd_cloexec(fd, clear.max(3))?);
    }
    let mut actions = Actions::new()?;
    for (slot, fd) in held.iter().enumerate() {
        let slot = RawFd::try_from(slot).map_err(|_| io::ErrorKind::InvalidInput)?;
        actions.dup2(fd.as_raw_fd(), slot)?;
    }
    actions.close_from(clear)?;
    actions.chdir(c"/")?;
    let attributes = Attributes::new()?;
    let path = CString::new(format!("/proc/self/fd/{}", clear - 1)).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut arguments: Vec<*mut libc::c_char> = what.arguments.iter().map(|text| text.as_ptr().cast_mut()).collect();
    arguments.push(std::ptr::null_mut());
    let environment = [std::ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: path, arguments and environment are NUL-terminated and end in a null pointer, and outlive the call, as do the
    // initialised actions and attributes; the callee does not write to the strings. std's Command can neither close all other
    // descriptors nor start a session without falling back to `fork`.
    let error = unsafe {
        libc::posix_spawn(&mut pid, path.as_ptr(), &actions.0, &attributes.0, arguments.as_ptr(), environment.as_ptr())
    };
    check(error)?;
    Ok(pid)
}

fn check(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// File actions, destroyed on drop.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: initialises what it is given.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above, which succeeded.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn dup2(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised; the numbers are used in the child only.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, from, to) })
    }

    fn close_from(&mut self, from: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&mut self.0, from) })
    }

    fn chdir(&mut self, path: &CStr) -> io::Result<()> {
        // SAFETY: the actions are initialised, the path ends in NUL and is copied by the call.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.0, path.as_ptr()) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// Take signal mask and dispositions from the attributes.
const SIGNALS: libc::c_short = (libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF) as libc::c_short;

/// Attributes, destroyed on drop.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialises what it is given.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above, which succeeded.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        let flags = libc::POSIX_SPAWN_SETSID | SIGNALS;
        // SAFETY: the attributes are initialised.
        check(unsafe { libc::posix_spawnattr_setflags(&mut attributes.0, flags) })?;
        // SAFETY: the attributes are initialised, the set is a whole `sigset_t` and is copied.
        check(unsafe { libc::posix_spawnattr_setsigmask(&mut attributes.0, &crate::event::signal_set(&[])) })?;
        // SAFETY: as above. Rust programs ignore SIGPIPE, and ignoring would be inherited.
        check(unsafe {
            libc::posix_spawnattr_setsigdefault(&mut attributes.0, &crate::event::signal_set(&[libc::SIGPIPE]))
        })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used after this.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn a_spawned_program_has_only_what_it_was_given() {
        let program = File::open("/bin/sh").expect("a shell");
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        let null = File::open("/dev/null").expect("null");
        let script =
            c"echo $0; pwd; env | grep -v -e PWD -e SHLVL -e ^_=; ls /proc/self/fd | tr '\n' ' '; kill -PIPE $$";
        let pid = spawn(&Spawn {
            program: program.as_fd(),
            arguments: &[c"sh".to_owned(), c"-c".to_owned(), script.to_owned(), c"name".to_owned()],
            fds: &[null.as_fd(), writer.as_fd(), writer.as_fd()],
        })
        .expect("spawn");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("output");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["name", "/"]);
        // 3 is the program itself, the last one is the folder that `ls` reads.
        assert_eq!(lines[2..], ["0 1 2 3 4 "], "{text}");
        let pid = rustix::process::Pid::from_raw(pid).expect("pid");
        let (_, status) =
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).expect("wait").expect("status");
        assert_eq!(status.terminating_signal(), Some(libc::SIGPIPE));
    }

    #[test]
    fn a_program_that_cannot_run_is_an_error() {
        let program = File::open("/etc/passwd").expect("open");
        let error = spawn(&Spawn { program: program.as_fd(), arguments: &[c"x".to_owned()], fds: &[] })
            .expect_err("no program");
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}
