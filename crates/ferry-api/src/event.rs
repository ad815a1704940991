//! Events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::is_default;

/// Something happened to an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Message {
    /// Same as the action; only for clients before 1.52.
    #[serde(skip_serializing_if = "is_default")]
    pub status: String,
    /// Same as the actor's id; only for clients before 1.52.
    #[serde(skip_serializing_if = "is_default")]
    pub id: String,
    /// Image of a container; only for clients before 1.52.
    #[serde(skip_serializing_if = "is_default")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`, `daemon`, ..
    #[serde(rename = "Type")]
    pub kind: String,
    /// Such as `start`; `exec_create: ls -l`.
    #[serde(rename = "Action")]
    pub action: String,
    /// The object.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local` or `swarm`.
    #[serde(skip_serializing_if = "is_default")]
    pub scope: String,
    /// Unix seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub time: i64,
    /// Unix nanoseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub time_nano: i64,
}

/// The object of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Actor {
    /// Its id, or name.
    #[serde(rename = "ID")]
    pub id: String,
    /// What is told about it.
    pub attributes: BTreeMap<String, String>,
}
