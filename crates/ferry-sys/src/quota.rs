//! Project quotas: a limit on the bytes below a folder, where the file system keeps one.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: libc::c_ulong = 0x401c_5820;
/// New entries belong to the folder's project.
const INHERIT: u32 = 0x200;

/// `struct fs_disk_quota`, version 1.
#[repr(C)]
#[derive(Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    field_mask: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    blocks: u64,
    inodes: u64,
    inode_timer: i32,
    block_timer: i32,
    inode_warnings: u16,
    block_warnings: u16,
    timers_high: [i8; 3],
    padding2: i8,
    realtime_hard: u64,
    realtime_soft: u64,
    realtime_blocks: u64,
    realtime_timer: i32,
    realtime_warnings: u16,
    padding3: i16,
    padding4: [u8; 8],
}

const VERSION: i8 = 1;
const OF_PROJECT: i8 = 2;
const BLOCKS_SOFT: u16 = 1 << 2;
const BLOCKS_HARD: u16 = 1 << 3;
/// `QCMD(Q_XSETQLIM, PRJQUOTA)`.
const SET_LIMIT: libc::c_uint = 0x5804 << 8 | 2;
/// `QCMD(Q_XGETQSTAT, PRJQUOTA)`.
const GET_STATE: libc::c_uint = 0x5805 << 8 | 2;
/// `FS_QUOTA_PDQ_ENFD`, in the flags of that.
const ENFORCED: u16 = 1 << 5;
/// What limits are counted in.
const BLOCK_BYTES: u64 = 512;

/// Returns the project of a file or folder; 0 is none.
///
/// # Errors
/// What the file system answers, such as that it knows no projects.
pub fn project(file: impl AsFd) -> io::Result<u32> {
    Ok(attributes(&file)?.project)
}

/// Makes a folder, and whatever is made below it from now on, belong to a project.
///
/// # Errors
/// As [`project`].
pub fn set_project(folder: impl AsFd, project: u32) -> io::Result<()> {
    let mut attributes = attributes(&folder)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the request reads one `struct fsxattr`, which `attributes` is; the descriptor is open while borrowed.
    let result = unsafe { libc::ioctl(folder.as_fd().as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Limits the bytes of a project in the file system that `file` lies in; 0 is no limit.
///
/// # Errors
/// When the file system keeps no project quotas, or the kernel (before 5.14) has no such call.
pub fn limit(file: impl AsFd, project: u32, bytes: u64) -> io::Result<()> {
    let blocks = bytes / BLOCK_BYTES;
    let quota = DiskQuota {
        version: VERSION,
        flags: OF_PROJECT,
        field_mask: BLOCKS_HARD | BLOCKS_SOFT,
        id: project,
        blocks_hard: blocks,
        blocks_soft: blocks,
        ..DiskQuota::default()
    };
    // SAFETY: the command reads one `struct fs_disk_quota`, which `quota` is, and no more; rustix has no such call.
    let result =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_fd().as_raw_fd(), SET_LIMIT, project, &raw const quota) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the file system that `file` lies in keeps limits of projects.
///
/// # Errors
/// When it knows no quotas, or the kernel (before 5.14) has no such call.
pub fn is_enforced(file: impl AsFd) -> io::Result<bool> {
    // `struct fs_quota_stat` has 80 bytes, of which the third and fourth are the flags.
    let mut state = [0u64; 16];
    // SAFETY: the command writes one `struct fs_quota_stat`, for which there is room, aligned as it must be; rustix has no such call.
    let result =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_fd().as_raw_fd(), GET_STATE, 0, state.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let first = state[0].to_ne_bytes();
    Ok(u16::from_ne_bytes([first[2], first[3]]) & ENFORCED != 0)
}

fn attributes(file: &impl AsFd) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the request writes one `struct fsxattr`, which `attributes` is; the descriptor is open while borrowed.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) };
    if result == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<DiskQuota>(), 112);
    }
}
