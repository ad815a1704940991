//! Entries of a tree as entries of an archive, and an archive on a socket.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;

use ferry_spec::tar::{self, Entry, Kind};
use ferry_sys::tree::Found;
use rustix::fs::FileType;

/// Bytes written at once.
const BUFFER: usize = 256 * 1024;

/// An archive on its way out.
pub(crate) struct Archive {
    out: BufWriter<File>,
}

impl Archive {
    pub(crate) fn new(data: &OwnedFd) -> io::Result<Self> {
        Ok(Self { out: BufWriter::with_capacity(BUFFER, data.try_clone()?.into()) })
    }

    /// Adds an entry by this name.
    pub(crate) fn add(&mut self, mut found: Found, name: Vec<u8>) -> io::Result<()> {
        let file = found.file.take();
        let Some(entry) = entry(found, name) else { return Ok(()) };
        self.out.write_all(&tar::header(&entry))?;
        if entry.stored_bytes == 0 {
            return Ok(());
        }
        let file = file.ok_or(io::ErrorKind::InvalidData)?;
        self.data(&mut File::from(file), entry.stored_bytes)
    }

    /// Adds an entry without data.
    pub(crate) fn mark(&mut self, entry: &Entry) -> io::Result<()> {
        self.out.write_all(&tar::header(entry))
    }

    /// A file that grows or shrinks under our hands is told as long as it was said to be.
    fn data(&mut self, file: &mut File, length: u64) -> io::Result<()> {
        let copied = io::copy(&mut file.take(length), &mut self.out)?;
        let missing = length - copied + tar::padding(length);
        io::copy(&mut io::repeat(0).take(missing), &mut self.out).map(drop)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&tar::END)?;
        self.out.flush()
    }
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
