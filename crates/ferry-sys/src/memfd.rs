//! Files that live in memory alone, and programs in them which nobody can change any more.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

/// Makes an empty memory file that can be sealed. Close-on-exec.
///
/// # Errors
/// What `memfd_create` answers.
pub fn create(name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

/// Copies a program into a memory file and seals it against every change: what runs from it cannot be overwritten through
/// `/proc/<pid>/exe`.
///
/// # Errors
/// What reading the program, writing the copy or sealing answers.
pub fn seal_program(name: &str, program: &mut File) -> io::Result<OwnedFd> {
    // Kernels from 6.3 want to hear that it will be executed (sysctl vm.memfd_noexec); older ones do not know the flag.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    let mut copy = File::from(fd);
    io::copy(program, &mut copy)?;
    let fd = OwnedFd::from(copy);
    seal(|| {
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)
    })?;
    Ok(fd)
}

/// Seals, again where the kernel says "busy": it does when a page of the copy is still held for a moment by its own
/// housekeeping (another CPU's page lists, compaction). Each call waits some 150 ms inside the kernel for that to end.
fn seal(mut attempt: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    const ATTEMPTS: usize = 40;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(rustix::io::Errno::BUSY) => {}
            other => return Ok(other?),
        }
    }
    Ok(attempt()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn sealing_outlasts_a_busy_page_and_gives_up_in_the_end() {
        let mut busy = 3;
        seal(|| {
            busy -= 1;
            if busy > 0 { Err(rustix::io::Errno::BUSY) } else { Ok(()) }
        })
        .expect("sealed at the third try");
        assert_eq!(busy, 0);
        let error = seal(|| Err(rustix::io::Errno::BUSY)).expect_err("busy for good");
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BUSY.raw_os_error()));
        let mut calls = 0;
        let refused = seal(|| {
            calls += 1;
            Err(rustix::io::Errno::PERM)
        });
        assert!(refused.is_err());
        assert_eq!(calls, 1, "only `busy` is worth another try");
    }

    #[test]
    fn a_sealed_program_cannot_be_written() {
        let mut program = File::open("/proc/self/exe").expect("open");
        let mut sealed = File::from(seal_program("seal-test", &mut program).expect("seal"));
        let error = sealed.write(b"x").expect_err("sealed");
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::PERM.raw_os_error()));
        let size = program.metadata().expect("stat").len();
        assert_eq!(sealed.metadata().expect("stat").len(), size);
        assert!(sealed.set_len(1).is_err());
    }
}
