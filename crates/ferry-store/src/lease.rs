//! Leases: what is being written or was just found is not collected.
//!
//! While a lease lives, every blob and layer that anybody writes or finds is noted with a running number. A collection spares
//! whatever was noted since the oldest lease that lived when the collection began, so the holder of a lease does not have to list
//! what it needs: it takes the lease, then looks, then fetches, then writes the record that keeps things, then lets go.
//!
//! The lock is held for a look-up and one unlink at a time, never across a transfer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferry_spec::digest::{ChainId, Digest};

/// Holds everything that is written or found while it lives.
#[derive(Debug)]
#[must_use = "a lease holds nothing once it is dropped"]
pub struct Lease {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ledger.lock().leave(self.number);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
pub(crate) struct Notes {
    next: u64,
    /// Lease number to the sequence number it started at.
    leases: BTreeMap<u64, u64>,
    blobs: HashMap<Digest, u64>,
    chains: HashMap<ChainId, u64>,
}

impl Ledger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Notes> {
        // A panic elsewhere leaves at worst a note too many.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lease(self: &Arc<Self>) -> Lease {
        let number = self.lock().enter();
        Lease { ledger: Arc::clone(self), number }
    }

    pub(crate) fn note_blob(&self, digest: &Digest) {
        self.lock().note_blob(digest);
    }

    pub(crate) fn note_chains<'a>(&self, chain_ids: impl IntoIterator<Item = &'a ChainId>) {
        let mut notes = self.lock();
        for chain_id in chain_ids {
            notes.note_chain(chain_id);
        }
    }
}

impl Notes {
    fn enter(&mut self) -> u64 {
        let number = self.tick();
        self.leases.insert(number, number);
        number
    }

    fn leave(&mut self, number: u64) {
        self.leases.remove(&number);
        match self.floor() {
            None => {
                self.blobs.clear();
                self.chains.clear();
            }
            Some(floor) => {
                self.blobs.retain(|_, seen| *seen >= floor);
                self.chains.retain(|_, seen| *seen >= floor);
            }
        }
    }

    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn floor(&self) -> Option<u64> {
        self.leases.values().min().copied()
    }

    fn note_blob(&mut self, digest: &Digest) {
        if !self.leases.is_empty() {
            let now = self.tick();
            self.blobs.insert(digest.clone(), now);
        }
    }

    fn note_chain(&mut self, chain_id: &ChainId) {
        if !self.leases.is_empty() {
            let now = self.tick();
            self.chains.insert(chain_id.clone(), now);
        }
    }

    /// Makes a lease that starts where the oldest one does: what those that end meanwhile have noted stays noted.
    fn enter_at_floor(&mut self) -> u64 {
        let number = self.tick();
        let start = self.floor().unwrap_or(number);
        self.leases.insert(number, start);
        number
    }

    pub(crate) fn holds_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    pub(crate) fn holds_chain(&self, chain_id: &ChainId) -> bool {
        self.chains.contains_key(chain_id)
    }
}

/// Begins a collection: from here on nothing noted is forgotten until the returned lease is dropped.
pub(crate) fn begin_collection(ledger: &Arc<Ledger>) -> Lease {
    let number = ledger.lock().enter_at_floor();
    Lease { ledger: Arc::clone(ledger), number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_live_as_long_as_a_lease_that_saw_them() {
        let ledger = Arc::new(Ledger::default());
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        ledger.note_blob(&a);
        assert!(!ledger.lock().holds_blob(&a), "nothing is noted without a lease");
        let first = ledger.lease();
        ledger.note_blob(&a);
        let second = ledger.lease();
        ledger.note_blob(&b);
        drop(first);
        assert!(!ledger.lock().holds_blob(&a));
        assert!(ledger.lock().holds_blob(&b));
        drop(second);
        assert!(!ledger.lock().holds_blob(&b));
    }

    #[test]
    fn a_collection_keeps_what_leases_before_it_noted() {
        let ledger = Arc::new(Ledger::default());
        let a = Digest::sha256(b"a");
        let pull = ledger.lease();
        ledger.note_blob(&a);
        let collection = begin_collection(&ledger);
        drop(pull);
        assert!(ledger.lock().holds_blob(&a));
        drop(collection);
        assert!(!ledger.lock().holds_blob(&a));
    }
}
