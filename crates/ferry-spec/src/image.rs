//! Image configurations.
//!
//! Values in here are data of whoever made the image, never instructions to the engine.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::DiffId;
use crate::json::check_unambiguous;
use crate::null::null_default;
use crate::platform::Platform;

/// The longest image configuration that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// An image configuration.
///
/// Spec: OCI image configuration; Docker image specification 1.2.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// CPU architecture.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// Operating system.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features that the operating system must have.
    #[serde(rename = "os.features", default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Version of Docker that made it.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// Free-form comment (Docker).
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// How its containers run.
    #[serde(default, deserialize_with = "null_default")]
    pub config: ContainerConfig,
    /// Its layers.
    #[serde(default, deserialize_with = "null_default")]
    pub rootfs: RootFs,
    /// How each layer came about.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Records of the build cache that lead to its layers, base64 (BuildKit's inline cache).
    #[serde(
        rename = "moby.buildkit.cache.v0",
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub build_cache: String,
}

/// An empty JSON object, the value of Go's set-like maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// Defaults for containers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// User, or `user:group`.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports such as `80/tcp`.
    #[serde(default, deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value` entries.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// First words of the command line; `None` and an empty list are told apart.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Further words of the command line.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that get a volume.
    #[serde(default, deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Working directory.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks its process to end.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds to wait for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The command is already escaped (Windows).
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// How its health is asked after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The shell of shell-form instructions.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Instructions for images built on this one.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

/// A health check; durations in nanoseconds, 0 inherits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, `CMD` and words, or `CMD-SHELL` and a line; empty inherits.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time one check may take.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time after the start in which failures do not count.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks during that.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<DiffId>,
}

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Free-form comment.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It made no layer.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Why a document is no image configuration.
#[derive(Debug, thiserror::Error)]
pub enum ImageConfigError {
    /// Longer than [`MAX_CONFIG_BYTES`].
    #[error("image configuration of {0} bytes is longer than the {MAX_CONFIG_BYTES} allowed")]
    TooLong(u64),
    /// No JSON, ambiguous, or fields of the wrong type.
    #[error("invalid image configuration")]
    Json(#[from] serde_json::Error),
    /// Not a JSON object.
    #[error("invalid image configuration: not a JSON object")]
    NotAnObject,
    /// The layers are not described by diff ids.
    #[error("image configuration has rootfs type {0:?}, only \"layers\" is known")]
    RootFsType(String),
}

impl ImageConfig {
    /// Reads an image configuration.
    ///
    /// # Errors
    /// [`ImageConfigError`] when it is too long, ambiguous, malformed, or has digests that are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageConfigError> {
        let length = bytes.len() as u64;
        if length > MAX_CONFIG_BYTES {
            return Err(ImageConfigError::TooLong(length));
        }
        check_unambiguous(bytes)?;
        // serde would also read a list as the fields in their order.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ImageConfigError::NotAnObject);
        }
        let config: Self = serde_json::from_slice(bytes)?;
        if !matches!(config.rootfs.kind.as_str(), "layers" | "") {
            return Err(ImageConfigError::RootFsType(config.rootfs.kind));
        }
        Ok(config)
    }

    /// Returns the platform it says it is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Docker takes a lone string for a list of one.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(deserializer)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}

/// A map whose values carry nothing: `{}` and `null` alike.
fn null_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Empty>, D::Error> {
    let map = Option::<BTreeMap<String, Option<Empty>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(map.into_keys().map(|key| (key, Empty {})).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_read_as_nothing() {
        let text = r#"{"architecture":"amd64","os":"linux","created":null,"author":null,
            "config":{"User":null,"Env":null,"Cmd":null,"Entrypoint":"sh","Volumes":{"/data":null},"ExposedPorts":null,
                "Labels":null,"OnBuild":null,"Healthcheck":null,"WorkingDir":"","Hostname":"x"},
            "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config.entrypoint, Some(vec!["sh".to_owned()]));
        assert_eq!(config.config.cmd, None);
        assert!(config.config.volumes.contains_key("/data"));
        assert!(config.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = r#"{"created":"2024-01-02T03:04:05.678Z","architecture":"arm64","os":"linux","variant":"v8",
            "config":{"Env":["PATH=/bin"],"Entrypoint":[],"Cmd":["a","b"],"StopSignal":"SIGQUIT",
                "Healthcheck":{"Test":["CMD","x"],"Interval":1000000000}},
            "rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
            "history":[{"created_by":"RUN x","empty_layer":true}]}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        let again = ImageConfig::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(config, again);
        assert_eq!(config.config.entrypoint, Some(Vec::new()));
        assert_eq!(config.platform().to_string(), "linux/arm64/v8");
    }

    #[test]
    fn hostile_configurations_are_refused() {
        for text in [
            r#"{"os":"linux","os":"windows"}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}"#,
            r#"{"rootfs":{"type":"magic"}}"#,
            "[]",
            "",
        ] {
            assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
