//! Listeners and connections.
//!
//! One task per connection, at most [`MAX_CONNECTIONS`] at once: more wait in the kernel's queue.

mod authorization;
mod certificate;
pub(crate) mod listen;
mod preface;
pub(crate) mod socket;
pub(crate) mod tls;

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SERVER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{Semaphore, watch};

use self::listen::Listener;
use self::socket::{Peer, Socket, Transport};
use self::tls::Tls;
use crate::app::App;
use crate::http::body::{Body, RequestBody};
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::query::Query;
use crate::http::reply;
use crate::http::router::{self, PathValues, Route, Target};

/// Most connections at once.
const MAX_CONNECTIONS: usize = 2048;
/// Wait after an accept that failed for want of descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What all connections share.
pub(crate) struct Server {
    app: Arc<App>,
    slots: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Server {
    pub(crate) fn new(app: Arc<App>, stop: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self { app, slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)), stop })
    }

    /// Accepts clients until the server is told to stop.
    pub(crate) async fn accept_loop(self: Arc<Self>, listener: Listener) {
        let mut stop = self.stop.clone();
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = told_to_stop(&mut stop) => return,
            };
            match accepted {
                Ok((socket, tls)) => {
                    let server = Arc::clone(&self);
                    tokio::spawn(async move {
                        match greet(socket, tls).await {
                            Ok((peer, transport)) => server.serve(peer, transport).await,
                            Err(error) => tracing::info!(%error, "a client was refused"),
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, peer: Arc<Peer>, transport: Transport) {
        let mut stop = self.stop.clone();
        let read = tokio::select! {
            read = preface::read(transport) => read,
            () = told_to_stop(&mut stop) => return,
        };
        match read {
            Ok((begun, false)) => self.serve_http1(peer, begun).await,
            Ok((begun, true)) => {
                peer.guard.over();
                let serving =
                    ferry_buildkit_proto::grpc::serve(begun, Arc::new(preface::Straight(Arc::clone(&self.app))));
                tokio::select! {
                    ended = serving => if let Err(error) = ended { tracing::debug!(%error, "connection ended") },
                    () = told_to_stop(&mut stop) => {}
                }
            }
            Err(error) => tracing::debug!(%error, "connection ended"),
        }
    }

    async fn serve_http1(self: Arc<Self>, peer: Arc<Peer>, transport: preface::Begun) {
        let transport = TokioIo::new(transport);
        let (server, client) = (Arc::clone(&self), Arc::clone(&peer));
        let service = service_fn(move |request| {
            let (server, peer) = (Arc::clone(&server), Arc::clone(&client));
            async move { Ok::<_, Infallible>(server.handle(request, peer).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .title_case_headers(true)
            // The guard of the transport watches the time.
            .header_read_timeout(None)
            .serve_connection(transport, service)
            .with_upgrades();
        // Dropped last: the socket stays open while its client is heard out.
        let mut connection = pin!(connection);
        let mut stop = self.stop.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told_to_stop(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
        if peer.guard.is_body_unwanted() {
            peer.hear_out().await;
        }
    }

    async fn handle(&self, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Guarded> {
        peer.guard.begin();
        let (head, body) = request.into_parts();
        let (body, rest) = RequestBody::new(body, Arc::clone(&peer));
        // One that waits for a word before it sends its body has sent nothing yet.
        let waits = head.headers.contains_key(EXPECT);
        let request = Request::from_parts(head, body);
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let target = Target::parse(&path);
        let requested = target.as_ref().ok().and_then(|target| target.version);
        let outcome = match target {
            Ok(target) => self.dispatch(request, &target, &peer).await,
            Err(error) => Err(error),
        };
        if outcome.is_err() && peer.guard.is_body_unread() && !waits {
            rest.hear_out(&peer).await;
        }
        let mut response = outcome.unwrap_or_else(|error| {
            log_failure(&method, &path, &error);
            let mut response = reply::failure(&error, requested);
            if peer.guard.is_body_unread() {
                peer.guard.refuse_body();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        });
        self.add_headers(response.headers_mut());
        response.map(|body| Guarded { body, peer })
    }

    async fn dispatch(&self, request: Request<RequestBody>, target: &Target, peer: &Arc<Peer>) -> reply::Outcome {
        if peer.is_tcp() {
            check_browser_rules(request.headers(), peer.is_encrypted())?;
        }
        let Some((route, values)) = router::find(self.app.routes(), request.method(), target) else {
            return Err(ApiError::page_not_found());
        };
        let allowed = authorization::allow(&self.app, request, target, peer).await?;
        let (request, judged) = allowed.into_parts();
        let outcome = self.execute(request, target, peer, route, values).await;
        authorization::allow_answer(&self.app, judged, outcome).await
    }

    async fn execute(
        &self,
        request: Request<RequestBody>,
        target: &Target,
        peer: &Arc<Peer>,
        route: &Route,
        values: PathValues,
    ) -> reply::Outcome {
        if let Some(version) = target.version {
            version.check().map_err(|error| ApiError::invalid(error.to_string()))?;
        }
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let call = Call::new(Arc::clone(&self.app), target.version, query, values, Arc::clone(peer), request);
        route.run(call).await
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static("api-version"), self.app.header_values.api_version.clone());
        headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
        headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
        headers.insert(SERVER, self.app.header_values.server.clone());
    }
}

/// Takes a client in: shakes hands where there is TLS.
async fn greet(socket: Socket, tls: Option<Tls>) -> std::io::Result<(Arc<Peer>, Transport)> {
    let (Some(tls), Socket::Tcp(_)) = (tls, &socket) else {
        let peer = Peer::new(socket);
        return Ok((Arc::clone(&peer), Transport::new(peer)));
    };
    let watched = socket.duplicate()?;
    let Socket::Tcp(stream) = socket else { return Err(std::io::ErrorKind::Unsupported.into()) };
    let stream = tls.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Peer::encrypted(watched, shown.iter().map(|certificate| certificate.to_vec()).collect());
    Ok((Arc::clone(&peer), Transport::encrypted(peer, stream)))
}

fn log_failure(method: &Method, path: &str, error: &ApiError) {
    let (status, error) = (error.status.as_u16(), &error.message);
    match status {
        // The client asked for something that is not there yet; nothing is wrong here.
        501 => tracing::info!(%method, path, error, "request not implemented"),
        500.. => tracing::error!(%method, path, status, error, "request failed"),
        _ => tracing::debug!(%method, path, status, error, "request refused"),
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // Without a sender the daemon is at its end too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A web page in a browser of this host must not be able to drive the engine through a TCP listener.
fn check_browser_rules(headers: &HeaderMap, is_encrypted: bool) -> Result<(), ApiError> {
    let forbidden = |why: &str| Err(ApiError::new(StatusCode::FORBIDDEN, format!("request refused: {why}")));
    if headers.contains_key(ORIGIN) {
        return forbidden("it comes from a web page (header Origin)");
    }
    let fetch_site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if fetch_site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        return forbidden("it comes from another web site (header Sec-Fetch-Site)");
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // A name in a certificate cannot be rebound.
    if !is_encrypted && !is_own_name(host) {
        return forbidden("header Host names neither localhost nor an address");
    }
    Ok(())
}

/// Tells whether a `Host` is one that no other name's DNS entry could point at us with.
fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    // Docker's clients name a daemon they reach by socket or ssh so.
    matches!(bare, "" | "localhost" | "docker" | "api.moby.localhost") || bare.parse::<IpAddr>().is_ok()
}

/// A body that tells the guard when the response is done.
struct Guarded {
    body: Body,
    peer: Arc<Peer>,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.peer.guard.end();
    }
}

impl hyper::body::Body for Guarded {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_dns_could_rebind_are_refused() {
        for own in ["localhost", "localhost:2375", "127.0.0.1:2375", "[::1]:2375", "[::1]", "", "docker"] {
            assert!(is_own_name(own), "{own}");
        }
        for foreign in ["evil.example", "evil.example:2375", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            assert!(!is_own_name(foreign), "{foreign}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect::<HeaderMap>()
        };
        assert!(check_browser_rules(&headers(&[("host", "localhost")]), false).is_ok());
        assert!(check_browser_rules(&headers(&[("host", "docker.example:2376")]), true).is_ok());
        assert!(check_browser_rules(&headers(&[("host", "x"), ("origin", "https://evil.example")]), true).is_err());
        for pairs in [
            &[("host", "localhost"), ("origin", "http://evil.example")][..],
            &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
            &[("host", "evil.example")],
        ] {
            assert_eq!(check_browser_rules(&headers(pairs), false).unwrap_err().status, StatusCode::FORBIDDEN);
        }
    }
}
