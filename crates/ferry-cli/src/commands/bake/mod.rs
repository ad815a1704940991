//! `bake`: builds what bake files and Compose files describe.

mod compose;
mod config;
mod evaluate;
mod file;
mod functions;
mod library;
mod md5;
mod order;
mod run;
mod target;
#[cfg(test)]
mod tests;

pub(super) use run::run;
