//! The parent of one container: protocol, client and program.

pub mod protocol;
