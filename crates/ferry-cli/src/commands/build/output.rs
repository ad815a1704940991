//! What was built, on the client's disk: a directory or an archive.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use ferry_spec::tar::{Entry, Kind, ReadError, Reader, Source, next_entry, skip_padding};
use ferry_sys::tree::{Looks, MakeError, Maker, Owner, Rules, clean};

use super::options::Output;
use crate::failure::{Failure, Result};

/// Takes the pieces of the tar that the daemon sends.
pub(super) enum Sink {
    Nothing,
    Archive(Box<dyn Write>),
    Folder(SyncSender<Vec<u8>>, JoinHandle<Result<()>>),
}

impl Sink {
    pub(super) fn open(output: &Output) -> Result<Self> {
        let failed = |path: &str, error: io::Error| Failure::new(format!("ERROR: failed to build: {path}: {error}"));
        match output {
            Output::Image => Ok(Self::Nothing),
            Output::Archive(path) if path == "-" => Ok(Self::Archive(Box::new(io::stdout()))),
            Output::Archive(path) => {
                Ok(Self::Archive(Box::new(File::create(path).map_err(|error| failed(path, error))?)))
            }
            Output::Folder(path) => {
                let path = PathBuf::from(path);
                let (sender, receiver) = sync_channel(4);
                let thread = std::thread::spawn(move || unpack(&path, receiver));
                Ok(Self::Folder(sender, thread))
            }
        }
    }

    pub(super) fn take(&mut self, text: &str) -> Result<()> {
        let piece = URL_SAFE
            .decode(text)
            .map_err(|error| Failure::new(format!("ERROR: failed to build: cannot read what was built: {error}")))?;
        match self {
            Self::Nothing => {}
            Self::Archive(file) => file.write_all(&piece)?,
            // A thread that has ended says why below.
            Self::Folder(sender, _) => drop(sender.send(piece)),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Archive(mut file) => Ok(file.flush()?),
            Self::Folder(sender, thread) => {
                drop(sender);
                thread.join().unwrap_or_else(|_| Err(Failure::new("ERROR: failed to build: unpacking panicked")))
            }
        }
    }
}

struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.at) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn unpack(path: &std::path::Path, receiver: Receiver<Vec<u8>>) -> Result<()> {
    std::fs::create_dir_all(path)?;
    let folder = File::open(path)?;
    let rules = Rules { owner: Owner::Caller, replaces_kinds: true, label: path.display().to_string() };
    let mut maker = Maker::new(folder.as_fd(), rules);
    let mut reader = Reader(BufReader::new(Pieces { receiver, piece: Vec::new(), at: 0 }));
    while let Some(entry) = next_entry(&mut reader)? {
        take(&mut maker, &mut reader, &entry)?;
    }
    Ok(maker.finish()?)
}

fn take<R: Read>(maker: &mut Maker<'_>, reader: &mut Reader<R>, entry: &Entry) -> Result<()> {
    let name = clean(&entry.path).unwrap_or_default();
    if name.is_empty() {
        reader.skip(entry.stored_bytes)?;
        return Ok(skip_padding(reader, entry.stored_bytes)?);
    }
    let looks = Looks { mode: entry.mode, mtime: entry.mtime, ..Looks::default() };
    match entry.kind {
        Kind::Folder => maker.folder(&name, &looks)?,
        Kind::File => maker.file::<Failure>(&name, &looks, |file| {
            reader.pieces::<Failure>(entry.stored_bytes, |bytes| Ok(file.write_all(bytes)?))
        })?,
        Kind::Symlink => maker.symlink(&name, &entry.link, &looks)?,
        Kind::HardLink => maker.hard_link(&name, &entry.link)?,
        // As BuildKit's client: what only root may make is left out.
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {}
    }
    Ok(skip_padding(reader, entry.stored_bytes)?)
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::new(format!("ERROR: failed to build: cannot read what was built: {error}"))
    }
}

impl From<MakeError> for Failure {
    fn from(error: MakeError) -> Self {
        Self::new(format!("ERROR: failed to build: {error}"))
    }
}
