//! What goes wrong, in the words that Docker clients know from runc.

use std::fmt;

/// What kind of failure, for exit codes and statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The program does not exist (127).
    CommandNotFound,
    /// The program cannot be executed (126).
    CommandNotExecutable,
    /// The container is not there or has ended.
    NotRunning,
    /// The configuration is wrong.
    Invalid,
    /// The configuration asks for what this host or build cannot do.
    Unsupported,
    /// Anything else.
    Internal,
}

/// A failure of the runtime: its kind and the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// Makes an error from its parts.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into() }
    }

    /// What kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, message)
    }

    /// A failed step: what was done to which object, and why it failed.
    pub(crate) fn step(what: impl fmt::Display, cause: impl Into<std::io::Error>) -> Error {
        Error::internal(format!("{what}: {}", cause_text(&cause.into())))
    }

    /// Puts the stage before the text and keeps the kind.
    pub(crate) fn within(self, stage: &str) -> Error {
        Error { kind: self.kind, message: format!("{stage}: {}", self.message) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Words an errno as Go's `syscall.Errno` does, since that is what Docker's users read.
pub(crate) fn cause_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => {
            let text = error.to_string();
            let text = text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text);
            let mut characters = text.chars();
            match characters.next() {
                Some(first) if !text.starts_with("RFS") => first.to_lowercase().chain(characters).collect(),
                _ => text.to_owned(),
            }
        }
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_is_worded_as_in_go() {
        let text = cause_text(&std::io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(text, "no such file or directory");
        assert_eq!(cause_text(&std::io::Error::from_raw_os_error(libc::EACCES)), "permission denied");
    }

    #[test]
    fn stage_is_put_before() {
        let error = Error::invalid("x").within("error during container init");
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, "error during container init: x"));
    }
}
