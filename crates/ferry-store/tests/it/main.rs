//! The store through its public surface, on real files.

mod support;

mod collection;
mod content;
mod hostile;
mod layers;
mod rootfs;
