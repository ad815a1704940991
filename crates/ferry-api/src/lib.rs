//! Wire types of the Engine API, its stream framing and its versions.
//!
//! Owns: the JSON shapes as they travel, the tolerant reader of [`json`], filters, the frame header of multiplexed streams, and
//! the one place ([`version`]) where a reply is shaped for an older API version.
//! Leaves out: HTTP, files, the engine's records on disk (a wire type is never an on-disk format), any validation of meaning.
//! Invariants: this crate does no I/O. Structs always describe the newest version. A Go slice or map without `omitempty` is an `Option`,
//! because clients tell `null` from `[]`; one with `omitempty` is a plain collection that is left out when empty. Maps are sorted as
//! Go sorts them. Addresses and times are strings: the empty one is Go's zero value.

pub mod build;
pub mod compare;
pub mod container;
pub mod context;
pub mod error;
pub mod event;
pub mod exec;
pub mod filters;
pub mod image;
pub mod json;
pub mod network;
pub mod plugin;
pub mod span;
pub mod stream;
pub mod system;
pub mod version;
pub mod volume;
