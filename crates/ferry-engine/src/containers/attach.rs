//! `POST /containers/{id}/attach`.
//!
//! The daemon gets one end of a socket pair; the other goes to the shim, now or with the start.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use ferry_shim::protocol::{Request, Streams, Target};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::logs::LogsOptions;
use super::{Container, Containers, WaitingClient};
use crate::error::{Context, Error, Result};

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
        match container.live() {
            Some(live) => {
                let sent = live.shim.command(Request::Attach { target: Target::Init, streams }, &[theirs]).await;
                sent.context(format!("cannot attach to container {}", container.name()))?;
            }
            None => container.waiting().push(WaitingClient { streams, socket: theirs }),
        }
        Ok(Some(ours))
    }

    /// Tells that a client left by the detach keys.
    pub fn detached(&self, reference: &str) {
        if let Ok(container) = self.find(reference) {
            self.publish(&container.snapshot(), "detach", &[]);
        }
    }
}

/// A socket for the daemon and one to pass on.
pub(crate) fn stream_pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().context("cannot make a socket pair")?;
    ours.set_nonblocking(true).context("cannot make a socket pair")?;
    Ok((UnixStream::from_std(ours).context("cannot make a socket pair")?, theirs.into()))
}
