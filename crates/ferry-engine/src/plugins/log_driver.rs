//! `LogDriver`: lines of containers that a plugin takes, from a FIFO, and may give back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{CallError, Patience};
use super::{LineStream, Plugin};

/// The name of this interface.
pub(crate) const CAPABILITY: &str = "LogDriver";

/// Where the FIFOs are, as a plugin sees it.
const FOLDER: &str = "/run/docker/logging";

/// What a plugin is told of a container, by Go's names.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LogInfo {
    /// Options of the driver.
    pub(crate) config: BTreeMap<String, String>,
    /// Id.
    #[serde(rename = "ContainerID")]
    pub(crate) container_id: String,
    /// With the slash.
    pub(crate) container_name: String,
    /// The program.
    pub(crate) container_entrypoint: String,
    /// Its arguments.
    pub(crate) container_args: Vec<String>,
    /// Image id.
    #[serde(rename = "ContainerImageID")]
    pub(crate) container_image_id: String,
    /// Image as asked for.
    pub(crate) container_image_name: String,
    /// RFC 3339.
    pub(crate) container_created: String,
    /// Environment.
    pub(crate) container_env: Vec<String>,
    /// Labels.
    pub(crate) container_labels: BTreeMap<String, String>,
    /// Empty: the log is the plugin's.
    pub(crate) log_path: String,
    /// `docker`.
    pub(crate) daemon_name: String,
}

/// What to read.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ReadConfig {
    /// RFC 3339.
    pub(crate) since: String,
    /// Likewise.
    pub(crate) until: String,
    /// -1 is all.
    pub(crate) tail: i64,
    /// Go on.
    pub(crate) follow: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Start<'a> {
    file: &'a str,
    info: &'a LogInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stop<'a> {
    file: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Read<'a> {
    info: &'a LogInfo,
    config: &'a ReadConfig,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(rename = "Err")]
    error: Option<String>,
    #[serde(rename = "Cap")]
    capabilities: Option<Capabilities>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Capabilities {
    read_logs: bool,
}

impl Plugin {
    /// The FIFO of a container as the plugin names it, and where it is on the host.
    pub(crate) fn log_fifo(&self, container_id: &str) -> (String, PathBuf) {
        let file = format!("{FOLDER}/{container_id}");
        let path = PathBuf::from(self.on_host(&file));
        (file, path)
    }

    /// Whether the plugin gives lines back.
    pub(crate) async fn reads_logs(&self) -> bool {
        let answer: Result<Answer, CallError> =
            self.client.call(&format!("{CAPABILITY}.Capabilities"), None::<&()>, Patience::QUERY).await;
        answer.is_ok_and(|answer| answer.capabilities.is_some_and(|capabilities| capabilities.read_logs))
    }

    pub(crate) async fn start_logging(&self, file: &str, info: &LogInfo) -> Result<(), CallError> {
        self.log_call("StartLogging", &Start { file, info }, Patience::SHORT).await
    }

    pub(crate) async fn stop_logging(&self, file: &str) -> Result<(), CallError> {
        self.log_call("StopLogging", &Stop { file }, Patience::QUERY).await
    }

    /// The lines that the plugin has.
    pub(crate) async fn read_logs(&self, info: &LogInfo, config: &ReadConfig) -> Result<LineStream, CallError> {
        let read = Read { info, config };
        let body = self.client.stream(&format!("{CAPABILITY}.ReadLogs"), &read, Duration::from_secs(30)).await?;
        Ok(LineStream::new(body))
    }

    async fn log_call(
        &self,
        method: &str,
        request: &(impl Serialize + Sync),
        patience: Patience,
    ) -> Result<(), CallError> {
        let answer: Answer = self.client.call(&format!("{CAPABILITY}.{method}"), Some(request), patience).await?;
        match answer.error.filter(|text| !text.is_empty()) {
            Some(why) => Err(CallError::Refused(why)),
            None => Ok(()),
        }
    }
}
