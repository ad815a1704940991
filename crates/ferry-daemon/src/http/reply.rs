//! Building responses.

use bytes::Bytes;
use ferry_api::error::ErrorResponse;
use ferry_api::version::{self, ApiVersion, Reply};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;

use super::body::Body;
use super::error::ApiError;

/// A response, or why there is none.
pub(crate) type Outcome = Result<Response<Body>, ApiError>;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers with a status and no body.
pub(crate) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// Answers 204.
pub(crate) fn no_content() -> Outcome {
    Ok(status(StatusCode::NO_CONTENT))
}

/// Answers 200 with a body of some content type.
pub(crate) fn with_type(content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Answers with JSON whose shape is the same in every version.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Outcome {
    let mut response = with_type(JSON, Body::full(line(value)?));
    *response.status_mut() = status;
    Ok(response)
}

/// Answers 200 with a container that is not there, and what would be warned of.
pub(crate) fn planned<T: Serialize>(version: ApiVersion, container: &T, warnings: &[String]) -> Outcome {
    let mut container = serde_json::to_value(container).map_err(unwritable)?;
    version::shape(Reply::ContainerInspect, version, &mut container);
    json(StatusCode::OK, &serde_json::json!({ "Container": container, "Warnings": warnings }))
}

/// Answers 200 with JSON in the shape of the request's version.
pub(crate) fn shaped<T: Serialize>(reply: Reply, version: ApiVersion, value: &T) -> Outcome {
    if version == version::NEWEST && !version::drops(reply) {
        return json(StatusCode::OK, value);
    }
    let mut value: Value = serde_json::to_value(value).map_err(unwritable)?;
    version::shape(reply, version, &mut value);
    json(StatusCode::OK, &value)
}

/// Returns one JSON document and the newline that Go's encoder puts after it.
pub(crate) fn line<T: Serialize>(value: &T) -> Result<Bytes, ApiError> {
    let mut bytes = serde_json::to_vec(value).map_err(unwritable)?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

fn unwritable(error: serde_json::Error) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the answer: {error}"))
}

/// Answers a failure. Clients older than 1.24 print what they get, so they get plain text.
pub(crate) fn failure(error: &ApiError, requested: Option<ApiVersion>) -> Response<Body> {
    if error.status == StatusCode::NOT_MODIFIED {
        return status(StatusCode::NOT_MODIFIED);
    }
    let mut response = if requested.is_some_and(|requested| requested < version::MIN) {
        with_type(HeaderValue::from_static("text/plain; charset=utf-8"), Body::full(format!("{}\n", error.message)))
    } else {
        let body = line(&ErrorResponse { message: error.message.clone() }).unwrap_or_default();
        with_type(JSON, Body::full(body))
    };
    *response.status_mut() = error.status;
    response
}
