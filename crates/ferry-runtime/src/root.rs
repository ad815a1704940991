//! One way to touch a container's files: relative to the descriptor of its root, which symbolic links cannot leave.
//!
//! Everything below the root is hostile: it may have been made by the image, and other processes may change it under our hands. No path
//! is checked first and used later; what was opened is used by its descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// Symbolic links followed before a path counts as a loop, as in the kernel.
const MAX_LINKS: u32 = 40;

/// How symbolic links on the way are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Followed, inside the root.
    Follow,
    /// Refused with ELOOP.
    Refuse,
}

/// The root of a container, by its descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root<'a> {
    fd: BorrowedFd<'a>,
}

impl<'a> Root<'a> {
    pub(crate) fn new(fd: &'a impl AsFd) -> Root<'a> {
        Root { fd: fd.as_fd() }
    }

    /// Opens a path.
    pub(crate) fn open(&self, path: &str, flags: OFlags, links: Links) -> Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if links == Links::Refuse {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let path = if path.is_empty() { "." } else { path };
        // A rename somewhere on the way makes the kernel give up with EAGAIN; a racer cannot keep that up for long.
        for _ in 0..128 {
            match openat2(self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens a path as a mere location.
    pub(crate) fn locate(&self, path: &str, links: Links) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH, links)
    }

    /// Returns the directory at that path as a location, made with its parents where missing.
    pub(crate) fn make_directory(&self, path: &str, mode: u32, links: Links) -> Result<OwnedFd, Errno> {
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY, links) {
            Err(Errno::NOENT) => self.walk(path, mode, links),
            other => other,
        }
    }

    /// Returns the file at that path as a location; an empty one is made, with its parents, where there is nothing.
    pub(crate) fn make_file(&self, path: &str, mode: u32, links: Links) -> Result<OwnedFd, Errno> {
        match self.locate(path, links) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (parent, name) = split(path)?;
        let parent = self.make_directory(parent, 0o755, links)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&parent, name, flags, Mode::from_raw_mode(mode)) {
            Ok(file) => Ok(file),
            // Somebody was quicker, or it is a link to nowhere.
            Err(Errno::EXIST) => self.locate(path, links),
            Err(error) => Err(error),
        }
    }

    /// Walks a path whose end is missing, following links inside the root by hand, and makes what is missing.
    fn walk(&self, path: &str, mode: u32, links: Links) -> Result<OwnedFd, Errno> {
        let mut rest: Vec<String> = components(path);
        let mut stack = vec![rustix::io::fcntl_dupfd_cloexec(self.fd, 3)?];
        let mut followed = 0;
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        while let Some(name) = rest.pop() {
            if name == ".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let here = stack.last().expect("the root is never popped");
            match openat(here, name.as_str(), directory, Mode::empty()) {
                Ok(next) => stack.push(next),
                Err(Errno::NOENT) => {
                    match mkdirat(here, name.as_str(), Mode::from_raw_mode(mode)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error),
                    }
                    stack.push(openat(here, name.as_str(), directory, Mode::empty())?);
                }
                Err(error @ (Errno::LOOP | Errno::NOTDIR)) => {
                    let target = readlinkat(here, name.as_str(), Vec::new()).map_err(|_| error)?;
                    followed += 1;
                    if links == Links::Refuse || followed > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = target.into_string().map_err(|_| Errno::ILSEQ)?;
                    if target.starts_with('/') {
                        stack.truncate(1);
                    }
                    rest.extend(components(&target));
                }
                Err(error) => return Err(error),
            }
        }
        stack.pop().ok_or(Errno::NOENT)
    }
}

/// The parts of a path, last first.
fn components(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|part| !part.is_empty() && *part != ".").map(String::from).collect()
}

/// Parent and last name of a path.
pub(crate) fn split(path: &str) -> Result<(&str, &str), Errno> {
    let path = path.trim_end_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() || name == "." || name == ".." { Err(Errno::INVAL) } else { Ok((parent, name)) }
}

/// Whether what `fd` names is a directory.
pub(crate) fn is_directory(fd: impl AsFd) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Whether what `fd` names lies in a procfs.
pub(crate) fn is_in_proc(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == libc::PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Fixture {
        directory: std::path::PathBuf,
    }

    impl Fixture {
        fn new(name: &str) -> Fixture {
            let directory = std::env::temp_dir().join(format!("ferry-root-{name}-{}", std::process::id()));
            std::fs::create_dir_all(directory.join("root")).unwrap();
            std::fs::create_dir_all(directory.join("outside")).unwrap();
            Fixture { directory }
        }

        fn root(&self) -> OwnedFd {
            openat(rustix::fs::CWD, self.directory.join("root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.directory).unwrap();
        }
    }

    #[test]
    fn missing_directories_are_made_inside_only() {
        let fixture = Fixture::new("make");
        let outside = fixture.directory.join("outside");
        symlink(&outside, fixture.directory.join("root/absolute")).unwrap();
        symlink("../../../outside", fixture.directory.join("root/upward")).unwrap();
        let fd = fixture.root();
        let root = Root::new(&fd);
        root.make_directory("/a/b/c", 0o755, Links::Follow).unwrap();
        root.make_directory("absolute/x", 0o755, Links::Follow).unwrap();
        root.make_directory("upward/y", 0o755, Links::Follow).unwrap();
        root.make_directory("../../z", 0o755, Links::Follow).unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(fixture.directory.join("root/a/b/c").is_dir() && fixture.directory.join("root/z").is_dir());
        assert!(fixture.directory.join("root/outside/y").is_dir());
    }

    #[test]
    fn links_are_refused_when_asked() {
        let fixture = Fixture::new("refuse");
        symlink("elsewhere", fixture.directory.join("root/dev")).unwrap();
        let fd = fixture.root();
        let root = Root::new(&fd);
        assert_eq!(root.make_directory("/dev", 0o755, Links::Refuse).unwrap_err(), Errno::LOOP);
        assert_eq!(root.make_directory("/dev/pts", 0o755, Links::Refuse).unwrap_err(), Errno::LOOP);
        assert!(!fixture.directory.join("root/elsewhere").exists());
        root.make_directory("/dev/pts", 0o755, Links::Follow).unwrap();
        assert!(fixture.directory.join("root/elsewhere/pts").is_dir());
    }

    #[test]
    fn loops_end() {
        let fixture = Fixture::new("loop");
        symlink("b", fixture.directory.join("root/a")).unwrap();
        symlink("a", fixture.directory.join("root/b")).unwrap();
        let fd = fixture.root();
        assert_eq!(Root::new(&fd).make_directory("a/x", 0o755, Links::Follow).unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn files_are_made_with_their_parents() {
        let fixture = Fixture::new("file");
        let fd = fixture.root();
        let root = Root::new(&fd);
        root.make_file("/etc/hosts", 0o644, Links::Follow).unwrap();
        root.make_file("/etc/hosts", 0o644, Links::Follow).unwrap();
        assert!(fixture.directory.join("root/etc/hosts").is_file());
        assert!(!is_directory(root.locate("etc/hosts", Links::Follow).unwrap()).unwrap());
        assert_eq!(split("/"), Err(Errno::INVAL));
    }
}
