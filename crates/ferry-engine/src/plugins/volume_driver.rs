//! `VolumeDriver`: volumes that a plugin keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Plugin;
use super::client::{CallError, Patience};

/// The name of this interface.
pub(crate) const CAPABILITY: &str = "VolumeDriver";

/// What a plugin tells of a volume.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct PluginVolume {
    /// Name.
    pub(crate) name: String,
    /// Where its files are, or empty while they are nowhere.
    #[serde(deserialize_with = "or_default")]
    pub(crate) mountpoint: String,
    /// RFC 3339.
    #[serde(deserialize_with = "or_default")]
    pub(crate) created_at: String,
    /// Whatever it likes.
    #[serde(deserialize_with = "or_default")]
    pub(crate) status: BTreeMap<String, Value>,
}

/// Go's decoder takes `null` for anything.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'a> {
    name: &'a str,
    opts: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Use<'a> {
    name: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

/// Everything that an answer may hold.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Answer {
    #[serde(deserialize_with = "or_default")]
    err: String,
    #[serde(deserialize_with = "or_default")]
    mountpoint: String,
    volume: Option<PluginVolume>,
    #[serde(deserialize_with = "or_default")]
    volumes: Vec<PluginVolume>,
    #[serde(deserialize_with = "or_default")]
    capabilities: Capabilities,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Capabilities {
    #[serde(deserialize_with = "or_default")]
    scope: String,
}

impl Plugin {
    pub(crate) async fn create_volume(&self, name: &str, options: &BTreeMap<String, String>) -> Result<(), CallError> {
        self.volume_call("Create", &Create { name, opts: options }, Patience::LONG).await.map(drop)
    }

    pub(crate) async fn remove_volume(&self, name: &str) -> Result<(), CallError> {
        self.volume_call("Remove", &Named { name }, Patience::SHORT).await.map(drop)
    }

    /// Where the files of a volume are on the host.
    pub(crate) async fn mount_volume(&self, name: &str, id: &str) -> Result<String, CallError> {
        let answer = self.volume_call("Mount", &Use { name, id }, Patience::LONG).await?;
        Ok(self.on_host(&answer.mountpoint))
    }

    pub(crate) async fn unmount_volume(&self, name: &str, id: &str) -> Result<(), CallError> {
        self.volume_call("Unmount", &Use { name, id }, Patience::SHORT).await.map(drop)
    }

    /// `None` where the plugin knows no volume of that name.
    pub(crate) async fn volume(&self, name: &str, patience: Patience) -> Result<Option<PluginVolume>, CallError> {
        match self.volume_call("Get", &Named { name }, patience).await {
            Ok(answer) => {
                let Some(mut volume) = answer.volume else { return Ok(None) };
                if volume.mountpoint.is_empty() {
                    let path = self.volume_call("Path", &Named { name }, patience).await;
                    volume.mountpoint = path.map(|answer| answer.mountpoint).unwrap_or_default();
                }
                volume.mountpoint = self.on_host(&volume.mountpoint);
                Ok(Some(volume))
            }
            // Whatever it says of a volume that it does not give, Docker takes for `no such volume`.
            Err(CallError::Refused(why) | CallError::Absent(why)) => {
                tracing::debug!(plugin = %self.name, volume = name, why, "plugin does not have the volume");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn volumes(&self, patience: Patience) -> Result<Vec<PluginVolume>, CallError> {
        let mut volumes = self.volume_call("List", &Nothing {}, patience).await?.volumes;
        for volume in &mut volumes {
            volume.mountpoint = self.on_host(&volume.mountpoint);
        }
        Ok(volumes)
    }

    /// `local` or `global`, asked for once.
    pub(crate) async fn volume_scope(&self) -> String {
        let scope = self.scope.get_or_init(|| async {
            let answer = self.volume_call("Capabilities", &Nothing {}, Patience::QUICK).await;
            match answer.map(|answer| answer.capabilities.scope.to_ascii_lowercase()).as_deref() {
                Ok("global") => "global".to_owned(),
                Ok("" | "local") | Err(_) => "local".to_owned(),
                Ok(scope) => {
                    tracing::warn!(plugin = %self.name, scope, "volume driver returned an invalid scope");
                    "local".to_owned()
                }
            }
        });
        scope.await.clone()
    }

    async fn volume_call(
        &self,
        method: &str,
        request: &(impl Serialize + Sync),
        patience: Patience,
    ) -> Result<Answer, CallError> {
        let answer: Answer = self.client.call(&format!("{CAPABILITY}.{method}"), Some(request), patience).await?;
        if answer.err.is_empty() { Ok(answer) } else { Err(CallError::Refused(answer.err)) }
    }
}
