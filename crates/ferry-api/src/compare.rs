//! Comparing two images or containers, and looking into the layers of one: what Docker has no endpoints for.

use ferry_spec::Platform;
use serde::{Deserialize, Serialize};

use crate::json::is_default;

/// Answer to `GET /compare`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Comparison {
    /// What is compared.
    pub from: Side,
    /// With what.
    pub to: Side,
    /// Layers from the bottom that both have.
    pub common_layers: usize,
    /// What containers are told to do.
    pub config: Vec<ConfigChange>,
    /// Packages by the databases of package managers.
    pub packages: Vec<PackageChange>,
    /// Files, by path.
    pub files: Vec<FileChange>,
}

/// One of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Side {
    /// As it was named.
    pub name: String,
    /// `image` or `container`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// What it runs on.
    pub platform: Platform,
    /// Bytes of all files.
    pub size: u64,
    /// Diff IDs, the lowest first; what a container changed comes last, as `container`.
    pub layers: Vec<String>,
    /// It was not here, and its layers were fetched for this.
    #[serde(skip_serializing_if = "is_default")]
    pub fetched: bool,
}

/// One value of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConfigChange {
    /// Such as `Env.PATH`, `Cmd`, `Labels.version`.
    pub field: String,
    /// Absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Absent where there is none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// One package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PackageChange {
    /// `dpkg`, `apk` or `rpm`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its version; absent where it was not installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its version; absent where it is not installed any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// One file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FileChange {
    /// Absolute.
    pub path: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// What is different about it: `type`, `content`, `mode`, `owner`, `link`, `device`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<String>,
    /// Bytes before.
    #[serde(skip_serializing_if = "is_default")]
    pub from_size: u64,
    /// Bytes after.
    #[serde(skip_serializing_if = "is_default")]
    pub to_size: u64,
}

/// Answer to `GET /images/{name}/layers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Layers {
    /// The image's id.
    pub id: String,
    /// What it runs on.
    pub platform: Platform,
    /// Bytes of all layers.
    pub size: u64,
    /// Bytes that a later layer hides.
    pub wasted: u64,
    /// The layers, the lowest first.
    pub layers: Vec<LayerContent>,
    /// What is hidden, the most bytes first.
    pub waste: Vec<WastedFile>,
}

/// One layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LayerContent {
    /// As it travels.
    pub digest: String,
    /// Unpacked.
    pub diff_id: String,
    /// What made it.
    pub created_by: String,
    /// Bytes of its files.
    pub size: u64,
    /// What it brings and takes away, by path.
    pub files: Vec<LayerFile>,
}

/// One file of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LayerFile {
    /// Absolute.
    pub path: String,
    /// `file`, `folder`, `link` or `special`; empty for what is taken away.
    #[serde(skip_serializing_if = "is_default")]
    pub kind: String,
    /// `added`, `changed` or `removed`.
    pub change: String,
    /// Bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub size: u64,
    /// The twelve bits of permissions.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: u32,
    /// `uid:gid`.
    #[serde(skip_serializing_if = "is_default")]
    pub owner: String,
    /// Target of a link.
    #[serde(skip_serializing_if = "is_default")]
    pub link: String,
}

/// A file that a later layer hides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WastedFile {
    /// Absolute.
    pub path: String,
    /// Bytes of it that nobody sees.
    pub size: u64,
    /// In how many layers it lies hidden.
    pub times: usize,
}
