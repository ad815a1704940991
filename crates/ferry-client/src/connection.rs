//! Connections and the life of a request.

use std::cell::{Cell, RefCell};
use std::io;

use bytes::Bytes;
use ferry_api::version::{self, ApiVersion};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::hijack::Hijacked;
use crate::request::{Body, Payload, Query, full};
use crate::stream::ByteStream;
use crate::tls::Tls;

pub(crate) type Sender = SendRequest<Body>;

/// A client of one daemon.
pub struct Client {
    endpoint: Endpoint,
    tls: Option<Tls>,
    host: String,
    version: Cell<Option<ApiVersion>>,
    /// The version is a guess that the daemon has not contradicted.
    assumed: Cell<bool>,
    user_agent: String,
    idle: RefCell<Vec<Sender>>,
}

/// What a daemon says about itself in the headers of `/_ping`.
#[derive(Clone, Debug, Default)]
pub struct Ping {
    /// Newest API version it speaks; empty from very old ones.
    pub api_version: String,
    /// Its operating system.
    pub os_type: String,
    /// Experimental features are on.
    pub experimental: bool,
}

impl Client {
    /// Makes a client; nothing is connected before the first request.
    pub fn new(endpoint: Endpoint, host: impl Into<String>, user_agent: impl Into<String>) -> Self {
        Self {
            endpoint,
            tls: None,
            host: host.into(),
            version: Cell::new(None),
            assumed: Cell::new(false),
            user_agent: user_agent.into(),
            idle: RefCell::default(),
        }
    }

    /// Speaks TLS to a daemon that is reached by TCP.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Pins the API version, so that nothing is negotiated.
    pub fn pin_version(&self, version: ApiVersion) {
        self.version.set(Some(version));
    }

    /// The version in force, if it is known yet.
    pub fn version(&self) -> Option<ApiVersion> {
        self.version.get()
    }

    /// The daemon's address as it was given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The daemon's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Opens a connection ahead of need; does nothing when an idle one is there.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn connect(&self) -> Result<()> {
        if self.idle.borrow().is_empty() {
            let sender = self.open("Head", "/_ping").await?;
            self.idle.borrow_mut().push(sender);
        }
        Ok(())
    }

    /// Asks who is there. API: `HEAD /_ping`
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn ping(&self) -> Result<Ping> {
        let response = self.send_raw(Method::HEAD, "/_ping", HeaderMap::new(), full(Bytes::new())).await?;
        let (sender, response) = response;
        let text = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let ping = Ping {
            api_version: text("api-version"),
            os_type: text("ostype"),
            experimental: text("docker-experimental") == "true",
        };
        let complete = response.into_body().collect().await.is_ok();
        if complete {
            self.give_back(sender);
        }
        Ok(ping)
    }

    /// Agrees on the newest version that both sides speak, once.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn negotiate(&self) -> Result<()> {
        if self.version.get().is_some() && !self.assumed.get() {
            return Ok(());
        }
        let ping = self.ping().await?;
        // A daemon that names no version is older than negotiation.
        let theirs = ping.api_version.parse().unwrap_or(version::MIN);
        self.version.set(Some(theirs.min(version::NEWEST)));
        self.assumed.set(false);
        Ok(())
    }

    /// Takes it that the daemon speaks the newest version: one that does not says so, and then is asked.
    ///
    /// This spares most commands a round trip. A request that cannot be sent again is not risked.
    async fn settle_version(&self, payload: &Payload) -> Result<()> {
        if self.version.get().is_none() {
            self.version.set(Some(version::NEWEST));
            self.assumed.set(true);
        }
        match payload {
            Payload::Whole(_) => Ok(()),
            Payload::Streamed(_) => self.negotiate().await,
        }
    }

    async fn open(&self, method: &str, path: &str) -> Result<Sender> {
        let failed = |source: io::Error| self.connect_error(source, method, path);
        let spawn = |connection: std::pin::Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>| {
            tokio::spawn(async move {
                // Requests in flight see the same failure themselves.
                let _ = connection.await;
            });
        };
        let handshaken = |error: hyper::Error| failed(io::Error::other(error));
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let socket = UnixStream::connect(path).await.map_err(failed)?;
                let (sender, connection) = handshake(TokioIo::new(socket)).await.map_err(handshaken)?;
                spawn(Box::pin(connection.with_upgrades()));
                Ok(sender)
            }
            Endpoint::Tcp(address) => {
                let socket = TcpStream::connect(address).await.map_err(failed)?;
                socket.set_nodelay(true).map_err(failed)?;
                let Some(tls) = &self.tls else {
                    let (sender, connection) = handshake(TokioIo::new(socket)).await.map_err(handshaken)?;
                    spawn(Box::pin(connection.with_upgrades()));
                    return Ok(sender);
                };
                let refused = |error: io::Error| Error::Broken {
                    operation: self.operation(method, path),
                    reason: format!("tls: {error}"),
                };
                let stream = tls.connect(address, socket).await.map_err(refused)?;
                let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(handshaken)?;
                spawn(Box::pin(connection.with_upgrades()));
                Ok(sender)
            }
        }
    }

    fn connect_error(&self, source: io::Error, method: &str, path: &str) -> Error {
        match (&self.endpoint, source.kind()) {
            (Endpoint::Unix(socket), io::ErrorKind::PermissionDenied) => Error::Denied {
                host: self.host.clone(),
                operation: self.operation(method, path),
                path: socket.display().to_string(),
            },
            _ => Error::Connect { host: self.host.clone(), source },
        }
    }

    /// Method and URL as Go's HTTP client shows them.
    fn operation(&self, method: &str, path: &str) -> String {
        let mut name = method.to_ascii_lowercase();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{name} \"{scheme}://{}{path}\"", self.endpoint.authority())
    }

    fn idle_sender(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        while let Some(sender) = idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    pub(crate) fn give_back(&self, sender: Sender) {
        self.idle.borrow_mut().push(sender);
    }

    async fn send_raw(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<(Sender, Response<Incoming>)> {
        let mut sender = match self.idle_sender() {
            Some(sender) => sender,
            None => self.open(method.as_str(), path).await?,
        };
        let operation = || self.operation(method.as_str(), path);
        let broken = |error: hyper::Error| {
            let ended = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
            let reason = match root_cause(&error) {
                // Whether its certificate is good enough a client learns with the first answer.
                cause if cause.contains("received fatal alert") => format!("remote error: tls: {cause}"),
                _ if ended => "EOF".to_owned(),
                _ => error.to_string(),
            };
            Error::Broken { operation: operation(), reason }
        };
        sender.ready().await.map_err(broken)?;
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = path.parse().map_err(|error| Error::Decode(format!("{path}: {error}")))?;
        *request.headers_mut() = headers;
        let decode = |error: http::header::InvalidHeaderValue| Error::Decode(error.to_string());
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.endpoint.host_header().parse().map_err(decode)?);
        headers.insert(header::USER_AGENT, self.user_agent.parse().map_err(decode)?);
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok((sender, response))
    }

    /// Sends a request with the version in force and turns error answers into errors.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        headers: HeaderMap,
        payload: Payload,
    ) -> Result<(Sender, Response<Incoming>)> {
        check_named(&method, path)?;
        self.settle_version(&payload).await?;
        let bytes = match payload {
            Payload::Streamed(body) => return self.send_once(method, path, query, headers, body).await,
            Payload::Whole(bytes) => bytes,
        };
        let sent = self.send_once(method.clone(), path, query, headers.clone(), full(bytes.clone())).await;
        match sent {
            Err(error) if self.assumed.get() && error.is_too_new() => {
                self.negotiate().await?;
                self.send_once(method, path, query, headers, full(bytes)).await
            }
            sent => {
                if sent.is_ok() {
                    self.assumed.set(false);
                }
                sent
            }
        }
    }

    async fn send_once(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        headers: HeaderMap,
        body: Body,
    ) -> Result<(Sender, Response<Incoming>)> {
        let prefix = self.version.get().map(|version| format!("/v{version}")).unwrap_or_default();
        let target = format!("{prefix}{path}{}", query.to_suffix());
        let (sender, response) = self.send_raw(method, &target, headers, body).await?;
        if response.status().is_success()
            || response.status() == StatusCode::NOT_MODIFIED
            || response.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok((sender, response));
        }
        Err(self.api_error(sender, response).await)
    }

    async fn api_error(&self, sender: Sender, response: Response<Incoming>) -> Error {
        let status = response.status();
        let Ok(body) = response.into_body().collect().await else { return Error::UnexpectedEof };
        let body = body.to_bytes();
        self.give_back(sender);
        let message = serde_json::from_slice::<ferry_api::error::ErrorResponse>(&body)
            .map(|error| error.message)
            .unwrap_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned());
        let message = if message.is_empty() {
            format!(
                "request returned {status} for API route and version, check if the server supports the requested API version"
            )
        } else {
            message
        };
        Error::Api { status: status.as_u16(), message }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn call(&self, method: Method, path: &str, query: &Query, body: Option<Bytes>) -> Result<Bytes> {
        let (headers, payload) = match body {
            Some(bytes) => (json_headers(), Payload::Whole(bytes)),
            None => (HeaderMap::new(), Payload::empty()),
        };
        let (sender, response) = self.send(method, path, query, headers, payload).await?;
        let bytes = response.into_body().collect().await.map_err(|_| Error::UnexpectedEof)?.to_bytes();
        self.give_back(sender);
        Ok(bytes)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<T> {
        decode(&self.call(Method::GET, path, query, None).await?)
    }

    pub(crate) async fn get_raw(&self, path: &str, query: &Query) -> Result<Raw> {
        self.call(Method::GET, path, query, None).await.map(Raw)
    }

    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
        body: &impl Serialize,
    ) -> Result<T> {
        let bytes = serde_json::to_vec(body).map_err(|error| Error::Decode(error.to_string()))?;
        decode(&self.call(Method::POST, path, query, Some(bytes.into())).await?)
    }

    pub(crate) async fn post_empty(&self, path: &str, query: &Query) -> Result<()> {
        self.call(Method::POST, path, query, None).await.map(drop)
    }

    pub(crate) async fn delete(&self, path: &str, query: &Query) -> Result<Bytes> {
        self.call(Method::DELETE, path, query, None).await
    }

    /// Sends a request whose answer is read piece by piece.
    pub(crate) async fn stream(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        headers: HeaderMap,
        payload: Payload,
    ) -> Result<ByteStream> {
        let (sender, response) = self.send(method, path, query, headers, payload).await?;
        Ok(ByteStream::new(sender, response))
    }

    /// Sends a request that turns its connection into a raw stream.
    pub(crate) async fn hijack(&self, path: &str, query: &Query, body: Option<Bytes>) -> Result<Hijacked> {
        let mut headers = if body.is_some() { json_headers() } else { HeaderMap::new() };
        headers.insert(header::CONNECTION, http::HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, http::HeaderValue::from_static("tcp"));
        let payload = Payload::Whole(body.unwrap_or_default());
        let (_, response) = self.send(Method::POST, path, query, headers, payload).await?;
        Hijacked::take(response).await
    }
}

/// Refuses paths that name nothing where a name belongs. A name may begin with a slash, as Docker's own names do.
fn check_named(method: &Method, path: &str) -> Result<()> {
    let is_nothing = |rest: &str| match rest.strip_prefix('/') {
        Some(rest) => *method != Method::DELETE && !rest.contains('/'),
        None => rest.is_empty(),
    };
    for (folder, what) in [("/containers/", "container"), ("/networks/", "network"), ("/volumes/", "volume")] {
        if path.strip_prefix(folder).is_some_and(is_nothing) {
            return Err(Error::NoName(what));
        }
    }
    Ok(())
}

/// What an error comes from.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// An answer as it came, byte for byte.
#[derive(Clone, Debug)]
pub struct Raw(Bytes);

impl Raw {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The parsed document.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn value(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.0).map_err(|error| Error::Decode(error.to_string()))
    }

    /// The document as a wire type.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T> {
        decode(&self.0)
    }
}

pub(crate) fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    ferry_api::json::from_slice(bytes).map_err(|error| Error::Decode(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_something_where_a_name_belongs() {
        for (method, path, named) in [
            (Method::GET, "/containers/web/json", true),
            (Method::GET, "/containers/json", true),
            (Method::POST, "/containers//three/rename", true),
            (Method::DELETE, "/containers//three", true),
            (Method::GET, "/containers//json", false),
            (Method::DELETE, "/containers/", false),
            (Method::DELETE, "/volumes/", false),
        ] {
            assert_eq!(check_named(&method, path).is_ok(), named, "{method} {path}");
        }
    }
}
