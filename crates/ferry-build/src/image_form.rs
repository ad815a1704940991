//! How an image is written: the compression of its layers, the media types, annotations, and the statements beside it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_engine::images::Images;
use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::Digest;
use ferry_spec::manifest::{Index, Manifest};
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;
use serde::Serialize;

use crate::attest::{self, AttestOrder};
use crate::builder::{Built, BuiltTarget};
use crate::epoch::{self, Epoch};
use crate::exchange::{self, Compression, boolean};
use crate::export;
use crate::failure::{Failure, Result};
use crate::tree::{Layers, Tree};

/// How an image is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageForm {
    compression: Compression,
    /// With Docker's own media types.
    is_docker: bool,
    /// Statements are artifacts of OCI.
    has_artifacts: bool,
    /// It is not to stay in the store: what is not compressed yet is.
    travels: bool,
    annotations: Vec<Annotation>,
    /// Files of its layers are no newer than the moment that it is built for.
    rewrites_times: bool,
    epoch: Epoch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Annotation {
    place: Place,
    /// Only of the image for this platform.
    platform: Option<String>,
    key: String,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

impl ImageForm {
    /// Tells whether an attribute of an output is one that is read here.
    pub(crate) fn reads(name: &str) -> bool {
        name.starts_with("annotation")
            || matches!(
                name,
                "compression"
                    | "compression-level"
                    | "force-compression"
                    | "oci-mediatypes"
                    | "oci-artifact"
                    | "rewrite-timestamp"
                    | epoch::ATTRIBUTE
            )
    }

    /// Reads the attributes of an output.
    ///
    /// # Errors
    /// InvalidArgument in BuildKit's words.
    pub fn read(attributes: &BTreeMap<String, String>) -> Result<Self> {
        let flag = |name: &str, default| match attributes.get(name).map(String::as_str) {
            Some("") => Ok(true),
            text => boolean(attributes, name, default).map_err(|_| {
                let text = text.unwrap_or_default();
                Failure::invalid(format!("non-bool value {text} specified for {name}"))
            }),
        };
        let mut annotations = Vec::new();
        for (key, value) in attributes.iter().filter(|(key, _)| key.starts_with("annotation")) {
            annotations.push(Annotation::read(key, value)?);
        }
        Ok(Self {
            compression: Compression::read(attributes)?,
            is_docker: !flag("oci-mediatypes", true)?,
            has_artifacts: flag("oci-artifact", false)?,
            travels: false,
            annotations,
            rewrites_times: flag("rewrite-timestamp", false)?,
            epoch: Epoch::read(attributes)?,
        })
    }

    /// The same for an image that goes elsewhere at once.
    #[must_use]
    pub fn that_travels(self) -> Self {
        Self { travels: true, ..self }
    }

    fn annotations(&self, place: Place, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let platform = platform.map(|platform| platform.normalized().to_string());
        let is_meant = |one: &&Annotation| {
            let is_index = matches!(place, Place::Index | Place::IndexDescriptor);
            one.place == place && (is_index || one.platform.is_none() || one.platform == platform)
        };
        self.annotations.iter().filter(is_meant).map(|one| (one.key.clone(), one.value.clone())).collect()
    }

    fn media_type(&self, of: &str) -> String {
        let docker = match of {
            media_type::OCI_INDEX => media_type::DOCKER_LIST,
            media_type::OCI_MANIFEST => media_type::DOCKER_MANIFEST,
            media_type::OCI_CONFIG => media_type::DOCKER_CONFIG,
            media_type::OCI_LAYER => media_type::DOCKER_LAYER,
            media_type::OCI_LAYER_GZIP => media_type::DOCKER_LAYER_GZIP,
            media_type::OCI_LAYER_ZSTD => media_type::DOCKER_LAYER_ZSTD,
            other => other,
        };
        (if self.is_docker { docker } else { of }).to_owned()
    }
}

impl Annotation {
    /// `annotation[-place][[platform]].key`
    fn read(text: &str, value: &str) -> Result<Self> {
        let invalid = || Failure::invalid(format!("invalid annotation {text:?}"));
        let (kind, rest) = match text.find(['[', '.']) {
            Some(at) => text.split_at(at),
            None => return Err(invalid()),
        };
        let (platform, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map(|(platform, rest)| (Some(platform), rest)).ok_or_else(invalid)?,
            None => (None, rest),
        };
        let key = rest.strip_prefix('.').filter(|key| !key.is_empty()).ok_or_else(invalid)?;
        let place = match kind {
            "annotation" | "annotation-manifest" => Place::Manifest,
            "annotation-manifest-descriptor" => Place::ManifestDescriptor,
            "annotation-index" => Place::Index,
            "annotation-index-descriptor" => Place::IndexDescriptor,
            other => return Err(Failure::invalid(format!("unrecognized annotation type {other}"))),
        };
        let platform = platform.map(|text| {
            let parsed = Platform::parse(text).map_err(|error| Failure::invalid(error.to_string()));
            parsed.map(|platform| platform.normalized().to_string())
        });
        Ok(Self { place, platform: platform.transpose()?, key: key.to_owned(), value: value.to_owned() })
    }
}

/// An image that was written.
pub(crate) struct Written {
    pub(crate) target: Descriptor,
    /// The configuration of its only, or first, platform.
    pub(crate) config: Option<Digest>,
    pub(crate) has_index: bool,
    /// What it consists of, in the order in which it is told.
    pub(crate) parts: Vec<(&'static str, Digest)>,
}

/// Writes an image without a name. Blocks.
pub(crate) fn write(
    built: &Built,
    names: &[Reference],
    form: &ImageForm,
    attest: &AttestOrder,
    images: &Images,
) -> Result<Written> {
    let has_index = built.is_index || built.targets.len() > 1 || !attest.is_empty();
    if form.is_docker && !attest.is_empty() {
        return Err(Failure::invalid("cannot export attestations with \"oci-mediatypes=false\""));
    }
    // What an index says of a manifest, and a statement, holds wherever it goes.
    let travels = form.travels || has_index;
    let writing = Writing { built, form, images, travels };
    let (mut parts, mut manifests, mut statements, mut config) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (at, target) in built.targets.iter().enumerate() {
        let (manifest, of_image, layers) = writing.manifest(target)?;
        parts.push(("manifest", manifest.digest.clone()));
        parts.push(("config", of_image.digest.clone()));
        config.get_or_insert(of_image.digest);
        if !attest.is_empty() {
            let mut predicates = attest::predicates(attest, &built.story, at, &target.tree, &target.platform, images)?;
            if attest.sbom.as_ref().is_some_and(|sbom| sbom.generator.is_some()) {
                attest::supplement(&mut predicates, &target.tree, &layers, images)?;
            }
            let statement = attest::write(images, &manifest, names, &target.platform, &predicates, form.has_artifacts)?;
            parts.push(("attestation manifest", statement.digest.clone()));
            statements.push(statement);
        }
        manifests.push((manifest, target.platform.clone()));
    }
    let mut target = match (has_index, manifests.first()) {
        (false, Some((only, _))) => {
            let of_index = [Place::Index, Place::IndexDescriptor];
            if of_index.iter().any(|place| !form.annotations(*place, None).is_empty()) {
                return Err(Failure::invalid("index annotations not supported for single platform export"));
            }
            let only = only.clone();
            Descriptor { annotations: form.annotations(Place::ManifestDescriptor, None), ..only }
        }
        _ => {
            let index = writing.index(manifests, statements)?;
            parts.push(("manifest list", index.digest.clone()));
            index
        }
    };
    // What is kept under a name says no more than where it is.
    target.annotations.clear();
    Ok(Written { target, config, has_index, parts })
}

struct Writing<'a> {
    built: &'a Built,
    form: &'a ImageForm,
    images: &'a Images,
    travels: bool,
}

impl Writing<'_> {
    /// Writes the manifest and the configuration of a target; returns also its layers.
    fn manifest(&self, target: &BuiltTarget) -> Result<(Descriptor, Descriptor, Vec<Descriptor>)> {
        let Tree::Layers(layers) = &target.tree else {
            return Err(Failure::internal("a target without layers"));
        };
        let mut image = target.config.clone();
        if let Some(epoch) = self.form.epoch.named() {
            export::date(&mut image, target.of_base, epoch);
        }
        let rewritten = match self.form.epoch.or(target.epoch).filter(|_| self.form.rewrites_times) {
            Some(epoch) => self.no_newer(layers, epoch)?,
            None => layers.clone(),
        };
        image.rootfs.diff_ids = rewritten.0.iter().map(|layer| layer.diff_id.clone()).collect();
        if self.built.has_inline_cache {
            image.build_cache = STANDARD.encode(exchange::inline(&self.built.steps, layers));
        }
        let config = self.store(&image, media_type::OCI_CONFIG)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(self.form.media_type(media_type::OCI_MANIFEST)),
            artifact_type: None,
            config: config.clone(),
            layers: self.layers(&rewritten)?,
            subject: None,
            annotations: self.form.annotations(Place::Manifest, Some(&target.platform)),
        };
        Ok((self.store(&manifest, media_type::OCI_MANIFEST)?, config, manifest.layers))
    }

    /// The same layers with files no newer than a moment, but for those of the base image.
    fn no_newer(&self, layers: &Layers, epoch: i64) -> Result<Layers> {
        let mut rewritten = Vec::new();
        for layer in layers.0.iter() {
            let mut layer = layer.clone();
            if !layer.foreign {
                (layer.descriptor, layer.diff_id) = self.images.layer_no_newer(&layer.descriptor, epoch)?;
            }
            rewritten.push(layer);
        }
        // Whoever runs the image finds its layers unpacked, as those of any other that was built.
        let mut below = None;
        for layer in &rewritten {
            below = Some(self.images.stack(below.as_ref(), &layer.descriptor, &layer.diff_id)?);
        }
        Ok(Layers::of(rewritten))
    }

    fn layers(&self, layers: &Layers) -> Result<Vec<Descriptor>> {
        layers
            .0
            .iter()
            .map(|layer| {
                let mut descriptor = layer.descriptor.clone();
                if let Some(form) = self.form.compression.of_layer(layer, self.travels) {
                    descriptor = self.images.layer_as(&descriptor, form)?;
                }
                descriptor.annotations.clear();
                descriptor.media_type = self.form.media_type(&descriptor.media_type);
                Ok(descriptor)
            })
            .collect()
    }

    fn index(&self, manifests: Vec<(Descriptor, Platform)>, statements: Vec<Descriptor>) -> Result<Descriptor> {
        let images = manifests.into_iter().map(|(descriptor, platform)| Descriptor {
            annotations: self.form.annotations(Place::ManifestDescriptor, Some(&platform)),
            platform: Some(platform),
            ..descriptor
        });
        let index = Index {
            schema_version: 2,
            media_type: Some(self.form.media_type(media_type::OCI_INDEX)),
            artifact_type: None,
            manifests: images.chain(statements).collect(),
            subject: None,
            annotations: self.form.annotations(Place::Index, None),
        };
        self.store(&index, media_type::OCI_INDEX)
    }

    fn store(&self, document: &impl Serialize, media_type: &str) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(document).map_err(|error| Failure::internal(error.to_string()))?;
        let digest = self.images.put_content(&bytes)?;
        Ok(Descriptor::new(self.form.media_type(media_type), digest, bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<ImageForm> {
        ImageForm::read(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn annotations_go_where_they_are_meant_for() {
        let form = read(&[
            ("annotation.a.b", "1"),
            ("annotation[linux/amd64].c", "2"),
            ("annotation-index.d", "3"),
            ("annotation-manifest-descriptor[linux/arm64].e", "4"),
        ])
        .unwrap();
        let amd = Platform::parse("linux/amd64").unwrap();
        let pairs =
            |map: BTreeMap<String, String>| map.into_iter().map(|(key, value)| key + &value).collect::<Vec<_>>();
        assert_eq!(pairs(form.annotations(Place::Manifest, Some(&amd))), ["a.b1", "c2"]);
        assert_eq!(pairs(form.annotations(Place::Index, None)), ["d3"]);
        assert!(form.annotations(Place::ManifestDescriptor, Some(&amd)).is_empty());
        for (key, text) in [
            ("annotation", "invalid annotation \"annotation\""),
            ("annotation-other.x", "unrecognized annotation type annotation-other"),
        ] {
            assert_eq!(read(&[(key, "")]).unwrap_err().message, text);
        }
    }

    #[test]
    fn media_types_are_those_of_docker_where_asked_for() {
        let form = read(&[("oci-mediatypes", "false"), ("compression", "zstd")]).unwrap();
        assert_eq!(form.media_type(media_type::OCI_LAYER_ZSTD), media_type::DOCKER_LAYER_ZSTD);
        assert_eq!(ImageForm::default().media_type(media_type::OCI_INDEX), media_type::OCI_INDEX);
        assert_eq!(
            read(&[("oci-mediatypes", "x")]).unwrap_err().message,
            "non-bool value x specified for oci-mediatypes"
        );
    }
}
