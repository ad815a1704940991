//! Content of the store and of repositories as such, which need not belong to an image: what the cache of builds is exported as.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferry_registry::{Access, BlobSource, Credentials, Repository};
use ferry_spec::{Descriptor, DiffId, Digest, Reference};
use ferry_store::archive::LayerForm;
use futures_util::StreamExt;

use super::push::{StoredBlob, push_failed};
use super::{Images, Inner};
use crate::error::{Context, Error, Result};

/// A repository as a place of content; cheap to clone.
#[derive(Clone)]
pub struct RemoteContent {
    inner: Arc<Inner>,
    repository: Repository,
    reference: Reference,
}

impl Images {
    /// Opens the repository of a reference. Nothing is contacted yet.
    ///
    /// # Errors
    /// InvalidArgument when the registry cannot be reached as asked.
    pub fn content_of(
        &self,
        reference: &Reference,
        auth: Option<Credentials>,
        access: &Access,
        writes: bool,
    ) -> Result<RemoteContent> {
        let client = self.inner.client_with(access)?;
        let opened = match writes {
            true => client.repository_to_write(reference, auth, &[]),
            false => client.repository(reference, auth),
        };
        let repository = opened.map_err(|error| Error::invalid(error.to_string()))?;
        Ok(RemoteContent { inner: Arc::clone(&self.inner), repository, reference: reference.clone() })
    }

    /// Stores bytes. Blocks.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put_content(&self, bytes: &[u8]) -> Result<Digest> {
        self.inner.store.put_blob(bytes).context("cannot store content")
    }

    /// Stores a plain tar of files, compressed on its way. Blocks.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn spool_tar(&self, tar: impl std::io::Read) -> Result<Descriptor> {
        self.inner.store.compress_layer(tar).map(|layer| layer.descriptor).context("cannot store content")
    }

    /// Everything that an image consists of and that is here, itself last. Blocks.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn blobs_of(&self, target: &Descriptor) -> Result<Vec<Descriptor>> {
        let store = &self.inner.store;
        let mut digests: Vec<Digest> = store.reachable(target).blobs.into_iter().collect();
        digests.retain(|digest| *digest != target.digest && store.has_blob(digest));
        digests.sort();
        let mut blobs = Vec::new();
        for digest in digests {
            let size = store.blob_size(&digest).context("cannot look at content")?;
            blobs.push(Descriptor::new("", digest, size));
        }
        blobs.push(target.clone());
        Ok(blobs)
    }

    /// Tells whether a blob is here.
    #[must_use]
    pub fn has_content(&self, digest: &Digest) -> bool {
        self.inner.store.has_blob(digest)
    }

    /// Begins to write a blob that comes from elsewhere. Blocks.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn receive_content(&self, blob: &Descriptor) -> Result<ferry_store::BlobWriter> {
        self.inner.store.writer(&blob.digest, Some(blob.size)).context("cannot store content")
    }

    /// Returns a layer in another form: the same files, compressed in another way. Blocks.
    ///
    /// # Errors
    /// When its blob is not here, or the new one cannot be written.
    pub fn layer_as(&self, layer: &Descriptor, form: LayerForm) -> Result<Descriptor> {
        self.inner.store.layer_as(layer, form).context(format!("cannot compress layer {}", layer.digest))
    }

    /// Returns a layer of the same files, none of them newer than a moment in seconds of Unix time. Blocks.
    ///
    /// # Errors
    /// When its blob is not here, or the new one cannot be written.
    pub fn layer_no_newer(&self, layer: &Descriptor, seconds: i64) -> Result<(Descriptor, DiffId)> {
        let made = self.inner.store.layer_no_newer(layer, seconds);
        let made = made.context(format!("cannot change times of layer {}", layer.digest))?;
        Ok((made.descriptor, made.diff_id))
    }
}

impl RemoteContent {
    /// Finds out what the reference leads to.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn resolve(&self) -> Result<Descriptor> {
        self.repository.resolve(&self.reference).await.map_err(super::pull::fetch_failed)
    }

    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.repository.manifest(descriptor).await.map_err(super::pull::fetch_failed)
    }

    /// Reads a small blob.
    ///
    /// # Errors
    /// When it has more bytes than `limit`; what the registry says.
    pub async fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        self.repository.small_blob(descriptor, limit).await.map_err(super::pull::fetch_failed)
    }

    /// Starts reading a blob.
    #[must_use]
    pub fn blob(&self, descriptor: &Descriptor) -> RemoteBlob {
        RemoteBlob(self.repository.blob(descriptor))
    }

    /// Writes blobs of the store, then the manifest that names them, under the reference.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn push(&self, blobs: &[Descriptor], manifest: &Descriptor, bytes: &[u8]) -> Result<()> {
        let uploads: Vec<_> = blobs.iter().map(|blob| self.push_blob(blob)).collect();
        let at_once = self.inner.uploads.load(Ordering::Relaxed);
        let mut running = futures_util::stream::iter(uploads).buffer_unordered(at_once);
        while let Some(sent) = running.next().await {
            sent?;
        }
        let tag = self.reference.tag();
        self.repository.push_manifest(manifest, bytes, tag).await.map_err(|error| push_failed(&error))?;
        Ok(())
    }

    async fn push_blob(&self, blob: &Descriptor) -> Result<()> {
        let source: Arc<dyn BlobSource> =
            Arc::new(StoredBlob { store: self.inner.store.clone(), digest: blob.digest.clone() });
        let pushed = self.repository.push_blob(blob, Some(source), None, Arc::new(|_| {})).await;
        pushed.map(drop).map_err(|error| push_failed(&error))
    }
}

/// A blob on its way here.
pub struct RemoteBlob(ferry_registry::BlobStream);

impl RemoteBlob {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>> {
        self.0.next().await.map_err(super::pull::fetch_failed)
    }
}
