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
use std::sync::{Arc, Mutex, PoisonError};

use ferry_spec::digest::ChainId;
use ferry_store::{LayersView, MountOptions, Store};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};

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
    /// Files that take the place of empty ones, once it is no longer mounted.
    given: Mutex<Vec<Given>>,
    takes_files: bool,
}

/// A file that becomes one of a tree.
#[derive(Debug)]
struct Given {
    /// Where an empty file stands for it.
    path: Vec<u8>,
    file: OwnedFd,
    id: (u64, u64),
}

impl Tree {
    /// The root, a detached mount.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Takes a file of the builder's own as it is, in place of the empty one at a path without links, when the tree becomes a layer; tells
    /// whether it does. Nobody may write to the file afterwards.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn take_file(&self, path: &[u8], file: BorrowedFd<'_>) -> Result<bool> {
        let stat = rustix::fs::fstat(file).context("cannot look at a file")?;
        let id = (stat.st_dev, stat.st_ino);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has another name is another's as well.
        if !self.takes_files || stat.st_nlink != 1 || given.iter().any(|other| other.id == id) {
            return Ok(false);
        }
        let file = file.try_clone_to_owned().context("cannot keep a file open")?;
        given.push(Given { path: path.to_vec(), file, id });
        Ok(true)
    }
}

/// Puts the files in their places in the folder that was the upper one of a mount.
fn place_files(upper: &Path, given: &[Given]) -> Result<()> {
    if given.is_empty() {
        return Ok(());
    }
    let root = fs::File::open(upper).context("cannot open a tree")?;
    for Given { path, file, .. } in given {
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], &path[..]),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = ferry_sys::path::resolve_in_root(&root, above, flags, Mode::empty());
        let folder = folder.context("cannot open a folder of a tree")?;
        let placed = rustix::fs::unlinkat(&folder, name, AtFlags::empty())
            .and_then(|()| rustix::fs::linkat(file, c"", &folder, name, AtFlags::EMPTY_PATH));
        match placed {
            Ok(()) => {}
            // Not everybody may; then it is a copy.
            Err(_) => copy_file(file, &folder, name).context("cannot copy a file")?,
        }
        // A layer knows whole seconds.
        let stat = rustix::fs::fstat(file).context("cannot look at a file")?;
        let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: 0 };
        let placed = rustix::fs::openat(&folder, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty());
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(placed.context("cannot open a file")?, &times)
            .context("cannot set the times of a file")?;
    }
    Ok(())
}

fn copy_file(file: &OwnedFd, folder: &OwnedFd, name: &[u8]) -> std::io::Result<()> {
    let stat = rustix::fs::fstat(file)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = match rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR) {
        Err(rustix::io::Errno::EXIST) => {
            let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(folder, name, flags, Mode::empty())?
        }
        made => made?,
    };
    let mut from = fs::File::from(file.try_clone()?);
    std::io::Seek::rewind(&mut from)?;
    let mut to = fs::File::from(to);
    std::io::copy(&mut from, &mut to)?;
    Ok(rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
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

    /// Begins to bring what was written to the disk, for whoever needs it there later.
    pub fn begin_sync(&self) {
        let folder = Arc::clone(&self.folder);
        std::thread::spawn(move || {
            // Whoever needs it hears of failures by themselves.
            if let Ok(folder) = fs::File::open(folder.as_path()) {
                let _ = rustix::fs::syncfs(&folder);
            }
        });
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
        let takes_files = self.store.driver_name() == "overlayfs";
        let root = root.context("cannot mount a tree")?;
        Ok(Tree { root, base, folder, given: Mutex::default(), takes_files })
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
        let Tree { root, base, folder, given, .. } = tree;
        let given = given.into_inner().unwrap_or_else(PoisonError::into_inner);
        // One mount at a time uses the folders.
        drop(root);
        let layer = match self.store.driver_name() {
            "overlayfs" => {
                let (images, upper) = (self.containers.images().clone(), folder.path().join("upper"));
                let making = move || {
                    place_files(&upper, &given)?;
                    images.publish_new(images.adopt_new(base.as_ref(), &upper)?)
                };
                blocking(making).await
            }
            _ => self.containers.layer_of(folder.path().to_owned(), base, true).await,
        };
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
