//! Archives that `load` and `import` are given.

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It has neither form that is known.
    #[error("archive is neither a Docker image archive nor an OCI image layout")]
    Unknown,
}

impl ArchiveError {
    /// Tells whether the archive is to blame, not this host.
    #[must_use]
    pub fn is_bad_content(&self) -> bool {
        true
    }
}
