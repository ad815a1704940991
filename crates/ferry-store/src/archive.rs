//! Archives that `load` and `import` are given.
//!
//! An image archive is read in one pass. Its files become content at once, by digest; the names they have in the archive are only keys
//! into what came before, and never name anything on this host. A link in the archive is another key for the same bytes.
//!
//! Whoever loads holds a lease: what was read and is not part of an image goes with the next collection.

use std::collections::HashMap;
use std::io::{Read, Write as _};

use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::{Algorithm, DiffId, Digest, Hasher};
use ferry_spec::image::{ImageConfig, MAX_CONFIG_BYTES};
use ferry_spec::json::check_unambiguous;
use ferry_spec::manifest::{Document, Index, MAX_LAYERS, Manifest, ManifestError};
use ferry_spec::reference::{Reference, ReferenceError};
use ferry_spec::tar::Source as _;
use serde::Deserialize;

use crate::Store;
use crate::content::{Sealed, Spool};
use crate::error::{Error, Result};
use crate::layers::stream::{Decoder, Stream, inflate_unhashed};
use crate::layers::{EntryKind, LayerError, clean_path, next_entry, skip_padding};

mod form;
mod save;
mod times;

pub use form::LayerForm;
pub use save::{SaveChoice, SavePlan, SavedImage};

/// The longest `manifest.json` or `index.json`, in bytes.
const MAX_LIST_BYTES: u64 = 8 << 20;
/// Indexes inside of indexes that are looked into; nobody makes more than one.
pub(crate) const MAX_INDEX_DEPTH: usize = 8;

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It has neither form that is known.
    #[error(
        "archive is neither a Docker image archive nor an OCI image layout: it has no manifest.json and no index.json"
    )]
    Unknown,
    /// It cannot be read.
    #[error("cannot read archive")]
    Read(#[from] LayerError),
    /// One of its lists is too long.
    #[error("{0} in the archive is longer than the {MAX_LIST_BYTES} bytes allowed")]
    ListTooLong(String),
    /// One of its lists is no such JSON.
    #[error("invalid {name} in the archive")]
    Json {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// `index.json` is no index.
    #[error("invalid index.json in the archive")]
    Index(#[source] ManifestError),
    /// A list names what is not in the archive.
    #[error("{name:?} is named in the archive's manifest and not in the archive")]
    Missing {
        /// The key.
        name: String,
    },
    /// A name for an image is no reference.
    #[error("invalid image name {name:?} in the archive")]
    Name {
        /// As it stands there.
        name: String,
        /// Why.
        #[source]
        source: ReferenceError,
    },
    /// The layers do not fit the configuration.
    #[error("image in the archive has {layers} layers and {diff_ids} diff IDs")]
    LayerCount {
        /// Listed.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// More than an image may have.
    #[error("image in the archive has {0} layers, more than the {MAX_LAYERS} allowed")]
    TooManyLayers(usize),
    /// A layer in the archive is compressed in a way that no registry takes.
    #[error("layer in the archive is compressed by bzip2 or xz; only gzip and zstd are supported")]
    LayerCompression,
    /// Indexes in indexes without end.
    #[error("index {0} lies below more than {MAX_INDEX_DEPTH} other indexes")]
    IndexDepth(ferry_spec::Digest),
    /// An index that is to be written has nothing for the platforms asked for.
    #[error("no manifest found for platform: not found")]
    NoPlatform,
}

impl ArchiveError {
    /// Tells whether the archive is to blame, not this host.
    #[must_use]
    pub fn is_bad_content(&self) -> bool {
        match self {
            Self::Read(source) => source.is_bad_content(),
            _ => true,
        }
    }
}

/// An image that an archive brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its manifest or index, which is in the store.
    pub target: Descriptor,
    /// The names it has in the archive; not set yet.
    pub references: Vec<Reference>,
}

/// A tar of files that became the content of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedLayer {
    /// The bytes as they came, with the media type that they have.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
}

impl Store {
    /// Reads an image archive, as `docker save` and OCI tools write it, compressed or not, into the store. No name is set and no layer
    /// unpacked: that is for the caller, under the lease it holds.
    ///
    /// # Errors
    /// [`Error::Archive`] and the errors of content.
    pub fn load_archive(&self, archive: impl Read) -> Result<Vec<LoadedImage>> {
        let mut failure = None;
        let keys = inflate_unhashed(archive, self.inner.limits, |stream| match read_keys(self, stream) {
            Ok(keys) => Ok(keys),
            Err(Error::Archive(ArchiveError::Read(error))) => Err(error),
            Err(error) => {
                failure = Some(error);
                // Stops the stream; the failure above is what is told.
                Err(LayerError::Truncated)
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let mut keys = keys.map_err(ArchiveError::Read)?;
        self.publish_blobs(std::mem::take(&mut keys.sealed))?;
        keys.images(self)
    }

    /// Stores a tar of files, compressed or not, as the content of a layer.
    ///
    /// # Errors
    /// When it cannot be read, decompressed or stored.
    pub fn import_layer(&self, tar: impl Read) -> Result<ImportedLayer> {
        let (mut digest, mut size) = self.spool(tar)?;
        if self.is_foreign_to_layers(&digest)? {
            (digest, size) = self.recompress(&digest)?;
        }
        let (diff_id, media_type) = self.diff_id_of(&digest)?;
        Ok(ImportedLayer { descriptor: Descriptor::new(media_type, digest, size), diff_id })
    }

    /// Tells whether a blob is compressed in a way that no layer may be.
    fn is_foreign_to_layers(&self, blob: &Digest) -> Result<bool> {
        let decoder = Decoder::new(self.open_blob(blob)?).map_err(Error::io("read", blob.as_str()))?;
        Ok(matches!(decoder, Decoder::Bzip2(_) | Decoder::Xz(_)))
    }

    /// Stores the bytes of a compressed blob again, compressed by gzip.
    fn recompress(&self, blob: &Digest) -> Result<(Digest, u64)> {
        let broken = |error| Error::Archive(ArchiveError::Read(LayerError::Decompress(error)));
        let mut decoder = Decoder::new(self.open_blob(blob)?).map_err(broken)?;
        let mut encoder = flate2::write::GzEncoder::new(Spool::create(self)?, flate2::Compression::default());
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0;
        loop {
            let read = decoder.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                return encoder.finish().map_err(Error::io("write", "the layer"))?.finish();
            }
            total += read as u64;
            self.inner.limits.check_bytes(total, u64::MAX).map_err(ArchiveError::Read)?;
            encoder.write_all(&buffer[..read]).map_err(Error::io("write", "the layer"))?;
        }
    }

    /// Stores a plain tar of files, compressed on its way, as the content of a layer.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub fn compress_layer(&self, tar: impl Read) -> Result<ImportedLayer> {
        let mut tar = Hashing { inner: tar, hasher: Hasher::new(Algorithm::Sha256) };
        let gzip = flate2::read::GzEncoder::new(&mut tar, flate2::Compression::default());
        let (digest, size) = self.spool(gzip)?;
        let diff_id = DiffId(tar.hasher.finish());
        Ok(ImportedLayer { descriptor: Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size), diff_id })
    }

    /// Stores bytes whose digest is not known beforehand.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn spool(&self, mut bytes: impl Read) -> Result<(Digest, u64)> {
        let mut spool = Spool::create(self)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match bytes.read(&mut buffer) {
                Ok(0) => return spool.finish(),
                Ok(read) => spool.write(&buffer[..read])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", "the stream")(error)),
            }
        }
    }

    /// Returns the digest of a layer's uncompressed bytes and the media type of what is stored.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`]; [`Error::Archive`] when it cannot be decompressed.
    pub fn diff_id_of(&self, blob: &Digest) -> Result<(DiffId, &'static str)> {
        let broken = |error| Error::Archive(ArchiveError::Read(LayerError::Decompress(error)));
        let file = self.open_blob(blob)?;
        let mut decoder = Decoder::new(file).map_err(broken)?;
        let media_type = match decoder {
            Decoder::Plain(_) => media_type::DOCKER_LAYER,
            Decoder::Gzip(_) => media_type::DOCKER_LAYER_GZIP,
            Decoder::Zstd(_) => media_type::OCI_LAYER_ZSTD,
            Decoder::Bzip2(_) | Decoder::Xz(_) => return Err(ArchiveError::LayerCompression.into()),
        };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0;
        loop {
            let read = decoder.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                return Ok((DiffId(hasher.finish()), media_type));
            }
            hasher.update(&buffer[..read]);
            total += read as u64;
            if total > self.inner.limits.unpacked_bytes {
                let limit = self.inner.limits.unpacked_bytes;
                return Err(ArchiveError::Read(LayerError::Limit { what: "unpacked bytes", limit }).into());
            }
        }
    }
}

/// Decompresses an archive by what its first bytes say it is: gzip, zstd, xz, bzip2, or nothing of the kind. In this process: no program is run.
///
/// # Errors
/// When the first bytes cannot be read.
pub fn decompress<'a>(archive: impl Read + 'a) -> std::io::Result<impl Read + 'a> {
    Decoder::new(archive)
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// What an archive holds, by the names it has there.
#[derive(Debug, Default)]
struct Keys {
    blobs: HashMap<Vec<u8>, (Digest, u64)>,
    aliases: HashMap<Vec<u8>, Vec<u8>>,
    manifest: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
    /// Content that was read and is not visible yet.
    sealed: Vec<Sealed>,
}

fn read_keys(store: &Store, stream: &mut Stream) -> Result<Keys> {
    let mut keys = Keys::default();
    let mut entries = 0;
    while let Some(entry) = next_entry(stream).map_err(ArchiveError::Read)? {
        entries += 1;
        if entries > stream.limits().entries {
            return Err(
                ArchiveError::Read(LayerError::Limit { what: "entries", limit: stream.limits().entries }).into()
            );
        }
        let name = clean_path(&entry.path, stream.limits().path_depth).map_err(ArchiveError::Read)?;
        match entry.kind {
            EntryKind::File if entry.sparse.is_none() => keys.take_file(store, stream, name, entry.stored_bytes)?,
            EntryKind::Symlink | EntryKind::HardLink => {
                let target = match entry.kind {
                    EntryKind::Symlink => [parent(&name), b"/", &entry.link[..]].concat(),
                    _ => entry.link,
                };
                // One that leads out of the archive is a key to nothing.
                if let Ok(target) = clean_path(&target, stream.limits().path_depth) {
                    keys.aliases.insert(name, target);
                }
            }
            _ => stream.skip(entry.stored_bytes).map_err(ArchiveError::Read)?,
        }
        skip_padding(stream, entry.stored_bytes).map_err(ArchiveError::Read)?;
    }
    Ok(keys)
}

fn parent(name: &[u8]) -> &[u8] {
    name.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &name[..slash])
}

impl Keys {
    fn take_file(&mut self, store: &Store, stream: &mut Stream, name: Vec<u8>, size: u64) -> Result<()> {
        match &name[..] {
            b"manifest.json" => self.manifest = Some(read_list(stream, "manifest.json", size)?),
            b"index.json" => self.index = Some(read_list(stream, "index.json", size)?),
            _ => {
                let blob = match digest_in_layout(&name) {
                    Some(digest) => self.take_known(store, stream, digest, size)?,
                    None => self.take_unknown(store, stream, size)?,
                };
                self.blobs.insert(name, blob);
            }
        }
        Ok(())
    }

    fn take_known(&mut self, store: &Store, stream: &mut Stream, digest: Digest, size: u64) -> Result<(Digest, u64)> {
        if let Some(known) = self.sealed.iter().find(|known| known.digest == digest) {
            let known = (digest, known.size);
            stream.skip(size).map_err(ArchiveError::Read)?;
            return Ok(known);
        }
        if store.has_blob(&digest) {
            // What lies here has proved to be what its name says; another copy is not needed, whatever is in it.
            stream.skip(size).map_err(ArchiveError::Read)?;
            let size = store.blob_size(&digest)?;
            return Ok((digest, size));
        }
        let mut writer = store.writer(&digest, Some(size))?;
        writer.restart()?;
        hand_over(stream, size, |bytes| writer.write(bytes))?;
        self.sealed.push(writer.seal()?);
        Ok((digest, size))
    }

    fn take_unknown(&mut self, store: &Store, stream: &mut Stream, size: u64) -> Result<(Digest, u64)> {
        let mut spool = Spool::create(store)?;
        hand_over(stream, size, |bytes| spool.write(bytes))?;
        let sealed = spool.seal();
        let blob = (sealed.digest.clone(), sealed.size);
        self.sealed.push(sealed);
        Ok(blob)
    }

    fn blob(&self, name: &str) -> Result<&(Digest, u64), ArchiveError> {
        let key = name.trim_start_matches("./").as_bytes();
        let direct = self.blobs.get(key);
        direct
            .or_else(|| self.aliases.get(key).and_then(|target| self.blobs.get(target)))
            .ok_or_else(|| ArchiveError::Missing { name: name.to_owned() })
    }

    fn images(self, store: &Store) -> Result<Vec<LoadedImage>> {
        if let Some(bytes) = &self.index {
            return images_of_layout(store, bytes);
        }
        let bytes = self.manifest.as_deref().ok_or(ArchiveError::Unknown)?;
        let json = |source| ArchiveError::Json { name: "manifest.json".to_owned(), source };
        check_unambiguous(bytes).map_err(json)?;
        let list: Vec<ArchivedImage> = serde_json::from_slice(bytes).map_err(json)?;
        list.iter().map(|image| self.image(store, image)).collect()
    }

    /// Makes a manifest for an image of Docker's own form, which has none.
    fn image(&self, store: &Store, image: &ArchivedImage) -> Result<LoadedImage> {
        let names = image.repo_tags.as_deref().unwrap_or_default();
        let references = names.iter().map(|name| parse_name(name)).collect::<Result<Vec<_>, _>>()?;
        let listed = image.layers.as_deref().unwrap_or_default();
        if listed.len() > MAX_LAYERS {
            return Err(ArchiveError::TooManyLayers(listed.len()).into());
        }
        let (config_digest, config_size) = self.blob(&image.config)?.clone();
        let config_bytes = store.read_blob(&config_digest, MAX_CONFIG_BYTES)?;
        let config = ImageConfig::parse(&config_bytes)
            .map_err(|source| Error::Config { digest: config_digest.clone(), source })?;
        let diff_ids = config.rootfs.diff_ids.len();
        if diff_ids != listed.len() {
            return Err(ArchiveError::LayerCount { layers: listed.len(), diff_ids }.into());
        }
        let mut layers = Vec::with_capacity(listed.len());
        for name in listed {
            let (digest, size) = self.blob(name)?.clone();
            layers.push(Descriptor::new(layer_type(store, &digest)?, digest, size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::DOCKER_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::new(media_type::DOCKER_CONFIG, config_digest, config_size),
            layers,
            subject: None,
            annotations: Default::default(),
        };
        let json = |source| ArchiveError::Json { name: "manifest".to_owned(), source };
        let bytes = serde_json::to_vec(&manifest).map_err(json)?;
        let digest = store.put_blob(&bytes)?;
        let target = Descriptor::new(media_type::DOCKER_MANIFEST, digest, bytes.len() as u64);
        Ok(LoadedImage { target, references })
    }
}

/// One image of a `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ArchivedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn parse_name(name: &str) -> Result<Reference, ArchiveError> {
    Reference::parse_with_default_tag(name).map_err(|source| ArchiveError::Name { name: name.to_owned(), source })
}

fn read_list(stream: &mut Stream, name: &str, size: u64) -> Result<Vec<u8>> {
    if size > MAX_LIST_BYTES {
        return Err(ArchiveError::ListTooLong(name.to_owned()).into());
    }
    let length = usize::try_from(size).map_err(|_| ArchiveError::ListTooLong(name.to_owned()))?;
    Ok(stream.read_vec(length).map_err(ArchiveError::Read)?)
}

/// `blobs/<algorithm>/<hex>`.
fn digest_in_layout(name: &[u8]) -> Option<Digest> {
    let (algorithm, hex) = std::str::from_utf8(name).ok()?.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

/// Hands bytes of the stream to a writer of the store, whose errors are not the stream's.
fn hand_over(stream: &mut Stream, size: u64, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut failure = None;
    stream
        .pieces(size, |bytes| {
            if failure.is_none() {
                failure = write(bytes).err();
            }
            Ok(())
        })
        .map_err(ArchiveError::Read)?;
    failure.map_or(Ok(()), Err)
}

fn layer_type(store: &Store, digest: &Digest) -> Result<&'static str> {
    let mut magic = Vec::with_capacity(4);
    let file = store.open_blob(digest)?;
    file.take(4).read_to_end(&mut magic).map_err(Error::io("read", digest.as_str()))?;
    Ok(match magic[..] {
        [0x1f, 0x8b, ..] => media_type::DOCKER_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media_type::DOCKER_LAYER_ZSTD,
        [b'B', b'Z', b'h', _] | [0xfd, b'7', b'z', b'X'] => return Err(ArchiveError::LayerCompression.into()),
        _ => media_type::DOCKER_LAYER,
    })
}

fn images_of_layout(store: &Store, bytes: &[u8]) -> Result<Vec<LoadedImage>> {
    let document = Document::parse(bytes, Some(media_type::OCI_INDEX)).map_err(ArchiveError::Index)?;
    let Document::Index(index) = document else { return Err(ArchiveError::Unknown.into()) };
    let Index { manifests, .. } = *index;
    let mut images: Vec<LoadedImage> = Vec::new();
    for mut target in manifests {
        let references: Vec<Reference> = name_in_layout(&target)?.into_iter().collect();
        target.annotations.clear();
        check_complete(store, &target, 0)?;
        match images.iter_mut().find(|image| image.target.digest == target.digest) {
            // Several names of one image are several entries.
            Some(image) => image.references.extend(references),
            None => images.push(LoadedImage { target, references }),
        }
    }
    Ok(images)
}

/// The whole name where the writer put one; a bare tag names nothing.
fn name_in_layout(target: &Descriptor) -> Result<Option<Reference>, ArchiveError> {
    if let Some(name) = target.annotations.get("io.containerd.image.name") {
        return parse_name(name).map(Some);
    }
    match target.annotations.get("org.opencontainers.image.ref.name") {
        Some(name) if name.contains(['/', ':']) => parse_name(name).map(Some),
        _ => Ok(None),
    }
}

/// A manifest must have all it names; an index must have one manifest that does.
fn check_complete(store: &Store, target: &Descriptor, depth: usize) -> Result<()> {
    if depth > MAX_INDEX_DEPTH {
        return Err(ArchiveError::IndexDepth(target.digest.clone()).into());
    }
    let missing = |digest: &Digest| {
        ArchiveError::Missing { name: format!("blobs/{}/{}", digest.algorithm(), digest.hex()) }.into()
    };
    let document = match store.document(target) {
        Err(error) if error.is_not_found() => return Err(missing(&target.digest)),
        document => document?,
    };
    match document {
        Document::Manifest(manifest) => {
            let mut parts = std::iter::once(&manifest.config).chain(&manifest.layers);
            let foreign = |part: &&Descriptor| media_type::is_foreign_layer(&part.media_type);
            match parts.find(|part| !foreign(part) && !store.has_blob(&part.digest)) {
                Some(part) => Err(missing(&part.digest)),
                None => Ok(()),
            }
        }
        Document::Index(index) => {
            let mut first = None;
            for child in index.manifests.iter().filter(|child| !child.is_attestation()) {
                match check_complete(store, child, depth + 1) {
                    Ok(()) => return Ok(()),
                    Err(error) => first = first.or(Some(error)),
                }
            }
            first.map_or(Ok(()), Err)
        }
    }
}
