//! The body of every answer that is an error.

use serde::{Deserialize, Serialize};

/// What a failed request answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    /// The whole text.
    pub message: String,
}
