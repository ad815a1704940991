//! OCI runtime as a library: create, start, exec over a configuration and passed descriptors.
//!
//! Owns: turning an OCI configuration into namespaces, mounts, cgroups, rights and a running process. Leaves out: bundles on disk, state files
//! and runc's command line (the program over this library), stdio, logs and exit status (the caller is the parent and waits).
//!
//! Invariants: no async, no threads of its own. No path below a container's root is ever used as a string on the host side; it is
//! resolved against the root's descriptor. A failed call leaves no process, mount or cgroup.
//!
//! [`create`], [`run`] and [`exec`] start direct children of the caller, which must wait for them.

pub mod cgroup;
mod channel;
mod container;
mod error;
mod exec;
pub mod hooks;
mod init;
mod plan;
mod root;
mod seccomp;
pub mod systemd;

pub use container::{Container, CreateOptions, Rootfs, Stdio, create, run};
pub use error::{Error, ErrorKind};
pub use exec::{ExecOptions, ExecProcess, ExecTarget, exec, exec_with};
pub use init::view;
