//! Holds the sockets of published ports while the daemon is down.

fn main() {}
