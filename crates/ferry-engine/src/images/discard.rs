//! Content of single platforms goes while the image stays.

use ferry_spec::{Descriptor, Digest, Document};
use ferry_store::Live;

use super::Inner;
use crate::error::{Context, Result};

impl Inner {
    /// Removes the content of manifests, as far as nothing but the indexes that name them needs it; returns the digests of those that
    /// were here. Their unpacked layers go with the next collection.
    pub(super) fn discard_manifests(&self, manifests: &[Descriptor]) -> Result<Vec<Digest>> {
        let doomed = |digest: &Digest| manifests.iter().any(|one| one.digest == *digest);
        let mut kept = Live::default();
        for target in self.every_target() {
            match self.store.document(&target) {
                Ok(Document::Index(index)) => {
                    kept.blobs.insert(target.digest.clone());
                    for child in index.manifests.iter().filter(|child| !doomed(&child.digest)) {
                        kept.extend(self.store.reachable(child));
                    }
                }
                _ => kept.extend(self.store.reachable(&target)),
            }
        }
        let mut gone = Vec::new();
        for manifest in manifests.iter().filter(|one| self.store.has_blob(&one.digest)) {
            for digest in self.store.reachable(manifest).blobs {
                if kept.blobs.contains(&digest) {
                    continue;
                }
                self.store.discard_blob(&digest).context("cannot remove image content")?;
                if digest == manifest.digest {
                    gone.push(digest);
                }
            }
        }
        Ok(gone)
    }

    /// Returns what every name and every container leads to.
    pub(super) fn every_target(&self) -> Vec<Descriptor> {
        let state = self.state();
        let named = state.names.values().map(|record| record.target.clone());
        let used = state.users.values().flatten().map(|user| Descriptor::new("", user.image.clone(), 0));
        named.chain(used).collect()
    }
}
