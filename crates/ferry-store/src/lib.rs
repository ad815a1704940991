//! Image data on disk: content by digest, unpacked layers, image names, root file systems, collection.
//!
//! Owns everything below `content/`, `layers/` and `images/` of a data root (the tree is drawn in `paths`), and the form of records,
//! which others use for theirs. Leaves out: fetching, containers, who may do what.
//!
//! Blocking, without a runtime; the store is cheap to clone and used from many threads. What has a name here is whole: content is checked
//! and synced before it gets its digest for a name, layers before their chain id, and both before an image name leads to them.

mod collect;
mod content;
mod driver;
mod error;
mod images;
mod layers;
mod lease;
mod paths;
mod rootfs;
mod vfs;

pub mod archive;
pub mod record;
pub mod tree;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ferry_spec::digest::{Algorithm, Digest};

pub use collect::Collected;
pub use content::BlobWriter;
pub use error::{Error, Result};
pub use images::{ImageRecord, Live, Origins};
pub use layers::{EntryProblem, Expectation, Layer, LayerError, Limits, NewLayer, TarNotes};
pub use lease::Lease;
pub use record::{RecordError, Syncer};
pub use rootfs::{LayersView, MountOptions};
pub use vfs::{copy_folder, shares_extents};

use driver::Driver;
use layers::Layers;
use layers::unpack::{WhiteoutStyle, open_trusted};
use lease::Ledger;
use paths::Paths;

/// The image data of one data root. Whoever opens it must hold the data root's lock.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    limits: Limits,
    driver: Driver,
    ledger: Arc<Ledger>,
    layers: Layers,
    /// The folder of short links, which mounts are made from.
    links: OwnedFd,
    collecting: Mutex<()>,
}

impl Store {
    /// Opens the image data below `data_root`: makes missing folders, sweeps what a killed process left, and finds out how root file
    /// systems can be mounted there.
    ///
    /// # Errors
    /// When a folder cannot be made or read, or a record has a newer format.
    pub fn open(data_root: &Path) -> Result<Self> {
        Self::open_with(data_root, Limits::default())
    }

    /// As [`Store::open`], with other limits on what layers may do.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(data_root: &Path, limits: Limits) -> Result<Self> {
        images::make_folder(data_root)?;
        let data_root = data_root.canonicalize().map_err(Error::io("resolve", data_root))?;
        let paths = Paths::new(&data_root);
        let blobs = [paths.blobs(Algorithm::Sha256), paths.blobs(Algorithm::Sha512)];
        for folder in blobs.iter().chain([&paths.ingest(), &paths.links(), &paths.empty(), &paths.images()]) {
            images::make_folder(folder)?;
        }
        content::sweep_ingest(&paths.ingest())?;
        record::sweep(&paths.images())?;
        let layers = Layers::load(&paths)?;
        let driver = Driver::probe(&paths)?;
        if let WhiteoutStyle::Overlay { opaque_xattr } = driver.whiteout_style() {
            layers.convert_listed(&paths, opaque_xattr)?;
        }
        let links = open_trusted(&paths.links()).map_err(Error::errno("open", paths.links()))?;
        let inner = Inner { paths, limits, driver, ledger: Arc::default(), layers, links, collecting: Mutex::new(()) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes a lease: whatever anybody writes or finds while it lives stays, until a record reaches it or the lease ends.
    pub fn lease(&self) -> Lease {
        self.inner.ledger.lease()
    }

    /// Returns how root file systems are put together: `overlayfs`, or `vfs` where overlay cannot be used.
    #[must_use]
    pub fn driver_name(&self) -> &'static str {
        self.inner.driver.name()
    }

    /// Returns what `info` says about that, in the order in which it says it.
    #[must_use]
    pub fn driver_status(&self) -> Vec<(String, String)> {
        self.inner.driver.status()
    }

    /// Returns every blob with its size in bytes.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let mut blobs = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.inner.paths.blobs(algorithm);
            for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
                let entry = entry.map_err(Error::io("list", &folder))?;
                let name = entry.file_name();
                let Some(Ok(digest)) = name.to_str().map(|hex| Digest::parse(&format!("{algorithm}:{hex}"))) else {
                    continue;
                };
                if let Ok(metadata) = entry.metadata() {
                    blobs.push((digest, metadata.len()));
                }
            }
        }
        Ok(blobs)
    }

    /// Returns the bytes of regular files below a folder, such as a container's upper one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn folder_bytes(&self, folder: &Path) -> Result<u64> {
        vfs::folder_bytes(folder).map_err(Error::io("measure", folder))
    }
}
