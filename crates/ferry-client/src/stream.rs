//! An answer that is read piece by piece.

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::connection::Sender;
use crate::error::{Error, Result};

/// The body of an answer. Dropping it closes the connection.
#[derive(Debug)]
pub struct ByteStream {
    body: Incoming,
    headers: HeaderMap,
    /// Held so that the connection lives as long as its answer.
    _sender: Sender,
}

impl ByteStream {
    pub(crate) fn new(sender: Sender, response: Response<Incoming>) -> Self {
        let headers = response.headers().clone();
        Self { body: response.into_body(), headers, _sender: sender }
    }

    /// The content type of the answer.
    pub fn content_type(&self) -> &str {
        self.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }

    /// The next piece; `None` at a proper end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(Error::UnexpectedEof),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}
