//! What was built, on the client's disk: a directory or an archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use ferry_buildkit_proto::grpc::{Call, Code, Messages, Status};
use ferry_buildkit_proto::messages::BytesMessage;
use ferry_spec::tar::{Entry, Kind, ReadError, Reader, Source, next_entry, skip_padding};
use ferry_sys::tree::{Looks, MakeError, Maker, Owner, Rules, clean};

use super::outputs::{Dest, Output};
use crate::failure::{Failure, Result};

/// By which the daemon sends an output.
pub(super) const SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// The header that says which.
const NUMBER: &str = "buildkit-attachable-exporter-id";

/// Where outputs go, by their numbers.
pub(super) struct Sinks(BTreeMap<usize, Dest>);

impl Sinks {
    /// Those that come to this side as one stream of bytes each.
    pub(super) fn of(outputs: &[Output]) -> Self {
        let all = outputs.iter().enumerate().map(|(number, output)| (number, output.dest.clone()));
        Self(all.filter(|(_, dest)| matches!(dest, Dest::File(_) | Dest::Folder(_))).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one output as it comes.
    pub(super) async fn take(&self, mut call: Call) -> std::result::Result<(), Status> {
        let number = call.text(NUMBER).parse().unwrap_or_default();
        let outcome = self.take_pieces(number, &mut call.requests).await;
        if outcome.is_err() {
            // A stream that is cut while the daemon still sends may lose the reason: what comes is read until it stops.
            let mut rest = call.requests;
            tokio::spawn(async move { while let Ok(Some(BytesMessage { .. })) = rest.next().await {} });
        }
        outcome
    }

    async fn take_pieces(&self, number: usize, pieces: &mut Messages) -> std::result::Result<(), Status> {
        let dest = self.0.get(&number);
        let dest = dest.ok_or_else(|| Status::new(Code::NotFound, format!("exporter {number} not found")))?;
        let mut sink = Sink::open(dest).map_err(told)?;
        while let Some(piece) = pieces.next::<BytesMessage>().await? {
            sink.take(piece.data).map_err(told)?;
        }
        sink.finish().map_err(told)
    }
}

/// What the daemon hears of a failure; it words it as a build's.
fn told(failure: Failure) -> Status {
    Status::failed(failure.message.trim_start_matches("ERROR: failed to build: ").to_owned())
}

/// Takes the pieces of one output.
enum Sink {
    Archive(Box<dyn Write + Send>),
    Folder(SyncSender<Bytes>, JoinHandle<Result<()>>),
}

impl Sink {
    fn open(dest: &Dest) -> Result<Self> {
        match dest {
            Dest::File(path) if path == "-" => Ok(Self::Archive(Box::new(io::stdout()))),
            Dest::Folder(path) => {
                let path = PathBuf::from(path);
                let (sender, receiver) = sync_channel(4);
                let thread = std::thread::spawn(move || unpack(&path, receiver));
                Ok(Self::Folder(sender, thread))
            }
            Dest::File(path) | Dest::Layout(path) => {
                let file = File::create(path).map_err(|error| Failure::new(format!("open {path}: {error}")))?;
                Ok(Self::Archive(Box::new(file)))
            }
            Dest::Daemon | Dest::Nowhere => Err(Failure::new("an output that stays with the daemon")),
        }
    }

    fn take(&mut self, piece: Bytes) -> Result<()> {
        match self {
            Self::Archive(file) => file.write_all(&piece)?,
            // A thread that has ended says why below.
            Self::Folder(sender, _) => drop(sender.send(piece)),
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Archive(mut file) => Ok(file.flush()?),
            Self::Folder(sender, thread) => {
                drop(sender);
                thread.join().unwrap_or_else(|_| Err(Failure::new("unpacking panicked")))
            }
        }
    }
}

struct Pieces {
    receiver: Receiver<Bytes>,
    piece: Bytes,
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

fn unpack(path: &std::path::Path, receiver: Receiver<Bytes>) -> Result<()> {
    std::fs::create_dir_all(path)?;
    let folder = File::open(path)?;
    let rules = Rules { owner: Owner::Caller, replaces_kinds: true, label: path.display().to_string() };
    let mut maker = Maker::new(folder.as_fd(), rules);
    let mut reader = Reader(BufReader::new(Pieces { receiver, piece: Bytes::new(), at: 0 }));
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
