//! `ferry-netd`: the process that holds the sockets of published ports and answers containers that look for names.
//!
//! One per instance, started with the first published port or resolver, alive while it holds any; it outlives
//! the daemon. Holding the sockets keeps other programs from taking the ports; connections that the
//! firewall does not translate (`::1`, IPv6 to a container without it, everything where rules are
//! off) arrive at them and are relayed.
//!
//! `<exec-root>/netd/`, 0700: `netd.sock` (0600), and `lock`, whose `flock` tells that a process is
//! alive; it is inherited from the daemon, so there is no moment in which two could start.

pub(crate) mod client;
mod dns;
mod learner;
pub(crate) mod protocol;
mod relay;
pub(crate) mod server;
mod udp;
