//! What a container was allowed to send and refused; Docker has nothing like it.

use serde::{Deserialize, Serialize};

/// Answer to `GET /containers/{id}/flows`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Flows {
    /// Whether anything is refused; without rules nothing is counted either.
    pub restricted: bool,
    /// In the order in which they are looked at.
    pub rules: Vec<FlowRule>,
}

/// What one rule has met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FlowRule {
    /// The rule as it was asked for; `established` is what went on to addresses that a name has had, `other` is all that no rule names.
    pub rule: String,
    /// `allowed` or `denied`.
    pub verdict: String,
    /// Packets that the container sent.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Addresses that a name has at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
}
