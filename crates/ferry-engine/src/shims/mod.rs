//! Shims as the engine sees them: a pool spawned ahead of need, and one asynchronous connection per live container.
//!
//! Owns the processes until they hold a container; leaves out what a container is. A connection's reader task owns the read half, matches
//! replies to requests and passes events up on a channel that ends when the connection does.

mod connection;
mod pool;

pub(crate) use connection::{ShimCallError, ShimConnection};
pub(crate) use pool::{ShimPool, ShimProcess};
