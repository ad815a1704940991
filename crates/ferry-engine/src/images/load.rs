//! Loading: images from an archive that a client sends.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ferry_api::stream::JsonMessage;
use ferry_spec::{Descriptor, Document, ImageConfig, Platform};
use ferry_store::Expectation;
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
    /// Loads the images of a `docker save` archive or an OCI layout, and tells their names. A failure is the last message. With `platforms`
    /// each image must have one of them, and of an index only those are kept.
    ///
    /// There is no progress to leave out for `quiet`: only results are told, as by Docker.
    ///
    /// API: `POST /images/load`
    pub async fn load(
        &self,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        quiet: bool,
        platforms: Vec<Platform>,
    ) -> JsonMessageStream {
        let _ = quiet;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let body = Body::read(body);
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            let hold = Hold::take(&inner);
            // A client that has left misses the text; the images are loaded all the same.
            let tell = |message: JsonMessage| drop(sender.blocking_send(message));
            if let Err(error) = inner.load(body, &platforms, &tell) {
                tell(JsonMessage::failed(error.text()));
            }
            // Never kept: an archive brings files that no image needs, such as those for older readers.
            drop(hold);
        });
        receiver
    }
}

impl Inner {
    fn load(&self, body: Body, platforms: &[Platform], tell: &dyn Fn(JsonMessage)) -> Result<()> {
        let images = self.store.load_archive(body).context("cannot load the archive")?;
        let images = choose_platforms(images, platforms)?;
        // All of them are checked before the first gets a name.
        let mut incomplete = Vec::new();
        let mut layers = Vec::new();
        for image in &images {
            let found = self.layers_to_unpack(&image.target, platforms)?;
            if found.is_none() {
                incomplete.push(shown_name(image));
            }
            layers.extend(found.into_iter().flatten());
        }
        if let Some(error) = lacks_platform(&incomplete, platforms) {
            return Err(error);
        }
        self.unpack_layers(layers)?;
        for image in &images {
            self.name_loaded(image, tell)?;
        }
        if !platforms.is_empty() {
            for image in &images {
                self.keep_platforms(&image.target, platforms)?;
            }
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

    /// Returns the layers of every image of `target` that is here, and for one of `platforms` unless that is empty; `None` when there is none.
    fn layers_to_unpack(&self, target: &Descriptor, platforms: &[Platform]) -> Result<Option<Vec<Layer>>> {
        let fits = |config: &ImageConfig, child: &Descriptor| {
            let own = child.platform.clone().unwrap_or_else(|| config.platform());
            platforms.is_empty() || platforms.iter().any(|wanted| wanted.is_same(&own))
        };
        let index = match self.store.document(target).context("cannot read the manifest")? {
            Document::Manifest(_) => {
                let (config, layers) = self.layers_of(target)?;
                return Ok(fits(&config, target).then_some(layers));
            }
            Document::Index(index) => index,
        };
        let mut all = None;
        let mut has_image = false;
        for child in index.manifests.iter().filter(|child| is_image(child) && self.store.has_blob(&child.digest)) {
            has_image = true;
            if self.is_complete(child)? {
                let (config, layers) = self.layers_of(child)?;
                if fits(&config, child) {
                    all.get_or_insert_with(Vec::new).extend(layers);
                }
            }
        }
        if has_image || !platforms.is_empty() {
            Ok(all)
        } else {
            Err(Error::invalid(format!("index {} has no image in the archive", target.digest)))
        }
    }

    /// Tells whether everything that a manifest names is here.
    fn is_complete(&self, target: &Descriptor) -> Result<bool> {
        Ok(match self.store.document(target).context("cannot read the manifest")? {
            Document::Index(_) => false,
            Document::Manifest(manifest) => {
                let mut parts = std::iter::once(&manifest.config).chain(&manifest.layers);
                parts.all(|part| self.store.has_blob(&part.digest))
            }
        })
    }

    fn layers_of(&self, target: &Descriptor) -> Result<(ImageConfig, Vec<Layer>)> {
        let Document::Manifest(manifest) = self.store.document(target).context("cannot read the manifest")? else {
            return Err(Error::invalid(format!("index {} inside an index", target.digest)));
        };
        check_layers(&manifest)?;
        let config = self
            .store
            .read_blob(&manifest.config.digest, ferry_spec::image::MAX_CONFIG_BYTES)
            .context("cannot read the image configuration")?;
        let config = read_config(&manifest, &config)?;
        let layers = Layer::all(&manifest.layers, &config.rootfs.diff_ids);
        Ok((config, layers))
    }

    /// Unpacks layers whose blobs are here, several at a time; the lower ones of each image come before the upper ones.
    pub(super) fn unpack_layers(&self, layers: Vec<Layer>) -> Result<()> {
        let mut seen = HashSet::new();
        let missing =
            layers.into_iter().filter(|layer| !self.store.has_layer(&layer.chain()) && seen.insert(layer.chain()));
        let queue: VecDeque<(Expectation, Layer)> =
            missing.map(|layer| (self.store.expect_layer(&layer.chain()), layer)).collect();
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(queue.len());
        let (queue, failure) = (Mutex::new(queue), Mutex::new(None));
        // A function of its own, so that the lock is not held while a layer is unpacked.
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || {
            while let Some((expected, layer)) = next() {
                if let Err(error) = self.unpack_here(&layer) {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    // Nobody waits for layers that nobody will unpack.
                    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                drop(expected);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn unpack_here(&self, layer: &Layer) -> Result<()> {
        let descriptor = &layer.descriptor;
        if descriptor.digest == layer.diff_id.0 && self.store.stores_blob(&descriptor.digest) {
            let applied = self.store.apply_plain_layer(layer.parent.as_ref(), &layer.diff_id, &descriptor.media_type);
            return applied.map(drop).map_err(layer_failed);
        }
        self.unpack_stored(layer).map_err(layer_failed)
    }

    /// Removes the content of an index that is for other platforms.
    fn keep_platforms(&self, target: &Descriptor, platforms: &[Platform]) -> Result<()> {
        let Document::Index(index) = self.store.document(target).context("cannot read the manifest")? else {
            return Ok(());
        };
        let kept = |child: &Descriptor| {
            child.platform.as_ref().is_none_or(|own| platforms.iter().any(|wanted| wanted.is_same(own)))
        };
        let others: Vec<Descriptor> = index.manifests.iter().filter(|child| !kept(child)).cloned().collect();
        self.discard_manifests(&others).map(drop)
    }
}

/// Leaves out what says that it is for another platform.
fn choose_platforms(images: Vec<LoadedImage>, platforms: &[Platform]) -> Result<Vec<LoadedImage>> {
    let fits = |image: &LoadedImage| {
        let own = image.target.platform.as_ref();
        platforms.is_empty() || own.is_none_or(|own| platforms.iter().any(|wanted| wanted.is_same(own)))
    };
    let all = images.len();
    let images: Vec<LoadedImage> = images.into_iter().filter(fits).collect();
    if images.is_empty() && all > 0 {
        let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        let text = format!("requested platform(s) ([{}]) not found: image might be filtered out", wanted.join(" "));
        return Err(Error::not_found(text));
    }
    Ok(images)
}

fn shown_name(image: &LoadedImage) -> String {
    image.references.first().map_or_else(|| image.target.digest.to_string(), |name| name.familiar())
}

fn lacks_platform(incomplete: &[String], platforms: &[Platform]) -> Option<Error> {
    let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    let wanted = wanted.join(" ");
    match incomplete {
        [] => None,
        [one] => Some(Error::not_found(format!(
            "image {one} was loaded, but doesn't provide the requested platform ([{wanted}])"
        ))),
        several => Some(Error::not_found(format!(
            "images [{}] were loaded, but don't provide the requested platform ([{wanted}])",
            several.join(", ")
        ))),
    }
}
