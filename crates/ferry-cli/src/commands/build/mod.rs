//! `build`, and what building keeps.

mod dockerignore;
mod options;
mod output;
mod pack;
mod plain;
pub(super) mod prune;
mod run;
mod terminal;
pub(super) mod usage;

pub(super) use run::run;
