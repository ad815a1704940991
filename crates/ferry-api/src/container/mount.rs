//! Mounts in their long form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Empty;
use crate::json::is_default;

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
    #[serde(rename = "Type", skip_serializing_if = "is_default")]
    pub kind: String,
    /// Host path, volume name or image.
    #[serde(skip_serializing_if = "is_default")]
    pub source: String,
    /// Path in the container.
    #[serde(skip_serializing_if = "is_default")]
    pub target: String,
    /// No writes.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Meaningless on Linux.
    #[serde(skip_serializing_if = "is_default")]
    pub consistency: String,
    /// For `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// For `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// For `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// For `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    /// For `cluster`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_options: Option<ClusterOptions>,
}

/// Options of a cluster volume mount; there are none.
pub type ClusterOptions = Empty;

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BindOptions {
    /// Such as `rprivate`.
    #[serde(skip_serializing_if = "is_default")]
    pub propagation: String,
    /// Without the mounts below the source.
    #[serde(skip_serializing_if = "is_default")]
    pub non_recursive: bool,
    /// Create the host folder if it is missing.
    #[serde(skip_serializing_if = "is_default")]
    pub create_mountpoint: bool,
    /// Only the top mount becomes read-only.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only_non_recursive: bool,
    /// Fail where the mounts below cannot become read-only.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    /// Do not fill an empty volume from the image.
    #[serde(skip_serializing_if = "is_default")]
    pub no_copy: bool,
    /// Labels of a volume that is created.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Path in the volume.
    #[serde(skip_serializing_if = "is_default")]
    pub subpath: String,
    /// Driver of a volume that is created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<Driver>,
}

/// A volume driver with options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Driver {
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Options.
    #[serde(skip_serializing_if = "is_default")]
    pub options: BTreeMap<String, String>,
}

/// Options of an image mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageOptions {
    /// Path in the image.
    #[serde(skip_serializing_if = "is_default")]
    pub subpath: String,
}

/// Options of a tmpfs mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TmpfsOptions {
    /// Size; 0 is the kernel's default.
    #[serde(skip_serializing_if = "is_default")]
    pub size_bytes: i64,
    /// Mode bits; 0 is 1777.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: u32,
    /// Further options, each a name or a name and a value.
    #[serde(skip_serializing_if = "is_default")]
    pub options: Vec<Vec<String>>,
}
