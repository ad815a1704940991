//! Bodies of requests as blocking readers.

use std::io::{self, Read};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

/// Pieces of a request that may wait.
const PIECES: usize = 16;

/// The body of a request, read on a thread while it arrives.
pub(crate) struct Body {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Body {
    /// Starts taking pieces from `stream`; ends when the reader is dropped.
    pub(crate) fn read(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
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
