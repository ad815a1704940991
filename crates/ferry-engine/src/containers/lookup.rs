//! Finding containers, and who has which name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Container, Containers};
use crate::error::{Error, Result};
use crate::ids;

/// Names and ids in memory; derived from the records at start.
#[derive(Default)]
pub(super) struct Index {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Name to id; an id without a container is a reservation.
    by_name: HashMap<String, String>,
}

/// A name held for a container that is being made; given back on drop unless committed.
pub(super) struct NameReservation {
    containers: Containers,
    name: String,
    committed: bool,
}

impl NameReservation {
    pub(super) fn commit(mut self) {
        self.committed = true;
    }
}

impl Drop for NameReservation {
    fn drop(&mut self) {
        if !self.committed {
            self.containers.inner.index.write().expect("no panic while held").by_name.remove(&self.name);
        }
    }
}

impl Containers {
    /// Finds by whole id, by name, or by a beginning of an id that only one has.
    ///
    /// # Errors
    /// `No such container: x`, or Docker's text for several.
    pub(crate) fn find(&self, reference: &str) -> Result<Arc<Container>> {
        let index = self.inner.index.read().expect("no panic while held");
        if let Some(container) = index.by_id.get(reference) {
            return Ok(Arc::clone(container));
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if let Some(container) = index.by_name.get(name).and_then(|id| index.by_id.get(id)) {
            return Ok(Arc::clone(container));
        }
        let not_found = || Error::not_found(format!("No such container: {reference}"));
        if !ids::is_id_prefix(reference) {
            return Err(not_found());
        }
        let from_here = index.by_id.range(reference.to_owned()..);
        let mut matching = from_here.take_while(|(id, _)| id.starts_with(reference)).map(|(_, container)| container);
        match (matching.next(), matching.next()) {
            (Some(container), None) => Ok(Arc::clone(container)),
            (Some(_), Some(_)) => Err(Error::invalid(format!("multiple IDs found with provided prefix: {reference}"))),
            (None, _) => Err(not_found()),
        }
    }

    /// Every container.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.inner.index.read().expect("no panic while held").by_id.values().cloned().collect()
    }

    /// Holds a name.
    ///
    /// # Errors
    /// Conflict, in Docker's words.
    pub(super) fn reserve_name(&self, name: &str, id: &str) -> Result<NameReservation> {
        let mut index = self.inner.index.write().expect("no panic while held");
        if let Some(owner) = index.by_name.get(name) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that \
                 container to be able to reuse that name."
            )));
        }
        index.by_name.insert(name.to_owned(), id.to_owned());
        Ok(NameReservation { containers: self.clone(), name: name.to_owned(), committed: false })
    }

    /// Lets others find a container; its name is held already, or taken here for one read from disk.
    pub(super) fn insert(&self, container: Arc<Container>) {
        let name = container.name();
        let mut index = self.inner.index.write().expect("no panic while held");
        index.by_name.insert(name, container.id.clone());
        index.by_id.insert(container.id.clone(), container);
    }

    /// Forgets a container and frees its name.
    pub(super) fn forget(&self, container: &Container) {
        let name = container.name();
        let mut index = self.inner.index.write().expect("no panic while held");
        index.by_id.remove(&container.id);
        if index.by_name.get(&name) == Some(&container.id) {
            index.by_name.remove(&name);
        }
    }

    /// Frees a name that a rename has left.
    pub(super) fn free_name(&self, name: &str) {
        self.inner.index.write().expect("no panic while held").by_name.remove(name);
    }

    pub(super) fn has_id(&self, id: &str) -> bool {
        self.inner.index.read().expect("no panic while held").by_id.contains_key(id)
    }
}
