//! Where a cache lies: a repository of a registry, or a directory of the client.

use std::io::Read;

use bytes::Bytes;
use ferry_engine::images::{Access, Images, RemoteContent};
use ferry_spec::descriptor::Descriptor;
use ferry_spec::digest::Digest;
use ferry_spec::reference::Reference;

use crate::buildkit::ContentStore;
use crate::failure::{Failure, Result, blocking};
use crate::solve::{Ground, SolveOptions, credentials_for};

/// A place; cheap to clone.
#[derive(Clone)]
pub(super) enum Place {
    Registry(RemoteContent),
    Client(ContentStore),
}

impl Place {
    /// Opens a repository.
    pub(super) async fn registry(
        ground: &Ground,
        options: &SolveOptions,
        reference: &Reference,
        plain_http: bool,
        writes: bool,
    ) -> Result<Self> {
        let auth = credentials_for(options, reference.domain()).await?;
        let access = Access { plain_http, ..Access::default() };
        Ok(Self::Registry(ground.engine.images.content_of(reference, auth, &access, writes)?))
    }

    /// Opens a directory of the client.
    pub(super) async fn client(options: &SolveOptions, directory: &str) -> Result<Self> {
        let store = options.session.content(&format!("local:{directory}")).await?;
        let store = store.ok_or_else(|| Failure::invalid("local cache exporter/importer requires session"))?;
        Ok(Self::Client(store))
    }

    /// Reads a small blob.
    pub(super) async fn read(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if blob.size > limit {
            return Err(Failure::invalid(format!("blob {} is too large ({} > {limit})", blob.digest, blob.size)));
        }
        let bytes = match self {
            Self::Registry(remote) => return Ok(remote.small_blob(blob, limit).await?),
            Self::Client(store) => store.read_all(&blob.digest, blob.size).await?,
        };
        match blob.digest.verifies(&bytes) {
            true => Ok(bytes),
            false => Err(Failure::invalid(format!("blob {} is not what its digest says", blob.digest))),
        }
    }

    /// Brings a blob into the store; tells how many bytes have come.
    pub(super) async fn fetch(&self, images: &Images, blob: &Descriptor, mut tell: impl FnMut(u64)) -> Result<()> {
        if images.has_content(&blob.digest) {
            return Ok(());
        }
        let (pieces, mut arriving) = tokio::sync::mpsc::channel::<Bytes>(16);
        let (writing, wanted) = (images.clone(), blob.clone());
        let written = tokio::task::spawn_blocking(move || {
            let mut writer = writing.receive_content(&wanted)?;
            if writer.offset() > 0 {
                writer.restart().map_err(|error| Failure::internal(error.to_string()))?;
            }
            while let Some(piece) = arriving.blocking_recv() {
                writer.write(&piece).map_err(|error| Failure::internal(error.to_string()))?;
            }
            writer.commit().map_err(|error| Failure::internal(error.to_string()))
        });
        let mut come = 0;
        let mut source = self.open(blob);
        let brought: Result<()> = loop {
            match source.next().await {
                Ok(Some(piece)) => {
                    come += piece.len() as u64;
                    tell(come);
                    // The thread says why it has left.
                    if pieces.send(piece).await.is_err() {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        drop(pieces);
        let written =
            written.await.unwrap_or_else(|error| Err(Failure::internal(format!("a transfer panicked: {error}"))));
        brought.and(written)
    }

    fn open(&self, blob: &Descriptor) -> Incoming {
        match self {
            Self::Registry(remote) => Incoming::Registry(Box::new(remote.blob(blob))),
            Self::Client(store) => Incoming::Client(Box::new(store.read(&blob.digest))),
        }
    }

    /// Writes blobs of the store, then the manifest that names them.
    pub(super) async fn write(
        &self,
        images: &Images,
        blobs: &[Descriptor],
        manifest: &Descriptor,
        bytes: &[u8],
    ) -> Result<()> {
        match self {
            Self::Registry(remote) => Ok(remote.push(blobs, manifest, bytes).await?),
            Self::Client(store) => {
                for blob in blobs {
                    write_blob(store, images, blob).await?;
                }
                store.write(&manifest.digest, bytes.len() as u64, one_piece(Bytes::copy_from_slice(bytes))).await
            }
        }
    }
}

/// Images in a directory of the client's.
pub(crate) struct ClientStore(Place, ContentStore);

impl ClientStore {
    pub(crate) fn of(store: ContentStore) -> Self {
        Self(Place::Client(store.clone()), store)
    }

    /// How many bytes a blob has.
    pub(crate) async fn size(&self, digest: &Digest) -> Result<u64> {
        self.1.size(digest).await
    }

    /// Reads a small blob.
    pub(crate) async fn read(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        self.0.read(blob, limit).await
    }

    /// Brings a blob into the store of the daemon; tells how many bytes have come.
    pub(crate) async fn fetch(&self, images: &Images, blob: &Descriptor, tell: impl FnMut(u64)) -> Result<()> {
        self.0.fetch(images, blob, tell).await
    }
}

enum Incoming {
    Registry(Box<ferry_engine::images::RemoteBlob>),
    Client(Box<crate::buildkit::Incoming>),
}

impl Incoming {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Registry(blob) => Ok(blob.next().await?),
            Self::Client(blob) => blob.next().await,
        }
    }
}

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;

fn one_piece(bytes: Bytes) -> tokio::sync::mpsc::Receiver<Bytes> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    // There is room for one.
    let _ = sender.try_send(bytes);
    receiver
}

/// Writes a blob of the store into one of the client's.
pub(crate) async fn write_blob(store: &ContentStore, images: &Images, blob: &Descriptor) -> Result<()> {
    let (sender, pieces) = tokio::sync::mpsc::channel(4);
    let (images, digest) = (images.clone(), blob.digest.clone());
    let reading = blocking(move || {
        let mut file = images.blob(&digest)?;
        loop {
            let mut buffer = vec![0; PIECE];
            let read = file.read(&mut buffer).map_err(|error| Failure::internal(format!("{digest}: {error}")))?;
            buffer.truncate(read);
            // One that is there already is not read to its end.
            if read == 0 || sender.blocking_send(Bytes::from(buffer)).is_err() {
                return Ok(());
            }
        }
    });
    let (read, written) = tokio::join!(reading, store.write(&blob.digest, blob.size, pieces));
    written.and(read)
}
