//! End-to-end tests, by noun, against real daemons in sandboxes of their own.

mod leak;
mod sandbox;
