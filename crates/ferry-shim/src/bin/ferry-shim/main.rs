//! `ferry-shim`: the parent of one container.
//!
//! ```text
//! engine ── control connections (fd 0, shim.sock) ──► Shim ──► ferry_runtime (in this process)
//!        ◄─ replies, events ─┘                         │
//! clients ◄── attached sockets ──► Process ◄── pipes or terminal ──► container
//!                                     └──► LogSink ──► <id>-json.log
//!                                             └──► Forwarder ──► ferry-logger ──► a remote log
//! ```
//! One thread, one `epoll` loop (`shim.rs`), no call that waits on anybody: a reader that does not read gets a queue
//! (`queue.rs`), a process that does not read stops its clients (`input.rs`), a full disk costs counted log lines.
//!
//! Invariants: `exit.json` is written before anyone is told of the end; the end of a connection never ends a container; a shim
//! without a container ends with its first connection, one whose container has ended stays until it is told to go or nobody is
//! connected any more.

mod birth;
mod client;
mod container;
mod control;
mod door;
mod files;
mod foreign;
mod forwarder;
mod input;
mod lines;
mod log_sink;
mod poller;
mod process;
mod queue;
mod requests;
mod rights;
mod runtime;
mod shim;
mod start;
mod stdio;
mod the_end;
mod usage;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(log_sink::COMPRESS_ARGUMENT) => birth::compress(),
        Some(ferry_shim::files::ARGUMENT) => files::main(),
        Some(_) => ExitCode::from(2),
        None => birth::supervise(),
    }
}
