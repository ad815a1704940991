//! The store through its public surface, on real files.

mod support;

mod archive;
mod built;
mod collection;
mod content;
mod crash;
mod hostile;
mod layers;
mod nested;
mod power;
mod rootfs;
