//! Device rules of cgroup v2: eBPF programs attached to a cgroup.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One eBPF instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low half, source in the high.
    pub registers: u8,
    /// Offset.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `bpf(2)`'s argument block, as far as these calls read it.
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Attr {
    fn new() -> Attr {
        Attr([0; 128])
    }

    fn u32(mut self, offset: usize, value: u32) -> Attr {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn pointer<T>(mut self, offset: usize, value: *const T) -> Attr {
        self.0[offset..offset + 8].copy_from_slice(&(value as u64).to_ne_bytes());
        self
    }

    fn read_u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes([self.0[offset], self.0[offset + 1], self.0[offset + 2], self.0[offset + 3]])
    }
}

fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<libc::c_long> {
    // SAFETY: the block is 128 zero-padded bytes; pointers in it are set by the callers below and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.0.as_mut_ptr(), attr.0.len()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Loads a device program and attaches it to the cgroup, in place of those that were attached there before.
///
/// # Errors
/// What `bpf` answers, such as EPERM or EINVAL for a program that the verifier refuses.
pub fn replace_device_program(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let program = load(program)?;
    let before = attached(cgroup)?;
    let mut attr = Attr::new()
        .u32(0, cgroup.as_raw_fd() as u32)
        .u32(4, program.as_raw_fd() as u32)
        .u32(8, BPF_CGROUP_DEVICE)
        .u32(12, BPF_F_ALLOW_MULTI);
    bpf(BPF_PROG_ATTACH, &mut attr)?;
    // All attached programs must allow, so between these two steps the rules are the stricter of both.
    for old in before {
        let mut attr =
            Attr::new().u32(0, cgroup.as_raw_fd() as u32).u32(4, old.as_raw_fd() as u32).u32(8, BPF_CGROUP_DEVICE);
        bpf(BPF_PROG_DETACH, &mut attr)?;
    }
    Ok(())
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attr = Attr::new()
        .u32(0, BPF_PROG_TYPE_CGROUP_DEVICE)
        .u32(4, program.len() as u32)
        .pointer(8, program.as_ptr())
        .pointer(16, c"Apache".as_ptr());
    let fd = bpf(BPF_PROG_LOAD, &mut attr)?;
    // SAFETY: BPF_PROG_LOAD answers a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attr = Attr::new()
        .u32(0, cgroup.as_raw_fd() as u32)
        .u32(4, BPF_CGROUP_DEVICE)
        .pointer(16, ids.as_mut_ptr().cast_const())
        .u32(24, ids.len() as u32);
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = attr.read_u32(24) as usize;
    ids[..count.min(ids.len())]
        .iter()
        .map(|&id| {
            let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut Attr::new().u32(0, id))?;
            // SAFETY: BPF_PROG_GET_FD_BY_ID answers a new descriptor.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        })
        .collect()
}
