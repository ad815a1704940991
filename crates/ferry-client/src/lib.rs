//! Typed client of the Engine API, one method per endpoint.
//!
//! Owns connections (opened when first needed, used again when idle), version negotiation, hijacked streams with
//! half-close and errors that carry status and message. Leaves out everything a user sees. Inspect answers pass
//! through as raw JSON, because a typed copy would lose what a newer daemon adds. Meant for one current-thread
//! runtime: the client is neither `Send` nor `Sync`.

mod build;
mod connection;
mod container;
mod container_files;
mod endpoint;
mod error;
mod exec;
mod hijack;
mod image;
mod network;
mod plugin;
mod request;
mod stream;
mod system;
mod tls;
mod volume;

pub use build::{BuildCacheEntry, BuildPruneReport, BuildQuery};
pub use connection::{Client, Ping, Raw};
pub use container::{AttachOptions, LogsOptions, StopOptions, Wait};
pub use container_files::CommitOptions;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, Result};
pub use hijack::{Hijacked, ReadHalf, WriteHalf};
pub use request::Query;
pub use stream::ByteStream;
pub use tls::{Tls, TlsError, TlsMaterial};
pub use volume::VolumeCopy;
