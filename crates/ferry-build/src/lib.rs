//! Builds images.
//!
//! A build goes through types, each made from the one before by a function: text of the Dockerfile, its instructions,
//! a [`graph`] of operations, and what executing that graph leaves in the store.

pub mod graph;
pub mod plan;
