//! The bytes of a plugin as they travel: written with their digest, read again for a push.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ferry_registry::{BlobSource, Repository};
use ferry_spec::digest::{Algorithm, Hasher};
use ferry_spec::{Descriptor, Digest};

use crate::error::{Context, Error, Result};

/// Name of the folder in a plugin's.
const FOLDER: &str = "blobs";

/// Where a blob is in a plugin's folder.
pub(super) fn path(plugin: &Path, digest: &Digest) -> PathBuf {
    plugin.join(FOLDER).join(digest.hex())
}

/// Makes the folder.
pub(super) fn make_folder(plugin: &Path) -> Result<()> {
    fs::create_dir_all(plugin.join(FOLDER)).context("cannot make the plugin's folder")
}

/// Writes a small one.
pub(super) fn put(plugin: &Path, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
    let digest = Digest::sha256(bytes);
    fs::write(path(plugin, &digest), bytes).context("cannot write a blob of the plugin")?;
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

/// Fetches one into the folder, verified; `told` hears how many bytes are there.
pub(super) async fn fetch(
    repository: &Repository,
    plugin: &Path,
    descriptor: &Descriptor,
    mut told: impl FnMut(u64),
) -> Result<()> {
    let place = path(plugin, &descriptor.digest);
    let mut file = tokio::fs::File::create(&place).await.context("cannot write a blob of the plugin")?;
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    let mut stream = repository.blob(descriptor);
    while let Some(piece) = stream.next().await.context("error fetching the plugin")? {
        hasher.update(&piece);
        tokio::io::AsyncWriteExt::write_all(&mut file, &piece).await.context("cannot write a blob of the plugin")?;
        told(stream.offset());
    }
    tokio::io::AsyncWriteExt::flush(&mut file).await.context("cannot write a blob of the plugin")?;
    let actual = hasher.finish();
    if actual != descriptor.digest {
        return Err(Error::internal(format!("blob {} has the digest {actual}", descriptor.digest)));
    }
    Ok(())
}

/// A blob as the source of a push.
pub(super) struct BlobFile(pub(super) PathBuf);

impl BlobSource for BlobFile {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.0)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// Counts and digests what is written through it.
pub(super) struct Digesting<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W: Write> Digesting<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(Algorithm::Sha256), count: 0 }
    }

    pub(super) fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
