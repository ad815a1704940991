//! `build`, and what building keeps.

mod agents;
mod attests;
mod caches;
mod dockerignore;
mod options;
mod output;
mod pack;
mod plain;
pub(super) mod prune;
mod run;
mod store;
mod terminal;
pub(super) mod usage;

pub(super) use run::{run, run_with};
