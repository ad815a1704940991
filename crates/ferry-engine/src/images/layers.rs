//! Layers on their way in: fetched, checked and unpacked at the same time.
//!
//! One thread per layer takes the bytes as they arrive, writes them as a blob and hands them on to be unpacked. The unpacker sees the
//! end of its input only after the blob has proved to be what the manifest says, so nothing becomes visible before both digests fit.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use ferry_api::stream::Progress;
use ferry_registry::Repository;
use ferry_spec::{ChainId, Descriptor, DiffId, Digest};
use ferry_store::{BlobWriter, Lease};
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::Inner;
use super::names::short;
use super::progress::{Pace, amount, ended, while_extracting};
use super::transfer::Transfer;
use crate::error::{Error, ErrorKind, Result};

/// Pieces that may wait to be written; some megabytes.
const PIECES: usize = 64;

/// Holds what a transfer writes or finds, and tidies up after one that came to nothing.
pub(super) struct Hold {
    lease: Option<Lease>,
    inner: Arc<Inner>,
    kept: AtomicBool,
}

impl Hold {
    pub(super) fn take(inner: &Arc<Inner>) -> Arc<Self> {
        let lease = Some(inner.store.lease());
        Arc::new(Self { lease, inner: Arc::clone(inner), kept: AtomicBool::new(false) })
    }

    /// Notes that a name now keeps what was fetched.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop(self.lease.take());
        let kept = self.kept.load(Ordering::Relaxed);
        let inner = Arc::clone(&self.inner);
        // The last holder may be a task or a thread of the runtime; without one the next collection does it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || {
                if !kept {
                    inner.collect();
                }
                // Whoever needed them to last has seen to that; these serve builds to come.
                if let Err(error) = inner.store.settle() {
                    tracing::warn!(%error, "layers that were built may be lost");
                }
                inner.drop_blobs();
                inner.keep_to_budget();
                // Buffers of layers are tens of megabytes, which the allocator would keep for the next transfer.
                ferry_sys::memory::give_back();
            });
        }
    }
}

/// One layer of an image to be.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    pub(super) parent: Option<ChainId>,
    pub(super) diff_id: DiffId,
}

impl Layer {
    /// Pairs the layers of a manifest with what its configuration says about them.
    pub(super) fn all(descriptors: &[Descriptor], diff_ids: &[DiffId]) -> Vec<Self> {
        let chains = ChainId::each_of(diff_ids);
        let parents = std::iter::once(None).chain(chains.into_iter().map(Some));
        descriptors
            .iter()
            .zip(diff_ids)
            .zip(parents)
            .map(|((descriptor, diff_id), parent)| Self {
                descriptor: descriptor.clone(),
                parent,
                diff_id: diff_id.clone(),
            })
            .collect()
    }

    pub(super) fn chain(&self) -> ChainId {
        ChainId::child(self.parent.as_ref(), &self.diff_id)
    }

    fn id(&self) -> &str {
        short(self.descriptor.digest.as_str())
    }
}

impl Inner {
    /// Brings a layer here, unless it is: its blob from `repository`, and unpacked.
    pub(super) async fn fetch_layer(
        self: &Arc<Self>,
        repository: &Repository,
        layer: Layer,
        hold: &Arc<Hold>,
        out: &Transfer,
    ) -> Result<()> {
        // Whoever comes second finds what the first one fetched.
        let _turn = self.turn(&layer.descriptor.digest).await;
        let has_blob = self.store.has_blob(&layer.descriptor.digest);
        if self.is_here(&layer) {
            out.say(ended(layer.id(), "Already exists"));
            return Ok(());
        }
        if has_blob {
            while_extracting(layer.id(), out, self.unpack_blob(layer.clone(), hold)).await?;
        } else {
            self.download(repository, &layer, hold, out).await?;
        }
        out.say(ended(layer.id(), "Pull complete"));
        Ok(())
    }

    /// Tells whether a layer is unpacked and, where that is asked for, kept as it came.
    pub(super) fn is_here(&self, layer: &Layer) -> bool {
        let is_kept = self.store.has_blob(&layer.descriptor.digest) || !self.keep_blobs;
        is_kept && self.store.has_layer(&layer.chain())
    }

    /// Unpacks a layer whose blob is here.
    pub(super) async fn unpack_blob(self: &Arc<Self>, layer: Layer, hold: &Arc<Hold>) -> Result<()> {
        let _permit = self.unpacks.acquire().await.expect("never closed");
        let (inner, hold) = (Arc::clone(self), Arc::clone(hold));
        blocking(move || {
            let _hold = hold;
            inner.unpack_stored(&layer).map_err(layer_failed)
        })
        .await
    }

    async fn download(
        self: &Arc<Self>,
        repository: &Repository,
        layer: &Layer,
        hold: &Arc<Hold>,
        out: &Transfer,
    ) -> Result<()> {
        let permit = self.downloads.acquire().await.expect("never closed");
        let descriptor = &layer.descriptor;
        let writer = self.store.writer(&descriptor.digest, Some(descriptor.size)).map_err(layer_failed)?;
        // What an earlier transfer left is not fetched again.
        let begun = writer.offset();
        let (sender, receiver) = mpsc::channel(PIECES);
        let unpacked = {
            let (inner, hold, layer) = (Arc::clone(self), Arc::clone(hold), layer.clone());
            tokio::task::spawn_blocking(move || {
                let _hold = hold;
                inner.receive(&layer, writer, receiver)
            })
        };
        let mut stream = repository.blob_from(descriptor, begun);
        let mut pace = Pace::new();
        let mut fetched = Ok(());
        loop {
            let piece = match stream.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    if !error.is_interruption() {
                        // What came so far is no good beginning.
                        let _ = sender.send(Piece::Spoiled).await;
                    }
                    fetched = Err(super::pull::fetch_failed(error));
                    break;
                }
            };
            // The thread has its own reason for leaving, which is asked for below.
            if sender.send(Piece::Bytes(piece)).await.is_err() {
                break;
            }
            if pace.is_due() {
                let (current, total) = (count(stream.offset()), count(descriptor.size));
                out.hint(&amount(layer.id(), "Downloading", Progress { current, total, ..Progress::default() }));
            }
        }
        let is_whole = fetched.is_ok() && sender.send(Piece::End).await.is_ok();
        drop((sender, permit));
        let received = if is_whole {
            out.say(ended(layer.id(), "Download complete"));
            while_extracting(layer.id(), out, unpacked).await
        } else {
            unpacked.await
        };
        let received = received.unwrap_or_else(|error| Err(Error::internal("unpacking panicked").with_source(error)));
        fetched.and(received)
    }

    /// Takes the pieces of a layer from the channel, on a thread.
    fn receive(&self, layer: &Layer, writer: BlobWriter, pieces: mpsc::Receiver<Piece>) -> Result<()> {
        let begun = writer.written().map_err(layer_failed)?;
        let mut source =
            Incoming { begun: Some(begun), pieces, current: Bytes::new(), writer: Some(writer), failure: None };
        let unpacked = if self.store.has_layer(&layer.chain()) {
            io::copy(&mut source, &mut io::sink()).map(drop).map_err(|error| Error::internal(error.to_string()))
        } else {
            self.unpack(layer, &mut source).map_err(layer_failed)
        };
        match source.failure {
            // What the unpacker makes of a failed read says less than the failure.
            Some(failure) => Err(failure),
            None => unpacked,
        }
    }

    pub(super) fn unpack(&self, layer: &Layer, source: impl Read) -> ferry_store::Result<()> {
        let media_type = &layer.descriptor.media_type;
        self.store.apply_layer(layer.parent.as_ref(), &layer.diff_id, media_type, source).map(drop)
    }

    /// Unpacks a layer whose blob is here, or is made of another unpacked one's files.
    pub(super) fn unpack_stored(&self, layer: &Layer) -> ferry_store::Result<()> {
        let digest = &layer.descriptor.digest;
        let file = self.store.open_blob(digest)?;
        if *digest != layer.diff_id.0 || self.store.stores_blob(digest) {
            return self.unpack(layer, file);
        }
        // It goes with the other layer, so this one has to know, too, how it is made.
        let new = self.store.unpack_new_layer(layer.parent.as_ref(), file)?;
        let layer = self.store.publish_new_layer(new)?;
        tracing::debug!(layer = %layer.chain_id, "layer unpacked from one that was built here");
        Ok(())
    }

    /// Waits until nobody else is busy with the blob.
    pub(super) async fn turn(self: &Arc<Self>, digest: &Digest) -> Turn {
        let lock = Arc::clone(self.blobs().entry(digest.clone()).or_default());
        let guard = lock.lock_owned().await;
        Turn { inner: Arc::clone(self), digest: digest.clone(), guard: Some(guard) }
    }

    fn blobs(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<tokio::sync::Mutex<()>>>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to fetch one blob.
pub(super) struct Turn {
    inner: Arc<Inner>,
    digest: Digest,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut blobs = self.inner.blobs();
        // Nobody else holds or waits for it.
        if blobs.get(&self.digest).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            blobs.remove(&self.digest);
        }
    }
}

enum Piece {
    Bytes(Bytes),
    /// All that was announced has come; without it the transfer was broken off, and may go on some other time.
    End,
    /// The other side sends what it should not.
    Spoiled,
}

/// The pieces of a blob as a reader that stores what it passes on.
struct Incoming {
    /// What is there from an earlier transfer, until it has been read.
    begun: Option<io::Take<File>>,
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    writer: Option<BlobWriter>,
    failure: Option<Error>,
}

impl Incoming {
    fn fail(&mut self, error: Error) -> io::Error {
        let text = error.text();
        self.failure = Some(error);
        self.writer = None;
        io::Error::other(text)
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(begun) = &mut self.begun {
            match begun.read(buffer) {
                Ok(0) => self.begun = None,
                read => return read,
            }
        }
        while self.current.is_empty() {
            let Some(writer) = &mut self.writer else { return Ok(0) };
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => {
                    let written = writer.write(&bytes);
                    written.map_err(|error| self.fail(layer_failed(error)))?;
                    self.current = bytes;
                }
                Some(Piece::End) => {
                    let committed = self.writer.take().map_or(Ok(()), BlobWriter::commit);
                    committed.map_err(|error| self.fail(layer_failed(error)))?;
                }
                Some(Piece::Spoiled) => return Err(self.fail(Error::internal("the transfer was given up"))),
                None => {
                    if let Some(writer) = self.writer.take()
                        && let Err(error) = writer.keep_partial()
                    {
                        tracing::debug!(%error, "the beginning of a layer is not kept");
                    }
                    return Err(self.fail(Error::internal("the transfer was broken off")));
                }
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// Runs blocking work on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::internal("image work panicked").with_source(error)))
}

/// Words a failure to store or unpack.
pub(super) fn layer_failed(error: ferry_store::Error) -> Error {
    Error::new(ErrorKind::Internal, "failed to register layer").with_source(error)
}

fn count(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_know_what_lies_below_them() {
        let diff_ids: Vec<DiffId> = [b"a", b"b"].map(|bytes| DiffId(Digest::sha256(bytes))).into();
        let descriptors = [b"1", b"2"].map(|bytes| Descriptor::new("", Digest::sha256(bytes), 1));
        let layers = Layer::all(&descriptors, &diff_ids);
        assert_eq!(layers[0].parent, None);
        assert_eq!(layers[1].parent, Some(layers[0].chain()));
        assert_eq!(Some(layers[1].chain()), ChainId::from_diff_ids(&diff_ids));
    }
}
