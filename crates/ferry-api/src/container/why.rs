//! Answers that Docker does not have, to requests that its clients do not make.

use serde::{Deserialize, Serialize};

/// Answer to `POST /containers/{id}/stop?kill-deaf=1` and `…/restart?kill-deaf=1` where the container was killed without waiting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StopReport {
    /// Why.
    pub killed_at_once: String,
}

/// Answer to `GET /containers/{id}/why`: why a container is as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Why {
    /// Id, 64 hex digits.
    pub id: String,
    /// Name without its slash.
    pub name: String,
    /// As the status column of `ps` has it.
    pub status: String,
    /// The cause in one word for programs, such as `memory`, `stop-timeout`, `signal`, `missing-command`, `health`.
    pub cause: String,
    /// The cause in one sentence.
    pub reason: String,
    /// Further facts, one sentence each.
    pub details: Vec<String>,
    /// The last lines of its log.
    pub log: Vec<String>,
    /// What to do next, one thing each.
    pub next: Vec<String>,
}
