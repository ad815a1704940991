//! Two tiny static programs, carried as bytes by whoever needs them.
//!
//! Their sources lie in `programs/`; the build script compiles them, for they are `no_std` programs that abort on panic, which a
//! workspace of unwinding crates cannot have as ordinary members. This crate does no I/O.

/// The PID 1 of `--init`: `ferry-init [--] PROGRAM [ARGUMENT...]`.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// The program of the bundled hello-world image.
pub const HELLO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello"));
