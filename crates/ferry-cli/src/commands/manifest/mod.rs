//! Commands on manifest lists: put together on this machine, below the client's folder, and pushed to a registry as a whole.
//!
//! As with Docker's client none of this needs a daemon: the client speaks to registries itself, with the user's own credentials.

pub(super) mod annotate;
pub(super) mod create;
pub(super) mod inspect;
mod list;
pub(super) mod push;
pub(super) mod remote;
pub(super) mod remove;
mod store;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_spec::manifest::{Document, Manifest};
use ferry_spec::{Descriptor, Reference, media_type};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Failure, Result};

/// What is known of one manifest, in the form of Docker's files.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct ImageManifest {
    #[serde(rename = "Ref")]
    reference: String,
    #[serde(rename = "Descriptor")]
    descriptor: Descriptor,
    /// The bytes, in base64.
    #[serde(rename = "Raw", default, skip_serializing_if = "String::is_empty")]
    raw: String,
    #[serde(rename = "SchemaV2Manifest", default, skip_serializing_if = "Option::is_none")]
    docker: Option<Value>,
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none")]
    oci: Option<Value>,
}

impl ImageManifest {
    fn new(reference: &Reference, descriptor: Descriptor, bytes: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| Failure::new(error.to_string()))?;
        let is_docker = descriptor.media_type == media_type::DOCKER_MANIFEST;
        let (docker, oci) = if is_docker { (Some(value), None) } else { (None, Some(value)) };
        Ok(Self { reference: reference.to_string(), descriptor, raw: STANDARD.encode(bytes), docker, oci })
    }

    /// The manifest as JSON, in the order it was written in.
    fn payload(&self) -> Result<&Value> {
        let payload = self.docker.as_ref().or(self.oci.as_ref());
        payload.ok_or_else(|| Failure::new(format!("{} has no payload", self.reference)))
    }

    fn name(&self) -> Result<Reference> {
        Reference::parse(&self.reference).map_err(|error| Failure::new(error.to_string()))
    }

    /// The bytes, which must still be those of the digest.
    fn bytes(&self) -> Result<Vec<u8>> {
        let expected = &self.descriptor.digest;
        let bytes = STANDARD.decode(&self.raw).map_err(|error| Failure::new(error.to_string()))?;
        if expected.verifies(&bytes) {
            return Ok(bytes);
        }
        let actual = ferry_spec::Digest::sha256(&bytes);
        let reference = &self.reference;
        Err(Failure::new(format!("internal digest mismatch for {reference}: expected {expected}, got {actual}")))
    }

    fn manifest(&self) -> Result<Manifest> {
        match Document::parse(&self.bytes()?, Some(&self.descriptor.media_type)) {
            Ok(Document::Manifest(manifest)) => Ok(*manifest),
            Ok(Document::Index(_)) => Err(Failure::new(format!("{} is a manifest list", self.reference))),
            Err(error) => Err(Failure::new(format!("{}: {error}", self.reference))),
        }
    }
}

/// Reads a name as it is typed: with the tag `latest` when it has neither tag nor digest.
fn reference(text: &str) -> Result<Reference, String> {
    Reference::parse_with_default_tag(text).map_err(|error| error.to_string())
}

/// Writes JSON indented as Go's `MarshalIndent` does.
fn indented(value: &impl Serialize, indent: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer).map_err(|error| Failure::new(error.to_string()))?;
    Ok(out)
}
