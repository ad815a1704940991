//! One control connection to a shim.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ferry_shim::client;
use ferry_shim::framing::FrameDecoder;
use ferry_shim::protocol::{Event, Hello, Reply, Request, RequestFrame, ShimError, ShimFrame};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Why a call to a shim gave no answer of the wanted kind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimCallError {
    /// The shim is gone or does not speak our language.
    #[error("the shim does not answer")]
    Gone(#[source] io::Error),
    /// The shim refused.
    #[error("{}", .0.message)]
    Refused(ShimError),
    /// An answer of another kind than the request has.
    #[error("the shim gave an answer that does not fit the request")]
    Unexpected,
}

type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>>;

/// A live connection; requests may overlap.
pub(crate) struct ShimConnection {
    writer: Mutex<StdUnixStream>,
    next_seq: AtomicU64,
    pending: Pending,
}

impl ShimConnection {
    /// Takes over a connected socket. Events of the shim arrive on the returned channel, which closes when the shim is gone.
    pub(crate) fn open(socket: StdUnixStream) -> io::Result<(Self, mpsc::UnboundedReceiver<Event>)> {
        let writer = socket.try_clone()?;
        socket.set_nonblocking(true)?;
        let reader = UnixStream::from_std(socket)?;
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let (events, receiver) = mpsc::unbounded_channel();
        tokio::spawn(read_frames(reader, Arc::clone(&pending), events));
        Ok((Self { writer: Mutex::new(writer), next_seq: AtomicU64::new(1), pending }, receiver))
    }

    /// Sends a request with its descriptors and waits for the answer.
    pub(crate) async fn call(&self, request: Request, fds: &[OwnedFd]) -> Result<Reply, ShimCallError> {
        let answer = self.send(request, fds).map_err(ShimCallError::Gone)?;
        match answer.await {
            Ok(Reply::Error(error)) => Err(ShimCallError::Refused(error)),
            Ok(reply) => Ok(reply),
            Err(_) => Err(ShimCallError::Gone(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Sends a request for which only success matters.
    pub(crate) async fn command(&self, request: Request, fds: &[OwnedFd]) -> Result<(), ShimCallError> {
        match self.call(request, fds).await? {
            Reply::Ok => Ok(()),
            _ => Err(ShimCallError::Unexpected),
        }
    }

    fn send(&self, request: Request, fds: &[OwnedFd]) -> io::Result<oneshot::Receiver<Reply>> {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match self.pending.lock().expect("no panic while held").as_mut() {
            Some(pending) => pending.insert(seq, sender),
            None => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let writer = self.writer.lock().expect("no panic while held");
        client::send(&writer, &RequestFrame { seq, request }, &borrowed)?;
        Ok(receiver)
    }
}

impl Drop for ShimConnection {
    /// The reading task holds the other half: without this a shim that made no container would wait for ever.
    fn drop(&mut self) {
        if let Ok(writer) = self.writer.get_mut() {
            // A shim that is gone already is as well.
            let _ = writer.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Reads until the shim goes; dropping the senders tells the waiting callers.
async fn read_frames(mut reader: UnixStream, pending: Pending, events: mpsc::UnboundedSender<Event>) {
    let mut decoder = FrameDecoder::new();
    let mut buffer = vec![0; 4096];
    let mut greeted = false;
    'read: loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        decoder.push(&buffer[..count]);
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "shim sent a frame that cannot be read");
                    break 'read;
                }
            };
            if !greeted {
                greeted = true;
                match serde_json::from_slice::<Hello>(&frame) {
                    Ok(hello) => tracing::trace!(pid = hello.pid, version = hello.version, "shim connected"),
                    Err(error) => tracing::error!(%error, "shim did not say hello"),
                }
                continue;
            }
            match serde_json::from_slice::<ShimFrame>(&frame) {
                Ok(ShimFrame::Reply { seq, reply }) => {
                    let waiting =
                        pending.lock().expect("no panic while held").as_mut().and_then(|map| map.remove(&seq));
                    if let Some(waiting) = waiting {
                        // A caller that gave up is no failure.
                        let _ = waiting.send(reply);
                    }
                }
                Ok(ShimFrame::Event(event)) => {
                    // The supervisor may have ended already.
                    let _ = events.send(event);
                }
                Err(error) => {
                    tracing::error!(%error, "shim sent a frame that cannot be read");
                    break 'read;
                }
            }
        }
    }
    pending.lock().expect("no panic while held").take();
}
