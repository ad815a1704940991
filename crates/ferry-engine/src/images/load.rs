//! Loading: images from an archive that a client sends.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ferry_api::stream::JsonMessage;
use ferry_spec::{Descriptor, Document};
use ferry_store::archive::LoadedImage;
use futures_util::Stream;
use tokio::sync::mpsc;

use super::body::Body;
use super::layers::{Hold, Layer, layer_failed};
use super::names::{dangling_name, parse_name};
use super::progress::{JsonMessageStream, output};
use super::pull::{check_layers, read_config};
use super::resolve::is_image;
use super::{Images, Inner};
use crate::error::{Context, Error, Result};

/// Messages that a client may be behind; an image makes one.
const QUEUE: usize = 256;

impl Images {
    /// Loads the images of a `docker save` archive or an OCI layout, and tells their names. A failure is the last message.
    ///
    /// There is no progress to leave out for `quiet`: only results are told, as by Docker.
    ///
    /// API: `POST /images/load`
    pub async fn load(
        &self,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        quiet: bool,
    ) -> JsonMessageStream {
        let _ = quiet;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let body = Body::read(body);
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            let hold = Hold::take(&inner);
            // A client that has left misses the text; the images are loaded all the same.
            let tell = |message: JsonMessage| drop(sender.blocking_send(message));
            match inner.load(body, &tell) {
                Ok(()) => hold.keep(),
                Err(error) => tell(JsonMessage::failed(error.text())),
            }
        });
        receiver
    }
}

impl Inner {
    fn load(&self, body: Body, tell: &dyn Fn(JsonMessage)) -> Result<()> {
        let images = self.store.load_archive(body).context("cannot load the archive")?;
        // All of them are checked before the first gets a name.
        for image in &images {
            self.unpack_all(&image.target)?;
        }
        for image in images {
            self.name_loaded(&image, tell)?;
        }
        Ok(())
    }

    fn name_loaded(&self, image: &LoadedImage, tell: &dyn Fn(JsonMessage)) -> Result<()> {
        let id = &image.target.digest;
        let mut named = false;
        for reference in &image.references {
            let name = parse_name(&reference.to_string())?;
            self.write_name(&name, &image.target)?;
            named = true;
            tell(output(format!("Loaded image: {}\n", name.familiar())));
        }
        if !named {
            if self.names_of(id).is_empty() {
                self.write_name(&dangling_name(id), &image.target)?;
            }
            tell(output(format!("Loaded image ID: {id}\n")));
        }
        self.publish("load", id.as_str(), id.as_str(), Some(id));
        Ok(())
    }

    /// Unpacks every image of `target` that is here with all of its content; at least one has to be.
    pub(super) fn unpack_all(&self, target: &Descriptor) -> Result<()> {
        let index = match self.store.document(target).context("cannot read the manifest")? {
            Document::Manifest(_) => return self.unpack_manifest(target),
            Document::Index(index) => index,
        };
        let mut unpacked = false;
        for child in index.manifests.iter().filter(|child| is_image(child) && self.store.has_blob(&child.digest)) {
            self.unpack_manifest(child)?;
            unpacked = true;
        }
        if unpacked {
            Ok(())
        } else {
            Err(Error::invalid(format!("index {} has no image in the archive", target.digest)))
        }
    }

    fn unpack_manifest(&self, target: &Descriptor) -> Result<()> {
        let Document::Manifest(manifest) = self.store.document(target).context("cannot read the manifest")? else {
            return Err(Error::invalid(format!("index {} inside an index", target.digest)));
        };
        check_layers(&manifest)?;
        let config = self
            .store
            .read_blob(&manifest.config.digest, ferry_spec::image::MAX_CONFIG_BYTES)
            .context("cannot read the image configuration")?;
        let config = read_config(&manifest, &config)?;
        for layer in Layer::all(&manifest.layers, &config.rootfs.diff_ids) {
            let file = self.store.open_blob(&layer.descriptor.digest).map_err(layer_failed)?;
            self.unpack(&layer, file).map_err(layer_failed)?;
        }
        Ok(())
    }
}
