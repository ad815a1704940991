//! Plain downloads of what a user names by its URL: archives to import.

use bytes::Bytes;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::transport::{Answer, Ask};

/// The bytes behind a URL.
pub struct Download {
    answer: Answer,
}

impl Client {
    /// Begins to download `url`; without a scheme it is taken as `http`.
    ///
    /// # Errors
    /// [`Error::Configuration`] for what is no URL; [`Error::Status`] for any answer but a good one.
    pub async fn download(&self, url: &str) -> Result<Download> {
        self.download_with(url, &[], None).await
    }

    /// As [`Self::download`], with header fields of the caller's; `authorization` goes to the URL's own origin alone.
    ///
    /// # Errors
    /// As there; [`Error::Configuration`] for what is no header.
    pub async fn download_with(
        &self,
        url: &str,
        headers: &[(String, String)],
        authorization: Option<String>,
    ) -> Result<Download> {
        let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let parsed = Url::parse(&whole).map_err(|error| Error::Configuration(format!("parse {whole:?}: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(Error::Configuration(format!("unsupported protocol scheme {:?}", parsed.scheme())));
        }
        let mut ask = Ask::get(parsed);
        let wrong = |name: &str| Error::Configuration(format!("invalid value of the header {name}"));
        for (name, value) in headers {
            let (Ok(key), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) else {
                return Err(wrong(name));
            };
            ask.headers.insert(key, value);
        }
        ask.authorization = match authorization.as_deref().map(|value| HeaderValue::from_str(value.trim())) {
            None => None,
            Some(Ok(mut value)) => {
                value.set_sensitive(true);
                Some(value)
            }
            Some(Err(_)) => return Err(wrong("authorization")),
        };
        let answer = self.transport.ask(ask).await?;
        if answer.status().is_success() { Ok(Download { answer }) } else { Err(answer.into_error().await) }
    }
}

impl Download {
    /// Returns the length, when the server tells it.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.answer.content_length()
    }

    /// Returns the moment of the last change as the server writes it, when it tells it.
    #[must_use]
    pub fn last_modified(&self) -> Option<&str> {
        self.answer.header("last-modified")
    }

    /// Returns the next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks or nothing comes for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.answer.chunk().await
    }
}
