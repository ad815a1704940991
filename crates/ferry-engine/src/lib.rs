//! The services behind the Engine API.
//!
//! Owns the verbs and the truth about containers, execs, images, networks and volumes; knows no HTTP. Services form a one-way
//! graph: containers → images, networks, volumes; all → events. Public methods take and return `ferry-api` types; records on
//! disk are this crate's own. Blocking work is handed to threads here; nothing below knows tokio.

mod cgroups;
mod clock;
pub mod compare;
pub mod config;
pub mod containers;
mod devices;
mod engine;
mod error;
pub mod events;
pub mod execs;
mod filter;
mod ids;
pub mod images;
mod names;
mod netip;
pub mod networks;
pub mod plugins;
mod selinux;
mod shims;
mod sizes;
pub mod system;
pub mod volumes;
pub mod workshop;

pub use config::EngineConfig;
pub use engine::Engine;
pub use error::{Error, ErrorKind, Result};

/// Runs blocking work on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("work panicked").with_source(error)),
    }
}

/// Runs work to its end even when the caller goes away.
async fn finish<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("work panicked").with_source(error)),
    }
}
