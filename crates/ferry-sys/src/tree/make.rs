//! Making a tree.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::Looks;
use crate::path::{make_folders, resolve_in_view};

/// Whose new entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The calling process's.
    Caller,
    /// As the entry says.
    AsGiven,
    /// This user's and group's.
    Only(u32, u32),
}

/// How entries are made.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whose they are.
    pub owner: Owner,
    /// A folder may take the place of something else, and something else that of a folder with all that is in it.
    pub replaces_kinds: bool,
    /// The root in messages.
    pub label: String,
}

/// Why an entry cannot be made. The texts are those of Docker's archives.
#[derive(Debug, Error)]
pub enum MakeError {
    /// `..` leads out of the root.
    #[error("invalid entry name {0:?}")]
    Escapes(String),
    /// So does the target of a hard link.
    #[error("invalid hardlink target {0:?}")]
    LinkEscapes(String),
    /// A folder would be replaced.
    #[error("cannot overwrite directory {name:?} with non-directory {label:?}")]
    FolderInTheWay {
        /// The entry.
        name: String,
        /// The root.
        label: String,
    },
    /// A folder would replace something else.
    #[error("cannot overwrite non-directory {name:?} with directory {label:?}")]
    OtherInTheWay {
        /// The entry.
        name: String,
        /// The root.
        label: String,
    },
    /// A call to the kernel failed.
    #[error("{action} {name}: {}", crate::tree::make::cause(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The entry.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

impl MakeError {
    fn io(action: &'static str, name: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { action, name: shown(name), source: source.into() }
    }
}

/// The kernel's words without the number that Rust adds.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = plain.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Makes entries below a root.
///
/// The calling process should have no umask: modes are as asked for.
#[derive(Debug)]
pub struct Maker<'a> {
    root: BorrowedFd<'a>,
    rules: Rules,
    /// Set last, since making entries changes them.
    folder_times: Vec<(Vec<u8>, (i64, u32))>,
    /// How the root is to look at last.
    root_looks: Option<Looks>,
}

/// Cleans the name of an entry: relative, without empty, `.` and `..` parts; the root itself is empty. `None` when it leads out.
pub fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// A folder to work in, and the entry's name in it.
struct Place {
    folder: OwnedFd,
    name: Vec<u8>,
}

impl<'a> Maker<'a> {
    /// Makes entries below `root`, a folder.
    pub fn new(root: BorrowedFd<'a>, rules: Rules) -> Self {
        Self { root, rules, folder_times: Vec::new(), root_looks: None }
    }

    /// Says how the root itself is to look; that is seen to when all else has been made.
    pub fn root(&mut self, looks: Looks) {
        self.root_looks = Some(looks);
    }

    /// Makes a folder, or gives one that is there new looks.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn folder(&mut self, path: &[u8], looks: &Looks) -> Result<(), MakeError> {
        let Some(place) = self.place(path)? else { return Ok(()) };
        if !self.clear(&place, path, true)? {
            rustix::fs::mkdirat(&place.folder, &place.name[..], Mode::from_raw_mode(looks.mode & 0o777))
                .map_err(|errno| MakeError::io("mkdirat", path, errno))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&place.folder, &place.name[..], flags, Mode::empty())
            .map_err(|errno| MakeError::io("openat", path, errno))?;
        self.dress(&fd, path, looks)?;
        self.folder_times.push((path.to_vec(), looks.mtime));
        Ok(())
    }

    /// Makes a regular file, which `fill` writes.
    ///
    /// # Errors
    /// [`MakeError`], and what `fill` answers.
    pub fn file<E: From<MakeError>>(
        &mut self,
        path: &[u8],
        looks: &Looks,
        fill: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(place) = self.place(path)? else { return Err(MakeError::io("openat", path, Errno::ISDIR).into()) };
        self.clear(&place, path, false)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&place.folder, &place.name[..], flags, Mode::from_raw_mode(looks.mode & 0o777))
            .map_err(|errno| MakeError::io("openat", path, errno))?;
        let mut file = File::from(fd);
        fill(&mut file)?;
        let fd = OwnedFd::from(file);
        self.dress(&fd, path, looks)?;
        let set = rustix::fs::futimens(&fd, &times(looks.mtime));
        Ok(set.map_err(|errno| MakeError::io("futimens", path, errno))?)
    }

    /// Makes a symbolic link; its target is taken as it is.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn symlink(&mut self, path: &[u8], target: &[u8], looks: &Looks) -> Result<(), MakeError> {
        let Some(place) = self.place(path)? else { return Err(MakeError::io("symlinkat", path, Errno::EXIST)) };
        self.clear(&place, path, false)?;
        rustix::fs::symlinkat(target, &place.folder, &place.name[..])
            .map_err(|errno| MakeError::io("symlinkat", path, errno))?;
        self.dress_name(&place, path, looks)
    }

    /// Makes a device or a named pipe.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn node(
        &mut self,
        path: &[u8],
        kind: FileType,
        (major, minor): (u32, u32),
        looks: &Looks,
    ) -> Result<(), MakeError> {
        let Some(place) = self.place(path)? else { return Err(MakeError::io("mknodat", path, Errno::EXIST)) };
        self.clear(&place, path, false)?;
        let mode = Mode::from_raw_mode(looks.mode & 0o7777);
        rustix::fs::mknodat(&place.folder, &place.name[..], kind, mode, rustix::fs::makedev(major, minor))
            .map_err(|errno| MakeError::io("mknodat", path, errno))?;
        self.dress_name(&place, path, looks)
    }

    /// Gives a file below the root another name.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), MakeError> {
        let escapes = || MakeError::LinkEscapes(shown(target));
        let target = clean(target).filter(|target| !target.is_empty()).ok_or_else(escapes)?;
        let Some(place) = self.place(path)? else { return Err(MakeError::io("linkat", path, Errno::EXIST)) };
        if target == path {
            return Ok(());
        }
        let (above, name) = split(&target);
        let above = if above.is_empty() { b"." } else { above };
        let folder = resolve_in_view(self.root, above, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|errno| MakeError::io("linkat", path, errno))?;
        self.clear(&place, path, false)?;
        rustix::fs::linkat(&folder, name, &place.folder, &place.name[..], AtFlags::empty())
            .map_err(|errno| MakeError::io("linkat", path, errno))
    }

    /// Sets what had to wait.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn finish(self) -> Result<(), MakeError> {
        for (path, mtime) in &self.folder_times {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            match resolve_in_view(self.root, &path[..], flags) {
                Ok(fd) => {
                    rustix::fs::futimens(&fd, &times(*mtime)).map_err(|errno| MakeError::io("futimens", path, errno))?
                }
                // A later entry, or somebody else, has put something else there.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(MakeError::io("openat", path, errno)),
            }
        }
        let Some(looks) = &self.root_looks else { return Ok(()) };
        let root = self.root.try_clone_to_owned().map_err(|error| MakeError::io("dup", b".", error))?;
        self.dress(&root, b".", looks)?;
        rustix::fs::futimens(&root, &times(looks.mtime)).map_err(|errno| MakeError::io("futimens", b".", errno))
    }

    /// The folder of a clean path, made where it is missing, and the name in it; `None` for the root.
    fn place(&self, path: &[u8]) -> Result<Option<Place>, MakeError> {
        if path.is_empty() {
            return Ok(None);
        }
        let (above, name) = split(path);
        let folder = make_folders(self.root, above, |made| match self.rules.owner {
            Owner::Caller => Ok(()),
            // As Docker: folders that only a name implies are root's.
            _ => rustix::fs::fchmod(made, Mode::from_raw_mode(0o755)),
        });
        let folder = folder.map_err(|errno| MakeError::io("mkdirat", above, errno))?;
        Ok(Some(Place { folder, name: name.to_vec() }))
    }

    /// Makes room for an entry; tells whether a folder is there already for one.
    fn clear(&self, place: &Place, path: &[u8], for_folder: bool) -> Result<bool, MakeError> {
        let there = match rustix::fs::statat(&place.folder, &place.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode).is_dir(),
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(MakeError::io("fstatat", path, errno)),
        };
        let (name, label) = (shown(path), self.rules.label.clone());
        match (there, for_folder) {
            (true, true) => return Ok(true),
            (true, false) if !self.rules.replaces_kinds => return Err(MakeError::FolderInTheWay { name, label }),
            (false, true) if !self.rules.replaces_kinds => return Err(MakeError::OtherInTheWay { name, label }),
            _ => {}
        }
        remove(place.folder.as_fd(), &place.name).map_err(|errno| MakeError::io("unlinkat", path, errno))?;
        Ok(false)
    }

    /// Owner first: a change of it clears set-id bits and capabilities.
    fn dress(&self, fd: &OwnedFd, path: &[u8], looks: &Looks) -> Result<(), MakeError> {
        if let Some((uid, gid)) = self.owner(looks) {
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(|errno| MakeError::io("lchown", path, errno))?;
        }
        for (name, value) in &looks.xattrs {
            match rustix::fs::fsetxattr(fd, &name[..], value, XattrFlags::empty()) {
                // As Docker: a file system, or a user, without attributes loses them.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(errno) => return Err(MakeError::io("setxattr", path, errno)),
            }
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(looks.mode & 0o7777))
            .map_err(|errno| MakeError::io("chmod", path, errno))
    }

    /// Owner and times of what cannot be opened.
    fn dress_name(&self, place: &Place, path: &[u8], looks: &Looks) -> Result<(), MakeError> {
        let name = &place.name[..];
        if let Some((uid, gid)) = self.owner(looks) {
            rustix::fs::chownat(&place.folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| MakeError::io("lchown", path, errno))?;
        }
        rustix::fs::utimensat(&place.folder, name, &times(looks.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| MakeError::io("utimensat", path, errno))
    }

    fn owner(&self, looks: &Looks) -> Option<(Uid, Gid)> {
        match self.rules.owner {
            Owner::Caller => None,
            // The one that chown takes for "leave as is" never reaches this.
            Owner::AsGiven => Some((Uid::from_raw(looks.uid), Gid::from_raw(looks.gid))),
            Owner::Only(uid, gid) => Some((Uid::from_raw(uid), Gid::from_raw(gid))),
        }
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes whatever has this name, a folder with all that is in it, never following a link.
fn remove(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove(inner.as_fd(), entry.file_name().to_bytes())?;
        }
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::{Path, PathBuf};

    use super::*;

    struct Fixture(PathBuf);

    impl Fixture {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("ferry-sys-make-{name}-{}", std::process::id()));
            std::fs::create_dir_all(folder.join("root")).expect("folder");
            std::fs::create_dir_all(folder.join("outside")).expect("folder");
            std::fs::write(folder.join("outside/canary"), "canary").expect("canary");
            Self(folder)
        }

        fn root(&self) -> File {
            File::open(self.0.join("root")).expect("root")
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join("root").join(name)
        }

        fn assert_outside_untouched(&self) {
            let names: Vec<_> = std::fs::read_dir(self.0.join("outside")).expect("list").collect();
            assert_eq!(names.len(), 1);
            let canary = self.0.join("outside/canary");
            assert_eq!(std::fs::read_to_string(&canary).expect("canary"), "canary");
            assert_eq!(std::fs::metadata(&canary).expect("canary").nlink(), 1);
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("clean");
        }
    }

    fn rules(replaces_kinds: bool) -> Rules {
        Rules { owner: Owner::Caller, replaces_kinds, label: "/dest".to_owned() }
    }

    fn looks() -> Looks {
        Looks { mode: 0o640, mtime: (1000, 5), ..Looks::default() }
    }

    fn write(maker: &mut Maker<'_>, path: &str) -> Result<(), MakeError> {
        use std::io::Write;
        maker.file(path.as_bytes(), &looks(), |file| {
            file.write_all(b"new").map_err(|error| MakeError::io("write", b"x", error))
        })
    }

    #[test]
    fn names_are_cleaned_or_refused() {
        let cases = [
            ("a/b", Some("a/b")),
            ("/etc/x", Some("etc/x")),
            ("./a//b/", Some("a/b")),
            ("a/../b", Some("b")),
            ("../x", None),
            ("a/../../x", None),
            (".", Some("")),
        ];
        for (name, expected) in cases {
            assert_eq!(clean(name.as_bytes()).as_deref(), expected.map(str::as_bytes), "{name}");
        }
    }

    #[test]
    fn links_on_the_way_stay_below_the_root() {
        let fixture = Fixture::new("links");
        let outside = fixture.0.join("outside");
        symlink(&outside, fixture.path("absolute")).expect("link");
        symlink("../outside", fixture.path("dots")).expect("link");
        symlink(outside.join("canary"), fixture.path("file")).expect("link");
        let root = fixture.root();
        let mut maker = Maker::new(root.as_fd(), rules(true));
        for path in ["absolute/x", "dots/y", "file", "new/deep/z"] {
            write(&mut maker, path).expect(path);
        }
        maker.hard_link(b"linked", b"absolute/canary").expect_err("not there below the root");
        maker.hard_link(b"linked", b"../outside/canary").expect_err("leads out");
        maker.symlink(b"absolute/s", b"/etc/passwd", &looks()).expect("link");
        maker.finish().expect("finish");
        fixture.assert_outside_untouched();
        assert_eq!(std::fs::read_to_string(fixture.path("file")).expect("file"), "new");
        assert!(fixture.path("outside/y").is_file(), "`..` stops at the root");
        let metadata = std::fs::metadata(fixture.path("new/deep/z")).expect("file");
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec()), (0o640, 1000, 5));
    }

    #[test]
    fn kinds_are_replaced_only_where_allowed() {
        let fixture = Fixture::new("kinds");
        std::fs::create_dir_all(fixture.path("folder/in")).expect("folder");
        std::fs::write(fixture.path("file"), "old").expect("file");
        let root = fixture.root();
        let mut maker = Maker::new(root.as_fd(), rules(false));
        assert_eq!(
            write(&mut maker, "folder").expect_err("refused").to_string(),
            "cannot overwrite directory \"folder\" with non-directory \"/dest\""
        );
        let folder = Looks { mode: 0o755, ..Looks::default() };
        assert_eq!(
            maker.folder(b"file", &folder).expect_err("refused").to_string(),
            "cannot overwrite non-directory \"file\" with directory \"/dest\""
        );
        let mut maker = Maker::new(root.as_fd(), rules(true));
        write(&mut maker, "folder").expect("replaced");
        maker.folder(b"file", &folder).expect("replaced");
        maker.finish().expect("finish");
        assert!(fixture.path("folder").is_file() && fixture.path("file").is_dir());
    }

    #[test]
    fn a_link_is_replaced_and_not_written_through() {
        let fixture = Fixture::new("through");
        symlink(fixture.0.join("outside"), fixture.path("d")).expect("link");
        let root = fixture.root();
        let mut maker = Maker::new(root.as_fd(), rules(true));
        maker.folder(b"d", &Looks { mode: 0o755, ..Looks::default() }).expect("folder");
        write(&mut maker, "d/x").expect("file");
        maker.finish().expect("finish");
        fixture.assert_outside_untouched();
        assert!(Path::new(&fixture.path("d/x")).is_file());
        assert!(!fixture.path("d").is_symlink());
    }
}
