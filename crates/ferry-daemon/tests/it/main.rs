//! The real `ferryd`, on a private socket and data root, in mount and network namespaces of its own.

mod command_line;
mod daemon;
mod http;
mod life;
