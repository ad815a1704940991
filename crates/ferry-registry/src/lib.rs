//! The OCI distribution protocol, client side.
//!
//! Owns: which hosts a registry name stands for (mirrors, the Hub), how they are spoken to (TLS, plain HTTP for insecure ones,
//! proxies, private certificates), authentication, redirects, retries and resuming. Hands out verified manifests and raw blob
//! streams.
//!
//! Leaves out: where bytes are kept and what they mean. The digest of a blob is checked by whoever stores it; its
//! length is checked here.
//!
//! Invariants: credentials go to the host they were stored for and to the token realm that this host names, to no other origin
//! (scheme, host and port). No answer is read without a bound on its size and on the time without progress. Neither the
//! environment nor global state is read; everything comes in by [`ClientConfig`].

mod blob;
mod challenge;
mod client;
mod config;
mod credentials;
mod endpoint;
mod error;
mod login;
mod manifest;
mod part;
mod plain;
mod push;
mod request;
mod retry;
mod search;
mod send;
mod tags;
mod tls;
mod token;
mod transport;
mod upload;

pub use blob::BlobStream;
pub use client::{Client, Repository};
pub use config::{Access, ClientConfig, Proxies, RangePolicy, Timeouts};
pub use credentials::Credentials;
pub use endpoint::Mirrors;
pub use error::{Error, RegistryMessage, RequestFailure, Result};
pub use plain::Download;
pub use push::{BlobSource, Pushed, SentBytes};
pub use retry::RetryPolicy;
pub use search::Found;
