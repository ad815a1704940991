//! `ferry-logger`: carries the lines of one container to a server: syslog, fluentd, GELF or the host's journal.
//!
//! ```text
//! ferry-shim ── descriptor 0: lines ──► Inbox ──► Driver ──► server
//!            ◄─ reports ────────────────┘
//! ```
//! A process of its own, because servers may be slow, gone or hostile, and TLS is large: the shim stays small and never waits. Two
//! threads: this one reads lines and says when to stop, the other one delivers, and may hang as long as its server does.
//!
//! Invariants: nothing is read while enough waits, so the shim sees whether the server keeps up; after the end of the container
//! it ends within [`LONGEST`], and within [`PATIENCE`] once nothing moves any more.

mod dial;
mod driver;
mod fluentd;
mod gelf;
mod inbox;
mod journald;
mod moment;
mod msgpack;
mod plugin;
mod syslog;
mod tls;

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferry_shim::forward::{Begin, Report, Server};
use ferry_shim::framing::{self, HEADER_BYTES};
use ferry_sys::capability::{self, Sets};
use rustix::process::DumpableBehavior;

use crate::inbox::{Inbox, Limit};

/// How long the rest may take after the end of the container.
const LONGEST: Duration = Duration::from_secs(10);

/// How long nothing may move then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes that wait here before the shim is kept waiting.
const WAITING_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    ferry_sys::process::close_from(3, &[])?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_name(c"ferry-logger")?;
    let mut shim = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?);
    let begin: Begin = serde_json::from_slice(&read_frame(&mut shim)?.ok_or(io::ErrorKind::UnexpectedEof)?)?;
    let driver = match driver::open(begin.forward.clone(), begin.resumed) {
        Ok(driver) => driver,
        Err(why) => return report(&shim, &Report::Failed(why)),
    };
    report(&shim, &Report::Ready)?;
    keep_little()?;
    let limit = match &begin.forward.server {
        Server::Fluentd(fluentd) if fluentd.is_async => Limit::DropBeyond(fluentd.buffer_limit),
        _ => Limit::HoldUpBeyond(WAITING_BYTES),
    };
    let inbox = Arc::new(Inbox::new(limit));
    let reporter = shim.try_clone()?;
    let delivering = Arc::clone(&inbox);
    std::thread::spawn(move || driver::deliver(driver, &delivering, |report_| drop(report(&reporter, &report_))));
    while let Some(line) = read_frame(&mut shim)? {
        inbox.push(line);
    }
    inbox.close();
    wait_for_the_rest(&inbox);
    Ok(())
}

/// Gives up all rights but that to read the keys of TLS, whoever they belong to: they are read anew for each connection.
fn keep_little() -> io::Result<()> {
    const DAC_READ_SEARCH: u64 = 1 << 2;
    let held = capability::get()?;
    let kept = held.permitted & DAC_READ_SEARCH;
    rustix::thread::set_no_new_privs(true)?;
    capability::set(Sets { effective: kept, permitted: kept, inheritable: 0 })
}

fn read_frame(shim: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER_BYTES];
    match shim.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut frame = vec![0; framing::decode_header(header).map_err(io::Error::other)?];
    match shim.read_exact(&mut frame) {
        Ok(()) => Ok(Some(frame)),
        // The shim was killed in the middle of a line.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn report(mut shim: &UnixStream, report: &Report) -> io::Result<()> {
    shim.write_all(&framing::encode(report))
}

/// The end of this thread is the end of the process, whatever the other one waits for.
fn wait_for_the_rest(inbox: &Inbox) {
    let end = Instant::now() + LONGEST;
    let mut delivered = inbox.delivered();
    while let Some(now) =
        inbox.wait_for_progress(delivered, PATIENCE.min(end.saturating_duration_since(Instant::now())))
    {
        delivered = now;
    }
}
