//! An archive on its way in.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

use ferry_shim::files::Unpack;
use ferry_spec::tar::{Entry, Kind, ReadError, Reader, Source, next_entry, skip_padding};
use ferry_sys::path::resolve_in_view;
use ferry_sys::tree::{Looks, MakeError, Maker, Owner, Rules, clean};
use rustix::fs::{FileType, OFlags};

use super::Sockets;
use super::answer::{Answer, Failure};
use super::paths::lies_in;
use super::read::root;

/// Unpacks the archive into its folder.
pub(crate) fn unpack(order: &Unpack, sockets: &Sockets) -> Answer {
    let inside = if order.path.is_empty() { "." } else { &order.path };
    let failed = |errno| Failure::call("lstat", &order.path, errno);
    let place = resolve_in_view(root()?, inside, OFlags::PATH).map_err(failed)?;
    let stat = rustix::fs::statat(&place, "", rustix::fs::AtFlags::EMPTY_PATH).map_err(failed)?;
    if !FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Failure::invalid("extraction point is not a directory"));
    }
    // The working folder is the way to learn what a descriptor is called.
    rustix::process::fchdir(&place).map_err(failed)?;
    let name = rustix::process::getcwd(Vec::new()).map_err(failed)?.to_string_lossy().into_owned();
    may_write(order, &name)?;
    let owner = match order.user.as_deref() {
        Some(user) => {
            let (uid, gid) = ferry_runtime::view::user_of(user)?;
            Owner::Only(uid, gid)
        }
        None => Owner::AsGiven,
    };
    let rules = Rules { owner, replaces_kinds: !order.keep_kinds, label: name };
    let folder = resolve_in_view(&place, ".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let mut reader = Reader(BufReader::with_capacity(256 * 1024, File::from(sockets.data.try_clone()?)));
    let mut maker = Maker::new(folder.as_fd(), rules);
    while let Some(entry) = next_entry(&mut reader)? {
        take(&mut maker, &mut reader, &entry, order.itself)?;
    }
    Ok(maker.finish()?)
}

/// Docker's answers for what was made not to be written.
fn may_write(order: &Unpack, path: &str) -> Answer {
    let volumes = order.volumes.iter().filter(|(place, _)| lies_in(path, place));
    match volumes.max_by_key(|(place, _)| place.len()) {
        Some((_, true)) => Ok(()),
        Some((_, false)) => Err(Failure::invalid("mounted volume is marked read-only")),
        None if order.read_only_root => Err(Failure::invalid("container rootfs is marked read-only")),
        None => Ok(()),
    }
}

fn take<R: std::io::Read>(maker: &mut Maker<'_>, reader: &mut Reader<R>, entry: &Entry, itself: bool) -> Answer {
    let name =
        clean(&entry.path).ok_or_else(|| MakeError::Escapes(String::from_utf8_lossy(&entry.path).into_owned()))?;
    let looks = Looks {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.iter().filter(|(name, _)| may_bring(name)).cloned().collect(),
    };
    if name.is_empty() {
        if itself && entry.kind == Kind::Folder {
            maker.root(looks);
        }
        // Else the folder itself stays as it is.
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

fn fill<R: std::io::Read>(file: &mut File, reader: &mut Reader<R>, entry: &Entry) -> Answer {
    let whole = [ferry_spec::tar::Piece { offset: 0, length: entry.stored_bytes }];
    for piece in entry.sparse.as_deref().unwrap_or(&whole) {
        if entry.sparse.is_some() {
            file.seek(SeekFrom::Start(piece.offset))?;
        }
        reader
            .pieces(piece.length, |bytes| file.write_all(bytes).map_err(|error| Written(error.into())))
            .map_err(|Written(failure)| failure)?;
    }
    if entry.sparse.is_some() {
        file.set_len(entry.size)?;
    }
    Ok(())
}

/// A failure on either end of a copy.
struct Written(Failure);

impl From<ReadError> for Written {
    fn from(error: ReadError) -> Self {
        Self(error.into())
    }
}

/// Attributes that an archive may bring; the engine's own marks are never among them.
fn may_bring(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}
