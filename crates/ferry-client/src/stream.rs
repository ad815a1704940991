//! An answer that is read piece by piece.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::connection::Sender;
use crate::error::{Error, Result};

/// The body of an answer. Dropping it closes the connection.
#[derive(Debug)]
pub struct ByteStream {
    body: Incoming,
    content_type: String,
    /// Held so that the connection lives as long as its answer.
    _sender: Sender,
}

impl ByteStream {
    pub(crate) fn new(sender: Sender, response: Response<Incoming>) -> Self {
        let content_type = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        Self { body: response.into_body(), content_type, _sender: sender }
    }

    /// The content type of the answer.
    pub fn content_type(&self) -> &str {
        &self.content_type
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
