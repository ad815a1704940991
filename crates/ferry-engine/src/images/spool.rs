//! Bytes that come in without a digest: requests as readers, and nameless files to put them in.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use bytes::Bytes;
use ferry_spec::Digest;
use ferry_spec::digest::{Algorithm, Hasher};
use ferry_store::Store;
use futures_util::{Stream, StreamExt};
use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc;

use crate::error::{Context, Result};

/// Pieces of a request that may wait.
const PIECES: usize = 16;
/// Bytes that are copied at once.
const CHUNK: usize = 256 * 1024;

/// The body of a request, read on a thread while it arrives.
pub(super) struct Body {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Body {
    /// Starts taking pieces from `stream`; ends when the reader is dropped.
    pub(super) fn read(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(piece) = stream.next().await {
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        });
        Self { pieces, current: Bytes::new() }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.current = piece?,
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// A nameless file whose bytes are hashed as they come.
pub(super) struct Spool {
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Spool {
    /// Makes one on the file system of `folder`.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)
            .context(format!("cannot make a temporary file in {}", folder.display()))?;
        Ok(Self { file: file.into(), hasher: Hasher::new(Algorithm::Sha256), size: 0 })
    }

    /// Moves the bytes into the store; returns their digest and length.
    pub(super) fn store(mut self, store: &Store) -> Result<(Digest, u64)> {
        let digest = self.hasher.finish();
        if !store.has_blob(&digest) {
            self.file.rewind().context("cannot read a temporary file")?;
            store_blob(store, &digest, self.size, &mut self.file)?;
        }
        Ok((digest, self.size))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Stores what `source` holds under the digest that it must have.
pub(super) fn store_blob(store: &Store, digest: &Digest, size: u64, source: &mut impl Read) -> Result<()> {
    let failed = || format!("cannot store {digest}");
    let mut writer = store.writer(digest, Some(size)).context(failed())?;
    writer.restart().context(failed())?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = source.read(&mut buffer).context(failed())?;
        if count == 0 {
            break;
        }
        writer.write(&buffer[..count]).context(failed())?;
    }
    writer.commit().context(failed())
}
