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

#[path = "fake/writing.rs"]
mod writing;

use writing::{put_manifest, uploads};

/// A status, and what `Retry-After` says with it.
pub(crate) type Failing = (u16, Option<&'static str>);

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
    pub(crate) bytes: Bytes,
    pub(crate) content_range: Option<String>,
}

/// What goes wrong, and how often.
#[derive(Default)]
pub(crate) struct Faults {
    /// Statuses of the next manifest requests, before any is served; with them a `Retry-After`.
    pub(crate) manifests: VecDeque<Failing>,
    /// Statuses of the next token requests.
    pub(crate) tokens: VecDeque<Failing>,
    /// The token server refuses everybody with this body.
    pub(crate) token_refusal: Option<&'static str>,
    /// Statuses of the next storage requests.
    pub(crate) storage: VecDeque<Failing>,
    /// How many of the next storage bodies end after half of what is left.
    pub(crate) cuts: u32,
    /// The same, for bodies that are not small.
    pub(crate) big_cuts: u32,
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
    /// Handed out beside tokens, to be kept.
    pub(crate) refresh_token: Option<&'static str>,
    /// How many of the next uploads break off after half of what they bring.
    pub(crate) upload_cuts: u32,
    /// Uploads that broke off are forgotten.
    pub(crate) forgetful: bool,
    /// Statuses of the next requests that begin an upload.
    pub(crate) uploads: VecDeque<Failing>,
    /// Statuses of the next requests that bring bytes of an upload.
    pub(crate) sent: VecDeque<Failing>,
    /// Statuses of the next manifests that are written.
    pub(crate) put_manifests: VecDeque<Failing>,
    /// More bytes than this are not taken at once.
    pub(crate) most_sent: Option<usize>,
    /// Manifests stop after their first byte.
    pub(crate) stalled_manifests: bool,
    /// Token servers accept a request and say nothing.
    pub(crate) silent_tokens: bool,
    /// Manifests are redirected to the storage's origin.
    pub(crate) manifests_elsewhere: bool,
    /// A header of so many bytes comes with every manifest.
    pub(crate) long_head: Option<usize>,
    /// A connection that brings a whole blob is slow: it brings a piece, and more when a range is asked for beside it.
    pub(crate) trickle: bool,
    /// Bytes of an upload go to the storage's origin.
    pub(crate) uploads_elsewhere: bool,
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
    /// `repository/blobs/digest` of everything that was pushed.
    pushed: Mutex<std::collections::HashSet<String>>,
    /// Bytes of uploads that go on, by their number.
    uploads: Mutex<HashMap<usize, Vec<u8>>>,
    addresses: Mutex<Option<[SocketAddr; 3]>>,
    /// A range was asked for.
    ranged: tokio::sync::watch::Sender<bool>,
}

/// The running registry; its servers end with the runtime of the test.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) state: Arc<State>,
    pub(crate) host: String,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::start_at(["127.0.0.1"; 3]).await
    }

    /// As [`Fake::start`], with these addresses for registry, tokens and storage.
    pub(crate) async fn start_at(hosts: [&str; 3]) -> Self {
        let state = Arc::new(State::default());
        let mut addresses = Vec::new();
        for (origin, host) in [Origin::Registry, Origin::Token, Origin::Storage].into_iter().zip(hosts) {
            let listener = TcpListener::bind((host, 0)).await.unwrap();
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

    /// Tells whether a blob was pushed, or mounted, into a repository.
    pub(crate) fn has_pushed(&self, repository: &str, digest: &Digest) -> bool {
        self.state.pushed.lock().unwrap().contains(&format!("{repository}/blobs/{digest}"))
    }

    /// Returns a manifest by tag or digest.
    pub(crate) fn pushed_manifest(&self, repository: &str, object: &str) -> Option<(String, Bytes)> {
        self.state.manifests.lock().unwrap().get(&format!("{repository}/manifests/{object}")).cloned()
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
        bytes: Bytes::new(),
        content_range: header("content-range"),
    };
    let is_upload = matches!(seen.method.as_str(), "PUT" | "PATCH") && seen.path.contains("/uploads/");
    let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or_default();
    let mut broken = false;
    if is_upload && length > 0 {
        let mut faults = state.faults.lock().unwrap();
        if faults.upload_cuts > 0 {
            faults.upload_cuts -= 1;
            broken = true;
        }
    }
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    while !(broken && bytes.len() >= length / 2) {
        let Some(Ok(frame)) = body.frame().await else { break };
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    if broken {
        bytes.truncate(length / 2);
    }
    seen.bytes = bytes.into();
    seen.body = String::from_utf8_lossy(&seen.bytes).into_owned();
    state.log.lock().unwrap().push(seen.clone());
    if broken {
        let forgetful = state.faults.lock().unwrap().forgetful;
        let id: usize = seen.path.rsplit('/').next().unwrap().parse().unwrap();
        let mut uploads = state.uploads.lock().unwrap();
        if forgetful {
            uploads.remove(&id);
        } else {
            uploads.get_mut(&id).unwrap().extend_from_slice(&seen.bytes);
        }
        return Ok(Response::builder().status(502).header("connection", "close").body(full("")).unwrap());
    }
    Ok(match origin {
        Origin::Registry => registry(&state, &seen),
        Origin::Token if state.faults.lock().unwrap().silent_tokens => std::future::pending().await,
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
    if let Some((repository, upload)) = path.split_once("/blobs/uploads/") {
        return uploads(state, &mut faults, seen, repository, upload);
    }
    if path.contains("/blobs/") && seen.method == "HEAD" {
        let there = state.pushed.lock().unwrap().contains(path);
        return plain(if there { 200 } else { 404 }, "");
    }
    if seen.method == "PUT" {
        return put_manifest(state, &mut faults, seen, path);
    }
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
    if faults.manifests_elsewhere {
        let target = format!("http://{storage}{}", seen.path);
        return Response::builder().status(307).header("location", target).body(full("")).unwrap();
    }
    if let Some((status, retry_after)) = faults.manifests.pop_front() {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#;
        return failed(status, retry_after, if seen.method == "HEAD" { "" } else { body });
    }
    manifest(state, &faults, seen, path)
}

fn manifest(state: &State, faults: &Faults, seen: &Seen, path: &str) -> Response<Body> {
    let manifests = state.manifests.lock().unwrap();
    let Some((kind, bytes)) = manifests.get(path) else {
        return plain(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
    };
    let digest = faults.digest_header.clone().unwrap_or_else(|| Digest::sha256(bytes).to_string());
    let mut response = Response::builder()
        .header("content-type", faults.content_type.unwrap_or(kind))
        .header("docker-content-digest", digest)
        .header("content-length", bytes.len())
        .header("ratelimit-limit", "100;w=21600")
        .header("set-cookie", "tracking=1");
    if let Some(length) = faults.long_head {
        for number in 0..length / 1000 {
            response = response.header(format!("x-filler-{number}"), "x".repeat(980));
        }
    }
    if seen.method == "HEAD" {
        return response.body(full("")).unwrap();
    }
    if faults.stalled_manifests {
        let body = stream::iter([Ok(Frame::data(bytes.slice(..1)))]).chain(stream::pending());
        return response.body(BodyExt::boxed(StreamBody::new(body))).unwrap();
    }
    response.body(full(bytes.clone())).unwrap()
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
    let actions = if matches!(seen.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
    let error = if used.is_some() { r#",error="insufficient_scope""# } else { "" };
    let challenge = format!(
        r#"Bearer realm="http://{realm}/token",service="registry.fake",scope="repository:{repository}:{actions}"{error}"#
    );
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    let body = if seen.method == "HEAD" { "" } else { body };
    Some(Response::builder().status(401).header("www-authenticate", challenge).body(full(body)).unwrap())
}

fn token(state: &State) -> Response<Body> {
    let mut faults = state.faults.lock().unwrap();
    if let Some((status, retry_after)) = faults.tokens.pop_front() {
        return failed(status, retry_after, "");
    }
    if let Some(refusal) = faults.token_refusal {
        return plain(401, refusal);
    }
    let mut tokens = state.tokens.lock().unwrap();
    let token = format!("token-{}", tokens.len());
    tokens.insert(token.clone(), faults.token_uses.unwrap_or(u32::MAX));
    let refresh = faults.refresh_token.map(|text| format!(r#","refresh_token":"{text}""#)).unwrap_or_default();
    plain(200, &format!(r#"{{"token":"{token}","expires_in":300{refresh}}}"#))
}

async fn storage(state: &State, seen: &Seen) -> Response<Body> {
    if seen.authorization.is_some() || seen.cookie {
        return plain(400, "only one auth mechanism allowed");
    }
    if let Some((repository, upload)) =
        seen.path.strip_prefix("/v2/").and_then(|path| path.split_once("/blobs/uploads/"))
    {
        return uploads(state, &mut state.faults.lock().unwrap(), seen, repository, upload);
    }
    if let Some(path) = seen.path.strip_prefix("/v2/") {
        return manifest(state, &state.faults.lock().unwrap(), seen, path);
    }
    let digest = seen.path.trim_start_matches('/');
    let Some(bytes) = state.blobs.lock().unwrap().get(digest).cloned() else { return plain(404, "") };
    if seen.range.is_some() {
        state.ranged.send_replace(true);
    }
    let hold = state.faults.lock().unwrap().hold_blobs.clone();
    if let Some(hold) = hold {
        hold.acquire().await.unwrap().forget();
    }
    let mut faults = state.faults.lock().unwrap();
    if let Some((status, retry_after)) = faults.storage.pop_front() {
        return failed(status, retry_after, "");
    }
    let range = seen.range.as_ref().filter(|_| !faults.no_ranges).map(|range| {
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        (first.parse::<usize>().unwrap(), last.parse::<usize>().map_or(bytes.len(), |last| last + 1))
    });
    let (begin, end) = range.unwrap_or((0, bytes.len()));
    let rest = bytes.slice(begin..end);
    let mut response = Response::builder();
    if range.is_some() {
        let range = format!("bytes {begin}-{}/{}", end - 1, bytes.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header("content-range", range);
    }
    if faults.endless {
        let body = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[0; 4096]))));
        return response.body(BodyExt::boxed(StreamBody::new(body))).unwrap();
    }
    let half = rest.len() / 2;
    let sent = &state.bytes_sent;
    let response = response.header("content-length", rest.len());
    if faults.trickle && range.is_none() {
        let pieces: Vec<Bytes> =
            (0..rest.len()).step_by(2000).map(|at| rest.slice(at..rest.len().min(at + 2000))).collect();
        let ranged = state.ranged.subscribe();
        let body = stream::iter(pieces.into_iter().enumerate()).then(move |(at, piece)| {
            let mut ranged = ranged.clone();
            async move {
                if at > 0 {
                    // A client that is not sure yet that it waits for the network gets another piece to find out.
                    let _ = tokio::time::timeout(Duration::from_millis(50), ranged.wait_for(|asked| *asked)).await;
                    tokio::task::yield_now().await;
                }
                Ok(Frame::data(piece))
            }
        });
        return response.body(BodyExt::boxed(StreamBody::new(body))).unwrap();
    }
    if faults.stall {
        let body = stream::iter([Ok(Frame::data(rest.slice(..half)))]).chain(stream::pending());
        return response.body(BodyExt::boxed(StreamBody::new(body))).unwrap();
    }
    let big = faults.big_cuts > 0 && rest.len() > 2000;
    if faults.cuts > 0 || big {
        if big {
            faults.big_cuts -= 1;
        } else {
            faults.cuts -= 1;
        }
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

fn failed(status: u16, retry_after: Option<&str>, body: &str) -> Response<Body> {
    let mut response = Response::builder().status(status).header("ratelimit-limit", "100;w=21600");
    if let Some(value) = retry_after {
        response = response.header("retry-after", value);
    }
    response.body(full(body.to_owned())).unwrap()
}

fn plain(status: u16, body: &str) -> Response<Body> {
    Response::builder().status(status).body(full(body.to_owned())).unwrap()
}

fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}
