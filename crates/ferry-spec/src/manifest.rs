//! Manifests and indexes, read with suspicion.
//!
//! Digests are over bytes: whoever stores a manifest stores what came, never what these types would write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::descriptor::{Descriptor, media_type};
use crate::json::check_unambiguous;
use crate::null::null_default;

/// The longest manifest or index that is read, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// The most layers of one image.
pub const MAX_LAYERS: usize = 500;

/// An image manifest, OCI or Docker schema 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact, when it is none of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// What this manifest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image index, OCI or Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact, when it is none of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, one per platform, and what belongs to them.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// What this index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// A choice of images.
    Index(Box<Index>),
}

/// Why a document is not taken as a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_MANIFEST_BYTES`].
    #[error("manifest of {0} bytes is longer than the {MAX_MANIFEST_BYTES} allowed")]
    TooLong(u64),
    /// No JSON, ambiguous, or fields of the wrong type.
    #[error("invalid manifest")]
    Json(#[from] serde_json::Error),
    /// Docker schema 1.
    #[error("manifest schema 1 is not supported: push the image again with a current tool")]
    Schema1,
    /// Neither 1 nor 2.
    #[error("unsupported manifest schema version {0}")]
    SchemaVersion(String),
    /// Both `layers` and `manifests`, or neither.
    #[error("ambiguous manifest: {0}")]
    Ambiguous(&'static str),
    /// A key in unusual case that other parsers would take for the known one.
    #[error("ambiguous manifest: key {0:?} differs from a known key in case alone")]
    CaseVaried(String),
    /// The type it travelled as, or claims, is not what it contains.
    #[error("manifest says media type {claimed:?} but is {actual}")]
    MediaType {
        /// From the transport or the document.
        claimed: String,
        /// What its content shows.
        actual: &'static str,
    },
    /// More than [`MAX_LAYERS`].
    #[error("image has {0} layers, more than the {MAX_LAYERS} allowed")]
    TooManyLayers(usize),
}

/// Keys of manifests, indexes, descriptors and platforms; none of them may appear in another case.
const KNOWN_KEYS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "architecture",
    "os",
    "os.version",
    "os.features",
    "variant",
    "fsLayers",
    "blobSum",
];

impl Document {
    /// Reads a manifest or index. `claimed` is the media type it travelled as, from a descriptor or a `Content-Type`; empty or
    /// `None` when unknown.
    ///
    /// # Errors
    /// [`ManifestError`] for anything that two readers could understand differently, and for schema 1.
    ///
    /// Spec: OCI image manifest, image index; Docker image manifest version 2, schema 2.
    pub fn parse(bytes: &[u8], claimed: Option<&str>) -> Result<Self, ManifestError> {
        let length = bytes.len() as u64;
        if length > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong(length));
        }
        check_unambiguous(bytes)?;
        let value: Value = serde_json::from_slice(bytes)?;
        refuse_case_varied(&value)?;
        refuse_other_schemas(&value, claimed)?;
        let document = match (value.get("layers"), value.get("manifests")) {
            (Some(_), Some(_)) => return Err(ManifestError::Ambiguous("it has both `layers` and `manifests`")),
            (None, Some(_)) if value.get("config").is_some() => {
                return Err(ManifestError::Ambiguous("it has both `config` and `manifests`"));
            }
            (None, Some(_)) => Self::Index(Box::new(serde_json::from_value(value)?)),
            (_, None) if value.get("config").is_some() => Self::Manifest(Box::new(serde_json::from_value(value)?)),
            _ => return Err(ManifestError::Ambiguous("it has neither `config` and `layers` nor `manifests`")),
        };
        document.check_media_type(claimed)?;
        document.check_counts()?;
        Ok(document)
    }

    /// Returns the media type it says it has, or the OCI one of its kind.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST),
            Self::Index(index) => index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Manifest(_) => "an image manifest",
            Self::Index(_) => "an image index",
        }
    }

    fn check_media_type(&self, claimed: Option<&str>) -> Result<(), ManifestError> {
        let own = match self {
            Self::Manifest(manifest) => manifest.media_type.as_deref(),
            Self::Index(index) => index.media_type.as_deref(),
        };
        // A Content-Type may carry parameters, and servers that know nothing say text/plain or application/json.
        let claimed = claimed.map(|text| text.split(';').next().unwrap_or("").trim());
        let known = |text: &&str| media_type::is_index(text) || media_type::is_manifest(text);
        for text in [own.filter(|text| !text.is_empty()), claimed.filter(known)].into_iter().flatten() {
            let fits = match self {
                Self::Manifest(_) => media_type::is_manifest(text),
                Self::Index(_) => media_type::is_index(text),
            };
            if !fits {
                return Err(ManifestError::MediaType { claimed: text.to_owned(), actual: self.kind() });
            }
        }
        if let (Some(own), Some(claimed)) = (own.filter(|text| !text.is_empty()), claimed.filter(known))
            && own != claimed
        {
            return Err(ManifestError::MediaType { claimed: claimed.to_owned(), actual: self.kind() });
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), ManifestError> {
        match self {
            Self::Manifest(manifest) if manifest.layers.len() > MAX_LAYERS => {
                Err(ManifestError::TooManyLayers(manifest.layers.len()))
            }
            _ => Ok(()),
        }
    }
}

fn refuse_other_schemas(value: &Value, claimed: Option<&str>) -> Result<(), ManifestError> {
    let claims_schema1 =
        claimed.is_some_and(|text| matches!(text, media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED));
    if claims_schema1 || value.get("fsLayers").is_some() {
        return Err(ManifestError::Schema1);
    }
    match value.get("schemaVersion") {
        Some(version) if version.as_u64() == Some(2) => Ok(()),
        Some(version) if version.as_u64() == Some(1) => Err(ManifestError::Schema1),
        Some(version) => Err(ManifestError::SchemaVersion(version.to_string())),
        None => Err(ManifestError::SchemaVersion("(none)".to_owned())),
    }
}

fn refuse_case_varied(value: &Value) -> Result<(), ManifestError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(refuse_case_varied),
        Value::Object(map) => map.iter().try_for_each(|(key, below)| {
            if KNOWN_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key) && known != key) {
                return Err(ManifestError::CaseVaried(key.clone()));
            }
            if key == "annotations" { Ok(()) } else { refuse_case_varied(below) }
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn descriptor(kind: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":3}}"#, Digest::sha256(b"abc"))
    }

    fn manifest(extra: &str) -> String {
        let (config, layer) = (descriptor(media_type::OCI_CONFIG), descriptor(media_type::OCI_LAYER_GZIP));
        format!(r#"{{"schemaVersion":2{extra},"config":{config},"layers":[{layer}]}}"#)
    }

    fn refusal(text: &str, claimed: Option<&str>) -> String {
        Document::parse(text.as_bytes(), claimed).unwrap_err().to_string()
    }

    #[test]
    fn plain_documents_are_read() {
        let text = manifest(r#","mediaType":"application/vnd.oci.image.manifest.v1+json","x-unknown":{"a":1}"#);
        let Document::Manifest(read) = Document::parse(text.as_bytes(), Some(media_type::OCI_MANIFEST)).unwrap() else {
            panic!("not a manifest");
        };
        assert_eq!(read.layers.len(), 1);
        assert_eq!(read.config.size, 3);
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{}],"annotations":null}}"#,
            descriptor(media_type::OCI_MANIFEST)
        );
        assert!(matches!(
            Document::parse(index.as_bytes(), Some("application/json; charset=utf-8")).unwrap(),
            Document::Index(_)
        ));
    }

    #[test]
    fn ambiguity_is_refused() {
        let both = manifest(r#","manifests":[]"#);
        assert!(refusal(&both, None).contains("both `layers` and `manifests`"));
        assert!(refusal(&manifest(r#","Layers":[]"#), None).contains("invalid manifest"));
        let varied = manifest("").replace("\"layers\"", "\"Layers\"");
        assert!(refusal(&varied, None).contains("differs from a known key in case"));
        let varied = manifest("").replace("\"digest\"", "\"diGest\"");
        assert!(refusal(&varied, None).contains("differs from a known key in case"));
        assert!(refusal(&manifest(""), Some(media_type::OCI_INDEX)).contains("but is an image manifest"));
        let lying = manifest(r#","mediaType":"application/vnd.oci.image.index.v1+json""#);
        assert!(refusal(&lying, None).contains("but is an image manifest"));
        let other = manifest(r#","mediaType":"application/vnd.docker.distribution.manifest.v2+json""#);
        assert!(refusal(&other, Some(media_type::OCI_MANIFEST)).contains("says media type"));
        assert!(refusal("{\"schemaVersion\":2}", None).contains("neither"));
    }

    #[test]
    fn schema_1_is_named() {
        for text in [r#"{"schemaVersion":1,"fsLayers":[]}"#, r#"{"schemaVersion":1}"#] {
            assert!(refusal(text, None).contains("schema 1 is not supported"), "{text}");
        }
        assert!(refusal(&manifest(""), Some(media_type::DOCKER_SCHEMA1_SIGNED)).contains("schema 1"));
        assert!(refusal(r#"{"schemaVersion":3}"#, None).contains("schema version 3"));
    }

    #[test]
    fn limits_hold() {
        let long = format!("{}{}", manifest(""), " ".repeat(4 << 20));
        assert!(refusal(&long, None).contains("longer than"));
        let layers = vec![descriptor(media_type::OCI_LAYER_GZIP); 501].join(",");
        let many =
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[{layers}]}}"#, descriptor(media_type::OCI_CONFIG));
        assert!(refusal(&many, None).contains("501 layers"));
        let negative = manifest("").replace("\"size\":3", "\"size\":-3");
        assert!(refusal(&negative, None).contains("invalid manifest"));
        let escaping = manifest("").replace("sha256:", "../../../");
        assert!(refusal(&escaping, None).contains("invalid manifest"));
    }
}
