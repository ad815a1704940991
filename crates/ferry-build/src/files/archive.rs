//! Archives: those that `ADD` unpacks, and the context that a client sends.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};

use ferry_spec::tar::{Entry, Kind, Piece, ReadError, Reader, Source, next_entry, skip_padding};
use ferry_store::archive::decompress;
use ferry_sys::tree::{Looks, MakeError, Maker, Owner, Rules, clean as clean_name};
use rustix::fs::{FileType, OFlags};

use super::owner::Ids;
use super::place::{self, NewLooks, clean, shown};
use crate::content::is_kept;
use crate::failure::{Doing, Failure, Result};

/// Unpacks a file of a tree when it is an archive; tells whether it was.
pub(super) fn unpack_file(
    source: BorrowedFd<'_>,
    at: &[u8],
    target: BorrowedFd<'_>,
    to: &str,
    owner: Option<Ids>,
    looks: NewLooks,
) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(fd) = place::open_plain(source, at, flags) else { return Ok(false) };
    let mut file = File::from(fd);
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) || !is_archive(&mut file) {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(0)).doing(format!("read {}", shown(at)))?;
    let path = place::plain(target, &clean(to), true)?;
    place::make_dirs(target, &path, 0o755, looks)?;
    let folder = place::open_plain(target, &path, OFlags::RDONLY | OFlags::DIRECTORY).doing(format!("open {to}"))?;
    let owner = owner.map_or(Owner::AsGiven, |ids| Owner::Only(ids.uid, ids.gid));
    unpack(file, folder.as_fd(), owner).map_err(|failure| failure.during(format!("failed to unpack {}", shown(at))))?;
    Ok(true)
}

/// Docker's test: what is behind the compression begins like a tar.
fn is_archive(file: &mut File) -> bool {
    let Ok(plain) = decompress(&*file) else { return false };
    matches!(next_entry(&mut Reader(BufReader::new(plain))), Ok(Some(_)))
}

/// Unpacks what a client sends as its context, compressed or not, into an empty folder. Blocks.
pub(crate) fn unpack_context(stream: impl Read, folder: BorrowedFd<'_>) -> Result<()> {
    unpack(stream, folder, Owner::AsGiven)
}

fn unpack(stream: impl Read, folder: BorrowedFd<'_>, owner: Owner) -> Result<()> {
    let plain = decompress(stream).doing("cannot read the archive")?;
    let mut reader = Reader(BufReader::with_capacity(256 * 1024, plain));
    let rules = Rules { owner, replaces_kinds: true, label: "/".to_owned() };
    let mut maker = Maker::new(folder.as_fd(), rules);
    while let Some(entry) = next_entry(&mut reader).map_err(Failure::from)? {
        take(&mut maker, &mut reader, &entry)?;
    }
    // What follows the end of a tar is read, so that whoever sends it can end in peace.
    let _ = std::io::copy(&mut reader.0, &mut std::io::sink());
    Ok(maker.finish()?)
}

fn take<R: Read>(maker: &mut Maker<'_>, reader: &mut Reader<R>, entry: &Entry) -> Result<()> {
    let name =
        clean_name(&entry.path).ok_or_else(|| MakeError::Escapes(String::from_utf8_lossy(&entry.path).into_owned()))?;
    let looks = Looks {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.iter().filter(|(name, _)| is_kept(name)).cloned().collect(),
    };
    if name.is_empty() {
        reader.skip(entry.stored_bytes)?;
        return Ok(skip_padding(reader, entry.stored_bytes)?);
    }
    match entry.kind {
        Kind::Folder => maker.folder(&name, &looks)?,
        Kind::File => maker.file::<Failure>(&name, &looks, |file| fill(file, reader, entry))?,
        Kind::Symlink => maker.symlink(&name, &entry.link, &looks)?,
        Kind::HardLink => maker.hard_link(&name, &entry.link)?,
        Kind::CharDevice => maker.node(&name, FileType::CharacterDevice, entry.device, &looks)?,
        Kind::BlockDevice => maker.node(&name, FileType::BlockDevice, entry.device, &looks)?,
        Kind::Fifo => maker.node(&name, FileType::Fifo, (0, 0), &looks)?,
    }
    Ok(skip_padding(reader, entry.stored_bytes)?)
}

fn fill<R: Read>(file: &mut File, reader: &mut Reader<R>, entry: &Entry) -> Result<()> {
    let whole = [Piece { offset: 0, length: entry.stored_bytes }];
    for piece in entry.sparse.as_deref().unwrap_or(&whole) {
        if entry.sparse.is_some() {
            file.seek(SeekFrom::Start(piece.offset)).doing("cannot write a file")?;
        }
        reader.pieces::<Failure>(piece.length, |bytes| file.write_all(bytes).doing("cannot write a file"))?;
    }
    if entry.sparse.is_some() {
        file.set_len(entry.size).doing("cannot write a file")?;
    }
    Ok(())
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::invalid(format!("{error}{cause}"))
    }
}

impl From<MakeError> for Failure {
    fn from(error: MakeError) -> Self {
        Self::invalid(error.to_string())
    }
}
