//! Paths in a tree: cleaned, made plain, opened.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::path::resolve_in_root;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::owner::Ids;
use crate::failure::{Doing, Failure, Result};

/// Links followed before a path counts as a loop.
const MAX_LINKS: usize = 255;

/// A path as bytes, relative to the root, without links, dots and double slashes; the root is empty.
pub(crate) type Plain = Vec<u8>;

/// Cleans a path as Go's `filepath.Join("/", path)` does, without the slash in front.
pub(crate) fn clean(path: &str) -> String {
    let mut cleaned = ferry_spec::path::clean_rooted(path);
    cleaned.remove(0);
    cleaned
}

/// A path for messages.
pub(crate) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// Follows the links of a path inside of the root; parts that are not there are taken as they are. `last` says whether the last is followed.
pub(crate) fn plain(root: BorrowedFd<'_>, path: &str, last: bool) -> Result<Plain> {
    let mut rest: Vec<Vec<u8>> = parts(path.as_bytes());
    let mut way: Vec<Vec<u8>> = Vec::new();
    let mut followed = 0;
    while let Some(name) = rest.pop() {
        if name == b".." {
            way.pop();
            continue;
        }
        way.push(name);
        if rest.is_empty() && !last {
            break;
        }
        let here = way.join(&b'/');
        let Some(link) = link_at(root, &here).doing(format!("readlink {}", shown(&here)))? else { continue };
        followed += 1;
        if followed > MAX_LINKS {
            return Err(Failure::invalid(format!("{}: too many links", shown(path.as_bytes()))));
        }
        way.pop();
        if link.starts_with(b"/") {
            way.clear();
        }
        rest.extend(parts(&link));
    }
    Ok(way.join(&b'/'))
}

fn link_at(root: BorrowedFd<'_>, path: &[u8]) -> std::result::Result<Option<Vec<u8>>, Errno> {
    match open_plain(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(fd) => {
            let stat = rustix::fs::fstat(&fd)?;
            if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
                return Ok(None);
            }
            Ok(Some(rustix::fs::readlinkat(&fd, "", Vec::new())?.into_bytes()))
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The parts of a path, the last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let named = |part: &&[u8]| !matches!(*part, b"" | b".");
    path.split(|byte| *byte == b'/').rev().filter(named).map(<[u8]>::to_vec).collect()
}

/// Opens a plain path; a link on the way is an error.
pub(crate) fn open_plain(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // Naming a link itself is fine where it is asked for.
    let resolve = if flags.contains(OFlags::PATH | OFlags::NOFOLLOW) {
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
    } else {
        resolve
    };
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Opens a tree's root to be read.
pub(crate) fn open_folder(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    open_plain(root, b"", OFlags::RDONLY | OFlags::DIRECTORY).doing("cannot open a tree")
}

/// What is at a plain path; `None` for nothing.
pub(crate) fn stat_plain(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<Stat>> {
    match open_plain(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(fd) => Ok(Some(rustix::fs::fstat(&fd).doing(format!("stat {}", shown(path)))?)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).doing(format!("stat {}", shown(path))),
    }
}

/// The directory of a plain path, and the name in it.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Opens the directory that a plain path lies in.
pub(crate) fn open_above<'a>(root: BorrowedFd<'_>, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8])> {
    let (above, name) = split(path);
    let fd = open_plain(root, above, OFlags::PATH | OFlags::DIRECTORY).doing(format!("open {}", shown(above)))?;
    Ok((fd, name))
}

/// Joins plain paths.
pub(crate) fn join(above: &[u8], below: &[u8]) -> Plain {
    match (above, below) {
        (_, b"") => above.to_vec(),
        (b"", _) => below.to_vec(),
        _ => [above, b"/", below].concat(),
    }
}

/// Tells whether a stat is a directory's.
pub(crate) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

/// How new directories on a way look.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NewLooks {
    /// Whose they are; `None` is root.
    pub(crate) owner: Option<Ids>,
    /// Their time, nanoseconds.
    pub(crate) timestamp: Option<i64>,
}

/// Makes the directories of a plain path that are not there; returns those.
pub(crate) fn make_dirs(root: BorrowedFd<'_>, path: &[u8], mode: u32, looks: NewLooks) -> Result<Vec<Plain>> {
    let mut here = Vec::new();
    let mut all_made = Vec::new();
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        here = join(&here, part);
        if let Some(stat) = stat_plain(root, &here)? {
            if !is_dir(&stat) {
                return Err(Failure::invalid(format!("mkdir {}: not a directory", shown(&here))));
            }
            continue;
        }
        let (above, name) = open_above(root, &here)?;
        rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(mode & 0o777))
            .doing(format!("mkdir {}", shown(&here)))?;
        let made =
            open_plain(root, &here, OFlags::RDONLY | OFlags::DIRECTORY).doing(format!("open {}", shown(&here)))?;
        dress_new(&made, mode, looks).doing(format!("mkdir {}", shown(&here)))?;
        all_made.push(here.clone());
    }
    Ok(all_made)
}

/// Owner, mode and time of something new that is open.
pub(crate) fn dress_new(fd: impl AsFd, mode: u32, looks: NewLooks) -> rustix::io::Result<()> {
    let ids = looks.owner.unwrap_or_default();
    rustix::fs::fchown(&fd, Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777))?;
    match looks.timestamp {
        Some(time) => rustix::fs::futimens(&fd, &times_of_ns(time)),
        None => Ok(()),
    }
}

/// Both times at a moment.
pub(crate) fn times_of_ns(time_ns: i64) -> Timestamps {
    let time = Timespec { tv_sec: time_ns.div_euclid(1_000_000_000), tv_nsec: time_ns.rem_euclid(1_000_000_000) };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes whatever is at a name, never following a link.
pub(crate) fn remove_at(folder: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&inner)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove_at(inner.as_fd(), entry.file_name().to_bytes())?;
        }
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

/// Reads a regular file of a tree, links followed inside of it; `None` when there is none.
pub(crate) fn read_file(root: BorrowedFd<'_>, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match resolve_in_root(root, path, flags, Mode::empty()) {
        Ok(fd) => std::fs::File::from(fd),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(errno).doing(format!("open {path}")),
    };
    let metadata = file.metadata().doing(format!("stat {path}"))?;
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.len() > limit {
        return Err(Failure::invalid(format!("{path} is larger than {limit} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).doing(format!("read {path}"))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_are_cleaned_like_go() {
        for (path, expected) in [("", ""), ("/", ""), ("a/../b", "b"), ("../../x", "x"), ("./a//b/.", "a/b")] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn links_are_followed_inside_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink("/a", dir.path().join("absolute")).unwrap();
        symlink("../../../a/b", dir.path().join("a/up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let follow =
            |path: &str, last: bool| plain(root.as_fd(), path, last).map(|path| String::from_utf8(path).unwrap());
        assert_eq!(follow("absolute/b/new", true).unwrap(), "a/b/new");
        assert_eq!(follow("a/up", true).unwrap(), "a/b");
        assert_eq!(follow("a/up", false).unwrap(), "a/up");
        assert_eq!(follow("../../etc/passwd", true).unwrap(), "etc/passwd");
        assert!(follow("loop", true).is_err());
    }
}
