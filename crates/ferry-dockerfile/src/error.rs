//! Errors with the lines they speak of.

use crate::check::CheckOptionsError;
use crate::directive::DirectiveError;
use crate::instruction::InstructionError;
use crate::source::{Lines, excerpt};
use crate::syntax::SyntaxError;

/// Why a Dockerfile is none; the text is BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct ParseError {
    /// What is wrong.
    pub cause: ParseErrorCause,
    /// The places to show, in order.
    pub places: Vec<Lines>,
}

/// What is wrong with a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorCause {
    /// Nothing in it.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// Its `# check=` is malformed.
    #[error("failed to parse check options: {0}")]
    CheckOptions(#[from] CheckOptionsError),
    /// A directive is wrong.
    #[error(transparent)]
    Directive(#[from] DirectiveError),
    /// It cannot be cut into instructions.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// An instruction is wrong.
    #[error("dockerfile parse error on line {line}: {cause}")]
    Instruction {
        /// Where it begins.
        line: u32,
        /// What is wrong with it.
        cause: Box<InstructionError>,
    },
    /// An instruction that stands for itself is wrong.
    #[error(transparent)]
    Trigger(Box<InstructionError>),
    /// An instruction before the first FROM.
    #[error("no build stage in current context")]
    OutsideStage,
    /// No FROM.
    #[error("dockerfile contains no stages to build")]
    NoStages,
}

impl ParseError {
    pub(crate) fn new(cause: impl Into<ParseErrorCause>, places: impl IntoIterator<Item = Lines>) -> Self {
        Self { cause: cause.into(), places: places.into_iter().collect() }
    }

    /// Returns the lines it speaks of and those around them, as BuildKit shows them before the error.
    #[must_use]
    pub fn excerpts(&self, name: &str, source: &str) -> String {
        self.places.iter().filter_map(|lines| excerpt(name, source, &[*lines])).collect()
    }
}
