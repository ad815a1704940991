//! How a command ends when it does not succeed.

use std::fmt;

/// A failed command: what to print on standard error and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The text, empty for none.
    pub(crate) message: String,
    /// The exit code.
    pub(crate) code: u8,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Exit code 1 with a text.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// Another exit code with a text.
    pub(crate) fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), code }
    }

    /// An exit code alone.
    pub(crate) fn silent(code: u8) -> Self {
        Self { message: String::new(), code }
    }

    /// Something known that is not built.
    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(format!("{what} is not implemented"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl From<ferry_client::Error> for Failure {
    fn from(error: ferry_client::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    /// A reader that went away ends the command as the pipe's signal would.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::silent(141);
        }
        Self::new(error.to_string())
    }
}
