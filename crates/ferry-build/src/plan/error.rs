//! Why a build cannot be planned.

use ferry_dockerfile::check::{CheckOptionsError, Violation};
use ferry_dockerfile::expand::ExpandError;
use ferry_dockerfile::git::GitReferenceError;
use ferry_dockerfile::instruction::{InstructionError, MountError};
use ferry_dockerfile::{Lines, ParseError, ParseErrorCause, quoted};
use ferry_spec::digest::DigestError;
use ferry_spec::platform::PlatformError;
use ferry_spec::reference::ReferenceError;

use crate::graph::GraphError;

/// Why a build cannot be planned; the text is BuildKit's.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct PlanError {
    /// What is wrong.
    pub cause: Box<PlanErrorCause>,
    /// The places to show, in order.
    pub places: Vec<Lines>,
}

/// What is wrong with a build.
#[derive(Debug, thiserror::Error)]
pub enum PlanErrorCause {
    /// The Dockerfile.
    #[error(transparent)]
    Parse(ParseErrorCause),
    /// Its `# check=`.
    #[error("failed to parse check options: {0}")]
    CheckOptions(#[from] CheckOptionsError),
    /// A rule that must be kept is not.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// An instruction of an ONBUILD.
    #[error(transparent)]
    Instruction(#[from] InstructionError),
    /// A variable.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A git address.
    #[error(transparent)]
    Git(#[from] GitReferenceError),
    /// A checksum.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// An operation of the graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A FROM whose name comes to nothing.
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    /// A FROM whose name is none.
    #[error("failed to parse stage name {}: {cause}", quoted(.name))]
    BaseName {
        /// The name.
        name: String,
        /// Why not.
        cause: ReferenceError,
    },
    /// A variable in the platform of FROM.
    #[error("failed to process arguments for platform {0}: {1}")]
    PlatformArguments(String, ExpandError),
    /// A platform that is none.
    #[error("failed to parse platform {written}: {cause}{suggestion}")]
    Platform {
        /// As written.
        written: String,
        /// Why not.
        cause: PlatformError,
        /// A near name, in parentheses.
        suggestion: String,
    },
    /// A name for a context that is none.
    #[error("invalid context name {name}: {cause}")]
    ContextName {
        /// The name.
        name: String,
        /// Why not.
        cause: ReferenceError,
    },
    /// A reference that is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Whatever else is told to the user.
    #[error("{0}")]
    Other(String),
}

impl PlanError {
    pub(super) fn new(cause: impl Into<PlanErrorCause>) -> Self {
        Self { cause: Box::new(cause.into()), places: Vec::new() }
    }

    /// An error with a text of its own.
    pub(super) fn other(text: impl Into<String>) -> Self {
        Self::new(PlanErrorCause::Other(text.into()))
    }

    /// Adds a place to show.
    pub(super) fn at(mut self, lines: Lines) -> Self {
        self.places.push(lines);
        self
    }

    /// Returns the lines it speaks of and those around them, as BuildKit shows them before the error.
    #[must_use]
    pub fn excerpts(&self, name: &str, source: &str) -> String {
        let places = self.places.iter();
        places.filter_map(|lines| ferry_dockerfile::source::excerpt(name, source, &[*lines])).collect()
    }
}

impl From<ParseError> for PlanError {
    fn from(error: ParseError) -> Self {
        Self { cause: Box::new(PlanErrorCause::Parse(error.cause)), places: error.places }
    }
}

impl From<ExpandError> for PlanError {
    fn from(error: ExpandError) -> Self {
        Self::new(error)
    }
}

impl From<MountError> for PlanError {
    fn from(error: MountError) -> Self {
        Self::new(error)
    }
}

impl From<GraphError> for PlanError {
    fn from(error: GraphError) -> Self {
        Self::new(error)
    }
}
