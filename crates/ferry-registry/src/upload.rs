//! Bodies of requests that can be sent again.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::mpsc;

use crate::push::{BlobSource, SentBytes};

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;
/// Pieces that are read ahead.
const AHEAD: usize = 4;

/// What a request carries.
#[derive(Clone)]
pub(crate) struct Upload {
    pub(crate) length: u64,
    content: Content,
    /// Bytes that the connection has taken, over all tries.
    taken: Arc<AtomicU64>,
}

#[derive(Clone)]
enum Content {
    Bytes(Bytes),
    Source { source: Arc<dyn BlobSource>, offset: u64, sent: SentBytes<'static> },
}

impl Upload {
    /// Carries these bytes.
    pub(crate) fn of_bytes(bytes: Bytes) -> Self {
        Self { length: bytes.len() as u64, content: Content::Bytes(bytes), taken: Arc::default() }
    }

    /// Carries `length` bytes of `source` from `offset` on, and tells how far it came.
    pub(crate) fn of_source(source: Arc<dyn BlobSource>, offset: u64, length: u64, sent: SentBytes<'static>) -> Self {
        Self { length, content: Content::Source { source, offset, sent }, taken: Arc::default() }
    }

    /// Returns a number that grows while bytes are taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Makes the body of one try.
    pub(crate) fn body(&self) -> reqwest::Body {
        let Content::Source { source, offset, sent } = &self.content else {
            let Content::Bytes(bytes) = &self.content else { unreachable!("there are two kinds") };
            return bytes.clone().into();
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (source, offset, length) = (Arc::clone(source), *offset, self.length);
        tokio::task::spawn_blocking(move || read_ahead(source.as_ref(), offset, length, &sender));
        let (sent, taken) = (Arc::clone(sent), Arc::clone(&self.taken));
        let pieces = stream::unfold((receiver, offset), move |(mut receiver, mut at)| {
            let (sent, taken) = (Arc::clone(&sent), Arc::clone(&taken));
            async move {
                let piece: std::io::Result<Bytes> = receiver.recv().await?;
                if let Ok(bytes) = &piece {
                    at += bytes.len() as u64;
                    taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    sent(at);
                }
                Some((piece, (receiver, at)))
            }
        });
        reqwest::Body::wrap_stream(pieces)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("length", &self.length).finish_non_exhaustive()
    }
}

fn read_ahead(source: &dyn BlobSource, offset: u64, length: u64, sender: &mpsc::Sender<std::io::Result<Bytes>>) {
    let mut left = length;
    let read = || -> std::io::Result<()> {
        let mut reader = source.open(offset)?.take(length);
        while left > 0 {
            let mut piece = BytesMut::zeroed(PIECE.min(usize::try_from(left).unwrap_or(PIECE)));
            reader.read_exact(&mut piece)?;
            left -= piece.len() as u64;
            if sender.blocking_send(Ok(piece.freeze())).is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    let mut read = read;
    if let Err(error) = read() {
        // Nobody to tell is no further failure.
        let _ = sender.blocking_send(Err(error));
    }
}
