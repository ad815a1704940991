//! Trees of files that operations take and make.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use ferry_engine::images::StoredLayer;
use ferry_engine::workshop::{OwnFolder, TreeView, Workshop};
use ferry_spec::descriptor::Descriptor;
use ferry_spec::digest::{ChainId, DiffId};
use serde::{Deserialize, Serialize};

use crate::clock::now_ns;
use crate::content;
use crate::failure::{Doing, Failure, Result};
use crate::files;
use crate::synced::Index;

/// One layer that a build made or took from an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltLayer {
    /// Its blob.
    pub descriptor: Descriptor,
    /// Digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// When it was made; `None` for one of an image.
    pub created_ns: Option<i64>,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Its place is below those of an image that was not built here.
    #[serde(default)]
    pub foreign: bool,
}

impl BuiltLayer {
    /// One that was just made.
    pub(crate) fn made_now(stored: StoredLayer) -> Self {
        Self {
            descriptor: stored.descriptor,
            diff_id: stored.diff_id,
            created_ns: Some(now_ns()),
            size_bytes: stored.size_bytes,
            foreign: false,
        }
    }
}

/// Layers on top of each other, the lowest first; none is an empty tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers(pub Arc<Vec<BuiltLayer>>);

impl Layers {
    /// These layers.
    #[must_use]
    pub fn of(layers: Vec<BuiltLayer>) -> Self {
        Self(Arc::new(layers))
    }

    /// What they are together; `None` for none.
    #[must_use]
    pub fn chain(&self) -> Option<ChainId> {
        let diff_ids: Vec<DiffId> = self.0.iter().map(|layer| layer.diff_id.clone()).collect();
        ChainId::from_diff_ids(&diff_ids)
    }

    /// These with one more on top.
    #[must_use]
    pub fn with(&self, layer: BuiltLayer) -> Self {
        let mut layers = self.0.as_ref().clone();
        layers.push(layer);
        Self::of(layers)
    }
}

/// Files that came from elsewhere and are no layers.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
    path: PathBuf,
    digest: OnceLock<String>,
    /// What is known of it without looking.
    index: Option<Index>,
    /// It may be the folder that `path` lies in.
    owner: Arc<OwnFolder>,
}

impl Folder {
    /// All of a folder.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(owner: OwnFolder) -> Result<Self> {
        let root = std::fs::File::open(owner.path()).doing("cannot open the context")?.into();
        let path = owner.path().to_owned();
        Ok(Self { root, path, digest: OnceLock::new(), index: None, owner: Arc::new(owner) })
    }

    /// The same folder, of which this is known.
    pub(crate) fn known_as(&self, index: Index) -> Result<Self> {
        Ok(Self {
            root: self.root.try_clone().doing("cannot open the context")?,
            path: self.path.clone(),
            digest: OnceLock::new(),
            index: Some(index),
            owner: Arc::clone(&self.owner),
        })
    }

    /// What is known of it without looking.
    pub(crate) fn index(&self) -> Option<&Index> {
        self.index.as_ref()
    }

    /// Nothing else is a part of what it is a part of.
    pub(crate) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.owner) == 1
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// A directory of it; links are followed inside.
    ///
    /// # Errors
    /// When it is not there.
    pub fn below(&self, path: &str) -> Result<Self> {
        let plain = files::plain(self.root.as_fd(), path, true)?;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        let root = ferry_sys::path::resolve_in_root(&self.root, &plain[..], flags, rustix::fs::Mode::empty())
            .doing(format!("cannot open {path}"))?;
        let path = self.path.join(OsStr::from_bytes(&plain));
        let index = self.index.as_ref().map(|index| index.within(&plain));
        Ok(Self { root, path, digest: OnceLock::new(), index, owner: Arc::clone(&self.owner) })
    }

    /// The names of what lies right in it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path).doing("cannot read the context")?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        names.collect::<std::io::Result<Vec<_>>>().doing("cannot read the context")
    }

    /// The host's path of something in it; links are followed inside, and nobody else changes what is there.
    ///
    /// # Errors
    /// When it is not there.
    pub fn host_path(&self, path: &str) -> Result<PathBuf> {
        let plain = files::plain(self.root.as_fd(), path, true)?;
        let found = self.path.join(OsStr::from_bytes(&plain));
        match found.symlink_metadata() {
            Ok(_) => Ok(found),
            Err(_) => Err(Failure::invalid(format!("\"/{}\": not found", files::clean(path)))),
        }
    }

    fn digest(&self) -> Result<String> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest.clone());
        }
        let digest = match &self.index {
            Some(index) => content::of_index(index),
            None => content::of_tree(self.root.as_fd())?,
        };
        Ok(self.digest.get_or_init(|| digest).clone())
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// A tree.
#[derive(Debug, Clone)]
pub enum Tree {
    /// Layers, unpacked in the store.
    Layers(Layers),
    /// Files that came from elsewhere.
    Folder(Arc<Folder>),
}

impl Default for Tree {
    fn default() -> Self {
        Self::Layers(Layers::default())
    }
}

/// A tree that is open.
pub enum OpenTree {
    /// Layers.
    View(TreeView),
    /// Files.
    Folder(Arc<Folder>),
}

impl AsFd for OpenTree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::View(view) => view.as_fd(),
            Self::Folder(folder) => folder.as_ref().as_fd(),
        }
    }
}

impl Tree {
    /// Opens it to be read. Blocks.
    ///
    /// # Errors
    /// When layers cannot be mounted.
    pub fn open(&self, workshop: &Workshop) -> Result<OpenTree> {
        Ok(match self {
            Self::Layers(layers) => OpenTree::View(workshop.view(layers.chain().as_ref())?),
            Self::Folder(folder) => OpenTree::Folder(Arc::clone(folder)),
        })
    }

    /// What tells it from every other tree. Blocks for files that came from elsewhere.
    ///
    /// # Errors
    /// When those cannot be read.
    pub fn identity(&self) -> Result<String> {
        match self {
            Self::Layers(layers) => Ok(layers.chain().map_or("scratch".to_owned(), |chain| chain.to_string())),
            Self::Folder(folder) => folder.digest(),
        }
    }

    /// What is known of it without looking.
    pub(crate) fn index(&self) -> Option<&Index> {
        match self {
            Self::Layers(_) => None,
            Self::Folder(folder) => folder.index(),
        }
    }

    /// Tells whether its identity costs nothing.
    #[must_use]
    pub fn has_quick_identity(&self) -> bool {
        match self {
            Self::Layers(_) => true,
            Self::Folder(folder) => folder.digest.get().is_some(),
        }
    }
}
