//! The one type of response body, and request bodies that tell when they were read to their end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;

use crate::server::socket::Peer;

/// Pieces that wait for a slow client before its producer is held up.
const QUEUE: usize = 16;

/// A response body: nothing, bytes, or pieces that come one by one. Headers travel at once with the last.
#[derive(Debug)]
pub(crate) enum Body {
    Empty,
    Full(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

/// Feeds a streamed body; dropping it ends the body.
#[derive(Debug, Clone)]
pub(crate) struct BodySender(mpsc::Sender<Bytes>);

/// The client is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone;

impl BodySender {
    /// Sends one piece; waits while the client is slow.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> Result<(), Gone> {
        let piece = piece.into();
        if piece.is_empty() {
            return Ok(());
        }
        self.0.send(piece).await.map_err(|_| Gone)
    }

    /// Waits until the client is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Body {
    /// Returns a body of these bytes.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(Some(bytes)) }
    }

    /// Returns a streamed body and what feeds it.
    pub(crate) fn stream() -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (BodySender(sender), Self::Stream(receiver))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(pieces) => pieces.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty | Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Full(None) => SizeHint::with_exact(0),
            Self::Full(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// A request body. The guard of its connection learns when it was read to its end, since only then a next head can follow.
pub(crate) struct RequestBody {
    inner: Source,
    peer: Arc<Peer>,
}

enum Source {
    Client(FromClient),
    /// It was read before, by somebody who had to know all of it.
    Read(Option<Bytes>),
}

/// What comes from the client; dropped before its end, it goes to who still wants to hear it out.
struct FromClient {
    /// There until it is dropped.
    body: Option<Incoming>,
    rest: Rest,
}

/// What a handler left of a request's body.
#[derive(Clone, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Drop for FromClient {
    fn drop(&mut self) {
        *self.rest.lock() = self.body.take().filter(|body| !body.is_end_stream());
    }
}

impl Rest {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is left, if it is little and comes at once, and throws it away.
    ///
    /// A client whose request is refused before it has sent all of it may make much of that: Go's complains of a broken body beside the
    /// answer. Docker's server does the same, up to as many bytes.
    pub(crate) async fn hear_out(&self, peer: &Arc<Peer>) {
        const PATIENCE: Duration = Duration::from_secs(1);
        const MOST: usize = 256 << 10;
        let Some(rest) = self.lock().take() else { return };
        let mut rest = RequestBody {
            inner: Source::Client(FromClient { body: Some(rest), rest: self.clone() }),
            peer: Arc::clone(peer),
        };
        let read = async {
            let mut room = MOST;
            while let Some(Ok(frame)) = rest.frame().await {
                room = room.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if room == 0 {
                    return;
                }
            }
        };
        // One that sends no more has its answer all the same.
        let _ = tokio::time::timeout(PATIENCE, read).await;
    }
}

impl RequestBody {
    /// Returns the body of a request, and what takes up what its handler leaves of it.
    pub(crate) fn new(inner: Incoming, peer: Arc<Peer>) -> (Self, Rest) {
        if !inner.is_end_stream() {
            peer.guard.body_begins();
        }
        let rest = Rest::default();
        (Self { inner: Source::Client(FromClient { body: Some(inner), rest: rest.clone() }), peer }, rest)
    }

    /// The same body once more, after it was read to its end.
    pub(crate) fn replaced(self, bytes: Bytes) -> Self {
        Self { inner: Source::Read(Some(bytes).filter(|bytes| !bytes.is_empty())), peer: self.peer }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let inner = match &mut self.inner {
            Source::Client(FromClient { body: Some(inner), .. }) => inner,
            Source::Client(_) => return Poll::Ready(None),
            Source::Read(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        };
        let frame = ready!(Pin::new(&mut *inner).poll_frame(context));
        if frame.is_none() || inner.is_end_stream() {
            self.peer.guard.body_ends();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Source::Client(client) => client.body.as_ref().is_none_or(Incoming::is_end_stream),
            Source::Read(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Source::Client(client) => client.body.as_ref().map(Incoming::size_hint).unwrap_or_default(),
            Source::Read(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}
