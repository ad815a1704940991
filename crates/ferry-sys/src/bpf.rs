//! eBPF programs that see the addresses that sockets connect to, and their maps, see `bpf(2)` and `linux/bpf.h`.
//!
//! Everything lives as long as a descriptor of it, or a program that uses it, does; nothing is pinned. What programs do is their
//! makers' affair: this is the way into the kernel alone. Device rules of cgroups are in [`crate::cgroup_bpf`].

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

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

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
pub(crate) const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_BTF_LOAD: libc::c_int = 18;
const BPF_LINK_CREATE: libc::c_int = 28;

const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_SK_STORAGE: u32 = 24;
const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
/// Names of objects have at most so many bytes.
const NAME_BYTES: usize = 15;

/// `bpf(2)`'s argument block, as far as these calls read it.
#[repr(C, align(8))]
pub(crate) struct Attr([u8; 128]);

impl Attr {
    pub(crate) fn new() -> Attr {
        Attr([0; 128])
    }

    pub(crate) fn u32(mut self, offset: usize, value: u32) -> Attr {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    pub(crate) fn pointer<T>(mut self, offset: usize, value: *const T) -> Attr {
        self.0[offset..offset + 8].copy_from_slice(&(value as u64).to_ne_bytes());
        self
    }

    fn name(mut self, offset: usize, name: &CStr) -> Attr {
        let bytes = &name.to_bytes()[..name.count_bytes().min(NAME_BYTES)];
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes([self.0[offset], self.0[offset + 1], self.0[offset + 2], self.0[offset + 3]])
    }
}

pub(crate) fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<libc::c_long> {
    // SAFETY: the block is 128 zero-padded bytes; pointers in it are set by the callers and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.0.as_mut_ptr(), attr.0.len()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(command: libc::c_int, attr: &mut Attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the callers' commands answer a new descriptor, which is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A hash table that programs look into: `K` bytes lead to `V` bytes.
#[derive(Debug)]
pub struct HashMap<const K: usize, const V: usize>(OwnedFd);

impl<const K: usize, const V: usize> HashMap<K, V> {
    /// Makes one of at most `entries` entries, which take memory as they come.
    ///
    /// # Errors
    /// What `bpf` answers: `EPERM` without the right to.
    pub fn new(name: &CStr, entries: u32) -> io::Result<Self> {
        let mut attr = Attr::new()
            .u32(0, BPF_MAP_TYPE_HASH)
            .u32(4, K as u32)
            .u32(8, V as u32)
            .u32(12, entries)
            .u32(16, BPF_F_NO_PREALLOC)
            .name(28, name);
        descriptor(BPF_MAP_CREATE, &mut attr).map(Self)
    }

    /// Sets an entry.
    ///
    /// # Errors
    /// What `bpf` answers: `E2BIG` when it is full.
    pub fn insert(&self, key: &[u8; K], value: &[u8; V]) -> io::Result<()> {
        let mut attr =
            Attr::new().u32(0, self.0.as_raw_fd() as u32).pointer(8, key.as_ptr()).pointer(16, value.as_ptr());
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }

    /// Removes an entry; one that is not there is fine.
    ///
    /// # Errors
    /// What `bpf` answers.
    pub fn remove(&self, key: &[u8; K]) -> io::Result<()> {
        let mut attr = Attr::new().u32(0, self.0.as_raw_fd() as u32).pointer(8, key.as_ptr());
        match bpf(BPF_MAP_DELETE_ELEM, &mut attr) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl<const K: usize, const V: usize> AsFd for HashMap<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Bytes of [`SocketStorage`].
const STORAGE_BYTES: u32 = 8;

/// Eight bytes with each socket that a program gives some; they go with the socket.
#[derive(Debug)]
pub struct SocketStorage(OwnedFd);

impl SocketStorage {
    /// Makes one.
    ///
    /// # Errors
    /// What `bpf` answers: `EPERM` without the right to, `EINVAL` before Linux 5.2.
    pub fn new(name: &CStr) -> io::Result<Self> {
        let types = descriptor_of_types()?;
        let mut attr = Attr::new()
            .u32(0, BPF_MAP_TYPE_SK_STORAGE)
            .u32(4, 4)
            .u32(8, STORAGE_BYTES)
            .u32(16, BPF_F_NO_PREALLOC)
            .name(28, name)
            .u32(48, types.as_raw_fd() as u32)
            // The first and the second of the types below.
            .u32(52, 1)
            .u32(56, 2);
        descriptor(BPF_MAP_CREATE, &mut attr).map(Self)
    }

    /// Takes a copy of one that somebody else kept.
    ///
    /// # Errors
    /// What `bpf` answers; `InvalidInput` for anything else than such a map.
    pub fn take(fd: OwnedFd) -> io::Result<Self> {
        // The beginning of `struct bpf_map_info`: type, number, bytes of a key, bytes of a value.
        let mut info = [0_u32; 4];
        let mut attr =
            Attr::new().u32(0, fd.as_raw_fd() as u32).u32(4, size_of_val(&info) as u32).pointer(8, info.as_mut_ptr());
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
        match info {
            [BPF_MAP_TYPE_SK_STORAGE, _, _, STORAGE_BYTES] => Ok(Self(fd)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "no storage of sockets")),
        }
    }

    /// Returns a copy.
    ///
    /// # Errors
    /// What `fcntl` answers.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

impl AsFd for SocketStorage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The kernel wants to know what such a map holds, in its own format (`Documentation/bpf/btf.rst`): two integers, `u32` and `u64`.
fn descriptor_of_types() -> io::Result<OwnedFd> {
    const STRINGS: &[u8] = b"\0u32\0u64\0";
    const INTEGER: u32 = 1 << 24;
    // Name, kind, bytes, bits.
    let types: [u32; 8] = [1, INTEGER, 4, 32, 5, INTEGER, 8, 64];
    let type_bytes = size_of_val(&types) as u32;
    let mut blob = Vec::new();
    blob.extend(0xeb9f_u16.to_ne_bytes());
    // Version, flags.
    blob.extend([1, 0]);
    // Length of this head; offset and length of types and of strings, from its end.
    for number in [24, 0, type_bytes, type_bytes, STRINGS.len() as u32].into_iter().chain(types) {
        blob.extend(number.to_ne_bytes());
    }
    blob.extend(STRINGS);
    descriptor(BPF_BTF_LOAD, &mut Attr::new().pointer(0, blob.as_ptr()).u32(16, blob.len() as u32))
}

/// Where a program sees addresses, `enum bpf_attach_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum AddressHook {
    /// What a socket is to connect to by IPv4; the program may change it.
    Connect4 = 10,
    /// The same by IPv6, also where that means an address of IPv4 (`::ffff:127.0.0.1`).
    Connect6 = 11,
    /// What a socket says whom it is connected to.
    PeerName4 = 29,
    /// The same of a socket for IPv6.
    PeerName6 = 30,
    /// What a socket says who it is.
    SocketName4 = 31,
    /// The same of a socket for IPv6.
    SocketName6 = 32,
}

impl AddressHook {
    /// Whether programs here decide where a connection goes.
    #[must_use]
    pub fn is_connect(self) -> bool {
        matches!(self, Self::Connect4 | Self::Connect6)
    }
}

/// A loaded program.
#[derive(Debug)]
pub struct AddressProgram {
    program: OwnedFd,
    hook: AddressHook,
}

impl AddressProgram {
    /// Loads a program; it keeps the maps that it names.
    ///
    /// # Errors
    /// What `bpf` answers: `EPERM` without the right to, `EINVAL` or `EACCES` for a program that the verifier refuses.
    pub fn load(name: &CStr, hook: AddressHook, program: &[Instruction]) -> io::Result<Self> {
        let mut attr = Attr::new()
            .u32(0, BPF_PROG_TYPE_CGROUP_SOCK_ADDR)
            .u32(4, program.len() as u32)
            .pointer(8, program.as_ptr())
            .pointer(16, c"Apache".as_ptr())
            .name(48, name)
            .u32(68, hook as u32);
        let program = descriptor(BPF_PROG_LOAD, &mut attr)?;
        Ok(Self { program, hook })
    }

    /// Returns where it runs.
    #[must_use]
    pub fn hook(&self) -> AddressHook {
        self.hook
    }

    /// Has it run for all processes of a cgroup of version 2 and of those below, beside programs of others, until the last copy of the
    /// descriptor that is returned is closed.
    ///
    /// # Errors
    /// What `bpf` answers: `EPERM` where another program does not let others in, `EINVAL` before Linux 5.7.
    pub fn attach(&self, cgroup: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let mut attr = Attr::new()
            .u32(0, self.program.as_raw_fd() as u32)
            .u32(4, cgroup.as_raw_fd() as u32)
            .u32(8, self.hook as u32);
        descriptor(BPF_LINK_CREATE, &mut attr)
    }
}

/// Returns the number by which programs know the network namespace of a socket.
///
/// # Errors
/// What `getsockopt(SO_NETNS_COOKIE)` answers: `ENOPROTOOPT` before Linux 5.14.
pub fn namespace_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a live place of that size; the descriptor is open while borrowed. rustix has
    // no wrapper for it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

const SO_NETNS_COOKIE: libc::c_int = 71;
