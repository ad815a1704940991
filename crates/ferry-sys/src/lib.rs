//! Typed wrappers over kernel calls; the only crate with `unsafe` code.
//!
//! Wrappers take and return owned descriptors and typed flags. Where rustix has a safe call, the other crates use it
//! directly; here is what it lacks, or what needs several calls in an order that matters.
#![allow(unsafe_code, reason = "this crate exists to hold it")]

pub mod bpf;
pub mod capability;
pub mod cgroup_bpf;
pub mod event;
pub mod keyring;
pub mod memfd;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netns;
pub mod path;
pub mod process;
pub mod quota;
pub mod seccomp;
pub mod selinux;
pub mod socket;
pub mod spawn;
pub mod tree;
