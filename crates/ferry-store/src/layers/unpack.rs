//! Unpacks one layer below a folder, never a step outside of it.
//!
//! Every entry is made relative to the descriptor of its folder, which was looked up with the layer's root as `/` and is kept for the
//! entries that follow; the name itself is never followed. Folders that no entry describes get the looks that the layers below give
//! them. Times of folders are set last, since making entries changes them.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use ferry_spec::tar::{self, Entry, Kind, Piece, Source as _};
use ferry_sys::path::resolve_in_root;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::hidden::Hidden;
use super::path::{FOLDER_FLAGS, Meaning, clean, meaning, split};
use super::stream::Stream;
use super::{EntryProblem, LayerError};

mod late;

/// How a layer says that it hides something of the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhiteoutStyle {
    /// As overlayfs wants it; the name is that of the opaque mark.
    Overlay {
        /// `trusted.overlay.opaque` or `user.overlay.opaque`.
        opaque_xattr: &'static str,
    },
    /// In lists beside the layer, where a device or such a mark cannot be made.
    Listed,
}

/// What came of a layer.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Bytes of regular files.
    pub(crate) size_bytes: u64,
    /// What it hides, with [`WhiteoutStyle::Listed`].
    pub(crate) hidden: Hidden,
    /// An entry took the place of an earlier one.
    pub(crate) replaced: bool,
}

/// Opens the root of the layers below, for the rare entries that need it.
pub(crate) type OpenLower<'a> = dyn Fn() -> Result<Option<OwnedFd>, LayerError> + Sync + 'a;

/// Folders whose descriptors are kept.
const KEPT_FOLDERS: usize = 256;

/// Reads a tar from `stream` and unpacks it below `root`, an empty folder.
pub(crate) fn unpack(
    stream: &mut Stream,
    root: BorrowedFd<'_>,
    style: WhiteoutStyle,
    open_lower: &OpenLower<'_>,
) -> Result<Unpacked, LayerError> {
    // Own umask, so that modes are as asked for. Where it cannot be had every mode is set again.
    let exact_modes = ferry_sys::path::unshare_working_folder().is_ok();
    if exact_modes {
        rustix::process::umask(Mode::empty());
    }
    let mut unpacker = Unpacker {
        root,
        style,
        open_lower,
        exact_modes,
        folders: HashMap::new(),
        folder_times: Vec::new(),
        implied: Vec::new(),
        inherits_group: false,
        late_links: Vec::new(),
        lower: None,
        done: Unpacked::default(),
    };
    let mut entries = 0u64;
    while let Some(entry) = tar::next_entry(stream)? {
        entries += 1;
        let limit = stream.limits().entries;
        if entries > limit {
            return Err(LayerError::Limit { what: "entries", limit });
        }
        let stored_bytes = entry.stored_bytes;
        if !unpacker.take(stream, &entry)? {
            stream.skip(stored_bytes)?;
        }
        tar::skip_padding(stream, stored_bytes)?;
    }
    // To the very end first: whoever feeds the stream is done then, and what follows may wait for the layers below.
    stream.drain()?;
    unpacker.finish()
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    style: WhiteoutStyle,
    open_lower: &'a OpenLower<'a>,
    exact_modes: bool,
    folders: HashMap<Vec<u8>, Rc<OwnedFd>>,
    folder_times: Vec<(Vec<u8>, (i64, u32))>,
    /// Folders that no entry has described so far.
    implied: Vec<Vec<u8>>,
    /// Some folder hands its group down, so new files do not simply get the process's.
    inherits_group: bool,
    /// Hard links to what this layer does not have, and their targets.
    late_links: Vec<(Vec<u8>, Vec<u8>)>,
    lower: Option<Option<Rc<OwnedFd>>>,
    done: Unpacked,
}

/// A folder to work in: the layer's root or a descriptor that is kept.
#[derive(Clone)]
enum Folder<'a> {
    Root(BorrowedFd<'a>),
    Kept(Rc<OwnedFd>),
}

impl AsFd for Folder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Kept(fd) => fd.as_fd(),
        }
    }
}

impl<'a> Unpacker<'a> {
    /// Unpacks one entry; tells whether it has read the entry's data.
    fn take(&mut self, stream: &mut Stream, entry: &Entry) -> Result<bool, LayerError> {
        let path = clean(&entry.path, stream.limits().path_depth)?;
        match meaning(&path)? {
            Meaning::Ignored => return Ok(false),
            Meaning::Whiteout(name) => return self.whiteout(&path, name).map(|()| false),
            Meaning::Opaque => return self.opaque(&path).map(|()| false),
            Meaning::Plain => {}
        }
        if path.is_empty() {
            if entry.kind != Kind::Folder {
                return Err(LayerError::entry(&entry.path, EntryProblem::RootReplaced));
            }
            self.dress_folder(&Folder::Root(self.root), &path, entry)?;
            return Ok(false);
        }
        let (folder_path, name) = split(&path);
        let folder = self.folder(folder_path)?;
        match entry.kind {
            Kind::Folder => self.make_folder(&folder, &path, name, entry)?,
            Kind::File => {
                self.make_file(stream, &folder, &path, name, entry)?;
                return Ok(true);
            }
            Kind::HardLink => self.make_hard_link(stream, &folder, &path, name, entry)?,
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(LayerError::entry(&path, EntryProblem::EmptyLink));
                }
                self.make(&folder, &path, name, |fd, name| rustix::fs::symlinkat(&entry.link[..], fd, name))?;
                self.dress_special(&folder, &path, name, entry)?;
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.make_node(&folder, &path, name, entry)?,
        }
        Ok(false)
    }

    /// Returns the folder of an entry, making what no entry has made yet.
    fn folder(&mut self, path: &[u8]) -> Result<Folder<'a>, LayerError> {
        if path.is_empty() {
            return Ok(Folder::Root(self.root));
        }
        if let Some(fd) = self.folders.get(path) {
            return Ok(Folder::Kept(Rc::clone(fd)));
        }
        let fd = match self.open_folder(path) {
            // A whiteout on the way is no folder either.
            Err(Errno::NOENT | Errno::NOTDIR) => self.imply_folder(path)?,
            opened => opened.map_err(|errno| LayerError::errno("open", path, errno))?,
        };
        if self.folders.len() >= KEPT_FOLDERS {
            self.folders.clear();
        }
        let fd = Rc::new(fd);
        self.folders.insert(path.to_vec(), Rc::clone(&fd));
        Ok(Folder::Kept(fd))
    }

    fn open_folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        resolve_in_root(self.root, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    fn imply_folder(&mut self, path: &[u8]) -> Result<OwnedFd, LayerError> {
        let (above, name) = split(path);
        let above = self.folder(above)?;
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.implied.push(path.to_vec()),
            // A link that leads nowhere.
            Err(Errno::EXIST) if !self.is_whiteout(&above, name) => {
                return Err(LayerError::entry(path, EntryProblem::ParentNotAFolder));
            }
            Err(Errno::EXIST) => {
                self.replace_whiteout_by_folder(&above, path, name, 0o755)?;
                self.implied.push(path.to_vec());
            }
            Err(errno) => return Err(LayerError::errno("create folder", path, errno)),
        }
        if self.hides_listed(path) {
            self.done.hidden.opaque(path);
        }
        self.open_folder(path).map_err(|errno| LayerError::errno("open", path, errno))
    }

    /// Runs `create`, which must fail when the name is taken, and removes what is in the way.
    fn make<T>(
        &mut self,
        folder: &Folder<'a>,
        path: &[u8],
        name: &[u8],
        create: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        let made = match create(folder.as_fd(), name) {
            Err(Errno::EXIST) => {
                self.clear_the_way(folder, path, name)?;
                create(folder.as_fd(), name)
            }
            made => made,
        };
        self.done.hidden.reveal(path);
        made.map_err(|errno| LayerError::errno("create", path, errno))
    }

    fn clear_the_way(&mut self, folder: &Folder<'a>, path: &[u8], name: &[u8]) -> Result<(), LayerError> {
        // Kept descriptors may lead into what goes now, or through it.
        self.folders.clear();
        self.done.replaced = true;
        let removed = match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                self.implied.retain(|implied| !starts_with_path(implied, path));
                remove_tree_at(folder.as_fd(), name)
            }
            removed => removed,
        };
        removed.map_err(|errno| LayerError::errno("replace", path, errno))
    }

    fn make_folder(&mut self, folder: &Folder<'a>, path: &[u8], name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        match rustix::fs::mkdirat(folder, name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => self.merge_folder(folder, path, name, entry)?,
            Err(errno) => return Err(LayerError::errno("create folder", path, errno)),
        }
        if self.hides_listed(path) {
            self.done.hidden.opaque(path);
        }
        self.inherits_group |= entry.mode & 0o2000 != 0;
        let fd = rustix::fs::openat(folder, name, FOLDER_FLAGS, Mode::empty())
            .map_err(|errno| LayerError::errno("open", path, errno))?;
        let fd = Rc::new(fd);
        self.dress_folder(&Folder::Kept(Rc::clone(&fd)), path, entry)?;
        if self.folders.len() < KEPT_FOLDERS {
            self.folders.insert(path.to_vec(), fd);
        }
        Ok(())
    }

    /// The name is taken: a folder stays and gets new looks, anything else goes.
    fn merge_folder(&mut self, folder: &Folder<'a>, path: &[u8], name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| LayerError::errno("stat", path, errno))?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            self.implied.retain(|implied| implied != path);
            return Ok(());
        }
        if self.is_whiteout(folder, name) {
            return self.replace_whiteout_by_folder(folder, path, name, entry.mode & 0o777);
        }
        self.clear_the_way(folder, path, name)?;
        rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(entry.mode & 0o777))
            .map_err(|errno| LayerError::errno("create folder", path, errno))
    }

    fn make_file(
        &mut self,
        stream: &mut Stream,
        folder: &Folder<'a>,
        path: &[u8],
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let fd = self.make(folder, path, name, |fd, name| rustix::fs::openat(fd, name, flags, mode))?;
        match &entry.sparse {
            None => stream.content(path, entry.stored_bytes, |bytes| write_all(&fd, bytes, path))?,
            Some(pieces) => write_sparse(stream, &fd, entry.size, pieces, path)?,
        }
        self.done.size_bytes += entry.size;
        self.dress_open(fd.as_fd(), path, entry)?;
        rustix::fs::futimens(&fd, &times(entry.mtime)).map_err(|errno| LayerError::errno("set times of", path, errno))
    }

    fn make_hard_link(
        &mut self,
        stream: &Stream,
        folder: &Folder<'a>,
        path: &[u8],
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let target = clean(&entry.link, stream.limits().path_depth)?;
        if target.is_empty() {
            return Err(LayerError::entry(path, EntryProblem::LinkTarget));
        }
        if target == path {
            return Ok(());
        }
        if self.link(folder, path, name, &target)? {
            return Ok(());
        }
        // What it replaces goes now, what replaces it comes later.
        if rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            self.clear_the_way(folder, path, name)?;
        }
        self.late_links.push((path.to_vec(), target));
        Ok(())
    }

    /// Links to a file of this layer; tells whether that is there.
    fn link(&mut self, folder: &Folder<'a>, path: &[u8], name: &[u8], target: &[u8]) -> Result<bool, LayerError> {
        let (target_folder_path, target_name) = split(target);
        let Some(target_folder) = self.target_folder(target_folder_path)? else { return Ok(false) };
        if rustix::fs::statat(&target_folder, target_name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return Ok(false);
        }
        if self.is_whiteout(&target_folder, target_name) {
            return Err(LayerError::entry(path, EntryProblem::LinkTarget));
        }
        // Linking a file to itself keeps it.
        if !self.same_file(&target_folder, target_name, folder, name) {
            self.make(folder, path, name, |fd, name| {
                rustix::fs::linkat(&target_folder, target_name, fd, name, AtFlags::empty())
            })?;
        }
        Ok(true)
    }

    fn target_folder(&self, path: &[u8]) -> Result<Option<Folder<'a>>, LayerError> {
        if path.is_empty() {
            return Ok(Some(Folder::Root(self.root)));
        }
        match self.open_folder(path) {
            Ok(fd) => Ok(Some(Folder::Kept(Rc::new(fd)))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(LayerError::errno("open", path, errno)),
        }
    }

    fn same_file(&self, a: &Folder<'a>, a_name: &[u8], b: &Folder<'a>, b_name: &[u8]) -> bool {
        let stat = |folder: &Folder<'a>, name| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        match (stat(a, a_name), stat(b, b_name)) {
            (Ok(a), Ok(b)) => a.st_ino == b.st_ino && a.st_dev == b.st_dev,
            _ => false,
        }
    }

    fn make_node(&mut self, folder: &Folder<'a>, path: &[u8], name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let (file_type, device) = match entry.kind {
            Kind::CharDevice if entry.device == (0, 0) => {
                // It would hide a file of the layers below behind the back of whoever looks at the archive.
                return Err(LayerError::entry(path, EntryProblem::WhiteoutDevice));
            }
            Kind::CharDevice => (FileType::CharacterDevice, entry.device),
            Kind::BlockDevice => (FileType::BlockDevice, entry.device),
            _ => (FileType::Fifo, (0, 0)),
        };
        let device = rustix::fs::makedev(device.0, device.1);
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.make(folder, path, name, |fd, name| rustix::fs::mknodat(fd, name, file_type, mode, device))?;
        self.dress_special(folder, path, name, entry)?;
        if entry.mode & 0o7000 != 0 || !self.exact_modes {
            rustix::fs::chmodat(folder, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(|errno| LayerError::errno("set mode of", path, errno))?;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8], name: &[u8]) -> Result<(), LayerError> {
        let (folder_path, _) = split(path);
        let mut hidden = folder_path.to_vec();
        if !hidden.is_empty() {
            hidden.push(b'/');
        }
        hidden.extend_from_slice(name);
        let folder = self.folder(folder_path)?;
        // Whiteouts are about the layers below; what this layer itself brings stays, whichever came first.
        match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => return self.mark_opaque(&hidden),
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(LayerError::errno("stat", &hidden, errno)),
        }
        match self.style {
            WhiteoutStyle::Listed => self.done.hidden.hide(&hidden),
            WhiteoutStyle::Overlay { .. } => {
                rustix::fs::mknodat(&folder, name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|errno| LayerError::errno("create whiteout", &hidden, errno))?;
            }
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let (folder_path, _) = split(path);
        self.folder(folder_path)?;
        self.mark_opaque(folder_path)
    }

    fn mark_opaque(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let WhiteoutStyle::Overlay { opaque_xattr } = self.style else {
            self.done.hidden.opaque(path);
            return Ok(());
        };
        let path_or_dot = if path.is_empty() { &b"."[..] } else { path };
        let fd = resolve_in_root(self.root, path_or_dot, FOLDER_FLAGS, Mode::empty())
            .map_err(|errno| LayerError::errno("open", path, errno))?;
        rustix::fs::fsetxattr(&fd, opaque_xattr, b"y", XattrFlags::empty())
            .map_err(|errno| LayerError::errno("mark as opaque", path, errno))
    }

    fn is_whiteout(&self, folder: &Folder<'a>, name: &[u8]) -> bool {
        matches!(self.style, WhiteoutStyle::Overlay { .. })
            && rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0)
    }

    fn hides_listed(&self, path: &[u8]) -> bool {
        self.style == WhiteoutStyle::Listed && self.done.hidden.hides(path)
    }

    /// A folder in the place of a whiteout shows nothing of the one below.
    fn replace_whiteout_by_folder(
        &mut self,
        folder: &Folder<'a>,
        path: &[u8],
        name: &[u8],
        mode: u32,
    ) -> Result<(), LayerError> {
        rustix::fs::unlinkat(folder, name, AtFlags::empty())
            .and_then(|()| rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(mode)))
            .map_err(|errno| LayerError::errno("create folder", path, errno))?;
        self.mark_opaque(path)
    }

    /// Owner, mode, attributes and, later, times of a folder.
    fn dress_folder(&mut self, folder: &Folder<'a>, path: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let fd = folder.as_fd();
        rustix::fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(|errno| LayerError::errno("set owner of", path, errno))?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))
            .map_err(|errno| LayerError::errno("set mode of", path, errno))?;
        set_xattrs(fd, path, &entry.xattrs)?;
        self.folder_times.push((path.to_vec(), entry.mtime));
        Ok(())
    }

    /// Owner, mode and attributes of an open file, in the order in which one does not undo the other.
    fn dress_open(&self, fd: BorrowedFd<'_>, path: &[u8], entry: &Entry) -> Result<(), LayerError> {
        if entry.uid != 0 || entry.gid != 0 || self.inherits_group || !self.exact_modes {
            rustix::fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .map_err(|errno| LayerError::errno("set owner of", path, errno))?;
        }
        if entry.mode & 0o7000 != 0 || !self.exact_modes {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))
                .map_err(|errno| LayerError::errno("set mode of", path, errno))?;
        }
        set_xattrs(fd, path, &entry.xattrs)
    }

    /// Owner and times of what cannot be opened.
    fn dress_special(&self, folder: &Folder<'a>, path: &[u8], name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        rustix::fs::chownat(folder, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| LayerError::errno("set owner of", path, errno))?;
        rustix::fs::utimensat(folder, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| LayerError::errno("set times of", path, errno))
    }
}

fn starts_with_path(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    debug_assert!(time.tv_nsec != UTIME_OMIT, "nanoseconds are below a second");
    Timestamps { last_access: time, last_modification: time }
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8], path: &[u8]) -> Result<(), LayerError> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(LayerError::errno("write", path, errno)),
        }
    }
    Ok(())
}

fn write_sparse(stream: &mut Stream, fd: &OwnedFd, size: u64, pieces: &[Piece], path: &[u8]) -> Result<(), LayerError> {
    for piece in pieces {
        rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(piece.offset))
            .map_err(|errno| LayerError::errno("write", path, errno))?;
        stream.pieces(piece.length, |bytes| write_all(fd, bytes, path))?;
    }
    rustix::fs::ftruncate(fd, size).map_err(|errno| LayerError::errno("write", path, errno))
}

/// Attributes by allow list; the engine's own (`trusted.overlay.*`, `user.overlay.*`) and all others are dropped.
fn set_xattrs(fd: BorrowedFd<'_>, path: &[u8], xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), LayerError> {
    for (name, value) in xattrs {
        if !super::copy::is_allowed_xattr(name) {
            continue;
        }
        match rustix::fs::fsetxattr(fd, &name[..], value, XattrFlags::empty()) {
            // As Docker: a file system without attributes loses them.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(LayerError::errno("set attributes of", path, errno)),
        }
    }
    Ok(())
}

/// Removes a folder below a descriptor, level by level, never following a link.
pub(crate) fn remove_tree_at(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let mut stack: Vec<(OwnedFd, Vec<u8>)> = Vec::new();
    let mut current = rustix::fs::openat(folder, name, FOLDER_FLAGS, Mode::empty())?;
    let mut current_name = name.to_vec();
    loop {
        match remove_files_of(&current)? {
            Some(child) => {
                let next = rustix::fs::openat(&current, &child[..], FOLDER_FLAGS, Mode::empty())?;
                stack.push((std::mem::replace(&mut current, next), std::mem::replace(&mut current_name, child)));
            }
            None => match stack.pop() {
                None => return rustix::fs::unlinkat(folder, &current_name[..], AtFlags::REMOVEDIR),
                Some((above, above_name)) => {
                    rustix::fs::unlinkat(&above, &current_name[..], AtFlags::REMOVEDIR)?;
                    current = above;
                    current_name = above_name;
                }
            },
        }
    }
}

/// Removes everything in a folder but its folders; returns one of those.
fn remove_files_of(folder: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut child = None;
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) if child.is_some() => {}
            Err(Errno::ISDIR) => child = Some(name.to_vec()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(child)
}

/// Opens a folder by a trusted path.
pub(crate) fn open_trusted(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, FOLDER_FLAGS, Mode::empty())
}
