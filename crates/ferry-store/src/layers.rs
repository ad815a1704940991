//! Unpacked layers: one folder each, shared by every image and container that has them.
//!
//! A layer is unpacked in a folder out of sight, proved against its diff id, synced, and then renamed to its chain id, so a layer that
//! has a name is whole. Its folder holds what the layer itself brings; layers are put on top of each other at mount time. A layer may
//! be unpacked before its parent; it counts as here when its whole chain is.
//!
//! Locks: the ledger of leases before the index; neither is held while unpacking.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferry_spec::digest::{ChainId, DiffId};
use rustix::mount::UnmountFlags;
use serde::{Deserialize, Serialize};

use crate::collect::remove_tree;
use crate::content::sync_dir;
use crate::error::{Error, Result};
use crate::images::Live;
use crate::paths::{Paths, random_name};
use crate::record;
use crate::{Inner, Store};

mod built;
pub(crate) mod copy;
mod error;
mod export;
mod hidden;
mod limits;
mod path;
mod recipe;
pub(crate) mod stream;
pub(crate) mod unpack;

pub use built::{NewLayer, TarNotes};
pub use error::{EntryProblem, LayerError};
pub(crate) use ferry_spec::tar::{Kind as EntryKind, next_entry, skip_padding};
pub(crate) use hidden::Hidden;
pub use limits::Limits;
pub(crate) use path::{FOLDER_FLAGS, clean as clean_path};
use unpack::Unpacked;

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Names it together with everything below.
    pub chain_id: ChainId,
    /// Digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// Bytes of its regular files.
    pub size_bytes: u64,
    /// The layer below.
    pub parent: Option<ChainId>,
}

/// What lies beside an unpacked layer.
#[derive(Debug, Serialize, Deserialize)]
struct LayerRecord {
    #[serde(flatten)]
    layer: Layer,
    /// Its name in `layers/l`.
    short: String,
    /// Present when the layer was unpacked where overlayfs could not be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hidden: Option<Hidden>,
    /// Bytes of its tar, where a recipe says how that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tar_bytes: Option<u64>,
}

#[derive(Debug, Clone)]
struct Indexed {
    layer: Layer,
    short: String,
    listed: bool,
    /// As in the record.
    tar_bytes: Option<u64>,
}

/// The layers that are here.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    index: Mutex<HashMap<ChainId, Indexed>>,
    coming: Mutex<Coming>,
    landed: Condvar,
    /// Layers that are used already and do not outlive a power cut yet.
    unsettled: Mutex<Vec<ChainId>>,
    /// Held while layers are brought to the disk.
    settling: Mutex<()>,
}

/// Layers that are not here yet.
#[derive(Debug, Default)]
struct Coming {
    /// Being unpacked.
    in_flight: HashSet<ChainId>,
    /// Announced, with by how many.
    expected: HashMap<ChainId, usize>,
}

/// Tells that a layer is on its way; see [`Store::expect_layer`].
#[derive(Debug)]
#[must_use = "nothing is expected once it is dropped"]
pub struct Expectation {
    inner: Arc<Inner>,
    chain_id: ChainId,
}

impl Drop for Expectation {
    fn drop(&mut self) {
        let mut coming = self.inner.layers.coming();
        if let Some(count) = coming.expected.get_mut(&self.chain_id) {
            *count -= 1;
            if *count == 0 {
                coming.expected.remove(&self.chain_id);
            }
        }
        self.inner.layers.landed.notify_all();
    }
}

/// Marks the folder of a layer that is not certain to be whole after a power cut.
const UNSETTLED: &str = "unsettled";

/// How long a layer waits for one below it that was announced and is not even begun.
const PATIENCE: Duration = Duration::from_secs(60);

/// The right to unpack one layer; others wait for it.
struct Claim<'a> {
    layers: &'a Layers,
    chain_id: ChainId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.layers.coming().in_flight.remove(&self.chain_id);
        self.layers.landed.notify_all();
    }
}

impl Layers {
    fn index(&self) -> MutexGuard<'_, HashMap<ChainId, Indexed>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn coming(&self) -> MutexGuard<'_, Coming> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while another thread unpacks the layer; `None` when it is then here.
    fn claim(&self, chain_id: &ChainId) -> Option<Claim<'_>> {
        let mut coming = self.coming();
        while coming.in_flight.contains(chain_id) {
            coming = self.landed.wait(coming).unwrap_or_else(PoisonError::into_inner);
        }
        if self.index().contains_key(chain_id) {
            return None;
        }
        coming.in_flight.insert(chain_id.clone());
        Some(Claim { layers: self, chain_id: chain_id.clone() })
    }

    /// Waits for layers of the chain that are being unpacked or were announced, then tells whether it is whole.
    fn settle_chain(&self, top: &ChainId) -> bool {
        let mut coming = self.coming();
        while let Some(missing) = self.first_missing(top) {
            coming = if coming.in_flight.contains(&missing) {
                self.landed.wait(coming).unwrap_or_else(PoisonError::into_inner)
            } else if coming.expected.contains_key(&missing) {
                let waited = self.landed.wait_timeout(coming, PATIENCE).unwrap_or_else(PoisonError::into_inner);
                if waited.1.timed_out() {
                    return false;
                }
                waited.0
            } else {
                return false;
            };
        }
        true
    }

    fn first_missing(&self, top: &ChainId) -> Option<ChainId> {
        let index = self.index();
        let mut next = Some(top);
        while let Some(chain_id) = next {
            let Some(indexed) = index.get(chain_id) else { return Some(chain_id.clone()) };
            next = indexed.layer.parent.as_ref();
        }
        None
    }

    /// Returns the chain, top first; `None` when some of it is missing.
    fn chain(&self, top: &ChainId) -> Option<Vec<Indexed>> {
        let index = self.index();
        let mut chain = Vec::new();
        let mut next = Some(top);
        while let Some(chain_id) = next {
            let indexed = index.get(chain_id)?;
            chain.push(indexed.clone());
            next = indexed.layer.parent.as_ref();
        }
        Some(chain)
    }

    /// Renames every layer out of sight that neither `live` nor a lease reaches; returns its id, its size and where it lies now.
    pub(crate) fn retire_unreachable(&self, store: &Store, live: &Live) -> Result<Vec<(ChainId, u64, PathBuf)>> {
        let notes = store.inner.ledger.lock();
        let mut index = self.index();
        let mut reached: HashSet<&ChainId> = HashSet::new();
        for top in index.keys().filter(|chain_id| live.chains.contains(chain_id) || notes.holds_chain(chain_id)) {
            let mut next = Some(top);
            while let Some(indexed) = next.and_then(|chain_id| index.get_key_value(chain_id)) {
                if !reached.insert(indexed.0) {
                    break;
                }
                next = indexed.1.layer.parent.as_ref();
            }
        }
        let dead: Vec<ChainId> = index.keys().filter(|chain_id| !reached.contains(chain_id)).cloned().collect();
        let mut retired = Vec::with_capacity(dead.len());
        for chain_id in dead {
            let from = store.inner.paths.layer(&chain_id);
            let to = store.inner.paths.layers().join(format!(".old-{}", random_name()));
            fs::rename(&from, &to).map_err(Error::io("retire", &from))?;
            if let Some(indexed) = index.remove(&chain_id) {
                // A link that stays behind leads nowhere and goes with the next start.
                let _ = fs::remove_file(store.inner.paths.links().join(&indexed.short));
                retired.push((chain_id, indexed.layer.size_bytes, to));
            }
        }
        Ok(retired)
    }

    /// Reads what is here, and sweeps what a killed process left.
    pub(crate) fn load(paths: &Paths) -> Result<Self> {
        let layers = Self::default();
        let folder = paths.layers();
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".new-") || name.starts_with(".old-") {
                // A kill may have left a mount here, whose files are somebody's.
                while rustix::mount::unmount(entry.path(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
                remove_tree(&entry.path())?;
            } else if let Ok(chain_id) = format!("sha256:{name}").parse::<ChainId>() {
                layers.load_one(&entry.path(), &chain_id)?;
            }
        }
        layers.mend_links(paths)?;
        Ok(layers)
    }

    fn load_one(&self, folder: &Path, chain_id: &ChainId) -> Result<()> {
        if folder.join(UNSETTLED).exists() {
            // Nobody was told of it.
            return remove_tree(folder);
        }
        let read = record::read::<LayerRecord>(&folder.join("layer.json"));
        let error = match read {
            Ok(Some(record)) if record.layer.chain_id == *chain_id => {
                let LayerRecord { layer, short, hidden, tar_bytes } = record;
                let indexed = Indexed { layer, short, listed: hidden.is_some(), tar_bytes };
                self.index().insert(chain_id.clone(), indexed);
                return Ok(());
            }
            Ok(Some(_)) => "record names another layer".to_owned(),
            Ok(None) => "record is missing".to_owned(),
            Err(error @ record::RecordError::Damaged { .. }) => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        // Without its record nothing says what the files are; they can be unpacked again from their blob.
        tracing::error!(layer = %chain_id, error, "layer removed");
        remove_tree(folder)
    }

    /// Gives layers that were unpacked without overlay what overlay needs to see: data roots move between hosts. Safe to be cut short.
    pub(crate) fn convert_listed(&self, paths: &Paths, opaque_xattr: &str) -> Result<()> {
        for (chain_id, indexed) in self.index().iter_mut().filter(|(_, indexed)| indexed.listed) {
            let folder = paths.layer(chain_id);
            let path = folder.join("layer.json");
            let Some(mut record) = record::read::<LayerRecord>(&path)? else { continue };
            let hidden = record.hidden.take().unwrap_or_default();
            let diff = folder.join("diff");
            let root = unpack::open_trusted(&diff).map_err(Error::errno("open", &diff))?;
            hidden.write_for_overlay(&root, opaque_xattr).map_err(Error::errno("convert", &diff))?;
            rustix::fs::syncfs(&root).map_err(Error::errno("sync", &diff))?;
            record::write(&path, &record)?;
            indexed.listed = false;
            tracing::info!(layer = %chain_id, "layer converted for overlay");
        }
        Ok(())
    }

    /// Makes `layers/l` say what the records say.
    fn mend_links(&self, paths: &Paths) -> Result<()> {
        let links = paths.links();
        let index = self.index();
        let wanted: HashMap<&str, String> =
            index.iter().map(|(chain_id, indexed)| (indexed.short.as_str(), link_target(chain_id))).collect();
        let mut right = HashSet::new();
        for entry in fs::read_dir(&links).map_err(Error::io("list", &links))? {
            let entry = entry.map_err(Error::io("list", &links))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let leads_to = fs::read_link(entry.path()).ok();
            match wanted.get(name.as_str()) {
                Some(target) if leads_to.as_deref() == Some(Path::new(target)) => {
                    right.insert(name);
                }
                _ => fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?,
            }
        }
        for (short, target) in wanted {
            if !right.contains(short) {
                let link = links.join(short);
                std::os::unix::fs::symlink(&target, &link).map_err(Error::io("link", &link))?;
            }
        }
        Ok(())
    }
}

fn link_target(chain_id: &ChainId) -> String {
    format!("../{}/diff", chain_id.hex())
}

impl Store {
    /// Tells whether the layer and everything below it is unpacked.
    #[must_use]
    pub fn has_layer(&self, chain_id: &ChainId) -> bool {
        // Noted before it is looked for: a collection in between would else take what was just found.
        self.inner.ledger.note_chains([chain_id]);
        self.inner.layers.chain(chain_id).is_some()
    }

    /// Returns the layer and everything below it, the topmost first.
    ///
    /// # Errors
    /// [`Error::LayerNotFound`] when some of it is not here.
    pub fn layer_chain(&self, chain_id: &ChainId) -> Result<Vec<Layer>> {
        Ok(self.indexed_chain(chain_id)?.into_iter().map(|indexed| indexed.layer).collect())
    }

    /// Returns every layer that is here, in no order.
    #[must_use]
    pub fn layers(&self) -> Vec<Layer> {
        self.inner.layers.index().values().map(|indexed| indexed.layer.clone()).collect()
    }

    /// Returns the folders of a chain's layers, the topmost first.
    ///
    /// # Errors
    /// [`Error::LayerNotFound`] when some of it is not here.
    pub fn layer_folders(&self, chain_id: &ChainId) -> Result<Vec<PathBuf>> {
        let chain = self.indexed_chain(chain_id)?;
        Ok(chain.iter().map(|indexed| self.inner.paths.layer(&indexed.layer.chain_id).join("diff")).collect())
    }

    fn indexed_chain(&self, chain_id: &ChainId) -> Result<Vec<Indexed>> {
        self.inner.layers.chain(chain_id).ok_or_else(|| Error::LayerNotFound(chain_id.clone()))
    }

    /// Returns the short names of a chain's layers, the topmost first.
    pub(crate) fn short_names(&self, chain_id: &ChainId) -> Result<Vec<String>> {
        Ok(self.indexed_chain(chain_id)?.into_iter().map(|indexed| indexed.short).collect())
    }

    /// Returns what each layer of a chain hides by list, with its folder, the topmost first.
    pub(crate) fn hidden_of_chain(&self, chain_id: &ChainId) -> Result<Vec<(PathBuf, Hidden)>> {
        let chain = self.indexed_chain(chain_id)?;
        let read = |indexed: &Indexed| {
            let folder = self.inner.paths.layer(&indexed.layer.chain_id);
            let hidden = match indexed.listed {
                true => record::read::<LayerRecord>(&folder.join("layer.json"))?.and_then(|record| record.hidden),
                false => None,
            };
            Ok((folder.join("diff"), hidden.unwrap_or_default()))
        };
        chain.iter().map(read).collect()
    }

    /// Announces a layer that is about to be fetched and unpacked. Layers above it that have to know it, for a hard link into it or for the looks
    /// of a folder, wait for it as long as this lives.
    ///
    /// Take one for each layer of an image before the first is fetched, and let each go when its layer is done or given up.
    pub fn expect_layer(&self, chain_id: &ChainId) -> Expectation {
        *self.inner.layers.coming().expected.entry(chain_id.clone()).or_default() += 1;
        Expectation { inner: Arc::clone(&self.inner), chain_id: chain_id.clone() }
    }

    /// Unpacks a layer onto `parent`: decompresses by what the bytes are, checks them against `diff_id`, syncs and publishes. A layer that
    /// is here already is not read again; one that another thread unpacks is waited for.
    ///
    /// Blocks for as long as that takes; runs on the calling thread and one more.
    ///
    /// # Errors
    /// [`Error::Layer`], [`Error::WrongDiffId`]; nothing is left then.
    pub fn apply_layer(
        &self,
        parent: Option<&ChainId>,
        diff_id: &DiffId,
        media_type: &str,
        compressed: impl Read,
    ) -> Result<ChainId> {
        self.apply(parent, diff_id, media_type, compressed, false)
    }

    /// As [`Store::apply_layer`], from a plain tar that is content of this store under its diff ID, and so has been proved already.
    ///
    /// # Errors
    /// As [`Store::apply_layer`], and [`Error::BlobNotFound`].
    pub fn apply_plain_layer(&self, parent: Option<&ChainId>, diff_id: &DiffId, media_type: &str) -> Result<ChainId> {
        let head = stream::Decoder::new(self.open_blob(&diff_id.0)?).map_err(Error::io("read", diff_id.0.as_str()))?;
        // The digest of compressed bytes says nothing about the tar within.
        let proved = matches!(head, stream::Decoder::Plain(_));
        self.apply(parent, diff_id, media_type, self.open_blob(&diff_id.0)?, proved)
    }

    fn apply(
        &self,
        parent: Option<&ChainId>,
        diff_id: &DiffId,
        media_type: &str,
        compressed: impl Read,
        proved: bool,
    ) -> Result<ChainId> {
        let chain_id = ChainId::child(parent, diff_id);
        self.inner.ledger.note_chains(parent.into_iter().chain([&chain_id]));
        let Some(_claim) = self.inner.layers.claim(&chain_id) else { return Ok(chain_id) };
        tracing::debug!(%diff_id, media_type, "unpacking layer");
        let staging = Staging::create(&self.inner.paths)?;
        let unpacked = self.unpack_into(&staging, parent, diff_id, compressed, proved)?;
        let layer = Layer {
            chain_id: chain_id.clone(),
            diff_id: diff_id.clone(),
            size_bytes: unpacked.size_bytes,
            parent: parent.cloned(),
        };
        let hidden = self.inner.driver.lists_whiteouts().then_some(unpacked.hidden);
        self.publish(staging, layer, hidden)?;
        Ok(chain_id)
    }

    fn unpack_into(
        &self,
        staging: &Staging,
        parent: Option<&ChainId>,
        diff_id: &DiffId,
        compressed: impl Read,
        proved: bool,
    ) -> Result<Unpacked> {
        let root = staging.root.as_fd();
        let style = self.inner.driver.whiteout_style();
        let open_lower = || self.open_lower(parent);
        let failed = |source| Error::Layer { diff_id: diff_id.clone(), source };
        let work = |stream: &mut stream::Stream| unpack::unpack(stream, root, style, &open_lower);
        if proved {
            return stream::inflate_unhashed(compressed, self.inner.limits, work).map_err(failed);
        }
        let unpacked = stream::inflate(compressed, self.inner.limits, work);
        let (unpacked, digest) = unpacked.map_err(failed)?;
        let actual = DiffId::from(digest);
        if actual != *diff_id {
            return Err(Error::WrongDiffId { expected: diff_id.clone(), actual });
        }
        Ok(unpacked)
    }

    /// The layers below, as one tree, for the few entries that need to know them.
    fn open_lower(&self, parent: Option<&ChainId>) -> Result<Option<OwnedFd>, LayerError> {
        let Some(parent) = parent else { return Ok(None) };
        if !self.inner.layers.settle_chain(parent) {
            return Ok(None);
        }
        self.mount_view(parent).map_err(|error| LayerError::Lower(Box::new(error)))
    }

    fn publish(&self, mut staging: Staging, layer: Layer, hidden: Option<Hidden>) -> Result<()> {
        let chain_id = layer.chain_id.clone();
        let short = self.link(&chain_id)?;
        let record = LayerRecord { layer: layer.clone(), short: short.clone(), hidden, tar_bytes: None };
        let listed = record.hidden.is_some();
        // The sync of the whole file system that follows takes it along.
        record::write_unsynced(&staging.path.join("layer.json"), &record)?;
        rustix::fs::syncfs(&staging.root).map_err(Error::errno("sync", &staging.path))?;
        let target = self.inner.paths.layer(&chain_id);
        fs::rename(&staging.path, &target).map_err(Error::io("publish", &target))?;
        staging.published = true;
        sync_dir(&self.inner.paths.layers())?;
        self.inner.layers.index().insert(chain_id, Indexed { layer, short, listed, tar_bytes: None });
        Ok(())
    }

    /// Makes a short link to a layer that is about to be there.
    fn link(&self, chain_id: &ChainId) -> Result<String> {
        let links = self.inner.paths.links();
        loop {
            let short = short_name();
            let link = links.join(&short);
            match std::os::unix::fs::symlink(link_target(chain_id), &link) {
                Ok(()) => return Ok(short),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("link", &link)(error)),
            }
        }
    }
}

/// Five hundred of four characters and a separator each fit the one page that older kernels read mount options from.
fn short_name() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let number: u32 = rand::random();
    (0..4).map(|place| char::from(LETTERS[(number >> (5 * place)) as usize & 31])).collect()
}

/// A folder out of sight in which a layer is unpacked; removed unless it was published.
struct Staging {
    path: PathBuf,
    root: OwnedFd,
    published: bool,
}

impl Staging {
    fn create(paths: &Paths) -> Result<Self> {
        let path = paths.layers().join(format!(".new-{}", random_name()));
        let diff = path.join("diff");
        let make =
            |path: &Path, mode: u32| fs::DirBuilder::new().mode(mode).create(path).map_err(Error::io("create", path));
        make(&path, 0o700)?;
        make(&diff, 0o755)?;
        let root = unpack::open_trusted(&diff).map_err(Error::errno("open", &diff))?;
        Ok(Self { path, root, published: false })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = remove_tree(&self.path)
        {
            tracing::warn!(%error, "half-unpacked layer stays until the next start");
        }
    }
}
