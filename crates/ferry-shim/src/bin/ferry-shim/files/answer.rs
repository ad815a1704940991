//! How work in files ends.

use std::fmt;
use std::io;

use ferry_shim::files::FailureKind;
use ferry_spec::tar::ReadError;
use ferry_sys::tree::MakeError;
use rustix::io::Errno;

/// What work comes to.
pub(crate) type Answer = Result<(), Failure>;

/// Why it failed, in Docker's words where there are some.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Invalid, message: message.into() }
    }

    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Internal, message: message.to_string() }
    }

    /// A failed call on a path, as Go words it.
    pub(crate) fn call(call: &str, path: &str, errno: Errno) -> Self {
        let kind = if errno == Errno::NOENT { FailureKind::NotFound } else { FailureKind::Internal };
        Self { kind, message: format!("{call} {path}: {}", cause(&errno.into())) }
    }
}

/// The kernel's words alone.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = plain.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

impl From<ferry_runtime::Error> for Failure {
    fn from(error: ferry_runtime::Error) -> Self {
        let kind = match error.kind() {
            ferry_runtime::ErrorKind::Invalid => FailureKind::Invalid,
            _ => FailureKind::Internal,
        };
        Self { kind, message: error.to_string() }
    }
}

impl From<MakeError> for Failure {
    fn from(error: MakeError) -> Self {
        Self::internal(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let message = match &error {
            ReadError::Truncated => "unexpected EOF".to_owned(),
            ReadError::Header(_) => format!("archive/tar: {error}"),
            ReadError::Io(source) => cause(source),
            ReadError::Limit { .. } => error.to_string(),
        };
        Self::internal(message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::internal(cause(&error))
    }
}
