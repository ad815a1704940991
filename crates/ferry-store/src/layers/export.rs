//! A layer's files as a tar again, for images whose compressed layers were not kept.
//!
//! The tar says the same as the one that was unpacked and is not the same: order, padding and what nobody needs are lost, so its digests are new.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, OwnedFd};

use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::{Algorithm, ChainId, DiffId, Hasher};
use ferry_spec::tar::{self, Entry, Kind};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::copy;
use super::path::{FOLDER_FLAGS, split};
use super::unpack::open_trusted;
use super::{Hidden, LayerError};
use crate::Store;
use crate::archive::{ArchiveError, ImportedLayer};
use crate::content::Spool;
use crate::error::{Error, Result};

impl Store {
    /// Stores a layer that is unpacked here as compressed content anew.
    ///
    /// # Errors
    /// [`Error::LayerNotFound`]; when its files cannot be read or the content not be written.
    pub fn rebuild_layer(&self, chain: &ChainId) -> Result<ImportedLayer> {
        let chain = self.hidden_of_chain(chain)?;
        let (folder, hidden) = chain.first().expect("a chain has its own layer");
        let root = open_trusted(folder).map_err(Error::errno("open", folder))?;
        let gzip = flate2::write::GzEncoder::new(Spool::create(self)?, flate2::Compression::default());
        let mut out = Hashing { inner: gzip, hasher: Hasher::new(Algorithm::Sha256) };
        let mut writer = LayerWriter { out: &mut out, hidden, links: HashMap::new() };
        let written = writer.whole(&root);
        written.map_err(|error| Error::Archive(ArchiveError::Read(LayerError::Decompress(error))))?;
        let Hashing { inner, hasher } = out;
        let (digest, size) = inner.finish().map_err(Error::io("write", "the layer"))?.finish()?;
        let diff_id = DiffId(hasher.finish());
        Ok(ImportedLayer { descriptor: Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size), diff_id })
    }
}

struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct LayerWriter<'a, W> {
    out: &'a mut W,
    hidden: &'a Hidden,
    /// Inode to the first name, for files with several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> LayerWriter<'_, W> {
    fn whole(&mut self, root: &OwnedFd) -> io::Result<()> {
        for path in self.hidden.whiteout_paths() {
            self.whiteout(&path)?;
        }
        if copy::is_opaque(root) || self.hidden.opaque_paths().any(|path| path.is_empty()) {
            self.opaque(b"")?;
        }
        self.folder(root, b"")?;
        self.out.write_all(&tar::END)
    }

    /// Recursion is as deep as the tree, which the unpacking has bounded.
    fn folder(&mut self, folder: &OwnedFd, path: &[u8]) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(folder)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(&name[..], b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let path = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            self.entry(folder, &name, path)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &[u8], path: Vec<u8>) -> io::Result<()> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_char_device() && stat.st_rdev == 0 {
            return self.whiteout(&path);
        }
        if kind.is_dir() {
            let below = rustix::fs::openat(folder, name, FOLDER_FLAGS, Mode::empty())?;
            let entry = Entry {
                xattrs: copy::xattrs(below.as_fd())?,
                ..looks(Kind::Folder, [&path[..], b"/"].concat(), &stat)
            };
            self.out.write_all(&tar::header(&entry))?;
            if copy::is_opaque(&below) || self.hidden.opaque_paths().any(|opaque| opaque == path) {
                self.opaque(&path)?;
            }
            return self.folder(&below, &path);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let entry = Entry { link: first.clone(), ..looks(Kind::HardLink, path, &stat) };
                return self.out.write_all(&tar::header(&entry));
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        match kind {
            FileType::RegularFile => self.file(folder, name, path, &stat),
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes();
                self.out.write_all(&tar::header(&Entry { link, ..looks(Kind::Symlink, path, &stat) }))
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                let kind = if kind.is_char_device() { Kind::CharDevice } else { Kind::BlockDevice };
                self.out.write_all(&tar::header(&Entry { device, ..looks(kind, path, &stat) }))
            }
            FileType::Fifo => self.out.write_all(&tar::header(&looks(Kind::Fifo, path, &stat))),
            // No archive can hold a socket.
            _ => Ok(()),
        }
    }

    fn file(&mut self, folder: &OwnedFd, name: &[u8], path: Vec<u8>, stat: &Stat) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let xattrs = copy::xattrs(file.as_fd())?;
        let entry = Entry { size, stored_bytes: size, xattrs, ..looks(Kind::File, path, stat) };
        self.out.write_all(&tar::header(&entry))?;
        let mut content = io::Read::take(std::fs::File::from(file), size);
        if io::copy(&mut content, self.out)? != size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let padding = usize::try_from(tar::padding(size)).unwrap_or_default();
        self.out.write_all(&[0; 512][..padding])
    }

    fn whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let (folder, name) = split(path);
        let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        let entry = Entry::new(Kind::File, [folder, slash, b".wh.", name].concat(), 0o644);
        self.out.write_all(&tar::header(&entry))
    }

    fn opaque(&mut self, path: &[u8]) -> io::Result<()> {
        let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
        let entry = Entry::new(Kind::File, [path, slash, b".wh..wh..opq"].concat(), 0o644);
        self.out.write_all(&tar::header(&entry))
    }
}

fn looks(kind: Kind, path: Vec<u8>, stat: &Stat) -> Entry {
    Entry {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
        ..Entry::new(kind, path, stat.st_mode & 0o7777)
    }
}
