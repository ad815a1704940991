//! The writable layer's folders, and filling new volumes from the image.
//!
//! The image's tree is hostile: it is reached through descriptors and `openat2(RESOLVE_IN_ROOT)` alone, and nothing in it is followed.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;

use ferry_store::MountOptions;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};

use super::Containers;
use super::mounts::Asked;
use super::record::{MountKind, Record};
use crate::error::{Context, Error, Result};

impl Containers {
    /// Makes `upper`, `work` and `etc`.
    pub(super) fn make_writable_layer(&self, record: &Record) -> Result<()> {
        let folder = self.data_folder(&record.id);
        for (name, mode) in [("upper", 0o755), ("work", 0o700), ("etc", 0o755)] {
            fs::DirBuilder::new().mode(mode).create(folder.join(name)).context("cannot make the writable layer")?;
        }
        self.limit_writable_layer(record)
    }

    /// Copies what the image has at a volume's destination into the volume, when that is empty.
    pub(super) fn fill_volumes(&self, record: &Record, asked: &[Asked]) -> Result<()> {
        let wanting = record.mounts.iter().zip(asked).filter(|(_, ask)| ask.copy_up);
        let wanting: Vec<_> = wanting.map(|(mount, ask)| (mount, ask.of_image)).collect();
        if wanting.is_empty() {
            return Ok(());
        }
        let folder = self.data_folder(&record.id);
        let options = MountOptions { volatile: true, read_only: true, ..MountOptions::default() };
        let mounted = self.inner.store.mount_rootfs(
            record.chain_id.as_ref(),
            &folder.join("upper"),
            &folder.join("work"),
            options,
        );
        let root = mounted.context("cannot mount the image")?;
        for (mount, of_image) in wanting {
            let MountKind::Volume { source, name, .. } = &mount.kind else { continue };
            let found = match open_in_root(root.as_fd(), &mount.destination) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory && of_image => {
                    let path = &mount.destination;
                    return Err(Error::internal(format!("cannot mount volume over existing file, file exists {path}")));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(error).context(format!("cannot read {} of the image", mount.destination)),
            };
            let place = self.inner.volumes.mount_anywhere(name, &record.id)?;
            let filled = fill(place.as_deref().unwrap_or(source), name, found.as_fd());
            self.inner.volumes.unmount(name, &record.id);
            filled?;
        }
        Ok(())
    }
}

fn fill(source: &str, name: &str, found: BorrowedFd<'_>) -> Result<()> {
    let volume = rustix::fs::open(source, DIRECTORY, Mode::empty()).context(format!("cannot open volume {name}"))?;
    if !is_empty(volume.as_fd()).context(format!("cannot read volume {name}"))? {
        return Ok(());
    }
    copy_tree(found, volume.as_fd()).context(format!("cannot fill volume {name} from the image"))
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const HERE: OFlags = DIRECTORY.union(OFlags::NOFOLLOW);

fn open_in_root(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path.trim_start_matches('/'), DIRECTORY, Mode::empty(), resolve)?)
}

fn entries(folder: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn is_empty(folder: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(entries(folder)?.is_empty())
}

fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    for name in entries(from)? {
        copy_entry(from, to, &name)?;
    }
    copy_attributes(from, to, &rustix::fs::fstat(from)?)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let source = rustix::fs::openat(from, name, HERE, Mode::empty())?;
            let target = rustix::fs::openat(to, name, HERE, Mode::empty())?;
            copy_tree(source.as_fd(), target.as_fd())
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
            let mut reader = fs::File::from(source);
            let mut writer = fs::File::from(target);
            io::copy(&mut reader, &mut writer)?;
            copy_attributes(reader.as_fd(), writer.as_fd(), &stat)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&target, to, name)?;
            finish_special(to, name, &stat)
        }
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
            rustix::fs::mknodat(to, name, FileType::from_raw_mode(stat.st_mode), mode, stat.st_rdev)?;
            finish_special(to, name, &stat)
        }
        // A socket without its listener means nothing.
        _ => Ok(()),
    }
}

fn finish_special(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Owner first: a change of owner clears setuid and capabilities. Times last.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(from, to)?;
    let time =
        |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanoseconds).unwrap_or(0) };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::futimens(to, &times)?;
    Ok(())
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0; 65536];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let kept = name.to_bytes() == b"security.capability" || name.to_bytes().starts_with(b"user.");
        if !kept {
            continue;
        }
        let mut value = vec![0; 65536];
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}
