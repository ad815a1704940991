//! Importing: a file tree in a tar becomes an image of one layer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use ferry_spec::digest::{Algorithm, Hasher};
use ferry_spec::image::{ContainerConfig, History, RootFs};
use ferry_spec::{Descriptor, DiffId, ImageConfig, Manifest, Platform, Reference, media_type};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::Stream;
use jiff::Timestamp;

use super::archive::{decompress, store_manifest};
use super::changes;
use super::layers::{Hold, Layer, blocking, layer_failed};
use super::names::{dangling_name, parse_repo_and_tag};
use super::spool::{Body, Spool};
use super::{Images, Inner};
use crate::error::{Context, Result};

/// Bytes that are copied at once.
const CHUNK: usize = 128 * 1024;

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
        let (layer, diff_id) = self.store_tree(body)?;
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
        let target = store_manifest(&self.store, media_type::OCI_MANIFEST, &manifest)?;
        let name = name.unwrap_or_else(|| dangling_name(&target.digest));
        self.write_name(&name, &target)?;
        hold.keep();
        let id = target.digest.to_string();
        self.publish("import", &id, &id, Some(&target.digest));
        Ok(id)
    }

    /// Stores a tar as a layer: as it is when it is compressed in a way that layers are, else with gzip.
    fn store_tree(&self, body: Body) -> Result<(Descriptor, DiffId)> {
        let mut source = BufReader::with_capacity(CHUNK, body);
        let head = source.fill_buf().context("cannot read the archive")?;
        let kept = match head {
            [0x1f, 0x8b, ..] => Some(media_type::OCI_LAYER_GZIP),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(media_type::OCI_LAYER_ZSTD),
            _ => None,
        };
        let mut spool = Spool::create(&self.folder)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        match kept {
            Some(_) => {
                let copied = Copied { source, spool: &mut spool };
                let mut inflated = BufReader::with_capacity(CHUNK, decompress(copied)?);
                copy(&mut inflated, &mut hasher, &mut io::sink())?;
                // What follows the compressed data is part of the blob too.
                io::copy(&mut inflated.into_inner(), &mut io::sink()).context("cannot read the archive")?;
            }
            None => {
                let mut source = decompress(source)?;
                let mut packed = GzEncoder::new(&mut spool, Compression::default());
                copy(&mut source, &mut hasher, &mut packed)?;
                packed.finish().context("cannot compress the layer")?;
            }
        }
        let (digest, size) = spool.store(&self.store)?;
        let kind = kept.unwrap_or(media_type::OCI_LAYER_GZIP);
        Ok((Descriptor::new(kind, digest, size), DiffId(hasher.finish())))
    }
}

fn copy(source: &mut impl Read, hasher: &mut Hasher, target: &mut impl Write) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = source.read(&mut buffer).context("cannot read the archive")?;
        if count == 0 {
            return Ok(());
        }
        hasher.update(&buffer[..count]);
        target.write_all(&buffer[..count]).context("cannot write the layer")?;
    }
}

/// Passes on what it also keeps.
struct Copied<'a, R> {
    source: R,
    spool: &'a mut Spool,
}

impl<R: Read> Read for Copied<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.spool.write_all(&buffer[..count])?;
        Ok(count)
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
