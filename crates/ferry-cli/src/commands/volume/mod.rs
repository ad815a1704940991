//! Commands on volumes.

pub(super) mod archive;
pub(super) mod copy;
pub(super) mod create;
pub(super) mod list;
pub(super) mod prune;
pub(super) mod remove;
pub(super) mod update;
pub(super) mod usage;
