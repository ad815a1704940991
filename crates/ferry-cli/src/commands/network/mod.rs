//! Commands on networks.

pub(super) mod list;
