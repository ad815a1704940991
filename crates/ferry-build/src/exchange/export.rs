//! Giving a cache to elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};

use ferry_engine::images::Images;
use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::Digest;
use ferry_spec::reference::Reference;
use serde_json::json;

use super::format::{
    self, CONFIG_TYPE, CREATED_AT, Config, Found, Layer, LayerAnnotations, Places, Step, UNCOMPRESSED,
};
use super::import::reference;
use super::place::Place;
use super::{CacheOrder, Compression, boolean, mounts};
use crate::builder::Built;
use crate::clock::{now_ns, rfc3339};
use crate::failure::{Failure, Result, blocking};
use crate::progress::Begun;
use crate::solve::{Ground, SolveOptions};
use crate::tree::{BuiltLayer, Layers, Tree};

/// A cache that a build is to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportOrder {
    target: Target,
    /// Layers of every step travel, not just those of the image.
    is_max: bool,
    /// Cache mounts travel too.
    takes_mounts: bool,
    /// It need not come about.
    ignores_errors: bool,
    is_image_manifest: bool,
    is_oci: bool,
    compression: Compression,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// In the configuration of the image.
    Inline,
    Registry {
        reference: Box<Reference>,
        plain_http: bool,
    },
    /// A directory of the client.
    Local {
        destination: String,
    },
}

impl ExportOrder {
    /// Reads what a client asks for.
    pub(crate) fn read(order: &CacheOrder) -> Result<Self> {
        if !matches!(order.kind.as_str(), "inline" | "registry" | "local") {
            return Err(Failure::invalid(format!("unknown cache exporter: {:?}", order.kind)));
        }
        Self::configure(order)
            .map_err(|failure| failure.during(format!("failed to configure {} cache exporter", order.kind)))
    }

    fn configure(order: &CacheOrder) -> Result<Self> {
        let attributes = &order.attributes;
        let text = |name: &str| attributes.get(name).map(String::as_str).unwrap_or_default();
        let target = match order.kind.as_str() {
            "inline" => Target::Inline,
            "registry" => Target::Registry {
                reference: Box::new(reference(attributes)?),
                plain_http: boolean(attributes, "registry.insecure", false)?,
            },
            _ if text("dest").is_empty() => return Err(Failure::invalid("local cache exporter requires dest")),
            _ => Target::Local { destination: text("dest").to_owned() },
        };
        let is_oci = boolean(attributes, "oci-mediatypes", true)?;
        let takes_mounts = match text("mounts") {
            "" | "none" => false,
            "all" => true,
            other => return Err(Failure::invalid(format!("invalid mounts {other:?}: give all or none"))),
        };
        Ok(Self {
            is_max: text("mode") == "max",
            takes_mounts: takes_mounts && target != Target::Inline,
            // What is no truth value is none, as in BuildKit.
            ignores_errors: boolean(attributes, "ignore-error", false).unwrap_or(false),
            is_image_manifest: boolean(attributes, "image-manifest", is_oci)?,
            is_oci,
            compression: Compression::read(attributes)?,
            target,
        })
    }

    /// It goes into the image itself.
    pub(crate) fn is_inline(&self) -> bool {
        self.target == Target::Inline
    }

    /// A failure is told and nothing else.
    pub(crate) fn ignores_errors(&self) -> bool {
        self.ignores_errors
    }

    /// The step that is shown.
    pub(crate) fn title(&self) -> &'static str {
        match self.target {
            Target::Inline => "exporting inline cache",
            Target::Registry { .. } => "exporting cache to registry",
            Target::Local { .. } => "exporting cache to client directory",
        }
    }

    /// Gives the cache of what was built; returns the manifest that it became, or `None` when there is nothing to give.
    pub(crate) async fn carry_out(
        &self,
        built: &Built,
        ground: &Ground,
        options: &SolveOptions,
        begun: &Begun,
    ) -> Result<Option<Descriptor>> {
        let started = now_ns();
        if self.is_image_manifest && !self.is_oci {
            return Err(Failure::invalid(
                "invalid configuration for remote cache, OCI mediatypes are required for image-manifest cache format",
            ));
        }
        let place = match &self.target {
            Target::Inline => return Ok(None),
            Target::Registry { reference, plain_http } => {
                Place::registry(ground, options, reference, *plain_http, true).await?
            }
            Target::Local { destination } => Place::client(options, destination).await?,
        };
        let (order, built, making) = (self.clone(), built.clone(), ground.clone());
        let made = blocking(move || order.make(&built, &making)).await?;
        begun.status("preparing build cache for export", 0, 0, started, true);
        let Some(made) = made else {
            begun.status("skipping cache export for empty result", 0, 0, started, true);
            return Ok(None);
        };
        let started = now_ns();
        place.write(&ground.engine.images, &made.blobs, &made.manifest, &made.bytes).await?;
        for blob in &made.blobs {
            let what = if blob.media_type == CONFIG_TYPE { "config" } else { "layer" };
            begun.status(&format!("writing {what} {}", blob.digest), 0, 0, started, true);
        }
        let what = if self.is_image_manifest { "cache image manifest" } else { "cache manifest" };
        begun.status(&format!("writing {what} {}", made.manifest.digest), 0, 0, started, true);
        Ok(Some(made.manifest))
    }

    fn make(&self, built: &Built, ground: &Ground) -> Result<Option<Made>> {
        let images = &ground.engine.images;
        let mut gathered = Gathered { order: self, images, kept: kept(built), layers: Vec::new(), at: HashMap::new() };
        let records = format::records(&built.steps, &mut gathered);
        let Gathered { layers, .. } = gathered;
        if layers.is_empty() {
            return Ok(None);
        }
        let config = Config { layers: layers.iter().map(|(layer, _)| layer.clone()).collect(), records };
        let config = serde_json::to_vec(&config).map_err(|error| Failure::internal(error.to_string()))?;
        let config = Descriptor::new(CONFIG_TYPE, images.put_content(&config)?, config.len() as u64);
        let mut seen = HashSet::new();
        let blobs = layers.into_iter().map(|(_, blob)| blob).filter(|blob| seen.insert(blob.digest.clone()));
        let mut blobs: Vec<Descriptor> = blobs.collect();
        if self.takes_mounts {
            for id in built.cache_mounts.iter() {
                blobs.extend(mounts::pack(ground, id)?);
            }
        }
        if !self.is_oci {
            blobs.iter_mut().for_each(|blob| blob.media_type = docker_type(&blob.media_type).to_owned());
        }
        let (media_type, document) = self.document(&blobs, &config);
        let bytes = serde_json::to_vec(&document).map_err(|error| Failure::internal(error.to_string()))?;
        let manifest = Descriptor::new(media_type, Digest::sha256(&bytes), bytes.len() as u64);
        blobs.push(config);
        Ok(Some(Made { blobs, manifest, bytes }))
    }

    fn document(&self, blobs: &[Descriptor], config: &Descriptor) -> (&'static str, serde_json::Value) {
        if self.is_image_manifest {
            let media_type = media_type::OCI_MANIFEST;
            return (
                media_type,
                json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": blobs }),
            );
        }
        let media_type = if self.is_oci { media_type::OCI_INDEX } else { media_type::DOCKER_LIST };
        let all: Vec<&Descriptor> = blobs.iter().chain([config]).collect();
        (media_type, json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": all }))
    }
}

struct Made {
    blobs: Vec<Descriptor>,
    manifest: Descriptor,
    bytes: Vec<u8>,
}

/// The layers of the images.
fn kept(built: &Built) -> HashSet<Digest> {
    let layers = built.targets.iter().filter_map(|target| match &target.tree {
        Tree::Layers(layers) => Some(layers),
        Tree::Folder(_) => None,
    });
    layers.flat_map(|layers| layers.0.iter().map(|layer| layer.diff_id.0.clone())).collect()
}

/// Layers that travel, as they are found.
struct Gathered<'a> {
    order: &'a ExportOrder,
    images: &'a Images,
    kept: HashSet<Digest>,
    layers: Vec<(Layer, Descriptor)>,
    /// By the layer, the one below it, and when it was made.
    at: HashMap<(Digest, i64, Option<i64>), usize>,
}

impl Places for Gathered<'_> {
    fn place(&mut self, layers: &Layers) -> Option<Found> {
        if !self.order.is_max && !layers.0.iter().all(|layer| self.kept.contains(&layer.diff_id.0)) {
            return None;
        }
        // What is not kept as a blob (base images, where that is so configured) cannot travel.
        let blobs: Vec<Descriptor> = layers.0.iter().map(|layer| self.blob(layer)).collect::<Option<_>>()?;
        let mut parent = -1;
        for (blob, layer) in blobs.into_iter().zip(layers.0.iter()) {
            let key = (blob.digest.clone(), parent, layer.created_ns);
            let at = *self.at.entry(key).or_insert_with(|| {
                let annotations = layer.created_ns.map(LayerAnnotations::made);
                self.layers.push((Layer { blob: blob.digest.clone(), parent, annotations }, blob));
                self.layers.len() - 1
            });
            parent = i64::try_from(at).unwrap_or_default();
        }
        usize::try_from(parent).ok().map(Found::Top)
    }
}

impl Gathered<'_> {
    fn blob(&self, layer: &BuiltLayer) -> Option<Descriptor> {
        let wanted = self.order.compression.of_layer(layer, true);
        let mut descriptor = layer.descriptor.clone();
        descriptor.annotations = BTreeMap::from([(UNCOMPRESSED.to_owned(), layer.diff_id.0.to_string())]);
        if let Some(created) = layer.created_ns {
            descriptor.annotations.insert(CREATED_AT.to_owned(), rfc3339(created));
        }
        if !self.images.has_content(&descriptor.digest) {
            return None;
        }
        match wanted {
            None => Some(descriptor),
            Some(form) => self
                .images
                .layer_as(&descriptor, form)
                .inspect_err(|error| tracing::warn!(%error, "a layer does not travel with the cache"))
                .ok(),
        }
    }
}

fn docker_type(of: &str) -> &str {
    match of {
        media_type::OCI_LAYER => media_type::DOCKER_LAYER,
        media_type::OCI_LAYER_GZIP => media_type::DOCKER_LAYER_GZIP,
        media_type::OCI_LAYER_ZSTD => media_type::DOCKER_LAYER_ZSTD,
        other => other,
    }
}

/// The records that lead to layers of an image, as its configuration carries them; empty when none does.
pub(crate) fn inline(steps: &[Step], layers: &Layers) -> Vec<u8> {
    let mut places = OfImage { layers, is_used: false };
    let records = format::records(steps, &mut places);
    match places.is_used {
        true => serde_json::to_vec(&records).unwrap_or_default(),
        false => Vec::new(),
    }
}

/// The layers of an image, by their place.
struct OfImage<'a> {
    layers: &'a Layers,
    is_used: bool,
}

impl Places for OfImage<'_> {
    fn place(&mut self, layers: &Layers) -> Option<Found> {
        let all = &self.layers.0;
        let at = |layer: &BuiltLayer| all.iter().position(|known| known.diff_id == layer.diff_id);
        let places: Vec<usize> = layers.0.iter().map(at).collect::<Option<_>>()?;
        let last = *places.last()?;
        self.is_used = true;
        Some(match places.iter().copied().eq(0..=last) {
            true => Found::Top(last),
            false => Found::Each(places),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, pairs: &[(&str, &str)]) -> Result<ExportOrder> {
        let attributes = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ExportOrder::read(&CacheOrder { kind: kind.to_owned(), attributes })
    }

    #[test]
    fn orders_are_read_in_the_words_of_buildkit() {
        assert!(read("inline", &[]).unwrap().is_inline());
        let order = read("registry", &[("ref", "h/c"), ("mode", "max"), ("oci-mediatypes", "false")]).unwrap();
        assert!(order.is_max && !order.is_image_manifest && !order.is_oci && !order.ignores_errors);
        let order = read("local", &[("dest", "d"), ("ignore-error", "true"), ("mounts", "all")]).unwrap();
        assert!(order.is_image_manifest && order.ignores_errors && order.takes_mounts);
        for (kind, pairs, text) in [
            ("gha", &[][..], "unknown cache exporter: \"gha\""),
            ("s3", &[], "unknown cache exporter: \"s3\""),
            ("registry", &[], "failed to configure registry cache exporter: missing ref"),
            ("local", &[], "failed to configure local cache exporter: local cache exporter requires dest"),
            (
                "local",
                &[("dest", "d"), ("compression", "x")],
                "failed to configure local cache exporter: unsupported compression type x",
            ),
            (
                "local",
                &[("dest", "d"), ("image-manifest", "x")],
                "failed to configure local cache exporter: failed to parse image-manifest: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(read(kind, pairs).unwrap_err().message, text);
        }
    }
}
