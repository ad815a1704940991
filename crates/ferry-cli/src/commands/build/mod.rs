//! `build`, and what building keeps.

mod agents;
pub(super) mod attests;
mod caches;
pub(super) mod display;
mod dockerignore;
mod options;
mod output;
mod outputs;
mod pack;
mod plain;
pub(super) mod policy;
pub(super) mod prune;
mod run;
mod shell;
pub(super) mod shown;
mod store;
mod terminal;

pub(super) use caches::layout;
pub(super) use options::Progress;
pub(super) use run::{Built, Order, run};
