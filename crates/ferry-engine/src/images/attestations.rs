//! Statements about an image that lie beside it in its index.

use ferry_api::image::AttestationStatement;
use ferry_spec::{Descriptor, Document, Platform, media_type};

use super::names::familiar;
use super::resolve::platform_not_found;
use super::{Images, Inner};
use crate::error::{Context, Error, Result};

/// Annotation of a layer with what its statement is about.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// Annotation that names the image which an attestation is about.
const SUBJECT: &str = "vnd.docker.reference.digest";
/// Longest statement that is handed out, in bytes.
const STATEMENT_LIMIT: u64 = 64 << 20;

/// Which statements.
#[derive(Debug, Clone, Default)]
pub struct AttestationOptions {
    /// About the image for this platform instead of this host's.
    pub platform: Option<Platform>,
    /// Only of these types; all when empty.
    pub types: Vec<String>,
    /// With their text.
    pub statement: bool,
}

impl Images {
    /// Lists the statements about an image.
    ///
    /// API: `GET /images/{name}/attestations`
    ///
    /// # Errors
    /// NotFound for the image or the platform.
    pub async fn attestations(
        &self,
        reference: &str,
        options: AttestationOptions,
    ) -> Result<Vec<AttestationStatement>> {
        let reference = reference.to_owned();
        self.blocking(move |inner| inner.attestations(&reference, &options)).await
    }
}

impl Inner {
    fn attestations(&self, reference: &str, options: &AttestationOptions) -> Result<Vec<AttestationStatement>> {
        let record = self.find(reference)?;
        if record.target.media_type != media_type::OCI_INDEX {
            return Ok(Vec::new());
        }
        let image = self.best(&record, options.platform.as_ref())?;
        let image = image.ok_or_else(|| platform_not_found(&familiar(&record), options.platform.as_ref()))?;
        let index = self.index(&record.target)?;
        let about = |child: &&Descriptor| {
            child.is_attestation()
                && child.annotations.get(SUBJECT).is_some_and(|of| *of == image.descriptor.digest.to_string())
        };
        let Some(attestation) = index.manifests.iter().find(about).filter(|one| self.store.has_blob(&one.digest))
        else {
            return Ok(Vec::new());
        };
        let Document::Manifest(manifest) = self.store.document(attestation).context("cannot read the attestation")?
        else {
            return Ok(Vec::new());
        };
        let mut statements = Vec::new();
        for layer in manifest.layers {
            let Some(kind) = layer.annotations.get(PREDICATE_TYPE).cloned() else { continue };
            if options.types.is_empty() || options.types.contains(&kind) {
                let statement = options.statement.then(|| self.statement(&layer)).transpose()?;
                statements.push(AttestationStatement { descriptor: layer, predicate_type: kind, statement });
            }
        }
        Ok(statements)
    }

    fn statement(&self, layer: &Descriptor) -> Result<serde_json::Value> {
        let digest = &layer.digest;
        if !self.store.has_blob(digest) {
            return Err(Error::not_found(format!("attestation statement {digest} is not available locally")));
        }
        let failed = format!("failed to read attestation statement {digest}");
        let bytes = self.store.read_blob(digest, STATEMENT_LIMIT).context(&failed)?;
        serde_json::from_slice(&bytes).context(&failed)
    }
}
