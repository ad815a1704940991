//! Speaking to a plugin: a POST per call, JSON both ways, as Docker's plugin protocol has it.
//!
//! Whoever calls gives a limit: a plugin that hangs costs its caller that much and nobody else anything.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::transport::Address;
use crate::error::Error;

/// The version of the protocol.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.docker.plugins.v1.2+json");

/// How long a plugin that cannot be reached is tried again, as Docker does.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// Most bytes of an answer.
const ANSWER_LIMIT: usize = 8 << 20;

/// How long a call may take, and whether one that did not reach the plugin is tried again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For one try.
    pub(crate) limit: Duration,
    /// Again and again for half a minute.
    pub(crate) retry: bool,
}

impl Patience {
    /// What makes or mounts something.
    pub(crate) const LONG: Self = Self { limit: Duration::from_secs(120), retry: true };
    /// Everything else.
    pub(crate) const SHORT: Self = Self { limit: Duration::from_secs(60), retry: true };
    /// Questions that somebody waits for who may not even mean this plugin.
    pub(crate) const QUICK: Self = Self { limit: Duration::from_secs(2), retry: false };
    /// Questions about this plugin.
    pub(crate) const QUERY: Self = Self { limit: Duration::from_secs(10), retry: false };
}

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The plugin was not reached, or said nothing in time.
    Unreachable(String),
    /// It refused.
    Refused(String),
    /// It does not have the method.
    Absent(String),
}

impl CallError {
    /// The text.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Unreachable(text) | Self::Refused(text) | Self::Absent(text) => text,
        }
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        Self::internal(error.text())
    }
}

/// A plugin's address and how to speak to it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: Address,
    /// What a managed plugin was enabled with: each try ends after so long.
    timeout: Option<Duration>,
}

impl Client {
    pub(super) fn new(address: Address, timeout: Option<Duration>) -> Self {
        Self { address, timeout }
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Calls a method; `request` is `None` for those that take nothing at all.
    pub(crate) async fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        request: Option<&(impl Serialize + Sync)>,
        patience: Patience,
    ) -> Result<R, CallError> {
        let body = encode(request)?;
        let begun = Instant::now();
        let mut wait = Duration::from_secs(1);
        let answer = loop {
            let limit = self.timeout.map_or(patience.limit, |own| own.min(patience.limit));
            let error = match tokio::time::timeout(limit, self.ask(method, body.clone())).await {
                Ok(Ok(answer)) => break answer,
                Ok(Err(error @ (CallError::Refused(_) | CallError::Absent(_)))) => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => CallError::Unreachable(self.failed(method, "context deadline exceeded")),
            };
            if !patience.retry || begun.elapsed() + wait >= RETRY_FOR {
                return Err(error);
            }
            tracing::warn!(error = error.text(), wait_s = wait.as_secs(), "plugin not reached, trying again");
            tokio::time::sleep(wait).await;
            wait *= 2;
        };
        serde_json::from_slice(&answer).map_err(|error| CallError::Refused(format!("{method}: {error}")))
    }

    /// Calls a method whose answer is a stream.
    pub(crate) async fn stream(
        &self,
        method: &str,
        request: &(impl Serialize + Sync),
        limit: Duration,
    ) -> Result<Incoming, CallError> {
        let body = encode(Some(request))?;
        let answer = tokio::time::timeout(limit, self.send(method, body)).await;
        let answer = answer.map_err(|_| CallError::Unreachable(self.failed(method, "context deadline exceeded")))??;
        Ok(answer.into_body())
    }

    async fn ask(&self, method: &str, body: Bytes) -> Result<Bytes, CallError> {
        let answer = self.send(method, body).await?;
        read(answer.into_body()).await.map_err(|why| CallError::Unreachable(self.failed(method, &why)))
    }

    async fn send(&self, method: &str, body: Bytes) -> Result<Response<Incoming>, CallError> {
        let unreachable = |why: &str| CallError::Unreachable(self.failed(method, why));
        let stream = self.address.connect().await.map_err(|why| unreachable(&why))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&says(&error)))?;
        // It ends with the last of sender and answer.
        tokio::spawn(connection);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("/{method}").parse().map_err(|_| unreachable("invalid method"))?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(self.address.host()).map_err(|_| unreachable("invalid host"))?);
        headers.insert(ACCEPT, MEDIA_TYPE);
        headers.insert(USER_AGENT, HeaderValue::from_static("Go-http-client/1.1"));
        let answer = sender.send_request(request).await.map_err(|error| unreachable(&says(&error)))?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        let is_absent = answer.status() == StatusCode::NOT_FOUND;
        let said = read(answer.into_body()).await.unwrap_or_else(|why| why.into());
        let text = format!("{method}: {}", refusal(&said));
        Err(if is_absent { CallError::Absent(text) } else { CallError::Refused(text) })
    }

    /// What Go's client says.
    fn failed(&self, method: &str, why: &str) -> String {
        format!("Post \"{}://{}/{method}\": {why}", self.address.scheme(), self.address.host())
    }
}

fn encode(request: Option<&(impl Serialize + Sync)>) -> Result<Bytes, CallError> {
    let Some(request) = request else { return Ok(Bytes::new()) };
    let mut body = serde_json::to_vec(request).map_err(|error| CallError::Refused(error.to_string()))?;
    body.push(b'\n');
    Ok(body.into())
}

async fn read(body: Incoming) -> Result<Bytes, String> {
    match Limited::new(body, ANSWER_LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(error.to_string()),
    }
}

/// `Err` of the answer, or all of it.
fn refusal(answer: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        #[serde(rename = "Err", default)]
        text: String,
    }
    match serde_json::from_slice::<Refusal>(answer) {
        Ok(refusal) if !refusal.text.is_empty() => refusal.text,
        _ => String::from_utf8_lossy(answer).into_owned(),
    }
}

fn says(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() { "EOF".to_owned() } else { error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_what_err_says() {
        assert_eq!(refusal(br#"{"Err":"no"}"#), "no");
        assert_eq!(refusal(b"plain"), "plain");
        assert_eq!(refusal(br#"{"Err":""}"#), r#"{"Err":""}"#);
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_told_as_go_does() {
        let client = Client::new(Address::Unix("/no/such.sock".into()), None);
        let error = client.call::<()>("A.B", None::<&()>, Patience::QUICK).await.unwrap_err();
        let text =
            "Post \"http://plugin.moby.localhost/A.B\": dial unix /no/such.sock: connect: no such file or directory";
        assert_eq!(error, CallError::Unreachable(text.to_owned()));
    }
}
