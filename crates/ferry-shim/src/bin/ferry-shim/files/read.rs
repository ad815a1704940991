//! Files on their way out.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ferry_shim::files::{PathStat, Reply};
use ferry_spec::path::base;
use ferry_sys::path::resolve_in_view;
use ferry_sys::tree::{Found, Walk};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Sockets;
use super::answer::{Answer, Failure, cause};
use super::paths::with_ending;
use super::tar::Archive;

/// Links followed by hand before it counts as a loop, as Docker does.
const MAX_LINKS: usize = 255;

/// Opens the view's root.
pub(crate) fn root() -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty()).map_err(|errno| Failure::call("open", "/", errno))
}

/// Says what a path is.
pub(crate) fn stat(path: &str, sockets: &Sockets) -> Answer {
    let (_, found) = look(&root()?, path)?;
    sockets.tell(&Reply::Stat(found));
    Ok(())
}

/// Looks at a path without following its end, and says what it is.
fn look(root: &OwnedFd, path: &str) -> Result<(OwnedFd, PathStat), Failure> {
    // The order names places below the root, be it with a slash or without.
    let inside = if path.is_empty() { "." } else { path };
    let missing = |errno| Failure::call("lstat", path, errno);
    let fd = resolve_in_view(root, inside, OFlags::PATH | OFlags::NOFOLLOW).map_err(missing)?;
    let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH).map_err(missing)?;
    let link_target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => follow(root, path),
        _ => String::new(),
    };
    let found = PathStat {
        name: base(path).to_owned(),
        size: stat.st_size,
        mode: stat.st_mode,
        mtime: mtime(&stat),
        link_target,
    };
    Ok((fd, found))
}

fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// Where a path leads when every link on it is followed, as far as there is something: for the client to see, nothing is opened by it.
fn follow(root: &OwnedFd, path: &str) -> String {
    let mut rest: Vec<String> = parts(path);
    let mut way: Vec<String> = Vec::new();
    let mut followed = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            way.pop();
            continue;
        }
        way.push(part);
        let here = format!("/{}", way.join("/"));
        let link = resolve_in_view(root, here.as_str(), OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|fd| rustix::fs::readlinkat(&fd, "", Vec::new()));
        let Ok(target) = link else { continue };
        followed += 1;
        if followed > MAX_LINKS {
            break;
        }
        let target = target.to_string_lossy().into_owned();
        way.pop();
        if target.starts_with('/') {
            way.clear();
        }
        rest.extend(parts(&target));
    }
    format!("/{}", way.join("/"))
}

/// The parts of a path, the last first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect()
}

/// Writes an archive of a path.
pub(crate) fn archive(path: &str, sockets: &Sockets) -> Answer {
    let path = with_ending(path);
    let root = root()?;
    let (fd, found) = look(&root, &path)?;
    let is_folder = FileType::from_raw_mode(found.mode).is_dir();
    let name = match base(&path) {
        "/" => "",
        name => name,
    };
    // Opened by the same descriptor that was looked at.
    let (folder, entry) = if is_folder {
        (fd, ".")
    } else {
        let above = path.trim_end_matches('/').rsplit_once('/').map_or("/", |(above, _)| above);
        let above = if above.is_empty() { "/" } else { above };
        let folder = resolve_in_view(&root, above, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|errno| Failure::call("lstat", &path, errno))?;
        (folder, name)
    };
    sockets.tell(&Reply::Stat(found));
    // The names of the root itself begin with a slash.
    let prefix: &[u8] = if is_folder && name.is_empty() { b"/" } else { b"" };
    let mut archive = Archive::new(&sockets.data)?;
    let mut visit = |mut found: Found| {
        let name = [prefix, &found.path[..]].concat();
        if let Some(first) = &mut found.same_as {
            first.splice(0..0, prefix.iter().copied());
        }
        archive.add(found, name)
    };
    Walk::new(is_capability, &mut visit).tree(folder.as_fd(), entry.as_bytes(), name.as_bytes()).map_err(failed)?;
    Ok(archive.finish()?)
}

/// Writes an archive of everything, and of the root `itself` where that is asked for.
pub(crate) fn export(itself: bool, sockets: &Sockets) -> Answer {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).map_err(|errno| Failure::call("open", "/", errno))?;
    let mut archive = Archive::new(&sockets.data)?;
    let mut visit = |found: Found| {
        let name = if found.path.is_empty() { b".".to_vec() } else { found.path.clone() };
        archive.add(found, name)
    };
    let mut walk = Walk::new(is_capability, &mut visit);
    match itself {
        true => walk.tree(root.as_fd(), b".", b""),
        false => walk.children(root.as_fd(), b""),
    }
    .map_err(failed)?;
    Ok(archive.finish()?)
}

/// As Docker's archives.
fn is_capability(name: &[u8]) -> bool {
    name == b"security.capability"
}

fn failed(error: io::Error) -> Failure {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE) => Failure::internal("the folders are nested too deeply"),
        _ => Failure::internal(cause(&error)),
    }
}
