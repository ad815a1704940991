//! Image names: one record per reference, written last of all when an image comes in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;

use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::{ChainId, Digest};
use ferry_spec::image::{ImageConfig, MAX_CONFIG_BYTES};
use ferry_spec::manifest::{Document, MAX_MANIFEST_BYTES, Manifest};
use ferry_spec::reference::Reference;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Error, Result};
use crate::record;

/// What a reference stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The normalised name, with tag or digest.
    pub reference: Reference,
    /// The index or manifest it names; its digest is the image's id.
    pub target: Descriptor,
    /// When the name came to mean this, Unix time in nanoseconds.
    pub updated_ns: i64,
    /// Where the image comes from. Every name of an image knows it, so that it lasts as long as the image has a name.
    #[serde(default, skip_serializing_if = "Origins::is_empty")]
    pub origins: Origins,
}

/// Where an image comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origins {
    /// Repositories it was pulled from or pushed to, by their whole names.
    pub repositories: BTreeSet<String>,
    /// Builds that made it, with the moment, Unix time in nanoseconds.
    pub builds: BTreeMap<String, i64>,
    /// What it is in repositories where its layers were compressed on the way, by their whole names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pushed: BTreeMap<String, Digest>,
}

impl Origins {
    /// Returns that of a repository.
    #[must_use]
    pub fn repository(name: String) -> Self {
        Self { repositories: BTreeSet::from([name]), ..Self::default() }
    }

    /// Returns that of a repository which got it in another form.
    #[must_use]
    pub fn pushed(name: String, digest: Digest) -> Self {
        Self { pushed: BTreeMap::from([(name.clone(), digest)]), ..Self::repository(name) }
    }

    /// Returns that of a build.
    #[must_use]
    pub fn build(reference: String, made_ns: i64) -> Self {
        Self { builds: BTreeMap::from([(reference, made_ns)]), ..Self::default() }
    }

    /// Tells whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Adds what `other` knows.
    pub fn extend(&mut self, other: &Self) {
        self.repositories.extend(other.repositories.iter().cloned());
        for (reference, made_ns) in &other.builds {
            self.builds.entry(reference.clone()).or_insert(*made_ns);
        }
        self.pushed.extend(other.pushed.iter().map(|(name, digest)| (name.clone(), digest.clone())));
    }
}

/// What content and layers an image is made of, as far as it is here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// Manifests, configurations, compressed layers.
    pub blobs: HashSet<Digest>,
    /// Unpacked layers; those below them are meant as well.
    pub chains: HashSet<ChainId>,
}

/// See [`Store::last_used`].
#[derive(Debug, Default, Serialize, Deserialize)]
struct LastUsed {
    images: HashMap<Digest, i64>,
}

impl Live {
    /// Leaves out everything that `other` has as well.
    pub fn remove_all_of(&mut self, other: &Self) {
        self.blobs.retain(|digest| !other.blobs.contains(digest));
        self.chains.retain(|chain| !other.chains.contains(chain));
    }

    /// Adds everything of `other`.
    pub fn extend(&mut self, other: Self) {
        self.blobs.extend(other.blobs);
        self.chains.extend(other.chains);
    }
}

impl Store {
    /// Makes `reference` stand for `target`. The content must be here and synced, which every writer of this store does.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn set_image(&self, reference: &Reference, target: &Descriptor, updated_ns: i64) -> Result<ImageRecord> {
        let origins = Origins::default();
        let record = ImageRecord { reference: reference.clone(), target: target.clone(), updated_ns, origins };
        self.put_image(&record)?;
        Ok(record)
    }

    /// The same with everything that is known of the name.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn put_image(&self, record: &ImageRecord) -> Result<()> {
        Ok(record::write(&self.inner.paths.image(&record.reference), record)?)
    }

    /// Returns what `reference` stands for.
    ///
    /// # Errors
    /// [`Error::Record`] when the record is damaged (it is then set aside) or of a newer format.
    pub fn image(&self, reference: &Reference) -> Result<Option<ImageRecord>> {
        Ok(record::read(&self.inner.paths.image(reference))?)
    }

    /// Returns every image name, in the order of the names. Damaged records are set aside, logged and left out.
    ///
    /// # Errors
    /// When the folder cannot be read, or a record is of a newer format.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        let folder = self.inner.paths.images();
        let mut images: Vec<ImageRecord> = Vec::new();
        for path in record::list(&folder)? {
            match record::read(&path) {
                Ok(Some(record)) => images.push(record),
                // Another thread may have removed it since it was listed.
                Ok(None) => {}
                Err(error @ record::RecordError::Damaged { .. }) => tracing::error!(%error, "image name set aside"),
                Err(error) => return Err(error.into()),
            }
        }
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// Removes a name; tells whether it was there. Content goes with the next [`Store::collect`].
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove_image(&self, reference: &Reference) -> Result<bool> {
        Ok(record::remove(&self.inner.paths.image(reference))?)
    }

    /// Returns when images were last used, by the digests of their targets, Unix time in nanoseconds: as far as that is known. It is a hint,
    /// not a record of anything, so damage costs no more than the hint.
    #[must_use]
    pub fn last_used(&self) -> HashMap<Digest, i64> {
        match record::read::<LastUsed>(&self.inner.paths.last_used()) {
            Ok(read) => read.map(|read| read.images).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "when images were last used is not known");
                HashMap::new()
            }
        }
    }

    /// Keeps when images were last used.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_last_used(&self, images: HashMap<Digest, i64>) -> Result<()> {
        Ok(record::write(&self.inner.paths.last_used(), &LastUsed { images })?)
    }

    /// Returns the bytes of everything in `live` that is here, each blob and layer once.
    #[must_use]
    pub fn bytes_of(&self, live: &Live) -> u64 {
        let blobs: u64 = live.blobs.iter().map(|digest| self.blob_bytes(digest)).sum();
        let layers: u64 = self
            .layers()
            .iter()
            .filter(|layer| live.chains.contains(&layer.chain_id))
            .map(|layer| layer.size_bytes)
            .sum();
        blobs + layers
    }

    /// Returns the bytes of all content and layers, used or not, with what broken transfers left.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        let blobs: u64 = self.blobs()?.iter().map(|(_, bytes)| bytes).sum();
        let layers: u64 = self.layers().iter().map(|layer| layer.size_bytes).sum();
        Ok(blobs + layers + crate::content::ingest_bytes(&self.inner.paths.ingest())?)
    }

    /// Reads an index or manifest that is here.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`], [`Error::Manifest`].
    pub fn document(&self, target: &Descriptor) -> Result<Document> {
        let bytes = self.read_blob(&target.digest, MAX_MANIFEST_BYTES)?;
        let claimed = Some(target.media_type.as_str()).filter(|text| !text.is_empty());
        Document::parse(&bytes, claimed).map_err(|source| Error::Manifest { digest: target.digest.clone(), source })
    }

    /// Reads the configuration of a manifest that is here.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`], [`Error::Config`].
    pub fn image_config(&self, manifest: &Manifest) -> Result<ImageConfig> {
        let digest = &manifest.config.digest;
        let bytes = self.read_blob(digest, MAX_CONFIG_BYTES)?;
        ImageConfig::parse(&bytes).map_err(|source| Error::Config { digest: digest.clone(), source })
    }

    /// Returns everything that `target` reaches. What is missing or unreadable is named all the same and followed no further.
    #[must_use]
    pub fn reachable(&self, target: &Descriptor) -> Live {
        let mut live = Live::default();
        let mut todo = vec![target.clone()];
        while let Some(descriptor) = todo.pop() {
            if !live.blobs.insert(descriptor.digest.clone()) {
                continue;
            }
            let is_document = media_type::is_index(&descriptor.media_type)
                || media_type::is_manifest(&descriptor.media_type)
                || descriptor.media_type.is_empty();
            if !is_document {
                continue;
            }
            match self.document(&descriptor) {
                Ok(Document::Index(index)) => todo.extend(index.manifests),
                Ok(Document::Manifest(manifest)) => {
                    live.chains.extend(self.chains_of(&manifest));
                    live.blobs.insert(manifest.config.digest.clone());
                    live.blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
                }
                // Platforms that were not pulled are named in an index and not here.
                Err(error) if error.is_not_found() => {}
                Err(error) => tracing::warn!(digest = %descriptor.digest, %error, "image content not readable"),
            }
        }
        live
    }

    fn chains_of(&self, manifest: &Manifest) -> Vec<ChainId> {
        // Artifacts have other kinds of configuration, which have no layers to unpack.
        self.image_config(manifest).map(|config| ChainId::each_of(&config.rootfs.diff_ids)).unwrap_or_default()
    }
}

pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}
