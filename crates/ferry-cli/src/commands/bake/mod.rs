//! `bake`: builds what bake files and Compose files describe.

mod building;
mod compose;
mod config;
mod entitlements;
mod evaluate;
mod file;
mod functions;
mod library;
mod listing;
mod md5;
mod order;
mod remote;
mod run;
mod syntax;
mod target;
#[cfg(test)]
mod tests;
mod types;

pub(super) use run::run;
