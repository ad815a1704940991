//! Messages in bodies: a byte that says whether it is compressed, four of its length, itself.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use prost::Message;
use tokio::sync::mpsc;

use super::status::{Code, Status};

/// Most bytes of a message.
const MESSAGE_LIMIT: usize = 16 << 20;
/// Bytes before each message.
const HEAD: usize = 5;
/// Messages that wait for a slow peer.
const QUEUE: usize = 16;

/// Writes a message with its head.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(HEAD + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode(&mut buffer).expect("the buffer grows");
    buffer.freeze()
}

/// Messages that come.
#[derive(Debug)]
pub struct Messages {
    body: Incoming,
    buffer: BytesMut,
    trailers: Option<HeaderMap>,
}

impl Messages {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), trailers: None }
    }

    /// What came after the last of them.
    pub(super) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The next; `None` when no more come.
    ///
    /// # Errors
    /// When the stream breaks, or what comes is no such message.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(bytes) = self.whole()? {
                let message = M::decode(bytes);
                return message.map(Some).map_err(|error| Status::new(Code::Internal, error.to_string()));
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::Internal, "the stream ended within a message")),
                Some(Err(error)) => return Err(Status::unavailable(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// The one message of a call that takes one.
    ///
    /// # Errors
    /// As [`Messages::next`]; when none comes.
    pub async fn only<M: Message + Default>(&mut self) -> Result<M, Status> {
        self.next().await?.ok_or_else(|| Status::new(Code::Internal, "the call came without a request"))
    }

    /// Takes a whole message out of what has come.
    fn whole(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(head) = self.buffer.get(..HEAD) else { return Ok(None) };
        if head[0] != 0 {
            return Err(Status::unimplemented("compressed messages"));
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > MESSAGE_LIMIT {
            let text = format!("received message larger than max ({length} vs. {MESSAGE_LIMIT})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if self.buffer.len() < HEAD + length {
            self.buffer.reserve(HEAD + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// Where messages go; the stream ends when the last of them is dropped. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender(pub(super) mpsc::Sender<Frame<Bytes>>);

impl Sender {
    /// Sends a message; waits while the peer is slow.
    ///
    /// # Errors
    /// Cancelled when the peer does not listen any more.
    pub async fn send(&self, message: &impl Message) -> Result<(), Status> {
        self.0.send(Frame::data(encode(message))).await.map_err(|_| gone())
    }

    /// Sends a message from a thread that may wait.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send_blocking(&self, message: &impl Message) -> Result<(), Status> {
        self.0.blocking_send(Frame::data(encode(message))).map_err(|_| gone())
    }

    /// Waits until the peer does not listen any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

fn gone() -> Status {
    Status::new(Code::Cancelled, "context canceled")
}

/// A body that others feed.
#[derive(Debug)]
pub(super) struct Outbound {
    frames: mpsc::Receiver<Frame<Bytes>>,
    is_over: bool,
}

impl Outbound {
    pub(super) fn new() -> (Sender, Self) {
        let (sender, frames) = mpsc::channel(QUEUE);
        (Sender(sender), Self { frames, is_over: false })
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let polled = self.frames.poll_recv(context);
        if let Poll::Ready(frame) = &polled {
            // Nothing follows trailers, whoever may still hold an end.
            self.is_over = frame.as_ref().is_none_or(Frame::is_trailers);
        }
        polled.map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
