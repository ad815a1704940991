//! Dockerfiles, and what a builder makes of them: cases, the place where they are built, and answers in a form that can be compared.
//!
//! BuildKit's answers are recorded by `record-builds` and replayed against ferry. Both build in a sandbox with the same address for
//! what is served ([`place::ADDRESS`]), so that nothing in an image tells them apart but the moment.

pub mod answer;
pub mod buildkit;
pub mod cases;
pub mod ferry;
pub mod images;
pub mod place;

pub use answer::Answer;
pub use cases::Case;
