//! OCI words as plain types and pure parsing.
//!
//! Owns: digests, descriptors, manifests and indexes, image configurations, platforms, references, the runtime configuration.
//! Leaves out: fetching, storing and any other I/O; this crate does none.

pub mod descriptor;
pub mod digest;
pub mod image;
pub mod json;
pub mod manifest;
mod null;
pub mod path;
pub mod platform;
pub mod plugin;
pub mod reference;
pub mod runtime;
pub mod signal;
pub mod tar;
pub mod yaml;

pub use descriptor::{Descriptor, media_type};
pub use digest::{ChainId, DiffId, Digest, DigestError};
pub use image::ImageConfig;
pub use manifest::{Document, Index, Manifest, ManifestError};
pub use platform::Platform;
pub use reference::Reference;
