//! New files, directories and links, and removals.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use super::owner::Ids;
use super::place::{self, NewLooks, clean, shown};
use super::wildcard;
use crate::failure::{Doing, Failure, Result};
use crate::graph::{MakeDir, MakeFile, Remove, Symlink};

/// Makes a directory.
pub(crate) fn make_dir(root: BorrowedFd<'_>, order: &MakeDir, owner: Option<Ids>) -> Result<()> {
    let path = place::plain(root, &clean(&order.path), true)?;
    let looks = NewLooks { owner, timestamp: order.timestamp };
    if order.make_parents {
        return place::make_dirs(root, &path, order.mode, looks).map(drop);
    }
    let (above, name) = place::open_above(root, &path)?;
    rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(order.mode & 0o777))
        .doing(format!("mkdir {}", shown(&path)))?;
    let made =
        place::open_plain(root, &path, OFlags::RDONLY | OFlags::DIRECTORY).doing(format!("open {}", shown(&path)))?;
    place::dress_new(&made, order.mode, looks).doing(format!("mkdir {}", shown(&path)))
}

/// Writes a file, over one that is there.
pub(crate) fn make_file(root: BorrowedFd<'_>, order: &MakeFile, owner: Option<Ids>) -> Result<()> {
    let path = place::plain(root, &clean(&order.path), true)?;
    let (above, name) = place::open_above(root, &path)?;
    if place::stat_plain(root, &path)?.is_some_and(|stat| place::is_dir(&stat)) {
        return Err(Failure::invalid(format!("open {}: is a directory", shown(&path))));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&above, name, flags, Mode::from_raw_mode(order.mode & 0o777))
        .doing(format!("open {}", shown(&path)))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&order.content).doing(format!("write {}", shown(&path)))?;
    let looks = NewLooks { owner, timestamp: order.timestamp };
    place::dress_new(&file, order.mode, looks).doing(format!("chmod {}", shown(&path)))
}

/// Makes a symlink.
pub(crate) fn make_symlink(root: BorrowedFd<'_>, order: &Symlink, owner: Option<Ids>) -> Result<()> {
    let path = place::plain(root, &clean(&order.path), false)?;
    let (above, name) = place::open_above(root, &path)?;
    let doing = || format!("symlink {}", shown(&path));
    rustix::fs::symlinkat(order.target.as_str(), &above, name).doing(doing())?;
    let ids = owner.unwrap_or_default();
    let (uid, gid) = (Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)));
    rustix::fs::chownat(&above, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).doing(doing())?;
    match order.timestamp {
        Some(time) => {
            rustix::fs::utimensat(&above, name, &place::times_of_ns(time), AtFlags::SYMLINK_NOFOLLOW).doing(doing())
        }
        None => Ok(()),
    }
}

/// Removes what is at a path.
pub(crate) fn remove(root: BorrowedFd<'_>, order: &Remove) -> Result<()> {
    let found = match order.allow_wildcard {
        true => wildcard::resolve(root, &order.path)?,
        false => vec![clean(&order.path)],
    };
    for path in found {
        if path.is_empty() {
            return Err(Failure::invalid("rmPath: invalid empty path"));
        }
        let path = place::plain(root, &path, false)?;
        if place::stat_plain(root, &path)?.is_none() {
            if order.allow_not_found {
                continue;
            }
            return Err(Failure::invalid(format!("stat {}: no such file or directory", shown(&path))));
        }
        let (above, name) = place::open_above(root, &path)?;
        place::remove_at(above.as_fd(), name).doing(format!("remove {}", shown(&path)))?;
    }
    Ok(())
}
