//! gRPC over HTTP/2, without what is not needed here: no resolvers, no balancing, no compression.
//!
//! A connection is whatever reads and writes. A call is a stream of messages each way; dropping either end of it resets the stream, and
//! the other end learns it.

mod client;
mod frame;
mod server;
mod status;

pub use client::{Channel, Replies};
pub use frame::{Messages, Sender};
pub use http::HeaderMap as Metadata;
pub use server::{Call, Service, serve};
pub use status::{Code, Status};

/// Bytes that a peer may send of one call before they are read.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes that a peer may send of all calls before they are read.
const CONNECTION_WINDOW: u32 = 4 << 20;

#[cfg(test)]
mod tests;
