//! Images in OCI layouts of the client: `oci-layout://`.

use ferry_spec::descriptor::Descriptor;
use ferry_spec::digest::Digest;
use ferry_spec::image::{ImageConfig, MAX_CONFIG_BYTES};
use ferry_spec::manifest::{Document, MAX_MANIFEST_BYTES, Manifest};
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;

use super::Solve;
use crate::clock::now_ns;
use crate::exchange::ClientStore;
use crate::failure::{Failure, Result};
use crate::graph::LayoutSource;
use crate::progress::Begun;
use crate::session::Session;
use crate::tree::{BuiltLayer, Layers};

/// An image in a layout.
pub(crate) struct LayoutImage {
    store: ClientStore,
    /// What was named: a manifest, or an index.
    pub(crate) digest: Digest,
    manifest: Manifest,
    pub(crate) config: ImageConfig,
}

impl LayoutImage {
    /// Finds the image of a name with a digest, for a platform, in a store of the client.
    ///
    /// # Errors
    /// When it is not there, or is no image.
    pub(crate) async fn find(
        session: &Session,
        store: &str,
        reference: &str,
        platform: Option<&Platform>,
    ) -> Result<Self> {
        let named = Reference::parse(reference).map_err(|error| Failure::invalid(error.to_string()))?;
        let digest = named.digest().cloned();
        let digest =
            digest.ok_or_else(|| Failure::invalid(format!("oci-layout reference {reference:?} has no digest")))?;
        let content = session.content(&format!("oci:{store}")).await?;
        let content = content.ok_or_else(|| Failure::invalid(format!("the client has no store {store} of images")))?;
        let store = ClientStore::of(content);
        let target = Descriptor::new("", digest.clone(), store.size(&digest).await?);
        let manifest = manifest_of(&store, target, reference, platform).await?;
        let config = store.read(&manifest.config, MAX_CONFIG_BYTES).await?;
        let config = ImageConfig::parse(&config).map_err(|error| Failure::invalid(format!("{reference}: {error}")))?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(Failure::invalid(format!("{reference}: the configuration has other layers than the manifest")));
        }
        Ok(Self { store, digest, manifest, config })
    }
}

/// The manifest for a platform, which an index may lead to.
async fn manifest_of(
    store: &ClientStore,
    mut target: Descriptor,
    reference: &str,
    platform: Option<&Platform>,
) -> Result<Manifest> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host).normalized();
    // An index in an index is unusual, and more of them make no sense.
    for _ in 0..3 {
        let bytes = store.read(&target, MAX_MANIFEST_BYTES).await?;
        let document =
            Document::parse(&bytes, None).map_err(|error| Failure::invalid(format!("{reference}: {error}")))?;
        let index = match document {
            Document::Manifest(manifest) => return Ok(*manifest),
            Document::Index(index) => index,
        };
        let parts = index.manifests.iter().filter(|part| !part.is_attestation());
        let offered = parts.filter_map(|part| Some((part.platform.as_ref()?, part.clone())));
        let only = match index.manifests.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        };
        let best = wanted.best(offered).or(only);
        target =
            best.ok_or_else(|| Failure::invalid(format!("{reference}: no match for platform {wanted} in the layout")))?;
    }
    Err(Failure::invalid(format!("{reference}: indexes within indexes")))
}

impl Solve {
    /// Brings the layers of an image in a layout here.
    pub(super) async fn layout(
        &self,
        source: &LayoutSource,
        platform: Option<&Platform>,
        begun: &Begun,
    ) -> Result<Layers> {
        let session = &self.options.session;
        let image = LayoutImage::find(session, &source.store, &source.reference, platform).await?;
        let images = &self.ground.engine.images;
        let mut layers = Vec::new();
        for (descriptor, diff_id) in image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids) {
            let (name, started) = (descriptor.digest.to_string(), now_ns());
            let amount = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            let tell = |come: u64| {
                begun.status(&name, amount(come), amount(descriptor.size), started, come == descriptor.size)
            };
            image.store.fetch(images, descriptor, tell).await?;
            layers.push(BuiltLayer {
                descriptor: descriptor.clone(),
                diff_id: diff_id.clone(),
                created_ns: None,
                size_bytes: 0,
                foreign: true,
            });
        }
        self.stacked(Layers::of(layers)).await
    }
}
