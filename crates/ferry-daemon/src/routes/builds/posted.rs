//! `POST /build?version=2`: builds whose context, secrets and credentials a session lends.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_api::stream::JsonMessage;
use ferry_build::buildkit::{Posted, PostedBuild};
use ferry_build::session::{Session, Uploaded};
use hyper::StatusCode;
use serde_json::json;

use super::{built_name, credentials, from_json, options, receive_context, send};
use crate::http::body::{BodySender, Gone};
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::streams;

/// What a remote context is called that the session lends.
const OF_SESSION: &str = "client-session";
/// What it is called that comes with a request of its own, whose id begins like that.
const UPLOADED: &str = "upload-request";

pub(super) async fn build(call: Call) -> Outcome {
    let id = call.query.get("buildid").to_owned();
    if let Some(id) = id.strip_prefix(UPLOADED).and_then(|id| id.strip_prefix(':')) {
        return upload(call, id).await;
    }
    let mut options = options(&call)?;
    let caches: Option<Vec<String>> =
        from_json::<Option<Vec<String>>>(call.query.get("cachefrom"), "cachefrom")?.flatten();
    if let Some(caches) = caches.filter(|caches| !caches.is_empty()) {
        options.insert("cache-from".to_owned(), caches.join(","));
    }
    let remote = call.query.get("remote").to_owned();
    if !matches!(remote.as_str(), "" | OF_SESSION | UPLOADED) {
        options.insert("context".to_owned(), remote.clone());
    }
    let has_inline_cache = options.get("build-arg:BUILDKIT_INLINE_CACHE").is_some_and(|value| is_true(value));
    let mut posted = PostedBuild {
        id,
        session: call.query.get("session").to_owned(),
        exporter: exporter(&call)?,
        credentials: credentials(call.header("x-registry-config")),
        options,
        has_inline_cache,
        uploaded: Session::default(),
    };
    if posted.session.is_empty() && remote == OF_SESSION {
        return Err(ApiError::invalid("a context of the client's session needs the parameter session"));
    }
    if posted.id.is_empty() && remote == UPLOADED {
        return Err(ApiError::invalid("a context that is uploaded needs the parameter buildid"));
    }
    let is_quiet = call.query.flag("q");
    let Call { app, peer, request, .. } = call;
    if remote == UPLOADED {
        posted.uploaded = app.uploads.context(&posted.id).await?;
    } else if remote.is_empty() {
        posted.uploaded = receive_context(&app.builder, request.into_body(), Uploaded::default(), false).await?;
    }
    let building = app.buildkit.start_posted(posted).await;
    let building = building.map_err(|status| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, status.message))?;
    Ok(streams::stream_body(peer, reply::JSON, move |body| tell(building, body, is_quiet)))
}

/// Takes the context of another request.
async fn upload(call: Call, id: &str) -> Outcome {
    let Call { app, request, .. } = call;
    let goal = app.uploads.build(id).await?;
    let received = receive_context(&app.builder, request.into_body(), Uploaded::default(), false).await;
    let received = received.map_err(|error| error.message);
    let outcome = match &received {
        Ok(_) => Ok(reply::status(StatusCode::OK)),
        Err(reason) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, reason)),
    };
    // A build that has gone needs no context.
    drop(goal.send(received));
    outcome
}

fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// What becomes of what was built: an image of these names, unless something else is asked for.
fn exporter(call: &Call) -> Result<(String, BTreeMap<String, String>), ApiError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Output {
        #[serde(rename = "Type")]
        kind: String,
        #[serde(default)]
        attrs: Option<BTreeMap<String, String>>,
    }
    let outputs: Vec<Output> =
        from_json::<Option<Vec<Output>>>(call.query.get("outputs"), "outputs")?.flatten().unwrap_or_default();
    let (kind, mut attributes) = match outputs.as_slice() {
        [] => ("moby".to_owned(), BTreeMap::new()),
        [one] if one.kind == "cacheonly" => return Ok((String::new(), BTreeMap::new())),
        [one] => (one.kind.clone(), one.attrs.clone().unwrap_or_default()),
        _ => return Err(ApiError::invalid("multiple outputs not supported")),
    };
    let mut names = Vec::new();
    for text in call.query.all("t").filter(|text| !text.is_empty()) {
        names.push(built_name(text)?.to_string());
    }
    if matches!(kind.as_str(), "moby" | "image") && !names.is_empty() {
        attributes.insert("name".to_owned(), names.join(","));
    }
    Ok((kind, attributes))
}

/// Tells how it goes and what came of it; a quiet one tells the id alone, or all of it if it failed.
async fn tell(mut building: Posted, body: BodySender, is_quiet: bool) -> Result<(), Gone> {
    let mut held = Vec::new();
    while let Some(piece) = building.telling.next().await {
        let aux = Some(serde_json::Value::String(STANDARD.encode(piece)));
        let message = JsonMessage { id: "moby.buildkit.trace".to_owned(), aux, ..JsonMessage::default() };
        if is_quiet {
            held.push(message);
        } else {
            send(&body, &message).await?;
        }
    }
    match building.finish().await {
        Ok(id) if is_quiet => {
            let stream = format!("{}\n", id.unwrap_or_default());
            send(&body, &JsonMessage { stream, ..JsonMessage::default() }).await
        }
        Ok(Some(id)) => {
            let aux = Some(json!({ "ID": id }));
            send(&body, &JsonMessage { id: "moby.image.id".to_owned(), aux, ..JsonMessage::default() }).await
        }
        Ok(None) => Ok(()),
        Err(status) => {
            for message in held {
                send(&body, &message).await?;
            }
            send(&body, &JsonMessage::failed(status.message)).await
        }
    }
}
