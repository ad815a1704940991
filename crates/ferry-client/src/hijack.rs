//! Raw streams over a connection that was taken over.

use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use crate::error::{Error, Result};

/// The half that carries output.
pub type ReadHalf = tokio::io::ReadHalf<TokioIo<Upgraded>>;

/// The half that carries input; its shutdown tells the daemon that input has ended.
pub type WriteHalf = tokio::io::WriteHalf<TokioIo<Upgraded>>;

/// A connection taken over by an attach or exec.
#[derive(Debug)]
pub struct Hijacked {
    /// Output, in frames unless there is a terminal.
    pub output: ReadHalf,
    /// Input.
    pub input: WriteHalf,
    /// The content type, empty from older daemons.
    pub content_type: String,
}

impl Hijacked {
    pub(crate) async fn take(response: Response<Incoming>) -> Result<Self> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let message = format!("unable to upgrade to tcp, received {}", response.status().as_u16());
            return Err(Error::Decode(message));
        }
        let content_type = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let upgraded = hyper::upgrade::on(response).await.map_err(|_| Error::UnexpectedEof)?;
        let (output, input) = tokio::io::split(TokioIo::new(upgraded));
        Ok(Self { output, input, content_type })
    }
}
