//! Commands on the daemon.

pub(super) mod events;
pub(super) mod info;
