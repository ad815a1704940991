//! Commands on plugins.

pub(super) mod create;
pub(super) mod install;
pub(super) mod list;
pub(super) mod push;
pub(super) mod upgrade;
pub(super) mod verbs;
