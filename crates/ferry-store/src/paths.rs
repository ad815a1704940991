//! Where everything lies.
//!
//! ```text
//! <data-root>/
//!   content/blobs/<algorithm>/<hex>        verified bytes
//!   content/ingest/<random>                half-written; removed at start
//!   content/ingest/<algorithm>-<hex>.part  left by a broken transfer, continued by the next
//!   layers/<chain-id hex>/diff             one unpacked layer
//!   layers/<chain-id hex>/layer.json       its record
//!   layers/<chain-id hex>/tar.zst          how its tar is made, of a layer that was built here
//!   layers/<chain-id hex>/unsettled        it is used and not yet certain to outlive a power cut; a start removes it
//!   layers/l/<short>                       link to a `diff`, short enough for one page of 500 of them
//!   layers/empty                           an empty folder, the lowest layer of an image without any
//!   layers/.new-<random>                   being unpacked; removed at start
//!   layers/.old-<random>                   being removed; removed at start
//!   images/<sha256(reference)>.json        image name record
//!   last-used.json                         when each image was last used; may be thrown away
//! ```

use std::path::{Path, PathBuf};

use ferry_spec::digest::{Algorithm, ChainId, Digest};
use ferry_spec::reference::Reference;

/// Names below one data root.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("content/blobs").join(algorithm.as_str())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn last_used(&self) -> PathBuf {
        self.root.join("last-used.json")
    }

    pub(crate) fn ingest(&self) -> PathBuf {
        self.root.join("content/ingest")
    }

    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.ingest().join(format!("{}-{}.part", digest.algorithm(), digest.hex()))
    }

    /// A new name for content on its way in, which tells whose beginning it is.
    pub(crate) fn ingest_of(&self, digest: &Digest) -> PathBuf {
        self.ingest().join(format!("{}-{}.{}", digest.algorithm(), digest.hex(), random_name()))
    }

    /// Returns the partial that a file named by [`Paths::ingest_of`] is to become.
    pub(crate) fn partial_of_ingest(path: &Path) -> Option<PathBuf> {
        let (stem, random) = path.file_name()?.to_str()?.rsplit_once('.')?;
        let digest = Digest::parse(&stem.replacen('-', ":", 1)).ok()?;
        let is_random = random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_random.then(|| path.with_file_name(format!("{}-{}.part", digest.algorithm(), digest.hex())))
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, chain_id: &ChainId) -> PathBuf {
        self.layers().join(chain_id.hex())
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.layers().join("l")
    }

    pub(crate) fn empty(&self) -> PathBuf {
        self.layers().join("empty")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn image(&self, reference: &Reference) -> PathBuf {
        let name = Digest::sha256(reference.to_string().as_bytes());
        self.images().join(format!("{}.json", name.hex()))
    }
}

/// Returns 16 random hex digits.
pub(crate) fn random_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}
