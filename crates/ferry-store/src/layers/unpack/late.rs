//! What can be done only when the whole archive was read: everything that has to know the layers below.
//!
//! They may still be on their way, so this is also where a layer waits for them.

use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use ferry_sys::path::resolve_in_root;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::super::copy;
use super::super::path::{FOLDER_FLAGS, clean, split};
use super::{EntryProblem, LayerError, Unpacked, Unpacker, WhiteoutStyle, starts_with_path, times};

/// Links of the layers below that are followed one after the other.
const MAX_LINKS: usize = 16;

impl Unpacker<'_> {
    pub(super) fn finish(mut self) -> Result<Unpacked, LayerError> {
        self.make_late_links()?;
        self.settle_implied()?;
        for (path, mtime) in &self.folder_times {
            let path_or_dot = if path.is_empty() { &b"."[..] } else { path };
            match resolve_in_root(self.root, path_or_dot, FOLDER_FLAGS, Mode::empty()) {
                Ok(fd) => rustix::fs::futimens(&fd, &times(*mtime))
                    .map_err(|errno| LayerError::errno("set times of", path, errno))?,
                // A later entry has put something else there.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(LayerError::errno("open", path, errno)),
            }
        }
        Ok(self.done)
    }

    fn lower(&mut self) -> Result<Option<Rc<OwnedFd>>, LayerError> {
        if let Some(lower) = &self.lower {
            return Ok(lower.clone());
        }
        let lower = (self.open_lower)()?.map(Rc::new);
        self.lower = Some(lower.clone());
        Ok(lower)
    }

    fn make_late_links(&mut self) -> Result<(), LayerError> {
        for (path, target) in std::mem::take(&mut self.late_links) {
            let (folder_path, name) = split(&path);
            let folder = self.folder(folder_path)?;
            if rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                // A later entry has put something else there.
                continue;
            }
            if self.link(&folder, &path, name, &target)? {
                continue;
            }
            self.copy_up(&target, &path)?;
            if !self.link(&folder, &path, name, &target)? {
                return Err(LayerError::entry(&path, EntryProblem::LinkTarget));
            }
        }
        Ok(())
    }

    /// Brings a file of the layers below into this one, so that it can be linked to.
    fn copy_up(&mut self, target: &[u8], path: &[u8]) -> Result<(), LayerError> {
        let missing = || LayerError::entry(path, EntryProblem::LinkTarget);
        let lower = self.lower()?.ok_or_else(missing)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let source = resolve_in_root(&lower, target, flags, Mode::empty()).map_err(|_| missing())?;
        let stat = rustix::fs::fstat(&source).map_err(|errno| LayerError::errno("stat", target, errno))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(missing());
        }
        let (folder_path, name) = split(target);
        let folder = self.folder(folder_path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.make(&folder, target, name, |fd, name| rustix::fs::openat(fd, name, flags, Mode::empty()))?;
        copy::copy_bytes(source.as_fd(), made.as_fd()).map_err(|e| LayerError::errno("copy", target, e))?;
        copy::copy_looks(source.as_fd(), made.as_fd(), &stat).map_err(|e| LayerError::errno("copy", target, e))?;
        self.done.size_bytes += u64::try_from(stat.st_size).unwrap_or_default();
        Ok(())
    }

    /// Folders that only their content implied must change nothing about what is below: neither its looks, nor that it is a link.
    fn settle_implied(&mut self) -> Result<(), LayerError> {
        if self.implied.is_empty() {
            return Ok(());
        }
        if self.style == WhiteoutStyle::Listed {
            let implied = std::mem::take(&mut self.implied);
            self.done.hidden.implied(&implied);
            return Ok(());
        }
        let Some(lower) = self.lower()? else { return Ok(()) };
        // Those above come first. Following a link may imply more, at the end of the list.
        let mut next = 0;
        while next < self.implied.len() {
            let path = self.implied[next].clone();
            if let Some(target) = link_target(&lower, &path) {
                self.move_folder(&path, &target)?;
            }
            next += 1;
        }
        // From the deepest up, since each one's times are set with its looks.
        for path in std::mem::take(&mut self.implied).iter().rev() {
            let below = resolve_in_root(&lower, &path[..], FOLDER_FLAGS, Mode::empty());
            let here = resolve_in_root(self.root, &path[..], FOLDER_FLAGS, Mode::empty());
            let (Ok(below), Ok(here)) = (below, here) else { continue };
            let stat = rustix::fs::fstat(&below).map_err(|errno| LayerError::errno("stat", path, errno))?;
            copy::copy_looks(below.as_fd(), here.as_fd(), &stat)
                .map_err(|errno| LayerError::errno("copy looks of", path, errno))?;
        }
        Ok(())
    }

    /// Moves what a layer has below `path`, a link to `target` in the layers below, to where that link leads.
    fn move_folder(&mut self, path: &[u8], target: &[u8]) -> Result<(), LayerError> {
        if target.is_empty() || starts_with_path(target, path) || starts_with_path(path, target) {
            return Ok(());
        }
        let failed = |errno| LayerError::errno("move", path, errno);
        let (above, name) = split(path);
        let above = self.folder(above)?;
        let (target_above, target_name) = split(target);
        let target_above = self.folder(target_above)?;
        match rustix::fs::renameat_with(&above, name, &target_above, target_name, RenameFlags::NOREPLACE) {
            Ok(()) => self.implied.push(target.to_vec()),
            Err(Errno::EXIST) if self.is_whiteout(&target_above, target_name) => return Ok(()),
            Err(Errno::EXIST) => {
                let from = rustix::fs::openat(&above, name, FOLDER_FLAGS, Mode::empty()).map_err(failed)?;
                let to = match rustix::fs::openat(&target_above, target_name, FOLDER_FLAGS, Mode::empty()) {
                    Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
                    opened => opened.map_err(failed)?,
                };
                merge(&from, &to).map_err(failed)?;
                super::remove_tree_at(above.as_fd(), name).map_err(failed)?;
            }
            Err(errno) => return Err(failed(errno)),
        }
        self.folders.clear();
        let moved = |old: &[u8]| [target, &old[path.len()..]].concat();
        for (old, _) in &mut self.folder_times {
            if starts_with_path(old, path) {
                *old = moved(old);
            }
        }
        for old in &mut self.implied {
            if starts_with_path(old, path) {
                *old = moved(old);
            }
        }
        Ok(())
    }
}

/// Returns where the layers below have a link to a folder at `path`, and it leads.
fn link_target(lower: &OwnedFd, path: &[u8]) -> Option<Vec<u8>> {
    let mut target = path.to_vec();
    for _ in 0..MAX_LINKS {
        let found = resolve_in_root(lower, &target[..], OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).ok()?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&found).ok()?.st_mode);
        if kind.is_dir() {
            return (target != path).then_some(target);
        }
        if !kind.is_symlink() {
            return None;
        }
        let link = rustix::fs::readlinkat(&found, "", Vec::new()).ok()?.into_bytes();
        let whole = if link.starts_with(b"/") { link } else { [split(&target).0, b"/", &link].concat() };
        target = clean(&whole, usize::MAX).ok()?;
    }
    None
}

/// Moves everything in one folder to another; what both have stays as it is in the other, folders merge.
fn merge(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let open = |folder| rustix::fs::openat(folder, name, FOLDER_FLAGS, Mode::empty());
                if let (Ok(from), Ok(to)) = (open(from), open(to)) {
                    merge(&from, &to)?;
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
