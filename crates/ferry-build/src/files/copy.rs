//! Copies between trees, by BuildKit's rules.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_dockerfile::ignore::Patterns;
use ferry_sys::tree::{Found, Looks, Walk};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::owner::Ids;
use super::place::{self, NewLooks, Plain, clean, is_dir, join, shown};
use super::{archive, mode, wildcard};
use crate::content::{ContentHasher, is_kept};
use crate::failure::{Doing, Failure, Result};
use crate::graph::{ArchiveHandling, CopyAction};
use crate::synced::Index;

/// Takes a large file as it is, in place of an empty one at a path, and tells whether it does; without a file it hears that what was there,
/// and everything below it, is gone. See [`CopyOrder::giving`].
pub(crate) type TakesFile<'a> = dyn Fn(&[u8], Option<BorrowedFd<'_>>) -> Result<bool> + 'a;

/// Bytes that are copied at once.
const PIECE: usize = 64 * 1024;

/// Files of so many bytes are given rather than copied, where that is possible.
const LARGE: u64 = 1 << 20;

/// A copy, with its owner looked up.
pub(crate) struct CopyOrder<'a> {
    action: &'a CopyAction,
    owner: Option<Ids>,
    takes: Option<&'a TakesFile<'a>>,
    include: Patterns,
    exclude: Patterns,
}

impl<'a> CopyOrder<'a> {
    pub(crate) fn new(action: &'a CopyAction, owner: Option<Ids>) -> Result<Self> {
        Ok(Self {
            action,
            owner,
            takes: None,
            include: patterns(&action.include_patterns)?,
            exclude: patterns(&action.exclude_patterns)?,
        })
    }

    /// The same, where large files are the builder's own and `takes` may have them.
    pub(crate) fn giving(self, takes: &'a TakesFile<'a>) -> Self {
        Self { takes: Some(takes), ..self }
    }

    /// Tells whether a path below the copied one is taken.
    fn takes(&self, below: &[u8]) -> bool {
        if self.include.is_empty() && self.exclude.is_empty() {
            return true;
        }
        let path = String::from_utf8_lossy(below);
        (self.include.is_empty() || self.include.matches(&path)) && !self.exclude.matches(&path)
    }

    /// The mode of directories that are made on the way: a mode in words is for what is copied alone.
    fn new_mode(&self) -> u32 {
        match self.action.mode {
            Some(mode) if self.action.mode_words.is_empty() => mode & 0o777,
            _ => 0o755,
        }
    }

    fn new_looks(&self) -> NewLooks {
        NewLooks { owner: self.owner, timestamp: self.action.timestamp }
    }
}

fn patterns(list: &[String]) -> Result<Patterns> {
    Patterns::new(list.iter().map(String::as_str)).map_err(|error| Failure::invalid(error.to_string()))
}

/// What one source path turned out to be.
struct Start {
    /// As it was asked for.
    asked: String,
    /// Where it is.
    at: Plain,
    is_dir: bool,
}

/// Finds what is copied.
fn starts(source: BorrowedFd<'_>, action: &CopyAction) -> Result<Vec<Start>> {
    let asked = match action.allow_wildcard {
        true => wildcard::resolve(source, &action.source)?,
        false => vec![clean(&action.source)],
    };
    let mut starts = Vec::new();
    for asked in asked {
        let at = place::plain(source, &asked, action.follow_symlink)?;
        let Some(stat) = place::stat_plain(source, &at)? else {
            return Err(Failure::invalid(format!("\"/{asked}\": not found")));
        };
        starts.push(Start { asked, at, is_dir: is_dir(&stat) });
    }
    if starts.is_empty() && !action.allow_empty_wildcard {
        return Err(Failure::invalid(format!("/{} not found", clean(&action.source))));
    }
    for path in &action.required_paths {
        let at = place::plain(source, &clean(path), true)?;
        if place::stat_plain(source, &at)?.is_none() {
            return Err(Failure::invalid(format!("\"/{}\": not found", clean(path))));
        }
    }
    Ok(starts)
}

/// The digest of what a copy takes, names included, times not; of what is known the files are not looked at. Blocks.
pub(crate) fn digest(source: BorrowedFd<'_>, index: Option<&Index>, action: &CopyAction) -> Result<String> {
    let order = CopyOrder::new(action, None)?;
    let mut hasher = ContentHasher::new();
    for start in starts(source, action)? {
        let name = start.asked.rsplit('/').next().unwrap_or_default();
        hasher.word(name.as_bytes());
        if let Some(index) = index {
            index.walk(&start.at, |below, known| {
                if order.takes(below) || below.is_empty() {
                    hasher.known(below, known);
                }
            });
            continue;
        }
        let mut failed = None;
        let mut visit = |mut found: Found| {
            if order.takes(&found.path) || found.path.is_empty() {
                let name = found.path.clone();
                if let Err(error) = hasher.entry(&name, &mut found) {
                    failed = Some(error);
                    return Err(std::io::ErrorKind::Other.into());
                }
            }
            Ok(())
        };
        let walked = walk(source, &start, &mut visit);
        if let Some(error) = failed {
            return Err(error).doing(format!("read {}", shown(&start.at)));
        }
        walked?;
    }
    Ok(hasher.finish())
}

/// Walks what is at a start; the start itself has the empty path.
fn walk(source: BorrowedFd<'_>, start: &Start, visit: &mut dyn FnMut(Found) -> std::io::Result<()>) -> Result<()> {
    let mut walk = Walk::new(is_kept, visit);
    let doing = || format!("read {}", shown(&start.at));
    if start.is_dir {
        let folder = place::open_plain(source, &start.at, OFlags::RDONLY | OFlags::DIRECTORY).doing(doing())?;
        walk.alone(folder.as_fd(), b".", b"").doing(doing())?;
        return walk.children(folder.as_fd(), b"").doing(doing());
    }
    let (above, name) = place::open_above(source, &start.at)?;
    walk.alone(above.as_fd(), name, b"").map(drop).doing(doing())
}

/// Copies from one tree to another. Blocks.
pub(crate) fn copy(source: BorrowedFd<'_>, target: BorrowedFd<'_>, order: &CopyOrder<'_>) -> Result<()> {
    let action = order.action;
    if !action.create_target_path {
        let path = place::plain(target, &clean(&action.target), true)?;
        let (above, _) = place::split(&path);
        if place::stat_plain(target, above)?.is_none() {
            return Err(Failure::invalid(format!("failed to stat {}: no such file or directory", action.target)));
        }
    }
    for start in starts(source, action)? {
        if action.archives == ArchiveHandling::TryUnpack
            && !start.is_dir
            && archive::unpack_file(source, &start.at, target, &action.target, order.owner, order.new_looks())?
        {
            continue;
        }
        copy_one(source, target, &start, order)?;
    }
    Ok(())
}

fn copy_one(source: BorrowedFd<'_>, target: BorrowedFd<'_>, start: &Start, order: &CopyOrder<'_>) -> Result<()> {
    let (to, made_dirs) = destination(target, start, order)?;
    let mut copier = Copier {
        order,
        target,
        top: to,
        top_is_dir: start.is_dir,
        linked: HashMap::new(),
        waiting: Vec::new(),
        dressed_last: Vec::new(),
        top_looks: None,
        made_dirs,
        buffer: Vec::new(),
        failure: None,
    };
    let walked = walk(source, start, &mut |found| {
        copier.take(found).map_err(|failure| {
            copier.failure = Some(failure);
            std::io::ErrorKind::Other.into()
        })
    });
    if let Some(failure) = copier.failure {
        return Err(failure);
    }
    walked?;
    copier.finish()
}

/// Where a start goes, with the directories on the way made; and those.
fn destination(target: BorrowedFd<'_>, start: &Start, order: &CopyOrder<'_>) -> Result<(Plain, Vec<Plain>)> {
    let action = order.action;
    let mut made_dirs = Vec::new();
    let asked = action.target.as_str();
    let last = asked.rsplit('/').next().unwrap_or_default();
    let whole = place::plain(target, &clean(asked), true)?;
    let ensured = if matches!(last, "" | ".") { whole.clone() } else { place::split(&whole).0.to_vec() };
    if ensured == whole && order.action.replace_existing {
        // Made below, where what is in the way may be replaced.
    } else {
        made_dirs.extend(place::make_dirs(target, &ensured, order.new_mode(), order.new_looks())?);
    }
    let there = place::stat_plain(target, &whole)?;
    let there_is_dir = there.as_ref().is_some_and(is_dir);
    let inside = match start.is_dir {
        true => !action.copy_dir_contents && there.is_some(),
        false => there_is_dir || (matches!(last, "" | ".") && there.is_none()),
    };
    let name = start.asked.rsplit('/').next().unwrap_or_default();
    let to = if inside { join(&whole, name.as_bytes()) } else { whole };
    let made = if action.copy_dir_contents && start.is_dir && there.is_none() {
        to.clone()
    } else {
        place::split(&to).0.to_vec()
    };
    made_dirs.extend(place::make_dirs(target, &made, order.new_mode(), order.new_looks())?);
    Ok((to, made_dirs))
}

struct Copier<'a> {
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
    failure: Option<Failure>,
}

impl Copier<'_> {
    fn take(&mut self, found: Found) -> Result<()> {
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

    fn finish(mut self) -> Result<()> {
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

pub(crate) fn lies_in(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    struct Trees(tempfile::TempDir);

    impl Trees {
        fn new(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["source", "target"] {
                std::fs::create_dir(dir.path().join(name)).unwrap();
            }
            for file in files {
                let path = dir.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, file).unwrap();
            }
            Self(dir)
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn run(&self, action: &CopyAction) -> Result<()> {
            let source = File::open(self.path("source")).unwrap();
            let target = File::open(self.path("target")).unwrap();
            copy(source.as_fd(), target.as_fd(), &CopyOrder::new(action, None)?)
        }

        fn digest(&self, action: &CopyAction) -> String {
            digest(File::open(self.path("source")).unwrap().as_fd(), None, action).unwrap()
        }

        fn result(&self) -> Vec<String> {
            let mut found = Vec::new();
            list(&self.path("target"), "", &mut found);
            found
        }
    }

    fn list(folder: &Path, below: &str, found: &mut Vec<String>) {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
        names.sort_by_key(std::fs::DirEntry::file_name);
        for entry in names {
            let path = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                found.push(format!("{path}/"));
                list(&entry.path(), &format!("{path}/"), found);
            } else {
                found.push(path);
            }
        }
    }

    fn order(source: &str, target: &str) -> CopyAction {
        CopyAction {
            source: source.to_owned(),
            target: target.to_owned(),
            follow_symlink: true,
            copy_dir_contents: true,
            create_target_path: true,
            allow_wildcard: true,
            allow_empty_wildcard: true,
            ..CopyAction::default()
        }
    }

    #[test]
    fn copies_go_where_buildkit_puts_them() {
        for (source, target, expected) in [
            ("a.txt", "/b.txt", &["b.txt"][..]),
            ("a.txt", "/d/", &["d/", "d/a.txt"]),
            ("a.txt", "/d/.", &["d/", "d/a.txt"]),
            ("dir", "/d", &["d/", "d/one", "d/sub/", "d/sub/two"]),
            ("dir/", "/d/e/", &["d/", "d/e/", "d/e/one", "d/e/sub/", "d/e/sub/two"]),
            ("*.txt", "/", &["a.txt"]),
            ("none*", "/", &[]),
            ("dir/sub/two", "new/place", &["new/", "new/place"]),
        ] {
            let trees = Trees::new(&["source/a.txt", "source/dir/one", "source/dir/sub/two"]);
            trees.run(&order(source, target)).unwrap();
            assert_eq!(trees.result(), expected, "{source} {target}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let trees = Trees::new(&[]);
        assert_eq!(trees.run(&order("none", "/")).unwrap_err().message, "\"/none\": not found");
    }

    #[test]
    fn patterns_choose() {
        let trees = Trees::new(&["source/a/x.md", "source/a/y.c", "source/b/z.md", "source/top.md"]);
        let action = CopyAction { exclude_patterns: vec!["**/*.md".to_owned()], ..order("/", "/") };
        trees.run(&action).unwrap();
        assert_eq!(trees.result(), ["a/", "a/y.c", "b/"]);
        let trees = Trees::new(&["source/a/x.md", "source/a/y.c", "source/b/z.md", "source/top.md"]);
        let action = CopyAction { include_patterns: vec!["a/x.md".to_owned()], ..order("/", "/") };
        trees.run(&action).unwrap();
        assert_eq!(trees.result(), ["a/", "a/x.md"]);
    }

    #[test]
    fn links_stay_inside() {
        let trees = Trees::new(&["source/in", "outside"]);
        std::os::unix::fs::symlink("../../outside", trees.path("source/out")).unwrap();
        std::os::unix::fs::symlink("/in", trees.path("source/link")).unwrap();
        std::os::unix::fs::symlink(trees.path("outside"), trees.path("target/in")).unwrap();
        trees.run(&order("link", "/copied")).unwrap();
        assert_eq!(std::fs::read_to_string(trees.path("target/copied")).unwrap(), "source/in");
        assert!(trees.run(&order("out", "/x")).is_err(), "there is no such file inside");
        trees.run(&order("in", "/in")).unwrap();
        assert_eq!(std::fs::read_to_string(trees.path("outside")).unwrap(), "outside");
    }

    #[test]
    fn digests_know_content_and_not_times() {
        let trees = Trees::new(&["source/a", "source/b"]);
        let before = trees.digest(&order("a", "/"));
        File::open(trees.path("source/a")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        std::fs::write(trees.path("source/b"), "changed").unwrap();
        assert_eq!(trees.digest(&order("a", "/")), before);
        std::fs::write(trees.path("source/a"), "changed").unwrap();
        assert_ne!(trees.digest(&order("a", "/")), before);
    }
}
