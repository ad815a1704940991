//! Commands on the daemon.

pub(super) mod disk_usage;
pub(super) mod doctor;
pub(super) mod events;
pub(super) mod info;
pub(super) mod prune;
