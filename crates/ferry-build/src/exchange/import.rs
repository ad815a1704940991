//! Taking a cache from elsewhere.
//!
//! What cannot be read costs its hits alone: the build goes on without. Layers are fetched when a step needs their files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ferry_engine::images::{Images, ResolvedImage};
use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::Digest;
use ferry_spec::image::{ImageConfig, MAX_CONFIG_BYTES};
use ferry_spec::manifest::{Document, Manifest};
use ferry_spec::reference::Reference;
use futures_util::future::join_all;

use super::format::{CONFIG_TYPE, CREATED_AT, Config, Hit, Known, Layer, UNCOMPRESSED};
use super::mounts::{MOUNT, MountBlob};
use super::place::Place;
use super::{CacheOrder, boolean};
use crate::clock::now_ns;
use crate::failure::{Failure, Result, blocking};
use crate::progress::{Begun, Reporter};
use crate::solve::{Ground, SolveOptions};

/// The longest manifest of a cache, in bytes.
const MANIFEST_LIMIT: u64 = 4 << 20;
/// The longest document of a cache, in bytes.
const CONFIG_LIMIT: u64 = 16 << 20;
/// Indexes inside of indexes that are looked into.
const DEPTH: usize = 4;

/// Caches that a build may take from; cheap to clone.
#[derive(Clone, Default)]
pub struct Imports(Arc<Vec<Import>>);

#[derive(Default)]
struct Import {
    known: Vec<Known>,
    blobs: HashMap<Digest, Descriptor>,
    mounts: HashMap<String, MountBlob>,
    place: Option<Place>,
    /// An image of the store that is the cache; it is not removed meanwhile.
    _image: Option<ResolvedImage>,
}

/// Reads caches, side by side, and tells how that goes; `here` names images of the store that carry one.
pub(crate) async fn load(
    orders: &[CacheOrder],
    here: &[String],
    ground: &Ground,
    options: &SolveOptions,
    reporter: &Reporter,
) -> Imports {
    let loaded = orders.iter().map(|order| async move {
        let begun = reporter.internal(format!("importing cache manifest from {}", title(order)));
        let read = read(order, ground, options, &begun).await;
        // Why one cannot be had is told, and the build goes on without it.
        begun.ended(read).ok()
    });
    let of_images = join_all(here.iter().map(|name| read_here(name, ground))).await;
    Imports(Arc::new(join_all(loaded).await.into_iter().chain(of_images).flatten().collect()))
}

/// Takes what an image of the store carries; one that is not there, or carries nothing, costs its hits alone.
async fn read_here(name: &str, ground: &Ground) -> Option<Import> {
    let (images, text) = (ground.engine.images.clone(), name.to_owned());
    let read = blocking(move || {
        let image = images.resolve(&text, None)?;
        let layers = images.layers_of(&image)?.into_iter().map(|(layer, _)| layer).collect::<Vec<_>>();
        let mut import = Import::default();
        import.take_records(&image.config, &layers)?;
        Ok(Import { _image: Some(image), ..import })
    });
    read.await
        .inspect_err(|failure| tracing::warn!(image = name, error = %failure, "no cache is taken from an image"))
        .ok()
}

/// What a cache is called: the reference, or the type and a number.
fn title(order: &CacheOrder) -> String {
    if let ("registry", Some(reference)) = (order.kind.as_str(), order.attributes.get("ref")) {
        return reference.clone();
    }
    let all = format!("{} {:?}", order.kind, order.attributes);
    let number = Digest::sha256(all.as_bytes());
    format!("{}:{}", order.kind, u64::from_str_radix(&number.hex()[..16], 16).unwrap_or_default())
}

/// Reads a reference as caches name it.
pub(super) fn reference(attributes: &BTreeMap<String, String>) -> Result<Reference> {
    match attributes.get("ref").map(String::as_str).unwrap_or_default() {
        "" => Err(Failure::invalid("missing ref")),
        text => Reference::parse_with_default_tag(text).map_err(|error| Failure::invalid(error.to_string())),
    }
}

async fn read(order: &CacheOrder, ground: &Ground, options: &SolveOptions, begun: &Begun) -> Result<Import> {
    let configured = async {
        match order.kind.as_str() {
            "registry" => in_registry(order, ground, options).await,
            "local" => in_directory(order, options).await,
            other => Err(Failure::invalid(format!("unknown cache importer: {other}"))),
        }
    };
    let (place, target, bytes) = configured.await.map_err(|failure| match failure.message.starts_with("unknown") {
        true => failure,
        false => failure.during(format!("failed to configure {} cache importer", order.kind)),
    })?;
    let document = Document::parse(&bytes, None)
        .map_err(|error| Failure::invalid(format!("cannot read the cache manifest {}: {error}", target.digest)))?;
    let inferred = format!("inferred cache manifest type: {}", document.media_type());
    begun.status(&inferred, 0, 0, now_ns(), true);
    let mut import = Import { place: Some(place.clone()), ..Import::default() };
    let (config, layers) = match &document {
        Document::Index(index) => {
            let (configs, layers): (Vec<_>, Vec<_>) =
                index.manifests.iter().cloned().partition(|one| one.media_type == CONFIG_TYPE);
            (configs.into_iter().next(), layers)
        }
        Document::Manifest(manifest) => {
            let config = Some(manifest.config.clone()).filter(|config| config.media_type == CONFIG_TYPE);
            (config, manifest.layers.clone())
        }
    };
    match config {
        Some(config) => {
            let text = place.read(&config, CONFIG_LIMIT).await?;
            let config: Config = serde_json::from_slice(&text)
                .map_err(|error| Failure::invalid(format!("cannot read the cache {}: {error}", config.digest)))?;
            import.take_layers(layers);
            import.known.push(Known::read(&config, &import.blobs));
        }
        None => import.take_images(&place, document, 0).await?,
    }
    Ok(import)
}

type Opened = (Place, Descriptor, Vec<u8>);

async fn in_registry(order: &CacheOrder, ground: &Ground, options: &SolveOptions) -> Result<Opened> {
    let reference = reference(&order.attributes)?;
    let plain_http = boolean(&order.attributes, "registry.insecure", false)?;
    let place = Place::registry(ground, options, &reference, plain_http, false).await?;
    let Place::Registry(remote) = &place else { return Err(Failure::internal("no repository")) };
    let target = remote.resolve().await?;
    let bytes = remote.manifest(&target).await?;
    Ok((place, target, bytes))
}

async fn in_directory(order: &CacheOrder, options: &SolveOptions) -> Result<Opened> {
    let attribute = |name: &str| order.attributes.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let digest =
        attribute("digest").ok_or_else(|| Failure::invalid("local cache importer requires explicit digest"))?;
    let source = attribute("src").ok_or_else(|| Failure::invalid("local cache importer requires src"))?;
    let digest = Digest::parse(digest).map_err(|error| Failure::invalid(error.to_string()))?;
    let place = Place::client(options, source).await?;
    let Place::Client(store) = &place else { return Err(Failure::internal("no directory")) };
    let target = Descriptor::new("", digest.clone(), store.size(&digest).await?);
    let bytes = place.read(&target, MANIFEST_LIMIT).await?;
    Ok((place, target, bytes))
}

impl Import {
    fn take_layers(&mut self, layers: Vec<Descriptor>) {
        for layer in layers {
            match layer.annotations.get(MOUNT) {
                Some(id) => {
                    self.mounts.insert(id.clone(), MountBlob::of(&layer));
                }
                None => {
                    self.blobs.insert(layer.digest.clone(), layer);
                }
            }
        }
    }

    /// Takes what images carry of the cache in their configurations.
    async fn take_images(&mut self, place: &Place, document: Document, depth: usize) -> Result<()> {
        match document {
            Document::Manifest(manifest) => self.take_image(place, &manifest).await,
            Document::Index(index) if depth < DEPTH => {
                for child in index.manifests.iter().filter(|child| !child.is_attestation()) {
                    let bytes = match place {
                        Place::Registry(remote) => remote.manifest(child).await?,
                        Place::Client(_) => place.read(child, MANIFEST_LIMIT).await?,
                    };
                    let Ok(document) = Document::parse(&bytes, Some(&child.media_type)) else { continue };
                    Box::pin(self.take_images(place, document, depth + 1)).await?;
                }
                Ok(())
            }
            Document::Index(_) => Ok(()),
        }
    }

    async fn take_image(&mut self, place: &Place, manifest: &Manifest) -> Result<()> {
        if !media_type::is_config(&manifest.config.media_type) || manifest.layers.is_empty() {
            return Ok(());
        }
        let bytes = place.read(&manifest.config, MAX_CONFIG_BYTES).await?;
        let Ok(image) = ImageConfig::parse(&bytes) else { return Ok(()) };
        self.take_records(&image, &manifest.layers)
    }

    /// Takes the records that lead to the layers of an image.
    fn take_records(&mut self, image: &ImageConfig, layers_of_image: &[Descriptor]) -> Result<()> {
        if image.build_cache.is_empty() || image.rootfs.diff_ids.len() != layers_of_image.len() {
            return Ok(());
        }
        use base64::Engine as _;
        let records = base64::engine::general_purpose::STANDARD
            .decode(&image.build_cache)
            .map_err(|error| Failure::invalid(format!("cannot read the cache of an image: {error}")))?;
        let records = serde_json::from_slice(&records)
            .map_err(|error| Failure::invalid(format!("cannot read the cache of an image: {error}")))?;
        let mut times = image.history.iter().filter(|entry| !entry.empty_layer).map(|entry| entry.created.clone());
        let mut config = Config { records, layers: Vec::new() };
        let mut layers = Vec::new();
        for (at, (layer, diff_id)) in layers_of_image.iter().zip(&image.rootfs.diff_ids).enumerate() {
            config.layers.push(Layer {
                blob: layer.digest.clone(),
                parent: i64::try_from(at).unwrap_or_default() - 1,
                annotations: None,
            });
            let mut layer = layer.clone();
            layer.annotations.insert(UNCOMPRESSED.to_owned(), diff_id.0.to_string());
            if let Some(created) = times.next().flatten() {
                layer.annotations.insert(CREATED_AT.to_owned(), created);
            }
            layers.push(layer);
        }
        self.take_layers(layers);
        self.known.push(Known::read(&config, &self.blobs));
        Ok(())
    }
}

impl Imports {
    /// Tells whether there is nothing to take from.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Finds what a step came to elsewhere.
    pub(crate) fn find(&self, key: &str, outputs: usize) -> Option<Hit> {
        self.0.iter().flat_map(|import| &import.known).find_map(|known| known.find(key, outputs))
    }

    /// Tells whether a blob can be fetched.
    pub(crate) fn has(&self, blob: &Digest) -> bool {
        self.0.iter().any(|import| import.blobs.contains_key(blob))
    }

    /// Brings the blob of a layer here.
    pub(crate) async fn fetch(&self, images: &Images, blob: &Digest, begun: &Begun) -> Result<()> {
        let mut failed = Failure::internal(format!("no cache has {blob}"));
        for import in self.0.iter() {
            let (Some(place), Some(descriptor)) = (&import.place, import.blobs.get(blob)) else { continue };
            match fetch(place, images, descriptor, begun).await {
                Ok(()) => return Ok(()),
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }

    /// What a cache mount begins with: brought here, and described.
    pub(crate) async fn mount(&self, images: &Images, id: &str, begun: &Begun) -> Result<Option<MountBlob>> {
        for import in self.0.iter() {
            if let (Some(place), Some(mount)) = (&import.place, import.mounts.get(id)) {
                fetch(place, images, &mount.descriptor, begun).await?;
                return Ok(Some(mount.clone()));
            }
        }
        Ok(None)
    }
}

async fn fetch(place: &Place, images: &Images, blob: &Descriptor, begun: &Begun) -> Result<()> {
    let started = now_ns();
    let amount = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (title, total) = (blob.digest.to_string(), amount(blob.size));
    place.fetch(images, blob, |come| begun.status(&title, amount(come), total, started, false)).await?;
    begun.status(&title, total, total, started, true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_called_by_their_reference() {
        let order = |kind: &str, name: &str| CacheOrder {
            kind: kind.to_owned(),
            attributes: BTreeMap::from([(name.to_owned(), "host/cache:1".to_owned())]),
        };
        assert_eq!(title(&order("registry", "ref")), "host/cache:1");
        assert!(title(&order("local", "src")).starts_with("local:"));
        assert_ne!(title(&order("local", "src")), title(&order("local", "dest")));
        assert_eq!(reference(&order("registry", "x").attributes).unwrap_err().message, "missing ref");
    }
}
