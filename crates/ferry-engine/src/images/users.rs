//! Which containers use which image.

use ferry_spec::Digest;

use super::{Images, Inner};

/// One container's use of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) image: Digest,
    pub(super) running: bool,
}

impl Images {
    /// Notes that a container was made of an image, or mounts one: its content stays, and removing the image is refused.
    pub fn acquire(&self, image: &Digest, container_id: &str) {
        self.inner.used.touch(image);
        let mut state = self.inner.state();
        let used = state.users.entry(container_id.to_owned()).or_default();
        if !used.iter().any(|user| user.image == *image) {
            used.push(User { image: image.clone(), running: false });
        }
    }

    /// Notes that a container is gone. Content that only it kept goes with the next removal of an image.
    pub fn release(&self, container_id: &str) {
        let released = self.inner.state().users.remove(container_id);
        // It was in use until now.
        released.into_iter().flatten().for_each(|user| self.inner.used.touch(&user.image));
    }

    /// Notes whether a container runs: the image of a running one cannot be removed even by force.
    pub fn set_running(&self, container_id: &str, running: bool) {
        let mut used = Vec::new();
        for user in self.inner.state().users.get_mut(container_id).into_iter().flatten() {
            user.running = running;
            used.push(user.image.clone());
        }
        used.iter().for_each(|image| self.inner.used.touch(image));
    }
}

impl Inner {
    /// Returns the containers of an image with whether they run, in the order of their ids.
    pub(super) fn users_of(&self, image: &Digest) -> Vec<(String, bool)> {
        let state = self.state();
        let users = state.users.iter().flat_map(|(id, users)| users.iter().map(move |user| (id, user)));
        let mut found: Vec<_> =
            users.filter(|(_, user)| user.image == *image).map(|(id, user)| (id.clone(), user.running)).collect();
        found.sort();
        found
    }
}
