//! Layers that are built here: unpacked from a tar that nobody else has seen, or taken over as the files that they are; used at once, and
//! brought to the disk together.
//!
//! Such a layer keeps no blob. Its blob is the tar itself, whose digest is its diff ID, and which is made again when somebody asks for it.
//! Between publication and [`Store::settle`] its folder carries a mark, by which a start finds and removes it: a power cut may have taken
//! some of its files. Nothing that outlives the daemon may name it before it is settled.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use ferry_spec::digest::{Algorithm, ChainId, DiffId, Digest, Hasher};
use rustix::fs::{Mode, OFlags};

use super::hidden::Hidden;
use super::recipe::RecipeWriter;
use super::stream::{self, Written};
use super::{Indexed, Layer, LayerError, LayerRecord, Staging, UNSETTLED, recipe, unpack};
use crate::Store;
use crate::content::sync_dir;
use crate::error::{Error, Result};
use crate::paths::random_name;
use crate::record;

/// The file with the recipe.
const RECIPE: &str = "tar.zst";

/// A layer that is unpacked and that nobody can see yet; dropped, it leaves nothing.
pub struct NewLayer {
    staging: Staging,
    layer: Layer,
    hidden: Option<Hidden>,
    tar_bytes: u64,
}

impl NewLayer {
    /// What it is going to be.
    #[must_use]
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Bytes of its tar.
    #[must_use]
    pub fn tar_bytes(&self) -> u64 {
        self.tar_bytes
    }
}

impl std::fmt::Debug for NewLayer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NewLayer").field("layer", &self.layer).finish_non_exhaustive()
    }
}

/// A tar that is told and not written: its digest, and how it is made.
pub struct TarNotes {
    hasher: Hasher,
    recipe: RecipeWriter,
    bytes: u64,
    content_bytes: u64,
    buffer: Vec<u8>,
}

impl TarNotes {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hasher: Hasher::new(Algorithm::Sha256),
            recipe: RecipeWriter::new()?,
            bytes: 0,
            content_bytes: 0,
            buffer: vec![0; 256 * 1024],
        })
    }

    /// Takes bytes of the tar.
    ///
    /// # Errors
    /// Never for long: they stay in memory.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.recipe.bytes(bytes)
    }

    /// Takes the content of a file of the layer.
    ///
    /// # Errors
    /// When it cannot be read, or is shorter.
    pub fn file(&mut self, path: &[u8], mut file: File, length: u64) -> io::Result<()> {
        self.recipe.file(path, length)?;
        let mut left = length;
        while left > 0 {
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match file.read(&mut self.buffer[..wanted]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.hasher.update(&self.buffer[..read]);
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes += length;
        self.content_bytes += length;
        Ok(())
    }
}

impl Store {
    /// Unpacks a plain tar that becomes a layer on top of `parent`. Blocks; runs on the calling thread and one more.
    ///
    /// # Errors
    /// [`Error::Layer`]; nothing is left then.
    pub fn unpack_new_layer(&self, parent: Option<&ChainId>, tar: impl Read) -> Result<NewLayer> {
        self.inner.ledger.note_chains(parent);
        let staging = Staging::create(&self.inner.paths)?;
        let style = self.inner.driver.whiteout_style();
        let open_lower = || self.open_lower(parent);
        let root = staging.root.as_fd();
        let unpacked = stream::write_down(tar, self.inner.limits, |stream| {
            let unpacked = unpack::unpack(stream, root, style, &open_lower)?;
            match unpacked.replaced {
                // The content of the first would be gone.
                true => Err(LayerError::Recipe(io::Error::other("a path comes twice"))),
                false => Ok(unpacked),
            }
        });
        let (unpacked, Written { digest, bytes, recipe }) = unpacked.map_err(Error::UnverifiedLayer)?;
        let diff_id = DiffId(digest);
        let path = staging.path.join(RECIPE);
        fs::write(&path, recipe).map_err(Error::io("write", &path))?;
        let layer = Layer {
            chain_id: ChainId::child(parent, &diff_id),
            diff_id,
            size_bytes: unpacked.size_bytes,
            parent: parent.cloned(),
        };
        let hidden = self.inner.driver.lists_whiteouts().then_some(unpacked.hidden);
        Ok(NewLayer { staging, layer, hidden, tar_bytes: bytes })
    }

    /// Takes over the upper folder of an overlay mount that is no more as the files of a layer on top of `parent`. `tell` tells the tar that the
    /// layer is, whose content is that of the files. Nobody else may know the folder. Blocks.
    ///
    /// # Errors
    /// When it cannot be read or moved.
    pub fn adopt_new_layer(
        &self,
        parent: Option<&ChainId>,
        upper: &Path,
        tell: impl FnOnce(&mut TarNotes) -> io::Result<()>,
    ) -> Result<NewLayer> {
        self.inner.ledger.note_chains(parent);
        let staging = Staging::create(&self.inner.paths)?;
        let mut notes = TarNotes::new().map_err(Error::io("pack", upper))?;
        tell(&mut notes).map_err(Error::io("pack", upper))?;
        let TarNotes { hasher, recipe, bytes, content_bytes, .. } = notes;
        let path = staging.path.join(RECIPE);
        recipe.finish().and_then(|recipe| fs::write(&path, recipe)).map_err(Error::io("write", &path))?;
        // A layer says nothing of its root.
        fs::set_permissions(upper, fs::Permissions::from_mode(0o755)).map_err(Error::io("chmod", upper))?;
        std::os::unix::fs::chown(upper, Some(0), Some(0)).map_err(Error::io("chown", upper))?;
        let diff = staging.path.join("diff");
        fs::rename(upper, &diff).map_err(Error::io("move", &diff))?;
        let diff_id = DiffId(hasher.finish());
        let chain_id = ChainId::child(parent, &diff_id);
        let layer = Layer { chain_id, diff_id, size_bytes: content_bytes, parent: parent.cloned() };
        Ok(NewLayer { staging, layer, hidden: None, tar_bytes: bytes })
    }

    /// Makes a new layer visible. It is to be settled before anything that lasts names it.
    ///
    /// # Errors
    /// When it cannot be put in its place.
    pub fn publish_new_layer(&self, new: NewLayer) -> Result<Layer> {
        let NewLayer { mut staging, layer, hidden, tar_bytes } = new;
        let chain_id = layer.chain_id.clone();
        self.inner.ledger.note_chains(layer.parent.iter().chain([&chain_id]));
        let Some(_claim) = self.inner.layers.claim(&chain_id) else {
            return self.adopt_recipe(&staging, layer, tar_bytes);
        };
        let short = self.link(&chain_id)?;
        let tar_bytes = Some(tar_bytes);
        let record = LayerRecord { layer: layer.clone(), short: short.clone(), hidden, tar_bytes };
        let listed = record.hidden.is_some();
        let mark = staging.path.join(UNSETTLED);
        File::create(&mark).map_err(Error::io("create", &mark))?;
        record::write_unsynced(&staging.path.join("layer.json"), &record)?;
        let target = self.inner.paths.layer(&chain_id);
        {
            // Together: whoever settles an earlier layer of this chain must not take the mark of this one for that one's.
            let mut unsettled = self.unsettled();
            fs::rename(&staging.path, &target).map_err(Error::io("publish", &target))?;
            unsettled.push(chain_id.clone());
        }
        staging.published = true;
        self.inner.layers.index().insert(chain_id, Indexed { layer: layer.clone(), short, listed, tar_bytes });
        Ok(layer)
    }

    /// The same layer is here already: it learns how its tar is made, unless that lies here too.
    fn adopt_recipe(&self, staging: &Staging, layer: Layer, tar_bytes: u64) -> Result<Layer> {
        if self.has_blob(&layer.diff_id.0) {
            return Ok(layer);
        }
        let folder = self.inner.paths.layer(&layer.chain_id);
        let (from, to) = (staging.path.join(RECIPE), folder.join(RECIPE));
        fs::rename(&from, &to).map_err(Error::io("publish", &to))?;
        let path = folder.join("layer.json");
        if let Some(mut record) = record::read::<LayerRecord>(&path)? {
            record.tar_bytes = Some(tar_bytes);
            File::open(&to).and_then(|file| file.sync_all()).map_err(Error::io("sync", &to))?;
            record::write(&path, &record)?;
        }
        if let Some(indexed) = self.inner.layers.index().get_mut(&layer.chain_id) {
            indexed.tar_bytes = Some(tar_bytes);
        }
        Ok(layer)
    }

    /// Brings every layer that was built to the disk. What is acknowledged or named afterwards finds them after a power cut.
    ///
    /// # Errors
    /// When the disk does not take them; they stay unsettled then.
    pub fn settle(&self) -> Result<()> {
        // Whoever comes while somebody else settles waits until that is done; layers go on being published meanwhile.
        let _one_at_a_time = self.inner.layers.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let chains = std::mem::take(&mut *self.unsettled());
        let settled = self.settle_these(&chains);
        if settled.is_err() {
            self.unsettled().extend(chains);
        }
        settled
    }

    fn settle_these(&self, chains: &[ChainId]) -> Result<()> {
        if chains.is_empty() {
            return Ok(());
        }
        let layers = self.inner.paths.layers();
        let folder = File::open(&layers).map_err(Error::io("open", &layers))?;
        rustix::fs::syncfs(&folder).map_err(Error::errno("sync", &layers))?;
        for chain_id in chains {
            let mark = self.inner.paths.layer(chain_id).join(UNSETTLED);
            let unsettled = self.unsettled();
            if unsettled.contains(chain_id) {
                // It was collected and built again meanwhile: what was synced is not what is there.
                continue;
            }
            match fs::remove_file(&mark) {
                // It was collected meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(Error::io("settle", &mark))?,
            }
        }
        // Not only the names: without them a start would take the layers for unsettled ones.
        rustix::fs::syncfs(&folder).map_err(Error::errno("sync", &layers))
    }

    fn unsettled(&self) -> MutexGuard<'_, Vec<ChainId>> {
        self.inner.layers.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The layer whose tar is this content, and the bytes of that, where a recipe says how it is made.
    pub(crate) fn made_of(&self, digest: &Digest) -> Option<(ChainId, u64)> {
        let found = {
            let index = self.inner.layers.index();
            let of_it = index.values().find(|one| one.tar_bytes.is_some() && one.layer.diff_id.0 == *digest)?;
            (of_it.layer.chain_id.clone(), of_it.tar_bytes?)
        };
        // Noted, then looked for again: a collection in between would else take it.
        self.inner.ledger.note_chains([&found.0]);
        self.inner.layers.index().contains_key(&found.0).then_some(found)
    }

    /// Makes the tar of a layer in a file without a name.
    pub(crate) fn make_blob(&self, digest: &Digest, chain_id: &ChainId) -> Result<File> {
        let folder = self.inner.paths.layer(chain_id);
        let path = folder.join(RECIPE);
        let recipe = File::open(&path).map_err(Error::io("open", &path))?;
        let diff = folder.join("diff");
        let root = unpack::open_trusted(&diff).map_err(Error::errno("open", &diff))?;
        let failed = |error| Error::io("make again", &diff)(error);
        let mut made = Hashing { inner: self.nameless()?, hasher: Hasher::new(Algorithm::Sha256) };
        let mut buffered = io::BufWriter::with_capacity(256 * 1024, &mut made);
        recipe::follow(recipe, root.as_fd(), &mut buffered).and_then(|()| buffered.flush()).map_err(failed)?;
        drop(buffered);
        let Hashing { inner: mut file, hasher } = made;
        let actual = hasher.finish();
        if actual != *digest {
            return Err(Error::WrongDigest { expected: digest.clone(), actual });
        }
        file.rewind().map_err(failed)?;
        Ok(file)
    }

    /// A file that is gone when nobody has it open.
    fn nameless(&self) -> Result<File> {
        let ingest = self.inner.paths.ingest();
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::open(&ingest, OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode) {
            Ok(fd) => return Ok(fd.into()),
            // Not every file system has such files.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(Error::errno("create a file in", &ingest)(errno)),
        }
        let path = ingest.join(random_name());
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        sync_dir(&ingest)?;
        Ok(file)
    }
}

struct Hashing {
    inner: File,
    hasher: Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_is_built_again_while_it_is_settled_keeps_its_mark() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let publish = || store.publish_new_layer(store.unpack_new_layer(None, &[0; 1024][..]).unwrap()).unwrap();
        let chain = publish().chain_id;
        let folder = store.inner.paths.layer(&chain);
        let begun = std::mem::take(&mut *store.unsettled());
        store.inner.layers.index().remove(&chain);
        fs::remove_dir_all(&folder).unwrap();
        publish();
        store.settle_these(&begun).unwrap();
        assert!(folder.join(UNSETTLED).exists(), "its files were not there when the disk was synced");
        store.settle().unwrap();
        assert!(!folder.join(UNSETTLED).exists());
    }
}
