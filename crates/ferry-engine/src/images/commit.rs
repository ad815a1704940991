//! Committing: one more layer, and a configuration, on an image.

use std::io::Read;
use std::sync::Arc;

use ferry_spec::image::{ContainerConfig, History, RootFs};
use ferry_spec::{Descriptor, Document, ImageConfig, Platform, Reference};
use ferry_store::archive::ImportedLayer;
use jiff::Timestamp;

use super::import::oci_type;
use super::layers::{Hold, Layer, layer_failed};
use super::names::{dangling_name, parse_repo_and_tag};
use super::{Images, Inner};
use crate::error::{Context, Error, Result};

/// Bytes of an archive with nothing in it.
const EMPTY_TAR: u64 = 1024;

/// What is committed, besides the layer.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    /// Manifest of the image below; none for an empty one.
    pub(crate) parent: Option<Descriptor>,
    /// What it runs on.
    pub(crate) platform: Platform,
    /// Defaults for containers.
    pub(crate) config: ContainerConfig,
    /// The command of the container, for the history.
    pub(crate) created_by: String,
    /// By whom; empty is the author of the image below.
    pub(crate) author: String,
    /// Free-form.
    pub(crate) comment: String,
}

/// The name of an image to be, if it gets one.
#[derive(Debug, Clone)]
pub(crate) struct CommitName(Option<Reference>);

impl CommitName {
    /// Reads the two parameters of a request.
    pub(crate) fn parse(repository: &str, tag: &str) -> Result<Self> {
        match repository {
            "" => Ok(Self(None)),
            repository => parse_repo_and_tag(repository, tag).map(|name| Self(Some(name))),
        }
    }

    /// As users see it; empty for none.
    pub(crate) fn familiar(&self) -> String {
        self.0.as_ref().map(Reference::familiar).unwrap_or_default()
    }
}

/// A layer that is stored and belongs to no image yet.
pub(crate) struct CommittedLayer {
    layer: ImportedLayer,
    /// Nothing is in it.
    empty: bool,
    hold: Arc<Hold>,
}

impl Images {
    /// Stores the tar of a layer.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub(crate) fn take_layer(&self, tar: impl Read) -> Result<CommittedLayer> {
        let hold = Hold::take(&self.inner);
        let mut counted = Counted { inner: tar, bytes: 0 };
        let layer = self.inner.store.compress_layer(&mut counted).context("failed to export layer")?;
        Ok(CommittedLayer { layer, empty: counted.bytes <= EMPTY_TAR, hold })
    }

    /// Makes an image of a layer on top of another image and returns its id.
    ///
    /// # Errors
    /// When the image below cannot be read, or content not be written.
    pub(crate) fn commit(&self, layer: &CommittedLayer, commit: &Commit, name: &CommitName) -> Result<String> {
        let inner = &self.inner;
        let (mut layers, base) = inner.image_below(commit.parent.as_ref())?;
        let config = committed(base, commit, layer);
        if !layer.empty {
            layers.push(layer.layer.descriptor.clone());
            let parts = Layer::all(&layers, &config.rootfs.diff_ids);
            let top = parts.last().ok_or_else(|| Error::internal("an image without its layer"))?;
            inner.unpack_stored(top).map_err(layer_failed)?;
        }
        let target = inner.write_manifest(&config, &layers, Default::default())?.target;
        let id = target.digest.to_string();
        let reference = name.0.clone().unwrap_or_else(|| dangling_name(&target.digest));
        inner.write_name(&reference, &target)?;
        layer.hold.keep();
        inner.publish("create", &id, &id, Some(&target.digest));
        if name.0.is_some() {
            inner.publish("tag", &id, &name.familiar(), Some(&target.digest));
        }
        Ok(id)
    }
}

impl Inner {
    /// Layers and configuration of the image below.
    fn image_below(&self, manifest: Option<&Descriptor>) -> Result<(Vec<Descriptor>, ImageConfig)> {
        let Some(descriptor) = manifest else { return Ok((Vec::new(), ImageConfig::default())) };
        let document = self.store.document(descriptor).context("cannot read the manifest of the container's image")?;
        let Document::Manifest(manifest) = document else {
            return Err(Error::internal("the container's image has no manifest of its own"));
        };
        let config =
            self.store.image_config(&manifest).context("cannot read the configuration of the container's image")?;
        let of_oci =
            |layer: &Descriptor| Descriptor { media_type: oci_type(&layer.media_type).to_owned(), ..layer.clone() };
        Ok((manifest.layers.iter().map(of_oci).collect(), config))
    }
}

fn committed(base: ImageConfig, commit: &Commit, layer: &CommittedLayer) -> ImageConfig {
    let now = Timestamp::now().to_string();
    let author = if commit.author.is_empty() { base.author } else { commit.author.clone() };
    let mut history = base.history;
    history.push(History {
        created: Some(now.clone()),
        created_by: commit.created_by.clone(),
        author: author.clone(),
        comment: commit.comment.clone(),
        empty_layer: layer.empty,
    });
    let mut diff_ids = base.rootfs.diff_ids;
    if !layer.empty {
        diff_ids.push(layer.layer.diff_id.clone());
    }
    ImageConfig {
        created: Some(now),
        author,
        architecture: commit.platform.architecture.clone(),
        os: commit.platform.os.clone(),
        variant: commit.platform.variant.clone(),
        os_version: commit.platform.os_version.clone(),
        config: commit.config.clone(),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
        history,
        ..ImageConfig::default()
    }
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
