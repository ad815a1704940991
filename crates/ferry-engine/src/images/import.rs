//! Importing: a file tree in a tar becomes an image of one layer.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ferry_api::stream::{JsonMessage, Progress};
use ferry_spec::image::{ContainerConfig, History, RootFs};
use ferry_spec::{Descriptor, DiffId, ImageConfig, Manifest, Platform, Reference, media_type};
use ferry_store::archive::ImportedLayer;
use futures_util::Stream;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::body::Body;
use super::changes;
use super::layers::{Hold, Layer, blocking, layer_failed};
use super::names::{dangling_name, parse_repo_and_tag};
use super::progress::{JsonMessageStream, Pace, amount, line};
use super::{Images, Inner};
use crate::error::{Context, Error, Result};

/// Messages that a client of an import may be behind.
const PROGRESS_QUEUE: usize = 256;

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

impl ImportRequest {
    /// Checks all but the tar.
    ///
    /// # Errors
    /// InvalidArgument for the name or a change.
    pub fn check(&self) -> Result<()> {
        if !self.repository.is_empty() {
            parse_repo_and_tag(&self.repository, &self.tag)?;
        }
        changes::apply(&self.changes).map(drop)
    }
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

impl Images {
    /// As [`Images::import`], with the tar behind a URL; tells how it goes. A failure after the begin is the last message.
    ///
    /// # Errors
    /// InvalidArgument for the name, a change or the URL; what the server says.
    pub async fn import_url(&self, url: &str, request: ImportRequest) -> Result<JsonMessageStream> {
        request.check()?;
        let mut download = self.inner.client().download(url).await.map_err(|error| match &error {
            ferry_registry::Error::Configuration(text) => Error::invalid(text.clone()),
            _ => Error::internal(format!("failed to GET {url}")).with_source(error),
        })?;
        let total = i64::try_from(download.length().unwrap_or_default()).unwrap_or(i64::MAX);
        let (sender, receiver) = mpsc::channel(PROGRESS_QUEUE);
        let (pieces, body) = mpsc::channel(1);
        let shown = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        // A client that has left misses the text; the import goes on.
        let _ = sender.try_send(line("", format!("Downloading from {shown}")));
        let progress = sender.clone();
        tokio::spawn(async move {
            let (mut current, mut pace) = (0, Pace::new());
            loop {
                let piece = match download.next().await {
                    Ok(None) => return,
                    Ok(Some(piece)) => Ok(piece),
                    Err(error) => Err(io::Error::other(error.to_string())),
                };
                current += piece.as_ref().map_or(0, Bytes::len);
                if pace.is_due() {
                    let current = i64::try_from(current).unwrap_or(i64::MAX);
                    let _ =
                        progress.try_send(amount("", "Importing", Progress { current, total, ..Progress::default() }));
                }
                let failed = piece.is_err();
                if pieces.send(piece).await.is_err() || failed {
                    return;
                }
            }
        });
        let images = self.clone();
        tokio::spawn(async move {
            let body = futures_util::stream::unfold(body, |mut body: mpsc::Receiver<io::Result<Bytes>>| async move {
                body.recv().await.map(|piece| (piece, body))
            });
            let message = match images.import(body, request).await {
                Ok(id) => line("", id),
                Err(error) => JsonMessage::failed(error.text()),
            };
            let _ = sender.send(message).await;
        });
        Ok(receiver)
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
            self.unpack_stored(part).map_err(layer_failed)?;
        }
        let image = image_config(config, diff_id, request, self.host.clone());
        let target = self.write_manifest(&image, &[layer], Default::default())?.target;
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
