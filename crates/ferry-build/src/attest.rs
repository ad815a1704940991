//! Statements about what was built: how it came about ([`provenance`]), and what is in it ([`sbom`]).
//!
//! Each is an in-toto statement; those about one image lie as layers of a manifest of their own beside it, in BuildKit's arrangement.

mod beside;
mod bundle;
mod operations;
mod provenance;
mod purl;
mod sbom;
mod supplement;

use std::collections::{BTreeMap, HashMap};

use ferry_engine::images::Images;
use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::Digest;
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::graph::{Graph, Output, VertexId};
use crate::tree::{Layers, Tree};

pub(crate) use bundle::unbundle;
pub(crate) use provenance::Mode;
pub(crate) use sbom::{SbomOrder, Scanned, Scanner};
pub(crate) use supplement::supplement;

/// The media type of a statement.
pub(crate) const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
/// The annotation of a statement with the type of what it says.
pub(crate) const PREDICATE: &str = "in-toto.io/predicate-type";

/// Which statements are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AttestOrder {
    pub(crate) provenance: Option<ProvenanceOrder>,
    pub(crate) sbom: Option<SbomOrder>,
}

/// How a statement on the origin is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProvenanceOrder {
    pub(crate) mode: Mode,
    pub(crate) version: provenance::Version,
    pub(crate) builder_id: String,
    pub(crate) reproducible: bool,
    /// It lies in images alone, not beside files.
    pub(crate) is_inline_only: bool,
}

impl AttestOrder {
    /// Reads `attest:…` of the options of a frontend, and the build arguments that mean the same.
    pub(crate) fn read(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut order = Self::default();
        for (key, value) in options {
            let kind = key.strip_prefix("attest:").or_else(|| key.strip_prefix("build-arg:BUILDKIT_ATTEST_"));
            let Some(kind) = kind.map(str::to_lowercase) else { continue };
            let fields = match value.as_str() {
                "" => Vec::new(),
                value => ferry_dockerfile::csv::fields(value)
                    .map_err(|error| Failure::invalid(format!("failed to parse {kind}: {error}")))?,
            };
            let attributes: BTreeMap<&str, &str> =
                fields.iter().map(|field| field.split_once('=').unwrap_or((field, ""))).collect();
            let is_off = matches!(attributes.get("disabled"), Some(&("" | "true" | "1")));
            match kind.as_str() {
                _ if is_off => {}
                "provenance" => order.provenance = Some(ProvenanceOrder::read(&attributes)?),
                "sbom" => order.sbom = Some(SbomOrder::read(&attributes)?),
                other => return Err(Failure::invalid(format!("unknown attestation type {other:?}"))),
            }
        }
        Ok(order)
    }

    /// The same for what is no image: files, and archives that need not carry any.
    pub(crate) fn beside_files(&self) -> Self {
        Self { provenance: self.provenance.clone().filter(|order| !order.is_inline_only), sbom: self.sbom.clone() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.provenance.is_none() && self.sbom.is_none()
    }
}

impl ProvenanceOrder {
    fn read(attributes: &BTreeMap<&str, &str>) -> Result<Self> {
        let flag = |name: &str| match attributes.get(name) {
            None => Ok(false),
            Some(&("1" | "t" | "T" | "true" | "TRUE" | "True")) => Ok(true),
            Some(&("0" | "f" | "F" | "false" | "FALSE" | "False")) => Ok(false),
            Some(other) => Err(Failure::invalid(format!(
                "failed to parse {name} flag {other:?}: strconv.ParseBool: parsing {other:?}: invalid syntax"
            ))),
        };
        Ok(Self {
            mode: Mode::read(attributes.get("mode").copied())?,
            version: provenance::Version::read(attributes.get("version").copied())?,
            builder_id: attributes.get("builder-id").copied().unwrap_or_default().to_owned(),
            reproducible: flag("reproducible")?,
            is_inline_only: flag("inline-only").unwrap_or(false),
        })
    }
}

/// What there is to tell of a build.
#[derive(Debug, Clone, Default)]
pub(crate) struct Story {
    /// The options of the frontend.
    pub(crate) options: BTreeMap<String, String>,
    /// The Dockerfile's name and text.
    pub(crate) dockerfile: (String, String),
    /// Unix time in nanoseconds.
    pub(crate) started_ns: i64,
    pub(crate) ended_ns: i64,
    /// Names the build.
    pub(crate) invocation: String,
    pub(crate) graph: Graph,
    /// Of each target, its tree.
    pub(crate) outputs: Vec<Option<Output>>,
    /// Of each target, what a scan looks at besides it: name and files.
    pub(crate) scans: Vec<Vec<(String, Layers)>>,
    /// Of each target, what a scanner of the user's choice said.
    pub(crate) scanned: Vec<Vec<Predicate>>,
    /// That scanner's image, by its digest, and what it runs on.
    pub(crate) scanner: Option<(Reference, Platform)>,
    /// What sources turned out to be: a commit, a digest.
    pub(crate) pins: HashMap<VertexId, String>,
}

/// A statement: the type of what it says, and that.
#[derive(Debug, Clone)]
pub(crate) struct Predicate {
    pub(crate) kind: &'static str,
    pub(crate) body: Value,
    /// What a file with it is called.
    pub(crate) file: String,
    /// What it speaks of; none is what was built.
    pub(crate) subjects: Vec<Value>,
}

/// Makes the statements about one target. Blocks.
pub(crate) fn predicates(
    order: &AttestOrder,
    story: &Story,
    target: usize,
    tree: &Tree,
    platform: &Platform,
    images: &Images,
) -> Result<Vec<Predicate>> {
    let mut all = Vec::new();
    match &order.sbom {
        Some(sbom) if sbom.generator.is_some() => all.extend(story.scanned.get(target).into_iter().flatten().cloned()),
        Some(_) => all.extend(sbom::predicates(story, target, tree, images)?),
        None => {}
    }
    if let Some(order) = &order.provenance {
        all.push(provenance::predicate(order, story, target, platform));
    }
    Ok(all)
}

/// How one target came about, whoever asks.
pub(crate) fn provenance_of(order: &ProvenanceOrder, story: &Story, target: usize, platform: &Platform) -> Predicate {
    provenance::predicate(order, story, target, platform)
}

/// The same in the older version, with the least that is told.
pub(crate) fn in_short(story: &Story, target: usize, platform: &Platform) -> Value {
    let order =
        ProvenanceOrder { mode: Mode::Min, version: provenance::Version::ZeroTwo, ..ProvenanceOrder::default() };
    let mut body = provenance::predicate(&order, story, target, platform).body;
    if let Some(all) = body.as_object_mut() {
        all.remove("metadata");
    }
    body
}

/// A statement in whole: what it says, and of what, unless it says that itself.
pub(crate) fn statement(predicate: &Predicate, subjects: &[Value]) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": predicate.kind,
        "subject": if predicate.subjects.is_empty() { subjects } else { &predicate.subjects },
        "predicate": predicate.body,
    })
}

/// What statements about an image speak of: its manifest, by each of its names.
fn subjects(image: &Descriptor, names: &[Reference], platform: &Platform) -> Vec<Value> {
    let digest = json!({ image.digest.algorithm().as_str(): image.digest.hex() });
    names.iter().map(|name| json!({ "name": purl::of_image(name, Some(platform)), "digest": digest })).collect()
}

/// Writes the manifest with the statements about an image; returns its descriptor as it stands in the index. Blocks.
pub(crate) fn write(
    images: &Images,
    image: &Descriptor,
    names: &[Reference],
    platform: &Platform,
    predicates: &[Predicate],
    is_artifact: bool,
) -> Result<Descriptor> {
    let subjects = subjects(image, names, platform);
    let json = |value: &Value| serde_json::to_vec(value).map_err(|error| Failure::internal(error.to_string()));
    let mut layers = Vec::new();
    for predicate in predicates {
        let bytes = json(&statement(predicate, &subjects))?;
        let digest = images.put_content(&bytes)?;
        let mut layer = Descriptor::new(STATEMENT_TYPE, digest, bytes.len() as u64);
        layer.annotations.insert(PREDICATE.to_owned(), predicate.kind.to_owned());
        layers.push(layer);
    }
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST });
    if is_artifact {
        let empty = b"{}";
        let mut config = Descriptor::new(media_type::OCI_EMPTY, images.put_content(empty)?, 2);
        config.data = Some("e30=".to_owned());
        manifest["artifactType"] = json!("application/vnd.docker.attestation.manifest.v1+json");
        manifest["config"] = json!(config);
        manifest["subject"] = json!(Descriptor::new(image.media_type.clone(), image.digest.clone(), image.size));
    } else {
        let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
        let config = json(&json!({
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }))?;
        let digest = images.put_content(&config)?;
        manifest["config"] = json!(Descriptor::new(media_type::OCI_CONFIG, digest, config.len() as u64));
    }
    manifest["layers"] = json!(layers);
    let bytes = json(&manifest)?;
    let digest = images.put_content(&bytes)?;
    let mut descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64);
    let unknown = || "unknown".to_owned();
    descriptor.platform = Some(Platform { architecture: unknown(), os: unknown(), ..Platform::default() });
    descriptor.annotations = BTreeMap::from([
        ("vnd.docker.reference.digest".to_owned(), image.digest.to_string()),
        ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
    ]);
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_as_buildkit_reads_it() {
        let read = |key: &str, value: &str| AttestOrder::read(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
        let order = read("attest:provenance", "mode=min,inline-only=true").unwrap();
        let provenance = order.provenance.clone().unwrap();
        assert_eq!((provenance.mode, provenance.is_inline_only), (Mode::Min, true));
        assert!(order.beside_files().is_empty());
        assert_eq!(read("attest:provenance", "").unwrap().provenance.unwrap().mode, Mode::Max);
        assert_eq!(read("build-arg:BUILDKIT_ATTEST_SBOM", "").unwrap().sbom, Some(SbomOrder::default()));
        let scanned = read("attest:sbom", "generator=me/own,DEPTH=3").unwrap().sbom.unwrap();
        assert_eq!(scanned.generator.unwrap().to_string(), "docker.io/me/own:latest");
        assert_eq!(scanned.parameters["DEPTH"], "3");
        assert!(read("attest:sbom", "disabled=true").unwrap().is_empty());
        for (key, value, text) in [
            ("attest:other", "", "unknown attestation type \"other\""),
            ("attest:provenance", "mode=some", "invalid mode \"some\""),
            ("attest:provenance", "version=v9", "invalid provenance SLSA version: v9"),
            ("attest:sbom", "generator=", "sbom generator cannot be empty"),
            (
                "attest:sbom",
                "generator=A",
                "failed to parse sbom generator A: invalid reference format: repository name (library/A) must be lowercase",
            ),
        ] {
            assert_eq!(read(key, value).unwrap_err().message, text);
        }
    }

    #[test]
    fn images_are_named_in_statements() {
        let image = Descriptor::new("", Digest::sha256(b"x"), 1);
        let name = Reference::parse_with_default_tag("me/app").unwrap();
        let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..Platform::default() };
        let subjects = subjects(&image, &[name], &platform);
        assert_eq!(subjects[0]["name"], "pkg:docker/me/app@latest?platform=linux%2Famd64");
        assert_eq!(subjects[0]["digest"]["sha256"], image.digest.hex());
    }
}
