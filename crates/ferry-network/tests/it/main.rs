//! The crate against the kernel, each test in network namespaces of its own.
//!
//! Needs root, `ip`, `nft` and `conntrack`; without root every test says so and passes, without the
//! programs it fails.

mod attach;
mod host;
mod isolation;
mod names;
mod publish;
mod restart;
