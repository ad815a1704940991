//! What was changed: a writable layer compared with what lies below, and the tar of an image layer that says so.
//!
//! A layer of overlayfs has the changed files, a character device 0:0 for what is gone and a mark on folders that show nothing of those below.
//! Where overlayfs cannot be used the layer is a whole copy. What the runtime puts into every container is nobody's change.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_spec::tar::{Entry, Kind};
use ferry_sys::tree::{Found, Walk, attribute};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The writable layer, and a view of everything below it.
#[derive(Debug)]
pub struct Layers {
    /// The writable one.
    pub upper: OwnedFd,
    /// What lies below.
    pub lower: Option<OwnedFd>,
    /// The upper one has everything.
    pub whole: bool,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was there before.
    Modified = 0,
    /// It is new.
    Added = 1,
    /// It is gone.
    Deleted = 2,
}

/// Files that the runtime makes in every container, empty, for something to be mounted on.
const MADE_FILES: [&[u8]; 4] = [b".dockerenv", b"etc/resolv.conf", b"etc/hosts", b"etc/hostname"];
/// Folders likewise.
const MADE_FOLDERS: [&[u8]; 6] = [b"dev", b"dev/pts", b"dev/shm", b"proc", b"sys", b"etc"];

/// Where the tar of a layer goes.
pub trait Sink {
    /// Takes an entry; the content of a regular file follows.
    ///
    /// # Errors
    /// When it cannot be written.
    fn entry(&mut self, entry: &Entry) -> io::Result<()>;

    /// Takes the content of a file, as long as its entry said.
    ///
    /// # Errors
    /// When it cannot be read or written.
    fn content(&mut self, path: &[u8], file: File, length: u64) -> io::Result<()>;
}

/// Writes the changes as the tar of an image layer, but for its end.
///
/// Spec: OCI image layer.
///
/// # Errors
/// When a file cannot be read, or the sink does not take it.
pub fn write(layers: &Layers, exact: bool, sink: &mut dyn Sink) -> io::Result<()> {
    let changes = compare(layers, exact)?;
    for (path, _) in changes.iter().filter(|(_, change)| *change == Change::Deleted) {
        let (above, name) = split(path);
        let above = if above.is_empty() { Vec::new() } else { [above, b"/"].concat() };
        sink.entry(&Entry::new(Kind::File, [&above[..], b".wh.", name].concat(), 0o600))?;
    }
    let mut visit = |found: Found| {
        let name = found.path.clone();
        add(found, name, sink)
    };
    let mut walk = Walk::new(is_kept, &mut visit);
    let mut folder = Folder { upper: &layers.upper, last: None };
    for (path, _) in changes.iter().filter(|(_, change)| *change != Change::Deleted) {
        let (above, name) = split(path);
        let Some(above) = folder.open(above)? else { continue };
        match walk.alone(above, name, path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The folder that was needed last.
struct Folder<'a> {
    upper: &'a OwnedFd,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Folder<'_> {
    /// `None` when a container that was not paused has taken it away since.
    fn open(&mut self, path: &[u8]) -> io::Result<Option<BorrowedFd<'_>>> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let at: &[u8] = if path.is_empty() { b"." } else { path };
            match ferry_sys::path::resolve_in_root(self.upper, at, flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                opened => self.last = Some((path.to_vec(), opened?)),
            }
        }
        Ok(self.last.as_ref().map(|(_, fd)| fd.as_fd()))
    }
}

/// Adds an entry by a name.
///
/// # Errors
/// Those of the sink.
pub fn add(mut found: Found, name: Vec<u8>, sink: &mut dyn Sink) -> io::Result<()> {
    let (file, path) = (found.file.take(), found.path.clone());
    let Some(entry) = entry(found, name) else { return Ok(()) };
    sink.entry(&entry)?;
    if entry.stored_bytes == 0 {
        return Ok(());
    }
    let file = file.ok_or(io::ErrorKind::InvalidData)?;
    sink.content(&path, File::from(file), entry.stored_bytes)
}

/// `None` for what an archive cannot hold.
fn entry(found: Found, name: Vec<u8>) -> Option<Entry> {
    let kind = match found.kind {
        _ if found.same_as.is_some() => Kind::HardLink,
        FileType::Directory => Kind::Folder,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => return None,
    };
    let size = if kind == Kind::File { found.size } else { 0 };
    let path = match kind {
        Kind::Folder if !name.ends_with(b"/") => [&name[..], b"/"].concat(),
        _ => name,
    };
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    Some(Entry {
        link: found.same_as.unwrap_or(found.link),
        uid: found.looks.uid,
        gid: found.looks.gid,
        // As Docker: whole seconds, which every reader of archives knows.
        mtime: (found.looks.mtime.0, 0),
        device: if is_device { found.device } else { (0, 0) },
        xattrs: found.looks.xattrs,
        size,
        stored_bytes: size,
        ..Entry::new(kind, path, found.looks.mode)
    })
}

/// Attributes that a layer keeps.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Lists the changes, as Docker orders them; `exact` when nothing has run there.
///
/// # Errors
/// What the kernel answers.
pub fn compare(layers: &Layers, exact: bool) -> Result<Vec<(Vec<u8>, Change)>, Errno> {
    let mut comparison = Comparison { whole: layers.whole, exact, changes: Vec::new() };
    let upper = open_folder(layers.upper.as_fd(), b".")?;
    let lower = layers.lower.as_ref().map(|lower| open_folder(lower.as_fd(), b".")).transpose()?;
    comparison.folder(&upper, lower.as_ref(), b"", false)?;
    Ok(comparison.changes)
}

struct Comparison {
    whole: bool,
    exact: bool,
    changes: Vec<(Vec<u8>, Change)>,
}

impl Comparison {
    /// Compares what is in a folder with what is in the one below; `alone` when nothing of that shines through.
    fn folder(&mut self, upper: &OwnedFd, lower: Option<&OwnedFd>, path: &[u8], alone: bool) -> Result<(), Errno> {
        let here = names(upper.as_fd())?;
        // Names of the folder below that are not here are gone only where they do not shine through.
        let mut all = here.clone();
        if let Some(lower) = lower.filter(|_| alone || self.whole) {
            all.extend(names(lower.as_fd())?);
        }
        // As in Docker what is gone comes last.
        let mut gone = Vec::new();
        for name in &all {
            let below = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
            let old = lower.map(|lower| stat(lower.as_fd(), name)).transpose()?.flatten();
            match stat(upper.as_fd(), name)? {
                Some(new) if !self.is_whiteout(&new) => self.entry(upper, lower, name, below, &new, old.as_ref())?,
                _ if old.is_some() => gone.push((below, Change::Deleted)),
                _ => {}
            }
        }
        self.changes.extend(gone);
        Ok(())
    }

    fn entry(
        &mut self,
        upper: &OwnedFd,
        lower: Option<&OwnedFd>,
        name: &[u8],
        path: Vec<u8>,
        new: &Stat,
        old: Option<&Stat>,
    ) -> Result<(), Errno> {
        let is_folder = FileType::from_raw_mode(new.st_mode).is_dir();
        if !is_folder {
            if !self.exact && old.is_none() && is_made(upper, name, &path, new) {
                return Ok(());
            }
            let change = match old {
                None => Change::Added,
                Some(old) if differs(new, old) => Change::Modified,
                Some(_) if new_capabilities(upper, lower, name, new) => Change::Modified,
                Some(_) => return Ok(()),
            };
            self.changes.push((path, change));
            return Ok(());
        }
        let at = self.changes.len();
        let folder = match open_folder(upper.as_fd(), name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            folder => folder?,
        };
        let was_folder = old.is_some_and(|old| FileType::from_raw_mode(old.st_mode).is_dir());
        let below = match (lower, was_folder) {
            (Some(lower), true) => Some(open_folder(lower.as_fd(), name)?),
            _ => None,
        };
        let alone = is_opaque(&folder);
        self.folder(&folder, below.as_ref(), &path, alone)?;
        let change = match old {
            None if !self.exact && MADE_FOLDERS.contains(&&path[..]) && self.changes.len() == at => return Ok(()),
            None => Change::Added,
            Some(old) if differs(new, old) || self.changes.len() > at => Change::Modified,
            Some(_) => return Ok(()),
        };
        self.changes.insert(at, (path, change));
        Ok(())
    }

    fn is_whiteout(&self, stat: &Stat) -> bool {
        !self.whole && FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0
    }
}

/// Whether the capabilities of two files, alike in all else, differ.
fn new_capabilities(upper: &OwnedFd, lower: Option<&OwnedFd>, name: &[u8], stat: &Stat) -> bool {
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return false;
    }
    let read = |folder: &OwnedFd| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?;
        attribute(file.as_fd(), b"security.capability").ok().flatten()
    };
    lower.is_some_and(|lower| read(upper) != read(lower))
}

/// What the runtime made, as long as nobody has written to it.
fn is_made(folder: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> bool {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => MADE_FILES.contains(&path) && stat.st_size == 0,
        FileType::Symlink => {
            path == b"etc/mtab"
                && rustix::fs::readlinkat(folder, name, Vec::new()).is_ok_and(|link| link.to_bytes() == b"/proc/mounts")
        }
        _ => false,
    }
}

/// Docker's comparison: times and sizes of folders say nothing.
fn differs(new: &Stat, old: &Stat) -> bool {
    let same_looks = new.st_mode == old.st_mode && new.st_uid == old.st_uid && new.st_gid == old.st_gid;
    if !same_looks || new.st_rdev != old.st_rdev {
        return true;
    }
    let is_folder = FileType::from_raw_mode(new.st_mode).is_dir();
    // Where one of the two was unpacked from an archive it may have whole seconds alone.
    let whole = new.st_mtime_nsec == 0 || old.st_mtime_nsec == 0;
    let same_time = new.st_mtime == old.st_mtime && (whole || new.st_mtime_nsec == old.st_mtime_nsec);
    !is_folder && (!same_time || new.st_size != old.st_size)
}

fn is_opaque(folder: &OwnedFd) -> bool {
    [&b"trusted.overlay.opaque"[..], b"user.overlay.opaque"]
        .iter()
        .any(|name| attribute(folder.as_fd(), name).is_ok_and(|value| value.as_deref() == Some(b"y")))
}

fn open_folder(above: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(above, name, flags, Mode::empty())
}

fn stat(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn names(folder: BorrowedFd<'_>) -> Result<BTreeSet<Vec<u8>>, Errno> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.insert(entry.file_name().to_bytes().to_vec());
        }
    }
    Ok(names)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn folder(path: &Path) -> OwnedFd {
        std::fs::File::open(path).expect("open").into()
    }

    fn changes(whole: bool, upper: &Path, lower: &Path) -> Vec<String> {
        let layers = Layers { upper: folder(upper), lower: Some(folder(lower)), whole };
        let told = |(path, change): (Vec<u8>, Change)| format!("{} {}", change as u8, String::from_utf8_lossy(&path));
        compare(&layers, false).expect("compare").into_iter().map(told).collect()
    }

    #[test]
    fn whole_copies_are_compared_path_by_path() {
        let base = std::env::temp_dir().join(format!("ferry-changes-{}", std::process::id()));
        let (upper, lower) = (base.join("upper"), base.join("lower"));
        for root in [&upper, &lower] {
            std::fs::create_dir_all(root.join("etc")).expect("folder");
            std::fs::create_dir_all(root.join("same/deep")).expect("folder");
        }
        std::fs::write(lower.join("etc/gone"), "x").expect("file");
        std::fs::write(lower.join("etc/grown"), "x").expect("file");
        std::fs::write(upper.join("etc/grown"), "xx").expect("file");
        std::fs::write(upper.join("etc/hosts"), "").expect("file");
        std::fs::write(upper.join(".dockerenv"), "").expect("file");
        std::fs::create_dir(upper.join("proc")).expect("folder");
        std::fs::create_dir(upper.join("new")).expect("folder");
        std::fs::write(upper.join("new/file"), "x").expect("file");
        std::fs::set_permissions(upper.join("same"), std::fs::Permissions::from_mode(0o700)).expect("mode");
        let expected = ["0 etc", "0 etc/grown", "2 etc/gone", "1 new", "1 new/file", "0 same"];
        assert_eq!(changes(true, &upper, &lower), expected);
        std::fs::remove_dir_all(&base).expect("clean");
    }

    #[test]
    fn layers_say_only_what_changed() {
        let base = std::env::temp_dir().join(format!("ferry-changes-layer-{}", std::process::id()));
        let (upper, lower) = (base.join("upper"), base.join("lower"));
        std::fs::create_dir_all(upper.join("etc")).expect("folder");
        std::fs::create_dir_all(lower.join("etc/kept")).expect("folder");
        std::fs::create_dir_all(lower.join("other")).expect("folder");
        std::fs::write(upper.join("etc/new"), "x").expect("file");
        std::fs::write(upper.join("etc/hosts"), "written").expect("file");
        assert_eq!(changes(false, &upper, &lower), ["0 etc", "1 etc/hosts", "1 etc/new"]);
        std::fs::remove_file(upper.join("etc/new")).expect("remove");
        std::fs::write(upper.join("etc/hosts"), "").expect("file");
        assert!(changes(false, &upper, &lower).is_empty(), "what the runtime makes is no change");
        std::fs::remove_dir_all(&base).expect("clean");
    }
}
