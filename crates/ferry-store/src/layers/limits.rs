//! Bounds on what a layer may make this host do.

use super::LayerError;

/// Limits for one layer; going past one ends in an error and leaves nothing.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Uncompressed bytes, and bytes of any one file, holes included.
    pub unpacked_bytes: u64,
    /// Files, folders, links and whiteouts.
    pub entries: u64,
    /// Folders above a file.
    pub path_depth: usize,
    /// Bytes of one extended header or long name.
    pub header_bytes: u64,
    /// Uncompressed bytes for each compressed one, looked at only past [`Limits::ratio_from_bytes`].
    pub ratio: u64,
    /// From how many uncompressed bytes on the ratio counts; small layers of zeros are common and harmless.
    pub ratio_from_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 256 << 30,
            entries: 4_000_000,
            path_depth: 512,
            header_bytes: 1 << 20,
            ratio: 500,
            ratio_from_bytes: 512 << 20,
        }
    }
}

impl Limits {
    pub(crate) fn check_bytes(&self, total: u64, compressed: u64) -> Result<(), LayerError> {
        if total > self.unpacked_bytes {
            return Err(LayerError::Limit { what: "unpacked bytes", limit: self.unpacked_bytes });
        }
        if total > self.ratio_from_bytes && total / compressed.max(1) > self.ratio {
            return Err(LayerError::Limit { what: "unpacked bytes for each compressed byte", limit: self.ratio });
        }
        Ok(())
    }
}
