//! Bytes between a terminal and a container: raw mode, detach keys, frames, resize and signals.

pub(crate) mod attach;
mod detach;
pub(crate) mod frames;
pub(crate) mod resize;
pub(crate) mod signals;
pub(crate) mod terminal;
