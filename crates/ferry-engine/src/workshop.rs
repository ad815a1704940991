//! Where builds work: folders of the builder, trees that are being changed, steps that run.
//!
//! Owns `<data-root>/build/`:
//! ```text
//! build/trees/<random>/{upper,work}   a tree that is being changed; gone with its `Tree`, or at the next start
//! build/contexts/<random>/            files that a client sent; likewise
//! build/mounts/<sha256 of the id>/    what cache mounts keep; the builder's
//! build/cache.db                      records of the cache; the builder's
//! ```
//! and `<exec-root>/b/<random>/`, in memory, for secrets. Knows nothing of Dockerfiles and of what is a hit.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_spec::digest::ChainId;
use ferry_store::{LayersView, MountOptions, Store};

use crate::blocking;
use crate::config::EngineConfig;
use crate::containers::{Containers, Step, StepRequest};
use crate::error::{Context, Result};
use crate::ids;
use crate::images::StoredLayer;

/// What builds work with; cheap to clone.
#[derive(Clone)]
pub struct Workshop {
    containers: Containers,
    store: Store,
    folder: Arc<PathBuf>,
    memory: Arc<PathBuf>,
}

/// A folder that goes with its owner.
#[derive(Debug)]
pub struct OwnFolder(PathBuf);

impl OwnFolder {
    fn create(parent: &Path, mode: u32) -> Result<Self> {
        let path = parent.join(&ids::random_id()[..16]);
        fs::DirBuilder::new().mode(mode).create(&path).context(format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "left behind until the next start");
        }
    }
}

/// Layers with a writable folder on top.
#[derive(Debug)]
pub struct Tree {
    // Before the folder: it is mounted there.
    root: OwnedFd,
    base: Option<ChainId>,
    folder: OwnFolder,
}

impl Tree {
    /// The root, a detached mount.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Layers to be looked at.
#[derive(Debug)]
pub struct TreeView(Seen);

#[derive(Debug)]
enum Seen {
    Layers(LayersView),
    Nothing(OwnedFd, #[expect(dead_code, reason = "goes with it")] OwnFolder),
}

impl AsFd for TreeView {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Seen::Layers(view) => view.as_fd(),
            Seen::Nothing(folder, _) => folder.as_fd(),
        }
    }
}

impl Workshop {
    /// Makes the folders and clears away what a killed daemon left in them.
    pub(crate) fn open(config: &EngineConfig, store: Store, containers: Containers) -> Result<Self> {
        let (folder, memory) = (config.data_root.join("build"), config.exec_root.join("b"));
        for passing in [folder.join("trees"), folder.join("contexts"), memory.clone()] {
            match fs::remove_dir_all(&passing) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %passing.display(), %error, "left behind by an earlier build");
                }
                _ => {}
            }
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&passing);
            made.context(format!("cannot make {}", passing.display()))?;
        }
        Ok(Self { containers, store, folder: Arc::new(folder), memory: Arc::new(memory) })
    }

    /// The builder's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a folder for files that a client sends. Blocks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn context_folder(&self) -> Result<OwnFolder> {
        OwnFolder::create(&self.folder.join("contexts"), 0o755)
    }

    /// Makes a folder in memory, for what may never be on a disk. Blocks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn secret_folder(&self) -> Result<OwnFolder> {
        OwnFolder::create(&self.memory, 0o711)
    }

    /// Makes a tree of layers that can be changed. Blocks.
    ///
    /// # Errors
    /// When they cannot be mounted.
    pub fn tree(&self, base: Option<ChainId>) -> Result<Tree> {
        let folder = OwnFolder::create(&self.folder.join("trees"), 0o700)?;
        let (upper, work) = (folder.path().join("upper"), folder.path().join("work"));
        for (path, mode) in [(&upper, 0o755), (&work, 0o700)] {
            fs::DirBuilder::new().mode(mode).create(path).context("cannot make a tree's folders")?;
        }
        let options = MountOptions { volatile: true, ..MountOptions::default() };
        let root = self.store.mount_rootfs(base.as_ref(), &upper, &work, options);
        Ok(Tree { root: root.context("cannot mount a tree")?, base, folder })
    }

    /// Shows layers. Blocks.
    ///
    /// # Errors
    /// When they cannot be mounted.
    pub fn view(&self, chain: Option<&ChainId>) -> Result<TreeView> {
        match chain {
            Some(chain) => Ok(TreeView(Seen::Layers(self.store.look_at_layers(chain).context("cannot mount layers")?))),
            None => {
                let folder = OwnFolder::create(&self.folder.join("trees"), 0o755)?;
                let opened = fs::File::open(folder.path()).context("cannot open an empty tree")?;
                Ok(TreeView(Seen::Nothing(opened.into(), folder)))
            }
        }
    }

    /// Makes a layer of what was changed in a tree.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub async fn layer_of(&self, tree: Tree) -> Result<StoredLayer> {
        let Tree { root, base, folder } = tree;
        // One mount at a time uses the folders.
        drop(root);
        let layer = self.containers.layer_of(folder.path().to_owned(), base, true).await;
        // A tree may be large.
        let _ = blocking(move || {
            drop(folder);
            Ok(())
        })
        .await;
        layer
    }

    /// Starts a step.
    ///
    /// # Errors
    /// What a start of a container fails with.
    pub async fn run(&self, request: StepRequest) -> Result<Step> {
        self.containers.run_step(request).await
    }
}

impl Workshop {
    /// The names of the devices that are registered by CDI. Blocks.
    #[must_use]
    pub fn device_names(&self) -> Vec<String> {
        self.containers.device_names()
    }

    /// Bytes of the regular files below one of the builder's folders. Blocks.
    #[must_use]
    pub fn folder_bytes(&self, folder: &Path) -> u64 {
        self.store.folder_bytes(folder).unwrap_or_default()
    }
}
