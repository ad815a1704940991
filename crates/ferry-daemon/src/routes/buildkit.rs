//! `/grpc` and `/session`: connections that BuildKit's clients take over, to call the builder and to be called by it.

use std::sync::Arc;

use ferry_build::buildkit::Offer;
use ferry_buildkit_proto::grpc::serve;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, post};

/// What such a connection becomes.
const PROTOCOL: &str = "h2c";

pub(super) fn routes() -> Vec<Route> {
    vec![post("/grpc", grpc), post("/session", session)]
}

async fn grpc(call: Call) -> Outcome {
    check(&call)?;
    let buildkit = Arc::clone(&call.app.buildkit);
    Ok(hand_over(call, |connection| async move {
        if let Err(error) = serve(connection, buildkit).await {
            tracing::debug!(%error, "connection of a build client ended");
        }
    }))
}

async fn session(call: Call) -> Outcome {
    check(&call)?;
    let offer = Offer::of_headers(call.request.headers());
    if offer.id.is_empty() {
        return Err(ApiError::invalid("a session needs an id (header X-Docker-Expose-Session-Uuid)"));
    }
    let buildkit = Arc::clone(&call.app.buildkit);
    Ok(hand_over(call, |connection| async move {
        if let Err(error) = buildkit.sessions().carry(connection, offer).await {
            tracing::debug!(%error, "a session did not come about");
        }
    }))
}

fn check(call: &Call) -> Result<(), ApiError> {
    let refused = |text: String| Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text));
    match call.header("upgrade") {
        "" => refused("no upgrade proto in request".to_owned()),
        PROTOCOL => Ok(()),
        other => refused(format!("protocol {other} not supported")),
    }
}

/// Answers that the connection is another now, and hands it over.
fn hand_over<F, R>(mut call: Call, take: F) -> Response<Body>
where
    F: FnOnce(TokioIo<Upgraded>) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let mut response = reply::status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    call.peer.guard.over();
    let upgrade = hyper::upgrade::on(&mut call.request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => take(TokioIo::new(connection)).await,
            Err(error) => tracing::debug!(%error, "client left before its connection was handed over"),
        }
    });
    response
}
