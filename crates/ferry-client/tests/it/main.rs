//! Behaviour of the client against a small daemon.

mod versions;
