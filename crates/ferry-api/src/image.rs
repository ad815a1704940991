//! Images.

use std::collections::BTreeMap;

use ferry_spec::{Descriptor, Platform};
use serde::{Deserialize, Serialize};

use crate::container::Empty;
use crate::container::{DriverData, HealthConfig, PortSet};
use crate::json::is_default;

/// A line of `GET /images/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    /// Containers that use it; -1 is not counted.
    pub containers: i64,
    /// Unix seconds.
    pub created: i64,
    /// Digest of the target.
    pub id: String,
    /// Labels of the configuration.
    pub labels: Option<BTreeMap<String, String>>,
    /// Parent image of the classic builder.
    pub parent_id: String,
    /// The target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Manifests of an index, when asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub manifests: Vec<ManifestSummary>,
    /// `name@digest`; never `null`.
    pub repo_digests: Vec<String>,
    /// `name:tag`; never `null`.
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images; -1 is not computed.
    pub shared_size: i64,
    /// Bytes.
    pub size: i64,
}

/// Answer to `GET /images/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Inspect {
    /// Digest of the target.
    pub id: String,
    /// `name:tag`; never `null`.
    pub repo_tags: Vec<String>,
    /// `name@digest`; never `null`.
    pub repo_digests: Vec<String>,
    /// Comment.
    #[serde(skip_serializing_if = "is_default")]
    pub comment: String,
    /// RFC 3339 with nanoseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub created: String,
    /// Author.
    #[serde(skip_serializing_if = "is_default")]
    pub author: String,
    /// What a container of it runs.
    pub config: Option<Config>,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v8`.
    #[serde(skip_serializing_if = "is_default")]
    pub variant: String,
    /// Such as `linux`.
    pub os: String,
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub os_version: String,
    /// Bytes.
    pub size: i64,
    /// Folders of a graph driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// Facts of this store.
    pub metadata: Metadata,
    /// The target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Manifests of an index, when asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub manifests: Vec<ManifestSummary>,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// What a container of an image runs, as [`Inspect`] shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    /// `user[:group]`.
    #[serde(skip_serializing_if = "is_default")]
    pub user: String,
    /// Ports it listens on.
    #[serde(skip_serializing_if = "is_default")]
    pub exposed_ports: PortSet,
    /// Environment.
    #[serde(skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    /// Entrypoint.
    #[serde(skip_serializing_if = "is_default")]
    pub entrypoint: Vec<String>,
    /// Command.
    #[serde(skip_serializing_if = "is_default")]
    pub cmd: Vec<String>,
    /// Anonymous volumes.
    #[serde(skip_serializing_if = "is_default")]
    pub volumes: BTreeMap<String, Empty>,
    /// Working folder.
    #[serde(skip_serializing_if = "is_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Signal that stops it.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_signal: String,
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// Health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Instructions for images built on this one.
    #[serde(skip_serializing_if = "is_default")]
    pub on_build: Vec<String>,
    /// Shell of the shell form.
    #[serde(skip_serializing_if = "is_default")]
    pub shell: Vec<String>,
}

/// Layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type", skip_serializing_if = "is_default")]
    pub kind: String,
    /// Diff IDs.
    #[serde(skip_serializing_if = "is_default")]
    pub layers: Vec<String>,
}

/// Facts of this store about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Metadata {
    /// RFC 3339 with nanoseconds.
    pub last_tag_time: String,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { last_tag_time: "0001-01-01T00:00:00Z".to_owned() }
    }
}

/// Where an image comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Identity {
    /// Repositories it was pulled from.
    #[serde(skip_serializing_if = "is_default")]
    pub pull: Vec<PullIdentity>,
    /// Builds that made it.
    #[serde(skip_serializing_if = "is_default")]
    pub build: Vec<BuildIdentity>,
}

/// A pull that brought an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PullIdentity {
    /// Repository.
    #[serde(skip_serializing_if = "is_default")]
    pub repository: String,
}

/// A build that made an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildIdentity {
    /// Reference of the build.
    #[serde(rename = "Ref", skip_serializing_if = "is_default")]
    pub reference: String,
    /// RFC 3339 with nanoseconds.
    pub created_at: String,
}

/// One manifest of an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestSummary {
    /// Its digest.
    #[serde(rename = "ID")]
    pub id: String,
    /// It.
    pub descriptor: Descriptor,
    /// All its content is here.
    #[serde(default)]
    pub available: bool,
    /// Bytes.
    #[serde(default)]
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    #[serde(default)]
    pub kind: String,
    /// For an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ImageProperties>,
    /// For an attestation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<AttestationProperties>,
}

/// Bytes of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSize {
    /// Of its content.
    pub content: i64,
    /// With what is unpacked.
    pub total: i64,
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageProperties {
    /// What it runs on.
    pub platform: Platform,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Bytes.
    #[serde(default)]
    pub size: UnpackedSize,
    /// Ids of containers that use it.
    #[serde(default)]
    pub containers: Vec<String>,
}

/// Bytes of an unpacked image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UnpackedSize {
    /// Unpacked.
    pub unpacked: i64,
}

/// An attestation of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AttestationProperties {
    /// Digest of the manifest that it is about.
    #[serde(rename = "For")]
    pub subject: String,
}

/// One step of `DELETE /images/{name}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeleteItem {
    /// Image id.
    #[serde(skip_serializing_if = "is_default")]
    pub deleted: String,
    /// Reference.
    #[serde(skip_serializing_if = "is_default")]
    pub untagged: String,
}

/// One step of `GET /images/{name}/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    /// Comment.
    pub comment: String,
    /// Unix seconds.
    pub created: i64,
    /// Instruction.
    pub created_by: String,
    /// Image id, or `<missing>`.
    pub id: String,
    /// Bytes.
    pub size: i64,
    /// Tags of that image.
    pub tags: Option<Vec<String>>,
}

/// Answer to `POST /images/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneReport {
    /// What went.
    pub images_deleted: Option<Vec<DeleteItem>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// Answer to `POST /images/collect`, which Docker does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Collected {
    /// What went, or would go.
    pub images: Vec<CollectedImage>,
    /// Bytes.
    pub space_reclaimed: u64,
    /// Nothing was removed.
    pub dry_run: bool,
}

/// One image of [`Collected`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CollectedImage {
    /// Digest of the target.
    pub id: String,
    /// Its names, `name:tag`.
    pub names: Vec<String>,
    /// Bytes that nothing else uses.
    pub unique_size: i64,
    /// RFC 3339 with nanoseconds.
    pub last_used: String,
}

/// Query of `POST /images/create` with `fromSrc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// `-` for the body, else a URL.
    pub source: String,
    /// Repository to name it.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// Commit message.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// `os[/arch[/variant]]`.
    pub platform: String,
}

/// Credentials of header `X-Registry-Auth`, base64url of this JSON; body of `POST /auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "lowercase")]
pub struct AuthConfig {
    /// User.
    #[serde(skip_serializing_if = "is_default")]
    pub username: String,
    /// Password.
    #[serde(skip_serializing_if = "is_default")]
    pub password: String,
    /// Base64 of `user:password`.
    #[serde(skip_serializing_if = "is_default")]
    pub auth: String,
    /// Registry.
    #[serde(skip_serializing_if = "is_default")]
    pub serveraddress: String,
    /// Refresh token.
    #[serde(skip_serializing_if = "is_default")]
    pub identitytoken: String,
    /// Bearer token.
    #[serde(skip_serializing_if = "is_default")]
    pub registrytoken: String,
}

/// How the registry of one pull or push is reached, where that differs from what the daemon has been told: in the header
/// `X-Ferry-Registry-Access`, which Docker does not know, as base64 of this JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryAccess {
    /// Without TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub plain_http: bool,
    /// PEM of authorities that are believed besides those that the daemon believes.
    #[serde(skip_serializing_if = "is_default")]
    pub authorities: String,
}

impl std::fmt::Debug for AuthConfig {
    /// Shows no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// Answer to `GET /distribution/{name}/json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// What the name means.
    pub descriptor: Descriptor,
    /// What it runs on; `null` when nothing says so.
    #[serde(default)]
    pub platforms: Option<Vec<Platform>>,
}

/// One statement about an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttestationStatement {
    /// Where it lies.
    pub descriptor: Descriptor,
    /// What kind of statement it is, a URI.
    pub predicate_type: String,
    /// Its text, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<serde_json::Value>,
}

/// One line of `GET /images/search`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// Stars.
    pub star_count: i64,
    /// Docker looks after it.
    pub is_official: bool,
    /// Repository.
    pub name: String,
    /// Always false: what the Hub says about it cannot be relied upon.
    pub is_automated: bool,
    /// What it says about itself.
    pub description: String,
}

/// Answer to `POST /auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    /// Refresh token to keep instead of the password.
    #[serde(skip_serializing_if = "is_default")]
    pub identity_token: String,
    /// `Login Succeeded`.
    pub status: String,
}
