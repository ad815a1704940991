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

impl Index {
    fn take_name(&mut self, name: &str, id: &str) -> Result<()> {
        if let Some(owner) = self.by_name.get(name) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that \
                 container to be able to reuse that name."
            )));
        }
        self.by_name.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// Takes one of the names that `name` makes for each attempt. One that is held is passed over, whether or not there is a container yet.
    fn take_any_name(&mut self, id: &str, name: impl Fn(u32) -> String) -> Result<String> {
        for attempt in 0..6 {
            let name = name(attempt);
            if self.take_name(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let name = &id[..12];
        self.take_name(name, id).map(|()| name.to_owned())
    }
}

/// A name held for a container that is being made; given back on drop unless committed.
pub(super) struct NameReservation {
    containers: Containers,
    name: String,
    committed: bool,
}

impl NameReservation {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

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
        self.inner.index.write().expect("no panic while held").take_name(name, id)?;
        Ok(NameReservation { containers: self.clone(), name: name.to_owned(), committed: false })
    }

    /// Holds a name for a container that was given none.
    ///
    /// # Errors
    /// Conflict, when even the beginning of the id is somebody's name.
    pub(super) fn reserve_any_name(&self, id: &str) -> Result<NameReservation> {
        let mut index = self.inner.index.write().expect("no panic while held");
        let name = index.take_any_name(id, crate::names::random)?;
        Ok(NameReservation { containers: self.clone(), name, committed: false })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_held_for_somebody_else_is_not_given_to_a_container_without_one() {
        let mut index = Index::default();
        let id = "0123456789abcdef";
        index.take_name("calm_curie", "another").expect("free");
        let name = |attempt: u32| if attempt == 0 { "calm_curie".to_owned() } else { "calm_curie7".to_owned() };
        assert_eq!(index.take_any_name(id, name).expect("the next one"), "calm_curie7");
        assert_eq!(index.take_any_name(id, name).expect("its own"), "0123456789ab");
        assert!(index.take_any_name(id, name).is_err());
        assert!(index.take_name("calm_curie", id).is_err());
    }
}
