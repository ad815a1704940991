//! Reading a tree.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{Looks, attribute, attribute_names};

/// File systems that show the kernel, not files: they are never gone into.
const KERNEL: [u32; 13] = [
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x0000_1cd1, // devpts
    0x1980_0202, // mqueue
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x6165_676c, // pstore
    0x4249_4e4d, // binfmt_misc
];

/// One entry of a tree.
#[derive(Debug)]
pub struct Found {
    /// Where it is told to be.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: FileType,
    /// How it looks.
    pub looks: Looks,
    /// Target of a symbolic link.
    pub link: Vec<u8>,
    /// The path told earlier of another name of the same file.
    pub same_as: Option<Vec<u8>>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Bytes of a regular file when it was looked at.
    pub size: u64,
    /// The regular file, or the folder, itself.
    pub file: Option<OwnedFd>,
}

/// A walk over one or more trees, folders first, names in order. Sockets are passed over, as is what vanishes meanwhile.
pub struct Walk<'a> {
    /// Told each entry.
    pub visit: &'a mut dyn FnMut(Found) -> io::Result<()>,
    /// Which attributes are read.
    pub wants: fn(&[u8]) -> bool,
    seen: HashMap<(u64, u64), Vec<u8>>,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Walk").field("seen", &self.seen.len()).finish_non_exhaustive()
    }
}

impl<'a> Walk<'a> {
    /// Prepares a walk that tells each entry to `visit`.
    pub fn new(wants: fn(&[u8]) -> bool, visit: &'a mut dyn FnMut(Found) -> io::Result<()>) -> Self {
        Self { visit, wants, seen: HashMap::new() }
    }

    /// Walks the tree at `name` in `folder`; it is told to be at `path`.
    ///
    /// # Errors
    /// Those of `visit`; when an entry that is there cannot be read.
    pub fn tree(&mut self, folder: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> io::Result<()> {
        match self.entry(folder, name, path) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
            done => done,
        }
    }

    /// Walks what is in `folder`, not itself.
    ///
    /// # Errors
    /// As [`Walk::tree`].
    pub fn children(&mut self, folder: BorrowedFd<'_>, path: &[u8]) -> io::Result<()> {
        for name in names(folder)? {
            let below = if path.is_empty() { name.to_bytes().to_vec() } else { [path, b"/", name.to_bytes()].concat() };
            self.tree(folder, name.to_bytes(), &below)?;
        }
        Ok(())
    }

    /// Tells of one entry and not of what is in it; returns its descriptor when it is a folder.
    ///
    /// # Errors
    /// As [`Walk::tree`]; `ENOENT` when it is gone.
    pub fn alone(&mut self, folder: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(folder, name, flags, Mode::empty()).map_err(changed)?;
                let stat = rustix::fs::fstat(&fd)?;
                let mut found = self.found(&stat, path);
                found.looks.xattrs = self.attributes(fd.as_fd())?;
                found.file = Some(fd.try_clone()?);
                (self.visit)(found)?;
                Ok(Some(fd))
            }
            FileType::RegularFile => {
                // Whatever takes its place meanwhile is neither followed nor waited for.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(folder, name, flags, Mode::empty()).map_err(changed)?;
                let stat = rustix::fs::fstat(&fd)?;
                if !FileType::from_raw_mode(stat.st_mode).is_file() {
                    return Ok(None);
                }
                let mut found = self.linked(&stat, path);
                found.looks.xattrs = self.attributes(fd.as_fd())?;
                found.file = Some(fd);
                (self.visit)(found)?;
                Ok(None)
            }
            FileType::Symlink => {
                let mut found = self.linked(&stat, path);
                found.link = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(changed)?.into_bytes();
                (self.visit)(found)?;
                Ok(None)
            }
            FileType::Socket => Ok(None),
            _ => {
                let found = self.linked(&stat, path);
                (self.visit)(found)?;
                Ok(None)
            }
        }
    }

    fn entry(&mut self, folder: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> io::Result<()> {
        let Some(fd) = self.alone(folder, name, path)? else { return Ok(()) };
        if shows_the_kernel(fd.as_fd())? {
            return Ok(());
        }
        self.children(fd.as_fd(), path)
    }

    fn found(&self, stat: &Stat, path: &[u8]) -> Found {
        Found {
            path: path.to_vec(),
            kind: FileType::from_raw_mode(stat.st_mode),
            looks: Looks {
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
                mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
                xattrs: Vec::new(),
            },
            link: Vec::new(),
            same_as: None,
            device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            file: None,
        }
    }

    /// What may have several names.
    fn linked(&mut self, stat: &Stat, path: &[u8]) -> Found {
        let mut found = self.found(stat, path);
        if stat.st_nlink > 1 {
            let first = self.seen.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
            found.same_as = (first != path).then(|| first.clone());
        }
        found
    }

    fn attributes(&self, file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut read = Vec::new();
        for name in attribute_names(file)?.into_iter().filter(|name| (self.wants)(name)) {
            if let Some(value) = attribute(file, &name)? {
                read.push((name, value));
            }
        }
        Ok(read)
    }
}

/// Something else is there now than was looked at: as good as gone.
fn changed(errno: Errno) -> Errno {
    match errno {
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::INVAL => Errno::NOENT,
        other => other,
    }
}

/// Tells whether a folder lies in a file system of the kernel's own.
pub(crate) fn shows_the_kernel(folder: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = rustix::fs::fstatfs(folder)?.f_type;
    Ok(u32::try_from(kind & 0xffff_ffff).is_ok_and(|kind| KERNEL.contains(&kind)))
}

/// Reads the names in a folder, sorted.
fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
