//! The one type of response body, and request bodies that tell when they were read to their end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
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
    Client(Incoming),
    /// It was read before, by somebody who had to know all of it.
    Read(Option<Bytes>),
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, peer: Arc<Peer>) -> Self {
        if !inner.is_end_stream() {
            peer.guard.body_begins();
        }
        Self { inner: Source::Client(inner), peer }
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
            Source::Client(inner) => inner,
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
            Source::Client(inner) => inner.is_end_stream(),
            Source::Read(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Source::Client(inner) => inner.size_hint(),
            Source::Read(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}
