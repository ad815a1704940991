//! Commands on volumes.

pub(super) mod create;
pub(super) mod list;
pub(super) mod prune;
pub(super) mod remove;
