//! The harness that end-to-end tests stand on.
//!
//! Owns: sandboxes (own mount, network, PID and cgroup namespaces), real daemons inside them, test
//! images and a registry that serves them, the leak checker, and the differential tables that are
//! recorded from a real Docker and replayed against ferry.
//!
//! Leaves out: anything that ships. No product crate depends on this one, and this one starts the
//! product only as programs, the way a user does.
//!
//! Invariants: nothing here touches the host's links, rules, sysctls or cgroups outside of a
//! sandbox; everything in a sandbox dies with it; nothing waits by a fixed sleep, every wait polls
//! a condition up to a deadline and says what it waited for.

pub mod api;
pub mod bad_values;
pub mod builds;
pub mod command;
pub mod daemon;
pub mod differential;
pub mod hostile;
pub mod image;
pub mod leak;
pub mod material;
pub mod oracle;
pub mod plugin;
mod plugin_network;
pub mod programs;
pub mod registry;
pub mod sandbox;
pub mod strip;
pub mod surface;
pub mod terminal;
pub mod wait;

pub use command::Outcome;
pub use daemon::Daemon;
pub use sandbox::Sandbox;
