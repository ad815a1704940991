//! The configuration of a managed plugin: the `config.json` of an artifact of media type [`CONFIG`].
//!
//! Go writes a list that was never made as `null` and one that was made as `[]`, so lists may be absent here.

use serde::{Deserialize, Serialize};

/// Media type of the configuration.
pub const CONFIG: &str = "application/vnd.docker.plugin.v1+json";

/// Largest configuration that is taken.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

type List<T> = Option<Vec<T>>;

/// What a plugin is, runs and needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginConfig {
    /// Arguments after the entrypoint.
    pub args: PluginArgs,
    /// For people.
    pub description: String,
    /// Where to read more.
    pub documentation: String,
    /// The program.
    pub entrypoint: List<String>,
    /// Variables.
    pub env: List<PluginEnv>,
    /// How the engine speaks to it.
    pub interface: PluginInterface,
    /// Shares the host's IPC.
    pub ipc_host: bool,
    /// Rights.
    pub linux: PluginLinux,
    /// Mounts.
    pub mounts: List<PluginMount>,
    /// Network.
    pub network: PluginNetwork,
    /// Shares the host's processes.
    pub pid_host: bool,
    /// Folder whose mounts the host sees.
    pub propagated_mount: String,
    /// User, which Docker ignores.
    pub user: PluginUser,
    /// Working folder.
    pub work_dir: String,
    /// Layers.
    #[serde(rename = "rootfs", skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<PluginRootFs>,
}

/// Arguments that may be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginArgs {
    /// For people.
    pub description: String,
    /// Name to set them by.
    pub name: String,
    /// Fields that may be set.
    pub settable: List<String>,
    /// Default.
    pub value: List<String>,
}

/// A variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginEnv {
    /// For people.
    pub description: String,
    /// Name.
    pub name: String,
    /// Fields that may be set.
    pub settable: List<String>,
    /// Default.
    pub value: Option<String>,
}

/// How the engine speaks to a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginInterface {
    /// Empty or `moby.plugins.http/v1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol_scheme: String,
    /// Name of the socket in `/run/docker/plugins`.
    pub socket: String,
    /// What it does, such as `docker.volumedriver/1.0`.
    pub types: List<String>,
}

/// Rights of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginLinux {
    /// Every device.
    pub allow_all_devices: bool,
    /// Capabilities beside the default ones.
    pub capabilities: List<String>,
    /// Devices.
    pub devices: List<PluginDevice>,
}

/// A device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginDevice {
    /// For people.
    pub description: String,
    /// Name to set it by.
    pub name: String,
    /// Path on the host.
    pub path: Option<String>,
    /// Fields that may be set.
    pub settable: List<String>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginMount {
    /// For people.
    pub description: String,
    /// Path in the plugin.
    pub destination: String,
    /// Name to set it by.
    pub name: String,
    /// Options.
    pub options: List<String>,
    /// Fields that may be set.
    pub settable: List<String>,
    /// Path on the host.
    pub source: Option<String>,
    /// Such as `bind`.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// Network of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginNetwork {
    /// `host`, `bridge`, `none` or empty.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// User of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginUser {
    /// Group.
    #[serde(rename = "GID", skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// User.
    #[serde(rename = "UID", skip_serializing_if = "is_zero")]
    pub uid: u32,
}

fn is_zero(id: &u32) -> bool {
    *id == 0
}

/// Layers of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginRootFs {
    /// Digests.
    pub diff_ids: List<String>,
    /// `layers`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// What a plugin is started with; begins as the defaults of its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginSettings {
    /// Arguments.
    pub args: Vec<String>,
    /// Devices.
    pub devices: Vec<PluginDevice>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Mounts.
    pub mounts: Vec<PluginMount>,
}

impl PluginSettings {
    /// The defaults of a configuration.
    #[must_use]
    pub fn of(config: &PluginConfig) -> Self {
        let variables = config.env.iter().flatten();
        Self {
            args: config.args.value.clone().unwrap_or_default(),
            devices: config.linux.devices.clone().unwrap_or_default(),
            env: variables.filter_map(|env| env.value.as_ref().map(|value| format!("{}={value}", env.name))).collect(),
            mounts: config.mounts.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_null_and_settings_begin_as_defaults() {
        let text = r#"{"Args":{"Value":["a"]},"Env":[{"Name":"X","Value":"1"},{"Name":"Y","Value":null}],"Entrypoint":["/p"]}"#;
        let config: PluginConfig = serde_json::from_str(text).unwrap();
        let written = serde_json::to_value(&config).unwrap();
        assert!(written["Mounts"].is_null() && written["Linux"]["Devices"].is_null());
        assert_eq!(written["User"], serde_json::json!({}));
        let settings = PluginSettings::of(&config);
        assert_eq!((settings.args, settings.env), (vec!["a".to_owned()], vec!["X=1".to_owned()]));
    }
}
