//! Recordings: what a real engine answered, normalised, as data in the repository.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oracle {
    /// Version of the daemon.
    pub server: String,
    /// Version of the client.
    pub client: String,
    /// API version that both spoke.
    pub api: String,
}

/// The answer to one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The step as in the table.
    pub step: String,
    /// Exit code.
    pub code: i32,
    /// Lines of standard output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stdout: Vec<String>,
    /// Lines of standard error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr: Vec<String>,
    /// Inspected fields by path; a path that the engine does not answer is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, Value>>,
}

/// A whole recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// Who answered.
    pub oracle: Oracle,
    /// Answers by case.
    pub cases: BTreeMap<String, Vec<Answer>>,
}

impl Recording {
    /// Reads the recording of an area; an empty one where there is none yet.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn of(folder: &Path, oracle: &str, area: &str) -> Result<Self> {
        let path = folder.join(oracle).join(format!("{area}.json"));
        if path.exists() { Self::read(&path) } else { Ok(Self::default()) }
    }

    /// Reads a recording.
    ///
    /// # Errors
    /// When there is none or it does not parse.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("parse {}", path.display()))
    }

    /// Writes a recording.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("encode the recording")?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}
