//! Importing: a file tree in a tar becomes an image of one layer.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ferry_spec::image::{ContainerConfig, History, RootFs};
use ferry_spec::{Descriptor, DiffId, ImageConfig, Manifest, Platform, Reference, media_type};
use ferry_store::archive::ImportedLayer;
use futures_util::Stream;
use jiff::Timestamp;

use super::body::Body;
use super::changes;
use super::layers::{Hold, Layer, blocking, layer_failed};
use super::names::{dangling_name, parse_repo_and_tag};
use super::{Images, Inner};
use crate::error::{Context, Result};

/// What to make of a tar.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// Repository to name it; empty for none.
    pub repository: String,
    /// Tag, `latest` when empty.
    pub tag: String,
    /// Dockerfile instructions for the configuration.
    pub changes: Vec<String>,
    /// Comment in the history; empty is filled in.
    pub message: String,
    /// Platform instead of this host's.
    pub platform: Option<Platform>,
}

impl Images {
    /// Makes an image of the tar in `body` and returns its id.
    ///
    /// API: `POST /images/create?fromSrc=-`
    ///
    /// # Errors
    /// InvalidArgument for the name, a change, or a body that is no tar.
    pub async fn import(
        &self,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        request: ImportRequest,
    ) -> Result<String> {
        let name = match request.repository.as_str() {
            "" => None,
            repository => Some(parse_repo_and_tag(repository, &request.tag)?),
        };
        let config = changes::apply(&request.changes)?;
        let body = Body::read(body);
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.import(body, name, config, &request)).await
    }
}

impl Inner {
    fn import(
        self: &Arc<Self>,
        body: Body,
        name: Option<Reference>,
        config: ContainerConfig,
        request: &ImportRequest,
    ) -> Result<String> {
        let hold = Hold::take(self);
        let ImportedLayer { descriptor, diff_id } =
            self.store.import_layer(body).context("cannot import the archive")?;
        let layer = Descriptor { media_type: oci_type(&descriptor.media_type).to_owned(), ..descriptor };
        let parts = Layer::all(std::slice::from_ref(&layer), std::slice::from_ref(&diff_id));
        for part in &parts {
            let file = self.store.open_blob(&layer.digest).map_err(layer_failed)?;
            self.unpack(part, file).map_err(layer_failed)?;
        }
        let image = image_config(config, diff_id, request, self.host.clone());
        let bytes = serde_json::to_vec(&image).context("cannot write the image configuration")?;
        let digest = self.store.put_blob(&bytes).context("cannot store the image configuration")?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::new(media_type::OCI_CONFIG, digest, bytes.len() as u64),
            layers: vec![layer],
            subject: None,
            annotations: Default::default(),
        };
        let target = self.store_manifest(&manifest)?;
        let name = name.unwrap_or_else(|| dangling_name(&target.digest));
        self.write_name(&name, &target)?;
        hold.keep();
        let id = target.digest.to_string();
        self.publish("import", &id, &id, Some(&target.digest));
        Ok(id)
    }
}

/// Returns the OCI name of a layer's form.
pub(super) fn oci_type(kind: &str) -> &str {
    match kind {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        other => other,
    }
}

fn image_config(config: ContainerConfig, diff_id: DiffId, request: &ImportRequest, host: Platform) -> ImageConfig {
    let now = Timestamp::now().to_string();
    let platform = request.platform.clone().unwrap_or(host);
    let message = if request.message.is_empty() { "Imported from -".to_owned() } else { request.message.clone() };
    let step = History { created: Some(now.clone()), comment: message, ..History::default() };
    ImageConfig {
        created: Some(now),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        os_version: platform.os_version,
        config,
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        history: vec![step],
        ..ImageConfig::default()
    }
}

impl Inner {
    /// Stores a manifest of our own making.
    pub(super) fn store_manifest(&self, manifest: &Manifest) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(manifest).context("cannot write the manifest")?;
        let digest = self.store.put_blob(&bytes).context("cannot store the manifest")?;
        Ok(Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64))
    }
}
