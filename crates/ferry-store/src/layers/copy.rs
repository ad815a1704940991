//! Copies files, and whole trees, between folders that strangers filled.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::path::FOLDER_FLAGS;

/// The most bytes that are copied in one call.
const CHUNK: usize = 1 << 30;

/// Attributes that a layer may bring and that a copy keeps.
pub(crate) fn is_allowed_xattr(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Copies everything from the beginning of one file to another, in the kernel where it can.
pub(crate) fn copy_bytes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    loop {
        match rustix::fs::copy_file_range(source, None, target, None, CHUNK) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => return copy_by_hand(source, target),
            Err(errno) => return Err(errno),
        }
    }
}

fn copy_by_hand(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = match rustix::io::read(source, &mut buffer[..]) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            match rustix::io::write(target, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Gives `target` the owner, mode, attributes and times of `source`.
pub(crate) fn copy_looks(source: BorrowedFd<'_>, target: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(source, target)?;
    rustix::fs::futimens(target, &times_of(stat))
}

fn times_of(stat: &Stat) -> Timestamps {
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or_default() };
    Timestamps { last_access: modified, last_modification: modified }
}

/// The name and the value of an extended attribute.
type Xattr = (Vec<u8>, Vec<u8>);

/// Returns the attributes that a layer may bring.
pub(crate) fn xattrs(source: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
    let names = match sized(|buffer| rustix::fs::flistxattr(source, buffer)) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let allowed = names.split(|byte| *byte == 0).filter(|name| is_allowed_xattr(name));
    allowed.map(|name| Ok((name.to_vec(), sized(|buffer| rustix::fs::fgetxattr(source, name, buffer))?))).collect()
}

fn copy_xattrs(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let names = match sized(|buffer| rustix::fs::flistxattr(source, buffer)) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for name in names.split(|byte| *byte == 0).filter(|name| is_allowed_xattr(name)) {
        let value = sized(|buffer| rustix::fs::fgetxattr(source, name, buffer))?;
        match rustix::fs::fsetxattr(target, name, &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Calls `read` with ever larger buffers; the kernel tells when one is too small.
fn sized(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer[..]) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 17 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// Folders below each other that are copied.
const MOST_DEEP: usize = 2048;

/// What a copy of a tree asks about each of its paths.
pub(crate) trait TreeRules {
    /// This folder's looks are not to be copied when the target is there already.
    fn keeps_looks(&self, path: &[u8]) -> bool;
}

/// Copies the content of `source` over that of `target`: folders merge, everything else replaces. Links within the tree stay links.
pub(crate) fn copy_tree(source: &OwnedFd, target: &OwnedFd, rules: &impl TreeRules) -> Result<(), Errno> {
    let mut copy = TreeCopy { links: std::collections::HashMap::new(), rules, target_root: target.try_clone_fd()? };
    let root = source.try_clone_fd()?;
    let target = target.try_clone_fd()?;
    let stat = rustix::fs::fstat(&root)?;
    copy.folder(&root, &target, b"")?;
    if !rules.keeps_looks(b"") {
        copy_looks(root.as_fd(), target.as_fd(), &stat)?;
    }
    Ok(())
}

trait TryCloneFd {
    fn try_clone_fd(&self) -> Result<OwnedFd, Errno>;
}

impl TryCloneFd for OwnedFd {
    fn try_clone_fd(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(self, 3)
    }
}

struct TreeCopy<'a, R> {
    /// Inode of the source to the path of its first copy, for files with several names.
    links: std::collections::HashMap<(u64, u64), Vec<u8>>,
    rules: &'a R,
    target_root: OwnedFd,
}

impl<R: TreeRules> TreeCopy<'_, R> {
    /// Recursion is as deep as the tree, which is bounded here and by the unpacking.
    fn folder(&mut self, source: &OwnedFd, target: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
        for entry in rustix::fs::Dir::read_from(source)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            self.entry(source, target, name, &path)?;
        }
        Ok(())
    }

    fn entry(&mut self, source: &OwnedFd, target: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), Errno> {
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_dir() {
            if path.iter().filter(|byte| **byte == b'/').count() > MOST_DEEP {
                return Err(Errno::NAMETOOLONG);
            }
            return self.sub_folder(source, target, name, path, &stat);
        }
        remove(target, name)?;
        if kind.is_char_device() && stat.st_rdev == 0 {
            // A whiteout of a layer that was unpacked for overlay.
            return Ok(());
        }
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                // The first copy was made by this very walk; nobody else writes here meanwhile.
                return rustix::fs::linkat(&self.target_root, &first[..], target, name, AtFlags::empty());
            }
            self.links.insert(key, path.to_vec());
        }
        match kind {
            FileType::RegularFile => copy_file(source, target, name, &stat),
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(&link, target, name)?;
                dress(target, name, &stat)
            }
            FileType::Socket => Ok(()),
            kind => {
                rustix::fs::mknodat(target, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
                rustix::fs::chmodat(target, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
                dress(target, name, &stat)
            }
        }
    }

    fn sub_folder(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
    ) -> Result<(), Errno> {
        let mut merged = false;
        let mut followed = None;
        match rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(target, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let kind = FileType::from_raw_mode(there.st_mode);
                merged = kind.is_dir();
                if kind.is_symlink() && self.rules.keeps_looks(path) {
                    // A folder that only its content implied does not replace a link to one.
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                    followed = ferry_sys::path::resolve_in_root(&self.target_root, path, flags, Mode::empty()).ok();
                    merged = followed.is_some();
                }
                if !merged {
                    rustix::fs::unlinkat(target, name, AtFlags::empty())?;
                    rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))?;
                }
            }
            Err(errno) => return Err(errno),
        }
        let source = rustix::fs::openat(source, name, FOLDER_FLAGS, Mode::empty())?;
        let target = match followed {
            Some(followed) => followed,
            None => rustix::fs::openat(target, name, FOLDER_FLAGS, Mode::empty())?,
        };
        if merged && is_opaque(&source) {
            empty(&target)?;
        }
        self.folder(&source, &target, path)?;
        if merged && self.rules.keeps_looks(path) {
            return Ok(());
        }
        copy_looks(source.as_fd(), target.as_fd(), stat)
    }
}

fn copy_file(source: &OwnedFd, target: &OwnedFd, name: &[u8], stat: &Stat) -> Result<(), Errno> {
    // Where somebody is at work, a file may have become a pipe by now.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(target, name, flags, Mode::from_raw_mode(0o600))?;
    copy_bytes(from.as_fd(), to.as_fd())?;
    copy_looks(from.as_fd(), to.as_fd(), stat)
}

fn dress(target: &OwnedFd, name: &[u8], stat: &Stat) -> Result<(), Errno> {
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(target, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::utimensat(target, name, &times_of(stat), AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn is_opaque(folder: &OwnedFd) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::fgetxattr(folder, *name, &mut value[..]).is_ok_and(|length| value[..length] == *b"y")
    })
}

/// Removes everything in a folder.
pub(crate) fn empty(folder: &OwnedFd) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            remove(folder, name)?;
        }
    }
    Ok(())
}

/// Removes whatever has this name; nothing there is fine.
pub(crate) fn remove(folder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => super::unpack::remove_tree_at(folder.as_fd(), name),
        Err(errno) => Err(errno),
    }
}
