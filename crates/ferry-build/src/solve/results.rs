//! What a step leaves besides its root: the trees of mounts that are results.

use ferry_engine::containers::Step;

use crate::failure::Result;
use crate::tree::{BuiltLayer, Layers};

/// A mount whose tree is a result.
pub(super) struct MountResult {
    /// Which output it is.
    pub(super) output: usize,
    /// The layers that it began with.
    base: Layers,
    /// Its place among the mounts of the step, where those could be written to.
    place: Option<usize>,
}

impl MountResult {
    /// One that nobody can change.
    pub(super) fn unchanged(output: usize, base: Layers) -> Self {
        Self { output, base, place: None }
    }

    /// One that has a layer more when the step has ended.
    pub(super) fn changed(output: usize, base: Layers, place: usize) -> Self {
        Self { output, base, place: Some(place) }
    }

    /// Takes it from a step that has ended.
    pub(super) async fn take(&self, step: &Step) -> Result<Layers> {
        match self.place {
            Some(place) => Ok(self.base.with(BuiltLayer::made_now(step.layer_of_mount(place).await?))),
            None => Ok(self.base.clone()),
        }
    }
}
