//! A registry of the Hub's shape on loopback: three origins for manifests, tokens and blobs.
//!
//! Manifests need a token from another port; blobs are redirected (307) to signed URLs on a third port, which refuses any
//! `Authorization`. Every request is written down, and faults can be ordered. Shared with the tests of the engine.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ferry_spec::{Descriptor, Digest, media_type};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, io::Error>;

/// Which of the three servers a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Registry,
    Token,
    Storage,
}

/// One request as it was seen.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) origin: Origin,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) cookie: bool,
    pub(crate) range: Option<String>,
    pub(crate) body: String,
}

/// What goes wrong, and how often.
#[derive(Default)]
pub(crate) struct Faults {
    /// Statuses of the next manifest requests, before any is served; with them a `Retry-After`.
    pub(crate) manifests: VecDeque<(u16, Option<&'static str>)>,
    /// Statuses of the next token requests.
    pub(crate) tokens: VecDeque<u16>,
    /// The token server refuses everybody with this body.
    pub(crate) token_refusal: Option<&'static str>,
    /// Statuses of the next storage requests.
    pub(crate) storage: VecDeque<u16>,
    /// How many of the next storage bodies end after half of what is left.
    pub(crate) cuts: u32,
    /// A storage that ignores `Range`.
    pub(crate) no_ranges: bool,
    /// A token is refused after so many requests.
    pub(crate) token_uses: Option<u32>,
    /// Bodies of blobs stop after half.
    pub(crate) stall: bool,
    /// Blobs redirect to themselves.
    pub(crate) redirect_loop: bool,
    /// Sent as `Docker-Content-Digest`.
    pub(crate) digest_header: Option<String>,
    /// Sent as `Content-Type` of manifests.
    pub(crate) content_type: Option<&'static str>,
    /// Bodies of blobs never end and have no length.
    pub(crate) endless: bool,
    /// Every token is refused.
    pub(crate) denied: bool,
    /// No authentication is asked for.
    pub(crate) open: bool,
    /// `HEAD` is refused.
    pub(crate) no_head: bool,
    /// User and password must be sent with every request.
    pub(crate) basic: bool,
    /// Blobs wait for this many permits before they are sent.
    pub(crate) hold_blobs: Option<Arc<tokio::sync::Semaphore>>,
}

/// What the three servers share.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) log: Mutex<Vec<Seen>>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) bytes_sent: std::sync::atomic::AtomicU64,
    manifests: Mutex<HashMap<String, (String, Bytes)>>,
    blobs: Mutex<HashMap<String, Bytes>>,
    tokens: Mutex<HashMap<String, u32>>,
    addresses: Mutex<Option<[SocketAddr; 3]>>,
}

/// The running registry; its servers end with the runtime of the test.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) state: Arc<State>,
    pub(crate) host: String,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(State::default());
        let mut addresses = Vec::new();
        for origin in [Origin::Registry, Origin::Token, Origin::Storage] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            tokio::spawn(serve(listener, origin, Arc::clone(&state)));
        }
        let host = addresses[0].to_string();
        *state.addresses.lock().unwrap() = Some([addresses[0], addresses[1], addresses[2]]);
        Self { state, host }
    }

    pub(crate) fn fault(&self, order: impl FnOnce(&mut Faults)) {
        order(&mut self.state.faults.lock().unwrap());
    }

    /// Serves `bytes` as a blob.
    pub(crate) fn blob(&self, kind: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::new(kind, Digest::sha256(&bytes), bytes.len() as u64);
        self.state.blobs.lock().unwrap().insert(descriptor.digest.to_string(), bytes);
        descriptor
    }

    /// Serves other bytes than the digest says.
    pub(crate) fn corrupt_blob(&self, descriptor: &Descriptor, bytes: impl Into<Bytes>) {
        self.state.blobs.lock().unwrap().insert(descriptor.digest.to_string(), bytes.into());
    }

    /// Serves `bytes` as a manifest of `repository` under its digest and `tag`.
    pub(crate) fn manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        kind: &str,
        bytes: impl Into<Bytes>,
    ) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::new(kind, Digest::sha256(&bytes), bytes.len() as u64);
        let mut manifests = self.state.manifests.lock().unwrap();
        for object in tag.into_iter().chain([descriptor.digest.as_str()]) {
            manifests.insert(format!("{repository}/manifests/{object}"), (kind.to_owned(), bytes.clone()));
        }
        descriptor
    }

    /// Serves an image of these layers under `repository:tag`; `config` is its configuration.
    pub(crate) fn image(&self, repository: &str, tag: Option<&str>, config: &str, layers: &[Descriptor]) -> Descriptor {
        let config = self.blob(media_type::OCI_CONFIG, config.to_owned());
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": layers,
        });
        self.manifest(repository, tag, media_type::OCI_MANIFEST, manifest.to_string())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.log.lock().unwrap().clone()
    }

    /// Counts the requests to `origin` whose path contains `part`.
    pub(crate) fn count(&self, origin: Origin, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.origin == origin && seen.path.contains(part)).count()
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.state.bytes_sent.load(std::sync::atomic::Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, origin: Origin, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(origin, Arc::clone(&state), request));
            // A client that goes away early is part of the tests.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(origin: Origin, state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let mut seen = Seen {
        origin,
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        authorization: header("authorization"),
        cookie: header("cookie").is_some(),
        range: header("range"),
        body: String::new(),
    };
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    seen.body = String::from_utf8_lossy(&body).into_owned();
    state.log.lock().unwrap().push(seen.clone());
    Ok(match origin {
        Origin::Registry => registry(&state, &seen),
        Origin::Token => token(&state),
        Origin::Storage => storage(&state, &seen).await,
    })
}

fn registry(state: &State, seen: &Seen) -> Response<Body> {
    let mut faults = state.faults.lock().unwrap();
    if let Some(refusal) = unauthorized(state, &mut faults, seen) {
        return refusal;
    }
    let path = seen.path.strip_prefix("/v2/").unwrap_or_default();
    if path.is_empty() {
        return plain(200, "{}");
    }
    let [host, _, storage] = state.addresses.lock().unwrap().unwrap();
    if let Some((_, digest)) = path.split_once("/blobs/") {
        let target = if faults.redirect_loop {
            format!("http://{host}{}", seen.path)
        } else {
            format!("http://{storage}/{digest}?X-Signature=secret")
        };
        return Response::builder().status(307).header("location", target).body(full("")).unwrap();
    }
    if let Some(repository) = path.strip_suffix("/tags/list") {
        return tags(state, repository, &seen.query);
    }
    if faults.no_head && seen.method == "HEAD" {
        return plain(405, "");
    }
    if let Some((status, retry_after)) = faults.manifests.pop_front() {
        let mut response = Response::builder().status(status).header("ratelimit-limit", "100;w=21600");
        if let Some(value) = retry_after {
            response = response.header("retry-after", value);
        }
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#;
        return response.body(full(if seen.method == "HEAD" { "" } else { body })).unwrap();
    }
    let manifests = state.manifests.lock().unwrap();
    let Some((kind, bytes)) = manifests.get(path) else {
        return plain(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
    };
    let digest = faults.digest_header.clone().unwrap_or_else(|| Digest::sha256(bytes).to_string());
    Response::builder()
        .header("content-type", faults.content_type.unwrap_or(kind))
        .header("docker-content-digest", digest)
        .header("content-length", bytes.len())
        .header("ratelimit-limit", "100;w=21600")
        .header("set-cookie", "tracking=1")
        .body(if seen.method == "HEAD" { full("") } else { full(bytes.clone()) })
        .unwrap()
}

/// Pages of one tag each.
fn tags(state: &State, repository: &str, query: &str) -> Response<Body> {
    let prefix = format!("{repository}/manifests/");
    let manifests = state.manifests.lock().unwrap();
    let mut tags: Vec<&str> =
        manifests.keys().filter_map(|key| key.strip_prefix(&prefix)).filter(|tag| !tag.contains(':')).collect();
    tags.sort_unstable();
    let last = query.strip_prefix("n=1&last=").unwrap_or_default();
    let mut rest = tags.into_iter().filter(|tag| *tag > last);
    let Some(tag) = rest.next() else {
        return plain(404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#);
    };
    let mut response = Response::builder();
    if rest.next().is_some() {
        response = response.header("link", format!("</v2/{repository}/tags/list?n=1&last={tag}>; rel=\"next\""));
    }
    response.body(full(format!(r#"{{"name":"{repository}","tags":["{tag}"]}}"#))).unwrap()
}

fn unauthorized(state: &State, faults: &mut Faults, seen: &Seen) -> Option<Response<Body>> {
    if faults.open {
        return None;
    }
    if faults.basic {
        return (seen.authorization.as_deref() != Some("Basic dXNlcjpwYXNz")).then(|| {
            Response::builder().status(401).header("www-authenticate", "Basic realm=\"r\"").body(full("")).unwrap()
        });
    }
    let used = seen.authorization.as_deref().and_then(|text| text.strip_prefix("Bearer "));
    let mut tokens = state.tokens.lock().unwrap();
    let left = used.and_then(|token| tokens.get_mut(token)).filter(|left| **left > 0 && !faults.denied);
    if let Some(left) = left {
        *left -= 1;
        return None;
    }
    let [_, realm, _] = state.addresses.lock().unwrap().unwrap();
    let repository = seen.path.strip_prefix("/v2/").unwrap_or_default();
    let repository = repository
        .split("/manifests/")
        .next()
        .unwrap()
        .split("/blobs/")
        .next()
        .unwrap()
        .split("/tags/")
        .next()
        .unwrap();
    let error = if used.is_some() { r#",error="insufficient_scope""# } else { "" };
    let challenge = format!(
        r#"Bearer realm="http://{realm}/token",service="registry.fake",scope="repository:{repository}:pull"{error}"#
    );
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    let body = if seen.method == "HEAD" { "" } else { body };
    Some(Response::builder().status(401).header("www-authenticate", challenge).body(full(body)).unwrap())
}

fn token(state: &State) -> Response<Body> {
    let mut faults = state.faults.lock().unwrap();
    if let Some(status) = faults.tokens.pop_front() {
        return plain(status, "");
    }
    if let Some(refusal) = faults.token_refusal {
        return plain(401, refusal);
    }
    let mut tokens = state.tokens.lock().unwrap();
    let token = format!("token-{}", tokens.len());
    tokens.insert(token.clone(), faults.token_uses.unwrap_or(u32::MAX));
    plain(200, &format!(r#"{{"token":"{token}","expires_in":300}}"#))
}

async fn storage(state: &State, seen: &Seen) -> Response<Body> {
    if seen.authorization.is_some() || seen.cookie {
        return plain(400, "only one auth mechanism allowed");
    }
    let digest = seen.path.trim_start_matches('/');
    let Some(bytes) = state.blobs.lock().unwrap().get(digest).cloned() else { return plain(404, "") };
    let hold = state.faults.lock().unwrap().hold_blobs.clone();
    if let Some(hold) = hold {
        hold.acquire().await.unwrap().forget();
    }
    let mut faults = state.faults.lock().unwrap();
    if let Some(status) = faults.storage.pop_front() {
        return plain(status, "");
    }
    let offset: usize = match &seen.range {
        Some(range) if !faults.no_ranges => range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap(),
        _ => 0,
    };
    let rest = bytes.slice(offset..);
    let mut response = Response::builder();
    if offset > 0 {
        let range = format!("bytes {offset}-{}/{}", bytes.len() - 1, bytes.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header("content-range", range);
    }
    if faults.endless {
        let body = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[0; 4096]))));
        return response.body(BodyExt::boxed(StreamBody::new(body))).unwrap();
    }
    let half = rest.len() / 2;
    let sent = &state.bytes_sent;
    let response = response.header("content-length", rest.len());
    if faults.stall {
        let body = stream::iter([Ok(Frame::data(rest.slice(..half)))]).chain(stream::pending());
        return response.body(BodyExt::boxed(StreamBody::new(body))).unwrap();
    }
    if faults.cuts > 0 {
        faults.cuts -= 1;
        sent.fetch_add(half as u64, std::sync::atomic::Ordering::SeqCst);
        let sent = stream::iter([Ok(Frame::data(rest.slice(..half)))]);
        // The half is flushed before the connection breaks.
        let cut = stream::once(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(io::Error::other("cut"))
        });
        return response.body(BodyExt::boxed(StreamBody::new(sent.chain(Box::pin(cut))))).unwrap();
    }
    sent.fetch_add(rest.len() as u64, std::sync::atomic::Ordering::SeqCst);
    response.body(full(rest)).unwrap()
}

fn plain(status: u16, body: &str) -> Response<Body> {
    Response::builder().status(status).body(full(body.to_owned())).unwrap()
}

fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}
