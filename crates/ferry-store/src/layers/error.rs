//! Why a layer cannot be unpacked.

use std::io;

use ferry_spec::tar;
use rustix::io::Errno;

use crate::error::Error;

/// What is wrong with one entry of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// `..` leads above the root.
    #[error("leads out of the layer")]
    Escapes,
    /// Longer than the kernel looks up.
    #[error("is too long")]
    TooLong,
    /// NUL in its name.
    #[error("has a NUL in its name")]
    Nul,
    /// A whiteout that names nothing that could be hidden.
    #[error("is an invalid whiteout")]
    Whiteout,
    /// A device that means a whiteout to overlayfs.
    #[error("is a character device 0:0, which no layer may bring")]
    WhiteoutDevice,
    /// Below a file, or below a link that leads nowhere.
    #[error("is not a folder, but the layer has entries below it")]
    ParentNotAFolder,
    /// The root as anything but a folder.
    #[error("is the root and not a folder")]
    RootReplaced,
    /// A symbolic link to nothing.
    #[error("is a symbolic link without a target")]
    EmptyLink,
    /// A hard link to what is not there, or may not be linked to.
    #[error("is a hard link to a file that is neither in the layer nor below it")]
    LinkTarget,
}

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The compressed stream cannot be read or is broken.
    #[error("cannot decompress")]
    Decompress(#[source] io::Error),
    /// The archive ends in the middle.
    #[error("archive is truncated")]
    Truncated,
    /// A header makes no sense.
    #[error("invalid tar header: {0}")]
    Header(&'static str),
    /// One entry cannot be accepted.
    #[error("entry {path:?} {problem}")]
    Entry {
        /// Its name, as far as it can be shown.
        path: String,
        /// What is wrong.
        problem: EntryProblem,
    },
    /// Past a limit.
    #[error("layer has more than the {limit} {what} allowed")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// A call to the kernel failed.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what, relative to the layer.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// What it would take to make the archive again cannot be written down.
    #[error("cannot keep how the layer is made")]
    Recipe(#[source] io::Error),
    /// The layers below are needed and cannot be had.
    #[error("cannot look into the layers below")]
    Lower(#[source] Box<Error>),
}

impl From<tar::ReadError> for LayerError {
    fn from(error: tar::ReadError) -> Self {
        match error {
            tar::ReadError::Truncated => Self::Truncated,
            tar::ReadError::Header(what) => Self::Header(what),
            tar::ReadError::Limit { what, limit } => Self::Limit { what, limit },
            tar::ReadError::Io(source) => Self::Decompress(source),
        }
    }
}

impl LayerError {
    pub(super) fn entry(path: &[u8], problem: EntryProblem) -> Self {
        Self::Entry { path: String::from_utf8_lossy(path).into_owned(), problem }
    }

    pub(super) fn errno(action: &'static str, path: &[u8], errno: Errno) -> Self {
        Self::Io { action, path: String::from_utf8_lossy(path).into_owned(), source: errno.into() }
    }

    /// Tells whether the archive is to blame, not this host.
    #[must_use]
    pub fn is_bad_content(&self) -> bool {
        match self {
            Self::Truncated | Self::Header(_) | Self::Entry { .. } | Self::Limit { .. } => true,
            Self::Decompress(error) => {
                matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::Other
                )
            }
            Self::Io { source, .. } => source.kind() == io::ErrorKind::InvalidFilename,
            Self::Thread(_) | Self::Lower(_) | Self::Recipe(_) => false,
        }
    }
}
