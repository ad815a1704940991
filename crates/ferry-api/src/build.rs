//! What is told of a build while it goes on. The shape is that of BuildKit's status; these words are ferry's own.

use ferry_spec::digest::Digest;
use serde::{Deserialize, Serialize};

/// The id of messages that carry an [`Event`].
pub const TRACE: &str = "ferry.build.trace";

/// The id of messages that carry a [`FailedStep`].
pub const FAILED_STEP: &str = "ferry.build.failed-step";

/// A step that failed, and is kept for whoever wants to look at it: a client attaches to the container and starts it. The build goes on, to
/// its end, when that has ended or is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FailedStep {
    /// The container, which is in no list.
    pub container: String,
    /// Why the step failed.
    pub error: String,
    /// What the container is ready to run now, at a terminal.
    pub shell: Vec<String>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A step is what it is now.
    Vertex(VertexState),
    /// A part of a step goes on.
    Status(StatusLine),
    /// A step's program wrote something.
    Log(LogPiece),
    /// Something is odd about the Dockerfile.
    Warning(Warning),
    /// What the Dockerfile asks for, in order.
    Instructions(Vec<Instruction>),
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VertexState {
    /// Its digest.
    pub digest: Digest,
    /// The digests of those it waits for.
    pub inputs: Vec<Digest>,
    /// Its name.
    pub name: String,
    /// When it began; Unix time, nanoseconds.
    pub started_ns: Option<i64>,
    /// When it ended.
    pub completed_ns: Option<i64>,
    /// Its outcome was there already.
    pub cached: bool,
    /// Why it failed.
    pub error: String,
    /// Steps shown as one.
    pub group: Option<String>,
}

/// A part of a step, such as the transfer of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusLine {
    /// Which step.
    pub vertex: Digest,
    /// What is going on.
    pub id: String,
    /// How much of it is done.
    pub current: i64,
    /// How much there is; 0 when nobody knows.
    pub total: i64,
    /// When it began.
    pub started_ns: Option<i64>,
    /// When it ended.
    pub completed_ns: Option<i64>,
    /// Now.
    pub time_ns: i64,
}

/// Output of a step's program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogPiece {
    /// Which step.
    pub vertex: Digest,
    /// 1 is stdout, 2 stderr.
    pub stream: u8,
    /// What it wrote; on the wire as text.
    #[serde(with = "as_text")]
    pub data: Vec<u8>,
    /// When.
    pub time_ns: i64,
}

/// Something odd about the Dockerfile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// The step that it was found in.
    pub vertex: Digest,
    /// In short.
    pub short: String,
    /// At length.
    pub detail: Vec<String>,
    /// Where to read more.
    pub url: String,
    /// The file.
    pub file: String,
    /// First and last line.
    pub lines: Vec<(u32, u32)>,
    /// The file's text.
    #[serde(with = "as_text")]
    pub source: Vec<u8>,
}

/// One instruction of a Dockerfile, and the steps that it became.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instruction {
    /// As written.
    pub text: String,
    /// The steps; none for what only changes the configuration.
    pub vertices: Vec<Digest>,
}

/// Bytes that are text nearly always.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        String::deserialize(deserializer).map(String::into_bytes)
    }
}
