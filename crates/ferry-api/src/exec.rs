//! Further processes in a container.

use serde::{Deserialize, Serialize};

/// Body of `POST /containers/{id}/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateRequest {
    /// `user[:group]`; empty is the container's.
    pub user: String,
    /// All rights.
    pub privileged: bool,
    /// Allocate a terminal.
    pub tty: bool,
    /// Height and width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
    /// Attach to stdin.
    pub attach_stdin: bool,
    /// Attach to stderr.
    pub attach_stderr: bool,
    /// Attach to stdout.
    pub attach_stdout: bool,
    /// Keys that detach.
    pub detach_keys: String,
    /// Environment, `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Working folder; empty is the container's.
    pub working_dir: String,
    /// Program and arguments.
    pub cmd: Option<Vec<String>>,
}

/// Answer to `POST /containers/{id}/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateResponse {
    /// Exec id, 64 hex digits.
    pub id: String,
}

/// Body of `POST /exec/{id}/start`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StartRequest {
    /// Do not attach.
    pub detach: bool,
    /// The client expects a terminal.
    pub tty: bool,
    /// Height and width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
}

/// Answer to `GET /exec/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Inspect {
    /// Exec id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Has a process.
    pub running: bool,
    /// `null` until it has ended.
    pub exit_code: Option<i64>,
    /// What runs.
    pub process_config: ProcessConfig,
    /// stdin is attached.
    pub open_stdin: bool,
    /// stderr is attached.
    pub open_stderr: bool,
    /// stdout is attached.
    pub open_stdout: bool,
    /// It is of no more use.
    pub can_remove: bool,
    /// Its container.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Base64 of the key bytes.
    pub detach_keys: String,
    /// Host pid.
    pub pid: i64,
}

/// What an exec runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessConfig {
    /// Has a terminal.
    pub tty: bool,
    /// Program.
    pub entrypoint: String,
    /// Arguments.
    pub arguments: Vec<String>,
    /// All rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}
