//! `build`, and what building keeps.

mod agents;
pub(super) mod attests;
mod caches;
mod dockerignore;
mod options;
mod output;
mod outputs;
mod pack;
mod plain;
pub(super) mod prune;
mod run;
pub(super) mod shown;
mod store;
mod terminal;

pub(super) use run::{run, run_with};
