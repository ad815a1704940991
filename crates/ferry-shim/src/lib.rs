//! The parent of one container: protocol, client, log format.
//!
//! Owns the words between engine and shim ([`protocol`], [`framing`]), the engine's end of them ([`client`]), those for work in a container's
//! files ([`files`]), what a writable layer changed ([`layer`]), the logs that the shim writes and the engine reads ([`log`]), and the words between a shim and the `ferry-logger`
//! that carries lines elsewhere ([`forward`]). The program itself is the binary `ferry-shim`; the engine never names `ferry_runtime`.

pub mod client;
pub mod files;
pub mod forward;
pub mod framing;
pub mod layer;
pub mod log;
pub mod protocol;
