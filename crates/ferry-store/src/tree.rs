//! What layers hold, file by file, without mounting any: for comparing images and looking into them.
//!
//! Reads only; names come out as bytes, and nothing a stranger put into a layer is followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ferry_spec::digest::ChainId;
use ferry_sys::path::resolve_in_root;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::Store;
use crate::error::{Error, Result};
use crate::layers::unpack::open_trusted;
use crate::layers::{FOLDER_FLAGS, Hidden, copy};

/// What something in a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A device, a pipe, a socket.
    Special,
}

/// Something that a layer brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFile {
    /// What it is.
    pub kind: FileKind,
    /// The twelve bits of permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a regular file; those of its other names do not count again.
    pub size: u64,
    /// Unix time: seconds, nanoseconds.
    pub mtime: (i64, i64),
    /// Target of a symbolic link.
    pub link: Vec<u8>,
    /// Numbers of a device.
    pub device: u64,
    /// A folder that hides everything the layers below have in it.
    pub opaque: bool,
    /// A folder that only its content implied: it changes nothing about the one below.
    pub implied: bool,
    /// Another name of a file that was counted already.
    pub linked: bool,
}

/// What one layer says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// This is there.
    Is(LayerFile),
    /// Nothing is there any more.
    Gone,
}

/// Everything in one layer, by its path.
#[derive(Debug, Clone)]
pub struct LayerTree {
    folder: PathBuf,
    /// What it says, by path.
    pub said: BTreeMap<Vec<u8>, Said>,
}

impl LayerTree {
    /// Opens a file of this layer.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self, path: &[u8]) -> Result<File> {
        let failed = || Error::errno("open", self.folder.join(String::from_utf8_lossy(path).as_ref()));
        let root = open_trusted(&self.folder).map_err(Error::errno("open", &self.folder))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = resolve_in_root(&root, path, flags, Mode::empty()).map_err(failed())?;
        let stat = rustix::fs::fstat(&file).map_err(failed())?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(failed()(Errno::INVAL));
        }
        Ok(File::from(file))
    }
}

/// A path of several layers on top of each other, with the layer it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Merged<'a> {
    /// Its place among the layers.
    pub layer: usize,
    /// It.
    pub file: &'a LayerFile,
}

/// Puts layers on top of each other, the lowest first.
#[must_use]
pub fn merge(layers: &[LayerTree]) -> BTreeMap<Vec<u8>, Merged<'_>> {
    let mut merged: BTreeMap<Vec<u8>, Merged<'_>> = BTreeMap::new();
    for (layer, tree) in layers.iter().enumerate() {
        for (path, said) in &tree.said {
            match said {
                Said::Gone => remove(&mut merged, path, true),
                Said::Is(file) => {
                    let before = merged.get(path).map(|merged| merged.file.kind);
                    if file.opaque || (before == Some(FileKind::Folder) && file.kind != FileKind::Folder) {
                        remove(&mut merged, path, false);
                    }
                    if !(file.implied && before == Some(FileKind::Folder)) {
                        merged.insert(path.clone(), Merged { layer, file });
                    }
                }
            }
        }
    }
    merged
}

/// Takes everything below a path away, and the path itself where that is asked for.
fn remove(merged: &mut BTreeMap<Vec<u8>, Merged<'_>>, path: &[u8], itself: bool) {
    if itself {
        merged.remove(path);
    }
    let below = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
    let doomed: Vec<Vec<u8>> = merged
        .range(below.clone()..)
        .map(|(path, _)| path)
        .take_while(|path| path.starts_with(&below))
        .cloned()
        .collect();
    doomed.iter().for_each(|path| {
        merged.remove(path);
    });
}

impl Store {
    /// Reads what each layer of a chain holds, the lowest first.
    ///
    /// # Errors
    /// [`Error::LayerNotFound`]; when a folder cannot be read.
    pub fn layer_trees(&self, chain: &ChainId) -> Result<Vec<LayerTree>> {
        let mut trees = Vec::new();
        for (folder, hidden) in self.hidden_of_chain(chain)?.into_iter().rev() {
            trees.push(read(&folder, &hidden)?);
        }
        Ok(trees)
    }

    /// Reads what a container changed: its upper folder, in the form of a layer.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn folder_tree(&self, folder: &Path) -> Result<LayerTree> {
        read(folder, &Hidden::default())
    }
}

fn read(folder: &Path, hidden: &Hidden) -> Result<LayerTree> {
    let root = open_trusted(folder).map_err(Error::errno("open", folder))?;
    let mut reader = Reader { said: BTreeMap::new(), hidden, linked: std::collections::HashSet::new() };
    reader.folder(&root, b"").map_err(Error::errno("read", folder))?;
    for path in hidden.whiteout_paths() {
        reader.said.insert(path, Said::Gone);
    }
    Ok(LayerTree { folder: folder.to_owned(), said: reader.said })
}

struct Reader<'a> {
    said: BTreeMap<Vec<u8>, Said>,
    hidden: &'a Hidden,
    /// Files with several names that were met.
    linked: std::collections::HashSet<(u64, u64)>,
}

impl Reader<'_> {
    /// Recursion is as deep as the tree, which unpacking has bounded; a container's is bounded by the length of paths.
    fn folder(&mut self, folder: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
        for entry in rustix::fs::Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            match self.entry(folder, name, path) {
                // A running container removes things while they are read.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &[u8], path: Vec<u8>) -> Result<(), Errno> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_char_device() && stat.st_rdev == 0 {
            self.said.insert(path, Said::Gone);
            return Ok(());
        }
        let mut file = self.looks(&stat, &path);
        if kind.is_symlink() {
            file.link = rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes();
        }
        if !kind.is_dir() {
            self.said.insert(path, Said::Is(file));
            return Ok(());
        }
        let below = rustix::fs::openat(folder, name, FOLDER_FLAGS, Mode::empty())?;
        file.opaque = copy::is_opaque(&below) || self.hidden.opaque_paths().any(|opaque| opaque == path);
        self.said.insert(path.clone(), Said::Is(file));
        self.folder(&below, &path)
    }

    fn looks(&mut self, stat: &Stat, path: &[u8]) -> LayerFile {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Folder,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Special,
        };
        let is_file = kind == FileKind::File;
        LayerFile {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if is_file { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 },
            mtime: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            link: Vec::new(),
            device: if kind == FileKind::Special { stat.st_rdev } else { 0 },
            opaque: false,
            implied: self.hidden.is_implied(path),
            linked: is_file && stat.st_nlink > 1 && !self.linked.insert((stat.st_dev, stat.st_ino)),
        }
    }
}

/// Compares the content of two files.
///
/// # Errors
/// When one cannot be read.
pub fn is_same_content(one: &File, other: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let (mut left, mut right) = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    let mut offset = 0;
    loop {
        let read = one.read_at(&mut left, offset)?;
        if read == 0 {
            return Ok(other.read_at(&mut right[..1], offset)? == 0);
        }
        match other.read_exact_at(&mut right[..read], offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        if left[..read] != right[..read] {
            return Ok(false);
        }
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: FileKind, size: u64) -> LayerFile {
        LayerFile {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: (0, 0),
            link: Vec::new(),
            device: 0,
            opaque: false,
            implied: false,
            linked: false,
        }
    }

    fn tree(said: &[(&str, Said)]) -> LayerTree {
        let said = said.iter().map(|(path, said)| (path.as_bytes().to_vec(), said.clone())).collect();
        LayerTree { folder: PathBuf::new(), said }
    }

    fn names(layers: &[LayerTree]) -> Vec<(String, usize)> {
        let merged = merge(layers);
        merged.iter().map(|(path, one)| (String::from_utf8_lossy(path).into_owned(), one.layer)).collect()
    }

    #[test]
    fn later_layers_hide_what_earlier_ones_have() {
        let is = |kind, size| Said::Is(file(kind, size));
        let opaque = Said::Is(LayerFile { opaque: true, ..file(FileKind::Folder, 0) });
        let base = tree(&[
            ("a", is(FileKind::Folder, 0)),
            ("a/x", is(FileKind::File, 1)),
            ("a/y", is(FileKind::File, 1)),
            ("ab", is(FileKind::File, 1)),
            ("c", is(FileKind::Folder, 0)),
            ("c/d", is(FileKind::File, 1)),
        ]);
        let gone = tree(&[("a/x", Said::Gone), ("c", is(FileKind::File, 3))]);
        assert_eq!(
            names(&[base.clone(), gone]),
            [("a", 0), ("a/y", 0), ("ab", 0), ("c", 1)].map(|(name, layer)| (name.to_owned(), layer))
        );
        let over = tree(&[("a", opaque), ("a/z", is(FileKind::File, 1))]);
        assert_eq!(
            names(&[base.clone(), over]),
            [("a", 1), ("a/z", 1), ("ab", 0), ("c", 0), ("c/d", 0)].map(|(name, layer)| (name.to_owned(), layer))
        );
        let implied = tree(&[("a", Said::Is(LayerFile { implied: true, ..file(FileKind::Folder, 0) }))]);
        assert_eq!(names(&[base, implied])[0], ("a".to_owned(), 0));
    }

    #[test]
    fn contents_are_compared_to_their_ends() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            File::open(folder.path().join(name)).unwrap()
        };
        let (one, same, longer, other) = (write("1", b"ab"), write("2", b"ab"), write("3", b"abc"), write("4", b"ac"));
        assert!(is_same_content(&one, &same).unwrap());
        assert!(!is_same_content(&one, &longer).unwrap() && !is_same_content(&longer, &one).unwrap());
        assert!(!is_same_content(&one, &other).unwrap());
    }

    #[test]
    fn folders_are_read_as_layers() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        std::fs::write(folder.path().join("d/f"), "12345").unwrap();
        std::fs::hard_link(folder.path().join("d/f"), folder.path().join("g")).unwrap();
        std::os::unix::fs::symlink("d/f", folder.path().join("l")).unwrap();
        let tree = read(folder.path(), &Hidden::default()).unwrap();
        let is = |path: &str| match &tree.said[path.as_bytes()] {
            Said::Is(file) => file.clone(),
            Said::Gone => panic!("{path} is gone"),
        };
        assert_eq!((is("d").kind, is("d/f").size, is("l").link), (FileKind::Folder, 5, b"d/f".to_vec()));
        assert!(is("g").linked != is("d/f").linked, "one of the two names counts");
        assert!(tree.open(b"d/f").is_ok() && tree.open(b"l").is_err() && tree.open(b"d").is_err());
    }
}
