//! Builds images.
//!
//! A build goes through types, each made from the one before by a function: text of the Dockerfile, its instructions,
//! a [`graph`] of operations, and what executing that graph leaves in the store.

mod attest;
mod builder;
pub mod buildkit;
mod cache;
pub mod classic;
mod clock;
mod content;
pub mod contexts;
mod epoch;
pub mod exchange;
mod export;
mod failure;
mod files;
pub mod gc;
mod git;
pub mod graph;
mod image_form;
mod output;
pub mod plan;
pub mod progress;
mod redact;
pub mod session;
pub mod solve;
mod subrequest;
mod synced;
pub mod tree;
pub mod usage;

pub use builder::{BuildRequest, Builder, Building, Built, BuiltTarget};
pub use cache::{Cache, Record};
pub use epoch::Epoch;
pub use failure::{DockerfileText, Failure, Result};
pub use image_form::ImageForm;
pub use subrequest::EXPAND;
pub use synced::Wanted;
