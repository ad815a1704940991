//! The end that is called.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{Messages, Outbound, Sender};
use super::status::Status;
use super::{CONNECTION_WINDOW, STREAM_WINDOW};

/// Most calls at once on a connection.
const MAX_CALLS: u32 = 256;

/// Somebody who can be called.
pub trait Service: Send + Sync + 'static {
    /// Answers a call. It is dropped when the caller does not wait any more.
    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<(), Status>>;

    /// Headers of every answer.
    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }
}

/// A call.
pub struct Call {
    /// `/package.Service/Method`.
    pub path: String,
    /// What came with it.
    pub metadata: HeaderMap,
    /// What is asked.
    pub requests: Messages,
    /// Where answers go.
    pub replies: Sender,
}

impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Call").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Call {
    /// Answers one question with one answer.
    ///
    /// # Errors
    /// What the handler says.
    pub async fn unary<Q, A, R>(mut self, handler: impl FnOnce(Q) -> R) -> Result<(), Status>
    where
        Q: Message + Default,
        A: Message,
        R: Future<Output = Result<A, Status>>,
    {
        let question = self.requests.only().await?;
        let answer = handler(question).await?;
        self.replies.send(&answer).await
    }

    /// A text that came with the call.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Serves a connection until its other end is gone.
///
/// # Errors
/// When what comes is no HTTP/2.
pub async fn serve<I, S>(connection: I, service: Arc<S>) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let service = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(answer(request, service)) }
    });
    Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CALLS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(connection), service)
        .await
}

fn answer<S: Service>(request: Request<Incoming>, service: Arc<S>) -> Response<Outbound> {
    let (replies, body) = Outbound::new();
    let mut response = Response::new(body);
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if request.method() != Method::POST || !content_type.starts_with(b"application/grpc") {
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().extend(service.headers());
    let (head, body) = request.into_parts();
    let call = Call {
        path: head.uri.path().to_owned(),
        metadata: head.headers,
        requests: Messages::new(body),
        replies: replies.clone(),
    };
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = service.call(call) => outcome,
            () = replies.closed() => return,
        };
        // A caller that has left does not miss it.
        let _ = replies.0.send(Frame::trailers(Status::trailers(&outcome))).await;
    });
    response
}
