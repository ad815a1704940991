//! Managed plugins.

use ferry_spec::plugin::{PluginConfig, PluginSettings};
use serde::{Deserialize, Serialize};

use crate::json::is_default;

/// One plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Plugin {
    /// What it is.
    pub config: PluginConfig,
    /// It runs.
    pub enabled: bool,
    /// 64 hex digits.
    #[serde(skip_serializing_if = "is_default")]
    pub id: String,
    /// Name with tag.
    pub name: String,
    /// Where it came from.
    #[serde(skip_serializing_if = "is_default")]
    pub plugin_reference: String,
    /// What it runs with.
    pub settings: PluginSettings,
}

/// A right that a plugin wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Privilege {
    /// Such as `network`.
    pub name: String,
    /// For people.
    pub description: String,
    /// Such as `host`.
    pub value: Option<Vec<String>>,
}
