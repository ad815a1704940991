//! Installing a system call filter.

use std::io;

/// One classic BPF instruction, `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to pass over when true.
    pub jump_true: u8,
    /// Instructions to pass over when false.
    pub jump_false: u8,
    /// Operand.
    pub k: u32,
}

#[repr(C)]
struct Program {
    length: libc::c_ushort,
    instructions: *const Instruction,
}

/// Puts the filter on the calling thread, for good. Needs `CAP_SYS_ADMIN` or `no_new_privs`.
///
/// # Errors
/// What `seccomp` answers; EINVAL for a program the kernel does not take, or `InvalidInput` for one longer than it can be.
pub fn install(program: &[Instruction], flags: u32) -> io::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: `program` is `struct sock_fprog` over a slice that outlives the call; the kernel copies and checks it.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::c_ulong::from(flags), &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel knows the filter flags.
pub fn knows_flags(flags: u32) -> bool {
    // SAFETY: a null program is answered with EFAULT after the flags were checked; nothing is installed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            std::ptr::null::<Program>(),
        )
    };
    result != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}
