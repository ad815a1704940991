//! Trees on their way to the client, as tars.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use ferry_spec::tar::{END, Entry, Kind, header, padding};
use ferry_sys::tree::Found;
use rustix::fs::FileType;
use tokio::sync::mpsc;

use crate::builder::{Builder, Built};
use crate::content::each_of_built;
use crate::epoch::Epoch;
use crate::failure::{Doing, Failure, Result, blocking};

/// Bytes of one piece.
const PIECE: usize = 192 * 1024;

impl Builder {
    /// Writes what was built as one tar, piece by piece: the tree itself, or one directory for each of several platforms.
    ///
    /// # Errors
    /// When a tree cannot be read. A receiver that is gone ends it.
    pub(crate) async fn write_tar(&self, built: &Built, epoch: Epoch, pieces: mpsc::Sender<Vec<u8>>) -> Result<()> {
        let (targets, workshop) = (built.targets.clone(), self.ground().engine.workshop.clone());
        blocking(move || {
            let mut archive = Archive { pieces, buffer: Vec::with_capacity(PIECE), epoch: None };
            for target in &targets {
                archive.epoch = epoch.or(target.epoch);
                let folder = match targets.len() {
                    1 => String::new(),
                    _ => format!("{}/", target.platform.to_string().replace('/', "_")),
                };
                if !folder.is_empty() {
                    archive.put(&header(&Entry::new(Kind::Folder, folder.clone(), 0o755)))?;
                }
                let open = target.tree.open(&workshop)?;
                archive.tree(open.as_fd(), folder.as_bytes())?;
            }
            archive.put(&END)?;
            archive.flush()
        })
        .await
    }
}

/// Reads a tree as a tar, which a thread of its own writes; the thread ends when nobody reads on.
pub(crate) fn tar_of(root: OwnedFd) -> (impl Read, JoinHandle<Result<()>>) {
    let (pieces, receiver) = mpsc::channel(4);
    let writing = std::thread::spawn(move || {
        let mut archive = Archive { pieces, buffer: Vec::with_capacity(PIECE), epoch: None };
        archive.tree(root.as_fd(), b"")?;
        archive.put(&END)?;
        archive.flush()
    });
    (Pieces { receiver, piece: Vec::new(), at: 0 }, writing)
}

/// Pieces as they come, as a reader.
struct Pieces {
    receiver: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.blocking_recv() {
                Some(piece) => (self.piece, self.at) = (piece, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

struct Archive {
    pieces: mpsc::Sender<Vec<u8>>,
    buffer: Vec<u8>,
    /// The time of all files, in place of their own.
    epoch: Option<i64>,
}

impl Archive {
    fn tree(&mut self, root: std::os::fd::BorrowedFd<'_>, below: &[u8]) -> Result<()> {
        each_of_built(root, |found| self.entry(found, below))
    }

    fn entry(&mut self, found: Found, below: &[u8]) -> Result<()> {
        let path = |name: &[u8]| [below, name].concat();
        let kind = match found.kind {
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            _ if found.same_as.is_some() => Kind::HardLink,
            _ => Kind::File,
        };
        let name = if kind == Kind::Folder { [&found.path[..], b"/"].concat() } else { found.path.clone() };
        let mut entry = Entry::new(kind, path(&name), found.looks.mode);
        entry.uid = found.looks.uid;
        entry.gid = found.looks.gid;
        entry.mtime = self.epoch.map_or(found.looks.mtime, |seconds| (seconds, 0));
        entry.xattrs = found.looks.xattrs;
        entry.device = found.device;
        entry.link = match (&found.same_as, kind) {
            (Some(first), Kind::HardLink) => path(first),
            _ => found.link,
        };
        if kind != Kind::File {
            return self.put(&header(&entry));
        }
        entry.size = found.size;
        entry.stored_bytes = found.size;
        self.put(&header(&entry))?;
        let mut left = found.size;
        let mut file = found.file.map(File::from);
        let mut buffer = vec![0; PIECE];
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = match file.as_mut() {
                Some(file) => file.read(&mut buffer[..wanted]).doing("cannot read what was built")?,
                None => 0,
            };
            if read == 0 {
                return Err(Failure::internal("a file changed while it was read"));
            }
            self.put(&buffer[..read])?;
            left -= read as u64;
        }
        let zeros = [0; 512];
        self.put(&zeros[..usize::try_from(padding(found.size)).unwrap_or_default()])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.pieces.blocking_send(piece).map_err(|_| Failure::internal("nobody takes what was built"))
    }
}
