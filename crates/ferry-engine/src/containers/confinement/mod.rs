//! What confines a container beside capabilities and namespaces: the words of `SecurityOpt`, system call filters, AppArmor.
//!
//! Owns: reading the words, Docker's format of system call profiles, and the engine's own AppArmor profile with its loading. Leaves out how a
//! process is put under either, which is the runtime's.

pub(crate) mod apparmor;
mod options;
mod seccomp;

pub(super) use self::options::SecurityOptions;
pub(super) use self::seccomp::{Kernel, Wanted, profile};
