//! The portable part of a container's configuration, and the request that creates one.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::host_config::HostConfig;
use crate::json::{self, is_default};
use crate::network::NetworkingConfig;

/// The value of a set's entry: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Ports such as `80/tcp`.
pub type PortSet = BTreeMap<String, Empty>;

/// What runs in a container, apart from its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    /// Host name.
    pub hostname: String,
    /// Domain name.
    pub domainname: String,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// Attach to stdin.
    pub attach_stdin: bool,
    /// Attach to stdout.
    pub attach_stdout: bool,
    /// Attach to stderr.
    pub attach_stderr: bool,
    /// Ports that the container listens on.
    #[serde(skip_serializing_if = "is_default")]
    pub exposed_ports: PortSet,
    /// Allocate a terminal.
    pub tty: bool,
    /// Keep stdin open without a client.
    pub open_stdin: bool,
    /// Close stdin when the first attached client goes.
    pub stdin_once: bool,
    /// Environment, `NAME=value`; in a request a `NAME` alone removes.
    pub env: Option<Vec<String>>,
    /// Command, or arguments of the entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// The command is already escaped (Windows images).
    #[serde(skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// Image reference as given.
    pub image: String,
    /// Anonymous volumes by path.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working folder.
    pub working_dir: String,
    /// Entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// No networking at all.
    #[serde(skip_serializing_if = "is_default")]
    pub network_disabled: bool,
    /// MAC address for the whole container; read from clients before 1.52, moved to the endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub mac_address: String,
    /// Instructions for images built on this one.
    #[serde(skip_serializing_if = "is_default")]
    pub on_build: Vec<String>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that stops the container.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL; -1 waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell for the shell form.
    #[serde(skip_serializing_if = "is_default")]
    pub shell: Vec<String>,
}

/// How to find out whether a container is healthy; durations in nanoseconds, 0 inherits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", ..]` or `["CMD-SHELL", command]`; beyond Docker `["HTTP", address]` or `["TCP", address]`, which need no
    /// program in the container.
    #[serde(skip_serializing_if = "is_default")]
    pub test: Vec<String>,
    /// Between checks.
    #[serde(skip_serializing_if = "is_default")]
    pub interval: i64,
    /// A check that lasts longer has failed.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: i64,
    /// Failures are not counted before.
    #[serde(skip_serializing_if = "is_default")]
    pub start_period: i64,
    /// Between checks in the start period.
    #[serde(skip_serializing_if = "is_default")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_default")]
    pub retries: i64,
    /// What follows when it becomes unhealthy: empty, `none`, `restart`, `stop` or `kill`. Docker has nothing of the kind.
    #[serde(skip_serializing_if = "is_default")]
    pub action: String,
}

/// Body of `POST /containers/create`: a [`Config`] with two more keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateRequest {
    /// The portable part, its keys at the top level.
    #[serde(flatten)]
    pub config: Config,
    /// The part that belongs to this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_config: Option<HostConfig>,
    /// Networks to join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networking_config: Option<NetworkingConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CreateRequestTail {
    host_config: Option<HostConfig>,
    networking_config: Option<NetworkingConfig>,
}

impl<'de> Deserialize<'de> for CreateRequest {
    /// Reads the two halves one after the other: serde's `flatten` would lose the rules of [`json`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let tail: CreateRequestTail = json::from_value(value.clone()).map_err(serde::de::Error::custom)?;
        let config = json::from_value(value).map_err(serde::de::Error::custom)?;
        Ok(Self { config, host_config: tail.host_config, networking_config: tail.networking_config })
    }
}

/// Answer to `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateResponse {
    /// Id of the container.
    pub id: String,
    /// What was odd; never `null`.
    pub warnings: Vec<String>,
}
