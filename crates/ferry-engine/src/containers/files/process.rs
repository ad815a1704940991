//! One process that works in files, and the way to it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ferry_shim::client::{self, ShimChild};
use ferry_shim::files::{FailureKind, Reply, Work};
use ferry_shim::framing::FrameDecoder;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::super::sources::LentVolumes;
use crate::error::{Context, Error, Result};
use crate::shims::ShimPool;

/// The right to mount the files of a container that does not run.
#[derive(Default)]
pub(crate) struct FilesLock(Arc<Mutex<()>>);

impl FilesLock {
    /// Waits until nobody else has them mounted.
    pub(crate) async fn take(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.0).lock_owned().await
    }
}

/// A process at work. Dropping it ends the work.
pub(crate) struct FilesProcess {
    control: UnixStream,
    /// The archive, in or out.
    data: Option<UnixStream>,
    decoder: FrameDecoder,
    running: Option<Running>,
}

struct Running {
    child: ShimChild,
    held: Option<Held>,
}

/// What must not be let go of before the process has ended: its mounts are gone with it, not before.
pub(crate) struct Held {
    /// First.
    pub(crate) volumes: Option<LentVolumes>,
    pub(crate) lock: OwnedMutexGuard<()>,
}

impl Drop for FilesProcess {
    fn drop(&mut self) {
        let Some(Running { child, held }) = self.running.take() else { return };
        // One that has ended by itself does not hear it.
        let _ = ferry_sys::event::send_signal(child.as_fd(), libc::SIGKILL);
        let reap = move || {
            if let Err(error) = child.wait() {
                tracing::debug!(%error, "a process was reaped by someone else");
            }
            if let Some(Held { volumes, lock }) = held {
                drop(volumes);
                drop(lock);
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(reap)),
            Err(_) => reap(),
        }
    }
}

impl FilesProcess {
    /// Starts a process and gives it its work, with the descriptors that its view needs.
    pub(crate) fn start(shims: &ShimPool, work: Work, fds: Vec<OwnedFd>, held: Option<Held>) -> Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().context("cannot make a socket")?;
        let spawned = shims.spawn_for_files()?;
        let running = Some(Running { child: spawned.child, held });
        let mut passed = vec![theirs.as_fd()];
        passed.extend(fds.iter().map(AsFd::as_fd));
        let sent = client::send_frame(&spawned.socket, &work, &passed);
        let asynchronous = |socket: std::os::unix::net::UnixStream| -> io::Result<UnixStream> {
            socket.set_nonblocking(true)?;
            UnixStream::from_std(socket)
        };
        let process = Self {
            control: asynchronous(spawned.socket).context("cannot talk to the process")?,
            data: Some(asynchronous(ours).context("cannot talk to the process")?),
            decoder: FrameDecoder::new(),
            running,
        };
        sent.context("cannot talk to the process")?;
        Ok(process)
    }

    /// The archive's end, once.
    pub(crate) fn take_data(&mut self) -> Result<UnixStream> {
        self.data.take().ok_or_else(|| Error::internal("the archive was taken twice"))
    }

    /// Waits for the next answer that is no failure.
    pub(crate) async fn reply(&mut self) -> Result<Reply, FilesError> {
        let mut buffer = [0; 4096];
        loop {
            let frame = self.decoder.next_frame().map_err(|error| FilesError::internal(error.to_string()))?;
            if let Some(frame) = frame {
                return match serde_json::from_slice(&frame) {
                    Ok(Reply::Failed { kind, message }) => Err(FilesError { kind, message }),
                    Ok(reply) => Ok(reply),
                    Err(error) => Err(FilesError::internal(error.to_string())),
                };
            }
            match self.control.read(&mut buffer).await {
                Ok(0) => return Err(FilesError::internal("the process that works in the container's files has died")),
                Ok(read) => self.decoder.push(&buffer[..read]),
                Err(error) => return Err(FilesError::internal(error.to_string())),
            }
        }
    }

    /// Waits until all is done.
    pub(crate) async fn done(&mut self) -> Result<(), FilesError> {
        match self.reply().await? {
            Reply::Done => Ok(()),
            _ => Err(FilesError::internal("an answer that does not fit")),
        }
    }

    /// Reads everything it writes, then waits for its end.
    pub(crate) async fn collect(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut data = self.take_data()?;
        data.read_to_end(&mut bytes).await.context("cannot read the changes")?;
        self.done().await?;
        Ok(bytes)
    }
}

/// What the process failed with.
#[derive(Debug)]
pub(crate) struct FilesError {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

impl FilesError {
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Internal, message: message.into() }
    }

    /// The error for a client that asked about `path` of the container it called `reference`.
    pub(crate) fn about(self, path: &str, reference: &str) -> Error {
        match self.kind {
            FailureKind::NotFound => {
                Error::not_found(format!("Could not find the file {path} in container {reference}"))
            }
            FailureKind::Invalid => Error::invalid(self.message),
            FailureKind::Internal => Error::internal(self.message),
        }
    }
}

impl From<FilesError> for Error {
    fn from(error: FilesError) -> Self {
        Error::internal(error.message)
    }
}
