//! What a build does with images: layers put on top of layers, images written of them, and what its cache keeps.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd as _;
use std::sync::{Arc, PoisonError};

use ferry_shim::layer::{Layers as ChangedLayers, Sink};
use ferry_spec::tar::Entry;
use ferry_spec::{
    ChainId, Descriptor, DiffId, Digest, Document, ImageConfig, Manifest, Platform, Reference, media_type,
};
use ferry_store::{Layer, Live, NewLayer, Origins, TarNotes};

use super::import::oci_type;
use super::layers::{self, Hold, layer_failed};
use super::names::{dangling_name, parse_name};
use super::{Images, Inner, ResolvedImage};
use crate::error::{Context, Error, Result};

/// Layers with so many bytes are brought to the disk at once.
const BEGINS_SYNC: u64 = 4 << 20;

/// A layer that is stored and unpacked on top of others.
#[derive(Clone)]
pub struct StoredLayer {
    /// What it and those below it are together.
    pub chain_id: ChainId,
    /// Its blob.
    pub descriptor: Descriptor,
    /// Digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// Bytes of its files.
    pub size_bytes: u64,
}

/// Keeps everything that a build writes or finds for as long as it lives; what nobody needs then is collected.
#[derive(Clone)]
pub struct BuildHold(Arc<Hold>);

impl BuildHold {
    /// What was made is kept by names, or by the cache.
    pub fn keep(&self) {
        self.0.keep();
    }
}

impl std::fmt::Debug for BuildHold {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("BuildHold")
    }
}

/// What the cache of builds keeps in the store.
#[derive(Debug, Clone, Default)]
pub struct KeptContent {
    /// Layers with those below them.
    pub chains: HashSet<ChainId>,
    /// Their blobs.
    pub blobs: HashSet<Digest>,
}

/// An image as it was written.
#[derive(Debug, Clone)]
pub struct WrittenImage {
    /// Its id.
    pub target: Descriptor,
    /// Digest of its configuration.
    pub config: Descriptor,
}

impl Images {
    /// Holds what is written and found from here on.
    #[must_use]
    pub fn hold_for_build(&self) -> BuildHold {
        BuildHold(Hold::take(&self.inner))
    }

    /// Says what the cache of builds keeps; it is not collected.
    pub fn keep_for_builds(&self, kept: KeptContent) {
        *self.inner.kept_by_builds.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// Adds to what the cache of builds keeps.
    pub fn keep_one_for_builds(&self, chain: &ChainId, blobs: impl IntoIterator<Item = Digest>) {
        let mut kept = self.inner.kept_by_builds.lock().unwrap_or_else(PoisonError::into_inner);
        kept.chains.insert(chain.clone());
        kept.blobs.extend(blobs);
    }

    /// Removes content that nothing keeps any more; returns its bytes. Blocks.
    #[must_use]
    pub fn collect_after_builds(&self) -> u64 {
        self.inner.collect()
    }

    /// The layers of an image with their blobs, lowest first. Blocks.
    ///
    /// # Errors
    /// When its manifest cannot be read.
    pub fn layers_of(&self, image: &ResolvedImage) -> Result<Vec<(Descriptor, DiffId)>> {
        let inner = &self.inner;
        let document = inner.store.document(&image.descriptor).context("cannot read the manifest of the image")?;
        let Document::Manifest(manifest) = document else {
            return Err(Error::internal(format!("{} is no manifest", image.manifest)));
        };
        let of_oci = |layer: Descriptor| Descriptor { media_type: oci_type(&layer.media_type).to_owned(), ..layer };
        Ok(manifest.layers.into_iter().map(of_oci).zip(image.config.rootfs.diff_ids.iter().cloned()).collect())
    }

    /// Unpacks the tar of a layer on top of others, where nobody sees it yet. Blocks.
    ///
    /// # Errors
    /// When it cannot be read or unpacked.
    pub(crate) fn unpack_new(&self, below: Option<&ChainId>, tar: impl std::io::Read) -> Result<NewLayer> {
        self.inner.store.unpack_new_layer(below, tar).context("failed to export layer")
    }

    /// Takes over the upper folder of a tree that nothing but the engine has written to. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn adopt_new(&self, below: Option<&ChainId>, upper: &std::path::Path) -> Result<NewLayer> {
        let store = &self.inner.store;
        let open = std::fs::File::open(upper).context("cannot open a tree")?;
        let view = below.map(|below| store.look_at_layers(below)).transpose().context("cannot mount layers")?;
        let lower = view.as_ref().map(|view| view.as_fd().try_clone_to_owned()).transpose();
        let layers = ChangedLayers { upper: open.into(), lower: lower.context("cannot open layers")?, whole: false };
        let adopted = store.adopt_new_layer(below, upper, |notes| {
            ferry_shim::layer::write(&layers, true, &mut Noted(notes))?;
            notes.bytes(&ferry_spec::tar::END)
        });
        adopted.context("failed to export layer")
    }

    /// Makes a new layer one that can be used. Its blob is its tar, which is made when somebody asks for it. Blocks.
    ///
    /// # Errors
    /// When it cannot be put in its place.
    pub(crate) fn publish_new(&self, new: NewLayer) -> Result<StoredLayer> {
        let tar_bytes = new.tar_bytes();
        let layer = self.inner.store.publish_new_layer(new).map_err(layer_failed)?;
        if layer.size_bytes >= BEGINS_SYNC {
            // While the build goes on; the end of it finds less to do. A failure shows there.
            let store = self.inner.store.clone();
            std::thread::spawn(move || drop(store.settle()));
        }
        let descriptor = Descriptor::new(media_type::OCI_LAYER, layer.diff_id.0.clone(), tar_bytes);
        let Layer { chain_id, diff_id, size_bytes, .. } = layer;
        Ok(StoredLayer { chain_id, descriptor, diff_id, size_bytes })
    }

    /// Unpacks a layer that is stored on top of others. Blocks.
    ///
    /// # Errors
    /// When its blob is not here or is damaged.
    pub fn stack(&self, below: Option<&ChainId>, descriptor: &Descriptor, diff_id: &DiffId) -> Result<ChainId> {
        let layer = layers::Layer { descriptor: descriptor.clone(), parent: below.cloned(), diff_id: diff_id.clone() };
        if !self.inner.store.has_layer(&layer.chain()) {
            self.inner.unpack_stored(&layer).map_err(layer_failed)?;
        }
        Ok(layer.chain())
    }

    /// Tells whether layers are here, unpacked and as blobs.
    #[must_use]
    pub fn has_layers(&self, chain: &ChainId, blobs: &[Digest]) -> bool {
        self.inner.store.has_layer(chain) && blobs.iter().all(|blob| self.inner.store.has_blob(blob))
    }

    /// Writes an image of layers that are here and returns what it became. Names come last. Blocks.
    ///
    /// # Errors
    /// InvalidArgument for a name; when content cannot be written.
    pub fn write_image(
        &self,
        config: &ImageConfig,
        layers: &[Descriptor],
        names: &[Reference],
        annotations: std::collections::BTreeMap<String, String>,
    ) -> Result<WrittenImage> {
        let inner = &self.inner;
        let hold = Hold::take(inner);
        let written = inner.write_manifest(config, layers, annotations)?;
        inner.name_built(&written.target, names, &Origins::default())?;
        hold.keep();
        Ok(written)
    }

    /// Writes configuration and manifest of an image without giving it a name; the caller holds a [`BuildHold`]. Blocks.
    ///
    /// # Errors
    /// When content cannot be written.
    pub fn write_manifest(
        &self,
        config: &ImageConfig,
        layers: &[Descriptor],
        annotations: std::collections::BTreeMap<String, String>,
    ) -> Result<WrittenImage> {
        self.inner.write_manifest(config, layers, annotations)
    }

    /// Writes an index over manifests that are here. Blocks.
    ///
    /// # Errors
    /// When content cannot be written.
    pub fn write_index(&self, manifests: Vec<(Descriptor, Platform)>) -> Result<Descriptor> {
        let manifests: Vec<Descriptor> = manifests
            .into_iter()
            .map(|(descriptor, platform)| Descriptor { platform: Some(platform), ..descriptor })
            .collect();
        let document = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": manifests,
        });
        let bytes = serde_json::to_vec(&document).context("cannot write the index")?;
        let digest = self.inner.store.put_blob(&bytes).context("cannot store the index")?;
        Ok(Descriptor::new(media_type::OCI_INDEX, digest, bytes.len() as u64))
    }

    /// Gives an image that was built its names, or keeps it without. Blocks.
    ///
    /// # Errors
    /// When a name cannot be written.
    pub fn name_built(&self, target: &Descriptor, names: &[Reference], origins: &Origins) -> Result<()> {
        self.inner.name_built(target, names, origins)
    }

    /// Opens a blob. Blocks.
    ///
    /// # Errors
    /// When it is not here.
    pub fn blob(&self, digest: &Digest) -> Result<std::fs::File> {
        self.inner.store.open_blob(digest).context(format!("cannot open {digest}"))
    }
}

/// A tar that is told to the store.
struct Noted<'a>(&'a mut TarNotes);

impl Sink for Noted<'_> {
    fn entry(&mut self, entry: &Entry) -> std::io::Result<()> {
        self.0.bytes(&ferry_spec::tar::header(entry))
    }

    fn content(&mut self, path: &[u8], file: std::fs::File, length: u64) -> std::io::Result<()> {
        self.0.file(path, file, length)?;
        let padding = usize::try_from(ferry_spec::tar::padding(length)).unwrap_or_default();
        self.0.bytes(&[0; 512][..padding])
    }
}

/// Reads a name for an image that is to be built.
///
/// # Errors
/// InvalidArgument with Docker's text.
pub fn built_name(text: &str) -> Result<Reference> {
    let name =
        parse_name(text).map_err(|error| Error::invalid(format!("invalid tag \"{text}\"")).with_source(error))?;
    if name.digest().is_some() {
        return Err(Error::invalid("build tag cannot contain a digest"));
    }
    Ok(name)
}

impl Inner {
    /// Stores an image's configuration and its manifest over layers that are stored; the caller names it.
    pub(super) fn write_manifest(
        &self,
        config: &ImageConfig,
        layers: &[Descriptor],
        annotations: std::collections::BTreeMap<String, String>,
    ) -> Result<WrittenImage> {
        let bytes = serde_json::to_vec(config).context("cannot write the image configuration")?;
        let digest = self.store.put_blob(&bytes).context("cannot store the image configuration")?;
        let config = Descriptor::new(media_type::OCI_CONFIG, digest, bytes.len() as u64);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: config.clone(),
            layers: layers
                .iter()
                .map(|layer| Descriptor { annotations: Default::default(), ..layer.clone() })
                .collect(),
            subject: None,
            annotations: annotations.into_iter().collect(),
        };
        Ok(WrittenImage { target: self.store_manifest(&manifest)?, config })
    }

    fn name_built(&self, target: &Descriptor, names: &[Reference], origins: &Origins) -> Result<()> {
        let id = target.digest.to_string();
        if names.is_empty() {
            if self.names_of(&target.digest).is_empty() {
                return self.write_name_of(&dangling_name(&target.digest), target, origins);
            }
            return self.add_origins(&target.digest, origins);
        }
        for name in names {
            self.write_name_of(name, target, origins)?;
            self.publish("tag", &id, &name.familiar(), Some(&target.digest));
        }
        Ok(())
    }

    /// What is kept besides what names and containers reach.
    pub(super) fn kept_by_builds(&self) -> Live {
        let kept = self.kept_by_builds.lock().unwrap_or_else(PoisonError::into_inner);
        Live { blobs: kept.blobs.clone(), chains: kept.chains.clone() }
    }
}

/// The bytes behind a URL.
pub struct Fetched(ferry_registry::Download);

impl Fetched {
    /// How many there are, when the server tells.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.0.length()
    }

    /// When they were changed last, in seconds of Unix time, when the server tells.
    #[must_use]
    pub fn modified(&self) -> Option<i64> {
        let text = self.0.last_modified()?;
        jiff::fmt::rfc2822::parse(text).ok().map(|moment| moment.timestamp().as_second())
    }

    /// The next of them; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>> {
        self.0.next().await.context("the download broke off")
    }
}

impl Images {
    /// Begins to fetch what a URL names, by the rules that registries are spoken to by, with header fields of the caller's; its server alone
    /// hears who the user is.
    ///
    /// # Errors
    /// InvalidArgument for what is no URL or no header; what the server says.
    pub async fn fetch_url(
        &self,
        url: &str,
        headers: &[(String, String)],
        authorization: Option<String>,
    ) -> Result<Fetched> {
        match self.inner.client().download_with(url, headers, authorization).await {
            Ok(download) => Ok(Fetched(download)),
            Err(ferry_registry::Error::Configuration(text)) => Err(Error::invalid(text)),
            Err(error) => Err(Error::internal(format!("failed to GET {url}")).with_source(error)),
        }
    }
}

impl Images {
    /// Bytes of the files of each of these layers that is here. Blocks.
    #[must_use]
    pub fn layer_sizes(&self) -> HashMap<ChainId, u64> {
        self.inner.store.layers().into_iter().map(|layer| (layer.chain_id, layer.size_bytes)).collect()
    }
}
