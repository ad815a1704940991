//! Names of the files of one log: the live one, and numbered ones that were rotated away, `1` the newest.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

/// A file of a log, opened for reading.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    /// Of the plain file, also when this one is compressed.
    pub(super) inode: u64,
    pub(super) compressed: bool,
    pub(super) size: u64,
}

/// Name of the plain file in a slot; 0 is the live file.
pub(super) fn plain(name: &str, slot: u32) -> String {
    if slot == 0 { name.to_owned() } else { format!("{name}.{slot}") }
}

/// Name of the compressed file in a slot.
pub(super) fn compressed(name: &str, slot: u32) -> String {
    format!("{name}.{slot}.gz")
}

/// Opens what is in a slot, `None` when it is empty.
pub(super) fn open(dir: BorrowedFd<'_>, name: &str, slot: u32) -> io::Result<Option<OpenFile>> {
    if let Some(file) = open_existing(dir, &plain(name, slot))? {
        let metadata = file.metadata()?;
        return Ok(Some(OpenFile { inode: metadata.ino(), size: metadata.len(), compressed: false, file }));
    }
    if slot == 0 {
        return Ok(None);
    }
    let Some(mut file) = open_existing(dir, &compressed(name, slot))? else {
        return Ok(None);
    };
    let (inode, size) = (super::compress::source_inode(&mut file)?, file.metadata()?.len());
    Ok(Some(OpenFile { file, inode, compressed: true, size }))
}

/// Whether a slot holds a file of either form.
pub(super) fn is_taken(dir: BorrowedFd<'_>, name: &str, slot: u32) -> io::Result<bool> {
    for candidate in [plain(name, slot), compressed(name, slot)] {
        match rustix::fs::statat(dir, &candidate, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => return Ok(true),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

fn open_existing(dir: BorrowedFd<'_>, name: &str) -> io::Result<Option<File>> {
    match openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty()) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
