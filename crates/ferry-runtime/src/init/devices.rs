//! The container's own `/dev`: nodes and links.

use std::os::fd::{AsFd, OwnedFd};

use ferry_spec::runtime::LinuxDevice;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;

use crate::error::Error;
use crate::root::{Links, Root, split};

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Makes nodes and links; returns the null device as a location.
pub(super) fn populate(root: Root<'_>, devices: &[LinuxDevice]) -> Result<OwnedFd, Error> {
    let dev = root
        .make_directory("/dev", 0o755, Links::Refuse)
        .map_err(|error| Error::step("open /dev of the container", error))?;
    for device in devices {
        make_node(root, &dev, device).map_err(|error| Error::step(format!("make device {}", device.path), error))?;
    }
    for (name, target) in LINKS {
        link(&dev, name, target)?;
    }
    if std::path::Path::new("/proc/kcore").exists() {
        link(&dev, "core", "/proc/kcore")?;
    }
    // An image may bring a node or file of that name where /dev is not a fresh file system.
    match rustix::fs::unlinkat(&dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(Error::step("replace /dev/ptmx", error)),
    }
    link(&dev, "ptmx", "pts/ptmx")?;
    root.locate("/dev/null", Links::Refuse).map_err(|error| Error::step("open /dev/null of the container", error))
}

fn link(dev: &OwnedFd, name: &str, target: &str) -> Result<(), Error> {
    match rustix::fs::symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::step(format!("make /dev/{name}"), error)),
    }
}

fn make_node(root: Root<'_>, dev: &OwnedFd, device: &LinuxDevice) -> Result<(), Errno> {
    let (parent, name) = split(&device.path)?;
    let other;
    let parent = if parent == "/dev" {
        dev.as_fd()
    } else {
        other = root.make_directory(parent, 0o755, Links::Refuse)?;
        other.as_fd()
    };
    let kind = match device.kind.as_str() {
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let number = if kind == FileType::Fifo { 0 } else { makedev(device.major as u32, device.minor as u32) };
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match rustix::fs::mknodat(parent, name, kind, mode, number) {
        Ok(()) => {}
        Err(Errno::EXIST) => return same_node(parent, name, kind, number),
        Err(error) => return Err(error),
    }
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    if (uid, gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// A node that is there already will do if it is the same device.
fn same_node(parent: std::os::fd::BorrowedFd<'_>, name: &str, kind: FileType, number: u64) -> Result<(), Errno> {
    let node = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::statat(&node, "", AtFlags::EMPTY_PATH)?;
    let same = FileType::from_raw_mode(stat.st_mode) == kind && (kind == FileType::Fifo || stat.st_rdev == number);
    if same { Ok(()) } else { Err(Errno::EXIST) }
}
