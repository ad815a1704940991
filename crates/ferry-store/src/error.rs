//! What can go wrong with image data.

use std::io;
use std::path::Path;

use ferry_spec::digest::{ChainId, DiffId, Digest};
use ferry_spec::image::ImageConfigError;
use ferry_spec::manifest::ManifestError;

use crate::layers::LayerError;
use crate::record::RecordError;

/// The result of most store operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the kernel failed.
    #[error("cannot {action} {object}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        object: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The content is not here.
    #[error("blob {0} not found")]
    BlobNotFound(Digest),
    /// The layer is not unpacked here.
    #[error("layer {0} not found")]
    LayerNotFound(ChainId),
    /// More bytes than asked for.
    #[error("blob {digest} has {size} bytes, more than the {max} allowed")]
    BlobTooLong {
        /// Which.
        digest: Digest,
        /// Its length.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// A transfer brought more or fewer bytes than announced.
    #[error("size of {digest} is wrong: {expected} bytes announced, {}", .actual.map_or("more received".to_owned(), |n| format!("{n} received")))]
    WrongSize {
        /// Which.
        digest: Digest,
        /// What the descriptor said.
        expected: u64,
        /// What came; `None` when it was cut off at the first byte too many.
        actual: Option<u64>,
    },
    /// The bytes are not those that were asked for.
    #[error("filesystem layer verification failed for digest {expected}: content has digest {actual}")]
    WrongDigest {
        /// Asked for.
        expected: Digest,
        /// What the bytes have.
        actual: Digest,
    },
    /// The uncompressed layer is not the one the image configuration names.
    #[error("layer does not match its diff ID: expected {expected}, got {actual}")]
    WrongDiffId {
        /// From the image configuration.
        expected: DiffId,
        /// What the bytes have.
        actual: DiffId,
    },
    /// The layer cannot be unpacked.
    #[error("cannot unpack layer {diff_id}")]
    Layer {
        /// Which.
        diff_id: DiffId,
        /// Why not.
        #[source]
        source: LayerError,
    },
    /// A layer that has no diff id cannot be unpacked.
    #[error("cannot unpack the layer")]
    UnverifiedLayer(#[source] LayerError),
    /// A record on disk.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A manifest in the store.
    #[error("manifest {digest}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// An image configuration in the store.
    #[error("image configuration {digest}")]
    Config {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: ImageConfigError,
    },
    /// An archive given to `load` or `import`.
    #[error(transparent)]
    Archive(#[from] crate::archive::ArchiveError),
    /// The root file system of a container cannot be mounted.
    #[error("cannot mount root file system: {step}")]
    Mount {
        /// Which step.
        step: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, object: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let object = object.as_ref().display().to_string();
        move |source| Self::Io { action, object, source }
    }

    pub(crate) fn errno(action: &'static str, object: impl AsRef<Path>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let map = Self::io(action, object);
        move |errno| map(errno.into())
    }

    /// Tells whether the thing asked for is not here.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::BlobNotFound(_) | Self::LayerNotFound(_))
    }

    /// Tells whether the image or archive is to blame, not this host.
    #[must_use]
    pub fn is_bad_content(&self) -> bool {
        match self {
            Self::WrongSize { .. }
            | Self::WrongDigest { .. }
            | Self::WrongDiffId { .. }
            | Self::Manifest { .. }
            | Self::Config { .. }
            | Self::BlobTooLong { .. } => true,
            Self::Layer { source, .. } | Self::UnverifiedLayer(source) => source.is_bad_content(),
            Self::Archive(source) => source.is_bad_content(),
            _ => false,
        }
    }

    /// Tells whether the disk, or the quota, is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            }
            next = error.source();
        }
        false
    }
}
