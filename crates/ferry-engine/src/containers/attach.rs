//! `POST /containers/{id}/attach`.
//!
//! The daemon gets one end of a socket pair; the other goes to the shim, now or with the start.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use ferry_shim::protocol::{Request, ShimErrorKind, Streams, Target};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::logs::LogsOptions;
use super::{Container, Containers, Live, WaitingClient};
use crate::error::{Context, Error, Result};
use crate::shims::ShimCallError;

/// Which streams, and whether what was logged comes first.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttachOptions {
    /// Send stdin.
    pub stdin: bool,
    /// Receive stdout.
    pub stdout: bool,
    /// Receive stderr.
    pub stderr: bool,
    /// Take part in what comes; without it only the log is sent.
    pub stream: bool,
    /// Send the log first.
    pub logs: bool,
}

/// A client's connection to a process.
pub struct AttachSession {
    /// The process has a terminal: bytes are raw. Otherwise they are Docker's multiplexed frames.
    pub tty: bool,
    /// Output comes out, stdin goes in; a half-close is the end of stdin. `None` when only the log was asked for.
    pub stream: Option<UnixStream>,
    /// To be sent before the stream.
    pub replay: Option<mpsc::Receiver<Bytes>>,
}

impl Containers {
    /// Attaches to a container, started or not.
    ///
    /// API: `POST /containers/{id}/attach`
    ///
    /// # Errors
    /// NotFound; Conflict when it is paused or its process is being replaced.
    pub async fn attach(&self, reference: &str, options: AttachOptions) -> Result<AttachSession> {
        let container = self.find(reference)?;
        let record = container.snapshot();
        if record.status == super::state::Status::Paused {
            return Err(Error::conflict(format!(
                "container {reference} is paused, unpause the container before attach"
            )));
        }
        if record.status == super::state::Status::Restarting {
            return Err(Error::conflict(format!(
                "container {reference} is restarting, wait until the container is running"
            )));
        }
        let replay = if options.logs { Some(self.replay(&container.id, options).await?) } else { None };
        let stream = if options.stream { self.attach_stream(&container, options).await? } else { None };
        self.publish(&record, "attach", &[]);
        Ok(AttachSession { tty: record.config.tty, stream, replay })
    }

    async fn replay(&self, id: &str, options: AttachOptions) -> Result<mpsc::Receiver<Bytes>> {
        let logs = LogsOptions { stdout: options.stdout, stderr: options.stderr, ..LogsOptions::default() };
        Ok(self.logs(id, logs).await?.chunks)
    }

    pub(super) async fn attach_stream(
        &self,
        container: &Container,
        options: AttachOptions,
    ) -> Result<Option<UnixStream>> {
        let open_stdin = container.with_record(|record| record.config.open_stdin);
        let streams = Streams { stdin: options.stdin && open_stdin, stdout: options.stdout, stderr: options.stderr };
        let (ours, theirs) = stream_pair()?;
        let Some((live, theirs)) = container.wait_for_start(streams, theirs) else { return Ok(Some(ours)) };
        let sent = live.shim.command(Request::Attach { target: Target::Init, streams }, &[theirs]).await;
        match sent {
            // Ended a moment ago: the client sees its stream end, as if it had come before.
            Err(ShimCallError::Refused(error)) if error.kind == ShimErrorKind::NotRunning => {}
            sent => sent.context(format!("cannot attach to container {}", container.name()))?,
        }
        Ok(Some(ours))
    }

    /// Passes on the clients that came while the start was on its way to the shim.
    pub(super) async fn attach_latecomers(&self, container: &Container, live: &Live) {
        let latecomers: Vec<WaitingClient> = container.waiting().drain(..).collect();
        for WaitingClient { streams, socket } in latecomers {
            let sent = live.shim.command(Request::Attach { target: Target::Init, streams }, &[socket]).await;
            if let Err(error) = sent {
                // Its stream ends, as that of everybody else who was attached.
                tracing::debug!(container = %container.name(), %error, "ended before a client was attached");
            }
        }
    }

    /// Tells that a client left by the detach keys.
    pub fn detached(&self, reference: &str) {
        if let Ok(container) = self.find(reference) {
            self.publish(&container.snapshot(), "detach", &[]);
        }
    }
}

impl Container {
    /// Keeps a client for the start, unless the container runs: then its shim takes the socket. Between the end of a run and the record of it there
    /// is nothing to wait for; the client sees its stream end.
    fn wait_for_start(&self, streams: Streams, socket: OwnedFd) -> Option<(Arc<Live>, OwnedFd)> {
        // Held over the look: whoever is kept here is found by the start, which looks once more when it is done.
        let mut waiting = self.waiting();
        match self.live() {
            Some(live) => return Some((live, socket)),
            None if self.status().counts_as_running() => drop(socket),
            None => waiting.push(WaitingClient { streams, socket }),
        }
        None
    }
}

/// A socket for the daemon and one to pass on.
pub(crate) fn stream_pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().context("cannot make a socket pair")?;
    ours.set_nonblocking(true).context("cannot make a socket pair")?;
    Ok((UnixStream::from_std(ours).context("cannot make a socket pair")?, theirs.into()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::PathBuf;

    use ferry_spec::digest::Digest;
    use ferry_spec::platform::Platform;

    use super::super::record::Record;
    use super::super::state::Status;
    use super::*;

    #[test]
    fn a_client_waits_for_a_start_and_not_for_the_end_of_a_run_to_be_noted() {
        for (status, waits) in [(Status::Created, true), (Status::Running, false), (Status::Exited, true)] {
            let begun = Record::begun("a".repeat(64), Digest::sha256(b"image"), Platform::host());
            let container = Container::new(Record { status, ..begun }, PathBuf::new(), None);
            let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
            ours.set_nonblocking(true).expect("set");
            let streams = Streams { stdin: false, stdout: true, stderr: true };
            assert!(container.wait_for_start(streams, theirs.into()).is_none(), "it has no shim");
            assert_eq!(container.waiting().len(), usize::from(waits), "{status:?}");
            assert_eq!(ours.read(&mut [0]).is_ok_and(|count| count == 0), !waits, "{status:?}");
        }
    }
}
