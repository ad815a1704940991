//! BuildKit's wire: the messages that its clients and daemons exchange, and gRPC to carry them.
//!
//! [`messages`] are plain structs with the tags of BuildKit's own definitions, as far as ferry has a use for them: a field that is not
//! here is skipped when it is read. [`grpc`] speaks over connections that somebody else made, such as HTTP requests that were upgraded,
//! as client and as server. Both are used on both sides of the socket. Knows nothing of builds.

pub mod grpc;
pub mod messages;

pub use prost::Message;
