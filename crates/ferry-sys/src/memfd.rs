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
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

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
