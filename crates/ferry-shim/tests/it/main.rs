//! The shim as an engine meets it: the real program, real containers on a busybox root.
//!
//! These tests need root, cgroups and `/usr/bin/busybox` (Debian: `busybox-static`); see [`harness::ready`].

#[cfg(test)]
mod containers;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod execs;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod streams;
