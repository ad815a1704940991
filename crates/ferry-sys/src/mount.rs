//! Mount attributes; the rest of the new mount API is rustix's.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `MOUNT_ATTR_*`: cannot be written.
pub const READ_ONLY: u64 = 0x1;
/// `MOUNT_ATTR_*`: set-id bits and file capabilities have no effect.
pub const NO_SUID: u64 = 0x2;
/// `MOUNT_ATTR_*`: device nodes cannot be opened.
pub const NO_DEV: u64 = 0x4;
/// `MOUNT_ATTR_*`: programs cannot be run.
pub const NO_EXEC: u64 = 0x8;
/// `MOUNT_ATTR_*`: mask of the access time settings; zero is `relatime`.
pub const ATIME_MASK: u64 = 0x70;
/// `MOUNT_ATTR_*`: access times are not kept.
pub const NO_ATIME: u64 = 0x10;
/// `MOUNT_ATTR_*`: access times are always kept.
pub const STRICT_ATIME: u64 = 0x20;
/// `MOUNT_ATTR_*`: access times of folders are not kept.
pub const NO_DIR_ATIME: u64 = 0x80;
/// `MOUNT_ATTR_*`: symbolic links are not followed.
pub const NO_SYMLINK_FOLLOW: u64 = 0x20_0000;

/// How mounts below a mount spread, for [`Attributes::propagation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither in nor out.
    Private,
    /// In, not out.
    Slave,
    /// Both.
    Shared,
    /// Private, and cannot be bind mounted.
    Unbindable,
}

/// A change of mounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// New propagation.
    pub propagation: Option<Propagation>,
}

impl Attributes {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        *self == Attributes::default()
    }
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Changes the mount at `path` below `dir` (an empty path is `dir` itself), with everything mounted in it when `recursive`.
///
/// # Errors
/// What `mount_setattr` answers.
pub fn set_attributes(dir: impl AsFd, path: &CStr, attributes: Attributes, recursive: bool) -> io::Result<()> {
    let propagation = match attributes.propagation {
        None => 0,
        Some(Propagation::Private) => libc::MS_PRIVATE,
        Some(Propagation::Slave) => libc::MS_SLAVE,
        Some(Propagation::Shared) => libc::MS_SHARED,
        Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
    };
    let argument = MountAttr { set: attributes.set, clear: attributes.clear, propagation, user_namespace: 0 };
    let mut flags = libc::AT_SYMLINK_NOFOLLOW;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `argument` is `struct mount_attr` of its first version and its size is passed; rustix has no such call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const argument,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Shows a detached tree's files under other ids: those that the user namespace has for them.
///
/// # Errors
/// What `mount_setattr` answers; most often that the file system cannot do it.
pub fn map_ids(tree: impl AsFd, user_namespace: impl AsFd, recursive: bool) -> io::Result<()> {
    const MAP_IDS: u64 = 0x10_0000;
    let namespace = u64::try_from(user_namespace.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let argument = MountAttr { set: MAP_IDS, clear: 0, propagation: 0, user_namespace: namespace };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: as in `set_attributes`; the descriptor in `argument` is borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const argument,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_change_says_so() {
        assert!(Attributes::default().is_empty());
        assert!(!Attributes { set: READ_ONLY, ..Attributes::default() }.is_empty());
    }
}
