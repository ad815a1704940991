//! When each image was last used: for choosing which of them may go.
//!
//! Kept in memory and written now and then; what a killed daemon had not written is forgotten, and an image that is not known here counts as
//! used when its name was written.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ferry_spec::Digest;
use ferry_store::{ImageRecord, Store};

use super::{Images, Inner};
use crate::clock;

#[derive(Default)]
pub(super) struct LastUsed {
    state: Mutex<Moments>,
}

#[derive(Default)]
struct Moments {
    by_id: HashMap<Digest, i64>,
    /// Something changed since it was written.
    dirty: bool,
}

impl LastUsed {
    pub(super) fn read(store: &Store) -> Self {
        let by_id = store.last_used();
        // Nothing known is worth writing too: the file then stands from the first start on.
        let dirty = by_id.is_empty();
        Self { state: Mutex::new(Moments { by_id, dirty }) }
    }

    /// Notes that an image is used at this moment.
    pub(super) fn touch(&self, id: &Digest) {
        let mut moments = self.moments();
        moments.by_id.insert(id.clone(), clock::now_ns());
        moments.dirty = true;
    }

    fn moments(&self) -> std::sync::MutexGuard<'_, Moments> {
        // Every change is one insertion; a panic leaves at worst a moment too many.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images {
    /// Writes when images were last used, where that changed.
    pub(crate) fn save_last_used(&self) {
        self.inner.save_last_used();
    }
}

impl Inner {
    /// Returns when the image of these names was last used, Unix time in nanoseconds.
    pub(super) fn last_used(&self, records: &[ImageRecord]) -> i64 {
        let named = records.iter().map(|record| record.updated_ns).max().unwrap_or_default();
        let used = records.first().and_then(|record| self.used.moments().by_id.get(&record.target.digest).copied());
        named.max(used.unwrap_or_default())
    }

    pub(super) fn save_last_used(&self) {
        let here: std::collections::HashSet<Digest> =
            self.state().names.values().map(|record| record.target.digest.clone()).collect();
        let by_id = {
            let mut moments = self.used.moments();
            if !moments.dirty {
                return;
            }
            moments.by_id.retain(|id, _| here.contains(id));
            moments.dirty = false;
            moments.by_id.clone()
        };
        if let Err(error) = self.store.set_last_used(by_id) {
            tracing::warn!(%error, "when images were last used is not kept");
        }
    }
}
