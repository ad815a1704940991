//! The end that calls.

use std::fmt;
use std::pin::Pin;

use futures_util::FutureExt;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{Messages, Outbound, Sender};
use super::status::{Code, Status};
use super::{CONNECTION_WINDOW, STREAM_WINDOW};

/// A connection to a server; cheap to clone.
#[derive(Clone)]
pub struct Channel(SendRequest<Outbound>);

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Channel")
    }
}

impl Channel {
    /// Greets a server. The future that is returned with the channel carries the connection, and ends with it.
    ///
    /// # Errors
    /// Unavailable when the other end is none.
    pub async fn connect<I>(connection: I) -> Result<(Self, impl Future<Output = ()> + Send), Status>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let greeted = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(connection))
            .await;
        let (sender, connection) = greeted.map_err(Status::unavailable)?;
        // Calls that are cut off tell why.
        Ok((Self(sender), connection.map(|_| ())))
    }

    /// Begins a call whose messages go both ways as they come.
    pub fn stream(&self, path: &str, metadata: HeaderMap) -> (Sender, Replies) {
        let (sender, body) = Outbound::new();
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        // Calls name a service and a method, nothing that a path could not hold.
        if let Ok(address) = format!("http://localhost{path}").parse() {
            *request.uri_mut() = address;
        }
        *request.headers_mut() = metadata;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        let answer = self.0.clone().send_request(request);
        (sender, Replies(State::Waiting(Box::pin(answer))))
    }

    /// Asks one thing and hears one.
    ///
    /// # Errors
    /// How the call ended.
    pub async fn unary<A: Message + Default>(&self, path: &str, question: &impl Message) -> Result<A, Status> {
        self.unary_with(path, HeaderMap::new(), question).await
    }

    /// As [`Channel::unary`], with what goes along.
    ///
    /// # Errors
    /// How the call ended.
    pub async fn unary_with<A: Message + Default>(
        &self,
        path: &str,
        metadata: HeaderMap,
        question: &impl Message,
    ) -> Result<A, Status> {
        let (sender, mut replies) = self.stream(path, metadata);
        sender.send(question).await?;
        drop(sender);
        let answer =
            replies.next().await?.ok_or_else(|| Status::new(Code::Internal, "the call ended without an answer"))?;
        // What follows is how it ended.
        while replies.next::<A>().await?.is_some() {}
        Ok(answer)
    }
}

/// Messages that come back.
pub struct Replies(State);

enum State {
    Waiting(Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>),
    Reading(Messages),
    Done,
}

impl fmt::Debug for Replies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Replies")
    }
}

impl Replies {
    /// The next; `None` when the call has ended well.
    ///
    /// # Errors
    /// How the call ended, when not well.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        if let State::Waiting(answer) = &mut self.0 {
            let response = answer.as_mut().await.map_err(Status::unavailable)?;
            if let Some(ended) = Status::of_headers(response.headers()) {
                self.0 = State::Done;
                return ended.map(|()| None);
            }
            if !response.status().is_success() {
                self.0 = State::Done;
                return Err(Status::unavailable(format!("unexpected HTTP status {}", response.status())));
            }
            self.0 = State::Reading(Messages::new(response.into_body()));
        }
        let State::Reading(messages) = &mut self.0 else { return Ok(None) };
        if let Some(message) = messages.next().await? {
            return Ok(Some(message));
        }
        let ended = messages.trailers().and_then(Status::of_headers);
        self.0 = State::Done;
        match ended {
            Some(ended) => ended.map(|()| None),
            None => Err(Status::unavailable("the stream ended without a status")),
        }
    }
}
