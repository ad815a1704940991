//! Why a build failed.

use std::sync::Arc;

use ferry_engine::{Error, ErrorKind};

use crate::graph::{GraphError, LineRange};

/// Result of a part of a build.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a build failed; cheap enough to be told to everybody who waits for the same step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What sort of failure.
    pub kind: ErrorKind,
    /// In BuildKit's words.
    pub message: String,
    /// The exit code of a program that failed.
    pub exit_code: Option<i64>,
    /// That program.
    pub command: Vec<String>,
    /// The lines of the Dockerfile that it comes from.
    pub location: Vec<LineRange>,
    /// Those lines, drawn.
    pub excerpt: Box<str>,
    /// The file that they are of.
    pub dockerfile: Option<Arc<DockerfileText>>,
}

/// A Dockerfile, as failures speak of it.
#[derive(Debug, PartialEq, Eq)]
pub struct DockerfileText {
    /// Its name.
    pub name: String,
    /// All of it.
    pub text: String,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            exit_code: None,
            command: Vec::new(),
            location: Vec::new(),
            excerpt: Box::default(),
            dockerfile: None,
        }
    }

    /// What was asked for is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Something of ours failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Known, but not built.
    pub fn not_implemented(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::NotImplemented, format!("not implemented: {what}"))
    }

    /// Says what was being done.
    #[must_use]
    pub fn during(mut self, doing: impl std::fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.text())
    }
}

impl From<GraphError> for Failure {
    fn from(error: GraphError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Adds what was being done to a failure of the system.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl std::fmt::Display) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, std::io::Error> {
    fn doing(self, doing: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::internal(format!("{doing}: {}", os_text(&error))))
    }
}

impl<T> Doing<T> for std::result::Result<T, rustix::io::Errno> {
    fn doing(self, doing: impl std::fmt::Display) -> Result<T> {
        self.map_err(std::io::Error::from).doing(doing)
    }
}

/// The system's words without Rust's number.
pub(crate) fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = plain.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Runs blocking work on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Failure::internal(format!("work of a build panicked: {error}"))))
}
