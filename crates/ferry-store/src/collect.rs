//! Collection: what nothing reaches goes.
//!
//! Nothing is removed that an image name or the caller's [`Live`] reaches, nor what a lease holds (see [`crate::lease`]). A layer is
//! first renamed out of sight, which is the moment it is gone, and its files follow; a start finishes what was cut short.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use ferry_spec::digest::{Algorithm, Digest};

use crate::Store;
use crate::error::{Error, Result};
use crate::images::Live;
use crate::lease::begin_collection;

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bytes of blobs and layers.
    pub bytes: u64,
    /// Digests of the blobs.
    pub blobs: Vec<Digest>,
    /// Chain ids of the layers.
    pub layers: Vec<ferry_spec::digest::ChainId>,
}

impl Store {
    /// Removes everything that neither an image name, nor `live`, nor a lease reaches.
    ///
    /// `live` must have been computed while nobody could have added to it; where others may be at work use [`Store::collect_with`].
    ///
    /// # Errors
    /// When something cannot be listed or removed; what was removed before stays so.
    pub fn collect(&self, live: &Live) -> Result<Collected> {
        self.collect_with(|| live.clone())
    }

    /// As [`Store::collect`], with `live` called after the point from which leases count: something that its holder let go of, after
    /// it had written the record that keeps it, is either in what `live` returns or still held.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn collect_with(&self, live: impl FnOnce() -> Live) -> Result<Collected> {
        let _one_at_a_time = self.inner.collecting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _lease = begin_collection(&self.inner.ledger);
        let mut live = live();
        for image in self.images()? {
            live.extend(self.reachable(&image.target));
        }
        let mut collected = Collected::default();
        self.collect_layers(&live, &mut collected)?;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            self.collect_blobs(algorithm, &live, &mut collected)?;
        }
        self.collect_partials(&mut collected)?;
        Ok(collected)
    }

    fn collect_layers(&self, live: &Live, collected: &mut Collected) -> Result<()> {
        for (chain_id, size_bytes, moved) in self.inner.layers.retire_unreachable(self, live)? {
            remove_tree(&moved)?;
            collected.bytes += size_bytes;
            collected.layers.push(chain_id);
        }
        Ok(())
    }

    fn collect_blobs(&self, algorithm: Algorithm, live: &Live, collected: &mut Collected) -> Result<()> {
        let folder = self.inner.paths.blobs(algorithm);
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(|hex| Digest::parse(&format!("{algorithm}:{hex}")).ok()) else {
                continue;
            };
            if live.blobs.contains(&digest) {
                continue;
            }
            let size = entry.metadata().map_or(0, |m| m.len());
            // Held across look and removal, so that nobody can find it in between and rely on it.
            let notes = self.inner.ledger.lock();
            if notes.holds_blob(&digest) {
                continue;
            }
            match fs::remove_file(entry.path()) {
                // Dropped or discarded since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                removed => removed.map_err(Error::io("remove", entry.path()))?,
            }
            drop(notes);
            collected.bytes += size;
            collected.blobs.push(digest);
        }
        Ok(())
    }

    /// Partials that nobody has come back to for an hour.
    fn collect_partials(&self, collected: &mut Collected) -> Result<()> {
        let folder = self.inner.paths.ingest();
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            let name = entry.file_name();
            let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".part")) else { continue };
            let Ok(digest) = Digest::parse(&stem.replacen('-', ":", 1)) else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            let old = metadata.modified().is_ok_and(|t| t.elapsed().is_ok_and(|age| age > Duration::from_secs(3600)));
            let notes = self.inner.ledger.lock();
            if notes.holds_blob(&digest) || !old {
                continue;
            }
            if fs::remove_file(entry.path()).is_ok() {
                collected.bytes += metadata.len();
            }
        }
        Ok(())
    }
}

/// Removes a folder and everything below, never following links; gone already is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(source)),
        _ => Ok(()),
    }
}
