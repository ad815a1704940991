//! One request, as a handler sees it.

use std::sync::Arc;

use bytes::Bytes;
use ferry_api::filters::Filters;
use ferry_api::json;
use ferry_api::version::{self, ApiVersion};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::header::{CONTENT_TYPE, UPGRADE};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;

use super::body::RequestBody;
use super::error::ApiError;
use super::query::Query;
use super::router::PathValues;
use crate::app::App;
use crate::server::socket::Peer;

/// Most bytes of a JSON body.
const JSON_LIMIT: usize = 8 << 20;

/// A request whose route was found.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    /// The version asked for, or the newest.
    pub(crate) version: ApiVersion,
    pub(crate) query: Query,
    pub(crate) peer: Arc<Peer>,
    pub(crate) request: Request<RequestBody>,
    values: PathValues,
}

impl Call {
    pub(crate) fn new(
        app: Arc<App>,
        version: Option<ApiVersion>,
        query: Query,
        values: PathValues,
        peer: Arc<Peer>,
        request: Request<RequestBody>,
    ) -> Self {
        Self { app, version: version.unwrap_or(version::NEWEST), query, peer, request, values }
    }

    /// Tells whether the request's version has a change made in 1.`minor`.
    pub(crate) fn at_least(&self, minor: u32) -> bool {
        self.version >= ApiVersion::new(1, minor)
    }

    /// Returns a variable of the path.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// Returns a header, or nothing when it is not there or no text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the filters of a list.
    pub(crate) fn filters(&self) -> Result<Filters, ApiError> {
        Ok(Filters::parse(self.query.get("filters"))?)
    }

    /// Tells whether the client asks for its connection to become a stream.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.request.headers().contains_key(UPGRADE)
    }

    /// Reads a JSON body; one that is absent is the default.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        self.check_json_type()?;
        if self.request.body().is_end_stream() {
            return Ok(T::default());
        }
        self.decode().await
    }

    /// Reads a JSON body that must be there.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        self.check_json_type()?;
        self.decode().await
    }

    async fn decode<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let bytes = read_limited(self.request.body_mut()).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::invalid("invalid JSON: got EOF while reading request body"));
        }
        json::from_slice(&bytes).map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
    }

    /// A body must say that it is JSON: a web page cannot make a browser send that unasked.
    fn check_json_type(&self) -> Result<(), ApiError> {
        let Some(value) = self.request.headers().get(CONTENT_TYPE) else {
            let empty = self.request.body().is_end_stream();
            return if empty {
                Ok(())
            } else {
                Err(ApiError::invalid("malformed Content-Type header (): mime: no media type"))
            };
        };
        let text = String::from_utf8_lossy(value.as_bytes());
        let media_type = text.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/json") {
            return Ok(());
        }
        Err(ApiError::invalid(format!("unsupported Content-Type header ({text}): must be 'application/json'")))
    }
}

async fn read_limited(body: &mut RequestBody) -> Result<Bytes, ApiError> {
    match Limited::new(body, JSON_LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "http: request body too large"))
        }
        Err(error) => Err(ApiError::invalid(format!("cannot read the request body: {error}"))),
    }
}
