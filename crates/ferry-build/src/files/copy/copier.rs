//! Making the copies: each with its owner, mode, times and attributes, in the place of what was there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::tree::{Found, Looks};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::mode;
use super::super::owner::Ids;
use super::super::place::{self, Plain, is_dir, join, shown};
use super::{CopyOrder, lies_in};
use crate::failure::{Doing, Failure, Result};

/// Bytes that are copied at once.
const PIECE: usize = 64 * 1024;

/// Files of so many bytes are given rather than copied, where that is possible.
const LARGE: u64 = 1 << 20;

/// One copy on its way: takes what is found, in the order of a walk.
pub(super) struct Copier<'a> {
    order: &'a CopyOrder<'a>,
    target: BorrowedFd<'a>,
    top: Plain,
    top_is_dir: bool,
    /// Paths of the source to those of their copies, for files with several names.
    linked: HashMap<Vec<u8>, Plain>,
    /// Directories that come into being only with something in them.
    waiting: Vec<(Vec<u8>, Looks)>,
    /// Directories whose looks wait for what is put into them.
    dressed_last: Vec<(Plain, Looks)>,
    /// How the source of a directory at the top looks that was there before: it gives its times.
    top_looks: Option<Looks>,
    /// Directories that were made on the way.
    made_dirs: Vec<Plain>,
    buffer: Vec<u8>,
}

impl<'a> Copier<'a> {
    /// Copies to `top`, for which directories were made on the way.
    pub(super) fn new(
        order: &'a CopyOrder<'a>,
        target: BorrowedFd<'a>,
        top: Plain,
        top_is_dir: bool,
        made_dirs: Vec<Plain>,
    ) -> Self {
        Self {
            order,
            target,
            top,
            top_is_dir,
            linked: HashMap::new(),
            waiting: Vec::new(),
            dressed_last: Vec::new(),
            top_looks: None,
            made_dirs,
            buffer: Vec::new(),
        }
    }

    /// Takes what was found next.
    pub(super) fn take(&mut self, found: Found) -> Result<()> {
        let below = found.path.clone();
        while self.waiting.last().is_some_and(|(above, _)| !lies_in(&below, above)) {
            self.waiting.pop();
        }
        if below.is_empty() {
            return if self.top_is_dir { self.top_folder(found) } else { self.entry(found) };
        }
        if !self.order.takes(&below) {
            if found.kind.is_dir() {
                self.waiting.push((below, found.looks));
            }
            return Ok(());
        }
        for (above, looks) in std::mem::take(&mut self.waiting) {
            self.implied_folder(&above, &looks)?;
        }
        match found.kind.is_dir() {
            true => self.folder(&below, &found.looks),
            false => self.entry(found),
        }
    }

    /// The directory itself keeps its looks when it is there, but for its times.
    fn top_folder(&mut self, found: Found) -> Result<()> {
        match place::stat_plain(self.target, &self.top)? {
            Some(stat) if is_dir(&stat) => {
                self.top_looks = Some(found.looks);
                Ok(())
            }
            _ => self.folder(b"", &found.looks),
        }
    }

    fn folder(&mut self, below: &[u8], looks: &Looks) -> Result<()> {
        let path = join(&self.top, below);
        self.room_for_folder(&path)?;
        self.dressed_last.push((path, looks.clone()));
        Ok(())
    }

    /// A directory that is only there for what is in it: its times are those of the copy, and one that was there gets the mode alone.
    fn implied_folder(&mut self, below: &[u8], looks: &Looks) -> Result<()> {
        let path = join(&self.top, below);
        let is_new = self.room_for_folder(&path)?;
        let doing = || format!("chmod {}", shown(&path));
        let fd = place::open_plain(self.target, &path, OFlags::RDONLY | OFlags::DIRECTORY).doing(doing())?;
        match is_new {
            true => self.dress(fd.as_fd(), looks, true).doing(doing())?,
            false => rustix::fs::fchmod(&fd, Mode::from_raw_mode(looks.mode)).map(Ok).doing(doing())?,
        }
    }

    /// Makes a directory where none is; tells whether it did.
    fn room_for_folder(&self, path: &[u8]) -> Result<bool> {
        match place::stat_plain(self.target, path)? {
            Some(stat) if is_dir(&stat) => return Ok(false),
            Some(_) if !self.order.action.replace_existing => {
                return Err(Failure::invalid(format!("cannot copy to non-directory: {}", shown(path))));
            }
            found => {
                let (above, name) = place::open_above(self.target, path)?;
                if found.is_some() {
                    self.forget(path)?;
                    place::remove_at(above.as_fd(), name).doing(format!("remove {}", shown(path)))?;
                }
                rustix::fs::mkdirat(&above, name, Mode::RWXU).doing(format!("mkdir {}", shown(path)))?;
            }
        }
        Ok(true)
    }

    fn entry(&mut self, mut found: Found) -> Result<()> {
        let path = join(&self.top, &found.path);
        let doing = || format!("copy to {}", shown(&path));
        let (above, name) = place::open_above(self.target, &path)?;
        self.make_room(above.as_fd(), name, &path)?;
        if let Some(first) = found.same_as.as_ref().and_then(|first| self.linked.get(first)) {
            let (first_above, first_name) = place::open_above(self.target, first)?;
            return rustix::fs::linkat(&first_above, first_name, &above, name, AtFlags::empty()).doing(doing());
        }
        match found.kind {
            FileType::RegularFile => {
                let Some(file) = found.file.take() else { return Ok(()) };
                if !self.give(above.as_fd(), name, &path, &file, &found)? {
                    self.regular(above.as_fd(), name, file, &found).doing(doing())??;
                }
            }
            FileType::Symlink => {
                rustix::fs::symlinkat(&found.link[..], &above, name).doing(doing())?;
                self.dress_name(above.as_fd(), name, &found.looks, false).doing(doing())??;
            }
            kind => {
                let device = rustix::fs::makedev(found.device.0, found.device.1);
                rustix::fs::mknodat(&above, name, kind, Mode::from_raw_mode(found.looks.mode), device).doing(doing())?;
                self.dress_name(above.as_fd(), name, &found.looks, true).doing(doing())??;
            }
        }
        self.linked.insert(found.path, path.clone());
        Ok(())
    }

    fn make_room(&self, above: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        match rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            Ok(stat) if is_dir(&stat) && !self.order.action.replace_existing => {
                return Err(Failure::invalid(format!("cannot replace to directory {} with file", shown(path))));
            }
            _ => {}
        }
        self.forget(path)?;
        place::remove_at(above, name).doing(format!("remove {}", shown(path)))
    }

    /// What was given for a path is for it no more.
    fn forget(&self, path: &[u8]) -> Result<()> {
        self.order.takes.map_or(Ok(true), |takes| takes(path, None)).map(drop)
    }

    /// Gives a file that looks as its copy would look; an empty one stands for it. Tells whether it did.
    fn give(&self, above: BorrowedFd<'_>, name: &[u8], path: &[u8], file: &OwnedFd, found: &Found) -> Result<bool> {
        let Some(takes) = self.order.takes.filter(|_| found.size >= LARGE && found.looks.xattrs.is_empty()) else {
            return Ok(false);
        };
        let looks = &found.looks;
        let owner = self.order.owner.unwrap_or(Ids { uid: looks.uid, gid: looks.gid });
        let is_same = owner == Ids { uid: looks.uid, gid: looks.gid }
            && self.mode(looks, false)? == looks.mode
            && self.order.action.timestamp.is_none();
        if !is_same || !takes(path, Some(file.as_fd()))? {
            return Ok(false);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(above, name, flags, Mode::RUSR | Mode::WUSR);
        made.map(|_| true).doing(format!("copy to {}", shown(path)))
    }

    fn regular(
        &mut self,
        above: BorrowedFd<'_>,
        name: &[u8],
        from: OwnedFd,
        found: &Found,
    ) -> rustix::io::Result<Result<()>> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(above, name, flags, Mode::RUSR | Mode::WUSR)?;
        let to = File::from(to);
        if let Err(error) = self.content(File::from(from), &to, found.size) {
            return Ok(Err(error).doing("copy"));
        }
        self.dress(to.as_fd(), &found.looks, false)
    }

    /// Of a small file two calls are the least; for a large one the kernel may know better.
    fn content(&mut self, mut from: File, to: &File, size: u64) -> std::io::Result<()> {
        if size >= LARGE {
            return std::io::copy(&mut from, &mut &*to).map(drop);
        }
        self.buffer.resize(PIECE, 0);
        let mut copied = 0;
        while copied < size {
            match from.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => {
                    (&*to).write_all(&self.buffer[..read])?;
                    copied += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Owner first: a change of it clears set-id bits and capabilities.
    fn dress(&self, fd: BorrowedFd<'_>, looks: &Looks, is_dir: bool) -> rustix::io::Result<Result<()>> {
        let mode = match self.mode(looks, is_dir) {
            Ok(mode) => mode,
            Err(failure) => return Ok(Err(failure)),
        };
        let ids = self.order.owner.unwrap_or(Ids { uid: looks.uid, gid: looks.gid });
        rustix::fs::fchown(fd, Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)))?;
        for (name, value) in &looks.xattrs {
            match rustix::fs::fsetxattr(fd, &name[..], value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?;
        rustix::fs::futimens(fd, &self.times(looks)).map(Ok)
    }

    fn dress_name(
        &self,
        above: BorrowedFd<'_>,
        name: &[u8],
        looks: &Looks,
        has_mode: bool,
    ) -> rustix::io::Result<Result<()>> {
        let ids = self.order.owner.unwrap_or(Ids { uid: looks.uid, gid: looks.gid });
        let (uid, gid) = (Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)));
        rustix::fs::chownat(above, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        if has_mode {
            let mode = match self.mode(looks, false) {
                Ok(mode) => mode,
                Err(failure) => return Ok(Err(failure)),
            };
            rustix::fs::chmodat(above, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        rustix::fs::utimensat(above, name, &self.times(looks), AtFlags::SYMLINK_NOFOLLOW).map(Ok)
    }

    fn mode(&self, looks: &Looks, is_dir: bool) -> Result<u32> {
        let action = self.order.action;
        if !action.mode_words.is_empty() {
            return mode::apply(&action.mode_words, looks.mode, is_dir);
        }
        Ok(action.mode.unwrap_or(looks.mode) & 0o7777)
    }

    fn times(&self, looks: &Looks) -> Timestamps {
        if let Some(time) = self.order.action.timestamp {
            return place::times_of_ns(time);
        }
        // A layer knows whole seconds.
        let time = Timespec { tv_sec: looks.mtime.0, tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }

    /// Does what had to wait for everything else.
    pub(super) fn finish(mut self) -> Result<()> {
        for (path, looks) in std::mem::take(&mut self.dressed_last).into_iter().rev() {
            let doing = || format!("chmod {}", shown(&path));
            let fd = place::open_plain(self.target, &path, OFlags::RDONLY | OFlags::DIRECTORY).doing(doing())?;
            self.dress(fd.as_fd(), &looks, true).doing(doing())??;
        }
        if let Some(looks) = self.top_looks.take() {
            self.set_times(&self.top, &self.times(&looks))?;
        }
        if let Some(time) = self.order.action.timestamp {
            let times = place::times_of_ns(time);
            self.made_dirs.iter().rev().try_for_each(|path| self.set_times(path, &times))?;
        }
        Ok(())
    }

    fn set_times(&self, path: &[u8], times: &Timestamps) -> Result<()> {
        let doing = || format!("utime {}", shown(path));
        let fd = place::open_plain(self.target, path, OFlags::RDONLY | OFlags::DIRECTORY).doing(doing())?;
        rustix::fs::futimens(&fd, times).doing(doing())
    }
}

/// Makes an empty file of a tree what another file is.
pub(crate) fn fill(target: BorrowedFd<'_>, path: &[u8], file: OwnedFd) -> Result<()> {
    let doing = || format!("copy to {}", shown(path));
    let stat = rustix::fs::fstat(&file).doing(doing())?;
    let to = place::open_plain(target, path, OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW).doing(doing())?;
    let to = File::from(to);
    std::io::copy(&mut File::from(file), &mut &to).doing(doing())?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(&to, Some(uid), Some(gid)).doing(doing())?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777)).doing(doing())?;
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: 0 };
    rustix::fs::futimens(&to, &Timestamps { last_access: time, last_modification: time }).doing(doing())
}
