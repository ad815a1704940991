//! Images whose layers are not kept as they came: what is dropped, and how it is made again for others. And those that were built here, whose
//! layers are compressed for others.
//!
//! Only unpacked layers of images that have a name lose their blobs. Manifests, configurations and attestations stay.

use ferry_spec::{ChainId, Descriptor, Document, ImageConfig, Index, Manifest, media_type};
use ferry_store::archive::LayerForm;

use super::Inner;
use super::import::oci_type;
use super::resolve::is_image;
use crate::error::{Context, Error, Result};

impl Inner {
    /// Drops the compressed form of every layer that is unpacked, where that is not to be kept.
    pub(super) fn drop_blobs(&self) {
        if self.keep_blobs {
            return;
        }
        for target in self.every_target() {
            for parsed in self.manifests(&target) {
                let chains = ChainId::each_of(&parsed.config.rootfs.diff_ids);
                for (layer, chain) in parsed.manifest.layers.iter().zip(&chains) {
                    if !self.is_unpacked(chain) {
                        continue;
                    }
                    if let Err(error) = self.store.drop_blob(&layer.digest) {
                        tracing::warn!(%error, "the compressed form of a layer stays");
                    }
                }
            }
        }
    }

    /// As `has_layer` of the store, without holding it for those who have leases.
    fn is_unpacked(&self, chain: &ChainId) -> bool {
        self.store.layers().iter().any(|layer| layer.chain_id == *chain)
    }

    /// Makes an image again whose layers were not kept, out of their files; `None` when all of it is here as it came. The caller holds a lease.
    ///
    /// # Errors
    /// When files cannot be read or content not be written.
    pub(super) fn with_blobs(&self, target: &Descriptor) -> Result<Option<Descriptor>> {
        if self.keep_blobs || !self.store.has_blob(&target.digest) {
            return Ok(None);
        }
        match self.store.document(target).context("cannot read the manifest")? {
            Document::Manifest(manifest) => self.rebuilt_manifest(&manifest),
            Document::Index(index) => self.rebuilt_index(*index),
        }
    }

    /// Makes an image whose layers are compressed of one that was built here and whose layers are not; `None` for any other. The caller holds a
    /// lease.
    ///
    /// # Errors
    /// When layers cannot be read or content not be written.
    pub(super) fn compressed(&self, target: &Descriptor) -> Result<Option<Descriptor>> {
        if !self.store.has_blob(&target.digest) {
            return Ok(None);
        }
        let Document::Manifest(mut manifest) = self.store.document(target).context("cannot read the manifest")? else {
            return Ok(None);
        };
        let mut changed = false;
        for layer in &mut manifest.layers {
            let is_docker = layer.media_type == media_type::DOCKER_LAYER;
            let is_plain = LayerForm::Plain.is_that_of(&layer.media_type);
            if is_plain && self.store.has_blob(&layer.digest) && !self.store.stores_blob(&layer.digest) {
                *layer = self.store.layer_as(layer, LayerForm::Gzip(None)).context("cannot compress a layer")?;
                if is_docker {
                    layer.media_type = media_type::DOCKER_LAYER_GZIP.to_owned();
                }
                changed = true;
            }
        }
        if changed { self.store_manifest(&manifest).map(Some) } else { Ok(None) }
    }

    /// The images of an index that are here; statements about them name digests that are no more.
    fn rebuilt_index(&self, index: Index) -> Result<Option<Descriptor>> {
        let mut changed = false;
        let mut manifests = Vec::with_capacity(index.manifests.len());
        for child in index.manifests.iter().filter(|child| is_image(child)) {
            match self.with_blobs(child)? {
                Some(rebuilt) => {
                    changed = true;
                    manifests.push(Descriptor { platform: child.platform.clone(), ..rebuilt });
                }
                None => manifests.push(child.clone()),
            }
        }
        if !changed {
            return Ok(None);
        }
        let media_type = media_type::OCI_INDEX.to_owned();
        let index = Index { manifests, media_type: Some(media_type.clone()), ..index };
        let bytes = serde_json::to_vec(&index).context("cannot write the index")?;
        let digest = self.store.put_blob(&bytes).context("cannot store the index")?;
        Ok(Some(Descriptor::new(media_type, digest, bytes.len() as u64)))
    }

    fn rebuilt_manifest(&self, manifest: &Manifest) -> Result<Option<Descriptor>> {
        if manifest.layers.iter().all(|layer| self.store.has_blob(&layer.digest)) {
            return Ok(None);
        }
        let config = self.store.image_config(manifest).context("cannot read the image configuration")?;
        let chains = ChainId::each_of(&config.rootfs.diff_ids);
        if chains.iter().any(|chain| !self.store.has_layer(chain)) {
            // Not of this platform: what is missing is told by whoever needs it.
            return Ok(None);
        }
        let mut layers = Vec::with_capacity(chains.len());
        let mut diff_ids = config.rootfs.diff_ids.clone();
        for (at, layer) in manifest.layers.iter().enumerate() {
            if self.store.has_blob(&layer.digest) {
                layers.push(Descriptor { media_type: oci_type(&layer.media_type).to_owned(), ..layer.clone() });
                continue;
            }
            let chain = chains.get(at).ok_or_else(|| Error::internal("a layer without a diff ID"))?;
            let rebuilt = self.store.rebuild_layer(chain).context("cannot read the files of a layer")?;
            layers.push(rebuilt.descriptor);
            diff_ids[at] = rebuilt.diff_id;
        }
        let mut config: ImageConfig = config;
        config.rootfs.diff_ids = diff_ids;
        let bytes = serde_json::to_vec(&config).context("cannot write the image configuration")?;
        let digest = self.store.put_blob(&bytes).context("cannot store the image configuration")?;
        let config = Descriptor::new(media_type::OCI_CONFIG, digest, bytes.len() as u64);
        let media_type = Some(media_type::OCI_MANIFEST.to_owned());
        self.store_manifest(&Manifest { config, layers, media_type, ..manifest.clone() }).map(Some)
    }
}
