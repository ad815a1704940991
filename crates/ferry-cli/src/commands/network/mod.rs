//! Commands on networks.

pub(super) mod connect;
pub(super) mod create;
pub(super) mod disconnect;
pub(super) mod flows;
mod host_firewall;
mod ipam;
pub(super) mod list;
pub(super) mod ports;
pub(super) mod prune;
pub(super) mod remove;
